"""How fast the simulator is: `python -m bench.sim [--full | --reduced] [--only NAME,...]`.

Plays the scenarios of examples/scenarios, each in a process of its own on one core, one after
another. Without a flag it is a bounded slice of each, 20 minutes in all on the machine of
bench/README.md: c2m whole, an hour of steady-day, the first part of the others. `--full` plays
them to their ends and judges their goals too; `--reduced` plays slices of a hundredth of the
size, and is no claim.

    wall_s, cpu_s      what it took; cpu_s is what counts on a machine with other work
    sim_s              virtual time that was played
    speed_vs_real      sim_s / wall_s
    events_per_s       events of the simulation in a second of wall time
    rss_mb             most memory that the process held
    checked            how often invariants were looked at, in all; violations stand beside it
    faults             faults injected
    growth             wall time of five minutes of steady-day at 100, 1,000 and 10,000 nodes

A scenario that takes longer than its share of the time is stopped there and says so
(`cut_short`): its speed is that of what was played. The last line is one JSON object with an
object per scenario. Exits 1 when an invariant does not hold (or a goal, with --full).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sim.lastline import last_line
from sim.run import Progress, Run
from sim.scenario import read_scenario

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "examples" / "scenarios"
REDUCED_SCALE: Final = 0.01
GROWTH_UNTIL_S: Final = 300
GROWTH_SCALES: Final = {"100": 0.01, "1000": 0.1, "10000": 1.0}


class Slice(NamedTuple):
    """How far a scenario is played without --full, and how long that may take."""

    until_s: int  # 0 = to its end
    budget_s: int


SLICES: Final = {
    "c2m": Slice(0, 600),
    "steady-day": Slice(3_600, 240),
    "region-loss": Slice(720, 90),
    "split": Slice(900, 60),
    "storm": Slice(900, 60),
    "flat-10k": Slice(480, 90),
    "upgrade": Slice(900, 40),
}


class _OutOfTime(Exception):
    """The scenario's share of the time is used up."""


def play(name: str, *, scale: float, until_s: int, budget_s: int) -> dict[str, Any]:
    """Play one scenario in this process and return its figures."""
    path = FOLDER / f"{name}.hcl"
    text = path.read_text(encoding="utf-8")
    scenario = read_scenario(text, str(path), str(FOLDER), {"scale": repr(scale)})
    scenario.until_us = until_s * 1_000_000
    run = Run(scenario)
    began = time.perf_counter()

    def watch_the_clock(now: Progress) -> None:
        if budget_s and time.perf_counter() - began > budget_s and now.sim_s < now.end_s:
            raise _OutOfTime

    is_cut_short = False
    goals: list[Any] = []
    try:
        summary = run.play(watch_the_clock)
        violations, halts, goals = summary.violations, summary.halts, summary.goals
    except _OutOfTime:
        is_cut_short = True
        violations = run.checkers.violations
        halts = [f"{name}: {why}" for _, name, why in run.world.halts]
    wall_s = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    sim_s, events = run.world.wheel.now_us / 1e6, run.world.wheel.events
    is_whole = not until_s and not is_cut_short
    figures = {
        "wall_s": round(wall_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "sim_s": sim_s,
        "speed_vs_real": round(sim_s / wall_s, 2),
        "events_per_s": round(events / wall_s),
        "rss_mb": round(usage.ru_maxrss / 1024),
        "nodes": len(run.world.clients),
        "instances": run.census.running,
        "placed": run.observer.placements(),
        "checked": sum(run.checkers.checked.values()),
        "violations": [*violations, *halts][:10],
        "faults": sum(run.faults.injected.values()),
    }
    if is_cut_short:
        figures["cut_short"] = True
    if is_whole:
        figures["goals_missed"] = [f"{g.text}: {g.measured}" for g in goals if not g.is_met]
    return figures


def in_own_process(name: str, *, scale: float, until_s: int, budget_s: int) -> dict[str, Any]:
    """Play one scenario in a fresh process on one core."""
    command = [
        sys.executable, "-m", "bench.sim", "--one", name, "--scale", repr(scale),
        "--until-s", str(until_s), "--budget-s", str(budget_s),
    ]  # fmt: skip
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return {"violations": [f"the process ended with code {done.returncode}"], "sim_s": 0.0}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(name: str, figures: dict[str, Any]) -> None:
    words = [f"{key} {value}" for key, value in figures.items() if value not in ([], "")]
    print(f"{name:14} {'  '.join(words)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="play every scenario to its end")
    parser.add_argument("--reduced", action="store_true", help="small slices that prove nothing")
    parser.add_argument("--only", default="", help="these scenarios, separated by commas")
    parser.add_argument("--no-growth", action="store_true", help="leave the growth out")
    parser.add_argument("--scale", type=float, default=1.0, help="of all scenarios (1)")
    parser.add_argument("--one", choices=SLICES, help=argparse.SUPPRESS)
    parser.add_argument("--until-s", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--budget-s", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        until_s, budget_s = options.until_s, options.budget_s
        figures = play(options.one, scale=options.scale, until_s=until_s, budget_s=budget_s)
        print(json.dumps(figures))
        return 0
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(SLICES)
    if unknown := [name for name in names if name not in SLICES]:
        parser.error(f"--only: no scenario {unknown[0]!r}; there are {', '.join(SLICES)}")
    scale = REDUCED_SCALE if options.reduced else options.scale
    found: dict[str, Any] = {}
    for name in names:
        until_s, budget_s = (0, 0) if options.full else SLICES[name]
        if options.reduced:
            until_s = min(until_s or 180, 180)
        found[name] = in_own_process(name, scale=scale, until_s=until_s, budget_s=budget_s)
        show(name, found[name])
    if not options.no_growth and not options.reduced and not options.only:
        found["growth"] = growth(options.scale)
        show("growth", found["growth"])
    is_wrong = any(
        one.get("violations") or one.get("goals_missed")
        for name, one in found.items()
        if name != "growth"
    )
    sizes = {"scale": scale, "full": options.full}
    print(last_line(found, sizes=sizes, samples=len(names), is_reduced=options.reduced))
    if is_wrong:
        return 1
    return 3 if options.reduced else 0


def growth(scale: float) -> dict[str, float]:
    """Return the wall time of five minutes of steady-day by the number of nodes."""
    return {
        nodes: in_own_process(
            "steady-day", scale=part * scale, until_s=GROWTH_UNTIL_S, budget_s=180
        ).get("wall_s", 0.0)
        for nodes, part in GROWTH_SCALES.items()
    }


if __name__ == "__main__":
    sys.exit(main())
