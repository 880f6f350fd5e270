"""`serai sim fuzz SCENARIO`: random faults over a scenario, seed by seed.

The faults of a seed are drawn from that seed alone, fall between `CALM_US` and the
scenario's duration less its settle time, and are all mended by then. So what is wrong at
the end is a bug and no fault that still lasts. A seed that failed is repeated with

    serai sim fuzz SCENARIO -from SEED -seeds 1

One seed in `TWICE` is run twice: both must have the same trace.
"""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from sim.build import server_name
from sim.plans import SNAPSHOT_LABEL
from sim.run import Run, Summary
from sim.scenario import FaultPlan, Scenario
from sim.spread import spread
from sim.workload import with_files

CALM_US: Final = 15_000_000  # no fault before: the datacenters are being born
FAULTS_MAX: Final = 6
SHORTEST_US: Final = 500_000
LONGEST_US: Final = 25_000_000
TWICE: Final = 100
KINDS: Final = ("partition", "cut", "crash", "crash", "power", "pause", "slow", "loss", "full-disk")


class Trial(msgspec.Struct, kw_only=True):
    """One seed: what was broken, and what came of it."""

    seed: int
    faults: list[FaultPlan]
    summary: Summary
    repeated: str = ""  # trace hash of a second run, of one seed in `TWICE`

    @property
    def is_ok(self) -> bool:
        return self.summary.is_ok and self.repeated in ("", self.summary.trace_hash)

    def problems(self) -> list[str]:
        """Return what does not hold, in words."""
        summary = self.summary
        missed = [f"goal missed: {g.text} (found: {g.measured})" for g in summary.goals]
        refused = [f"{name}: {why}" for name, why in sorted(summary.jobs_refused.items())]
        other = self.repeated[:12]
        is_other = bool(other) and self.repeated != summary.trace_hash
        return [
            *([f"not repeatable: run again, it has the trace {other}"] if is_other else []),
            *(f"violation: {text}" for text in summary.violations),
            *(f"halted: {text}" for text in summary.halts),
            *(text for text, goal in zip(missed, summary.goals, strict=True) if not goal.is_met),
            *(f"not acknowledged: {text}" for text in refused),
        ]


def fuzz(
    scenario: Scenario, seeds: range, workers: int = 1, scheduler: str = ""
) -> Iterator[Trial]:
    """Run a scenario once per seed, with that seed's faults in place of its own.

    Trials come in the order of the seeds, whatever the number of worker processes.
    `scheduler` is as `sim.spread.spread` takes it.
    """
    draw_faults(scenario, seeds.start)  # raises here what would be raised in a worker
    if scheduler:
        scenario = with_files(scenario)
    return spread(_try, [(scenario, seed) for seed in seeds], workers, scheduler)


def _try(what: tuple[Scenario, int]) -> Trial:
    scenario, seed = what
    faults = draw_faults(scenario, seed)
    tried = msgspec.structs.replace(scenario, faults=faults)
    summary = Run(tried, seed).play()
    repeated = "" if seed % TWICE else Run(tried, seed).play().trace_hash
    return Trial(seed=seed, faults=faults, summary=summary, repeated=repeated)


def draw_faults(scenario: Scenario, seed: int, longest_us: int = LONGEST_US) -> list[FaultPlan]:
    """Return the faults of a seed, by time; each lasts `longest_us` at most.

    Raises:
        ValueError: The scenario is too short to break anything in it.
    """
    end_us = scenario.duration_us - scenario.settle_us
    if end_us <= CALM_US + SHORTEST_US:
        raise ValueError(
            f"scenario {scenario.name!r} leaves no time for faults: its duration must exceed"
            f" its settle time by more than {(CALM_US + SHORTEST_US) / 1e6:g}s"
        )
    rng = random.Random(f"{seed}/fuzz")
    faults = [_draw(scenario, rng, end_us, longest_us) for _ in range(rng.randint(1, FAULTS_MAX))]
    return sorted(faults, key=lambda fault: fault.at_us)


def describe(fault: FaultPlan) -> str:
    """Return a fault as one line."""
    what = {
        "partition": f"{fault.source} <-> {fault.target}",
        "cut": f"{fault.source} -> {fault.target}",
        "slow": f"{fault.source} <-> {fault.target} by {fault.extra_us / 1000:g} ms",
        "loss": f"{fault.fraction:.0%} of datagrams",
    }.get(fault.kind, fault.target or fault.job)
    lasts = f"for {fault.for_us / 1e6:6.3f}s" if fault.for_us else "to the end "
    return f"{fault.at_us / 1e6:8.3f}s {lasts}  {fault.kind:9}  {what}"


def _draw(scenario: Scenario, rng: random.Random, end_us: int, longest_us: int) -> FaultPlan:
    at_us = rng.randrange(CALM_US, end_us - SHORTEST_US)
    for_us = min(end_us - at_us, rng.randrange(SHORTEST_US, longest_us))
    kind = rng.choice(KINDS)
    source = target = ""
    extra_us, fraction = 0, 0.0
    if kind in ("partition", "cut", "slow"):
        source, target = _sides(scenario, rng)
        extra_us = rng.randrange(1_000, 400_000) if kind == "slow" else 0
    elif kind == "loss":
        fraction = rng.choice((0.02, 0.1, 0.3))
    else:
        servers, clients = _agents(scenario)
        anybody = servers if kind == "full-disk" or rng.random() < 0.6 else clients
        target = rng.choice(anybody or servers)
    return FaultPlan(
        kind=kind, at_us=at_us, for_us=for_us, source=source, target=target,
        extra_us=extra_us, fraction=fraction,
    )  # fmt: skip


def _sides(scenario: Scenario, rng: random.Random) -> tuple[str, str]:
    """Return two different places: regions, datacenters or agents."""
    datacenters = [f"{plan.region}/{plan.name}" for plan in scenario.datacenters]
    regions = list(dict.fromkeys(plan.region for plan in scenario.datacenters))
    servers, clients = _agents(scenario)
    levels = (regions, datacenters, servers, servers + clients)
    names = rng.choice([level for level in levels if len(level) > 1])
    source, target = rng.sample(names, 2)
    return source, target


def _agents(scenario: Scenario) -> tuple[list[str], list[str]]:
    servers, clients = [], []
    for plan in scenario.datacenters:
        servers += [server_name(plan, number) for number in range(1, plan.servers + 1)]
        if plan.start is not None:
            clients += [
                f"{plan.region}-{plan.name}-{SNAPSHOT_LABEL}-{name}"
                for name in plan.start.node_names
            ]
        for shape in plan.nodes:
            clients += [
                f"{plan.region}-{plan.name}-{shape.label}-{number}"
                for number in range(1, shape.count + 1)
            ]
    return servers, clients
