"""A leader in the simulator: what `sim.scheduler` found in its driver, each as a short story."""

import random
from typing import Any

from core.model.evaluation import EvalStatus, EvalTrigger, Evaluation
from core.model.ids import new_id
from core.model.job import Job, Task, TaskGroup
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from core.state.commands import DeregisterJob, RegisterJob, RegisterNode
from sim.scheduler.leader import DATACENTER, Leader, S, Timing
from sim.scheduler.program import PROGRAM
from sim.scheduler.story import Story
from sim.seeds import main


class _Nobody:
    def before_entry(self, commands: list[Any]) -> None:
        return None

    def on_entry(self, commands: list[Any], applied: Any) -> None:
        return None

    def on_solved(self, problem: Any, solution: Any) -> None:
        return None


def _leader(timing: Timing | None = None, batch: int = 1) -> Leader:
    leader = Leader(random.Random(1), _Nobody(), timing or Timing(), batch)
    leader.run_until(S)
    return leader


def _register(leader: Leader, name: str, **fields: Any) -> None:
    task = Task(name="task", driver="raw_exec", config={"start_us": 1000, "ends_after_us": 5 * S})
    job = Job(
        id=name, namespace="default", type="batch", priority=50, datacenters=["*"],
        node_pool="default", task_groups=[TaskGroup(name="g", count=1, tasks=[task], **fields)],
    )  # fmt: skip
    due = Evaluation(
        id=leader.server.new_id(), type="batch", namespace="default", job_id=name,
        triggered_by=EvalTrigger.JOB_REGISTER,
    )  # fmt: skip
    leader.propose(RegisterJob(job=job, evaluation=due))


def _status(leader: Leader, name: str) -> str:
    record = leader.state.jobs.get("default", name)
    return "" if record is None else record.status


def _node() -> Node:
    """A node with room for one instance."""
    return Node(
        id=new_id(random.Random(2), DATACENTER),
        secret_id="secret",
        name="n0",
        status=NodeStatus.READY,
        drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=150),
            memory=NodeMemoryResources(memory_mb=500),
            disk=NodeDiskResources(disk_mb=1000),
        ),
    )


def test_a_new_leader_tries_what_was_blocked() -> None:
    leader = _leader()
    _register(leader, "waits")
    leader.run_until(leader.mono_us + S)
    assert [one.status for one in leader.state.evals.open()] == [EvalStatus.BLOCKED]
    leader.propose(RegisterNode(node=_node()))
    # The node's entry is committed, and whoever led does not see it.
    assert not leader.lose_leadership(is_committed=True, for_us=S)
    assert leader.state.nodes.count == 1
    leader.run_until(leader.mono_us + 3 * S)
    assert _status(leader, "waits") == "running"


def test_a_seed_gives_the_same_story_twice() -> None:
    told = []
    for _ in range(2):
        story = Story(3, has_faults=True)
        story.play()
        told.append((story.leader.state.hash(), story.leader.entries, story.situations))
    assert told[0] == told[1]


def test_a_few_seeds_are_clean() -> None:
    assert main(PROGRAM, ["--seeds", "3", "--start", "500"]) == 3


def test_room_that_a_refused_placement_did_not_take_is_told_to_those_planned_with_it() -> None:
    leader = _leader(Timing(solve_us=(S, S)), batch=4)
    leader.propose(RegisterNode(node=_node()))
    leader.run_until(leader.mono_us + S)
    _register(leader, "first")
    _register(leader, "second")
    leader.run_until(leader.mono_us + S // 2)  # both are being planned, there is room for one
    leader.propose(DeregisterJob(namespace="default", job_id="first", purge=False))
    leader.run_until(leader.mono_us + 5 * S)
    assert _status(leader, "second") == "running"
