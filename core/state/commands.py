"""Every command of a datacenter's log.

A log entry is `format byte, schema byte, msgpack of Entry`. Only what stands here
changes state, and apply knows nothing but the entry: log time is
`max(entry.wall_us, previous log time)`. A new command raises the schema number; a
replica that does not know a command stops with a clear message rather than diverge.
"""

from typing import Any

import msgspec

from core.model.allocation import AllocDeploymentStatus, DesiredTransition, TaskState
from core.model.evaluation import Deployment, Evaluation
from core.model.job import Job
from core.model.node import DrainStrategy, Node
from core.model.plan import Plan
from core.model.service import ServiceRegistration
from core.state.packed_reports import PackedReports


class Command(msgspec.Struct, tag=True, tag_field="@", kw_only=True, omit_defaults=True, gc=False):
    """Base of all commands."""


class Bootstrap(Command):
    """First entry of a datacenter: its identity, never changed after."""

    datacenter_id: str
    region: str
    datacenter: str
    is_authority: bool  # first datacenter of its region
    region_origin: str = ""  # id of the region's first datacenter; "" = settled later


class SettleOrigin(Command):
    """What Bootstrap left open: the id of the region's first datacenter. Never changed after."""

    origin: str


class Measure(Command):
    """Bytes that change nothing: `operator raft measure` times how they are committed."""

    data: bytes


class Barrier(Command):
    """A new leader's first entry: commits all that came before."""


class RaiseSchema(Command):
    """All replicas support this schema: entries may use it from here on. Never lowered."""

    schema: int


class RegisterNode(Command):
    node: Node


class SetNodeStatus(Command):
    node_id: str
    status: str
    description: str = ""
    evaluations: list[Evaluation] = []


class SetNodeEligibility(Command):
    node_id: str
    eligibility: str
    evaluations: list[Evaluation] = []


class SetNodeDrain(Command):
    node_id: str
    drain: DrainStrategy | None
    mark_eligible: bool = False
    evaluations: list[Evaluation] = []


class PurgeNode(Command):
    node_id: str
    evaluations: list[Evaluation] = []


class RegisterJob(Command):
    """Create or update a job with its share here. `indices` is the share, by group."""

    job: Job  # canonical, with uid; version and indexes are set by apply
    # half-open ranges; {} = what it was before, of a new job [0, count) each
    indices: dict[str, list[tuple[int, int]]] = {}
    evaluation: Evaluation | None = None
    deployment: Deployment | None = None
    submission: dict[str, Any] | None = None
    check_index: int | None = None  # job modify index the caller saw; 0 = must not exist

    @property
    def eval_id(self) -> str:
        return self.evaluation.id if self.evaluation is not None else ""


class RefuseCall(Command):
    """A write from another datacenter was refused: a copy of it that is late is refused too."""

    status: int
    error: str


class DeregisterJob(Command):
    namespace: str
    job_id: str
    purge: bool = False
    evaluation: Evaluation | None = None
    uid: str = ""  # of the job that is meant: another one of its name stays; "" = any

    @property
    def eval_id(self) -> str:
        return self.evaluation.id if self.evaluation is not None else ""


class MarkLaunch(Command):
    """A periodic job was launched, or the launch was skipped: what is due counts from here."""

    namespace: str
    job_id: str
    launched_us: int


class SetJobStability(Command):
    namespace: str
    job_id: str
    version: int
    stable: bool


class TagJobVersion(Command):
    """Name a version, or take a name off; a version that has one is kept."""

    namespace: str
    job_id: str
    name: str
    version: int  # -1 when a name is taken off
    tag: dict[str, Any] | None  # Nomad's {Name, Description, TaggedTime}; None takes it off


class UpsertEvaluations(Command):
    evaluations: list[Evaluation]


class DeleteEvaluations(Command):
    ids: list[str]


class ApplyPlans(Command):
    """Several evaluations' plans in one entry (group commit)."""

    plans: list[Plan]


class AllocUpdate(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What a client reports of one of its allocations."""

    alloc_id: str
    client_status: int
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    deployment_status: AllocDeploymentStatus | None = None
    deployment_id: str = ""  # the deployment that this status was observed for
    network_status: dict[str, Any] | None = None


class UpdateAllocations(Command):
    """Client reports, gathered over a short time, and the evaluations they cause."""

    updates: list[AllocUpdate]
    evaluations: list[Evaluation] = []
    packed: PackedReports | None = None  # those that say no more than many others do


class SetDesiredTransition(Command):
    """`alloc stop`, drain: ask the scheduler to move these allocations."""

    transitions: dict[str, DesiredTransition]
    evaluations: list[Evaluation] = []


class UpsertDeployments(Command):
    deployments: list[Deployment]
    evaluations: list[Evaluation] = []


class PutServices(Command):
    registrations: list[ServiceRegistration] = []
    removed: list[str] = []  # registration ids


class BootstrapACL(Command):
    """The first management token. Refused once one exists."""

    accessor_id: str
    secret_id: str
    create_time: str


class PutToken(Command):
    token: dict[str, Any]  # Nomad's ACLToken


class DeleteToken(Command):
    accessor_id: str


class SetSchedulerConfig(Command):
    config: dict[str, Any]


class SetAutopilotConfig(Command):
    """How the leader keeps the quorum: Nomad's AutopilotConfiguration."""

    config: dict[str, Any]
    check_index: int | None = None  # modify index that the caller saw


class RemoveServer(Command):
    """An operator took this server out of the quorum: it is not taken in again."""

    server_id: str


class Checkpoint(Command):
    """Change nothing: every replica hashes its state as it is after this entry."""


class StageSnapshot(Command):
    """Bytes of a snapshot that is to be restored; offset 0 begins anew."""

    restore_id: str
    offset: int
    data: bytes


class RestoreSnapshot(Command):
    """Take the state of the staged snapshot in place of this one."""

    restore_id: str
    digest: str  # SHA-256 of all staged bytes, hex
    is_forced: bool = False  # even if it is of another datacenter


class UpsertNodePool(Command):
    pool: dict[str, Any]  # Nomad's NodePool


class DeleteNodePool(Command):
    name: str


class UpsertQuota(Command):
    quota: dict[str, Any]  # Nomad's QuotaSpec


class DeleteQuota(Command):
    name: str


class UpsertNamespace(Command):
    namespace: dict[str, Any]  # Nomad's Namespace


class RecordScaling(Command):
    """A scaling event of a group: what happened, or what an autoscaler wants to be noted."""

    namespace: str
    job_id: str
    group: str
    event: dict[str, Any]  # Nomad's ScalingEvent without time and index


class CollectGarbage(Command):
    """Forget what ended before these log times."""

    job_before_us: int
    evaluation_before_us: int
    deployment_before_us: int
    node_before_us: int


class RecordCall(msgspec.Struct, omit_defaults=True):
    """Marks an entry as the execution of a caller's token: the first answer is kept 24 h."""

    call_id: str
    issued_us: int


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One log entry: commands that take effect together."""

    wall_us: int  # the leader's wall clock when it proposed
    commands: list[Any]  # of Command
    call: RecordCall | None = None
