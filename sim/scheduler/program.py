"""One seed of `python -m sim.scheduler`, and what the run as a whole must have shown."""

import argparse
from typing import Any, Final

from sim.scheduler.story import ACTIONS, NODES, Story
from sim.seeds import Outcome, Program, Violation

FAULTS: Final = (
    "node down",
    "node restarted before anybody noticed",
    "node cut off",
    "node back",
    "task failed",
    "node changed under running work",
    "node changed under a plan",
    "plan applied late",
    "leader lost",
)
SITUATIONS: Final = (
    "placed",
    "score verified",
    "no room anywhere",
    "waits for room",
    "blocked evaluation woken and done",
    "canary placed",
    "canaries promoted",
    "promoted by hand",
    "deployment successful",
    "deployment cancelled",
    "deployment failed",
    "deployment paused",
    "auto-revert",
    "progress deadline",
    "destructive update",
    "updated in place",
    "in-place update refused",
    "plan row dropped at apply",
    "stop withheld",
    "preemption",
    "rescheduled",
    "reschedule delayed",
    "lost",
    "marked unknown",
    "unknown and running again",
    "back beside its replacement",
    "drain",
    "drain ended",
    "allocation asked to move",
    "system job on a new node",
    "system deployment successful",
    "system canaries promoted",
    "core given",
    "device given",
    "job changed: processes",
    "job changed: count",
    "job changed: words",
    "job changed: group",
    "job changed: constraints",
    "job changed in haste",
    "job reverted",
    "job stopped",
    "job purged",
    "unhealthy by its deadline",
    "healthy only after a relapse",
    "old report came after the end",
    "periodic launch",
    "launch forbidden by its last",
    "quota changed",
    "waits for its quota",
    "woken by its quota",
    "dispatched",
    "dispatch of a stopped job refused",
    "allocation collected",
    "evaluation collected",
    "deployment collected",
    "job collected",
    "node collected",
    "forgotten node back",
)


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play one seed; see `sim.seeds.Program`."""
    story = Story(seed, has_faults=options.has_faults)
    violations = []
    try:
        story.play()
    except Violation as violation:
        text = f"at {story.leader.mono_us / 1e6:.3f} s: {violation.text}"
        violations.append((violation.checker, text))
    story.faults["plan applied late"] += story.is_slow  # drawn with the seed
    return Outcome(violations, story.faults, story.situations, story.acknowledged)


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"nodes": list(NODES), "actions": list(ACTIONS)}


PROGRAM: Final = Program(
    name="sim.scheduler",
    about="Datacenters under operators and faults, each plan held against a slow reference.",
    faults=FAULTS,
    situations=SITUATIONS,
    run_seed=run_seed,
    sizes=_sizes,
)
