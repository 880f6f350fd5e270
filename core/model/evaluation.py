"""Evaluations and deployments: the scheduler's to-do list and the record of a rollout."""

from enum import StrEnum
from typing import Any

from core.model.allocation import ZERO_TIME, AllocMetric
from core.model.record import Record


class EvalStatus(StrEnum):
    PENDING = "pending"
    BLOCKED = "blocked"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "canceled"


class EvalTrigger(StrEnum):
    JOB_REGISTER = "job-register"
    JOB_DEREGISTER = "job-deregister"
    PERIODIC_JOB = "periodic-job"
    NODE_DRAIN = "node-drain"
    NODE_UPDATE = "node-update"
    ALLOC_STOP = "alloc-stop"
    SCHEDULED = "scheduled"
    ROLLING_UPDATE = "rolling-update"
    DEPLOYMENT_WATCHER = "deployment-watcher"
    FAILED_FOLLOW_UP = "failed-follow-up"
    MAX_PLANS = "max-plan-attempts"
    RETRY_FAILED_ALLOC = "alloc-failure"
    QUEUED_ALLOCS = "queued-allocs"
    PREEMPTION = "preemption"
    SCALING = "job-scaling"
    RECONNECT = "reconnect"
    MAX_DISCONNECT_TIMEOUT = "max-disconnect-timeout"


class Evaluation(Record):
    id: str
    priority: int = 50
    type: str = "service"
    triggered_by: EvalTrigger = EvalTrigger.JOB_REGISTER
    namespace: str = "default"
    job_id: str = ""
    job_modify_index: int = 0
    node_id: str = ""
    node_modify_index: int = 0
    deployment_id: str = ""
    status: EvalStatus = EvalStatus.PENDING
    status_description: str = ""
    wait_ns: int = 0
    wait_until: str = ZERO_TIME
    wait_until_us: int = 0  # the same in wall-clock microseconds; 0 = at once
    next_eval: str = ""
    previous_eval: str = ""
    blocked_eval: str = ""
    failed_tg_allocs: dict[str, AllocMetric] | None = None
    plan_annotations: dict[str, Any] | None = None
    class_eligibility: dict[str, bool] | None = None
    escaped_computed_class: bool = False
    quota_limit_reached: str = ""
    annotate_plan: bool = False
    queued_allocations: dict[str, int] | None = None
    snapshot_index: int = 0
    create_index: int = 0
    modify_index: int = 0
    create_time_ns: int = 0
    modify_time_ns: int = 0


class DeploymentStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    SUCCESSFUL = "successful"
    CANCELLED = "cancelled"
    PENDING = "pending"
    BLOCKED = "blocked"
    UNBLOCKING = "unblocking"


class DeploymentState(Record):
    placed_canaries: list[str] | None = None
    auto_revert: bool = False
    auto_promote: bool = False
    progress_deadline_ns: int = 0
    require_progress_by: str = ZERO_TIME
    promoted: bool = False
    desired_canaries: int = 0
    desired_total: int = 0
    placed_allocs: int = 0
    healthy_allocs: int = 0
    unhealthy_allocs: int = 0


class Deployment(Record):
    id: str
    namespace: str
    job_id: str
    job_version: int = 0
    job_modify_index: int = 0
    job_spec_modify_index: int = 0
    job_create_index: int = 0
    is_multiregion: bool = False
    task_groups: dict[str, DeploymentState] | None = None
    status: DeploymentStatus = DeploymentStatus.RUNNING
    status_description: str = "Deployment is running"
    eval_priority: int = 50
    create_index: int = 0
    modify_index: int = 0
    create_time_ns: int = 0
    modify_time_ns: int = 0
