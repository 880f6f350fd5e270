"""What goes wrong between and in the datacenters of a seed, drawn from it.

Each seed has a mixture of its own (a few kinds often, others never), so that rare
combinations last long enough to matter. Faults come and go until `stop`.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.federation.home_log import homes_of
from core.federation.transfer import PlanTransfer
from core.model.job import Job
from sim.federation.ambush import Ambush
from sim.federation.operator import Operator, may_be_lost
from sim.federation.world import S

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter
    from sim.federation.world import World

NAMES: Final = (
    "message lost",
    "message duplicated",
    "message delayed",
    "message reordered",
    "message held up for long",
    "message cut off",
    "one-way cut",
    "partition: one alone",
    "partition: one region",
    "partition: two sides",
    "partition: bridge",
    "partition: ring",
    "partition: any links",
    "partition: one alone for over a minute",
    "partition: a second one alone before the first is back",
    "datacenter crash",
    "leader changed: writes committed unheard",
    "leader changed: writes lost",
    "leader changed: the old one unaware",
    "leader changed: state restored",
    "leader changed: just after a decision",
    "follower behind",
    "slow commits",
    "nodes hear late",
    "process late",
    "process failed",
    "clock rates apart by 1%",
    "wall clocks hours apart",
    "wall clock leaps",
    "lying digest",
    "datacenter drained",
    "authority given away",
    "datacenter lost for good",
    "authority lost for good",
)
PACES_US: Final = ((500_000, 6 * S), (1 * S, 12 * S), (3 * S, 25 * S))
DELAYS_US: Final = ((1_000, 30_000), (1_000, 80_000), (20_000, 400_000))
HOUR_US: Final = 3600 * S
LEAP_MAX_US: Final = 16 * HOUR_US
LONG_US: Final = (70 * S, 110 * S)  # beyond what surge waits
SECOND_US: Final = 46 * S, 56 * S  # after the first, and until surge has copied
SECOND_PART: Final = 0.8
LONG_PATIENCE_US: Final = 20 * S  # for a job that several run
RESTING_PART: Final = 0.7
LONG_PART: Final = 0.5  # of the seeds
LOST_PART: Final = 0.4
AUTHORITY_PART: Final = 0.25  # of the losses
LOSS_PATIENCE_US: Final = 25 * S  # for one that has something to lose
LOSS_SEEN_US: Final = 45 * S  # until an operator has declared it off
TRANSFER_PART: Final = 0.3  # of the seeds
BEHIND_US: Final = (1 * S, 8 * S)
BEHIND_PACE_US: Final = (300_000, 4 * S)
CLOCK_PPM: Final = (-5_000, 0, 5_000)  # rates at most 1% apart


class Faults:
    """The adversary of one world."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self.world = world
        self._rng = rng
        self._is_active = True
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._partition, 5),
            (self._one_way, 3),
            (self._slow_links, 2),
            (self._heal, 5),
            (self._crash, 2),
            (self._change_leader, 7),
            (self._slow_commits, 3),
            (self._slow_nodes, 2),
            (self._fail_process, 2),
            (self._leap, 1),
            (self._lie, 1),
            (self._drain, 1),
        ]
        self._kinds, self._weights = [], []
        for kind, weight in kinds:
            if kind == self._heal or rng.random() < 0.65:
                self._kinds.append(kind)
                self._weights.append(weight * rng.choice((1, 1, 3)))
        self._pace_us = rng.choice(PACES_US)
        world.loss = rng.choice((0.0, 0.0, 0.02, 0.15))
        world.duplication = rng.choice((0.0, 0.1, 0.3))
        world.straggling = rng.choice((0.0, 0.0, 0.03, 0.1))
        world.delay_us = rng.choice(DELAYS_US)
        self._set_clocks()
        self.least_us = 0  # from now on: what was begun shall have its effect
        self._ambush = Ambush(world, self._replace_leader)
        world.after(rng.randint(200_000, 4 * S), self._next)
        if rng.random() < LONG_PART:
            begin_us = rng.randint(10 * S, 30 * S)
            self.least_us = begin_us + LONG_PATIENCE_US + LONG_US[0]
            world.after(begin_us, self._long_partition, begin_us + LONG_PATIENCE_US)
        loss = random.Random(f"federation/{world.seed}/loss")
        if loss.random() < LOST_PART:
            begin_us = loss.randint(10 * S, 40 * S)
            self.least_us = max(self.least_us, begin_us + LOSS_PATIENCE_US + LOSS_SEEN_US)
            self._loses_authority = loss.random() < AUTHORITY_PART
            world.after(begin_us, self._lose, loss, begin_us + LOSS_PATIENCE_US)
        operator = random.Random(f"federation/{world.seed}/authority")
        if operator.random() < TRANSFER_PART:
            for _ in range(operator.randint(1, 3)):
                world.after(operator.randint(5 * S, 100 * S), self._transfer, operator)

        if world.read:
            followers = random.Random(f"federation/{world.seed}/followers")
            world.after(followers.randint(*BEHIND_PACE_US), self._lag, followers)

    def stop(self) -> None:
        """No fault comes any more. Those that last are undone by `World.mend`."""
        self._is_active = False

    def _next(self) -> None:
        if not self._is_active:
            return
        (kind,) = self._rng.choices(self._kinds, self._weights)
        kind()
        self.world.after(self._rng.randint(*self._pace_us), self._next)

    def _anyone(self) -> "Datacenter":
        return self._rng.choice([*self.world.datacenters.values()])

    def _parts(self) -> dict[str, list["Datacenter"]]:
        """Return by uid who runs parts of a job whose home is elsewhere.

        Of jobs under surge that several run, if there are any; else of such under surge.
        """
        found: dict[str, list[Datacenter]] = {}
        surging: dict[str, list[Datacenter]] = {}
        for datacenter in self.world.datacenters.values():
            for record in datacenter.state.jobs:
                if record.home and datacenter.state.jobs.live(record):
                    found.setdefault(record.uid, []).append(datacenter)
                    if _is_surge(record.job):
                        surging.setdefault(record.uid, []).append(datacenter)
        several = {uid: parts for uid, parts in surging.items() if len(parts) > 1}
        return several or surging or found

    def _ids(self) -> list[str]:
        return [*self.world.datacenters]

    # --- network ----------------------------------------------------------------------

    def _partition(self) -> None:
        world, rng = self.world, self._rng
        ids = self._ids()
        rng.shuffle(ids)
        half = max(1, len(ids) // 2)
        shapes = ("one alone", "one region", "two sides", "bridge", "ring", "any links")
        shape = rng.choice(shapes)
        if shape == "one alone":
            self._between(ids[:1], ids[1:])
        elif shape == "one region":
            region = self._anyone().region
            inside = [one.id for one in world.region(region)]
            outside = [one for one in ids if one not in inside]
            if not outside:
                return
            self._between(inside, outside)
        elif shape == "two sides":
            self._between(ids[:half], ids[half:])
        elif shape == "bridge":
            # The one in the middle sees both sides, they don't see each other.
            if len(ids) < 3:
                return
            self._between(ids[:half], ids[half + 1 :])
        elif shape == "ring":
            if len(ids) < 4:
                return
            for i, one in enumerate(ids):
                for j, other in enumerate(ids):
                    if min((i - j) % len(ids), (j - i) % len(ids)) > 1:
                        world.cut[one, other] = None
        else:
            links = [(a, b) for a in ids for b in ids if a != b and rng.random() < 0.4]
            world.cut.update(dict.fromkeys(links))
        world.faults[f"partition: {shape}"] += 1

    def _long_partition(self, until_us: int) -> None:
        """Cut off one that runs a part of a job; its users often wait what comes of it."""
        if not self._is_active:
            return
        rng, world, parts = self._rng, self.world, self._parts()
        if not parts and world.now_us < until_us:
            world.after(2 * S, self._long_partition, until_us)
            return
        uid = rng.choice([*parts]) if parts else ""
        one = rng.choice(parts[uid]) if uid else self._anyone()
        long_us = rng.randint(*LONG_US)
        world.alone[one.id] = None
        world.faults["partition: one alone for over a minute"] += 1
        world.after(long_us, world.alone.pop, one.id, None)
        if uid in world.watch.uids and rng.random() < RESTING_PART:
            name = world.watch.uids[uid][1]
            world.resting[name] = None
            world.after(long_us, world.resting.pop, name, None)
        if rng.random() < SECOND_PART:
            world.after(rng.randint(*SECOND_US), self._second_partition, uid)

    def _second_partition(self, uid: str) -> None:
        """While one part of a job is cut off, and is about to be copied, another is too."""
        world = self.world
        others = [
            one.id for one in world.datacenters.values()
            if one.id not in world.alone and _runs_a_part(one, uid)
        ]  # fmt: skip
        if self._is_active and others:
            one = self._rng.choice(others)
            world.alone[one] = None
            world.faults["partition: a second one alone before the first is back"] += 1
            world.after(self._rng.randint(15 * S, 30 * S), world.alone.pop, one, None)

    def _between(self, some: list[str], others: list[str]) -> None:
        for one in some:
            for other in others:
                self.world.cut[one, other] = self.world.cut[other, one] = None

    def _one_way(self) -> None:
        """Whoever it hits is heard and hears nothing, or the other way round, or of one only."""
        rng = self._rng
        one = self._anyone().id
        others = [other for other in self._ids() if other != one]
        if rng.random() < 0.5:
            others = [rng.choice(others)]
        is_deaf = rng.random() < 0.5
        for other in others:
            self.world.cut[(other, one) if is_deaf else (one, other)] = None
        self.world.faults["one-way cut"] += 1

    def _slow_links(self) -> None:
        one = self._anyone().id
        extra_us = self._rng.choice((300_000, 2 * S, 9 * S))
        for other in self._ids():
            self.world.extra_delay_us[one, other] = extra_us
            if self._rng.random() < 0.5:
                self.world.extra_delay_us[other, one] = extra_us

    def _heal(self) -> None:
        self.world.heal_network()

    # --- datacenters --------------------------------------------------------------------

    def _crash(self) -> None:
        one = self._anyone()
        if one.servers[0].is_up:
            self.world.faults["datacenter crash"] += 1
            one.crash(self._rng.randint(1 * S, 40 * S))

    def _change_leader(self) -> None:
        self._replace_leader(self._anyone())

    def _replace_leader(self, one: "Datacenter") -> None:
        rng, seen = self._rng, self.world.faults
        if one.leader is None or not self._is_active:
            return
        is_committed = rng.random() < 0.6
        unaware_us = rng.randint(50_000, 3 * S) if rng.random() < 0.25 else 0
        is_restored = not unaware_us and rng.random() < 0.25
        word = "committed unheard" if is_committed else "lost"
        seen[f"leader changed: writes {word}"] += 1
        seen["leader changed: the old one unaware"] += bool(unaware_us)
        seen["leader changed: state restored"] += is_restored
        one.change_leader(is_committed=is_committed, is_restored=is_restored, unaware_us=unaware_us)

    def _slow_commits(self) -> None:
        one = self._anyone()
        one.commit_us = self._rng.choice(((1_000, 15_000), (100_000, 900_000), (1 * S, 6 * S)))
        self.world.faults["slow commits"] += one.commit_us[0] > 1_000

    def _slow_nodes(self) -> None:
        one = self._anyone()
        one.clients.lag_us = self._rng.choice(((5_000, 300_000), (1 * S, 12 * S)))
        self.world.faults["nodes hear late"] += one.clients.lag_us[0] > 5_000

    def _fail_process(self) -> None:
        self.world.faults["process failed"] += self._anyone().clients.fail_one()

    # --- clocks and gossip ----------------------------------------------------------------

    def _set_clocks(self) -> None:
        rng, world = self._rng, self.world
        if rng.random() < 0.5:
            for one in world.datacenters.values():
                one.rate_ppm = rng.choice(CLOCK_PPM)
            rates = {one.rate_ppm for one in world.datacenters.values()}
            world.faults["clock rates apart by 1%"] += max(rates) - min(rates) == 10_000

    def _leap(self) -> None:
        """Leap ahead by hours or back by seconds; never so far that tokens look a day old."""
        one = self._anyone()
        if one.wall_offset_us < LEAP_MAX_US:
            one.wall_offset_us += self._rng.choice((3 * HOUR_US, -5 * S))
            self.world.faults["wall clock leaps"] += 1

    def _drain(self) -> None:
        """An operator empties a datacenter, and at times thinks better of it."""
        one = self._anyone()
        self.world.faults["datacenter drained"] += 1
        one.drain(is_draining=True)
        if self._rng.random() < 0.5:
            delay_us = self._rng.randint(3 * S, 30 * S)
            self.world.after(delay_us, lambda: one.drain(is_draining=False))

    def _lose(self, rng: random.Random, until_us: int) -> None:
        """A datacenter's machines are gone; an operator gives it up, and others take over.

        Preferably one that is the home of jobs, best of such as others run a part of.
        """
        world = self.world
        if not self._is_active:
            return
        is_authority = self._loses_authority
        found = [one for one in world.datacenters.values()
                 if may_be_lost(world, one, is_authority=is_authority)]  # fmt: skip
        if not found and is_authority:
            world.after(2 * S, self._lose, rng, until_us)
            return
        most = max((_loss(one) for one in found), default=0)
        if most < 2 and world.now_us < until_us:
            world.after(2 * S, self._lose, rng, until_us)
        elif found:
            world.faults["datacenter lost for good"] += not is_authority
            world.faults["authority lost for good"] += is_authority
            Operator(world, rng.choice([one for one in found if _loss(one) == most]), rng)

    def _transfer(self, rng: random.Random) -> None:
        """An operator gives a region's authority to another of its datacenters."""
        if not self._is_active:
            return
        one = rng.choice([*self.world.datacenters.values()])
        members = [*self.world.region(one.region)]
        holders = [one for one in members if one.state.is_authority]
        others = [one for one in members if one not in holders]
        if len(holders) != 1 or not others or holders[0].leader is None:
            return
        leader, to = holders[0].leader, rng.choice(others).id
        leader.run(lambda: leader.log.propose([PlanTransfer(to=to)], lambda outcome: None))
        self.world.faults["authority given away"] += 1

    def _lag(self, rng: random.Random) -> None:
        """A follower in a region that somebody reads falls behind: what is stale comes of it."""
        if not self._is_active:
            return
        world = self.world
        datacenter = rng.choice([one for one in world.datacenters.values()
                                 if one.region in world.read])  # fmt: skip
        is_behind = rng.choice(datacenter.servers).fall_behind(rng.randint(*BEHIND_US))
        world.faults["follower behind"] += is_behind
        world.after(rng.randint(*BEHIND_PACE_US), self._lag, rng)

    def _lie(self) -> None:
        self.world.lying[self._anyone().id] = None


def _is_surge(job: Job) -> bool:
    return job.federation is not None and job.federation.partition == "surge"


def _loss(one: "Datacenter") -> int:
    """Return 2 for the home of a job that others run a part of, 1 for any home."""
    if any(
        part.holds
        for home in homes_of(one.state).values()
        for to, part in home.parts.items()
        if to != one.id
    ):
        return 2
    return int(any(not record.home for record in one.state.jobs))


def _runs_a_part(one: "Datacenter", uid: str) -> bool:
    record = one.state.jobs.by_uid(uid)
    return record is not None and bool(record.home)
