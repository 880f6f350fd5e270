"""What the reconcilers decide about one group; the planner places, the rollout counts by it."""

from dataclasses import dataclass, field

import numpy as np

from core.model.allocation import RescheduleTracker
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
