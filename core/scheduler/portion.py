"""What of a group is placed alike, and the rows of a plan as they come."""

from dataclasses import dataclass, field
from typing import Any

from core.model.job import Job, TaskGroup
from core.model.units import Units
from core.scheduler.decisions import Replacement
from core.scheduler.place import Placed, Wish
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
    units: list[Units] = field(default_factory=list)  # [] where none are asked for
    missing: int = 0
    stayed: list[int] = field(default_factory=list)  # nodes of those not replaced for want of room
    unplaced: list[tuple[int, str]] = field(default_factory=list)  # index, id it replaces
    displaced: list[tuple[int, list[int]]] = field(default_factory=list)  # position, victims

    def only(self, rows: list[int], ports: int) -> "Filled":
        """Return these rows alone; `ports` is how many each has."""
        trackers = {at: self.trackers[row] for at, row in enumerate(rows) if row in self.trackers}
        return Filled(
            index=[self.index[row] for row in rows],
            node=[self.node[row] for row in rows],
            score=[self.score[row] for row in rows],
            ports=[port for row in rows for port in self.ports[row * ports : (row + 1) * ports]],
            previous=[self.previous[row] for row in rows],
            trackers=trackers,
            units=[self.units[row] for row in rows] if self.units else [],
        )

    def add(self, wish: Wish, indices: Ints, placed: Placed) -> None:
        self.index += indices.tolist()
        self.node += placed.nodes.tolist()
        self.score += placed.scores.tolist()
        for ports in placed.ports:
            self.ports += [*wish.ask.static_ports, *ports]
        self.units += placed.units
