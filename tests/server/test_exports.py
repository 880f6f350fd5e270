"""Snapshots for operators at the machine's seam, and the comparison of all states."""

import hashlib
from typing import Any

import pytest
from harness import World
from stories import datacenter, follower, leader, register, running, until_running

from core.model.query import Answer, Query
from core.server.config import LimitsConfig
from core.server.effects import Computed
from core.server.machine import ServerMachine
from core.state.operating import Decoded
from raft.settings import Settings

SMALL = {
    "limits": LimitsConfig(snapshot_entries=20),
    "raft": Settings(trailing_entries=5, chunk_bytes=512),
}


def saved(world: World, server: ServerMachine, index: int = 0) -> bytes | Answer:
    """Return a server's own snapshot, or why there is none."""
    params = {"at_index": index}
    opened = world.ask(server, "Operator.SnapshotOpen", params=params, stale=True)
    if opened.is_error:
        return opened
    data = b""
    while True:
        params = {
            "server_id": opened.body["ServerID"], "export_id": opened.body["ExportID"],
            "offset": len(data),
        }  # fmt: skip
        # Any server passes the question on to the one that has the snapshot open.
        answer = world.ask(leader(world), "Operator.SnapshotChunk", params=params)
        if answer.is_error:
            return answer
        data += answer.body["data"]
        if answer.body["is_last"]:
            return data


def restore(world: World, data: bytes, *, force: bool = False, step: int = 4096) -> Answer:
    for offset in range(0, len(data), step):
        params: dict[str, Any] = {"restore_id": "r1", "offset": offset}
        body = {"data": data[offset : offset + step]}
        staged = world.ask(leader(world), "Operator.SnapshotStage", params=params, body=body)
        assert not staged.is_error, staged
    digest = hashlib.sha256(data).hexdigest()
    params = {"restore_id": "r1", "digest": digest, "force": force}
    return world.ask(follower(world), "Operator.SnapshotRestore", params=params)


def settled(world: World) -> None:
    """Wait until all servers have applied the same."""
    world.until(lambda: len({one.state.index for one in world.servers()}) == 1)


def test_every_server_gives_the_same_bytes_for_an_index_now_or_past() -> None:
    world = datacenter(3, 2, **SMALL)
    register(world)
    until_running(world, 2)
    marks: dict[int, bytes] = {}
    for number in range(12):
        register(world, ID="other", Name="other", count=number % 3)
        world.run(0.5)
        settled(world)
        marks[leader(world).state.index] = saved(world, leader(world))  # type: ignore[assignment]
    found = 0
    for index, data in marks.items():
        for server in world.servers():
            again = saved(world, server, index)
            if isinstance(again, Answer):
                assert "compacted" in again.error or "not held" in again.error
            else:
                assert again == data
                found += 1
    assert found >= 2 * 3  # the newest at least, on all three
    late = saved(world, follower(world), max(marks) + 1000)
    assert isinstance(late, Answer) and late.status == 404 and "is not applied" in late.error


def test_a_restore_takes_the_past_back_on_all_servers_and_time_goes_on() -> None:
    world = datacenter(3, 2)
    register(world)
    until_running(world, 2)
    data = saved(world, leader(world))
    assert isinstance(data, bytes)
    register(world, ID="later", Name="later")
    world.run(2)
    before = leader(world).state.index
    answer = restore(world, data)
    assert not answer.is_error, answer
    assert answer.body["Index"] > before
    assert leader(world).state.jobs.get("default", "later") is None
    settled(world)
    assert len({one.state.hash() for one in world.servers()}) == 1
    # What the leader keeps beside the state was made anew: work goes on.
    register(world, ID="next", Name="next", count=3)
    until_running(world, 3, "next")
    assert running(world) == 2
    jobs = world.ask(leader(world), "Job.List")
    assert jobs.index > before


def test_while_a_snapshot_is_read_the_log_goes_on_and_what_is_committed_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = datacenter(3, 0)
    register(world, ID="kept", Name="kept")
    data = saved(world, leader(world))
    assert isinstance(data, bytes)
    first, later = leader(world), world._later
    term = first.server.consensus.term
    seen: list[int] = []

    def slowly(agent: Any, event: Any, delay_us: int = 1_000) -> None:
        """Building the state takes a while; a write comes in the midst of it."""
        if isinstance(event, Computed) and isinstance(event.solution, Decoded):
            delay_us = 5_000_000
            if agent is first:
                world.at(1_000_000, lambda: world.begin(first, write))
                world.at(4_000_000, lambda: seen.append(_committed_and_not_applied(first)))
        later(agent, event, delay_us)

    settings = world.ask(first, "Operator.AutopilotGet").body
    write = Query(method="Operator.AutopilotSet", body=settings)
    monkeypatch.setattr(world, "_later", slowly)
    began_us = world.now_us
    assert not restore(world, data).is_error
    assert world.now_us - began_us > 5_000_000
    assert seen and seen[0] >= 2  # the restore itself, and the write behind it
    assert {one.server.consensus.term for one in world.servers()} == {term}
    settled(world)
    assert len({one.state.hash() for one in world.servers()}) == 1


def _committed_and_not_applied(server: ServerMachine) -> int:
    consensus = server.server.consensus
    return consensus.raft.commit_index - consensus.applied_index


def test_a_restored_server_restarts_into_the_same_state() -> None:
    world = datacenter(1, 1, **SMALL)
    register(world)
    until_running(world, 2)
    data = saved(world, leader(world))
    assert isinstance(data, bytes)
    for number in range(30):
        register(world, ID="other", Name="other", count=number % 3)
        world.run(0.2)
    single = leader(world)
    digest = hashlib.sha256(data).hexdigest()
    params = {"restore_id": "r", "offset": 0}
    world.ask(single, "Operator.SnapshotStage", params=params, body={"data": data})
    done = world.ask(
        single, "Operator.SnapshotRestore", params={"restore_id": "r", "digest": digest}
    )
    assert not done.is_error, done
    world.run(2)
    index = single.state.index
    world.kill(single)
    again = world.start(single.name)  # type: ignore[attr-defined]
    world.until(lambda: again.state.index >= index)
    assert again.state.jobs.get("default", "other") is None
    assert again.state.jobs.get("default", "web") is not None


def test_a_restore_of_another_datacenter_needs_force_and_keeps_this_identity() -> None:
    other = datacenter(1, 1, seed=7)
    register(other, ID="theirs", Name="theirs")
    data = saved(other, leader(other))
    assert isinstance(data, bytes)
    world = datacenter(3, 0, seed=1)
    own = leader(world).datacenter_id
    refused = restore(world, data)
    assert refused.status == 400 and "-force" in refused.error and own in refused.error
    assert leader(world).state.jobs.get("default", "theirs") is None
    taken = restore(world, data, force=True)
    assert not taken.is_error, taken
    assert leader(world).state.jobs.get("default", "theirs") is not None
    assert {one.datacenter_id for one in world.servers()} == {own}


@pytest.mark.parametrize("damage", ["cut", "flip", "rubbish", "empty"])
def test_rubbish_is_refused_before_it_is_committed(damage: str) -> None:
    world = datacenter(3, 0)
    register(world, ID="kept", Name="kept")
    data = saved(world, leader(world))
    assert isinstance(data, bytes)
    wrong = {
        "cut": data[:-3],
        "flip": data[:40] + bytes([data[40] ^ 4]) + data[41:],
        "rubbish": b"\x00" * 300,
        "empty": b"SERAISNP",
    }[damage]
    answer = restore(world, wrong)
    assert answer.status == 400 and answer.error.startswith("nothing was restored: ")
    assert leader(world).state.jobs.get("default", "kept") is not None
    assert not restore(world, data).is_error


def test_a_second_restore_ends_the_first() -> None:
    world = datacenter(1, 0)
    single = leader(world)
    for restore_id, offset in (("a", 0), ("b", 0)):
        params = {"restore_id": restore_id, "offset": offset}
        world.ask(single, "Operator.SnapshotStage", params=params, body={"data": b"x" * 9})
    late = world.ask(
        single, "Operator.SnapshotStage", params={"restore_id": "a", "offset": 9},
        body={"data": b"y"},
    )  # fmt: skip
    assert late.status == 409 and "another restore" in late.error
    gap = world.ask(
        single, "Operator.SnapshotStage", params={"restore_id": "b", "offset": 99},
        body={"data": b"y"},
    )  # fmt: skip
    assert gap.status == 409 and "at byte 9" in gap.error


# --- the same state everywhere --------------------------------------------------------


def test_verify_finds_all_equal_under_load() -> None:
    world = datacenter(3, 2)
    for number in range(6):
        register(world, ID=f"job-{number}", Name=f"job-{number}")
        body = world.ask(follower(world), "Operator.RaftVerify").body
        assert body["Equal"] and len({row["Hash"] for row in body["Servers"]}) == 1


def test_verify_names_table_and_group_where_a_replica_differs() -> None:
    world = datacenter(3, 2)
    register(world)
    until_running(world, 2)
    settled(world)
    wrong = follower(world)
    wrong.state.scheduler_config["Hidden"] = True
    wrong.state.nodes.columns.cpu_capacity[0] += 1
    body = world.ask(leader(world), "Operator.RaftVerify").body
    assert not body["Equal"]
    found = {one["Table"]: one for one in body["Differences"]}
    assert set(found) == {"meta", "node_columns"}
    assert "rows 0" in found["node_columns"]["Group"]
    said = found["node_columns"]["Servers"]
    name = f"{wrong.name}.global"  # type: ignore[attr-defined]
    assert [key for key, value in said.items() if list(said.values()).count(value) == 1] == [name]


def test_verify_says_who_could_not_be_asked() -> None:
    world = datacenter(3, 0)
    world.run(3)
    world.kill(follower(world))
    body = world.ask(leader(world), "Operator.RaftVerify", seconds=120).body
    assert not body["Equal"] and not body["Differences"]
    assert [bool(row["Error"]) for row in body["Servers"]].count(True) == 1


# --- how new an answer is -------------------------------------------------------------


def test_a_follower_that_is_cut_off_says_so_and_its_answers_age() -> None:
    world = datacenter(3, 0)
    world.run(3)
    alone = follower(world)
    answer = world.ask(alone, "Job.List", stale=True)
    assert answer.known_leader and answer.last_contact_ms <= 200
    for other in world.servers():
        if other is not alone:
            world.cut |= {(alone.name, other.name), (other.name, alone.name)}  # type: ignore[attr-defined]
    ages = []
    for _ in range(4):
        world.run(3)
        answer = world.ask(alone, "Job.List", stale=True)
        assert not answer.known_leader
        ages.append(answer.last_contact_ms)
    assert ages == sorted(ages) and ages[0] >= 2_900 and ages[-1] >= 11_900
    world.cut.clear()
    world.run(3)
    answer = world.ask(alone, "Job.List", stale=True)
    assert answer.known_leader and answer.last_contact_ms <= 200


def test_a_leader_that_is_cut_off_steps_down_and_its_answers_age_from_then() -> None:
    world = datacenter(3, 0)
    world.run(30)
    old = leader(world)
    for other in world.servers():
        if other is not old:
            world.cut |= {(old.name, other.name), (other.name, old.name)}  # type: ignore[attr-defined]
    world.run(5)
    answer = world.ask(old, "Job.List", stale=True)
    assert not answer.known_leader
    assert 3_000 <= answer.last_contact_ms <= 6_000
    refused = world.ask(old, "Job.List", seconds=30)  # the default read is the leader's
    assert refused.status == 500 and not refused.known_leader and refused.last_contact_ms >= 5_000
