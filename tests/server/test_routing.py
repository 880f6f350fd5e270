"""Which server answers: own region or another, the leader or any, and when nobody can."""

from clients import job
from harness import World
from stories import datacenter, follower, leader, register, until_running

from core.model.host import Requested
from core.model.query import Query
from core.server.routing import AT_LEADER


def two_regions() -> World:
    world = World()
    both = ("10.0.0.1:4648", "10.0.0.2:4648")
    world.add_server("eu1", 1, region="eu", datacenter="eu-1", retry_join=both)
    world.add_server("us1", 2, region="us", datacenter="us-1", retry_join=both)
    eu, us = world.servers()
    world.until(
        lambda: (
            len(eu.server.membership.datacenters()) == 2
            and len(us.server.membership.datacenters()) == 2
        )
    )
    return world


def test_an_unknown_region_has_no_path() -> None:
    world = datacenter(1, 0)
    answer = world.ask(leader(world), "Job.List", region="mars")
    assert (answer.status, answer.error) == (500, "No path to region")


def test_the_default_region_of_nomad_means_our_own() -> None:
    world = two_regions()
    assert not world.ask(world.servers()[0], "Job.List", region="global").is_error


def test_a_query_for_another_region_is_answered_there() -> None:
    world = two_regions()
    eu, us = world.servers()
    assert world.ask(eu, "Agent.Self", region="us").body["config"]["Region"] == "us"
    assert world.ask(eu, "Region.List").body == ["eu", "us"]
    assert world.ask(eu, "Status.Leader", region="us").body == us.server.config.rpc_addr


def test_a_job_may_name_its_region_in_its_body() -> None:
    world = two_regions()
    eu, us = world.servers()
    answer = world.ask(eu, "Job.Register", body={"Job": job(Region="us")})
    assert not answer.is_error, answer
    assert us.state.jobs.get("default", "web") is not None
    assert eu.state.jobs.get("default", "web") is None


def test_the_query_that_took_too_many_hops_is_refused() -> None:
    world = datacenter(1, 0)
    answer = world.ask(leader(world), "Job.List", hops=4)
    assert answer.status == 500 and "passed through 4 datacenters" in answer.error


def test_a_stale_read_is_answered_by_a_follower_with_its_age() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    world.run(1)
    server = follower(world)
    for other in world.servers():
        if other is not server:
            world.kill(other)
    world.run(2)
    answer = world.ask(server, "Job.Get", params={"job_id": "web"}, stale=True)
    assert answer.body.id == "web"
    assert answer.last_contact_ms >= 2_000 and not answer.known_leader


def test_without_a_leader_a_default_read_and_a_write_fail_in_words() -> None:
    world = datacenter()
    server = follower(world)
    for other in world.servers():
        if other is not server:
            world.kill(other)
    world.run(2)
    for method, body in (("Job.List", None), ("Job.Register", {"Job": job()})):
        answer = world.ask(server, method, body=body)
        assert answer.status == 500 and answer.error.startswith("No cluster leader")


def test_a_write_waits_for_the_next_leader_and_is_done_once() -> None:
    world = datacenter()
    server = follower(world)
    world.kill(leader_now := leader(world))
    number = world.begin(server, Query(method="Job.Register", body={"Job": job()}))
    answer = world.until(lambda: world.answers.get(number))
    assert not answer.is_error, answer
    assert leader(world) is not leader_now
    assert leader(world).state.jobs.get("default", "web").version == 0


def test_a_query_passed_to_one_that_does_not_lead_is_handed_back() -> None:
    world = datacenter()
    effects = follower(world).handle(Requested(99, AT_LEADER, Query(method="Job.List")), world.now)
    assert any(getattr(effect, "error", "") == "not the leader" for effect in effects)


def test_an_allocations_log_is_asked_of_its_node() -> None:
    world = datacenter()
    register(world, count=1)
    until_running(world, 1)
    alloc_id = world.ask(follower(world), "Alloc.List").body[0]["ID"]
    answer = world.ask(
        follower(world), "Client.Logs", params={"alloc_id": alloc_id, "task": "main"}
    )
    assert answer.body["method"] == "Client.ReadFile"
    assert answer.body["body"]["operation"] == "logs"


def test_every_answer_has_an_index_and_knows_its_leader() -> None:
    world = datacenter(1, 1)
    for method in ("Job.List", "Alloc.List", "Eval.List", "Node.List", "Deployment.List",
                   "Service.List", "NodePool.List", "Namespace.List", "Status.Leader",
                   "Operator.SchedulerGet", "Operator.RaftConfiguration"):  # fmt: skip
        answer = world.ask(leader(world), method)
        assert answer.status == 200 and answer.index > 0 and answer.known_leader, method
