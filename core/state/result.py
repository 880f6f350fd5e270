"""What `State.apply` answers."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class CommandResult(msgspec.Struct, omit_defaults=True):
    """The outcome of one command. `value` is plain data: it is kept for a repeated call."""

    error: str = ""  # "" = carried out
    status: int = 200  # HTTP status of the error
    value: Any = None

    @property
    def is_error(self) -> bool:
        return bool(self.error)


class Change(NamedTuple):
    """Something that apply changed, for blocking queries and the event stream.

    Allocations come as `rows` of the allocation table, all others as `key`. `type` is
    the event type of Nomad's stream ("JobRegistered", "AllocationUpdated", ...).
    """

    table: str  # as in State.table_index
    type: str
    key: str = ""
    namespace: str = ""
    rows: Rows | None = None


class DroppedRows(msgspec.Struct, omit_defaults=True):
    """Placements of a plan that no longer held: the planner makes a follow-up of them.

    `rows` counts within batch number `batch` of plan number `plan`; `reasons` has one
    text a row ("cpu", "memory", "disk", "ports", "node", "index", "job").
    """

    plan: int
    batch: int
    rows: list[int]
    reasons: list[str]


class PlanResult(msgspec.Struct, omit_defaults=True):
    """Outcome of one plan: an empty one means that all of it holds."""

    eval_id: str = ""
    placed: int = 0
    dropped: list[DroppedRows] = []
    withheld_stops: list[str] = []  # their replacement was dropped, so they run on
    refused_in_place: list[str] = []
    error: str = ""  # the whole plan was refused (job gone, evaluation unknown)


@dataclass(slots=True, frozen=True)
class Applied:
    """What one entry did. `is_repeat`: a caller's token came again, nothing was done."""

    index: int  # of a repeat, that of the first time
    results: list[CommandResult]
    changes: list[Change]
    is_repeat: bool = False
