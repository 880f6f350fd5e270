"""What the API tells of one job that runs in two datacenters: asked anywhere, it is whole."""

from typing import Any

import pytest
from harness import World
from test_parts import register, two_datacenters, until_running

from core.model.query import Query


@pytest.fixture(scope="module")
def world() -> World:
    world = two_datacenters()
    register(world, 60)
    until_running(world, 60)
    world.run(5)
    return world


def ask(world: World, number: int, method: str, **params: Any) -> Any:
    answer = world.ask(world.servers()[number], method, params={"job_id": "web", **params})
    assert not answer.is_error, answer
    return answer


@pytest.mark.parametrize("number", [0, 1])
def test_a_job_in_two_datacenters_is_told_of_as_one(world: World, number: int) -> None:
    allocs = ask(world, number, "Job.Allocations").body
    assert len(allocs) == 60 and {row["Datacenter"] for row in allocs} == {"eu-1", "eu-2"}
    summary = ask(world, number, "Job.Summary").body
    assert summary["Summary"]["app"]["Running"] == 60 and summary["JobID"] == "web"
    scale = ask(world, number, "Job.ScaleStatus").body["TaskGroups"]["app"]
    assert (scale["Desired"], scale["Running"], scale["Placed"]) == (60, 60, 60)
    evals = ask(world, number, "Job.Evaluations").body
    times = [row["CreateTime"] for row in evals]
    assert len({row["ID"][24:] for row in evals}) == 2 and times == sorted(times, reverse=True)


def test_a_job_is_listed_once_at_its_home_and_its_part_where_that_is_asked_for(
    world: World,
) -> None:
    one = world.servers()[0]
    assert [row["Datacenter"] for row in world.ask(one, "Job.List").body] == ["eu-1"]
    part = world.ask(one, "Job.List", datacenter="eu-2").body
    assert [(row["ID"], row["Datacenter"]) for row in part] == [("web", "eu-2")]


def test_who_waits_for_the_job_hears_of_its_far_part(world: World) -> None:
    one, two = world.servers()
    index = ask(world, 0, "Job.Allocations").index
    query = Query(method="Job.Allocations", params={"job_id": "web"}, min_index=index)
    number = world.begin(one, query)
    world.run(2)
    assert number not in world.answers
    far = next(
        row for row in ask(world, 0, "Job.Allocations").body if row["Datacenter"] == "eu-2"
    )  # fmt: skip
    assert not world.ask(two, "Alloc.Stop", params={"alloc_id": far["ID"]}).is_error
    answer = world.until(lambda: world.answers.get(number), 1)
    assert answer.index > index


def test_the_story_tells_that_the_job_was_divided(world: World) -> None:
    body = world.ask(world.servers()[1], "Job.Why", params={"job_id": "web"}).body
    (story,) = body["Jobs"]
    assert story["Home"] == "eu/eu-1"
    registered = [row for row in story["Events"] if row["Kind"] == "registered"]
    assert [row["Datacenter"] for row in registered] == ["eu-1"], "a part is not a registration"
