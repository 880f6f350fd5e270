"""`job why`: the whole story of a job, whoever is asked, whoever leads, whoever is gone."""

from typing import Any

from clients import FakeClient, job
from harness import World

from core.federation.causes import chain_of
from core.model.query import Query

JOIN = ("10.0.0.1:4648", "10.0.0.2:4648")


def federation(*, us_servers: int = 1) -> World:
    """eu and ap with a server each; us with `us_servers`; a node each, that of us the largest."""
    world = World()
    places = [(1, "eu"), (2, "ap"), *((3 + number, "us") for number in range(us_servers))]
    for number, region in places:
        expect = us_servers if region == "us" else 1
        world.add_server(
            f"s{number}", number, region=region, datacenter=f"{region}-1", retry_join=JOIN,
            bootstrap_expect=expect,
        )  # fmt: skip
    for _, region in places:
        world.until(lambda: world.leader(f"{region}-1"))  # noqa: B023
    for number, region in ((1, "eu"), (2, "ap"), (3, "us")):
        client = FakeClient(world, f"c{number}", number, [f"10.0.0.{number}:4647"])
        client.datacenter = f"{region}-1"
    world.until(lambda: all(len(one.state.nodes) == 1 for one in world.servers()))
    world.run(12)  # digests
    return world


def why(world: World, region: str, job_id: str = "web", **query: Any) -> dict[str, Any]:
    answer = world.ask(leader_of(world, region), "Job.Why", params={"job_id": job_id}, **query)
    assert not answer.is_error, answer
    body: dict[str, Any] = answer.body
    return body


def leader_of(world: World, region: str) -> Any:
    return world.until(lambda: world.leader(f"{region}-1"))


def spill(world: World) -> None:
    """Register a job in eu that only runs in us."""
    policy = {"Spillover": {"Regions": ["ap", "us"]}}
    body = {"Job": job("web", count=1, Datacenters=["us-1", "ap-9"], Federation=policy)}
    answer = world.ask(leader_of(world, "eu"), "Job.Register", body=body)
    assert not answer.is_error, answer


def told(body: dict[str, Any]) -> list[tuple[str, str, int]]:
    (story,) = body["Jobs"]
    return [(row["Datacenter"], row["Kind"], row["Depth"]) for row in story["Events"]]


def test_the_way_to_another_region_is_told_from_any_third_one() -> None:
    world = federation()
    spill(world)
    body = why(world, "ap")
    assert told(body) == [
        ("eu-1", "submitted", 0),
        ("eu-1", "asked", 1),
        ("eu-1", "claimed", 2),
        ("us-1", "registered", 3),
    ]
    (story,) = body["Jobs"]
    assert story["Home"] == "us/us-1" and not body["Missing"]
    asked = story["Events"][-3]
    assert asked["Facts"]["to"] == "us/us-1" and asked["Facts"]["digest_age_ms"] > 0
    assert "by its digest of" in asked["Text"]
    times = [row["HybridTime"] for row in story["Events"]]
    assert times == sorted(times)
    for region in ("eu", "us"):
        assert why(world, region)["Jobs"][0]["Events"] == story["Events"]


def test_a_job_that_stays_where_it_was_submitted_leaves_no_record() -> None:
    world = federation()
    eu = leader_of(world, "eu")
    body = {"Job": job("web", count=1)}
    assert not world.ask(eu, "Job.Register", body=body).is_error
    assert told(why(world, "us")) == [("eu-1", "registered", 0)]
    assert not list(eu.state.table("causes"))


def test_refusal_and_move_are_both_told_after_the_home_lost_its_leader_in_between() -> None:
    world = federation(us_servers=3)
    home, ap = leader_of(world, "us"), leader_of(world, "ap")
    policy = {"Spillover": {"Regions": ["ap", "eu"]}}
    body = {"Job": job("web", count=60, Federation=policy)}
    assert not world.ask(home, "Job.Register", body=body).is_error
    # ap fills up behind the back of its digest, so it refuses the share that comes.
    assert not world.ask(ap, "Job.Register", body={"Job": job("filler", count=38)}).is_error

    def goals(server: Any) -> list[str]:
        events = chain_of(server.state, "default", "web").events
        return [str(event.facts.get("to", event.kind)) for event in events]

    world.until(lambda: "refused" in goals(home))
    assert "eu/eu-1" not in goals(home), "not moved yet"
    world.kill(home)
    new = leader_of(world, "us")
    world.until(lambda: "eu/eu-1" in goals(new))
    world.kill(ap)  # nor need the refusing datacenter be there any more
    told_in_eu = why(world, "eu")
    (story,) = told_in_eu["Jobs"]
    assert story["Home"] == "us/us-1"
    rows = story["Events"]
    asked = next(row for row in rows if row["Facts"].get("to") == "ap/ap-1")
    refused = next(row for row in rows if row["Kind"] == "refused")
    moved = next(row for row in rows if row["Facts"].get("to") == "eu/eu-1")
    assert rows.index(asked) < rows.index(refused) < rows.index(moved)
    assert asked["Facts"]["digest_age_ms"] > 0 and "by its digest of" in asked["Text"]
    assert refused["After"] == [asked["ID"]] and "room for 2 of 20" in refused["Text"]
    assert (refused["Region"], refused["Datacenter"]) == ("ap", "ap-1")
    assert (moved["Region"], moved["Kind"]) == ("us", "shared")
    assert moved["Depth"] > refused["Depth"] > asked["Depth"]
    assert [one["Datacenter"] for one in told_in_eu["Missing"]] == ["ap-1"]


def test_a_purged_job_is_told_of_and_a_name_used_again_is_another_story() -> None:
    world = federation()
    eu = leader_of(world, "eu")
    for count in (1, 2):
        assert not world.ask(eu, "Job.Register", body={"Job": job("web", count=count)}).is_error
        params = {"job_id": "web", "purge": "true"}
        assert not world.ask(eu, "Job.Deregister", params=params).is_error
    stories = why(world, "ap")["Jobs"]
    assert [[row["Kind"] for row in story["Events"]] for story in stories] == [
        ["registered", "purged"],
        ["registered", "purged"],
    ]
    assert stories[0]["UID"] != stories[1]["UID"] and stories[0]["Home"] == ""


def test_a_write_that_was_passed_on_says_so() -> None:
    world = federation()
    body = {"Job": job("web", count=1)}
    assert not world.ask(leader_of(world, "ap"), "Job.Register", body=body, region="eu").is_error
    assert told(why(world, "us")) == [("ap-1", "forwarded", 0), ("eu-1", "registered", 1)]


def test_a_job_that_nobody_knows_is_not_found_unless_somebody_could_not_be_asked() -> None:
    world = federation()
    answer = world.ask(leader_of(world, "us"), "Job.Why", params={"job_id": "none"})
    assert (answer.status, answer.error) == (404, "job not found")
    world.kill(leader_of(world, "ap"))
    body = why(world, "us", "none")
    assert not body["Jobs"] and body["Missing"][0]["Region"] == "ap"


def test_a_purge_that_is_repeated_under_its_token_is_told_once() -> None:
    world = federation()
    eu = leader_of(world, "eu")
    assert not world.ask(eu, "Job.Register", body={"Job": job("web", count=1)}).is_error
    query = Query(
        method="Job.Deregister", params={"job_id": "web", "purge": "true"}, call_id="again",
        call_issued_us=world.now.wall_us,
    )  # fmt: skip
    numbers = [world.begin(eu, query), world.begin(eu, query)]
    world.until(lambda: all(number in world.answers for number in numbers))
    (story,) = why(world, "us")["Jobs"]
    assert [row["Kind"] for row in story["Events"]].count("purged") == 1
