"""`serai sim shrink`: the smallest set of faults and jobs under which a scenario still fails.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
2002): leave out halves, then quarters, then single ones, and keep whatever still fails in
the same way. Faults at rates become single ones with times first, arrivals and copies single
jobs, all as the seed draws them; so the outcome is a scenario that can be read.

What fails "in the same way": the same checker is violated, an agent halts for the same
reason, or the same goal is missed. What a missed goal is about is never left out, else it
would be missed for the wrong reason: nothing can run of a job that nobody submits.
"""

import random
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final, TypeVar

import msgspec

from sim.arrivals import arrival_times_us
from sim.plans import ArrivalPlan, FaultPlan, GoalPlan, JobPlan, Scenario, StopPlan, TracePlan
from sim.run import FaultError, Progress, Run, Summary
from sim.schedule import concrete_faults
from sim.spread import Workers

JOBS_MAX: Final = 20_000  # singled out; a larger workload is taken block by block
_OF_JOBS: Final = frozenset({"placed", "reported", "acknowledged", "restarted"})
_OF_FAULTS: Final = frozenset({"restarted", "schema"})

Item = TypeVar("Item")
Work = JobPlan | ArrivalPlan | TracePlan | StopPlan
Note = Callable[[str], None]


class NothingFails(Exception):
    """The scenario holds with this seed: there is nothing to shrink."""


class Shrunk(msgspec.Struct, kw_only=True):
    """What is left, and of how much."""

    scenario: Scenario
    failures: list[str]
    runs: int
    faults: tuple[int, int]  # before, after
    jobs: tuple[int, int]


class Trial(msgspec.Struct, frozen=True):
    """A candidate: does it fail in one of these ways?"""

    scenario: Scenario
    seed: int
    sought: tuple[str, ...]


class _Enough(Exception):
    """What is sought was found: the rest of the run need not be played."""


def failures_of(summary: Summary) -> list[str]:
    """Return how a run failed, without times, names and counts that differ from run to run."""
    found = [f"violation of: {_checker(text)}" for text in summary.violations]
    found += [f"halt: {text.split(': ', 1)[-1]}" for text in summary.halts]
    for goal in summary.goals:
        # A goal that is missed because nothing was measured is missed in another way.
        nothing = "" if any(map(str.isdigit, goal.measured)) else f": {goal.measured}"
        if not goal.is_met:
            found.append(f"missed goal: {goal.text}{nothing}")
    return list(dict.fromkeys(found))


def fails(trial: Trial) -> bool:
    """Play a candidate, no further than until it fails as it should."""
    run = Run(trial.scenario, trial.seed)
    sought = set(trial.sought)

    def look(_: Progress) -> None:
        for text in run.checkers.violations:
            if f"violation of: {_checker(text)}" in sought:
                raise _Enough
        if any(f"halt: {why}" in sought for _, _, why in run.world.halts):
            raise _Enough

    try:
        return not sought.isdisjoint(failures_of(run.play(look)))
    except _Enough:
        return True
    except FaultError:
        return False  # a fault that can't be without what was left out


def shrink(scenario: Scenario, seed: int, *, workers: int = 1, note: Note = print) -> Shrunk:
    """Return the smallest scenario that fails as this one does.

    Args:
        scenario: With its own faults, or those of `sim.fuzz.draw_faults`.
        seed: Of every run.
        workers: Processes; the outcome is the same for any number.
        note: Is told how far it is.

    Raises:
        NothingFails: There is nothing to shrink.
    """
    run = Run(scenario, seed)
    summary = run.play()
    failures = failures_of(summary)
    if not failures:
        raise NothingFails(f"scenario {scenario.name!r} holds with seed {seed}")
    for text in failures:
        note(text)
    missed = [
        goal for goal, result in zip(scenario.goals, summary.goals, strict=True)
        if not result.is_met
    ]  # fmt: skip
    with Workers(workers) as pool:
        search = _Search(seed, failures, missed, (workers, pool), note)
        return search.find(scenario, single_jobs(scenario, seed, run.end_us))


class _Search:
    """Tries candidates and keeps the smallest."""

    def __init__(
        self,
        seed: int,
        failures: list[str],
        missed: list[GoalPlan],
        pool: tuple[int, Workers],
        note: Note,
    ) -> None:
        self._seed, self._failures, self._missed = seed, failures, missed
        self._workers, self._pool = pool
        self._note = note
        self._runs = 1
        self._scenario = Scenario(name="")

    def find(self, scenario: Scenario, work: list[Work]) -> Shrunk:
        """Return the smallest; `work` is the scenario's, as single jobs."""
        single = msgspec.structs.replace(scenario, faults=concrete_faults(scenario, self._seed))
        # Single jobs are drawn as arrivals would draw them, but what a run draws besides may
        # come out otherwise: if so, blocks are left out as a whole.
        starts = [_with_work(single, work), single]
        found = self._still_fails(starts)
        start = self._scenario = scenario if found is None else starts[found]
        before = (len(start.faults), len(_work_of(start)))
        size = None
        while size != self._size():  # fewer jobs may do with fewer faults
            size = self._size()
            self._shrink_faults()
            self._shrink_work()
        after = self._size()
        return Shrunk(
            scenario=msgspec.structs.replace(self._scenario, seed=self._seed),
            failures=self._failures,
            runs=self._runs,
            faults=(before[0], after[0]),
            jobs=(before[1], after[1]),
        )

    def _size(self) -> tuple[int, int]:
        return len(self._scenario.faults), len(_work_of(self._scenario))

    def _shrink_faults(self) -> None:
        if any(goal.kind in _OF_FAULTS for goal in self._missed):
            return
        base = self._scenario

        def build(faults: Sequence[FaultPlan]) -> Scenario:
            return msgspec.structs.replace(base, faults=list(faults))

        kept = self._smallest(base.faults, build, "faults")
        self._scenario = build(kept)

    def _shrink_work(self) -> None:
        if any(goal.kind in _OF_JOBS for goal in self._missed):
            return
        base = self._scenario
        work = _work_of(base)
        needed = [number for number, one in enumerate(work) if self._is_needed(one)]

        def build(chosen: Sequence[int]) -> Scenario:
            return _with_work(base, [work[number] for number in sorted((*needed, *chosen))])

        free = [number for number in range(len(work)) if number not in needed]
        kept = self._smallest(free, build, "jobs", len(needed))
        self._scenario = build(kept)

    def _is_needed(self, one: Work) -> bool:
        name = one.job if isinstance(one, StopPlan) else one.name
        return any(
            goal.job and (fnmatchcase(name, goal.job) or fnmatchcase(goal.job, f"{name}-*"))
            for goal in self._missed
        )

    def _smallest(
        self,
        items: Sequence[Item],
        build: Callable[[Sequence[Item]], Scenario],
        what: str,
        needed: int = 0,
    ) -> list[Item]:
        def first_failing(candidates: list[list[Item]]) -> int | None:
            return self._still_fails([build(candidate) for candidate in candidates])

        def tell(left: int) -> None:
            sizes = f"{left + needed:,} of {len(items) + needed:,}"
            self._note(f"{sizes} {what} left, after {self._runs:,} runs")

        return smallest(items, first_failing, tell)

    def _still_fails(self, candidates: list[Scenario]) -> int | None:
        """Return the first candidate that fails, None if none does."""
        sought = tuple(self._failures)
        for start in range(0, len(candidates), self._workers):
            batch = candidates[start : start + self._workers]
            trials = [Trial(one, self._seed, sought) for one in batch]
            self._runs += len(trials)
            for place, is_failing in enumerate(self._pool.map(fails, trials)):
                if is_failing:
                    return start + place
        return None


def smallest(
    items: Sequence[Item],
    first_failing: Callable[[list[list[Item]]], int | None],
    tell: Callable[[int], None] = lambda left: None,
) -> list[Item]:
    """Return a part of the items that fails, of which no single one can be left out.

    Args:
        items: They fail, all together.
        first_failing: Which of some parts is the first that fails, None if none does.
        tell: How many are left, whenever they became fewer.
    """
    left = list(items)
    if not left:
        return left
    if first_failing([[]]) == 0:
        tell(0)
        return []
    pieces = 2
    while len(left) >= 2:
        edges = [len(left) * number // pieces for number in range(pieces + 1)]
        spans = [(low, high) for low, high in pairwise(edges) if low < high]
        parts = [left[low:high] for low, high in spans] if pieces == 2 else []
        rests = [left[:low] + left[high:] for low, high in spans] if pieces > 2 else []
        found = first_failing([*parts, *rests])
        if found is not None:
            left = [*parts, *rests][found]
            tell(len(left))
            pieces = 2 if parts else max(2, pieces - 1)
        elif pieces >= len(left):
            break
        else:
            pieces = min(len(left), pieces * 2)
    return left


def single_jobs(scenario: Scenario, seed: int, end_us: int) -> list[Work]:
    """Return the workload with copies and arrivals as single jobs, as the seed draws them."""
    work: list[Work] = []
    for job in scenario.jobs:
        work += _copies_of(job)
    for plan in scenario.arrivals:
        work += _arrivals_of(plan, scenario, seed, end_us)
    return [*work, *scenario.traces, *scenario.stops]


def _copies_of(job: JobPlan) -> list[Work]:
    if job.copies > JOBS_MAX:
        return [job]
    return [
        msgspec.structs.replace(
            job,
            name=job.name if copy == 1 else f"{job.name}-{copy}",
            at_us=job.at_us + (copy - 1) * job.every_us,
            copies=1,
        )
        for copy in range(1, job.copies + 1)
    ]


def _arrivals_of(plan: ArrivalPlan, scenario: Scenario, seed: int, end_us: int) -> list[Work]:
    """Draw what sim.workload draws, in its order."""
    rng = random.Random(f"{seed}/arrivals/{plan.name}")
    jobs: list[Work] = []
    for number, at_us in enumerate(arrival_times_us(plan, rng, end_us), 1):
        if number > JOBS_MAX:
            return [plan]
        count = max(1, round(plan.count.draw(rng))) if plan.count is not None else 0
        region = rng.choice(plan.regions or (scenario.datacenters[0].region,))
        job = JobPlan(
            name=f"{plan.name}-{number}", file=plan.file, at_us=at_us, region=region, count=count,
            run_time=plan.run_time, failures=plan.failures, lifetime=plan.lifetime,
            variables=plan.variables, every_us=0,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def _work_of(scenario: Scenario) -> list[Work]:
    return [*scenario.jobs, *scenario.arrivals, *scenario.traces, *scenario.stops]


def _with_work(scenario: Scenario, work: Sequence[Work]) -> Scenario:
    return msgspec.structs.replace(
        scenario,
        jobs=[one for one in work if isinstance(one, JobPlan)],
        arrivals=[one for one in work if isinstance(one, ArrivalPlan)],
        traces=[one for one in work if isinstance(one, TracePlan)],
        stops=[one for one in work if isinstance(one, StopPlan)],
    )


def _checker(violation: str) -> str:
    """Return the checker's name of "12.5s NAME: what"."""
    return violation.split(" ", 1)[-1].split(":", 1)[0]
