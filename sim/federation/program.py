"""One seed of `python -m sim.federation`, and what the run as a whole must have shown.

A seed draws a roster, a load and an adversary. Users work while faults come and go; then
everything is mended, the users go home, and five quiet minutes later all must be settled.
"""

import argparse
import random
from typing import Any, Final

from sim.federation import faults, readers, rollout_watch, situations
from sim.federation.datacenter import Datacenter
from sim.federation.ending import Ending
from sim.federation.faults import HOUR_US, Faults
from sim.federation.readers import Readers
from sim.federation.rollouts import RolloutUsers
from sim.federation.watch import Watch
from sim.federation.workload import Workload
from sim.federation.world import S, World
from sim.seeds import Outcome, Program, Violation

# Datacenters, in turn from seed to seed: so each size has its part of any run.
ROSTERS: Final = (2, 3, 5, 20, 2, 3, 5, 2, 3, 20, 5, 2, 3, 5, 2, 20, 3, 5)
ROSTER_PART: Final = 0.15  # of the seeds, each at least
FAULTY_US: Final = (60 * S, 180 * S)
QUIET_US: Final = 300 * S

_ROSTER_NAMES: Final = tuple(f"roster of {size}" for size in sorted({*ROSTERS}))
SITUATIONS: Final = (
    *situations.NAMES,
    *rollout_watch.NAMES,
    *readers.NAMES,
    "repeated token answered",
    "request repeated with its token",
    "answered request repeated much later",
    "no room anywhere",
    "rollout failed",
    *_ROSTER_NAMES,
)


class Trial:
    """One seed's world, its users and its adversary."""

    def __init__(self, seed: int, *, has_faults: bool) -> None:
        rng = random.Random(f"federation/{seed}/plan")
        self.world = World(seed)
        self.watch = Watch(self.world)
        self._build(rng, has_faults=has_faults)
        self.workload = Workload(self.world, random.Random(rng.getrandbits(64)))
        users = random.Random(f"federation/{seed}/rollouts")
        self.rollouts = RolloutUsers(self.world, users)
        self.readers = Readers(self.world)
        self._faulty_us = rng.randint(*FAULTY_US)
        self._faults = None
        if has_faults:
            self._faults = Faults(self.world, random.Random(rng.getrandbits(64)))
            self._faulty_us = max(self._faulty_us, self._faults.least_us)

    def _build(self, rng: random.Random, *, has_faults: bool) -> None:
        size = ROSTERS[self.world.seed % len(ROSTERS)]
        self.world.situations[f"roster of {size}"] += 1
        regions = rng.randint(1, {2: 2, 3: 3, 5: 3, 20: 5}[size])
        names = [f"r{number}" for number in range(regions)]
        mean = rng.choice((2, 3, 5, 8))  # slots of a datacenter
        births = 2 if rng.random() < 0.1 else 1  # of two, neither had heard of the other
        hours = 8 if has_faults and rng.random() < 0.4 else 0
        self.world.faults["wall clocks hours apart"] += bool(hours)
        members: dict[str, int] = dict.fromkeys(names, 0)
        for number in range(size):
            region = names[number] if number < regions else rng.choice(names)
            place = members[region]
            members[region] += 1
            Datacenter(
                self.world, f"{rng.getrandbits(48):012x}", f"dc{place}", region,
                is_authority=place < births, slots=max(1, rng.randint(mean // 2, 2 * mean)),
                wall_offset_us=rng.randint(-hours, hours) * HOUR_US,
            )  # fmt: skip

        if births > 1:  # they go on not hearing of each other for a while
            for one in [one for one in self.world.datacenters.values() if one.name == "dc1"]:
                self.world.alone[one.id] = None
                self.world.after(rng.randint(5 * S, 25 * S), self.world.alone.pop, one.id, None)

    def play(self) -> None:
        """Run to the end.

        Raises:
            Violation: A checker fired.
        """
        world = self.world
        world.run_for(4 * S)  # digests go round
        self.workload.begin()
        self.rollouts.begin()
        world.run_for(self._faulty_us)
        if self._faults is not None:
            self._faults.stop()
        self.workload.is_over = self.rollouts.is_over = True
        world.mend()
        world.run_for(QUIET_US)
        Ending(world, self.workload).check([*self.rollouts.names])
        self.watch.rollouts.check_end(self.rollouts)
        self.readers.check_end()


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play one seed; see `sim.seeds.Program`."""
    trial = Trial(seed, has_faults=options.has_faults)
    violations = []
    try:
        trial.play()
    except Violation as violation:
        violations.append((violation.checker, violation.text))
    world = trial.world
    return Outcome(violations, world.faults, world.situations, trial.watch.acknowledged)


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"rosters": sorted({*ROSTERS}), "faulty_s": [one // S for one in FAULTY_US],
            "quiet_s": QUIET_US // S}  # fmt: skip


PROGRAM: Final = Program(
    name="sim.federation",
    about="One job over many datacenters under simulated faults: is every promise kept?",
    faults=faults.NAMES,
    situations=SITUATIONS,
    least=dict.fromkeys(_ROSTER_NAMES, ROSTER_PART),
    run_seed=run_seed,
    sizes=_sizes,
)
