"""Quotas: what the jobs of a namespace may hold together, kept by planner and apply."""

from typing import Any

import pytest

from core.model.allocation import ClientStatus
from core.model.evaluation import EvalStatus
from core.state.commands import (
    ApplyPlans,
    DeleteQuota,
    SetSchedulerConfig,
    UpsertNamespace,
    UpsertQuota,
)
from core.state.quotas import recount
from core.state.state import State


def _limit(world: Any, cpu: int = 0, memory: int = 0, region: str = "eu") -> None:
    limit = {"Region": region, "RegionLimit": {"CPU": cpu, "MemoryMB": memory}}
    world.do(UpsertQuota(quota={"Name": "team", "Limits": [limit]}))
    world.do(UpsertNamespace(namespace={"Name": "default", "Quota": "team"}))


def test_as_many_are_placed_as_the_quota_leaves_and_the_rest_waits_for_it(
    world: Any, kit: Any
) -> None:
    world.node()
    _limit(world, cpu=1200)
    job = kit.job(count=3, cpu=500)
    solution = world.run(world.register(job))
    assert (solution.placed, solution.failed) == (2, 1)
    (waiting,) = world.state.evals.open()
    assert (waiting.status, waiting.quota_limit_reached) == (EvalStatus.BLOCKED, "team")
    metric = waiting.failed_tg_allocs["main"]
    assert metric.quota_exhausted == ["cpu exhausted (500 needed > 200 left)"]
    assert not waiting.class_eligibility, "no node is at fault"


@pytest.mark.parametrize(("cpu", "memory", "region", "placed"), [
    (0, 600, "eu", 2), (0, 0, "eu", 3), (-1, 0, "eu", 0), (500, 0, "us", 3),
])  # fmt: skip
def test_a_limit_of_nothing_is_none_and_a_negative_one_allows_nothing(
    world: Any, kit: Any, cpu: int, memory: int, region: str, placed: int
) -> None:
    world.node()
    _limit(world, cpu, memory, region)
    assert world.run(world.register(kit.job(count=3))).placed == placed


def test_apply_keeps_the_quota_whatever_was_planned(world: Any, kit: Any) -> None:
    world.node()
    one, other = kit.job("one", count=2, cpu=500), kit.job("other", count=2, cpu=500)
    plans = [world.plan(world.register(job)).plans for job in (one, other)]
    _limit(world, cpu=1600)
    results = [world.do(ApplyPlans(plans=plan)).results[0].value[0] for plan in plans]
    assert [result.placed for result in results] == [2, 1]
    assert results[1].dropped[0].reasons == ["quota"]


def test_an_update_uses_what_its_predecessors_hold(world: Any, kit: Any) -> None:
    world.node()
    _limit(world, cpu=1000)
    job = kit.job(count=2, cpu=500)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    solution = world.run(world.register(kit.changed(job, env={"A": "2"})))
    assert (solution.placed, solution.failed) == (2, 0)


def test_nobody_gives_way_for_a_quota(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    low = kit.job("low", type="batch", priority=10, cpu=900)
    world.run(world.register(low))
    _limit(world, cpu=900)
    switches = {"BatchSchedulerEnabled": True, "ServiceSchedulerEnabled": True}
    world.do(SetSchedulerConfig(config={"PreemptionConfig": switches}))
    high = kit.job("high", priority=90, cpu=900)
    solution = world.run(world.register(high))
    assert (solution.placed, [stop for plan in solution.plans for stop in plan.stops]) == (0, [])


def test_what_is_held_is_counted_as_on_nodes_and_survives_a_snapshot(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(count=2, cpu=500, memory=100)
    world.run(world.register(job))
    _limit(world, cpu=1000)
    assert world.state.spent == {"default": [1000, 200]}, "what runs already counts, and runs on"
    first, _ = world.rows(job)
    world.report([first], ClientStatus.COMPLETE)
    assert world.state.spent == {"default": [500, 100]}
    twin = State.restore(world.state.image().chunks())
    assert twin.spent == world.state.spent
    recount(world.state)
    assert twin.spent == world.state.spent
    world.do(UpsertNamespace(namespace={"Name": "default", "Quota": ""}))
    assert world.state.spent == {}, "where nobody uses quotas nothing is counted"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (UpsertQuota(quota={"Name": "a b"}), "invalid name"),
        (UpsertQuota(quota={"Name": "a"}), "limits nothing"),
        (UpsertQuota(quota={"Name": "a", "Limits": [{"RegionLimit": {}}]}), "a region"),
        (UpsertNamespace(namespace={"Name": "default", "Quota": "x"}), "apply it first"),
        (UpsertNamespace(namespace={"Name": "other"}), "no other than 'default'"),
        (DeleteQuota(name="team"), "in use by namespaces: default"),
        (DeleteQuota(name="x"), "not found"),
    ],
)
def test_what_makes_no_sense_is_refused(world: Any, command: Any, text: str) -> None:
    _limit(world)
    with pytest.raises(AssertionError, match=text):
        world.do(command)
