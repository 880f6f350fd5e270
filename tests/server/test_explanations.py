"""Why a placement went where it did, or nowhere, under the names that Nomad's tools read."""

from typing import Any

import msgspec
import pytest
from clients import job
from harness import World
from stories import datacenter, leader, register, until_running


@pytest.fixture
def world() -> World:
    return datacenter(1, 2)


def _ask(world: World, method: str, body: Any = None, **params: Any) -> Any:
    answer = world.ask(leader(world), method, params=params, body=body)
    assert not answer.is_error, answer
    return msgspec.json.decode(msgspec.json.encode(answer.body))


def _groups(cpu: int, count: int = 2, **more: Any) -> list[dict[str, Any]]:
    task = {
        "Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"},
        "Resources": {"CPU": cpu, "MemoryMB": 64},
    }  # fmt: skip
    return [{"Name": "app", "Count": count, "Tasks": [task], **more}]


def test_an_evaluation_says_which_constraint_left_no_node(world: World) -> None:
    wanted = {"LTarget": "${attr.kernel.name}", "RTarget": "plan9", "Operand": "="}
    answer = register(world, TaskGroups=_groups(100, Constraints=[wanted]))
    world.run(5)
    shown = _ask(world, "Eval.Get", eval_id=answer.body["EvalID"])
    metric = shown["FailedTGAllocs"]["app"]
    assert (metric["NodesEvaluated"], metric["NodesFiltered"]) == (2, 2)
    assert metric["ConstraintFiltered"] == {"${attr.kernel.name} = plan9": 2}


def test_an_evaluation_says_which_dimension_is_exhausted(world: World) -> None:
    register(world, ID="first", TaskGroups=_groups(3000))
    until_running(world, 2, "first")
    answer = register(world, TaskGroups=_groups(2000))
    world.run(5)
    metric = _ask(world, "Eval.Get", eval_id=answer.body["EvalID"])["FailedTGAllocs"]["app"]
    assert metric["NodesExhausted"] == 2 and metric["DimensionExhausted"] == {"cpu": 2}
    assert metric["CoalescedFailures"] == 1


def test_a_plan_says_where_and_whom_it_costs(world: World) -> None:
    switch = {"PreemptionConfig": {"ServiceSchedulerEnabled": True}}
    _ask(world, "Operator.SchedulerSet", switch)
    register(world, ID="low", Priority=10, TaskGroups=_groups(3500))
    until_running(world, 2, "low")
    vip = job("vip", Priority=90, TaskGroups=_groups(3000))
    shown = _ask(world, "Job.Plan", {"Job": vip}, job_id="vip")
    scores = shown["SeraiPlacements"]["app"]["ScoreMetaData"]
    assert len(scores) == 2 and all("binpack" in one["Scores"] for one in scores)
    victims = shown["Annotations"]["PreemptedAllocs"]
    assert [one["JobID"] for one in victims] == ["low", "low"]
    assert shown["Annotations"]["DesiredTGUpdates"]["app"]["Preemptions"] == 2
