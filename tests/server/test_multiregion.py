"""A job over several regions, on the shipped servers in virtual time."""

from typing import Any

import pytest
from clients import FakeClient, job
from harness import World
from test_parts import cut, federation

from core.federation.rollout_log import find_rollout
from core.model.allocation import ClientStatus

REGIONS = ("eu", "us", "asia")


def three_regions() -> World:
    world = federation(*((region, f"{region}-1") for region in REGIONS))
    world.is_encoding = True
    return world


def spread(count: int = 2, *, on_failure: str = "", max_parallel: int = 1, **changes: Any) -> Any:
    """Return the body of a registration of `web` over the three regions."""
    strategy = {"MaxParallel": max_parallel, "OnFailure": on_failure}
    block = {"Strategy": strategy, "Regions": [{"Name": name} for name in REGIONS]}
    update = {"MaxParallel": 2, "MinHealthyTime": 0, "HealthCheck": "task_states"}
    return {"Job": job("web", count=count, Multiregion=block, Update=update, **changes)}


def submit(world: World, body: Any, number: int = 0) -> Any:
    answer = world.ask(world.servers()[number], "Job.Register", body=body)
    assert not answer.is_error, answer
    return answer


def deployments(world: World) -> list[str]:
    """Return the status of each region's newest deployment, in order of the regions."""
    found = [one.state.deployments.latest_of_job("default", "web") for one in world.servers()]
    return [one.status.value if one is not None else "" for one in found]


def running(world: World) -> list[int]:
    counts = []
    for server in world.servers():
        record = server.state.jobs.get("default", "web")
        rows = server.state.allocs.rows_of_job(record.ordinal) if record is not None else []
        client = server.state.allocs.columns.client
        counts.append(sum(client[row] == ClientStatus.RUNNING for row in rows))
    return counts


def rollout(world: World, number: int = 0) -> Any:
    return find_rollout(world.servers()[number].state, "default", "web")


def test_regions_take_their_turns_and_become_successful_together() -> None:
    world = three_regions()
    answer = submit(world, spread())
    assert answer.body["EvalID"].endswith(world.servers()[0].datacenter_id)
    seen: dict[tuple[str, ...], None] = {}

    def is_over() -> bool:
        seen[tuple(deployments(world))] = None
        return deployments(world) == ["successful"] * 3

    world.until(is_over, 120)
    assert ("running", "pending", "pending") in seen
    assert ("blocked", "running", "pending") in seen
    assert ("blocked", "blocked", "blocked") in seen
    assert running(world) == [2, 2, 2]
    world.until(lambda: rollout(world).is_over, 30)


def rolled_out(world: World) -> None:
    submit(world, spread())
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)


def other(count: int = 2, **changes: Any) -> Any:
    """Return a version whose tasks differ."""
    body = spread(count, **changes)
    body["Job"]["TaskGroups"][0]["Tasks"][0]["Config"] = {"command": "/bin/other"}
    return body


def clients(world: World) -> list[FakeClient]:
    return [one for one in world.agents.values() if isinstance(one, FakeClient)]


def say(world: World, health: bool | None, *numbers: int) -> None:
    """Let the clients of these regions (all without any) say how what runs is, or nothing."""
    for number in numbers or range(len(REGIONS)):
        client = clients(world)[number]
        client.health = health
        client._report()


def act(world: World, verb: str, number: int, **body: Any) -> Any:
    """Do something to a region's newest deployment, asked in another region."""
    server, elsewhere = world.servers()[number], world.servers()[number - 1]
    latest = server.state.deployments.latest_of_job("default", "web")
    params = {"deployment_id": latest.id}
    return world.ask(elsewhere, f"Deployment.{verb}", params=params, body=body)


def versions(world: World) -> list[list[int]]:
    """Return the job versions that run in each region."""
    found = []
    for server in world.servers():
        allocs, record = server.state.allocs, server.state.jobs.get("default", "web")
        rows = allocs.rows_of_job(record.ordinal)
        rows = rows[allocs.columns.client[rows] == ClientStatus.RUNNING]
        found.append(sorted(allocs.columns.job_version[rows].tolist()))
    return found


def test_who_waits_for_its_turn_keeps_what_it_runs() -> None:
    world = three_regions()
    rolled_out(world)
    say(world, None)
    submit(world, other(count=1))
    world.until(lambda: deployments(world) == ["running", "pending", "pending"], 60)
    world.run(60)
    assert versions(world)[1:] == [[0, 0], [0, 0]], "neither updated nor scaled down"
    say(world, True)
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)
    world.until(lambda: versions(world) == [[1], [1], [1]], 60)


@pytest.mark.parametrize(
    ("on_failure", "ends"),
    [
        ("", ["blocked", "failed", "failed"]),
        ("fail_all", ["failed", "failed", "failed"]),
        ("fail_local", ["blocked", "failed", "blocked"]),
    ],
)
def test_what_fails_with_a_region_is_what_the_job_says(on_failure: str, ends: list[str]) -> None:
    world = three_regions()
    rolled_out(world)
    say(world, None, 1)
    submit(world, other(on_failure=on_failure))
    world.until(lambda: deployments(world) == ["blocked", "running", "pending"], 60)
    assert act(world, "Pause", 0, Pause=True).status == 400, "it waits for the others"
    assert not act(world, "Fail", 1).is_error
    world.until(lambda: deployments(world) == ends, 60)
    world.run(60)
    assert deployments(world) == ends, "nobody unblocks what waits for one that failed"
    assert rollout(world).status == "failed"
    if ends[0] == "blocked":
        assert not act(world, "Unblock", 0).is_error
        world.until(lambda: deployments(world)[0] == "successful", 30)
        assert act(world, "Unblock", 0).status == 400


def test_a_failed_region_goes_back_to_its_stable_version() -> None:
    world = three_regions()
    rolled_out(world)
    say(world, None, 1)
    body = other()
    body["Job"]["Update"]["AutoRevert"] = True
    submit(world, body)
    world.until(lambda: deployments(world) == ["blocked", "running", "pending"], 60)
    assert not act(world, "Fail", 1).is_error
    say(world, True)
    jobs = [server.state.jobs for server in world.servers()]
    world.until(lambda: [one.get("default", "web").version for one in jobs] == [1, 2, 2], 60)
    world.until(lambda: versions(world)[0] == [1, 1] and 1 not in versions(world)[1], 60)


def test_a_newer_version_takes_the_place_of_one_that_is_under_way() -> None:
    world = three_regions()
    rolled_out(world)
    say(world, None)
    submit(world, other())
    world.until(lambda: deployments(world) == ["running", "pending", "pending"], 60)
    say(world, True)
    submit(world, other(count=3), number=1)  # in another region: it coordinates from now on
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)
    assert running(world) == [3, 3, 3]
    world.until(lambda: rollout(world).status == "cancelled", 60)
    assert rollout(world, 1).is_over and rollout(world, 1).status == "successful"
    answer = submit(world, other(count=3), number=2)
    world.run(5)
    assert rollout(world, 2) is None, "what is everywhere already begins no rollout"
    assert answer.body["EvalID"]


def test_the_coordinator_s_promises_are_kept_once_a_cut_is_healed() -> None:
    world = three_regions()
    rolled_out(world)
    say(world, None, 2)
    submit(world, other())
    world.until(lambda: deployments(world) == ["blocked", "blocked", "running"], 60)
    eu, us, _ = world.servers()
    cut(world, eu, us)
    say(world, True)
    world.until(lambda: deployments(world) == ["successful", "blocked", "successful"], 60)
    world.run(60)
    world.cut.clear()
    world.until(lambda: deployments(world) == ["successful"] * 3, 60)


def test_a_stop_reaches_every_region_and_a_purge_is_remembered() -> None:
    world = three_regions()
    rolled_out(world)
    _, us, asia = world.servers()
    one = world.ask(us, "Job.Deregister", params={"job_id": "web"})
    assert not one.is_error
    world.until(lambda: running(world) == [2, 0, 2], 30)
    cut(world, us, asia)
    params = {"job_id": "web", "global": "true", "purge": "true"}
    answer = world.ask(us, "Job.Deregister", params=params)
    assert not answer.is_error and "asia" in answer.body["Warnings"]
    world.cut.clear()
    jobs = [server.state.jobs for server in world.servers()]
    world.until(lambda: [one.get("default", "web") for one in jobs] == [None] * 3, 60)
    rolled_out(world)
    assert running(world) == [2, 2, 2]


def test_a_job_that_a_region_refuses_is_registered_in_none() -> None:
    world = three_regions()
    large = spread(count=500)
    answer = world.ask(world.servers()[0], "Job.Register", body=large)
    assert answer.status == 422 and "asia" in answer.error, answer
    cut(world, world.servers()[0], world.servers()[2])
    answer = world.ask(world.servers()[0], "Job.Register", body=spread())
    assert answer.status == 503 and "asia" in answer.error, answer
    unknown = spread()
    unknown["Job"]["Multiregion"]["Regions"].append({"Name": "mars"})
    answer = world.ask(world.servers()[0], "Job.Register", body=unknown)
    assert answer.status == 400 and "mars" in answer.error, answer
    assert not any(len(server.state.jobs) for server in world.servers())


def test_each_region_has_its_own_count_place_and_meta() -> None:
    world = three_regions()
    body = spread(count=0, Meta={"tier": "all", "kept": "yes"})
    eu, us, _ = body["Job"]["Multiregion"]["Regions"]
    eu |= {"Count": 3, "Datacenters": ["eu-*"], "Meta": {"tier": "gold"}}
    us |= {"Count": 0}
    submit(world, body, number=2)
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)
    assert running(world) == [3, 0, 1]
    jobs = [server.state.jobs.get("default", "web").job for server in world.servers()]
    assert [one.region for one in jobs] == [*REGIONS]
    assert jobs[0].datacenters == ["eu-*"] and jobs[1].datacenters == ["*"]
    assert jobs[0].meta == {"tier": "gold", "kept": "yes"} and jobs[1].meta["tier"] == "all"


@pytest.mark.parametrize("kind", ["batch", "system"])
def test_jobs_without_a_rollout_begin_everywhere_at_once(kind: str) -> None:
    world = three_regions()
    body = spread(count=1)
    body["Job"]["Type"] = kind
    if kind == "batch":
        del body["Job"]["Update"]
    submit(world, body)
    world.until(lambda: running(world) == [1, 1, 1], 60)
    world.until(lambda: rollout(world).is_over, 30)
    assert rollout(world).status == "successful"


def test_any_region_shows_the_rollout_as_its_coordinator_has_it() -> None:
    world = three_regions()
    submit(world, spread(), number=1)
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)
    for server in world.servers():
        answer = world.ask(server, "Job.Rollout", params={"job_id": "web"})
        assert not answer.is_error and answer.body["MaxParallel"] == 1, answer
        assert [one["Region"] for one in answer.body["Regions"]] == [*REGIONS]
    assert world.ask(world.servers()[0], "Job.Rollout", params={"job_id": "no"}).status == 404


def test_each_region_plans_its_own_copy() -> None:
    world = three_regions()
    body = spread(count=0)
    body["Job"]["Multiregion"]["Regions"][1]["Count"] = 3
    for number, count in enumerate((1, 3, 1)):
        answer = world.ask(world.servers()[number], "Job.Plan", body={**body, "Diff": True})
        assert answer.body["Annotations"]["DesiredTGUpdates"]["app"]["Place"] == count, answer
    submit(world, body)
    world.until(lambda: deployments(world) == ["successful"] * 3, 120)
    answer = world.ask(world.servers()[1], "Job.Plan", body={**body, "Diff": True})
    assert answer.body["Diff"]["Type"] == "None", answer.body["Diff"]
