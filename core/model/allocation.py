"""An allocation and what it went through.

The state keeps allocations as columns (core.state.allocations); `Allocation` is one
row made whole, for the API, the scheduler's slow paths and the client.
"""

from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from core.model.job import Job, NetworkResource, Resources
from core.model.record import Record

ZERO_TIME = "0001-01-01T00:00:00Z"


class Desired(IntEnum):
    """What the server wants of an allocation. Stored as one byte."""

    RUN = 0
    STOP = 1
    EVICT = 2


class ClientStatus(IntEnum):
    """What the client reports of an allocation. Stored as one byte."""

    PENDING = 0
    RUNNING = 1
    COMPLETE = 2
    FAILED = 3
    LOST = 4
    UNKNOWN = 5

    @property
    def is_terminal(self) -> bool:
        """Whether the client is done with it; UNKNOWN may come back."""
        return ClientStatus.COMPLETE <= self <= ClientStatus.LOST


class TaskStateName(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DEAD = "dead"


class TaskEvent(Record):
    type: str
    time_ns: int = 0
    display_message: str = ""
    details: dict[str, str] | None = None
    message: str = ""
    fails_task: bool = False
    exit_code: int = 0
    signal: int = 0
    kill_timeout_ns: int = 0
    kill_error: str = ""
    driver_error: str = ""
    restart_reason: str = ""
    start_delay_ns: int = 0


class TaskState(Record):
    state: TaskStateName = TaskStateName.PENDING
    failed: bool = False
    restarts: int = 0
    last_restart: str = ZERO_TIME
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    events: list[TaskEvent] | None = None


class AllocDeploymentStatus(Record):
    healthy: bool | None = None
    timestamp: str = ZERO_TIME
    canary: bool = False
    modify_index: int = 0


class PortMapping(Record):
    label: str
    value: int
    to: int = 0
    host_ip: str = msgspec.field(name="HostIP", default="")


class AllocatedCpu(Record):
    cpu_shares: int = msgspec.field(name="CpuShares", default=0)
    reserved_cores: list[int] | None = None


class AllocatedMemory(Record):
    memory_mb: int = 0
    memory_max_mb: int = 0


class AllocatedTask(Record):
    cpu: AllocatedCpu = msgspec.field(name="Cpu", default_factory=AllocatedCpu)
    memory: AllocatedMemory = msgspec.field(default_factory=AllocatedMemory)
    networks: list[NetworkResource] | None = None
    devices: list[dict[str, Any]] | None = None


class AllocatedShared(Record):
    disk_mb: int = 0
    networks: list[NetworkResource] | None = None
    ports: list[PortMapping] | None = None


class AllocatedResources(Record):
    tasks: dict[str, AllocatedTask]
    shared: AllocatedShared = msgspec.field(default_factory=AllocatedShared)


class NodeScoreMeta(Record):
    node_id: str
    scores: dict[str, float]
    norm_score: float


class AllocMetric(Record):
    """Why a placement went where it did, or nowhere: Nomad's `AllocationMetric`."""

    nodes_evaluated: int = 0
    nodes_filtered: int = 0
    nodes_in_pool: int = 0
    node_pool: str = "default"
    nodes_available: dict[str, int] | None = None
    class_filtered: dict[str, int] | None = None
    constraint_filtered: dict[str, int] | None = None
    nodes_exhausted: int = 0
    class_exhausted: dict[str, int] | None = None
    dimension_exhausted: dict[str, int] | None = None
    quota_exhausted: list[str] | None = None
    resources_exhausted: dict[str, Resources] | None = None
    scores: dict[str, float] | None = None
    allocation_time_ns: int = 0
    coalesced_failures: int = 0
    score_meta_data: list[NodeScoreMeta] | None = None


class RescheduleEvent(Record):
    reschedule_time_ns: int
    prev_alloc_id: str
    prev_node_id: str
    delay_ns: int = 0  # that the try had waited for; the next one's builds on it


class RescheduleTracker(Record):
    events: list[RescheduleEvent] | None = None
    last_reschedule: str = ""


class DesiredTransition(Record):
    migrate: bool | None = None
    reschedule: bool | None = None
    force_reschedule: bool | None = None
    no_shutdown_delay: bool | None = None


class Allocation(Record):
    """One allocation, whole: Nomad's `api.Allocation`.

    `index` is the share index in `name` (`job.group[index]`), `generation` counts the
    allocations that held that index before; both are part of the key (DESIGN, "Placement").
    """

    id: str
    namespace: str
    eval_id: str
    name: str
    node_id: str
    node_name: str
    job_id: str
    job: Job | None
    task_group: str
    index: int = msgspec.field(name="SeraiIndex", default=0)
    generation: int = msgspec.field(name="SeraiGeneration", default=0)
    job_version: int = msgspec.field(name="JobVersion", default=0)
    allocated_resources: AllocatedResources | None = None
    metrics: AllocMetric | None = None
    desired_status: str = "run"
    desired_description: str = ""
    desired_transition: DesiredTransition = msgspec.field(default_factory=DesiredTransition)
    client_status: str = "pending"
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    deployment_id: str = ""
    deployment_status: AllocDeploymentStatus | None = None
    followup_eval_id: str = msgspec.field(name="FollowupEvalID", default="")
    previous_allocation: str = ""
    next_allocation: str = ""
    reschedule_tracker: RescheduleTracker | None = None
    network_status: dict[str, Any] | None = None
    preempted_allocations: list[str] | None = None
    preempted_by_allocation: str = ""
    create_index: int = 0
    modify_index: int = 0
    alloc_modify_index: int = 0
    create_time_ns: int = 0
    modify_time_ns: int = 0
