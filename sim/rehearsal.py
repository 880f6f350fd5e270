"""`serai job plan -simulate`: one job more on a simulated copy of a live cluster.

    found = rehearse(read_clusters(...), job, region="eu")

The copy has the cluster's nodes and jobs (sim.live). Once those run, the job is submitted, as
`serai job run` would submit it, and time goes on: what starts where and how soon, what it takes
from other jobs, and whether an invariant is violated on the way.
"""

import os
import tempfile
from typing import Final

import msgspec

from core.model.job import Job
from sim.live import Inventory, write_files
from sim.live.inventory import fit_name
from sim.live.jobs import essence
from sim.live.writing import APART_MS, FIRST_JOB_MS
from sim.run import Progress, Run
from sim.scenario import read_scenario
from sim.workload import wanted_instances

SETTLE_MS: Final = 45_000  # from the last job of the cluster to the one that is rehearsed
WATCHED_US: Final = 180_000_000
SEED: Final = 1


class Lost(msgspec.Struct, frozen=True):
    """Another job that runs less once this one is there."""

    job: str
    before: int  # instances
    least: int  # the fewest that ran at any look
    after: int


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the job within `WATCHED_US` of virtual time."""

    nodes: int
    jobs: int  # of the cluster
    sim_s: float
    wanted: int | None  # instances; None: one a node, or whatever children there are
    running: int
    by_region: dict[str, int]  # processes
    whole_after_s: float | None  # since it was submitted; None: never
    refused: str  # why it was not taken, "" when it was
    others: list[Lost]
    checked: int  # how often invariants were looked at
    violations: list[str]
    notes: list[str]  # what the copy does without

    @property
    def holds(self) -> bool:
        """Whether all of it runs, and at nobody's cost."""
        is_whole = self.wanted is None or self.whole_after_s is not None
        return is_whole and not (self.refused or self.others or self.violations)


class _Watch:
    """Looks at the copy once a virtual second, from the submission on."""

    def __init__(self, run: Run, name: str, wanted: int | None, at_us: int) -> None:
        self._run, self._name, self._wanted, self._at_us = run, name, wanted, at_us
        self.before: dict[str, int] = {}
        self.least: dict[str, int] = {}
        self.whole_after_s: float | None = None

    def begin(self) -> None:
        jobs = self._run.census.jobs
        self.before = {
            name: one.running for name, one in jobs.items() if name != self._name and one.is_service
        }
        self.least = dict(self.before)

    def look(self, now: Progress) -> None:
        jobs = self._run.census.jobs
        for name, least in self.least.items():
            self.least[name] = min(least, jobs[name].running)
        mine = jobs.get(self._name)
        since_s = now.sim_s - self._at_us / 1e6
        if mine is not None and self.whole_after_s is None and since_s > 0:
            if mine.running == self._wanted:
                self.whole_after_s = since_s

    def lost(self) -> list[Lost]:
        jobs = self._run.census.jobs
        return [
            Lost(name, before, self.least[name], jobs[name].running)
            for name, before in self.before.items()
            if jobs[name].running < before
        ]


def rehearse(inventory: Inventory, job: Job, region: str = "") -> Rehearsal:
    """Submit a job to a copy of a cluster, and watch.

    Args:
        inventory: Of the cluster.
        job: As it would be submitted.
        region: Where it would be; "" = the cluster's first.

    Raises:
        SourceError: The copy is no scenario that can be played, for want of nodes for instance.
    """
    regions = [place[0] for place in sorted(inventory.datacenters)]
    where = fit_name(region) if region and fit_name(region) in regions else regions[0]
    name = job.id or ""
    kept = essence(job, where, {}, inventory.note)
    with tempfile.TemporaryDirectory(prefix="serai-rehearsal-") as folder:
        path = write_files(inventory, os.path.join(folder, "copy")).scenario
        with open(path, encoding="utf-8") as file:
            scenario = read_scenario(file.read(), path, os.path.dirname(path))
        scenario.goals = []
        at_us = (FIRST_JOB_MS + len(inventory.jobs) * APART_MS + SETTLE_MS) * 1_000
        scenario.until_us = at_us + WATCHED_US
        run = Run(scenario, SEED)
        wanted = wanted_instances(kept)
        watch = _Watch(run, name, wanted, at_us)

        def submit(_: object) -> None:
            watch.begin()
            run.workload.register(kept, where)

        run.world.wheel.at(at_us, submit)
        summary = run.play(watch.look)
    mine = run.census.jobs.get(name)
    return Rehearsal(
        nodes=summary.nodes,
        jobs=len(inventory.jobs),
        sim_s=summary.sim_s,
        wanted=wanted,
        running=0 if mine is None else mine.running,
        by_region=run.census.running_by_region(name),
        whole_after_s=watch.whole_after_s,
        refused=summary.jobs_refused.get(name, ""),
        others=watch.lost(),
        checked=sum(summary.checked.values()),
        violations=[*summary.violations, *summary.halts],
        notes=inventory.notes,
    )
