"""`python -m sim.gossip sockets`: 200 members on real sockets, in one process.

Each member has an address of its own in 127.0.0.0/8, a UDP and a TCP socket, and runs in
real time at the LAN profile (gossip.host). Once all agree, a fifth of them is killed without
a word and started again with what their disks remember, over and over. After each round all
must agree again; in the end no descriptor may be open that was not before, and memory must
not have grown.

All of them share one event loop. On a busy machine it is late, and by their own rule members
that run late take more time for everything (gossip.probe). So the time to agree is counted in
the members' own measure: `AGREE_S`, times one more than their mean health score.
"""

import argparse
import ipaddress
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from gossip.endpoint import Pool
from gossip.host import Member, open_member
from gossip.keyring import Keyring
from gossip.views import Status
from sim.lastline import last_line

MEMBERS: Final = 200
MINUTES: Final = 10.0
KILLED_SHARE: Final = 0.2
DOWN_S: Final = 15.0
AGREE_S: Final = 90.0
FIRST_ADDRESS: Final = ipaddress.IPv4Address("127.77.0.1")
GROWTH_KIB: Final = 16_384  # of memory, after the first two rounds
SPARE_DESCRIPTORS: Final = 16  # streams under way at the moment of counting


class SocketsError(Exception):
    """The pool did not do what it must; the text says what."""


@dataclass
class Round:
    agreed_s: float
    health: float  # mean score of all members then; 0 is on time
    descriptors: int
    rss_kib: int


@dataclass
class Slot:
    """One member through its lives."""

    name: str
    host: str
    port: int = 0
    known: list[tuple[str, str]] = field(default_factory=list)
    member: Member | None = None
    killed: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)


class Fleet:
    def __init__(self, members: int, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._rng = random.Random(1)
        self._pool = Pool("sockets", Keyring([bytes(32)]))
        self.slots = [Slot(f"m{n:03}", str(FIRST_ADDRESS + n)) for n in range(members)]

    async def start(self, slot: Slot, *, join: Sequence[str] = ()) -> None:
        await self._nursery.start(self._live, slot, join)

    async def _live(
        self, slot: Slot, join: Sequence[str], *, task_status: trio.TaskStatus[None]
    ) -> None:
        slot.killed, slot.ended = trio.Event(), trio.Event()
        async with open_member(
            slot.name, slot.host, slot.port, pool=self._pool, join=join, known=slot.known
        ) as member:
            slot.member, slot.port = member, member.endpoint.port
            task_status.started()
            async with trio.open_nursery() as readers:
                readers.start_soon(_read_events, member)
                await slot.killed.wait()
                readers.cancel_scope.cancel()
            slot.known = member.machine.snapshot()
            slot.member = None
            member.says_farewell = False
        slot.ended.set()

    async def start_all(self) -> None:
        first, *others = self.slots
        await self.start(first)
        for slot in others:
            await self.start(slot, join=[f"{first.host}:{first.port}"])

    async def kill_and_restart(self, share: float) -> None:
        victims = self._rng.sample(self.slots, max(1, round(len(self.slots) * share)))
        for slot in victims:
            slot.killed.set()
        await trio.sleep(DOWN_S)
        for slot in victims:
            await slot.ended.wait()
            await self.start(slot)

    async def agree(self) -> float:
        """Wait until all believe just all alive; return the seconds it took.

        Raises:
            SocketsError: it took longer than `AGREE_S` at the members' own pace.
        """
        began_s = now_s = trio.current_time()
        spent_s = 0.0  # of AGREE_S
        while (lacking := self._lacking()) and spent_s < AGREE_S:
            await trio.sleep(0.5)
            before_s, now_s = now_s, trio.current_time()
            spent_s += (now_s - before_s) / (1 + self.health())
        if lacking:
            some = "; ".join(f"{name} lacks {', '.join(lacks[:3])}" for name, lacks in lacking[:3])
            raise SocketsError(
                f"after {now_s - began_s:.0f} s, mean health score {self.health():.1f}, "
                f"{len(lacking)} members do not know all others: {some}"
            )
        return now_s - began_s

    def health(self) -> float:
        """Return the mean health score of the members that run."""
        return statistics.mean(s.member.machine.health_score for s in self.slots if s.member)

    def _lacking(self) -> list[tuple[str, list[str]]]:
        """Return who lacks whom, with what it believes of it instead."""
        lacking: list[tuple[str, list[str]]] = []
        for slot in self.slots:
            assert slot.member is not None
            views = {view.name: view.status.value for view in slot.member.members()}
            lacks = [
                f"{other.name} ({views.get(other.name, 'unknown')})"
                for other in self.slots
                if views.get(other.name) != Status.ALIVE
            ]
            if lacks:
                lacking.append((slot.name, lacks))
        return lacking


async def _read_events(member: Member) -> None:
    """Read a member's events, as its owner would: unread, a thousand of each would pile up."""
    async for _ in member.events:
        pass


async def soak(members: int, minutes: float, rounds_max: int) -> tuple[float, list[Round]]:
    """Return the seconds until all had joined, and what each round of killing showed.

    Raises:
        SocketsError: they never agreed, or something leaks.
    """
    rounds: list[Round] = []
    async with trio.open_nursery() as nursery:
        fleet = Fleet(members, nursery)
        await fleet.start_all()
        joined_s = await fleet.agree()
        print(f"{members} members agree after {joined_s:.1f} s", flush=True)
        before = _descriptors()
        end_s = trio.current_time() + minutes * 60
        while (not rounds or trio.current_time() < end_s) and len(rounds) < rounds_max:
            await fleet.kill_and_restart(KILLED_SHARE)
            agreed_s = await fleet.agree()
            await trio.sleep(2)
            rounds.append(Round(agreed_s, fleet.health(), _descriptors(), _rss_kib()))
            print(
                f"round {len(rounds)}: agreed after {agreed_s:.1f} s, health "
                f"{rounds[-1].health:.1f}, {rounds[-1].descriptors} descriptors, "
                f"{rounds[-1].rss_kib} KiB",
                flush=True,
            )
        nursery.cancel_scope.cancel()
    _check_leaks(before, rounds)
    return joined_s, rounds


def _check_leaks(before: int, rounds: list[Round]) -> None:
    if rounds[-1].descriptors > before + SPARE_DESCRIPTORS:
        raise SocketsError(f"descriptors grew from {before} to {rounds[-1].descriptors}")
    grown_kib = rounds[-1].rss_kib - rounds[min(1, len(rounds) - 1)].rss_kib
    if grown_kib > GROWTH_KIB:
        raise SocketsError(f"memory grew by {grown_kib} KiB from the second round to the last")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _rss_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.gossip sockets", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--rounds", type=int, default=1_000, help="at most so many")
    options = parser.parse_args(arguments)
    began_s = time.process_time()
    failure, joined_s, rounds = "", 0.0, list[Round]()
    try:
        joined_s, rounds = trio.run(soak, options.members, options.minutes, options.rounds)
    except* SocketsError as group:
        failure = "; ".join(str(error) for error in group.exceptions)
        print(failure, file=sys.stderr)
    except* OSError as group:
        failure = "; ".join(str(error) for error in group.exceptions)
        print(f"{failure}: raise the limit of open files (ulimit -n)?", file=sys.stderr)
    figures = {
        "joined_s": round(joined_s, 1),
        "rounds": len(rounds),
        "agreed_s_max": round(max((one.agreed_s for one in rounds), default=0.0), 1),
        "health_max": round(max((one.health for one in rounds), default=0.0), 1),
        "descriptors": [one.descriptors for one in rounds],
        "rss_kib": [one.rss_kib for one in rounds],
        "cpu_s": round(time.process_time() - began_s, 1),
        "failure": failure,
    }
    sizes = {"members": options.members, "minutes": options.minutes}
    is_reduced = options.members < MEMBERS or options.minutes < MINUTES
    print(last_line(figures, sizes=sizes, samples=len(rounds), is_reduced=is_reduced))
    if failure:
        return 1
    return 3 if is_reduced else 0
