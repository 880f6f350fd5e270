"""One job over several datacenters, on the shipped servers in virtual time."""

from typing import Any

from clients import FakeClient, job
from harness import World

from core.federation import ranges
from core.federation.home_log import find_home, homes_of
from core.federation.share_log import watermarks_of

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


def running(world: World) -> list[list[int]]:
    """Return the indices of `web` that run in each datacenter, in order."""
    found = []
    for server in world.servers():
        rows = server.state.allocs.rows()
        columns = server.state.allocs.columns
        live = [row for row in rows.tolist() if columns.client[row] == 1]
        found.append(sorted(int(columns.index[row]) for row in live))
    return found


def until_running(world: World, count: int) -> list[list[int]]:
    """Wait until each of `count` indices runs exactly once."""

    def is_so() -> bool:
        return sorted(sum(running(world), [])) == list(range(count))

    world.until(is_so, 120)
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
