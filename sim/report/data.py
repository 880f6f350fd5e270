"""What a report shows, gathered from a finished run."""

from typing import Final

import msgspec
import numpy as np

from sim.observer import COLUMNS
from sim.run import Run, Summary

WAIT_BOUNDS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class FaultSpan(msgspec.Struct, frozen=True):
    """A fault on the timeline; `end_s` is the end of the run for one that lasted."""

    kind: str
    begin_s: float
    end_s: float
    text: str
    is_over: bool


class RegionSpot(msgspec.Struct, frozen=True):
    """A region on the map."""

    name: str
    datacenters: int
    servers: int
    nodes: int
    running: int


class ReportData(msgspec.Struct, kw_only=True):
    """Everything a page is drawn from. Times in seconds of virtual time."""

    summary: Summary
    command: str
    end_s: float
    series: dict[str, list[float]]  # by the columns of sim.observer
    faults: list[FaultSpan]
    regions: list[RegionSpot]
    flows: dict[tuple[str, str], float]  # bytes a second on average
    waits: list[tuple[str, int]]  # how many instances waited how long
    heals: list[tuple[float, str, float]]  # when, after what, how long


def gather(run: Run, summary: Summary, command: str) -> ReportData:
    """Return what the report of a finished run shows."""
    end_s = run.world.wheel.now_us / 1e6
    samples = run.observer.samples
    series = {name: [sample.values[i] for sample in samples] for i, name in enumerate(COLUMNS)}
    flows = {key: total / max(end_s, 1e-9) for key, total in run.traffic.flows.items()}
    return ReportData(
        summary=summary,
        command=command,
        end_s=end_s,
        series=series,
        faults=_faults(run, end_s),
        regions=_regions(run),
        flows=flows,
        waits=_waits(run),
        heals=[(at / 1e6, kind, took / 1e6) for at, kind, took in run.watch.heals_us],
    )


def _faults(run: Run, end_s: float) -> list[FaultSpan]:
    spans = []
    for struck in run.faults.story:
        plan = struck.plan
        whom = " to ".join(name for name in (plan.source, plan.target) if name) or plan.job
        if struck.agents:
            number = len(struck.agents)
            names = ", ".join(struck.agents[:3]) + (", ..." if number > 3 else "")
            whom = f"{whom}: {number:,} agents ({names})"
        is_active = struck.number in run.faults.active
        ended_s = struck.mended_us / 1e6 if struck.mended_us >= 0 else end_s
        if not is_active and struck.mended_us < 0:
            ended_s = struck.at_us / 1e6  # an act of a moment
        spans.append(FaultSpan(plan.kind, struck.at_us / 1e6, ended_s, whom, not is_active))
    return spans


def _regions(run: Run) -> list[RegionSpot]:
    running: dict[str, int] = {}
    for count in run.census.jobs.values():
        for region, number in count.regions.items():
            running[region] = running.get(region, 0) + number
    spots = []
    for region in run.scenario.regions:
        plans = [plan for plan in run.scenario.datacenters if plan.region == region]
        spots.append(
            RegionSpot(
                name=region,
                datacenters=len(plans),
                servers=sum(plan.servers for plan in plans),
                nodes=sum(plan.node_count for plan in plans),
                running=running.get(region, 0),
            )
        )
    return spots


def _waits(run: Run) -> list[tuple[str, int]]:
    """Return how many instances started within each bound and beyond the one before."""
    waits_s = run.census.waits_us() / 1e6
    if not len(waits_s):
        return []
    counts, _ = np.histogram(waits_s, bins=[0.0, *WAIT_BOUNDS_S, float("inf")])
    labels = [f"{bound:g} s" for bound in WAIT_BOUNDS_S] + ["longer"]
    return [(label, int(count)) for label, count in zip(labels, counts, strict=True)]
