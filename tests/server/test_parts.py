"""One job over several datacenters, on the shipped servers in virtual time."""

from itertools import chain
from typing import Any

import pytest
from clients import FakeClient, job
from harness import World

from core.federation import ranges
from core.federation.home_log import find_home, homes_of
from core.federation.share_log import watermarks_of
from core.model.allocation import ClientStatus

ROOM = 40  # instances of clients.job that one node holds


def federation(*places: tuple[str, str], seed: int = 1) -> World:
    """Return a world of one server and one client for each (region, datacenter)."""
    world = World(seed)
    join = tuple(f"10.0.0.{number}:4648" for number, _ in enumerate(places, start=1))
    for number, (region, datacenter) in enumerate(places, start=1):
        server = world.add_server(
            f"s{number}", number, region=region, datacenter=datacenter, retry_join=join
        )
        world.until(lambda: server.server.consensus.is_serving)  # noqa: B023
        world.run(8)
    for number, (_, datacenter) in enumerate(places, start=1):
        client = FakeClient(world, f"c{number}", number, [f"10.0.0.{number}:4647"])
        client.datacenter = datacenter
    world.until(lambda: all(len(one.state.nodes) == 1 for one in world.servers()))
    world.run(10)  # digests
    return world


def two_datacenters() -> World:
    return federation(("eu", "eu-1"), ("eu", "eu-2"))


def register(world: World, count: int, number: int = 0, **changes: Any) -> None:
    body = {"Job": job("web", count=count, **changes)}
    answer = world.ask(world.servers()[number], "Job.Register", body=body)
    assert not answer.is_error, answer


def running_at(server: Any) -> list[int]:
    """Return the indices of `web` that run in a server's datacenter, in order."""
    state = server.state
    record = state.jobs.get("default", "web")
    rows = state.allocs.rows() if record is None else state.allocs.rows_of_job(record.ordinal)
    rows = rows[state.allocs.columns.client[rows] == ClientStatus.RUNNING]
    if record is None:  # purged: its allocations remain for a while
        rows = rows[[state.allocs.job_record(int(row)).id == "web" for row in rows.tolist()]]
    return sorted(state.allocs.columns.index[rows].tolist())


def running(world: World) -> list[list[int]]:
    return [running_at(server) for server in world.servers()]


def until_running(world: World, count: int) -> list[list[int]]:
    """Wait until each of `count` indices runs exactly once; return them by datacenter."""
    world.until(lambda: sorted(chain(*running(world))) == list(range(count)), 120)
    return running(world)


def settled(world: World) -> bool:
    home = find_home(world.servers()[0].state, "default", "web")
    return home is not None and all(part.is_settled for part in home.parts.values())


def test_a_job_too_large_for_one_datacenter_runs_in_both() -> None:
    world = two_datacenters()
    register(world, 60)
    parts = until_running(world, 60)
    assert len(parts[0]) == ROOM and len(parts[1]) == 60 - ROOM
    one, two = world.servers()

    def known_running() -> int:
        home = find_home(one.state, "default", "web")
        return ranges.size(home.parts[two.datacenter_id].running)

    world.until(lambda: known_running() == 20)
    assert settled(world)
    home = find_home(one.state, "default", "web")
    assert one.state.jobs.get("default", "web").status == "running"
    assert two.state.jobs.get("default", "web").job.uid == home.uid


def test_scaling_down_and_up_gives_back_and_takes_again() -> None:
    world = two_datacenters()
    register(world, 60)
    until_running(world, 60)
    register(world, 10)
    until_running(world, 10)
    register(world, 50)
    until_running(world, 50)


def test_a_stop_reaches_every_part_and_a_purge_leaves_nothing() -> None:
    world = two_datacenters()
    register(world, 60)
    until_running(world, 60)
    one, two = world.servers()
    answer = world.ask(one, "Job.Deregister", params={"job_id": "web"})
    assert not answer.is_error, answer
    until_running(world, 0)
    world.until(lambda: one.state.jobs.get("default", "web").status == "dead", 60)
    register(world, 60)  # started again
    until_running(world, 60)
    answer = world.ask(two, "Job.Deregister", params={"job_id": "web", "purge": "true"})
    assert not answer.is_error, answer
    until_running(world, 0)
    world.until(lambda: not len(homes_of(one.state)), 60)
    assert two.state.jobs.get("default", "web") is None
    assert all(mark.is_gone for mark in watermarks_of(two.state).values())


# --- over regions -------------------------------------------------------------------------

SPILLS = {"Federation": {"Partition": "hold", "Spillover": {"Regions": ["us"], "After": 5 * 10**9}}}


def two_regions() -> World:
    return federation(("eu", "eu-1"), ("us", "us-1"))


def test_what_a_region_has_no_room_for_runs_in_the_next_one() -> None:
    world = two_regions()
    register(world, 60, **SPILLS)
    assert [len(part) for part in until_running(world, 60)] == [ROOM, 60 - ROOM]
    register(world, 30, **SPILLS)
    world.until(lambda: [len(part) for part in running(world)] == [30, 0], 60)


def test_spilled_work_comes_back_when_there_is_room_again() -> None:
    world = two_regions()
    body = {"Job": job("other", count=30)}
    assert not world.ask(world.servers()[0], "Job.Register", body=body).is_error
    world.run(5)
    register(world, 20, **SPILLS)
    assert [len(part) for part in until_running(world, 20)] == [10, 10]
    eu, us = world.servers()
    stop = world.ask(eu, "Job.Deregister", params={"job_id": "other"})
    assert not stop.is_error
    world.run(20)
    assert len(running_at(us)) == 10, "not before the cooldown"
    world.run(60)
    assert len(running_at(us)) == 8, "a tenth of the job at a time"
    world.until(lambda: (len(running_at(eu)), len(running_at(us))) == (20, 0), 400)


def test_a_name_that_has_a_part_in_a_region_is_taken_there() -> None:
    world = two_regions()
    register(world, 60, **SPILLS)
    until_running(world, 60)
    us = world.servers()[1]
    answer = world.ask(us, "Job.Register", body={"Job": job("web", count=1)})
    assert answer.status == 409 and "eu" in answer.error, answer
    answer = world.ask(us, "Job.Deregister", params={"job_id": "web"})
    assert answer.status == 409 and "eu" in answer.error, answer
    world.run(5)
    assert [len(part) for part in running(world)] == [ROOM, 20]


# --- cuts, copies, parking ----------------------------------------------------------------


def cut(world: World, one: Any, two: Any) -> None:
    """Let nothing pass between two servers."""
    world.cut |= {(one.server.config.name, two.server.config.name),
                  (two.server.config.name, one.server.config.name)}  # fmt: skip


def test_a_system_job_runs_on_the_nodes_of_every_datacenter() -> None:
    world = two_datacenters()
    body = {"Job": {**job("web", count=1), "Type": "system"}}
    assert not world.ask(world.servers()[0], "Job.Register", body=body).is_error
    world.until(lambda: [len(part) for part in running(world)] == [1, 1], 60)
    stop = world.ask(world.servers()[1], "Job.Deregister", params={"job_id": "web"})
    assert not stop.is_error, stop
    world.until(lambda: [len(part) for part in running(world)] == [0, 0], 60)


@pytest.mark.parametrize("partition", ["hold", "surge"])
def test_work_of_a_datacenter_that_is_cut_off_is_copied_only_if_the_job_asks(
    partition: str,
) -> None:
    world = two_datacenters()
    one, two = world.servers()
    spread = [{"Attribute": "${node.datacenter}"}]
    register(world, 20, Federation={"Partition": partition, "Spread": spread})
    mine, theirs = until_running(world, 20)
    assert len(mine) == len(theirs) == 10
    cut(world, one, two)
    world.run(55)
    assert running(world) == [mine, theirs], "not within the first minute"
    world.run(40)
    copied = list(range(20)) if partition == "surge" else mine
    assert running(world) == [copied, theirs], "a part that is cut off runs on"
    world.cut.clear()
    assert until_running(world, 20) == [mine, theirs]


def test_a_share_can_be_parked_where_it_runs_and_is_not_given_again() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 60)
    until_running(world, 60)
    register(world, 45)
    until_running(world, 45)
    cut(world, one, two)
    parked = world.ask(two, "Job.Deregister", params={"job_id": "web"}, datacenter="eu-2")
    assert not parked.is_error, parked
    world.until(lambda: not running_at(two), 30)
    world.cut.clear()
    register(world, 40)
    world.until(lambda: running(world) == [list(range(40)), []], 120)
    register(world, 60)
    world.run(60)
    assert running_at(two) == []
    started = world.ask(two, "Job.Start", params={"job_id": "web"}, datacenter="eu-2")
    assert not started.is_error, started
    until_running(world, 60)


# --- one call, one job --------------------------------------------------------------------


def told(answer: Any) -> tuple[str, int]:
    return answer.body["EvalID"], answer.body["EvalCreateIndex"]


def test_a_registration_that_is_sent_again_changes_nothing_wherever_it_went() -> None:
    world = two_regions()
    eu, us = world.servers()
    body = {"Job": job("web", count=60, **SPILLS)}
    issued_us = world.now.wall_us
    token = {"call_id": "mine", "call_issued_us": issued_us}
    first = world.ask(eu, "Job.Register", body=body, **token)
    until_running(world, 60)
    again = world.ask(eu, "Job.Register", body=body, **token)
    assert told(again) == told(first)
    purge = {"job_id": "web", "purge": "true"}
    assert not world.ask(eu, "Job.Deregister", params=purge).is_error
    until_running(world, 0)
    assert told(world.ask(eu, "Job.Register", body=body, **token)) == told(first)
    world.run(5)
    assert running(world) == [[], []], "not carried out a second time"
    late = {**token, "call_issued_us": issued_us - 25 * 3600 * 10**6, "call_id": "old"}
    assert world.ask(us, "Job.Register", body=body, **late).status == 409


def test_a_purged_job_of_another_home_does_not_come_back_by_a_late_retry() -> None:
    world = two_datacenters()
    one, two = world.servers()
    body = {"Job": job("web", count=2, Datacenters=["eu-2"])}
    token = {"call_id": "mine", "call_issued_us": world.now.wall_us}
    first = world.ask(one, "Job.Register", body=body, **token)
    world.until(lambda: len(running_at(two)) == 2)
    purge = {"job_id": "web", "purge": "true"}
    assert not world.ask(one, "Job.Deregister", params=purge).is_error
    world.run(700)  # until the authority has asked, and closed the claim
    anywhere = {"Job": job("web", count=2)}
    again = world.ask(one, "Job.Register", body=anywhere, **token)
    assert told(again) == told(first), "the first answer came to the authority with the name"
    assert running_at(two) == []
    assert not world.ask(one, "Job.Register", body=anywhere).is_error


def test_a_job_for_a_named_datacenter_takes_its_name_first() -> None:
    world = two_datacenters()
    one, two = world.servers()
    body = {"Job": job("web", count=1)}
    assert not world.ask(one, "Job.Register", body=body, datacenter="eu-2").is_error
    world.until(lambda: running(world) == [[], [0]])
    home = world.ask(one, "Job.Get", params={"job_id": "web"})
    assert not home.is_error, "its home is found by its claim"
    assert one.state.table("claims").get("default\0web").home == two.datacenter_id


# --- kinds of jobs ------------------------------------------------------------------------


def clients(world: World) -> list[FakeClient]:
    return [agent for agent in world.agents.values() if isinstance(agent, FakeClient)]


def test_a_batch_job_ends_when_all_its_parts_have_and_none_runs_twice() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 50, Type="batch")
    until_running(world, 50)
    mine, theirs = clients(world)
    theirs.finish(ClientStatus.COMPLETE)
    world.run(3)
    assert not world.ask(two, "System.GC").is_error
    world.run(20)
    assert len(two.state.allocs) == 10, "what is done is remembered as long as the job is"
    assert one.state.jobs.get("default", "web").status == "running"
    mine.finish(ClientStatus.COMPLETE)
    world.until(lambda: one.state.jobs.get("default", "web").status == "dead", 30)
    assert not world.ask(one, "System.GC").is_error
    world.until(lambda: not len(homes_of(one.state)), 30)
    assert one.state.jobs.get("default", "web") is None
    assert two.state.jobs.get("default", "web") is None, "collected with its home"
    assert running(world) == [[], []]


def test_a_dispatched_child_may_have_parts_elsewhere_too() -> None:
    world = two_datacenters()
    one, two = world.servers()
    body = {"Job": job("many", count=50, Type="batch", ParameterizedJob={"Payload": "optional"})}
    assert not world.ask(two, "Job.Register", body=body).is_error
    answer = world.ask(two, "Job.Dispatch", params={"job_id": "many"}, body={})
    assert not answer.is_error, answer
    child = answer.body["DispatchedJobID"]

    def spread() -> list[int]:
        found = [server.state.jobs.get("default", child) for server in (one, two)]
        return [0 if record is None else server.state.jobs.live(record)
                for server, record in zip((one, two), found, strict=True)]  # fmt: skip

    world.until(lambda: sum(spread()) == 50, 60)
    assert min(spread()) == 10
    assert world.ask(one, "Job.Get", params={"job_id": child}).body.id == child


def test_a_purge_gives_the_name_free_in_every_region() -> None:
    world = two_regions()
    eu, us = world.servers()
    register(world, 60, **SPILLS)
    until_running(world, 60)
    assert us.state.table("claims").get("default\0web").origin == "eu"
    purge = {"job_id": "web", "purge": "true"}
    assert not world.ask(eu, "Job.Deregister", params=purge).is_error
    world.until(lambda: us.state.table("claims").get("default\0web").is_closed, 30)
    assert eu.state.table("claims").get("default\0web").is_closed
    assert not world.ask(us, "Job.Register", body={"Job": job("web", count=1)}).is_error
    world.until(lambda: running(world) == [[], [0]])


def test_what_a_job_runs_is_told_without_those_that_can_t_be_asked_only_if_wanted() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 60)
    until_running(world, 60)
    listed = world.ask(two, "Job.Allocations", params={"job_id": "web"})
    assert sorted(int(row["Name"].partition("[")[2][:-1]) for row in listed.body) == list(range(60))
    cut(world, one, two)
    refused = world.ask(one, "Job.Allocations", params={"job_id": "web"})
    assert refused.status == 500 and "eu-2" in refused.error
    stale = world.ask(one, "Job.Allocations", params={"job_id": "web"}, stale=True)
    assert len(stale.body) == ROOM
    assert stale.headers["X-Serai-Missing-Datacenters"] == "eu-2"
    rows = world.ask(one, "Job.Shares", params={"job_id": "web"}).body["Shares"]
    assert [(row["Datacenter"], row["Wanted"]) for row in rows] == [("eu-1", 40), ("eu-2", 20)]


def test_a_datacenter_that_the_job_names_no_more_gives_its_part_back() -> None:
    world = two_datacenters()
    one = world.servers()[0]
    register(world, 30, Federation={"Spread": [{"Attribute": "${node.datacenter}"}]})
    assert [len(part) for part in until_running(world, 30)] == [15, 15]
    register(world, 30, Datacenters=["eu-2"])
    world.until(lambda: running(world) == [[], list(range(30))], 120)
    assert one.state.jobs.get("default", "web").status == "running", "its home stays"
    register(world, 60, Datacenters=["*"])
    assert [len(part) for part in until_running(world, 60)] == [30, 30]


def test_what_is_out_of_step_and_how_long_healing_takes_is_measured() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 60)
    until_running(world, 60)
    cut(world, one, two)
    register(world, 45)
    world.run(20)
    assert len(running_at(two)) == 20, "it could not be told"
    measures = one.server.measures
    assert measures.shares_unsettled == 1 and measures.heal_time.total == 0
    world.cut.clear()
    until_running(world, 45)
    world.until(lambda: measures.shares_unsettled == 0, 10)
    assert measures.heal_time.total == 1 and measures.share_moves["placed"] == 60
