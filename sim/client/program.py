"""One seed of `python -m sim.client`, and what the run as a whole must have shown."""

import argparse
from typing import Any, Final

from sim.client.story import ACTIONS, FIRST, Story
from sim.seeds import Outcome, Program, Violation

FAULTS: Final = (
    "servers out of reach",
    "answer lost",
    "stale list",
    "stale allocations",
    "node forgotten",
    "older state restored",
    "agent killed",
    "agent killed amid its effects",
    "agent shut down and started",
    "ended while nobody watched",
    "completion repeated",
    "start failed",
    "kill signal ignored",
    "no room for a folder",
)
SITUATIONS: Final = (
    "stopped",
    "stopped before it came",
    "waited for its predecessor",
    "updated in place",
    "restart",
    "restart delayed to the interval's end",
    "attempts used up",
    "failed for good",
    "killed by force",
    "restart by a user",
    "signal of a user",
    "check restarts its task",
    "service registered",
    "dispatch payload",
    "healthy",
    "unhealthy",
    "forgotten",
    "forgotten one destroyed",
    "finished one destroyed at the limit",
    "process taken up again",
    "start lost with the agent",
    "exit code lost",
    "agent forgot what it had not saved",
    "older list refused",
    "shut down with its tasks",
)


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play one seed; see `sim.seeds.Program`."""
    story = Story(seed, has_faults=options.has_faults)
    violations = []
    try:
        story.play()
    except Violation as violation:
        text = f"at {story.world.now_us / 1e6:.3f} s: {violation.text}"
        violations.append((violation.checker, text))
    return Outcome(violations, story.faults, story.situations, story.acknowledged)


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"allocations": list(FIRST), "actions": list(ACTIONS)}


PROGRAM: Final = Program(
    name="sim.client",
    about="One node's client machine under users, servers and crashes, judged from outside.",
    faults=FAULTS,
    situations=SITUATIONS,
    run_seed=run_seed,
    sizes=_sizes,
)
