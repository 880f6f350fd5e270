"""What the scheduler knows: an immutable picture of nodes, one job and its allocations.

Everything that decides works on these views and never on the live state, so a problem
can be solved in another thread, in a test without a state, or on a hypothetical cluster.
`capture.py` is the only module that reads `core.state`.

Nodes are named by ordinal (row of the node table), allocations by their row in `AllocRows`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from core.model.allocation import Allocation
from core.model.evaluation import Deployment, DeploymentStatus, Evaluation
from core.model.ids import GENERATION_BITS, AllocKey, alloc_id
from core.model.job import Job, TaskGroup
from core.model.node import Node

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GENERATIONS = 1 << GENERATION_BITS  # then they begin anew
# A rollout over several regions that has not begun here, or was given up.
_HOLDS = (DeploymentStatus.PENDING, DeploymentStatus.FAILED, DeploymentStatus.CANCELLED)


class NodeClasses:
    """The computed classes among the nodes, each with one node that speaks for it.

    Classes are numbered by their ids in ascending order; purged nodes form one of their
    own, whose `nodes` entry is None.
    """

    def __init__(self, class_id: Ints, records: list[Node | None]) -> None:
        self.ids, first, of_node = np.unique(class_id, return_index=True, return_inverse=True)
        self.of_node: Ints = of_node.astype(np.int64)  # class number by ordinal
        self.nodes = [records[ordinal] for ordinal in first.tolist()]

    def __len__(self) -> int:
        return len(self.nodes)


class NamedClasses:
    """The classes that operators gave nodes, in the order of their first node; "" is none."""

    def __init__(self, records: list[Node | None]) -> None:
        numbers: dict[str, int] = {}
        of_node = [
            numbers.setdefault("" if node is None else node.node_class, len(numbers))
            for node in records
        ]
        self.names = list(numbers)
        self.of_node: Ints = np.array(of_node, np.int64)


@dataclass(slots=True)
class NodesView:
    """Columns over node ordinals.

    What is used counts what allocations hold: from their placement until their client
    reports them terminal, or they are given up as lost.

    Invariant: `*_used` never exceeds `*_capacity` on a node whose resources did not shrink.
    """

    records: list[Node | None]  # None: an ordinal whose node was purged
    cpu_capacity: Ints  # MHz
    memory_capacity: Ints  # MiB
    disk_capacity: Ints  # MiB
    cpu_used: Ints
    memory_used: Ints
    disk_used: Ints
    is_ready: Mask  # ready, eligible and not draining
    class_id: Ints  # nodes of one computed class are alike in all but unique attributes
    ports_used: dict[int, int] = field(default_factory=dict)  # by ordinal: bit n = port n taken
    # By ordinal: names of the cores and devices that are held (core.model.units).
    units_held: dict[int, frozenset[str]] = field(default_factory=dict)

    class_keys: dict[int, str] = field(default_factory=dict)  # name by class id
    version: int = -1  # index of the last change of a node, usage apart; -1 = not known
    _classes: NodeClasses | None = None
    _node_classes: "NamedClasses | None" = None

    def __len__(self) -> int:
        return len(self.records)

    def is_of_same_nodes(self, other: "NodesView") -> bool:
        """Whether nothing but usage is different (core.scheduler.capture shares the rest)."""
        return self.records is other.records

    @property
    def classes(self) -> NodeClasses:
        if self._classes is None:
            self._classes = NodeClasses(self.class_id, self.records)
        return self._classes

    @property
    def node_classes(self) -> "NamedClasses":
        if self._node_classes is None:
            self._node_classes = NamedClasses(self.records)
        return self._node_classes


@dataclass(slots=True)
class AllocRows:
    """One job's allocations that the state still holds, in columns of equal length."""

    group: Ints  # ordinal of the group's name in the job
    index: Ints  # share index
    generation: Ints
    node: Ints  # node ordinal
    desired: Ints  # core.model.allocation.Desired
    client_status: Ints  # core.model.allocation.ClientStatus
    job_version: Ints
    health: Ints  # of its deployment: -1 not said, 0 unhealthy, 1 healthy
    is_deployed: Mask  # belongs to the newest deployment
    is_newest: Mask  # of the generations of its index
    is_canary: Mask  # of a rollout that is not promoted
    asks: Ints  # [rows, 3]: cpu, memory, disk that it holds
    ports: dict[int, list[int]] = field(default_factory=dict)  # host ports, rows that have any
    units: dict[int, frozenset[str]] = field(default_factory=dict)  # cores and devices, likewise

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def empty() -> "AllocRows":
        """Return the rows of a job that has none."""
        none, no = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        asks = none.reshape(0, 3)
        return AllocRows(none, none, none, none, none, none, none, none, no, no, no, asks)


@dataclass(slots=True)
class JobView:
    """One job with all that its reconciliation needs."""

    namespace: str
    id: str
    uid: str
    job: Job | None  # None: purged
    datacenter_id: str
    ordinal: int  # of the uid, part of each allocation's key
    group_names: dict[int, str]  # by ordinal, of every group that has rows
    indices: dict[str, list[tuple[int, int]]]  # the share: half-open ranges; {} = all
    rows: AllocRows
    details: dict[int, Allocation] = field(default_factory=dict)  # rows that need a closer look
    scores: dict[int, float] = field(default_factory=dict)  # of rows that share their index
    versions: dict[int, Job] = field(default_factory=dict)  # older versions still running
    deployment: Deployment | None = None  # the newest
    node_gone: dict[int, str] = field(default_factory=dict)  # ordinal -> "down" | "disconnected"
    generations: dict[str, tuple[Ints, Ints]] = field(default_factory=dict)  # index, last given
    blocked: list[Evaluation] = field(default_factory=list)  # its blocked evaluations
    retries: frozenset[str] = frozenset()  # ids of those that wait to try a failed one again

    def alloc_id(self, row: int) -> str:
        """Return the id of the allocation at `row`."""
        rows = self.rows
        key = AllocKey(
            self.ordinal, int(rows.group[row]), int(rows.index[row]), int(rows.generation[row])
        )
        return alloc_id(key, self.datacenter_id)

    def next_generations(self, group: str, indices: Ints) -> Ints:
        """Return the generation of each index's next allocation; 0 for a new index."""
        result = np.zeros(len(indices), np.int64)
        known, given = self.generations.get(group, (result[:0], result[:0]))
        if len(known):
            places = np.minimum(np.searchsorted(known, indices), len(known) - 1)
            is_known = known[places] == indices
            result[is_known] = (given[places[is_known]] + 1) % GENERATIONS
        return result

    def group(self, name: str) -> TaskGroup | None:
        """Return the group of the newest version, None when it has none of that name."""
        groups = self.job.task_groups if self.job is not None else None
        return next((group for group in groups or [] if group.name == name), None)

    @property
    def is_held(self) -> bool:
        """Whether nothing may follow the newest version here: other regions go first.

        Of a job over several regions: its turn has not come, or never will. What runs stays in
        its version, and is replaced in it.
        """
        deployment, job = self.deployment, self.job
        return (
            deployment is not None
            and job is not None
            and deployment.is_multiregion
            and deployment.status in _HOLDS
            and deployment.job_version == (job.version or 0)
            and deployment.job_create_index == (job.create_index or 0)
        )

    @property
    def is_stopped(self) -> bool:
        """Whether it runs nothing: stopped, purged, or only a template of its children."""
        job = self.job
        if job is None or job.stop:
            return True
        return job.is_template


@dataclass(slots=True, frozen=True)
class SchedulerConfig:
    """What `operator scheduler set-config` sets, as far as placement asks for it."""

    algorithm: str = "binpack"  # of core.scheduler.rank.ALGORITHMS
    has_memory_oversubscription: bool = False
    preempting: frozenset[str] = frozenset({"system"})  # job types that may displace others

    @staticmethod
    def of(config: dict[str, Any] | None) -> "SchedulerConfig":
        """Read Nomad's `SchedulerConfiguration`; what is not said keeps its default."""
        said = config or {}
        return SchedulerConfig(
            algorithm=said.get("SchedulerAlgorithm") or "binpack",
            has_memory_oversubscription=bool(said.get("MemoryOversubscriptionEnabled")),
            preempting=_preempting(said.get("PreemptionConfig")),
        )


def _preempting(said: dict[str, Any] | None) -> frozenset[str]:
    switches = {
        "system": "SystemSchedulerEnabled",
        "sysbatch": "SysBatchSchedulerEnabled",
        "batch": "BatchSchedulerEnabled",
        "service": "ServiceSchedulerEnabled",
    }
    return frozenset(
        kind
        for kind, name in switches.items()
        if (kind == "system" if said is None else bool(said.get(name)))
    )
