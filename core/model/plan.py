"""A plan: what the scheduler proposes for one evaluation, in columns.

A placement costs a few bytes: all instances of a group placed together share one
`PlacementBatch`, whose columns are little-endian arrays as bytes (`numpy.frombuffer`).
The plan is checked once more when it is applied; what no longer fits is dropped
there and reported back, never over-committed.
"""

import msgspec

from core.model.allocation import AllocatedResources, AllocMetric, RescheduleTracker
from core.model.evaluation import Deployment, Evaluation
from core.model.units import Units


class PortAsk(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One port of a group: `static` 0 means dynamic."""

    label: str
    static: int = 0
    to: int = 0
    host_network: str = ""


class PlacementBatch(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """New allocations of one group: row i has index[i] and goes to node[i]."""

    group: str
    job_version: int
    index: bytes  # int32, share index
    generation: bytes  # uint16
    node: bytes  # int32, node ordinals of core.state
    ports: bytes = b""  # int32, row-major: len(port_asks) values a row
    port_asks: list[PortAsk] = []
    resources: AllocatedResources  # of each row, without its port numbers
    metrics: AllocMetric | None = None  # shared by the rows
    scores: bytes = b""  # float32, a row's normalised score
    previous: list[str] = []  # id that each row replaces, "" = none; [] = none at all
    trackers: dict[int, RescheduleTracker] = {}  # by row
    deployment_id: str = ""
    canary: bool = False
    units: list[Units] = []  # each row's cores and devices; [] = none are asked for


class AllocStop(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Stop one allocation, or give it up: `client_status` is set only for lost or unknown."""

    alloc_id: str
    desired: int  # core.model.allocation.Desired
    description: str
    client_status: int | None = None  # core.model.allocation.ClientStatus
    followup_eval_id: str = ""
    preempted_by: str = ""


class InPlaceUpdate(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Let a running allocation follow a newer job version without a restart."""

    alloc_id: str
    job_version: int
    resources: AllocatedResources
    deployment_id: str = ""


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """The answer to one evaluation, committed as part of `ApplyPlans`."""

    eval_id: str
    namespace: str
    job_id: str
    job_uid: str
    placements: list[PlacementBatch] = []
    stops: list[AllocStop] = []
    in_place: list[InPlaceUpdate] = []
    deployment: Deployment | None = None  # created or replaced
    evaluations: list[Evaluation] = []  # the finished one, and those that follow from it
