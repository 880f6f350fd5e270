"""Goals: what a scenario says must be so, judged at a time, at the end, or always.

    running        job, and count or at_least, or nothing: as many as the job asks for
    placed-in      job, region: all its instances are there
    availability   at_least (fraction), job: of the wanted instances, over time
    queue-wait     at_most, quantile: from a job's submission to an instance's first start
    detection      at_most, quantile: from a node's end to its being called down
    converged      within: services are whole so long after the last fault was mended
    placed         at_least: allocations placed so far
    reported       at_least: allocations whose client reported them running
    acknowledged   at_least: calls of users that were acknowledged
    refused        at_most: calls of users that were refused in the end
    lost           at_most: allocations given up as lost
    false-deaths   at_most: nodes called down that were well
    restarted      at_least: processes that ended badly and were replaced
    schema         at_least: the committed schema of every datacenter
    bandwidth      at_most: sent by an agent, on average over the span

A job is a name or a pattern; by default all.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

import msgspec
import numpy as np

from core.model.allocation import ClientStatus
from sim.census import Census, JobCount
from sim.faults import Faults
from sim.observer import Observer
from sim.plans import ALWAYS, AT_END, GoalPlan
from sim.wheel import Wheel
from sim.workload import Workload

YOUNG_US: Final = 60_000_000  # so soon after its submission, a job is not missed


class GoalResult(msgspec.Struct):
    """What a goal is, whether it is met, and what was found."""

    text: str
    is_met: bool
    measured: str


class Goals:
    """Judges the goals of a scenario while it runs, and at its end."""

    def __init__(
        self,
        plans: list[GoalPlan],
        wheel: Wheel,
        census: Census,
        workload: Workload,
        faults: Faults,
        observer: Observer,
    ) -> None:
        self._plans = plans
        self._wheel = wheel
        self._census = census
        self._workload = workload
        self._faults = faults
        self._observer = observer
        self._results: dict[int, GoalResult] = {}
        self._failed: dict[int, GoalResult] = {}  # of those that hold always: the first time
        self._looks: dict[int, int] = {}
        self._sums: dict[int, tuple[float, float]] = {}  # of availability: had, wanted
        # of bandwidth: bytes and time at the first look and at the last
        self._sent: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}

    def plan(self) -> None:
        for number, goal in enumerate(self._plans):
            if goal.at_us >= 0:
                self._wheel.at(goal.at_us, self._judge_now, number)
        self._observer.listeners.append(self._on_sample)

    def results(self) -> list[GoalResult]:
        """Judge what is left, at the end; return all in the order of the file."""
        for number, goal in enumerate(self._plans):
            if goal.at_us == ALWAYS:
                self._results[number] = self._always(number, goal)
            elif number not in self._results:
                if goal.at_us == AT_END:
                    self._judge_now(number)
                else:
                    text = f"{goal.kind} at {goal.at_us / 1e6:g} s"
                    self._results[number] = GoalResult(text, False, "the run ended before")
        return [self._results[number] for number in range(len(self._plans))]

    def _judge_now(self, number: int) -> None:
        goal = self._plans[number]
        judged = self._judge(number, goal)
        when = "at the end" if goal.at_us < 0 else f"at {goal.at_us / 1e6:g} s"
        if goal.kind in _OVERALL:
            when = ""
        text = f"{judged.text} {when}".rstrip()
        self._results[number] = GoalResult(text, judged.is_met, judged.measured)

    def _always(self, number: int, goal: GoalPlan) -> GoalResult:
        if number in self._failed:
            return self._failed[number]
        judged = self._judge(number, goal)
        looks = self._looks.get(number, 0)
        measured = f"at each of {looks} looks" if looks else "never looked at"
        return GoalResult(f"{judged.text} always", looks > 0, measured)

    def _on_sample(self, now_us: int) -> None:
        for number, goal in enumerate(self._plans):
            if now_us < goal.from_us or (goal.until_us and now_us > goal.until_us):
                continue
            if goal.kind == "availability":
                had, wanted = self._sums.get(number, (0.0, 0.0))
                more = self._available(goal, now_us)
                self._sums[number] = (had + more[0], wanted + more[1])
            elif goal.kind == "bandwidth":
                now = (self._observer.traffic.total_bytes, now_us)
                self._sent[number] = (self._sent.get(number, (now, now))[0], now)
            elif goal.at_us == ALWAYS and number not in self._failed:
                self._looks[number] = self._looks.get(number, 0) + 1
                judged = self._judge(number, goal)
                if not judged.is_met:
                    self._failed[number] = GoalResult(
                        f"{judged.text} always",
                        False,
                        f"{judged.measured} at {now_us / 1e6:g} s",
                    )

    def _judge(self, number: int, goal: GoalPlan) -> GoalResult:
        return _JUDGES[goal.kind](self, number, goal)

    def _jobs(self, pattern: str) -> dict[str, JobCount]:
        jobs = self._census.jobs
        if pattern in jobs:
            return {pattern: jobs[pattern]}
        return {name: count for name, count in jobs.items() if fnmatchcase(name, pattern or "*")}

    # --- jobs -----------------------------------------------------------------------------

    def _running(self, _: int, goal: GoalPlan) -> GoalResult:
        regions: dict[str, int] = {}
        wanted = total = 0
        for count in self._jobs(goal.job).values():
            wanted += count.wanted or 0
            total += count.running
            for region, number in count.regions.items():
                regions[region] = regions.get(region, 0) + number
        measured = ", ".join(f"{region} {number:,}" for region, number in sorted(regions.items()))
        name = f"job {goal.job!r}"
        if goal.at_least >= 0:
            text, is_met = f"{name} runs at least {goal.at_least:,g}", total >= goal.at_least
        elif goal.count >= 0:
            text, is_met = f"{name} runs {goal.count:,} instances", total == goal.count
        else:
            text, is_met = f"{name} runs all it asks for", total == wanted > 0
            measured = f"{total:,} of {wanted:,}"
        return GoalResult(text, is_met, measured or "none")

    def _placed_in(self, _: int, goal: GoalPlan) -> GoalResult:
        regions: dict[str, int] = {}
        for count in self._jobs(goal.job).values():
            for region, number in count.regions.items():
                regions[region] = regions.get(region, 0) + number
        measured = ", ".join(f"{region} {number:,}" for region, number in sorted(regions.items()))
        text = f"job {goal.job!r} runs only in {goal.region}"
        return GoalResult(text, set(regions) == {goal.region}, measured or "none")

    def _available(self, goal: GoalPlan, now_us: int) -> tuple[float, float]:
        """Return how many instances ran and how many were wanted, of services not too young."""
        had = wanted = 0
        for count in self._jobs(goal.job).values():
            if not count.is_service or not count.wanted or now_us - count.submitted_us < YOUNG_US:
                continue
            wanted += count.wanted
            had += min(count.running, count.wanted)
        return had, wanted

    def _availability(self, number: int, goal: GoalPlan) -> GoalResult:
        had, wanted = self._sums.get(number, (0.0, 0.0))
        text = f"{goal.job or 'services'}: availability at least {goal.at_least:.4%}"
        if not wanted:
            return GoalResult(text, False, "nothing was wanted")
        return GoalResult(text, had >= goal.at_least * wanted, f"{had / wanted:.4%}")

    def _queue_wait(self, _: int, goal: GoalPlan) -> GoalResult:
        text = f"{goal.quantile:.0%} of instances start within {goal.at_most:g} s"
        return _quantile(text, self._census.waits_us(), goal)

    def _acknowledged(self, _: int, goal: GoalPlan) -> GoalResult:
        calls = self._workload.calls
        text = f"at least {goal.at_least:,g} calls are acknowledged"
        return GoalResult(text, calls >= goal.at_least, f"{calls:,}")

    def _refused(self, _: int, goal: GoalPlan) -> GoalResult:
        refused = self._workload.refused
        measured = f"{len(refused):,}"
        if refused:
            name, why = next(iter(refused.items()))
            measured += f": {name}: {why}"
        text = f"at most {goal.at_most:,g} calls are refused"
        return GoalResult(text, len(refused) <= goal.at_most, measured)

    def _restarted(self, _: int, goal: GoalPlan) -> GoalResult:
        text = f"at least {goal.at_least:,g} processes end badly"
        failures = self._census.failures
        return GoalResult(text, failures >= goal.at_least, f"{failures:,}")

    # --- states ---------------------------------------------------------------------------

    def _placed(self, _: int, goal: GoalPlan) -> GoalResult:
        placed = self._observer.placements()
        text = f"at least {goal.at_least:,g} allocations are placed"
        return GoalResult(text, placed >= goal.at_least, f"{placed:,}")

    def _reported(self, _: int, goal: GoalPlan) -> GoalResult:
        running = self._observer.reported(ClientStatus.RUNNING)
        text = f"at least {goal.at_least:,g} allocations are reported running"
        return GoalResult(text, running >= goal.at_least, f"{running:,}")

    def _lost(self, _: int, goal: GoalPlan) -> GoalResult:
        lost = self._observer.reported(ClientStatus.LOST)
        text = f"at most {goal.at_most:,g} allocations are lost"
        return GoalResult(text, lost <= goal.at_most, f"{lost:,}")

    def _schema(self, _: int, goal: GoalPlan) -> GoalResult:
        schemas = [state.schema for state in self._observer.states()]
        text = f"every datacenter is at schema {goal.at_least:g}"
        if not schemas:
            return GoalResult(text, False, "no datacenter has a leader")
        measured = f"{min(schemas)} to {max(schemas)}, {len(schemas)} datacenters"
        return GoalResult(text, min(schemas) >= goal.at_least, measured)

    # --- faults ---------------------------------------------------------------------------

    def _detection(self, _: int, goal: GoalPlan) -> GoalResult:
        text = f"{goal.quantile:.0%} of lost nodes are noticed within {goal.at_most:g} s"
        times_us = np.array(self._observer.watch.detections_us, dtype=np.int64)
        return _quantile(text, times_us, goal)

    def _converged(self, _: int, goal: GoalPlan) -> GoalResult:
        text = f"services are whole {goal.within_us / 1e6:g} s after a fault is mended"
        watch = self._observer.watch
        if watch.is_healing:
            short = len(self._census.short)
            return GoalResult(text, False, f"{short:,} jobs are not whole at the end")
        if not watch.heals_us:
            return GoalResult(text, False, "no fault was mended")
        at_us, kind, took_us = max(watch.heals_us, key=lambda heal: heal[2])
        measured = f"{took_us / 1e6:g} s after {kind} at {at_us / 1e6:g} s"
        return GoalResult(text, took_us <= goal.within_us, measured)

    def _false_deaths(self, _: int, goal: GoalPlan) -> GoalResult:
        watch = self._observer.watch
        text = f"at most {goal.at_most:,g} nodes that are well are called down"
        measured = f"{watch.false_deaths:,} of {watch.deaths:,}"
        return GoalResult(text, watch.false_deaths <= goal.at_most, measured)

    def _bandwidth(self, number: int, goal: GoalPlan) -> GoalResult:
        text = f"an agent sends at most {goal.at_most / 1e3:,g} kB/s"
        (first_bytes, first_us), (last_bytes, last_us) = self._sent.get(number, ((0, 0), (0, 0)))
        span_s = (last_us - first_us) / 1e6
        agents = self._observer.samples[-1].get("agents_up") if self._observer.samples else 0
        if span_s <= 0 or not agents:
            return GoalResult(text, False, "no time to measure")
        rate = (last_bytes - first_bytes) / span_s / agents
        return GoalResult(text, rate <= goal.at_most, f"{rate / 1e3:,.2f} kB/s")


def _quantile(text: str, times_us: "np.typing.NDArray[np.int64]", goal: GoalPlan) -> GoalResult:
    if not len(times_us):
        return GoalResult(text, False, "there were none")
    found_s = float(np.quantile(times_us, goal.quantile)) / 1e6
    measured = f"{found_s:,.3g} s of {len(times_us):,}, the longest {times_us.max() / 1e6:,.3g} s"
    return GoalResult(text, found_s <= goal.at_most, measured)


_JUDGES: Final[dict[str, Callable[[Goals, int, GoalPlan], GoalResult]]] = {
    "running": Goals._running,
    "placed-in": Goals._placed_in,
    "availability": Goals._availability,
    "queue-wait": Goals._queue_wait,
    "detection": Goals._detection,
    "converged": Goals._converged,
    "placed": Goals._placed,
    "reported": Goals._reported,
    "acknowledged": Goals._acknowledged,
    "refused": Goals._refused,
    "lost": Goals._lost,
    "false-deaths": Goals._false_deaths,
    "restarted": Goals._restarted,
    "schema": Goals._schema,
    "bandwidth": Goals._bandwidth,
}
_OVERALL: Final = frozenset({"availability", "queue-wait", "detection", "converged", "bandwidth"})
