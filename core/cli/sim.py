"""`serai sim run | fuzz | replay`: the simulator from the command line."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.scenario_file import load_scenario

if TYPE_CHECKING:
    from sim.breaking import Break
    from sim.run import Progress, Run, Summary

METRICS_EVERY_S = 2.0
METRICS_SHARE = 0.05  # of the time at most goes into rendering them
LINE_EVERY_S = 60.0  # where there is no terminal
SHOWN_LINES = 20  # of violations, refusals, ...

Listener = Callable[["Progress"], None]
workers_option = option(
    "-workers", type=click.IntRange(1), help="Processes to spread runs over; one for each core"
)
scheduler_option = option(
    "-scheduler", default="", metavar="addr", help="Give the runs to a Dask scheduler's workers"
)


@command()
@click.argument("scenario")
@option("-seed", type=int, help="Seed of the run; the scenario's own otherwise")
@option("-until", metavar="duration", help="Stop at this virtual time, e.g. 2m or 24h")
@option("-var", "variables", multiple=True, metavar="name=value", help="A variable")
@option("-out", metavar="folder", help="Write report.html, summary.json and series.csv there")
@option("-trace", "trace_path", metavar="file", help="Write every delivered event there")
@option(
    "-metrics",
    metavar="folder|addr",
    help="Write the agents' Prometheus metrics to this folder, or serve them at host:port",
)
@option("-wire", is_flag=True, help="Send real bytes between agents; same outcome, slower")
@option(
    "-kernel/-no-kernel",
    "is_compiled",
    default=None,
    help="Whether placement is compiled; same outcome. By default as an agent does, by its nodes",
)
@option("-json", "as_json", is_flag=True, help="Print the summary as JSON")
def run(
    *,
    scenario: str,
    seed: int | None,
    until: str | None,
    variables: Sequence[str],
    out: str | None,
    trace_path: str | None,
    metrics: str | None,
    wire: bool,
    is_compiled: bool | None,
    as_json: bool,
) -> int:
    """Run a scenario on virtual time: the machines of real agents, simulated network and disks.

    Exits 1 when an invariant or a goal of the scenario does not hold, and prints the command
    that repeats it. The same seed gives the same trace hash.
    """
    from sim.run import Run

    plan = load_scenario(scenario, variables)
    if until is not None:
        plan.until_us = duration_us(until)
    with failures_told(), ExitStack() as stack:
        trace_file = stack.enter_context(open(trace_path, "wb")) if trace_path else None
        played = Run(plan, seed, trace_file, is_wire=wire, is_compiled=is_compiled)
        listeners: list[Listener] = []
        if metrics is not None:
            listeners.append(_metrics(stack, played, metrics))
        if not sys.stderr.isatty():
            listeners.append(_lines())
        elif not as_json:
            from core.cli.sim_progress import LiveProgress

            title = f"{plan.name}, seed {played.seed}"
            listeners.append(stack.enter_context(LiveProgress(title)))
        summary = played.play(lambda now: [listen(now) for listen in listeners].clear())
        command_line = _command(scenario, summary.seed, until, variables)
        if out is not None:
            from sim.report import write_report

            write_report(out, played, summary, command_line)
    if as_json:
        print(summary.as_json(command_line).decode())
    else:
        _print(summary, command_line, out)
    return 0 if summary.is_ok else 1


def duration_us(text: str, flag: str = "-until") -> int:
    from core.jobspec.durations import parse_duration_ns

    try:
        us = parse_duration_ns(text) // 1000
    except ValueError as error:
        raise CliError(f"{flag}: {error}") from None
    if us <= 0:
        raise CliError(f"{flag} takes a time after the start, such as 2m")
    return us


@contextmanager
def failures_told() -> Iterator[None]:
    """Turn what is wrong with a scenario, or with a path, into words for the user."""
    from core.jobspec.diagnostics import SourceError
    from sim.dask_workers import NoScheduler
    from sim.faults import FaultError
    from sim.spread import WorkerLost

    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CliError(f"{where}{error.strerror or error}") from error
    except FaultError as error:
        raise CliError(f"{error} {error.hint}".rstrip()) from error
    except (SourceError, ValueError, WorkerLost, NoScheduler) as error:
        raise CliError(str(error)) from error


def _lines() -> Listener:
    """Return what tells a log, now and then, how far a long run is."""
    due_s = time.monotonic() + LINE_EVERY_S

    def tell(now: "Progress") -> None:
        nonlocal due_s
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + LINE_EVERY_S
            running = now.run.census.running
            sys.stderr.write(f"{now.sim_s:g} s of {now.end_s:g} s, {running:,} instances run\n")

    return tell


def _metrics(stack: ExitStack, run: "Run", target: str) -> Listener:
    """Return what keeps the metrics up to date, in a folder or at an address."""
    from sim.metrics import MetricsFile, MetricsServer

    host, colon, port = target.rpartition(":")
    kept: MetricsFile | MetricsServer
    if colon and port.isdigit() and "/" not in target:
        if int(port) > 65_535:
            raise CliError(f"-metrics {target}: a port is at most 65535")
        kept = MetricsServer(run.world, host or "127.0.0.1", int(port))
        sys.stderr.write(f"metrics are at http://{kept.address}/metrics while this runs\n")
    else:
        kept = MetricsFile(run.world, target)
    stack.callback(kept.close)
    due_s = 0.0

    def update(_: "Progress") -> None:
        nonlocal due_s
        began_s = time.monotonic()
        if began_s >= due_s:
            kept.update()
            ended_s = time.monotonic()
            due_s = ended_s + max(METRICS_EVERY_S, (ended_s - began_s) / METRICS_SHARE)

    return update


def _command(scenario: str, seed: int, until: str | None, variables: Sequence[str]) -> str:
    """Return the command that repeats a run."""
    words = ["serai", "sim", "run", "-seed", str(seed)]
    words += ["-until", until] if until else []
    for item in variables:
        words += ["-var", item]
    return shlex.join([*words, scenario])


def _print(summary: "Summary", command_line: str, out: str | None) -> None:
    print(f"scenario    {summary.scenario}, seed {summary.seed}")
    print(f"agents      {summary.agents:,} ({summary.nodes:,} nodes)")
    speed = summary.sim_s / max(summary.wall_s, 1e-9)
    print(f"time        {summary.sim_s:g} s simulated in {summary.wall_s:g} s ({speed:.1f}x)")
    print(f"events      {summary.events:,}")
    faults = ", ".join(f"{kind} {count:,}" for kind, count in sorted(summary.faults.items()))
    print(f"faults      {faults or 'none'}")
    asked = f"{summary.jobs_submitted:,} jobs submitted"
    print(f"workload    {asked}, {summary.jobs_acknowledged:,} calls acknowledged")
    for what, refused in (("refused", summary.jobs_refused), ("denied", summary.operator_refused)):
        # A server's refusal may have several lines: one of ours for each job.
        _print_some(what, [f"{k}: {' '.join(v.split())}" for k, v in sorted(refused.items())])
    placed = f"{summary.placements:,} allocations placed"
    print(f"placed      {placed}, {summary.instances_running:,} instances run")
    if summary.detection_s:
        print(f"noticed     {_times(summary.detection_s)} after a node was lost")
    if summary.heal_s:
        print(f"healed      {_times(summary.heal_s)} after a fault was mended")
    for name, count in summary.checked.items():
        if count:
            print(f"checked     {name}: {count:,} times")
    for name in summary.unchecked:
        print(f"UNCHECKED   {name}: there was nothing to look at")
    for goal in summary.goals:
        mark = "met   " if goal.is_met else "MISSED"
        print(f"goal        {mark} {goal.text} (found: {goal.measured})")
    _print_some("VIOLATION", summary.violations)
    _print_some("HALTED", summary.halts)
    print(f"trace hash  {summary.trace_hash}")
    if out is not None:
        print(f"report      {out}/report.html")
    if not summary.is_ok:
        print(f"repeat with: {command_line}")


def _print_some(word: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN_LINES]:
        print(f"{word:11} {line}")
    if len(lines) > SHOWN_LINES:
        print(f"{word:11} and {len(lines) - SHOWN_LINES:,} more")


def _times(values_s: Sequence[float]) -> str:
    ordered = sorted(values_s)
    return (
        f"{ordered[len(ordered) // 2]:g} s (median of {len(ordered):,}), at most {ordered[-1]:g} s"
    )


@command()
@click.argument("scenario")
@option("-seeds", type=click.IntRange(1), default=20, help="How many seeds to run (20)")
@option("-from", "first", type=int, default=1, help="The first of them (1)")
@workers_option
@scheduler_option
def fuzz(*, scenario: str, seeds: int, first: int, workers: int | None, scheduler: str) -> int:
    """Run a scenario under random faults, seed by seed, in place of its own faults.

    All faults are mended before the scenario's settle time begins. Exits 1 when an
    invariant or a goal does not hold for any seed.
    """
    from sim.fuzz import describe
    from sim.fuzz import fuzz as run_seeds
    from sim.spread import default_workers

    failed = []
    plan = load_scenario(scenario)
    with failures_told():
        used = range(first, first + seeds)
        for trial in run_seeds(plan, used, workers or default_workers(), scheduler):
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
    print(f"{seeds - len(failed)} of {seeds} seeds hold")
    return 1 if failed else 0


@command()
@click.argument("path", metavar="RECORDING|SCENARIO")
@option("-json", "as_json", is_flag=True, help="Print the outcome as JSON")
@option("-seed", type=int, help="Of a scenario: seed of the run; the scenario's own otherwise")
@option("-var", "variables", multiple=True, metavar="name=value", help="Of a scenario: a variable")
@option(
    "-break",
    "where",
    metavar="90s|#event|violation",
    help="Of a scenario: stop at a time, before a line of its -trace, or at a violation",
)
@option("-look", "names", multiple=True, metavar="agent", help="... and show this agent's state")
def replay(
    *,
    path: str,
    as_json: bool,
    seed: int | None,
    variables: Sequence[str],
    where: str | None,
    names: Sequence[str],
) -> int:
    """Replay what `serai agent -record FILE` wrote, or a scenario up to a break.

    A recording must give the same effects and the same state hash, else this exits 1. Of a
    SCENARIO (.hcl) with -break, the run of that seed is played up to there, and shown.
    """
    if where is not None:
        return _show_break(path, _parse_break(where), seed, variables, names, as_json=as_json)
    if names or variables or seed is not None:
        raise CliError("-look, -seed and -var go with a scenario and -break")
    return _replay_recording(path, as_json=as_json)


def _parse_break(text: str) -> "Break":
    from sim.breaking import Break

    if text == "violation":
        return Break(is_violation=True)
    if text.startswith("#"):
        if not text[1:].isdigit() or int(text[1:]) < 1:
            raise CliError(f"-break {text}: an event is a line of the trace, such as #1200")
        return Break(event=int(text[1:]))
    return Break(at_us=duration_us(text, "-break"))


def _show_break(
    path: str,
    stop: "Break",
    seed: int | None,
    variables: Sequence[str],
    names: Sequence[str],
    *,
    as_json: bool,
) -> int:
    import json

    from sim.breaking import find_agents, look, overview, run_to

    plan = load_scenario(path, variables)
    with failures_told():
        stopped = run_to(plan, seed, stop)
        agents = [look(agent) for agent in find_agents(stopped.run, names)]
    world = overview(stopped)
    if as_json:
        print(json.dumps({**world, "agents": agents}))
        return 0
    for name, value in world.items():
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        print(f"{name:17} {shown}")
    for agent in agents:
        print(json.dumps(agent, indent=2))
    return 0


def _replay_recording(recording: str, *, as_json: bool) -> int:
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
