"""Jobs made from jobs: dispatched with arguments, launched by a schedule."""

import base64
from typing import Any

import pytest
from clients import job
from harness import WALL_START_US, World
from stories import datacenter, leader, register

from core.model.job import Job
from core.server.launching import CLOCK_LIMIT_US, LaunchWatch

S = 1_000_000
DAY_S = WALL_START_US // S // 86_400 * 86_400


def _batch(**fields: Any) -> dict[str, Any]:
    return {"Type": "batch", **fields}


def _dispatch(world: World, body: dict[str, Any], **params: Any) -> Any:
    return world.ask(leader(world), "Job.Dispatch", params={"job_id": "web", **params}, body=body)


def _children(world: World, parent: str = "web") -> list[str]:
    found = leader(world).state.jobs.children_of("default", parent)
    return [record.id for record in found]


def _parameterized(**config: Any) -> dict[str, Any]:
    return _batch(ParameterizedJob={"Payload": "optional", **config})


def test_a_dispatched_child_runs_with_its_arguments() -> None:
    world = datacenter()
    register(world, count=1, **_parameterized(MetaRequired=["day"], MetaOptional=["hour"]))
    payload = base64.b64encode(b"hello").decode()
    answer = _dispatch(world, {"Payload": payload, "Meta": {"day": "monday"}})
    child_id = answer.body["DispatchedJobID"]
    assert child_id.startswith("web/dispatch-") and answer.body["EvalID"]
    world.until(lambda: leader(world).state.jobs.get("default", child_id).status == "running")
    child: Job = world.ask(leader(world), "Job.Get", params={"job_id": child_id}).body
    assert (child.dispatched, child.parent_id, child.payload) == (True, "web", b"hello")
    assert child.meta == {"day": "monday"}
    summary = world.ask(leader(world), "Job.Summary", params={"job_id": "web"}).body
    assert summary.children.running == 1


@pytest.mark.parametrize(
    ("config", "body", "text"),
    [
        ({"Payload": "required"}, {}, "a payload is required"),
        ({"Payload": "forbidden"}, {"Payload": "aGk="}, "a payload is not allowed"),
        ({}, {"Payload": "???"}, "must be base64"),
        ({}, {"Payload": base64.b64encode(b"x" * 16_385).decode()}, "at most 16384"),
        ({"MetaRequired": ["a", "b"]}, {"Meta": {"a": "1"}}, "requires are missing: b"),
        ({}, {"Meta": {"z": "1"}}, "does not name: z"),
        ({}, {"Meta": {"z": 1}}, "Expected `str`"),
        ({}, {"IdPrefixTemplate": "a/b"}, "IdPrefixTemplate"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    config: dict[str, Any], body: dict[str, Any], text: str
) -> None:
    world = datacenter(servers=1, clients=0)
    register(world, count=1, **_parameterized(**config))
    answer = _dispatch(world, body)
    assert answer.status == 400 and text in answer.error
    assert _children(world) == []


def test_an_ordinary_job_can_be_neither_dispatched_nor_forced() -> None:
    world = datacenter(servers=1, clients=0)
    register(world, count=1)
    assert "not parameterized" in _dispatch(world, {}).error
    answer = world.ask(leader(world), "Job.PeriodicForce", params={"job_id": "web"})
    assert answer.status == 400 and "not periodic" in answer.error


def test_a_token_makes_one_child_as_long_as_it_lives() -> None:
    world = datacenter(servers=1, clients=0)
    register(world, count=1, **_parameterized())
    first = _dispatch(world, {}, idempotency_token="t").body["DispatchedJobID"]
    assert _dispatch(world, {}, idempotency_token="t").body["DispatchedJobID"] == first
    assert _dispatch(world, {}, idempotency_token="u").body["DispatchedJobID"] != first
    assert len(_children(world)) == 2


def _seconds(children: list[str]) -> list[int]:
    return [int(child.rsplit("-", 1)[1]) for child in children]


def test_a_schedule_launches_a_child_at_each_moment() -> None:
    world = datacenter()
    register(world, count=1, **_batch(Periodic={"Spec": "*/20 * * * * * *", "SpecType": "cron"}))
    world.run(61)
    launches = _seconds(_children(world))
    assert len(launches) == 3 and all(second % 20 == 0 for second in launches)
    plan = world.ask(
        leader(world), "Job.Plan", params={"job_id": "web"},
        body={"Job": job(Type="batch", Periodic={"Spec": "@daily"})},
    ).body  # fmt: skip
    assert plan["NextPeriodicLaunch"].endswith("T00:00:00Z")


def test_overlap_is_prohibited_where_the_job_says_so() -> None:
    world = datacenter()
    periodic = {"Spec": "*/20 * * * * * *", "ProhibitOverlap": True}
    register(world, count=1, **_batch(Periodic=periodic))
    world.run(61)
    assert len(_children(world)) == 1, "the first child's process never ends"


def test_a_launch_happens_once_though_the_leader_dies() -> None:
    world = datacenter()
    register(world, count=1, **_batch(Periodic={"Spec": "*/20 * * * * * *"}))
    world.run(21)
    before = _children(world)
    world.kill(leader(world))
    world.until(world.leader)
    world.run(25)
    launches = _seconds(_children(world))
    assert launches[: len(before)] == _seconds(before)
    assert len(set(launches)) == len(launches) and len(launches) > len(before)


def test_force_launches_at_once_and_a_stopped_one_never() -> None:
    world = datacenter(servers=1, clients=0)
    register(world, count=1, **_batch(Periodic={"Spec": "@yearly"}))
    for expected in (1, 2):
        answer = world.ask(leader(world), "Job.PeriodicForce", params={"job_id": "web"})
        assert answer.body["EvalID"] and len(_children(world)) == expected
    world.ask(leader(world), "Job.Deregister", params={"job_id": "web"})
    answer = world.ask(leader(world), "Job.PeriodicForce", params={"job_id": "web"})
    assert answer.status == 400 and "stopped" in answer.error


def test_a_schedule_that_cannot_be_read_is_refused() -> None:
    world = datacenter(servers=1, clients=0)
    body = {"Job": job(Type="batch", Periodic={"Spec": "61 * * * *", "TimeZone": "Mars"})}
    answer = world.ask(leader(world), "Job.Register", body=body)
    assert "minute: 61" in answer.error and 'unknown time zone "Mars"' in answer.error


def test_a_clock_that_is_off_pauses_launches_and_says_so() -> None:
    world = datacenter()
    register(world, count=1, **_batch(Periodic={"Spec": "*/20 * * * * * *"}))
    watch = next(one for one in leader(world).server.leading if isinstance(one, LaunchWatch))
    world.run(1)
    watch._judge_clock(CLOCK_LIMIT_US + 1, 3)
    assert watch.is_paused
    world.run(41)
    assert _children(world) == []
    assert any("launches are paused" in log.message for _, log in world.logs)
    world.run(40)  # the next comparison finds the clocks equal
    assert not watch.is_paused and _children(world)
