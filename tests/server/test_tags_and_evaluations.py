"""Tagged versions, deleted evaluations, and the two brakes of the scheduler configuration."""

from typing import Any

import pytest
from clients import job
from harness import World
from stories import datacenter, leader, register, until_running

from core.model.query import Answer


def _ask(world: World, method: str, body: Any = None, **params: Any) -> Answer:
    return world.ask(leader(world), method, params=params, body=body)


def _configure(world: World, **switches: bool) -> None:
    assert not _ask(world, "Operator.SchedulerSet", switches).is_error


def _tags(world: World) -> dict[int, str]:
    versions = _ask(world, "Job.Versions", job_id="web").body["Versions"]
    return {one.version: one.version_tag["Name"] for one in versions if one.version_tag}


@pytest.fixture
def world() -> World:
    return datacenter(1, 1)


def test_a_tagged_version_is_kept_however_many_follow(world: World) -> None:
    register(world, count=1)
    answer = _ask(world, "Job.TagVersion", {"Description": "good"}, job_id="web", name="gold")
    assert (answer.body["Name"], answer.body["Description"]) == ("gold", "good")
    assert answer.body["TaggedTime"] > 0
    for priority in range(51, 61):
        register(world, count=1, Priority=priority)
    kept = [one.version for one in _ask(world, "Job.Versions", job_id="web").body["Versions"]]
    assert kept == [10, 9, 8, 7, 6, 5, 0] and _tags(world) == {0: "gold"}
    assert not _ask(world, "Job.Revert", {"JobVersion": 0}, job_id="web").is_error
    assert _tags(world) == {0: "gold"}  # the new version is another one
    assert _ask(world, "Job.Get", job_id="web").body.version == 11


def test_a_tag_stands_at_one_version_and_can_be_taken_off(world: World) -> None:
    register(world, count=1)
    register(world, count=1, Priority=60)
    assert not _ask(world, "Job.TagVersion", {"Version": 0}, job_id="web", name="a").is_error
    assert not _ask(world, "Job.TagVersion", {"Version": 0}, job_id="web", name="b").is_error
    assert _tags(world) == {0: "b"}
    taken = _ask(world, "Job.TagVersion", {"Version": 1}, job_id="web", name="b")
    assert taken.status == 400 and "version 0" in taken.error
    for body, name, status in (({"Version": 7}, "c", 404), ({}, "12", 400), ({}, " x", 400)):
        assert _ask(world, "Job.TagVersion", body, job_id="web", name=name).status == status
    assert not _ask(world, "Job.UntagVersion", job_id="web", name="b").is_error
    assert _tags(world) == {}
    assert _ask(world, "Job.UntagVersion", job_id="web", name="b").status == 404


def test_versions_can_all_be_compared_with_one(world: World) -> None:
    for priority in (50, 60, 70):
        register(world, count=1, Priority=priority)
    _ask(world, "Job.TagVersion", {"Version": 0}, job_id="web", name="base")
    for more in ({"diff_tag": "base"}, {"diff_version": "0"}):
        diffs = _ask(world, "Job.Versions", job_id="web", diffs="true", **more).body["Diffs"]
        assert [diff["Type"] for diff in diffs] == ["Edited", "Edited", "None"]
    assert _ask(world, "Job.Versions", job_id="web", diffs="true", diff_tag="x").status == 404


def test_a_paused_broker_plans_nothing_until_it_goes_on(world: World) -> None:
    _configure(world, PauseEvalBroker=True)
    register(world, count=2)
    world.run(30)
    assert not leader(world).state.allocs.rows().size
    assert _ask(world, "Eval.Count", filter='Status == "pending"').body["Count"] == 1
    _configure(world, PauseEvalBroker=False)
    until_running(world, 2)


def test_evaluations_are_deleted_only_while_the_broker_is_paused(world: World) -> None:
    register(world, count=1)
    until_running(world, 1)
    placed = leader(world).state.allocs.allocation(int(leader(world).state.allocs.rows()[0]))
    assert _ask(world, "Eval.Delete", {"EvalIDs": [placed.eval_id]}).status == 400
    _configure(world, PauseEvalBroker=True)
    ids = [register(world, count=1, ID=f"other-{n}").body["EvalID"] for n in range(3)]
    for body, more, status in (
        ({"EvalIDs": [placed.eval_id]}, {}, 400),  # what it placed runs
        ({"EvalIDs": ["nonsense"]}, {}, 404),
        ({}, {}, 400),
        ({"EvalIDs": ids}, {"filter": 'Status == "pending"'}, 400),
    ):
        assert _ask(world, "Eval.Delete", body, **more).status == status
    assert _ask(world, "Eval.Delete", {"EvalIDs": ids[:1]}).body["Count"] == 1
    assert _ask(world, "Eval.Delete", filter='JobID contains "other"').body["Count"] == 2
    assert _ask(world, "Eval.Delete", filter='JobID == "web"').body["Count"] == 0
    _configure(world, PauseEvalBroker=False)
    world.run(30)
    assert leader(world).state.allocs.rows().size == 1  # the deleted ones are never planned


def test_a_deleted_blocked_evaluation_is_not_woken() -> None:
    world = datacenter(1, 2)
    task: dict[str, Any] = {
        "Name": "main",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sleep"},
    }
    task["Resources"] = {"CPU": 100, "MemoryMB": 5000}
    register(world, TaskGroups=[{"Name": "app", "Count": 3, "Tasks": [task]}])
    world.until(lambda: _ask(world, "Eval.Count", filter='Status == "blocked"').body["Count"])
    _configure(world, PauseEvalBroker=True)
    assert _ask(world, "Eval.Delete", filter='Status == "blocked"').body["Count"] == 1
    assert len(leader(world).server.planning.blocked) == 0


def test_registrations_can_be_refused(world: World) -> None:
    register(world, count=1)
    _configure(world, RejectJobRegistration=True)
    for method, body, params in (
        ("Job.Register", {"Job": job(count=2)}, {}),
        ("Job.Scale", {"Count": 2, "Target": {"Group": "app"}}, {"job_id": "web"}),
        ("Job.Dispatch", {}, {"job_id": "web"}),
    ):
        answer = _ask(world, method, body, **params)
        assert answer.status == 403 and "RejectJobRegistration" in answer.error
    assert not _ask(world, "Job.Plan", {"Job": job(count=2)}, job_id="web").is_error
    assert not _ask(world, "Job.Deregister", job_id="web").is_error
    _configure(world, RejectJobRegistration=False)
    register(world, count=1)
