"""A datacenter whose state went back in time is sealed until its peers have told it all."""

import hashlib
from typing import Any

import pytest
from clients import job
from harness import World
from test_datacenter_lives import lose, three_datacenters
from test_parts import federation, register, running_at, until_running

from core.federation import sealing
from core.federation.claims import authority_of, claims_of, find_claim
from core.federation.home_log import find_home
from core.federation.roster import is_enrolled
from core.federation.seal import SealDatacenter, is_sealed
from core.model.allocation import ClientStatus
from core.state.commands import RestoreSnapshot, StageSnapshot


def snapshot(server: Any) -> bytes:
    return b"".join(server.state.image().chunks())


def restore(world: World, server: Any, data: bytes) -> None:
    """Have the datacenter of one server go back to a snapshot of it."""
    forget_the_past(world)
    commands = [
        StageSnapshot(restore_id="r", offset=0, data=data),
        RestoreSnapshot(restore_id="r", digest=hashlib.sha256(data).hexdigest()),
    ]
    outcomes: list[Any] = []
    for command in commands:
        server.server.consensus.propose([command], outcomes.append)
        world.until(lambda: outcomes and outcomes[-1].applied is not None, 10)
        assert not outcomes.pop().applied.results[0].error


def unsealed(world: World, server: Any, seconds: float = 60) -> None:
    world.until(lambda: not is_sealed(server.state), seconds)


def parts_of(world: World) -> list[list[int]]:
    return [running_at(one) for one in world.servers()]


def test_a_home_that_went_back_learns_who_has_what_before_it_acts() -> None:
    """What it gave away since the snapshot it does not run, nor give to a third."""
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, 20, 1)
    until_running(world, 20)
    data = snapshot(two)  # all of it runs at home
    assert not world.ask(two, "Datacenter.SetDrain", body={"IsDraining": True}).is_error
    world.until(lambda: running_at(one) + running_at(three) and not running_at(two), 600)
    until_running(world, 20)
    assert not world.ask(two, "Datacenter.SetDrain", body={"IsDraining": False}).is_error
    held = [running_at(one), running_at(three)]
    restore(world, two, data)
    at_us = world.now_us
    assert is_sealed(two.state)
    told = {row["Datacenter"]: row for row in world.ask(two, "Federation.Status").body}
    assert told["eu-2"]["IsSealed"] and "snapshot" in told["eu-2"]["Seal"]["Reason"]
    refused = world.ask(two, "Job.Register", body={"Job": job("other")})
    assert refused.status == 503 and "sealed" in refused.error
    while is_sealed(two.state) or world.now_us < at_us + 60_000_000:
        world.run(0.5)
        assert processes(world) <= 20
    until_running(world, 20)
    assert [running_at(one), running_at(three)] == held, "who had them keeps them"
    register(world, 22, 0)
    until_running(world, 22)


def test_a_share_that_went_back_gets_its_newest_version_before_a_task_begins() -> None:
    world = three_datacenters()
    holder = world.servers()[1]
    register(world, 60, 0)
    parts = until_running(world, 60)
    assert parts[1] and parts[0]
    data = snapshot(holder)
    register(world, 2, 0)
    until_running(world, 2)
    restore(world, holder, data)
    assert is_sealed(holder.state)
    at_us = world.now_us
    while is_sealed(holder.state) or world.now_us < at_us + 30_000_000:
        world.run(0.5)
        assert processes(world) <= 2, "nothing begins that somebody else runs, or nobody shall"
    until_running(world, 2)


def processes(world: World) -> int:
    """Return how many instances the clients run, as they know it themselves."""
    return sum(len(one) for one in _statuses(world))


def _statuses(world: World) -> list[list[str]]:
    clients = [agent for agent in world.agents.values() if agent.name.startswith("c")]
    return [
        [alloc for alloc, status in one.statuses.items() if status == ClientStatus.RUNNING]
        for one in clients
    ]


def forget_the_past(world: World) -> None:
    """Let the clients collect what has ended: should they be told to, they would begin it anew."""
    for agent in world.agents.values():
        if agent.name.startswith("c"):
            running = agent.statuses.items()
            agent.statuses = {a: s for a, s in running if s == ClientStatus.RUNNING}


def test_it_stays_sealed_while_a_peer_is_silent_and_goes_on_under_the_next_leader() -> None:
    world = three_datacenters()
    two = world.servers()[1]
    register(world, 4, 1)
    until_running(world, 4)
    data = snapshot(two)
    lose(world, "s3")
    restore(world, two, data)
    world.run(30)
    seal = next(r for r in world.ask(two, "Federation.Status").body if r["IsOwn"])["Seal"]
    assert list(seal["Waiting"]) == ["eu/eu-3"]
    world.kill(two)
    two = world.start("s2")
    world.until(lambda: two.server.consensus.is_serving, 60)
    assert is_sealed(two.state)
    world.start("s3")
    unsealed(world, two, 120)
    until_running(world, 4)


def test_it_stays_sealed_only_while_something_runs_without_an_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planner that is late with stopping it keeps the seal on, and not for ever."""
    world = three_datacenters()
    two = world.servers()[1]
    register(world, 4, 1)
    until_running(world, 4)
    data = snapshot(two)
    restore(world, two, data)
    late_us = world.now_us + 20_000_000
    monkeypatch.setattr(sealing, "_strays_of", lambda *_: world.now_us < late_us)
    world.run(15)
    seal = next(r for r in world.ask(two, "Federation.Status").body if r["IsOwn"])["Seal"]
    assert list(seal["Waiting"].values()) == ["1 jobs are being planned anew"]
    unsealed(world, two)
    until_running(world, 4)


def test_a_name_that_was_purged_since_comes_back_and_one_that_moved_does_not() -> None:
    world = three_datacenters()
    one, two, _ = world.servers()
    register(world, 2, 1)
    until_running(world, 2)
    data = snapshot(two)
    stop = {"job_id": "web", "purge": "true"}
    assert not world.ask(two, "Job.Deregister", params=stop).is_error
    world.until(lambda: find_claim(one.state, "default", "web") is None, 900)
    restore(world, two, data)
    unsealed(world, two)
    claim = find_claim(one.state, "default", "web")
    assert claim is not None and claim.home == two.datacenter_id
    until_running(world, 2)
    assert not world.ask(two, "Job.Deregister", params=stop).is_error
    world.until(lambda: find_claim(one.state, "default", "web") is None, 900)
    register(world, 3, 0, Datacenters=["eu-1"])
    restore(world, two, data)
    unsealed(world, two)
    world.run(20)
    assert parts_of(world)[0] == [0, 1, 2] and not parts_of(world)[1]
    record = two.state.jobs.get("default", "web")
    assert record is None or record.home == one.datacenter_id


def test_an_authority_whose_newest_claims_may_be_lost_asks_the_homes() -> None:
    world = three_datacenters()
    one, two, _ = world.servers()
    register(world, 2, 1)
    until_running(world, 2)
    claims_of(one.state).delete("default\0web")  # as if the entry had been in no log that is left
    done: list[Any] = []
    one.server.consensus.propose([SealDatacenter(reason="a test")], done.append)
    world.until(lambda: done and is_sealed(one.state), 10)
    unsealed(world, one)
    claim = find_claim(one.state, "default", "web")
    assert claim is not None and claim.home == two.datacenter_id
    assert one.state.is_authority and authority_of(one.state).generation == 1
    world.run(10)  # digests
    answer = world.ask(two, "Job.Register", body={"Job": job("new", Datacenters=["eu-2"])})
    assert not answer.is_error, answer


def test_who_is_alone_is_not_sealed() -> None:
    world = federation(("eu", "eu-1"))
    (one,) = world.servers()
    world.until(lambda: is_enrolled(one.state), 60)
    register(world, 2)
    data = snapshot(one)
    restore(world, one, data)
    assert not is_sealed(one.state)
    assert find_home(one.state, "default", "web") is None
    until_running(world, 2)
