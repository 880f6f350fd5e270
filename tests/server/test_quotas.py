"""Quotas by the calls of the API: who waits for one is woken, and what is held is shown."""

from typing import Any

import pytest
from harness import World
from stories import datacenter, leader, register

from core.model.query import Answer


@pytest.fixture(scope="module")
def world() -> World:
    return datacenter(1, 1)


def _ask(world: World, method: str, body: Any = None, **params: Any) -> Answer:
    return world.ask(leader(world), method, params=params, body=body)


def _apply(world: World, cpu: int) -> None:
    limit = {"Region": leader(world).state.region, "RegionLimit": {"CPU": cpu}}
    assert not _ask(world, "Quota.Upsert", {"Name": "team", "Limits": [limit]}).is_error


def _live(world: World) -> int:
    allocs = leader(world).state.allocs
    return int(allocs.is_live(allocs.rows()).sum())


def test_who_waits_for_a_quota_comes_when_it_grows_or_somebody_ends(world: World) -> None:
    _apply(world, 250)
    assert not _ask(world, "Namespace.Upsert", {"Name": "default", "Quota": "team"}).is_error
    register(world, count=3)
    world.until(lambda: _live(world) == 2)
    _apply(world, 300)
    world.until(lambda: _live(world) == 3)
    usage = _ask(world, "Quota.Usage", name="team").body
    assert usage["Used"][leader(world).state.region]["RegionLimit"]["CPU"] == 300
    register(world, count=1, ID="other", Name="other")
    world.run(2)
    assert _live(world) == 3
    assert not _ask(world, "Job.Deregister", job_id="web").is_error
    world.until(lambda: _live(world) == 1)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"Region": "r", "RegionLimit": {"CPU": "much"}}, "RegionLimit.CPU"),
        ({"Region": "r", "RegionLimit": {"CPU": 1 << 60}}, "too much"),
        ({"Region": "r", "RegionLimit": {"Cores": 4}}, "CPU and MemoryMB are kept"),
        ({"RegionLimit": {"CPU": 4}}, "a region of its own"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(
    world: World, limit: dict[str, Any], text: str
) -> None:
    answer = _ask(world, "Quota.Upsert", {"Name": "x", "Limits": [limit]})
    assert answer.status == 400 and text in answer.error


def test_the_records_are_listed_and_found(world: World) -> None:
    _apply(world, 100)
    assert [one["Name"] for one in _ask(world, "Quota.List").body] == ["team"]
    assert _ask(world, "Quota.Get", name="team").body["Limits"][0]["RegionLimit"]["CPU"] == 100
    assert _ask(world, "Quota.Get", name="x").status == 404
    assert _ask(world, "Namespace.Get", name="default").body["Name"] == "default"
    assert "no other than" in _ask(world, "Namespace.Upsert", {"Name": "x"}).error
