"""The same stories when every body passes through bytes, as between real agents."""

from harness import World
from stories import add_clients, clients, datacenter, follower, leader, register, until_running

from core.server.config import LimitsConfig
from raft.settings import Settings


def encoded(monkeypatch, **changes) -> World:  # type: ignore[no-untyped-def]
    begin = World.__init__

    def begin_encoding(world: World, seed: int = 1) -> None:
        begin(world, seed)
        world.is_encoding = True

    monkeypatch.setattr(World, "__init__", begin_encoding)
    return datacenter(3, 2, **changes)


def test_register_forwarded_run_and_read_back(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    world = encoded(monkeypatch)
    register(world, server=follower(world), count=3)
    until_running(world, 3)
    world.run(2)
    server = follower(world)
    assert world.ask(server, "Job.Get", params={"job_id": "web"}).body["ID"] == "web"
    summary = world.ask(server, "Job.Summary", params={"job_id": "web"}).body
    assert summary["Summary"]["app"]["Running"] == 3
    stub = world.ask(server, "Alloc.List").body[0]
    shown = world.ask(server, "Alloc.Get", params={"alloc_id": stub["ID"]}).body
    assert shown["Job"]["TaskGroups"][0]["Tasks"][0]["Driver"] == "raw_exec"


def test_the_leader_dies_and_a_snapshot_is_sent(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    world = encoded(
        monkeypatch,
        limits=LimitsConfig(snapshot_entries=10),
        raft=Settings(trailing_entries=2, chunk_bytes=700),
    )
    register(world)
    until_running(world, 2)
    first = leader(world)
    world.kill(first)
    for count in (3, 4, 5, 4, 3, 5):
        register(world, count=count)
        until_running(world, count)
    again = world.start(first.name)  # type: ignore[attr-defined]
    world.until(lambda: again.state.index >= leader(world).state.index)
    assert again.state.hash() == leader(world).state.hash()
    add_clients(world, 1, first=9)
    assert len(clients(world)) == 3
