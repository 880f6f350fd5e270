"""A datacenter's state with short ways to say what happens in it."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest

from core.model.allocation import AllocDeploymentStatus, ClientStatus, Desired, DesiredTransition
from core.model.evaluation import Evaluation
from core.model.ids import new_id
from core.model.job import (
    EphemeralDisk,
    Job,
    NetworkResource,
    Port,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
)
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from core.model.plan import Plan
from core.scheduler import Solution, prepare
from core.state.commands import (
    AllocUpdate,
    ApplyPlans,
    Bootstrap,
    DeregisterJob,
    Entry,
    RegisterJob,
    RegisterNode,
    SetDesiredTransition,
    SetNodeStatus,
    UpdateAllocations,
    UpsertEvaluations,
)
from core.state.result import Applied
from core.state.state import State

DATACENTER = "0123456789ab"
S = 1_000_000


class World:
    """One state, driven by commands; `settle` plays the server for one job."""

    def __init__(self, seed: int = 1) -> None:
        self.state = State()
        self.rng = random.Random(seed)
        self.now_us = 1_700_000_000 * S
        self._index = 0
        self.do(
            Bootstrap(datacenter_id=DATACENTER, region="eu", datacenter="dc1", is_authority=True)
        )

    def do(self, *commands: Any) -> Applied:
        self._index += 1
        entry = Entry(wall_us=self.now_us, commands=list(commands))
        applied = self.state.apply_entry(self._index, entry)
        assert not [result.error for result in applied.results if result.error]
        return applied

    def node(self, cpu: int = 4000, memory: int = 8192, **fields: Any) -> Node:
        """Register a ready node with raw_exec."""
        ports = fields.pop("ports", (20000, 32000))
        cores, devices = fields.pop("cores", 0), fields.pop("devices", None)
        attributes = {"kernel.name": "linux", **fields.pop("attributes", {})}
        node = Node(
            id=new_id(self.rng, DATACENTER),
            name=f"node-{len(self.state.nodes)}",
            status=NodeStatus.READY,
            attributes=attributes,
            drivers=fields.pop("drivers", {"raw_exec": DriverInfo(detected=True, healthy=True)}),
            node_resources=NodeResources(
                cpu=NodeCpuResources(
                    cpu_shares=cpu,
                    total_cpu_cores=cores,
                    reservable_cpu_cores=list(range(cores)),
                ),
                memory=NodeMemoryResources(memory_mb=memory),
                disk=NodeDiskResources(disk_mb=100_000),
                devices=devices,
                min_dynamic_port=ports[0],
                max_dynamic_port=ports[1],
            ),
            **fields,
        )
        self.do(RegisterNode(node=node))
        return node

    def set_status(self, node: Node, status: NodeStatus) -> None:
        self.do(SetNodeStatus(node_id=node.id, status=status))

    def register(self, job: Job, **fields: Any) -> Evaluation:
        evaluation = self.evaluation(job)
        self.do(RegisterJob(job=job, evaluation=evaluation, **fields))
        stored = self.state.evals.get(evaluation.id)
        assert stored is not None
        return stored

    def deregister(self, job: Job, *, purge: bool = False) -> Evaluation:
        evaluation = self.evaluation(job)
        self.do(
            DeregisterJob(
                namespace="default", job_id=job.id or "", purge=purge, evaluation=evaluation
            )
        )
        return evaluation

    def evaluation(self, job: Job, **fields: Any) -> Evaluation:
        return Evaluation(
            id=new_id(self.rng, DATACENTER),
            namespace=job.namespace or "default",
            job_id=job.id or "",
            type=job.type or "service",
            **fields,
        )

    def plan(self, *evaluations: Evaluation) -> Solution:
        problem = prepare(self.state, list(evaluations), now_us=self.now_us, rng=self.rng)
        return problem.solve()

    def run(self, *evaluations: Evaluation) -> Solution:
        """Plan and apply; nothing of a plan on the newest state may be refused."""
        solution = self.plan(*evaluations)
        applied = self.do(ApplyPlans(plans=solution.plans))
        for result in applied.results[0].value:
            assert not result.error and not result.dropped and not result.withheld_stops, result
        return solution

    def evaluate(self, job: Job) -> Solution:
        """A fresh evaluation of the job, planned and applied."""
        evaluation = self.evaluation(job)
        self.do(UpsertEvaluations(evaluations=[evaluation]))
        return self.run(evaluation)

    def rows(self, job: Job, *, is_live: bool = True) -> list[int]:
        record = self.state.jobs.get("default", job.id or "")
        record = record or self.state.jobs.by_uid(job.uid or "")
        if record is None:
            return []
        rows = self.state.allocs.rows_of_job(record.ordinal)
        if is_live:
            rows = rows[self.state.allocs.is_live(rows)]
        return [int(row) for row in rows]

    def by_index(self, job: Job) -> dict[int, int]:
        """Row by index of the live allocations; an index twice fails."""
        columns = self.state.allocs.columns
        found: dict[int, int] = {}
        for row in self.rows(job):
            index = int(columns.index[row])
            assert index not in found, f"index {index} twice"
            found[index] = row
        return found

    def node_of(self, row: int) -> int:
        return int(self.state.allocs.columns.node[row])

    def report(self, rows: list[int], status: ClientStatus, healthy: bool | None = None) -> None:
        said = None if healthy is None else AllocDeploymentStatus(healthy=healthy)
        self.do(
            UpdateAllocations(
                updates=[
                    AllocUpdate(
                        alloc_id=self.state.allocs.id_of(row),
                        client_status=status,
                        deployment_status=said,
                    )
                    for row in rows
                ]
            )
        )

    def end_stopped(self) -> None:
        """Clients report that all they were asked to stop has ended."""
        columns = self.state.allocs.columns
        rows = self.state.allocs.rows()
        over = (columns.desired[rows] != Desired.RUN) & (
            columns.client[rows] <= ClientStatus.RUNNING
        )
        if over.any():
            self.report([int(row) for row in rows[over]], ClientStatus.COMPLETE)

    def migrate(self, rows: list[int]) -> None:
        ids = [self.state.allocs.id_of(row) for row in rows]
        self.do(
            SetDesiredTransition(transitions={key: DesiredTransition(migrate=True) for key in ids})
        )

    def check_nodes(self) -> None:
        """No node over-committed, no port given twice."""
        state = self.state
        allocs, columns = state.allocs, state.allocs.columns
        rows = allocs.rows()
        rows = rows[allocs.is_live(rows)]
        held = np.zeros((len(state.nodes), 3), np.int64)
        if len(rows):
            np.add.at(held, columns.node[rows], allocs.asks(rows))
        assert (held[:, 0] <= state.nodes.cpu_capacity).all()
        assert (held[:, 1] <= state.nodes.memory_capacity).all()
        assert (held[:, 2] <= state.nodes.disk_capacity).all()
        seen: dict[int, int] = {}
        for row in rows.tolist():
            mask, node = allocs.port_mask(row), int(columns.node[row])
            assert not seen.get(node, 0) & mask, f"a port twice on node {node}"
            seen[node] = seen.get(node, 0) | mask


def job(name: str = "web", count: int = 1, **fields: Any) -> Job:
    """A canonical job of one group `main`; `group_*` fields go to the group."""
    cpu, memory = fields.pop("cpu", 500), fields.pop("memory", 256)
    ports = fields.pop("ports", [])
    static = fields.pop("static_ports", [])
    env = fields.pop("env", None)
    group = {key[6:]: fields.pop(key) for key in list(fields) if key.startswith("group_")}
    networks = []
    if ports or static:
        networks = [
            NetworkResource(
                dynamic_ports=[Port(label=label) for label in ports],
                reserved_ports=[Port(label=f"p{port}", value=port) for port in static],
            )
        ]
    group.setdefault(
        "reschedule_policy",
        ReschedulePolicy(
            attempts=0,
            interval_ns=0,
            delay_ns=30 * S * 1000,
            delay_function="exponential",
            max_delay_ns=3600 * S * 1000,
            unlimited=True,
        ),
    )
    return Job(
        **{
            "id": name,
            "name": name,
            "namespace": "default",
            "type": "service",
            "priority": 50,
            "datacenters": ["*"],
            "uid": f"uid-{name}",
            **fields,
        },
        task_groups=[
            TaskGroup(
                name="main",
                count=count,
                ephemeral_disk=EphemeralDisk(size_mb=10),
                networks=networks or None,
                tasks=[
                    Task(
                        name="task",
                        driver="raw_exec",
                        env=env,
                        resources=Resources(cpu=cpu, memory_mb=memory),
                    )
                ],
                **group,
            )
        ],
    )


def changed(old: Job, count: int | None = None, **task_fields: Any) -> Job:
    """A copy of a job with another count or other task fields."""
    assert old.task_groups and old.task_groups[0].tasks
    group = old.task_groups[0]
    task = msgspec.structs.replace(old.task_groups[0].tasks[0], **task_fields)
    group = msgspec.structs.replace(
        group, tasks=[task], count=group.count if count is None else count
    )
    return msgspec.structs.replace(old, task_groups=[group])


def is_quiet(solution: Solution) -> bool:
    """Whether the plans change no allocation."""
    return not any(_changes(plan) for plan in solution.plans)


def _changes(plan: Plan) -> bool:
    return bool(plan.placements or plan.stops or plan.in_place or plan.deployment)


class Kit:
    """The words of these tests, as one fixture: siblings can't be imported."""

    World = World
    S = S
    job = staticmethod(job)
    changed = staticmethod(changed)
    is_quiet = staticmethod(is_quiet)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def world() -> World:
    return World()
