"""A datacenter whose log is PySyncObj's does the same work: nothing above asks which it is."""

import pytest
from stories import datacenter, follower, leader, register, until_running

from raft.core import ChangeKind


@pytest.fixture
def changes() -> dict[str, str]:
    return {"raft_engine": "pysyncobj"}


def test_jobs_run_and_the_replicas_agree(changes: dict[str, str]) -> None:
    world = datacenter(3, 2, **changes)
    register(world, count=3)
    until_running(world, 3)
    world.run(2)
    servers = world.servers()
    indexes = {one.server.consensus.applied_index for one in servers}
    assert len(indexes) == 1 and len({one.state.hash() for one in servers}) == 1


def test_work_goes_on_when_the_leader_dies(changes: dict[str, str]) -> None:
    world = datacenter(3, 2, **changes)
    register(world, count=2)
    until_running(world, 2)
    first = leader(world)
    world.kill(first)
    world.until(lambda: (found := world.leader()) is not None and found is not first, 60)
    register(world, count=4)
    until_running(world, 4)


def test_a_follower_reads_through_its_leader(changes: dict[str, str]) -> None:
    world = datacenter(3, 0, **changes)
    register(world)
    answer = world.ask(follower(world), "Job.List")
    assert [job["ID"] for job in answer.body] == ["web"] and answer.known_leader


def test_operators_measure_it_and_are_refused_what_it_can_not(changes: dict[str, str]) -> None:
    world = datacenter(3, 0, **changes)
    body = {"Size": 50, "Window": 4, "Seconds": 0.2}
    figures = world.ask(leader(world), "Operator.RaftMeasure", body=body).body
    assert figures["Engine"] == "pysyncobj" and figures["Committed"] == figures["Proposed"] > 4
    first = leader(world)
    reason = first.server.consensus.change_membership(
        ChangeKind.REMOVE, first.server.config.server_id
    )
    assert "transfer leadership first" in reason
