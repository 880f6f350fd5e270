"""Gossip machines on virtual time: pools of up to 10,000 members, and what befalls them.

A `GossipWorld` is a host as gossip.host is one: it builds `GossipMachine`s, carries out
their output over the simulated network and ticks them when they are due. Members of one
pool share a directory of names, as they would share nothing but packets otherwise.

    world = GossipWorld(seed=1)
    for name in ("a", "b", "c"):
        world.add(name)
        world.join(name, "a")
    world.run(10)
    world.kill("b")

What may befall a member: `kill`, `restart` (also elsewhere), `pause` and `resume` (as
SIGSTOP does: packets wait in a bounded queue, streams hang), `slow` (all it does, it does
late). What may befall packets is `network`'s: `cut`, `split`, `lose`, `slow`, by a
member's address or its pool's name, until `network.heal`.

With `wire=True` every packet makes the way through its bytes; the events stay the same.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gossip.directory import Directory
from gossip.machine import GossipMachine, settle
from gossip.membership import Admit
from gossip.settings import LAN, Settings
from gossip.views import MemberEvent, Status
from sim.gossip_member import Flight, Member, OnDigest, OnEvent, Surroundings
from sim.network import LinkModel, Network
from sim.wheel import Wheel

S: Final = 1_000_000
POOL: Final = "lan"
PORT: Final = 4648

COUNTED: Final = ("packets_sent", "packets_received", "updates_received", "exchanges")
META: Final = {"role": "client"}

# 1 to 5 ms one way, as in a datacenter whose hosts are busy
LINK: Final = LinkModel(latency_us=1_024, jitter_us=4_000)


class GossipWorld:
    """Members by their hosts; a host is called as its member, and unique over all pools.

    Args:
        seed: Equal seeds and equal calls give equal events.
        settings: Of all members that are added without their own.
        link: How packets fare between any two members.
        loss: Share of datagrams lost on every link.
        wire: Encode and decode every packet.
        on_event, on_digest: Called as things happen; by default events are kept in
            `events` and changes of digests in `digest_changes`.
    """

    def __init__(
        self,
        *,
        seed: int,
        settings: Settings = LAN,
        link: LinkModel = LINK,
        loss: float = 0.0,
        wire: bool = False,
        on_event: OnEvent | None = None,
        on_digest: OnDigest | None = None,
    ) -> None:
        self.seed = seed
        self.settings = settings
        # a slot holds a few events of a thousand members, and is shorter than any way
        self.wheel = Wheel(1 << min(10, link.latency_us.bit_length() - 1))
        self.network = Network(self.wheel, random.Random(f"{seed}/network"))
        self.network.lan = self.network.region = msgspec.structs.replace(link, loss=loss)
        self.members: dict[str, Member] = {}  # by host; those that run
        self.events: list[tuple[int, str, MemberEvent]] = []
        self.digest_changes: list[tuple[int, str, str]] = []
        self.departed = Counter(dict.fromkeys(COUNTED, 0))  # what the killed had counted
        self.directories: dict[str, Directory] = {}  # by pool
        self._around = Surroundings(
            self.wheel,
            self.network,
            on_event or (lambda *event: self.events.append(event)),
            on_digest or (lambda *change: self.digest_changes.append(change)),
            timeout_us=settings.probe_timeout_us,
            is_wire=wire,
        )
        self._lives: dict[str, int] = {}

    @property
    def now_us(self) -> int:
        return self.wheel.now_us

    def count(self, name: str) -> int:
        """Return one number of `gossip.views.Counters` over all members, also the killed."""
        machines = (member.machine for member in self.members.values())
        running: int = sum(getattr(machine.counters, name) for machine in machines)
        return self.departed[name] + running

    @property
    def bytes(self) -> int:
        """Bytes of all datagrams and streams so far; counted with `wire` only."""
        return self._around.bytes

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest datagram so far; counted with `wire` only."""
        return self._around.largest_bytes

    def observe(self, watch: Callable[[Flight], None]) -> None:
        """Let `watch` see each datagram that is sent from now on, when it arrives."""
        arrive = self._around.arrive

        def watch_and_arrive(flight: Flight) -> None:
            watch(flight)
            arrive(flight)

        self._around.arrive = watch_and_arrive
        self.network.hand_over = watch_and_arrive  # type: ignore[assignment]

    # -- members --------------------------------------------------------------------

    def add(
        self,
        name: str,
        *,
        pool: str = POOL,
        host: str = "",
        address: str = "",
        meta: dict[str, str] | None = None,
        settings: Settings | None = None,
        known: Sequence[tuple[str, str]] = (),
        admit: Admit | None = None,
    ) -> GossipMachine:
        """Start a member that knows nobody but those of `known`.

        Args:
            host: What this world calls it, where two members claim one name.

        Raises:
            ValueError: host or address is taken.
        """
        host = host or name
        address = address or f"{host}:{PORT}"
        if host in self.members or address in self._around.by_address:
            raise ValueError(f"{host} at {address} runs already")
        settings = settings or self.settings
        life = self._lives[host] = self._lives.get(host, 0) + 1
        member = Member(self._around, host, name, address, pool, settings)
        machine = GossipMachine(
            name=name,
            address=address,
            meta={} if meta is None else meta,
            settings=settings,
            rng=random.Random(f"{self.seed}/{host}/{life}"),
            now_us=self.now_us,
            known=known,
            admit=admit,
            directory=self.directories.setdefault(pool, Directory()),
            post=member.poster(),
        )
        self.members[host] = member
        member.begin(machine)
        return machine

    def machine(self, host: str) -> GossipMachine:
        return self.members[host].machine

    def address(self, host: str) -> str:
        return self.members[host].address

    def join(self, host: str, *others: str) -> None:
        """Let a member exchange tables with others, by their hosts, once."""
        self.do(host, lambda machine, now_us: machine.join([*map(self.address, others)], now_us))

    def do(self, host: str, action: Callable[[GossipMachine, int], Any]) -> Any:
        """Call verbs of one machine now and carry out its output."""
        member = self.members[host]
        result = action(member.machine, self.now_us)
        member.carry_out()
        return result

    def kill(self, host: str) -> list[tuple[str, str]]:
        """End a member without a word, as kill -9; return what its disk remembers."""
        member = self.members.pop(host)
        member.stop()
        for name in self.departed:
            self.departed[name] += getattr(member.machine.counters, name)
        return member.machine.snapshot()

    def restart(self, host: str, *, address: str = "", is_amnesiac: bool = False) -> GossipMachine:
        """Kill a member and start it again from its disk.

        Args:
            address: The new one; "" = the old one.
            is_amnesiac: Its disk is gone as well.
        """
        member = self.members[host]
        meta = member.machine.member(member.member_name)
        known = self.kill(host)
        return self.add(
            member.member_name,
            host=host,
            pool=member.pool,
            address=address or member.address,
            meta=dict(meta.meta) if meta is not None else None,
            settings=member.settings,
            known=() if is_amnesiac else known,
        )

    def form_at_once(self, count: int, *, pool: str = POOL) -> list[str]:
        """Add `count` members that know each other from long ago; return their names."""
        names = self._names(count, pool)
        settle([self.add(name, pool=pool, meta=META) for name in names], self.now_us)
        for name in names:
            self.members[name].carry_out()
        return names

    def _names(self, count: int, pool: str) -> list[str]:
        prefix = "m" if pool == POOL else f"{pool}-m"
        return [f"{prefix}{number:04}" for number in range(count)]

    def form(self, count: int, *, pool: str = POOL, settle_s: float = 10.0) -> list[str]:
        """Add `count` members that all join the first, and run until they agree.

        Returns:
            Their names: m0000, m0001, ...; with the pool's name in front if it is another.
        """
        names = self._names(count, pool)
        for name in names:
            self.add(name, pool=pool, meta=META)
        for name in names[1:]:
            self.join(name, names[0])
        self.run(settle_s)
        self.run_until(lambda: self.is_agreed(pool), 60)
        return names

    # -- what befalls members -------------------------------------------------------

    def pause(self, host: str) -> None:
        """Stop a member; its packets wait, as many as the inbound queue holds."""
        self.members[host].pause()

    def resume(self, host: str) -> None:
        """Let it go on: its timers first, then what lay in its queue."""
        self.members[host].resume()

    def slow(self, host: str, lag_us: int) -> None:
        """Let a member handle all packets and timers so much too late; 0 ends it."""
        self.members[host].slow(lag_us)

    def isolate(self, *hosts: str) -> int:
        """Cut members off from all others, not from each other; `network.heal` ends it."""
        return self.network.split(map(self.address, hosts))

    # -- time -----------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        self.wheel.run_until(self.now_us + int(seconds * S))

    def run_until(
        self, condition: Callable[[], bool], within_s: float, step_s: float = 0.1
    ) -> float:
        """Run until `condition` holds; return the seconds it took.

        Raises:
            AssertionError: it did not within `within_s`; the text has the last events.
        """
        start_us = self.now_us
        while not condition():
            elapsed_s = (self.now_us - start_us) / S
            assert elapsed_s < within_s, f"not within {within_s} s\n{self.story()}"
            self.run(step_s)
        return (self.now_us - start_us) / S

    # -- looking --------------------------------------------------------------------

    def statuses(self, name: str, pool: str = POOL) -> set[str]:
        """Return what all running members of a pool believe of `name`."""
        views = (m.machine.member(name) for m in self.members.values() if m.pool == pool)
        return {view.status.value if view else "unknown" for view in views}

    def is_agreed(self, pool: str = POOL) -> bool:
        """Return whether all running members of a pool believe just those alive, alike."""
        running = sorted(
            (m.member_name, m.address) for m in self.members.values() if m.pool == pool
        )
        first: list[tuple[str, str, int]] | None = None
        for member in self.members.values():
            if member.pool != pool:
                continue
            alive = [
                (view.name, view.address, view.incarnation)
                for view in member.machine.members()
                if view.status == Status.ALIVE
            ]
            if first is None:
                first = alive
                if [row[:2] for row in alive] != running:
                    return False
            elif alive != first:
                return False
        return True

    def story(self, last: int = 30) -> str:
        """Return the last events as text, for a failed check."""
        return "\n".join(
            f"{time_us / S:9.3f} {observer:14} {event.kind:10} {event.member.name} "
            f"{event.member.status}@{event.member.incarnation}"
            for time_us, observer, event in self.events[-last:]
        )
