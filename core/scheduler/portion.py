"""What of a group is placed alike, and the rows of a plan as they come."""

from dataclasses import dataclass, field
from typing import Any

from core.model.job import Job, TaskGroup
from core.scheduler.place import Placed, Wish
from core.scheduler.reconcile import Replacement
from core.scheduler.view import Ints


@dataclass(slots=True)
class Portion:
    """What of one group is placed alike: one version, canaries or not."""

    job: Job
    group: TaskGroup
    fresh: Ints  # indices without an allocation to replace, ascending
    replacements: list[Replacement] = field(default_factory=list)
    is_canary: bool = False


@dataclass(slots=True)
class Filled:
    """The rows of a placement batch as they come."""

    index: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    trackers: dict[int, Any] = field(default_factory=dict)
    missing: int = 0
    unplaced: list[tuple[int, str]] = field(default_factory=list)  # index, id it replaces
    displaced: list[tuple[int, list[int]]] = field(default_factory=list)  # position, victims

    def add(self, wish: Wish, indices: Ints, placed: Placed) -> None:
        self.index += indices.tolist()
        self.node += placed.nodes.tolist()
        self.score += placed.scores.tolist()
        for ports in placed.ports:
            self.ports += [*wish.ask.static_ports, *ports]
