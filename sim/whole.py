"""Whole federations under random faults, seed by seed: `python -m sim.whole --seeds N`.

Every agent as it is shipped, servers and clients, in three datacenters of two regions, with
operators at work (tests/sim/whole.hcl); sim.checkers look at them from outside. The
other seed programs know one machine and its promises well. This one judges what belongs to
none of them alone: how a server drives its parts, how a client and its servers agree.
"""

import argparse
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from sim.checkers import CHECKERS
from sim.fuzz import KINDS, draw_faults
from sim.run import Run, Summary
from sim.scenario import Scenario, read_scenario
from sim.seeds import INVARIANT, Outcome, Program, main

SCENARIO: Final = Path(__file__).resolve().parent.parent / "tests/sim/whole.hcl"
LONGEST_US: Final = 90_000_000  # long enough for the dead to be found, and replaced
FOUND_DEAD: Final = "an agent that was down was found dead"
HEALED: Final = "what a fault had stopped ran again"
DROPPED: Final = "messages were lost"
FULL: Final = "full: free some space"
LOOKED: Final = "looked at: {}"
SITUATIONS: Final = (
    FOUND_DEAD, HEALED, DROPPED, *(LOOKED.format(name) for name in CHECKERS),
)  # fmt: skip


@cache
def _scenario() -> Scenario:
    return read_scenario(SCENARIO.read_text("utf-8"), str(SCENARIO), str(SCENARIO.parent))


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play the scenario with a seed's faults."""
    scenario = _scenario()
    faults = draw_faults(scenario, seed, LONGEST_US) if options.has_faults else []
    summary = Run(msgspec.structs.replace(scenario, faults=faults), seed).play()
    return Outcome(
        violations=_violations(summary),
        faults=Counter(summary.faults),
        situations=_situations(summary),
        acknowledged=summary.jobs_acknowledged,
    )


def _violations(summary: Summary) -> list[tuple[str, str]]:
    found = []
    for said in summary.violations:
        at, _, text = said.partition(" ")
        checker, _, what = text.partition(": ")
        found.append((checker, f"{what} ({at})"))
    found += [(INVARIANT, text) for text in summary.halts]
    # A leader whose disk is full says so, and whoever submits may give up: then no goal is owed.
    if not summary.jobs_refused:
        found += [
            ("goal", f"{goal.text} (found: {goal.measured})")
            for goal in summary.goals
            if not goal.is_met
        ]
    found += [
        ("acknowledged", f"{job}: {why}")
        for job, why in summary.jobs_refused.items()
        if FULL not in why
    ]
    return found


def _situations(summary: Summary) -> Counter[str]:
    found = Counter({
        FOUND_DEAD: len(summary.detection_s),
        HEALED: len(summary.heal_s),
        DROPPED: sum(summary.lost.values()),
    })  # fmt: skip
    found.update({LOOKED.format(name): times for name, times in summary.checked.items()})
    return found


PROGRAM: Final = Program(
    name="sim.whole",
    about="Play whole federations of shipped agents under random faults.",
    faults=tuple(dict.fromkeys(KINDS)),
    situations=SITUATIONS,
    run_seed=run_seed,
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
