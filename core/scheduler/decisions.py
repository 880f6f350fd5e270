"""What the reconcilers decide about one group; the planner places, the rollout counts by it."""

from dataclasses import dataclass, field

import numpy as np

from core.model.allocation import Desired, RescheduleTracker
from core.model.job import TaskGroup
from core.model.plan import AllocStop
from core.scheduler.view import Ints


@dataclass(slots=True)
class Replacement:
    """An index whose allocation is replaced. `stop` takes effect with the placement."""

    index: int
    row: int
    reason: str
    stop: AllocStop | None = None  # None: it is stopped or ended already
    tracker: RescheduleTracker | None = None
    is_failed: bool = False  # the node of `row` gets a penalty
    stops_anyway: bool = False  # also when there is no room for the new one
    version: int = -1  # of the new instance; -1 = the newest
    is_canary: bool = False


@dataclass(slots=True)
class Later:
    """A failed or disconnected allocation that is looked at again at `due_us`."""

    row: int
    due_us: int
    is_disconnect: bool = False


@dataclass(slots=True)
class GroupChanges:
    """The decisions for one group."""

    name: str
    group: TaskGroup | None
    fresh: Ints  # indices without an allocation to replace, ascending
    kept: Ints  # rows that stay as they are
    replacements: list[Replacement] = field(default_factory=list)
    in_place: list[int] = field(default_factory=list)  # rows
    stops: list[tuple[int, AllocStop]] = field(default_factory=list)  # with their rows
    later: list[Later] = field(default_factory=list)
    wanted: int = 0  # instances that the group shall have here
    waiting_updates: int = 0  # destructive updates that max_parallel or canaries hold back
    desired_canaries: int = 0  # 0: the rollout does not wait for canaries
    canaries: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # indices of new ones
    preemptions: int = 0  # allocations of other jobs that give way; the planner counts them
    is_complete: bool = False  # nothing left to do, now or later


def desired_updates(changes: list[GroupChanges]) -> dict[str, dict[str, int]]:
    """Return Nomad's `DesiredTGUpdates`: by group, how many allocations meet which fate."""
    return {one.name: _desired_updates(one) for one in changes}


def _desired_updates(one: GroupChanges) -> dict[str, int]:
    reasons = [replacement.reason for replacement in one.replacements]
    destructive, migrate = reasons.count("update"), reasons.count("migrate")
    return {
        "Ignore": int(one.kept.size) - len(one.in_place),
        "Place": int(one.fresh.size) + len(reasons) - destructive - migrate,
        "Migrate": migrate,
        "Stop": sum(stop.desired != Desired.RUN for _, stop in one.stops) + reasons.count("lost"),
        "InPlaceUpdate": len(one.in_place),
        "DestructiveUpdate": destructive,
        "Canary": int(one.canaries.size) + sum(r.is_canary for r in one.replacements),
        "Preemptions": one.preemptions,
        "RescheduleNow": reasons.count("reschedule"),
        "RescheduleLater": len(one.later),
    }
