"""Node pools by hand, scaling events and policies."""

from typing import Any

import pytest
from harness import World
from stories import datacenter, job, leader, register

from core.model.query import Answer


@pytest.fixture(scope="module")
def world() -> World:
    return datacenter(1, 1)


def _ask(world: World, method: str, body: Any = None, **params: Any) -> Answer:
    return world.ask(leader(world), method, params=params, body=body)


def test_a_pool_is_made_changed_and_deleted(world: World) -> None:
    pool = {"Name": "gpu", "Description": "big ones", "Meta": {"owner": "sre"}}
    assert not _ask(world, "NodePool.Upsert", pool).is_error
    shown = _ask(world, "NodePool.Get", name="gpu").body
    assert (shown["Description"], shown["Meta"]) == ("big ones", {"owner": "sre"})
    assert not _ask(world, "NodePool.Upsert", {"Description": "bigger"}, name="gpu").is_error
    changed = _ask(world, "NodePool.Get", name="gpu").body
    assert changed["CreateIndex"] == shown["CreateIndex"] < changed["ModifyIndex"]
    names = [one["Name"] for one in _ask(world, "NodePool.List").body]
    assert names == ["all", "default", "gpu"]
    assert not _ask(world, "NodePool.Delete", name="gpu").is_error
    assert _ask(world, "NodePool.Get", name="gpu").status == 404


@pytest.mark.parametrize(
    ("method", "params", "body", "status", "words"),
    [
        ("NodePool.Upsert", {"name": "all"}, {}, 400, "not allowed"),
        ("NodePool.Upsert", {}, {"Name": "a b"}, 400, "invalid name"),
        ("NodePool.Upsert", {"name": "a"}, {"Name": "b"}, 400, "the path says"),
        ("NodePool.Upsert", {"name": "a"}, {"Meta": []}, 400, "must be an object"),
        ("NodePool.Upsert", {"name": "a"}, {"Description": "x" * 300}, 400, "longer than"),
        ("NodePool.Delete", {"name": "default"}, None, 400, "not allowed"),
        ("NodePool.Delete", {"name": "none"}, None, 404, "not found"),
        ("Scaling.GetPolicy", {"id": "none"}, None, 404, "policy not found"),
    ],
)
def test_what_can_not_be_is_refused(
    world: World, method: str, params: Any, body: Any, status: int, words: str
) -> None:
    answer = _ask(world, method, body, **params)
    assert answer.status == status and words in answer.error


def test_a_job_asks_for_a_pool_that_there_is(world: World) -> None:
    body = {"Job": job(ID="lost", Name="lost", NodePool="nowhere")}
    answer = _ask(world, "Job.Register", body)
    assert answer.is_error and 'in nonexistent node pool "nowhere"' in answer.error


def test_a_pool_with_jobs_stays(world: World) -> None:
    _ask(world, "NodePool.Upsert", {"Name": "kept"})
    register(world, ID="inside", Name="inside", NodePool="kept", count=1)
    assert "inside" in _ask(world, "NodePool.Delete", name="kept").error
    assert [one["ID"] for one in _ask(world, "NodePool.Jobs", name="kept").body] == ["inside"]


def _scalable(world: World, job_id: str) -> None:
    group = {
        "Name": "app", "Count": 2, "Scaling": {"Min": 1, "Max": 5, "Enabled": True, "Policy": {}},
        "Tasks": [{"Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}],
    }  # fmt: skip
    register(world, ID=job_id, Name=job_id, TaskGroups=[group])


def test_scaling_is_noted_and_kept_within_its_bounds(world: World) -> None:
    _scalable(world, "elastic")
    latest = _ask(world, "Job.LatestDeployment", job_id="elastic").body
    if latest is not None:
        _ask(world, "Deployment.Fail", deployment_id=latest.id)
    scale = {"Count": 4, "Target": {"Group": "app"}, "Message": "more load"}
    answer = _ask(world, "Job.Scale", scale, job_id="elastic")
    assert answer.body["EvalID"], answer
    too_many = _ask(world, "Job.Scale", {**scale, "Count": 9}, job_id="elastic")
    assert too_many.status == 400 and "maximum: 9 > 5" in too_many.error
    far_too_many = _ask(world, "Job.Scale", {**scale, "Count": 9_999_999}, job_id="elastic")
    assert far_too_many.status == 400 and "exceeds the limit of 50000" in far_too_many.error
    too_few = _ask(world, "Job.Scale", {**scale, "Count": 0}, job_id="elastic")
    assert too_few.status == 400 and "minimum: 0 < 1" in too_few.error
    note = {"Count": None, "Error": True, "Message": "no metrics", "Target": {"Group": "app"}}
    assert not _ask(world, "Job.Scale", note, job_id="elastic").is_error
    group = _ask(world, "Job.ScaleStatus", job_id="elastic").body["TaskGroups"]["app"]
    assert group["Desired"] == 4
    events = [(one["Count"], one["PreviousCount"], one["Error"]) for one in group["Events"]]
    assert events == [(None, 4, True), (4, 2, False)]


def test_policies_are_listed_and_shown(world: World) -> None:
    _scalable(world, "policied")
    found = _ask(world, "Scaling.ListPolicies", job="policied").body
    assert [one["Target"]["Group"] for one in found] == ["app"]
    shown = _ask(world, "Scaling.GetPolicy", id=found[0]["ID"]).body
    assert (shown["Min"], shown["Max"], shown["Type"]) == (1, 5, "horizontal")
