"""The columns of the allocation table, and what only some allocations have."""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from core.model.allocation import AllocDeploymentStatus, DesiredTransition, RescheduleTracker
from core.state.columns import Columns

FLAG_LIVE_ROW: Final = 1  # the row holds an allocation
FLAG_CANARY: Final = 2

HELD: Final = np.array([True, True, False, False, False, True])  # by ClientStatus


class AllocColumns(Columns):
    NAME = "alloc_columns"
    DTYPES = {  # noqa: RUF012
        "flags": "|u1",
        "group_row": "<i4",  # row in GroupColumns: job and group
        "index": "<i4",
        "generation": "<u2",
        "node": "<i4",
        "desired": "|u1",
        "client": "|u1",
        "job_version": "<i4",
        "eval": "<i4",
        "deployment": "<i4",
        "resources": "<i4",
        "metrics": "<i4",
        "score": "<f4",
        "port_asks": "<i4",
        "task_shape": "<i4",
        "desired_text": "<i4",
        "client_text": "<i4",
        "create_index": "<i8",
        "modify_index": "<i8",
        "alloc_modify_index": "<i8",  # of changes by the server: what clients watch
        "create_time_us": "<i8",
        "modify_time_us": "<i8",
        "older": "<i4",
        "next_on_node": "<i4",
    }
    DERIVED = frozenset({"older", "next_on_node"})

    flags: npt.NDArray[np.uint8]
    group_row: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]
    generation: npt.NDArray[np.uint16]
    node: npt.NDArray[np.int32]
    desired: npt.NDArray[np.uint8]
    client: npt.NDArray[np.uint8]
    job_version: npt.NDArray[np.int32]
    eval: npt.NDArray[np.int32]
    deployment: npt.NDArray[np.int32]
    resources: npt.NDArray[np.int32]
    metrics: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    port_asks: npt.NDArray[np.int32]
    task_shape: npt.NDArray[np.int32]
    desired_text: npt.NDArray[np.int32]
    client_text: npt.NDArray[np.int32]
    create_index: npt.NDArray[np.int64]
    modify_index: npt.NDArray[np.int64]
    alloc_modify_index: npt.NDArray[np.int64]
    create_time_us: npt.NDArray[np.int64]
    modify_time_us: npt.NDArray[np.int64]
    older: npt.NDArray[np.int32]
    next_on_node: npt.NDArray[np.int32]


class AllocExtras(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What only some allocations have. A value: replaced, never changed in place."""

    previous: str = ""
    next: str = ""
    followup_eval_id: str = ""
    transition: DesiredTransition | None = None
    tracker: RescheduleTracker | None = None
    deployment_status: AllocDeploymentStatus | None = None
    network_status: dict[str, Any] | None = None
    preempted_by: str = ""
    preempted: list[str] | None = None
