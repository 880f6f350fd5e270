"""What goes wrong in a seed: which kinds, how often and whom they hit is drawn from it.

Each seed has a mixture of its own (a few kinds often, others never: swarm testing, Groce
and others 2012), so that rare combinations last long enough to matter. Faults come and go
until `stop`; nothing here knows how Raft works, but some prefer the leader.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from raft.core import ChangeKind

if TYPE_CHECKING:
    from sim.raft.host import Host
    from sim.raft.world import World

NAMES: Final = (
    "message lost",
    "message duplicated",
    "message delayed",
    "message reordered",
    "message cut off",
    "one-way cut",
    "partition: one alone",
    "partition: two sides",
    "partition: bridge",
    "partition: ring",
    "partition: any links",
    "kill",
    "power cut",
    "power cut of several",
    "power cut of all",
    "power cut at start",
    "crash during a write",
    "crash during a snapshot",
    "slow disk",
    "full disk",
    "full disk while the leader changes",
    "full disk has room again, and a snapshot",
    "failed fsync",
    "flipped bit in a snapshot read",
    "restart while another misses the leader",
    "process stopped",
    "apply held back by a restore",
    "clock rates apart by 1%",
    "wall clocks leap",
    "membership: learner added",
    "membership: promoted",
    "membership: demoted",
    "membership: removed",
    "membership: new address",
    "membership: leader removed, and struck at once",
    "hand-over asked for",
    "hand-over by a deaf leader",
    "snapshot saved",
)

VOTERS_MIN: Final = 2  # fewer only now and then; the last one must not go
MEMBERS_MAX: Final = 7
CLOCK_PPM: Final = (-5_000, 0, 5_000)  # rates at most 1% apart
LEAP_US: Final = 25 * 3600 * 1_000_000  # beyond what a repeated call may be old
TRANSFER_US: Final = 150_000  # a chunk so long ago: a snapshot is under way
PACES_US: Final = ((30_000, 400_000), (50_000, 900_000), (300_000, 2_000_000))
DELAYS_US: Final = ((200, 2_000), (200, 2_000), (200, 30_000), (5_000, 80_000))


class Faults:
    """The adversary of one world."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self.world = world
        self._rng = rng
        self._is_active = True
        self._newcomers = 0
        self._has_leapt = False
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._partition, 3),
            (self._one_way, 2),
            (self._slow_links, 2),
            (self._mend_network, 3),
            (self._crash, 4),
            (self._crash_several, 1),
            (self._restart, 5),
            (self._restart_a_voter, 2),
            (self._slow_disk, 2),
            (self._full_disk, 2),
            (self._fill_for_a_while, 3),
            (self._fail_sync, 1),
            (self._flip_bit, 2),
            (self._stop_process, 2),
            (self._hold_apply, 2),
            (self._membership, 6),
            (self._leader_leaves, 2),
            (self._hand_over, 3),
            (self._snapshot, 6),
            (self._break_transfer, 10),
        ]
        # Mending and snapshots are always there, of the rest about two thirds.
        always = (self._mend_network, self._restart, self._snapshot)
        self._kinds, self._weights = [], []
        for kind, weight in kinds:
            if kind in always or rng.random() < 0.65:
                self._kinds.append(kind)
                self._weights.append(weight * rng.choice((1, 1, 3)))
        self._may_crash = self._crash in self._kinds
        self._pace_us = rng.choice(PACES_US)
        self._likes_leader = rng.choice((0.2, 0.5, 0.8))
        self._may_leap = rng.random() < 0.15
        world.loss = rng.choice((0.0, 0.0, 0.02, 0.1))
        world.duplication = rng.choice((0.0, 0.05))
        world.delay_us = self._delay_us = rng.choice(DELAYS_US)
        if rng.random() < 0.5:
            for host in world.hosts.values():
                host.clock.set_rate(rng.choice(CLOCK_PPM), world.now_us)
            rates = {host.clock.rate for host in world.hosts.values()}
            world.faults["clock rates apart by 1%"] += max(rates) - min(rates) == 10_000
        world.after(rng.randint(50_000, 400_000), self._next)

    def stop(self) -> None:
        """No fault comes any more. Those that last are undone by `World.mend`."""
        self._is_active = False

    def _next(self) -> None:
        if not self._is_active:
            return
        rng = self._rng
        (kind,) = rng.choices(self._kinds, self._weights)
        kind()
        self.world.after(rng.randint(*self._pace_us), self._next)

    # --- whom -------------------------------------------------------------------------

    def _anyone(self) -> "Host":
        leading = self.world.leading()
        if leading and self._rng.random() < self._likes_leader:
            return self._rng.choice(leading)
        return self._rng.choice(list(self.world.hosts.values()))

    def _leader(self) -> "Host | None":
        """Somebody who takes itself for the leader, and can be talked to."""
        leading = [host for host in self.world.leading() if not host.is_stopped]
        return self._rng.choice(leading) if leading else None

    def _names(self) -> list[str]:
        return list(self.world.hosts)

    # --- network ----------------------------------------------------------------------

    def _partition(self) -> None:
        world, rng = self.world, self._rng
        names = self._names()
        rng.shuffle(names)
        shape = rng.choice(("one alone", "two sides", "bridge", "ring", "any links"))
        half = len(names) // 2
        if shape == "one alone":
            world.sever([self._anyone().name])
        elif shape == "two sides":
            world.sever(names[: max(1, half)])
        elif shape == "bridge":
            # The one in the middle sees both sides, they don't see each other.
            _cut_between(world, names[:half], names[half + 1 :])
        elif shape == "ring":
            # Each sees its two neighbours only; of three, the ends of a line don't.
            if len(names) == 3:
                _cut_between(world, names[:1], names[2:])
            for i, one in enumerate(names):
                for j, other in enumerate(names):
                    if min((i - j) % len(names), (j - i) % len(names)) > 1:
                        world.cut.add((one, other))
        else:
            for one in names:
                for other in names:
                    if one != other and rng.random() < 0.4:
                        world.cut.add((one, other))
        world.faults[f"partition: {shape}"] += 1

    def _one_way(self) -> None:
        """Whoever it hits is heard and hears nothing, or the other way round, or of one only."""
        world, rng = self.world, self._rng
        name = self._anyone().name
        others = [other for other in self._names() if other != name]
        if rng.random() < 0.5:
            others = [rng.choice(others)] if others else []
        is_deaf = rng.random() < 0.5
        for other in others:
            world.cut.add((other, name) if is_deaf else (name, other))
        world.faults["one-way cut"] += 1

    def _slow_links(self) -> None:
        world, rng = self.world, self._rng
        name = self._anyone().name
        extra_us = rng.choice((20_000, 150_000, 600_000))
        for other in self._names():
            if rng.random() < 0.7:
                world.extra_delay_us[name, other] = extra_us
            if rng.random() < 0.7:
                world.extra_delay_us[other, name] = extra_us

    def _mend_network(self) -> None:
        self.world.cut.clear()
        self.world.extra_delay_us.clear()

    # --- processes --------------------------------------------------------------------

    def _crash(self) -> None:
        host = self._anyone()
        if host.engine is None:
            return
        if self._rng.random() < 0.5:
            host.die_writing(partial(self._down, host))
        else:
            self._down(host)

    def _down(self, host: "Host") -> None:
        if not self._is_active:
            return
        self._end(host)
        if self._rng.random() < 0.4:
            self._start(host)  # at once: answers to its former life still arrive

    def _end(self, host: "Host") -> None:
        if self._rng.random() < 0.35:
            self.world.faults["kill"] += 1
            host.kill()
        else:
            self.world.faults["power cut"] += 1
            host.cut_power()

    def _crash_several(self) -> None:
        world, rng = self.world, self._rng
        running = [host for host in world.hosts.values() if host.engine is not None]
        count = rng.choice((len(running) // 2 + 1, len(running)))
        for host in rng.sample(running, min(count, len(running))):
            host.cut_power()
        if count >= len(running):
            world.faults["power cut of all"] += 1
        else:
            world.faults["power cut of several"] += 1

    def _restart(self) -> None:
        for host in list(self.world.hosts.values()):
            if host.engine is None and self._rng.random() < 0.8:
                self._start(host)

    def _start(self, host: "Host") -> None:
        if self._rng.random() < 0.1:
            host.disk.die_after = self._rng.randrange(6)
        host.start()
        host.disk.die_after = None

    def _restart_a_voter(self) -> None:
        """It may have heard the leader just before, whom another one misses all the while."""
        world, leader = self.world, self._leader()
        followers = [host for host in world.hosts.values() if host is not leader and host.engine]
        if leader is None or len(followers) < 2:
            return
        deaf, voter = self._rng.sample(followers, 2)
        world.cut.add((leader.name, deaf.name))
        world.after(self._rng.randint(700_000, 1_500_000), self._bounce, voter)

    def _bounce(self, host: "Host") -> None:
        if self._is_active and host.engine is not None:
            self.world.faults["restart while another misses the leader"] += 1
            self._end(host)
            self._start(host)

    def _stop_process(self) -> None:
        self.world.faults["process stopped"] += 1
        self._anyone().stop(self._rng.randint(50_000, 2_500_000))

    def _hold_apply(self) -> None:
        """What is committed is applied later: answers wait for it, and so must reads."""
        duration_us = self._rng.choice((20_000, 200_000, 1_500_000))
        self.world.faults["apply held back by a restore"] += self._anyone().hold_apply(duration_us)

    def _break_transfer(self) -> None:
        """Whoever sends a snapshot just now stops doing so; another leader may go on."""
        world, rng = self.world, self._rng
        sent_us, sender, to = world.newest_chunk
        if not sender or world.now_us - sent_us > TRANSFER_US:
            return
        draw = rng.random()
        if draw < 0.3:
            self._down(world.hosts[sender])
        elif draw < 0.45:
            world.sever([sender])
        elif draw < 0.6:
            world.hand_over()
        elif draw < 0.8:
            self._outrun(sender, to)
        else:
            _cut_between(world, [sender], [to])
            world.after(rng.randint(100_000, 3_000_000), self._mend_network)

    def _outrun(self, sender: str, to: str) -> None:
        """Who sends a snapshot saves newer ones meanwhile, until it is not kept any more."""
        world = self.world
        world.extra_delay_us[sender, to] = 150_000
        for number in range(5):
            world.after(number * 120_000, self._save, world.hosts[sender])

    def _save(self, host: "Host") -> None:
        if self._is_active and not host.is_stopped:
            self.world.faults["snapshot saved"] += host.snapshot()

    # --- disks and clocks ---------------------------------------------------------------

    def _slow_disk(self) -> None:
        host = self._anyone()
        host.write_us = self._rng.choice((500, 2_000, 20_000, 150_000, 500_000))
        self.world.faults["slow disk"] += host.write_us > 2_000

    def _full_disk(self) -> None:
        host = self._anyone()
        host.disk.is_full = not host.disk.is_full
        self.world.faults["full disk"] += host.disk.is_full

    def _fill_for_a_while(self) -> None:
        """A disk is full, while the log grows elsewhere or another leads; then it has room.

        A snapshot may come before the log is written again, of what only others had room for.
        """
        world, rng = self.world, self._rng
        host = self._anyone()
        if host.disk.is_full or host.engine is None:
            return
        host.disk.is_full = True
        host.write_us = rng.choice((2_000, 2_000, 300_000))
        world.faults["full disk"] += 1
        if rng.random() < 0.6:
            world.after(rng.randint(50_000, 900_000), self._unseat, host)
        world.after(rng.randint(100_000, 2_500_000), self._make_room, host)

    def _unseat(self, full: "Host") -> None:
        leader = self._leader()
        if self._is_active and leader is not None and leader is not full:
            self.world.faults["full disk while the leader changes"] += full.disk.is_full
            # What it refused was quick to come and go; the new term takes its time.
            full.write_us = self._rng.choice((2_000, 150_000, 300_000))
            if self._rng.random() < 0.5:
                self.world.hand_over("", leader)
            else:
                self._down(leader)

    def _make_room(self, host: "Host") -> None:
        if self._is_active and host.disk.is_full:
            host.disk.is_full = False
            if not host.is_stopped:
                begun = host.snapshot()
                self.world.faults["full disk has room again, and a snapshot"] += begun

    def _fail_sync(self) -> None:
        host = self._anyone()
        if host.engine is not None:
            host.disk.is_sync_failing = True
            self.world.faults["failed fsync"] += 1

    def _flip_bit(self) -> None:
        """A snapshot is read wrongly once, on its way from the disk to a follower."""
        for host in self.world.hosts.values():
            host.disk.is_flipping = True

    def _leap(self) -> None:
        self._has_leapt = True
        self.world.wall_leap_us += LEAP_US
        self.world.faults["wall clocks leap"] += 1

    # --- membership, hand-over, snapshots -------------------------------------------------

    def _membership(self) -> None:
        if self._may_leap and not self._has_leapt:
            self._leap()
        world, rng = self.world, self._rng
        host = self._leader()
        if host is None or host.engine is None:
            return
        voters = list(host.engine.configuration.voters)
        learners = list(host.engine.configuration.learners)
        draw = rng.random()
        if len(voters) == 1 and rng.random() < 0.4:
            kind = rng.choice((ChangeKind.REMOVE, ChangeKind.DEMOTE))
            world.change(kind, voters[0], host)
        elif learners and draw < 0.5:
            self._promote(rng.choice(learners))
        elif draw < 0.5 and (len(voters) > VOTERS_MIN or rng.random() < 0.15):
            name = host.name if rng.random() < 0.4 else rng.choice(voters)
            world.faults["membership: removed"] += world.change(ChangeKind.REMOVE, name, host)
        elif len(voters) > VOTERS_MIN and draw < 0.6:
            done = world.change(ChangeKind.DEMOTE, rng.choice(voters), host)
            world.faults["membership: demoted"] += done
        elif draw < 0.65:
            done = world.change(ChangeKind.SET_ADDRESS, rng.choice(voters), host)
            world.faults["membership: new address"] += done
        elif len(voters) + len(learners) < MEMBERS_MAX:
            name = chr(ord("m") + self._newcomers)
            self._newcomers += 1
            world.add_host(name).clock.set_rate(rng.choice(CLOCK_PPM), world.now_us)
            done = world.change(ChangeKind.ADD_LEARNER, name, host)
            world.faults["membership: learner added"] += done
            if done and rng.random() < 0.8:
                world.after(rng.randint(0, 1_500_000), self._promote, name)
        if rng.random() < 0.3:
            world.after(rng.randint(0, 3_000), self._membership_again)

    def _membership_again(self) -> None:
        """A second change on the heels of the first."""
        if self._is_active:
            self._membership()

    def _leader_leaves(self) -> None:
        """A leader appends its own removal, and is struck before many have heard of it."""
        world, rng = self.world, self._rng
        host = self._leader()
        if host is None or host.engine is None:
            return
        if len(host.engine.configuration.voters) < VOTERS_MIN:
            return
        if not world.change(ChangeKind.REMOVE, host.name, host):
            return
        world.faults["membership: removed"] += 1
        world.faults["membership: leader removed, and struck at once"] += 1
        if rng.random() < 0.7:
            world.sever([host.name])
            world.after(rng.randint(20_000, 1_500_000), self._mend_network)
        world.after(rng.randrange(10_000), self._down, host)

    def _promote(self, name: str) -> None:
        host = self._leader() if self._is_active else None
        if host is not None:
            done = self.world.change(ChangeKind.PROMOTE, name, host)
            self.world.faults["membership: promoted"] += done

    def _hand_over(self) -> None:
        host = self._leader()
        if host is None or host.engine is None:
            return
        heir = self._rng.choice(["", "", *host.engine.configuration.voters])
        begun = self.world.hand_over(heir, host)
        self.world.faults["hand-over asked for"] += begun
        if not begun:
            return
        # It does not hear of its heir, but clients still reach it.
        draw = self._rng.random()
        if draw < 0.3:
            self.world.after(self._rng.randrange(30_000), self._isolate, host.name)
        elif draw < 0.8:
            self.world.after(self._rng.choice((0, 1_500, 3_000)), self._deafen, host.name)

    def _deafen(self, name: str) -> None:
        if not self._is_active:
            return
        for other in self._names():
            if other != name:
                self.world.cut.add((other, name))
        self.world.faults["hand-over by a deaf leader"] += 1
        self.world.after(self._rng.randint(100_000, 900_000), self._mend_network)

    def _isolate(self, name: str) -> None:
        if self._is_active:
            self.world.sever([name])
            self.world.after(self._rng.randint(200_000, 1_500_000), self._mend_network)

    def _snapshot(self) -> None:
        for host in self.world.hosts.values():
            if not host.is_stopped and self._rng.random() < 0.6:
                begun = host.snapshot()
                self.world.faults["snapshot saved"] += begun
                if begun and self._may_crash and self._rng.random() < 0.06:
                    self.world.after(self._rng.randrange(3_000), self._down, host)


def _cut_between(world: "World", some: list[str], others: list[str]) -> None:
    for one in some:
        for other in others:
            world.cut.add((one, other))
            world.cut.add((other, one))
