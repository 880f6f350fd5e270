"""Snapshots: taken, restored from, and sent to a server that is far behind."""

import pytest
from stories import datacenter, leader, register, running, until_running

from core.model.host import Effect, Event, MessageReceived, Now, Peer
from core.server.config import LimitsConfig
from core.server.effects import SnapshotFailed, SnapshotSaved
from core.server.machine import ServerMachine
from raft.messages import Configuration, SnapshotChunk, SnapshotMeta, VoteRequest, checksum
from raft.settings import Settings

SMALL = {
    "limits": LimitsConfig(snapshot_entries=20),
    "raft": Settings(trailing_entries=5, chunk_bytes=512),
}


def churn(world, times: int) -> None:  # type: ignore[no-untyped-def]
    for number in range(times):
        register(world, ID="other", Name="other", count=number % 3)
        world.run(0.5)


def test_a_server_comes_back_from_its_snapshot() -> None:
    world = datacenter(1, 1, **SMALL)
    register(world)
    until_running(world, 2)
    churn(world, 12)
    name = leader(world).name  # type: ignore[attr-defined]
    assert world.disks[name].snapshot.index > 0
    before = leader(world).state.hash()
    index = leader(world).state.index
    world.kill(leader(world))
    again = world.start(name)
    world.until(lambda: again.state.index >= index)
    assert running(world) == 2
    assert again.datacenter_id
    if again.state.index == index:
        assert again.state.hash() == before


def test_a_server_far_behind_gets_the_snapshot_and_then_equals_the_others() -> None:
    world = datacenter(3, 1, **SMALL)
    world.run(2)
    lagging = next(one for one in world.servers() if one is not leader(world))
    world.kill(lagging)
    register(world)
    until_running(world, 2)
    churn(world, 20)
    assert world.disks[leader(world).name].snapshot.index > 20  # type: ignore[attr-defined]
    again = world.start(lagging.name)  # type: ignore[attr-defined]
    world.until(lambda: again.state.index >= leader(world).state.index)
    world.run(2)
    assert again.state.hash() == leader(world).state.hash()
    answer = world.ask(again, "Job.Get", params={"job_id": "web"}, stale=True)
    assert answer.body.id == "web"


def test_a_snapshot_that_failed_is_logged_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = datacenter(1, 1, **SMALL)
    asked: list[int] = []
    handle = ServerMachine.handle

    def no_room(machine: ServerMachine, event: Event, now: Now) -> list[Effect]:
        """Once, the disk says that it has no room for the snapshot."""
        if isinstance(event, SnapshotSaved):
            asked.append(event.meta.index)
            if len(asked) == 1:
                event = SnapshotFailed(event.ticket, "No space left on device")
        return handle(machine, event, now)

    monkeypatch.setattr(ServerMachine, "handle", no_room)
    register(world)
    churn(world, 30)
    assert len(asked) > 1
    assert asked[1] >= asked[0] + SMALL["limits"].snapshot_entries
    told = [log for _, log in world.logs if log.message == "a snapshot could not be saved"]
    assert [log.fields["reason"] for log in told] == ["No space left on device"]
    assert leader(world).measures.snapshots_saved == len(asked) - 1  # type: ignore[attr-defined]


def test_a_snapshot_of_another_datacenter_is_refused_and_said_so() -> None:
    """Whoever sent it says nothing of its cluster: the snapshot's own meta must do."""
    world = datacenter(3, 0)
    world.run(2)
    replica = next(one for one in world.servers() if one is not leader(world))
    consensus = replica.server.consensus
    before = replica.state.hash()
    meta = SnapshotMeta(999, 50, Configuration(), 1, 4, "00", cluster_id="ffffffffffff")
    chunk = SnapshotChunk(consensus.term, meta, 0, b"evil", True, checksum(b"evil"))
    sender = leader(world).server.config.server_id
    source = Peer(name="x", role="server", address="10.9.9.9:4647")
    world.deliver(replica, MessageReceived("raft", (sender, chunk), source))
    world.run(5)
    assert replica.state.hash() == before
    told = [log for name, log in world.logs if "snapshot of another datacenter" in log.message]
    assert told and "empty data_dir" in told[0].fields["remedy"]
    # Who says that it is of another datacenter is heeded in nothing at all.
    other = (sender, VoteRequest(999, 999, 999), "ffffffffffff")
    term = consensus.term
    world.deliver(replica, MessageReceived("raft", other, source))
    world.run(2)
    assert consensus.term == term
