"""`serai sim sweep`: one scenario over the values of its variables.

Each point of the grid is a scenario of its own, read with its values, and is run once per
seed. What is measured of a run is in `MEASURES`; a report draws it over the first variable.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

import msgspec
import numpy as np

from sim.plans import Scenario
from sim.run import Run, Summary
from sim.spread import spread
from sim.workload import with_files

Values = dict[str, str]  # by variable


class Measure(msgspec.Struct, frozen=True):
    title: str
    unit: str
    of: Callable[[Run, Summary], float | None]  # None: there was nothing to measure


class Result(msgspec.Struct, kw_only=True):
    """One run: where in the grid, and what came of it."""

    values: Values
    seed: int
    summary: Summary
    measured: dict[str, float | None]


def _quantile(values: Sequence[float], part: float) -> float | None:
    return round(float(np.quantile(np.asarray(values), part)), 3) if len(values) else None


def _share_of_goals(_: Run, summary: Summary) -> float | None:
    met = [goal.is_met for goal in summary.goals]
    return round(sum(met) / len(met), 3) if met else None


def _bytes_per_s(run: Run, _: Summary) -> float | None:
    kinds = ("gossip_bytes_per_s", "raft_bytes_per_s", "calls_bytes_per_s")
    samples = run.observer.samples
    if not samples:
        return None
    sums = [sum(sample.get(kind) for kind in kinds) for sample in samples]
    return round(sum(sums) / len(sums) / max(1, len(run.world.agents)), 1)


MEASURES: Final[dict[str, Measure]] = {
    "goals": Measure("Goals met", "part of all", _share_of_goals),
    "violations": Measure(
        "Violations", "of invariants, and halts", lambda _, s: len(s.violations) + len(s.halts)
    ),
    "running": Measure("Running", "instances at the end", lambda _, s: s.instances_running),
    "placed": Measure("Placed", "allocations in all", lambda _, s: s.placements),
    "wait_s": Measure(
        "Wait for a start", "seconds, 99% of instances",
        lambda run, _: _quantile((run.census.waits_us() / 1e6).tolist(), 0.99),
    ),
    "detection_s": Measure(
        "Detection", "seconds until a lost node is called down, median",
        lambda _, s: _quantile(s.detection_s, 0.5),
    ),
    "healing_s": Measure(
        "Healing", "seconds until services were whole, the longest",
        lambda _, s: max(s.heal_s) if s.heal_s else None,
    ),
    "false_deaths": Measure(
        "False deaths", "nodes that are well, called down", lambda _, s: s.false_deaths
    ),
    "refused": Measure(
        "Refused", "jobs that were not taken in the end", lambda _, s: len(s.jobs_refused)
    ),
    "bytes_per_s": Measure("Bandwidth", "bytes a second that an agent sends", _bytes_per_s),
    "wall_s": Measure("Time", "seconds that the run took", lambda _, s: s.wall_s),
}  # fmt: skip


def grid(variables: Mapping[str, Sequence[str]]) -> list[Values]:
    """Return every combination, the last variable's values changing fastest."""
    names = list(variables)
    return [dict(zip(names, values, strict=True)) for values in product(*variables.values())]


def split_values(text: str) -> list[str]:
    """Return the values of "1,2,3": commas within brackets and quotes are part of a value."""
    values, depth, is_quoted = [""], 0, False
    for character in text:
        if character == '"':
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not depth and not is_quoted:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def sweep(
    points: Sequence[tuple[Values, Scenario]],
    seeds: Sequence[int] = (),
    workers: int = 1,
    scheduler: str = "",
) -> Iterator[Result]:
    """Run every point, with each of the seeds (or its own), in order.

    `scheduler` is as `sim.spread.spread` takes it.
    """
    if scheduler:
        points = [(values, with_files(scenario)) for values, scenario in points]
    runs = [
        (values, scenario, seed)
        for values, scenario in points
        for seed in (seeds or [scenario.seed])
    ]
    return spread(_play, runs, workers, scheduler)


def _play(what: tuple[Values, Scenario, int]) -> Result:
    values, scenario, seed = what
    run = Run(scenario, seed)
    summary = run.play()
    measured = {name: measure.of(run, summary) for name, measure in MEASURES.items()}
    return Result(values=values, seed=seed, summary=summary, measured=measured)
