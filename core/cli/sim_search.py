"""`serai sim shrink | sweep`: many runs of one scenario."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.jobfile import split_variable
from core.cli.output import Output
from core.cli.scenario_file import load_scenario
from core.cli.sim import duration_us, failures_told, scheduler_option, workers_option

if TYPE_CHECKING:
    from sim.sweep import Result

POINTS_MAX = 10_000


@command()
@click.argument("scenario")
@option("-seed", type=int, help="Seed of the run that fails; the scenario's own otherwise")
@option("-until", metavar="duration", help="No run goes beyond this virtual time")
@option("-var", "variables", multiple=True, metavar="name=value", help="A variable")
@option("-fuzz", "is_fuzz", is_flag=True, help="The faults that sim fuzz draws from the seed")
@option("-out", metavar="file", help="Write what is left there (SCENARIO.shrunk.hcl)")
@workers_option
def shrink(
    *,
    scenario: str,
    seed: int | None,
    until: str | None,
    variables: Sequence[str],
    is_fuzz: bool,
    out: str | None,
    workers: int | None,
) -> int:
    """Find the smallest set of faults and jobs under which a scenario still fails.

    It fails as the whole does: the same checker, halt or goal. What is left is written as a
    scenario of its own, is run once more from that file, and is printed.
    """
    import msgspec

    from sim.fuzz import describe, draw_faults
    from sim.shrink import NothingFails, failures_of
    from sim.shrink import shrink as find_least
    from sim.spread import default_workers
    from sim.writing import write_scenario

    path = out or f"{scenario.removesuffix('.hcl')}.shrunk.hcl"
    if os.path.exists(path):
        raise CliError(f"{path} exists already and is not overwritten: give another -out")
    plan = load_scenario(scenario, variables)
    if until is not None:
        plan.until_us = duration_us(until)
    used = plan.seed if seed is None else seed
    with failures_told():
        if is_fuzz:
            plan = msgspec.structs.replace(plan, faults=draw_faults(plan, used))
        try:
            found = find_least(plan, used, workers=workers or default_workers(), note=_note)
        except NothingFails as error:
            raise CliError(f"{error}: nothing to shrink") from None
        with open(path, "x", encoding="utf-8") as file:
            file.write(write_scenario(found.scenario, os.path.dirname(os.path.abspath(path))))
        again = load_scenario(path)
        again.until_us = plan.until_us
        from sim.run import Run

        is_confirmed = bool(set(failures_of(Run(again, used).play())) & set(found.failures))
    print(f"faults  {found.faults[1]:,} of {found.faults[0]:,}")
    for fault in found.scenario.faults:
        print(f"        {describe(fault)}")
    print(f"jobs    {found.jobs[1]:,} of {found.jobs[0]:,}, after {found.runs:,} runs")
    words = ["serai", "sim", "run", "-seed", str(used), *(["-until", until] if until else []), path]
    if not is_confirmed:
        raise CliError(f"{path} is written, but does not fail when it is read again")
    print(f"it fails with: {shlex.join(words)}")
    return 0


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@command()
@click.argument("scenario")
@option("-var", "variables", multiple=True, metavar="name=value,value", help="Values of a variable")
@option("-seed", type=int, help="Seed of every run; the scenario's own otherwise")
@option("-seeds", type=click.IntRange(1), default=1, help="So many seeds from there on (1)")
@option("-until", metavar="duration", help="Stop each run at this virtual time")
@option("-out", metavar="folder", help="Write sweep.html, sweep.json and sweep.csv there")
@option("-json", "as_json", is_flag=True, help="Print the runs as JSON")
@workers_option
@scheduler_option
def sweep(
    *,
    scenario: str,
    variables: Sequence[str],
    seed: int | None,
    seeds: int,
    until: str | None,
    out: str | None,
    as_json: bool,
    workers: int | None,
    scheduler: str,
) -> int:
    """Run a scenario with every combination of its variables' values, and compare.

    A point of the grid holds when its goals are met and no invariant is violated; exits 1
    when one does not.
    """
    import msgspec

    from sim.spread import default_workers
    from sim.sweep import grid, split_values
    from sim.sweep import sweep as run_points

    if not variables:
        raise CliError("nothing to sweep over: -var NAME=VALUE,VALUE says what")
    asked = [split_variable(item) for item in variables]
    values = {name: split_values(text) for name, text in asked}
    if len(values) < len(asked):
        raise CliError("each variable once: -var NAME=VALUE,VALUE has all its values")
    points = grid(values)
    if len(points) * seeds > POINTS_MAX:
        raise CliError(f"{len(points) * seeds:,} runs are more than {POINTS_MAX:,}: fewer values?")
    plans = []
    for point in points:
        plan = load_scenario(scenario, [f"{name}={value}" for name, value in point.items()])
        if until is not None:
            plan.until_us = duration_us(until)
        plans.append((point, plan))
    first = plans[0][1].seed if seed is None else seed
    results: list[Result] = []
    with failures_told():
        used = range(first, first + seeds)
        for one in run_points(plans, used, workers or default_workers(), scheduler):
            results.append(one)
            if sys.stderr.isatty():
                sys.stderr.write(f"{len(results):,} of {len(points) * seeds:,} runs\r")
        if out is not None:
            from sim.report.sweep import write_sweep

            words = ["serai", "sim", "sweep", "-seed", str(first), "-seeds", str(seeds)]
            words += ["-until", until] if until else []
            words += [word for item in variables for word in ("-var", item)]
            write_sweep(out, plans[0][1].name, results, shlex.join([*words, scenario]))
    if as_json:
        print(msgspec.json.encode(results).decode())
    else:
        _table(list(values), results, out)
    return 0 if all(one.summary.is_ok for one in results) else 1


def _table(names: Sequence[str], results: "Sequence[Result]", out: str | None) -> None:
    from sim.report.sweep import number
    from sim.sweep import MEASURES

    shown = [key for key in MEASURES if any(one.measured[key] is not None for one in results)]
    printer = Output()
    printer.table(
        (*names, "seed", "", *shown),
        [
            (
                *one.values.values(),
                one.seed,
                "holds" if one.summary.is_ok else "FAILS",
                *(number(one.measured[key]) for key in shown),
            )
            for one in results
        ],
    )
    held = sum(one.summary.is_ok for one in results)
    printer.line(f"{held:,} of {len(results):,} runs hold")
    if out is not None:
        printer.line(f"report: {os.path.join(out, 'sweep.html')}")
