"""Beginnings that many tests share."""

from typing import Any

from clients import FakeClient, job
from harness import World

from core.model.query import Answer
from core.server.machine import ServerMachine

JOIN = ("10.0.0.1:4648",)


def datacenter(servers: int = 3, clients: int = 2, *, seed: int = 1, **changes: Any) -> World:
    """Return a world with one datacenter that has a leader and registered clients."""
    world = World(seed)
    for number in range(1, servers + 1):
        world.add_server(
            f"s{number}", number, **{"bootstrap_expect": servers, "retry_join": JOIN, **changes}
        )
    world.until(world.leader)
    add_clients(world, clients)
    return world


def add_clients(world: World, count: int, first: int = 1) -> list[FakeClient]:
    addresses = [server.server.config.rpc_addr for server in world.servers()]
    added = [
        FakeClient(world, f"c{number}", number, addresses) for number in range(first, first + count)
    ]
    known = {one.name for one in added}
    world.until(lambda: known <= {node.name for node in leader(world).state.nodes})
    return added


def clients(world: World) -> list[FakeClient]:
    return [one for one in world.agents.values() if isinstance(one, FakeClient)]


def leader(world: World) -> ServerMachine:
    found: ServerMachine = world.until(world.leader)
    return found


def follower(world: World) -> ServerMachine:
    return next(one for one in world.servers() if one is not world.leader())


def register(world: World, *, server: Any = None, count: int = 2, **changes: Any) -> Answer:
    """Register a job and return the answer, which must be a success."""
    body = {"Job": job(count=count, **changes)}
    answer = world.ask(server or leader(world), "Job.Register", body=body)
    assert not answer.is_error, answer
    return answer


def running(world: World, job_id: str = "web") -> int:
    """Return how many of a job's allocations the leader's state holds for running."""
    state = leader(world).state
    record = state.jobs.get("default", job_id)
    return 0 if record is None else state.jobs.summary(record).summary["app"].running


def until_running(world: World, count: int, job_id: str = "web") -> None:
    world.until(lambda: running(world, job_id) == count)
