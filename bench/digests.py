"""What a digest costs: processor time and bytes, with few allocations and with many."""

import random
import time
from typing import Any, Final

import msgspec
import numpy as np

from bench.fleet import nodes
from core.federation import digest as digests
from core.federation.digest import Digest
from core.federation.survey import Survey
from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
)
from core.model.evaluation import Evaluation
from core.model.ids import new_id
from core.model.job import Job, Task, TaskGroup
from core.model.node import NodeStatus
from core.model.plan import PlacementBatch, Plan
from core.state.commands import ApplyPlans, Bootstrap, Entry, RegisterJob, RegisterNode
from core.state.state import State

DATACENTER_ID: Final = "0123456789ab"
FEW: Final = 100
ROUNDS: Final = 50


def digest_figures(*, is_reduced: bool) -> dict[str, Any]:
    """Return the cost of a digest of many nodes, as the number of allocations grows."""
    node_count, many = (1_000, 20_000) if is_reduced else (10_000, 1_000_000)
    figures: dict[str, Any] = {}
    for name, allocations in (("few", FEW), ("many", many)):
        state = _state(node_count, allocations)
        survey = Survey()
        survey.fields(state)
        took = []
        for _ in range(ROUNDS):
            began = time.process_time()
            digest = Digest(datacenter_id=DATACENTER_ID, **survey.fields(state))
            data = digests.encode(digests.within_budget(digest))
            took.append((time.process_time() - began) * 1e3)
        figures[f"digest_ms_{name}"] = round(sorted(took)[ROUNDS // 2], 3)
        figures["digest_bytes"] = len(data)
        print(f"digest of {node_count} nodes, {len(state.allocs):8} allocations:"
              f" {figures[f'digest_ms_{name}']} ms, {len(data)} bytes")  # fmt: skip
    return figures


def _state(node_count: int, allocations: int) -> State:
    rng = random.Random(1)
    state = State()
    birth = Bootstrap(datacenter_id=DATACENTER_ID, region="eu", datacenter="dc1", is_authority=True)
    registrations = [
        RegisterNode(node=msgspec.structs.replace(one, status=NodeStatus.READY))
        for one in nodes(node_count, DATACENTER_ID)
    ]
    task = Task(name="t", driver="exec")
    one_job = Job(
        id="many", name="many", type="batch", region="eu", namespace="default", priority=50,
        task_groups=[TaskGroup(name="g", count=allocations, tasks=[task])],
    )  # fmt: skip
    evaluation = Evaluation(id=new_id(rng, DATACENTER_ID), job_id="many", type="batch")
    first = [birth, *registrations, RegisterJob(job=one_job, evaluation=evaluation)]
    state.apply_entry(1, Entry(wall_us=1_700_000_000_000_000, commands=first))
    record = state.jobs.get("default", "many")
    assert record is not None
    resources = AllocatedResources(
        tasks={"t": AllocatedTask(cpu=AllocatedCpu(10), memory=AllocatedMemory(10))},
        shared=AllocatedShared(),
    )
    batch = PlacementBatch(
        group="g",
        job_version=0,
        index=np.arange(allocations, dtype="<i4").tobytes(),
        generation=np.zeros(allocations, "<u2").tobytes(),
        node=(np.arange(allocations) % node_count).astype("<i4").tobytes(),
        resources=resources,
    )
    plan = Plan(
        eval_id=evaluation.id, namespace="default", job_id="many", job_uid=record.uid,
        placements=[batch],
    )  # fmt: skip
    state.apply_entry(2, Entry(wall_us=1_700_000_000_000_000, commands=[ApplyPlans(plans=[plan])]))
    assert len(state.allocs) == allocations, "all of them fit"
    return state
