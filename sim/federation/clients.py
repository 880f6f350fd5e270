"""The nodes of a datacenter: they run what its log says, and say what became of it.

A process is known by (job uid, group, index). It starts late and ends late, now and then
very late, and what is reported is what is: complete only once the process is gone. The
nodes hear of the log a little behind; while no server leads they hear nothing, and run on.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.model.allocation import (
    AllocDeploymentStatus,
    ClientStatus,
    Desired,
    TaskState,
    TaskStateName,
)
from core.model.ids import AllocKey, alloc_id, new_id
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from core.state.allocs import HELD
from core.state.commands import AllocUpdate, RegisterNode
from core.state.rollouts import ACTIVE_DEPLOYMENTS
from sim.federation.world import S

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter

SLOT_CPU: Final = 500  # MHz of one instance; a node has room for so many slots
SLOT_MEMORY: Final = 128  # MiB
RETRY_US: Final = 1 * S
PATIENT: Final = 0.9  # share of the processes that start and stop soon
SOON_US: Final = (20_000, 1_500_000)
LATE_US: Final = (4 * S, 25 * S)


class ProcessKey(NamedTuple):
    """What a process is, wherever it runs."""

    uid: str
    group: str
    index: int  # type: ignore[assignment]


class Phase(Enum):
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    OVER = auto()


@dataclass(slots=True)
class Run:
    """One allocation on its node."""

    key: AllocKey
    process: ProcessKey
    node: Node
    phase: Phase = Phase.STARTING
    is_failed: bool = False
    told: ClientStatus | None = None

    @property
    def status(self) -> ClientStatus:
        if self.phase is Phase.OVER:
            return ClientStatus.FAILED if self.is_failed else ClientStatus.COMPLETE
        return ClientStatus.PENDING if self.phase is Phase.STARTING else ClientStatus.RUNNING


@dataclass
class Clients:
    """All nodes of one datacenter."""

    datacenter: "Datacenter"
    slots: int
    runs: dict[AllocKey, Run] = field(default_factory=dict)
    lag_us: tuple[int, int] = (5_000, 300_000)
    is_late: bool = True  # some processes start or stop very late

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.datacenter.world.seed}/{self.datacenter.id}/clients")
        self._is_looking = False
        self._is_telling = False
        count = min(self._rng.choice((1, 2)), max(1, self.slots))
        sizes = [self.slots // count] * count
        sizes[0] += self.slots - sum(sizes)
        self.nodes = [self._node(number, size) for number, size in enumerate(sizes)]

    def _node(self, number: int, slots: int) -> Node:
        return Node(
            id=new_id(self._rng, self.datacenter.id),
            secret_id=f"secret{number}",
            name=f"n{number}",
            datacenter=self.datacenter.name,
            node_pool="default",
            status=NodeStatus.READY,
            attributes={"kernel.name": "linux"},
            drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
            node_resources=NodeResources(
                cpu=NodeCpuResources(cpu_shares=slots * SLOT_CPU),
                memory=NodeMemoryResources(memory_mb=slots * SLOT_MEMORY),
                disk=NodeDiskResources(disk_mb=1_000_000),
            ),
        )

    def registrations(self) -> list[RegisterNode]:
        return [RegisterNode(node=node) for node in self.nodes]

    def mend(self) -> None:
        self.lag_us = (5_000, 300_000)
        self.is_late = False
        self.look_soon()

    # --- hearing ------------------------------------------------------------------------

    def look_soon(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self.datacenter.world.after(self._rng.randint(*self.lag_us), self._look)

    def _look(self) -> None:
        self._is_looking = False
        datacenter = self.datacenter
        if datacenter.leader is None:
            return  # the next leader is looked at
        allocs, columns = datacenter.state.allocs, datacenter.state.allocs.columns
        rows = allocs.rows()
        rows = rows[HELD[columns.client[rows]]]
        for row in rows.tolist():
            key = allocs.key_of(row)
            run = self.runs.get(key)
            if run is None:
                run = self._take(row, key)
            if columns.desired[row] != Desired.RUN:
                self._stop(run)
        self._tell()

    def _take(self, row: int, key: AllocKey) -> Run:
        state = self.datacenter.state
        record = state.allocs.job_record(row)
        node = state.nodes.record(int(state.allocs.columns.node[row]))
        assert node is not None
        process = ProcessKey(record.uid, record.groups[key.group], key.index)
        run = self.runs[key] = Run(key, process, node)
        if state.allocs.columns.desired[row] == Desired.RUN:
            self._after(lambda: self._start(run))
        return run

    # --- processes ------------------------------------------------------------------------

    def _after(self, action: Callable[[], None]) -> None:
        is_late = self.is_late and self._rng.random() > PATIENT
        delay_us = self._rng.randint(*(LATE_US if is_late else SOON_US))
        if is_late:
            self.datacenter.world.faults["process late"] += 1
        self.datacenter.world.after(delay_us, action)

    def _start(self, run: Run) -> None:
        if run.phase is not Phase.STARTING:
            return
        # Not beside the one that it replaces here.
        if any(
            other.process == run.process and other.phase in (Phase.RUNNING, Phase.STOPPING)
            for other in self.runs.values()
        ):
            self.datacenter.world.after(200_000, lambda: self._start(run))
            return
        run.phase = Phase.RUNNING
        self.datacenter.world.watch.on_started(self.datacenter, run.process)
        self._tell()

    def _stop(self, run: Run) -> None:
        if run.phase is Phase.STARTING:
            run.phase = Phase.OVER  # it never began
        elif run.phase is Phase.RUNNING:
            run.phase = Phase.STOPPING
            self._after(lambda: self._end(run))

    def _end(self, run: Run) -> None:
        if run.phase in (Phase.RUNNING, Phase.STOPPING):
            run.phase = Phase.OVER
            self.datacenter.world.watch.on_ended(self.datacenter, run.process)
            self._tell()

    def fail_one(self) -> bool:
        """Let a process fail; False when none runs."""
        running = [run for run in self.runs.values() if run.phase is Phase.RUNNING]
        if not running:
            return False
        run = self._rng.choice(running)
        run.is_failed = True
        self._end(run)
        return True

    def die(self) -> None:
        """The machines are gone, and with them all that ran there."""
        for run in self.runs.values():
            if run.phase in (Phase.RUNNING, Phase.STOPPING):
                self.datacenter.world.watch.on_ended(self.datacenter, run.process)
            run.phase = Phase.OVER
        self.runs.clear()

    def running(self) -> dict[ProcessKey, int]:
        """Return how many processes there are of each, those that are being stopped too."""
        found: dict[ProcessKey, int] = {}
        for run in self.runs.values():
            if run.phase in (Phase.RUNNING, Phase.STOPPING):
                found[run.process] = found.get(run.process, 0) + 1
        return found

    # --- telling ----------------------------------------------------------------------------

    def _tell(self) -> None:
        leader = self.datacenter.leader
        if self._is_telling or leader is None:
            return
        news = [run for run in self.runs.values() if run.told is not run.status]
        news = [run for run in news if run.status is not ClientStatus.PENDING]
        if not news:
            return
        node = news[0].node
        told = [(run, run.status) for run in news if run.node.id == node.id]
        self._is_telling = True
        life, term = leader.life, self.datacenter.term

        def replied(body: Any, error: str) -> None:
            self._is_telling = False
            if not error:
                for run, status in told:
                    run.told = status
                    if run.phase is Phase.OVER and status is run.status:
                        self.runs.pop(run.key, None)
            self.datacenter.world.after(RETRY_US if error else 1_000, self._tell)

        def give_up() -> None:
            # Whoever was told is gone.
            if self._is_telling and (leader.life, self.datacenter.term) != (life, term):
                self._is_telling = False
                self._tell()
            elif self._is_telling:
                self.datacenter.world.after(RETRY_US, give_up)

        body = {
            "node_id": node.id,
            "secret_id": node.secret_id,
            "updates": [self._update_of(run) for run, _ in told],
        }
        self.datacenter.world.after(RETRY_US, give_up)

        def call() -> None:
            leader.server.nodes.on_call("Node.Update", body, replied)

        leader.run(call)

    def _update_of(self, run: Run) -> AllocUpdate:
        is_over = run.phase is Phase.OVER
        deployment_id = self._deployment_of(run)
        health = None
        if deployment_id and (run.is_failed or not is_over):
            health = AllocDeploymentStatus(healthy=not run.is_failed)
        state = TaskStateName.DEAD if is_over else TaskStateName.RUNNING
        return AllocUpdate(
            alloc_id=alloc_id(run.key, self.datacenter.id),
            client_status=run.status,
            task_states={"task": TaskState(state=state, failed=run.is_failed)},
            deployment_status=health,
            deployment_id=deployment_id if health is not None else "",
        )

    def _deployment_of(self, run: Run) -> str:
        """Return the rollout that an allocation belongs to, "" for none."""
        state = self.datacenter.state
        record = state.jobs.by_uid(run.process.uid)
        if record is None:
            return ""
        latest = state.deployments.latest_of_job(record.namespace, record.id)
        row = state.allocs.row_of(alloc_id(run.key, self.datacenter.id))
        if row is None or latest is None or latest.status not in ACTIVE_DEPLOYMENTS:
            return ""
        return state.allocs.allocation(row).deployment_id or ""
