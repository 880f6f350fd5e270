"""One placement of a plan, with all that is said of it."""

from dataclasses import dataclass

from core.model.job import Job, TaskGroup
from core.model.node import Node
from core.model.plan import PlacementBatch
from core.model.units import Units
from sim.scheduler.known import Known


@dataclass
class Row:
    """One placement of a plan."""

    batch: PlacementBatch
    job: Job
    group: TaskGroup
    node: Node
    ports: list[int]
    score: float
    previous: Known | None
    is_rescheduled: bool
    units: Units
    id: str  # of the allocation that it becomes
