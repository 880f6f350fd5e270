"""`serai sim run | fuzz | replay`: the simulator from the command line."""

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from core.cli.errors import CliError
from core.cli.flags import command, option

if TYPE_CHECKING:
    from sim.run import Summary

PROGRESS_EVERY_S = 0.5


@command()
@click.argument("scenario")
@option("-seed", type=int, help="Seed of the run; the scenario's own otherwise")
@option("-until", metavar="duration", help="Stop at this virtual time, e.g. 2m")
@option("-trace", "trace_path", metavar="file", help="Write every delivered event there")
@option("-json", "as_json", is_flag=True, help="Print the summary as JSON")
def run(
    *, scenario: str, seed: int | None, until: str | None, trace_path: str | None, as_json: bool
) -> int:
    """Run a scenario on virtual time: the machines of real agents, simulated network and disks.

    Exits 1 when an invariant or a goal of the scenario does not hold. The same seed gives
    the same trace hash.
    """
    from core.jobspec.diagnostics import SourceError
    from core.jobspec.durations import parse_duration_ns
    from sim.faults import FaultError
    from sim.run import Run
    from sim.scenario import read_scenario

    try:
        with open(scenario, encoding="utf-8") as file:
            text = file.read()
        plan = read_scenario(text, scenario, os.path.dirname(os.path.abspath(scenario)))
        if until is not None:
            plan.until_us = parse_duration_ns(until) // 1000
        trace_file = open(trace_path, "wb") if trace_path else None  # noqa: SIM115
        try:
            progress = None if as_json or not sys.stderr.isatty() else _progress(plan.duration_us)
            summary = Run(plan, seed, trace_file).play(progress)
        finally:
            if trace_file is not None:
                trace_file.close()
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from error
    except (SourceError, FaultError, ValueError) as error:
        raise CliError(str(error)) from error
    if as_json:
        import msgspec

        print(msgspec.json.encode(summary).decode())
    else:
        _print(summary, scenario)
    return 0 if summary.is_ok else 1


def _progress(duration_us: int) -> Any:
    last = [0.0, time.monotonic()]

    def show(sim_s: float, events: int) -> None:
        now = time.monotonic()
        if now - last[0] < PROGRESS_EVERY_S and sim_s < duration_us / 1e6:
            return
        speed = sim_s / max(now - last[1], 1e-9)
        last[0] = now
        end = "\n" if sim_s >= duration_us / 1e6 else ""
        sys.stderr.write(
            f"\r{sim_s:8.1f} s of {duration_us / 1e6:g} s  {speed:6.1f}x real time  "
            f"{events:,} events{end}"
        )
        sys.stderr.flush()

    return show


def _print(summary: "Summary", scenario: str) -> None:
    print(f"scenario    {summary.scenario}, seed {summary.seed}")
    print(f"agents      {summary.agents} ({summary.nodes} nodes)")
    speed = summary.sim_s / max(summary.wall_s, 1e-9)
    print(f"time        {summary.sim_s:g} s simulated in {summary.wall_s:g} s ({speed:.1f}x)")
    print(f"events      {summary.events:,}")
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.faults.items()))
    print(f"faults      {faults or 'none'}")
    print(f"jobs        {summary.jobs_acknowledged} requests acknowledged")
    for name, reason in sorted(summary.jobs_refused.items()):
        print(f"  refused   {name}: {reason}")
    print(f"tasks       {summary.tasks_started} started")
    for name, count in sorted(summary.checked.items()):
        print(f"checked     {name}: {count:,} times")
    for goal in summary.goals:
        mark = "met   " if goal.is_met else "MISSED"
        print(f"goal        {mark} {goal.text} (found: {goal.measured})")
    for text in summary.violations:
        print(f"VIOLATION   {text}")
    for text in summary.halts:
        print(f"HALTED      {text}")
    print(f"trace hash  {summary.trace_hash}")
    if not summary.is_ok:
        print(f"repeat with: serai sim run {scenario} -seed {summary.seed}")


@command()
@click.argument("scenario")
@option("-seeds", type=click.IntRange(1), default=20, help="How many seeds to run (20)")
@option("-from", "first", type=int, default=1, help="The first of them (1)")
def fuzz(*, scenario: str, seeds: int, first: int) -> int:
    """Run a scenario under random faults, seed by seed, in place of its own faults.

    All faults are mended before the scenario's settle time begins. Exits 1 when an
    invariant or a goal does not hold for any seed.
    """
    from core.jobspec.diagnostics import SourceError
    from sim.faults import FaultError
    from sim.fuzz import describe
    from sim.fuzz import fuzz as run_seeds
    from sim.scenario import read_scenario

    failed = []
    try:
        with open(scenario, encoding="utf-8") as file:
            text = file.read()
        plan = read_scenario(text, scenario, os.path.dirname(os.path.abspath(scenario)))
        for trial in run_seeds(plan, range(first, first + seeds)):
            hash_ = trial.summary.trace_hash[:12]
            mark = "ok" if trial.is_ok else "FAILED"
            print(f"seed {trial.seed:5}  {len(trial.faults)} faults  {hash_}  {mark}", flush=True)
            if trial.is_ok:
                continue
            failed.append(trial.seed)
            for fault in trial.faults:
                print(f"    fault      {describe(fault)}")
            for problem in trial.problems():
                print(f"    {problem}")
            print(f"    repeat with: serai sim fuzz {scenario} -from {trial.seed} -seeds 1")
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from error
    except (SourceError, FaultError, ValueError) as error:
        raise CliError(str(error)) from error
    print(f"{seeds - len(failed)} of {seeds} seeds hold")
    return 1 if failed else 0


@command()
@click.argument("recording")
@option("-json", "as_json", is_flag=True, help="Print the outcome as JSON")
def replay(*, recording: str, as_json: bool) -> int:
    """Replay what `serai agent -record FILE` wrote: same effects, same state hash.

    Exits 1 when they differ from the recording's.
    """
    import msgspec

    from sim.replay import ReplayError
    from sim.replay import replay as replay_file

    try:
        with open(recording, "rb") as file:
            outcome = replay_file(file)
    except OSError as error:
        raise CliError(f"{recording}: {error.strerror}") from error
    except ReplayError as error:
        raise CliError(str(error)) from error
    if as_json:
        print(msgspec.json.encode(outcome).decode())
    else:
        for role, count in outcome.events.items():
            print(f"{role:8} {count:,} events, effects {outcome.effects[role]}")
        if outcome.state:
            print(f"state    {outcome.state}")
        if outcome.matches is None:
            print("the recording has no end (the agent was killed): nothing to compare with")
        else:
            print("identical to the recording" if outcome.matches else "DIFFERS from the recording")
    return 1 if outcome.matches is False else 0
