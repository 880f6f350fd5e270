"""A new job looks for a datacenter: bounces, promised room, and waiting with reasons."""

from typing import Any

from clients import FakeClient, job
from harness import World

from core.model.query import Query

JOIN = ("10.0.0.1:4648", "10.0.0.2:4648")
REGIONS = ("eu", "us", "ap", "sa", "af")


def federation(regions: tuple[str, ...]) -> World:
    """One server and one node for each region."""
    world = World()
    for number, region in enumerate(regions, 1):
        world.add_server(f"s{number}", number, region=region, datacenter=region, retry_join=JOIN)
    for region in regions:
        world.until(lambda: world.leader(region))  # noqa: B023
    for number, region in enumerate(regions, 1):
        client = FakeClient(world, f"c{number}", number, [f"10.0.0.{number}:4647"])
        client.datacenter = region
    world.until(lambda: all(len(one.state.nodes) == 1 for one in world.servers()))
    world.run(7)  # digests
    return world


def sized(job_id: str, cpu: int, **changes: Any) -> dict[str, Any]:
    made = job(job_id, count=1, **{"Region": "*", **changes})
    made["TaskGroups"][0]["Tasks"][0]["Resources"]["CPU"] = cpu
    return made


def register(world: World, at: str, wanted: dict[str, Any]) -> Any:
    return world.ask(world.leader(at), "Job.Register", body={"Job": wanted})


def silence(world: World) -> None:
    """Nobody hears anything by gossip: all digests stay as they are."""
    names = [one.name for one in world.servers()]
    world.mute = {(one, other) for one in names for other in names if one != other}


def capacity(world: World) -> int:
    return int(world.servers()[0].state.nodes.cpu_capacity[0])


def bounces(world: World) -> int:
    return sum(one.measures.bounces for one in world.servers())


def homes(world: World, job_id: str) -> list[str]:
    return [
        one.server.config.region
        for one in world.servers()
        if one.state.jobs.get("default", job_id) is not None
    ]


def verdicts(answer: Any) -> dict[str, tuple[str, str]]:
    return {one["Region"]: (one["Verdict"], one["Reason"]) for one in answer.body["SeraiVerdicts"]}


def fill(world: World, region: str) -> None:
    whole = capacity(world)
    answer = register(world, region, sized(f"fill-{region}", whole, Region=region))
    assert not answer.is_error, answer
    leader = world.leader(region)
    world.until(lambda: leader.state.nodes.cpu_used[0] == whole)


def test_a_stale_digest_costs_a_bounce_and_the_refusal_brings_news() -> None:
    world = federation(("eu", "us", "ap"))
    fill(world, "eu")
    world.run(12)
    silence(world)
    fill(world, "us")  # and nobody hears of it
    half = capacity(world) // 2
    for number in range(2):
        answer = register(world, "eu", sized(f"web-{number}", half))
        assert not answer.is_error and homes(world, f"web-{number}") == ["ap"], answer
    refused = [name for name, (verdict, _) in verdicts(answer).items() if verdict == "refused"]
    assert bounces(world) <= 1, "after one refusal its fresh digest says that it is full"
    assert not refused or bounces(world) == 1
    is_known = bounces(world) == 1  # by the draws it may not have been asked yet
    told = verdicts(register(world, "eu", sized("web-3", half)))
    assert told["us"][0] == "full" or not is_known


def test_after_three_bounces_a_job_waits_at_home_with_every_reason() -> None:
    world = federation(REGIONS)
    fill(world, "eu")
    world.run(12)
    silence(world)
    for region in REGIONS[1:]:
        fill(world, region)
    answer = register(world, "eu", sized("web", capacity(world) // 2))
    assert not answer.is_error
    assert bounces(world) == 3
    assert homes(world, "web") == ["eu"], "it waits where it was asked for"
    told = verdicts(answer)
    assert [told[region][0] for region in REGIONS[1:]].count("refused") == 3
    assert sum("not asked: 3 others refused" in reason for _, reason in told.values()) == 1
    eu = world.leader("eu").state.evals
    world.until(lambda: [one for one in eu.of_job("default", "web") if one.status == "blocked"])
    (story,) = world.ask(world.leader("us"), "Job.Why", params={"job_id": "web"}).body["Jobs"]
    blocked = next(row for row in story["Events"] if row["Kind"] == "blocked")
    assert all(f"{region}/{region}: " in blocked["Facts"]["reason"] for region in REGIONS)


def test_two_at_once_are_not_promised_one_hole() -> None:
    world = federation(("eu", "us", "ap"))
    fill(world, "eu")
    world.run(12)
    share = capacity(world) * 6 // 10  # each remaining datacenter holds one of them
    for number in range(3):
        leader = world.leader("eu")
        body = {"Job": sized(f"web-{number}", share)}
        world.begin(leader, Query(method="Job.Register", body=body, region="eu"))
    world.run(5)
    placed = [homes(world, f"web-{number}") for number in range(3)]
    assert sorted(home for (home,) in placed) == ["ap", "eu", "us"], placed
    for region in ("us", "ap"):
        leader = world.leader(region)
        assert leader.state.nodes.cpu_used[0] == share, "and nothing waits there"


def test_a_big_ask_reserves_first_and_the_hold_ends() -> None:
    world = federation(("eu", "us"))
    fill(world, "eu")
    world.run(12)
    us = world.leader("us")
    half = capacity(world) // 2
    assert not register(world, "eu", sized("small", capacity(world) // 100)).is_error
    assert "Home.Reserve" not in us.measures.rpc
    assert not register(world, "eu", sized("big", half)).is_error
    assert us.measures.rpc["Home.Reserve"] == 1
    held = {"UID": "0" * 32, "Job": sized("other", half - 1_000)}
    coordinator = us.server.federation
    assert coordinator.on_call("Home.Reserve", held, us.server.me(), lambda body, error: None)
    assert len(coordinator.offers.reservations) >= 1
    answer = register(world, "eu", sized("third", 2_000))
    assert homes(world, "third") == ["eu"], "what is promised to another is not free"
    assert not answer.is_error
    world.run(11)
    assert not coordinator.offers.reservations.held(), "nobody came: the room is free again"


def test_a_plan_names_each_datacenter_its_age_and_its_room() -> None:
    world = federation(("eu", "us", "ap"))
    wanted = sized("web", 1_000, Region="eu", Federation={"Spillover": {"Regions": ["us"]}})
    answer = world.ask(world.leader("eu"), "Job.Plan", body={"Job": wanted, "Diff": True})
    rows = {one["Region"]: one for one in answer.body["SeraiVerdicts"]}
    assert {name: one["Verdict"] for name, one in rows.items()} == {
        "eu": "fits", "us": "fits", "ap": "not allowed"
    }  # fmt: skip
    assert rows["eu"]["DigestAgeMS"] is None and rows["eu"]["Chosen"]
    assert 0 < rows["us"]["DigestAgeMS"] < 10_000
    assert rows["us"]["Takes"]["app"]["AtLeast"] >= 1
    assert homes(world, "web") == []


def test_round_trips_are_measured_and_told() -> None:
    world = federation(("eu", "us"))
    eu, us = world.leader("eu"), world.leader("us")
    world.run(40)
    measured = eu.server.federation.known.trips_us()
    assert measured == {us.datacenter_id: 2_000}, "a millisecond each way"
