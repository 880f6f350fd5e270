"""A small datacenter to try commands on: two replicas of one log, compared at every step."""

from typing import Any

import numpy as np
import pytest

from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
)
from core.model.evaluation import Evaluation
from core.model.job import Job, TaskGroup
from core.model.node import (
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from core.model.plan import AllocStop, PlacementBatch, Plan, PortAsk
from core.state.commands import (
    AllocUpdate,
    ApplyPlans,
    Bootstrap,
    Command,
    Entry,
    RegisterJob,
    RegisterNode,
    UpdateAllocations,
)
from core.state.entry import encode_entry
from core.state.result import Applied, CommandResult, PlanResult
from core.state.state import State

START_US = 1_700_000_000_000_000
DATACENTER_ID = "0123456789ab"


class Cluster:
    """Applies entries; every entry's bytes are kept so that a second replica can follow."""

    def __init__(self) -> None:
        self.state = State()
        self.log: list[bytes] = []
        self.now_us = START_US
        self.do(
            Bootstrap(datacenter_id=DATACENTER_ID, region="eu", datacenter="dc1", is_authority=True)
        )

    def apply(self, *commands: Command, call: Any = None) -> Applied:
        self.now_us += 1_000_000
        entry = Entry(wall_us=self.now_us, commands=list(commands), call=call)
        self.log.append(encode_entry(entry))
        return self.state.apply(len(self.log), self.log[-1])

    def do(self, command: Command) -> CommandResult:
        """Apply one command that must not be refused."""
        (result,) = self.apply(command).results
        assert not result.is_error, result.error
        return result

    def refused(self, command: Command) -> CommandResult:
        """Apply one command that must be refused."""
        (result,) = self.apply(command).results
        assert result.is_error
        return result

    def replica(self) -> State:
        """Return a state that applied the same log."""
        other = State()
        for index, data in enumerate(self.log, start=1):
            other.apply(index, data)
        return other

    # --- shorthand -----------------------------------------------------------------

    def node(self, node_id: str = "n0", *, cpu: int = 1000, memory: int = 1000, **more: Any) -> int:
        result = self.do(RegisterNode(node=make_node(node_id, cpu=cpu, memory=memory, **more)))
        return int(result.value["Ordinal"])

    def job(self, job_id: str = "web", count: int = 2, **more: Any) -> CommandResult:
        return self.do(RegisterJob(job=make_job(job_id, count, **more)))

    def place(self, job_id: str, placements: list[tuple[int, int]], **more: Any) -> PlanResult:
        """Place (index, node ordinal) pairs with the next generation of each index."""
        (result,) = self.plan(job_id, [self.batch(job_id, placements, **more)])
        return result

    def plan(self, job_id: str, batches: list[PlacementBatch], **more: Any) -> list[PlanResult]:
        record = self.state.jobs.get("default", job_id)
        assert record is not None
        plan = Plan(
            eval_id=f"eval-{len(self.log)}",
            namespace="default",
            job_id=job_id,
            job_uid=record.uid,
            placements=batches,
            **more,
        )
        return list(self.do(ApplyPlans(plans=[plan])).value)

    def batch(
        self,
        job_id: str,
        placements: list[tuple[int, int]],
        *,
        cpu: int = 100,
        memory: int = 100,
        ports: list[int] | None = None,
        group: str = "g",
        **more: Any,
    ) -> PlacementBatch:
        record = self.state.jobs.get("default", job_id)
        assert record is not None
        index = np.array([index for index, _ in placements], dtype=np.int64)
        generation = self.state.allocs.next_generations(record, group, index)
        asks = [PortAsk("http")] if ports else []
        return PlacementBatch(
            group=group,
            job_version=more.pop("job_version", record.version),
            index=index.astype("<i4").tobytes(),
            generation=generation.astype("<u2").tobytes(),
            node=np.array([node for _, node in placements], dtype="<i4").tobytes(),
            ports=np.array(ports or [], dtype="<i4").tobytes(),
            port_asks=asks,
            resources=resources(cpu, memory),
            **more,
        )

    def ids(self, job_id: str = "web") -> list[str]:
        """Return the ids of a job's allocations, oldest row first."""
        record = self.state.jobs.get("default", job_id)
        assert record is not None
        rows = self.state.allocs.rows_of_job(record.ordinal)
        return [self.state.allocs.id_of(row) for row in rows.tolist()]

    def report(self, alloc_id: str, status: int, **more: Any) -> None:
        update = AllocUpdate(alloc_id=alloc_id, client_status=status, **more)
        self.do(UpdateAllocations(updates=[update]))

    def stop(self, alloc_id: str, **more: Any) -> AllocStop:
        return AllocStop(alloc_id=alloc_id, desired=1, description="stop", **more)


def make_node(node_id: str, *, cpu: int = 1000, memory: int = 1000, **more: Any) -> Node:
    return Node(
        id=node_id,
        name=f"name-of-{node_id}",
        status=more.pop("status", NodeStatus.READY),
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=cpu),
            memory=NodeMemoryResources(memory_mb=memory),
            disk=NodeDiskResources(disk_mb=10_000),
        ),
        **more,
    )


def make_job(job_id: str, count: int = 2, **more: Any) -> Job:
    groups = [TaskGroup(name="g", count=count)]
    return Job(id=job_id, type=more.pop("type", "service"), task_groups=groups, **more)


def make_eval(eval_id: str, job_id: str = "web", **more: Any) -> Evaluation:
    return Evaluation(id=eval_id, job_id=job_id, **more)


def resources(cpu: int, memory: int) -> AllocatedResources:
    task = AllocatedTask(cpu=AllocatedCpu(cpu_shares=cpu), memory=AllocatedMemory(memory_mb=memory))
    return AllocatedResources(tasks={"main": task}, shared=AllocatedShared(disk_mb=10))


class Kit:
    """What tests make their records with."""

    cluster = Cluster
    node = staticmethod(make_node)
    job = staticmethod(make_job)
    eval = staticmethod(make_eval)
    resources = staticmethod(resources)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()
