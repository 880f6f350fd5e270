"""One region of two datacenters: lists gather, ids lead home, a missing one is named."""

from clients import FakeClient, job
from harness import World

from core.model.query import Query

BOTH = ("10.0.0.1:4648", "10.0.0.2:4648")


def two_datacenters() -> World:
    world = World()
    for number in (1, 2):
        server = world.add_server(
            f"s{number}", number, region="eu", datacenter=f"eu-{number}", retry_join=BOTH
        )
        world.until(lambda: server.server.consensus.is_serving)  # noqa: B023
        world.run(8)
    for number in (1, 2):
        client = FakeClient(world, f"c{number}", number, [f"10.0.0.{number}:4647"])
        client.datacenter = f"eu-{number}"
    world.until(lambda: all(len(one.state.nodes) == 1 for one in world.servers()))
    world.run(10)  # digests
    return world


def place(world: World, number: int, job_id: str) -> None:
    """Register a job that only one of the datacenters may run."""
    body = {"Job": job(job_id, count=1, Datacenters=[f"eu-{number}"])}
    answer = world.ask(world.servers()[0], "Job.Register", body=body)
    assert not answer.is_error, answer
    home = world.servers()[number - 1]
    world.until(lambda: home.state.jobs.get("default", job_id) is not None)


def test_lists_span_the_region_and_ids_lead_to_their_datacenter() -> None:
    world = two_datacenters()
    one, two = world.servers()
    place(world, 1, "a")
    place(world, 2, "b")
    world.until(lambda: len(two.state.allocs) == 1 and len(one.state.allocs) == 1)
    for server in (one, two):
        listed = world.ask(server, "Job.List")
        assert [row["ID"] for row in listed.body] == ["a", "b"]
    nodes = world.ask(one, "Node.List").body
    assert len(nodes) == 2
    far = next(row for row in nodes if row["ID"].endswith(two.datacenter_id))
    assert world.ask(one, "Node.Get", params={"node_id": far["ID"]}).body["Name"] == "c2"
    alloc_id = next(row["ID"] for row in world.ask(one, "Alloc.List").body if row["JobID"] == "b")
    assert world.ask(one, "Alloc.Get", params={"alloc_id": alloc_id}).body["JobID"] == "b"


def test_a_gathered_list_blocks_until_one_of_them_changes() -> None:
    world = two_datacenters()
    one = world.servers()[0]
    place(world, 1, "a")
    world.run(3)
    first = world.ask(one, "Job.List")
    assert world.ask(one, "Job.List").index == first.index
    number = world.begin(one, Query(method="Job.List", min_index=first.index))
    world.run(3)
    assert number not in world.answers
    place(world, 2, "b")
    answer = world.until(lambda: world.answers.get(number), 5)
    assert answer.index > first.index and len(answer.body) == 2


def test_a_datacenter_that_does_not_answer_is_never_silently_missing() -> None:
    world = two_datacenters()
    one, two = world.servers()
    place(world, 1, "a")
    world.kill(two)
    answer = world.ask(one, "Job.List")
    assert answer.status == 500 and "eu-2" in answer.error
    stale = world.ask(one, "Job.List", stale=True)
    assert [row["ID"] for row in stale.body] == ["a"]
    assert stale.headers["X-Serai-Missing-Datacenters"] == "eu-2"


def test_federation_status_shows_each_datacenter_and_its_distance() -> None:
    world = two_datacenters()
    one, two = world.servers()
    rows = world.ask(one, "Federation.Status").body
    assert [(row["Datacenter"], row["IsOwn"]) for row in rows] == [("eu-1", True), ("eu-2", False)]
    own, other = rows
    assert own["DigestAgeSeconds"] == 0.0 and 0 < other["DigestAgeSeconds"] < 10
    assert other["RoundTripMilliseconds"] == 2.0, "a millisecond each way"
    assert other["ClockOffsetMilliseconds"] == 0.0
    assert own["HasQuorum"] is True and other["HasQuorum"] is True
    assert other["NodesReady"] == 1 and other["FreeCPU"] == other["TotalCPU"] > 0
    world.kill(two)
    world.run(40)
    gone = world.ask(one, "Federation.Status").body[1]
    assert gone["ServersAlive"] == 0 and "no live server" in gone["Error"]
