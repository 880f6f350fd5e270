"""What every engine promises to who drives it, over the same cluster and the same checkers.

A known loss of PySyncObj is marked where it is lost, with the reason. `strict` marks fail
when the loss is gone: then the table in raft/pysyncobj_engine.py is out of date.
"""

import random
import sys

import pytest
from raft_cluster import SECOND_US, Cluster

from raft.engine import ENGINES, EngineError, check, make
from raft.messages import Configuration, Heartbeat, Kind, MessageError, encode
from raft.output import Boot, Change, ChangeKind, Refusal, Role
from raft.settings import Settings
from sim.raft import registers


def lost(reason: str) -> list[object]:
    """Return the engines, PySyncObj marked as failing for a reason that RAFT.md knows."""
    known = pytest.mark.xfail(reason=f"known loss of PySyncObj: {reason}", strict=True)
    return ["core", pytest.param("pysyncobj", marks=known)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def acknowledged_all(cluster: Cluster, count: int) -> bool:
    return cluster.run(20 * SECOND_US, lambda: len(cluster.acknowledged) == count)


def alone(engine: str, **given: object):
    """One replica without a cluster around it."""
    defaults = {"replica_id": "a", "settings": Settings(), "boot": Boot(), "now_us": 0}
    return make(engine, rng=random.Random(1), **{**defaults, **given})


def test_a_leader_is_found_and_the_others_know_it(engine: str) -> None:
    cluster = Cluster(1, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    assert {host.engine.leader_id for host in cluster.hosts.values()} == {leader.replica_id}
    assert [h.engine.role for h in cluster.hosts.values()].count(Role.LEADER) == 1


def test_proposals_are_applied_everywhere_in_their_order(engine: str) -> None:
    cluster = Cluster(2, engine=engine)
    leader = cluster.wait_for_leader()
    for _ in range(20):
        cluster.propose(leader.replica_id, 5)
        cluster.run(3_000)
    assert acknowledged_all(cluster, 100)
    cluster.check_end()


def test_the_first_commands_of_a_cluster_reach_empty_replicas(engine: str) -> None:
    cluster = Cluster(3, engine=engine)
    cluster.wait_for_leader()
    hosts = cluster.hosts.values()
    assert cluster.run(5 * SECOND_US, lambda: all(registers.read(h.state, "k") for h in hosts))
    assert {registers.read(host.state, "k") for host in hosts} == {"first"}
    assert {tuple(h.engine.configuration.voters) for h in cluster.hosts.values()} == {
        ("a", "b", "c")
    }


def test_the_same_seed_gives_the_same_run(engine: str) -> None:
    stories = []
    for _ in range(2):
        cluster = Cluster(4, engine=engine)
        leader = cluster.wait_for_leader()
        cluster.propose(leader.replica_id, 10)
        cluster.run(SECOND_US)
        stories.append((cluster.story(), cluster.now_us, sorted(cluster.acknowledged.items())))
    assert stories[0] == stories[1]


def test_another_leads_when_the_leader_dies_and_nothing_acknowledged_is_lost(engine: str) -> None:
    cluster = Cluster(5, engine=engine)
    first = cluster.wait_for_leader().replica_id
    cluster.propose(first, 10)
    assert acknowledged_all(cluster, 10)
    cluster.hosts[first].cut_power()
    second = cluster.wait_for_leader().replica_id
    assert second != first
    cluster.propose(second, 10)
    assert acknowledged_all(cluster, 20)
    cluster.hosts[first].start()
    cluster.check_end()


def test_all_of_it_survives_a_crash_of_all(engine: str) -> None:
    cluster = Cluster(6, engine=engine)
    cluster.propose(cluster.wait_for_leader().replica_id, 30)
    assert acknowledged_all(cluster, 30)
    for name in cluster.hosts:
        cluster.hosts[name].cut_power()
    for name in cluster.hosts:
        cluster.hosts[name].start()
    cluster.check_end()


def test_a_minority_acknowledges_nothing(engine: str) -> None:
    cluster = Cluster(7, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    cluster.run(SECOND_US)
    cluster.sever([leader])
    before = len(cluster.acknowledged)
    cluster.propose(leader, 5)
    cluster.run(5 * SECOND_US)
    assert len(cluster.acknowledged) == before
    assert cluster.hosts[leader].engine.role is not Role.LEADER


def test_a_barrier_sees_every_acknowledged_write(engine: str) -> None:
    cluster = Cluster(8, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    for _ in range(10):
        cluster.propose(leader, 3)
        cluster.read(leader)
        cluster.run(20_000)
    assert cluster.run(5 * SECOND_US, lambda: cluster.ended("read") == 10)


def test_a_barrier_fails_when_leadership_is_lost_before_it_is_known(engine: str) -> None:
    cluster = Cluster(9, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    cluster.sever([leader])
    cluster.read(leader)
    lost_it = cluster.run(10 * SECOND_US, lambda: cluster.ended("refused") > 0)
    assert lost_it and not cluster.ended("read")


def test_a_follower_refuses_and_says_why(engine: str) -> None:
    cluster = Cluster(10, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    follower = next(host.engine for name, host in cluster.hosts.items() if name != leader)
    now_us = cluster.now_us
    assert follower.propose([b"x"], now_us) is None and follower.refusal is Refusal.NOT_LEADER
    assert follower.read_barrier(now_us) is None and follower.refusal is Refusal.NOT_LEADER
    assert not follower.transfer_leadership("", now_us)
    change = Change(ChangeKind.ADD_LEARNER, "d", "d:1")
    assert follower.change_membership(change, now_us) is None


def test_a_command_that_is_too_long_is_refused(engine: str) -> None:
    cluster = Cluster(11, settings=Settings(entry_bytes=100), engine=engine)
    leader = cluster.wait_for_leader()
    assert leader.propose([bytes(101)], cluster.now_us) is None
    assert leader.refusal is Refusal.TOO_LARGE


def test_what_is_proposed_and_not_committed_is_bounded(engine: str) -> None:
    cluster = Cluster(12, settings=Settings(uncommitted_bytes=1000), engine=engine)
    leader = cluster.wait_for_leader()
    assert leader.propose([bytes(900)], cluster.now_us) is not None
    assert leader.propose([bytes(900)], cluster.now_us) is None
    assert leader.refusal is Refusal.WINDOW_FULL


def test_commands_beyond_64_kib_arrive_whole(engine: str) -> None:
    cluster = Cluster(13, settings=Settings(), engine=engine)
    cluster.propose(cluster.wait_for_leader().replica_id, 3, size=300_000)
    assert acknowledged_all(cluster, 3)
    cluster.check_end()


def test_leadership_is_handed_over_on_request(engine: str) -> None:
    cluster = Cluster(14, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(2 * SECOND_US)
    heir = next(name for name in cluster.hosts if name != leader.replica_id)
    assert leader.transfer_leadership(heir, cluster.now_us)
    cluster.hosts[leader.replica_id].pump()
    assert cluster.run(2 * SECOND_US, lambda: cluster.hosts[heir].engine.role is Role.LEADER)


def test_a_replica_that_is_far_behind_gets_a_snapshot(engine: str) -> None:
    cluster = Cluster(15, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    behind = next(name for name in cluster.hosts if name != leader)
    cluster.hosts[behind].cut_power()
    for _ in range(20):
        cluster.propose(leader, 5, size=100)
        cluster.run(50_000)
    assert acknowledged_all(cluster, 100)
    cluster.hosts[leader].snapshot()
    assert cluster.run(SECOND_US, lambda: cluster.hosts[leader].engine.snapshot.index > 0)
    cluster.hosts[behind].start()
    assert cluster.run(20 * SECOND_US, lambda: cluster.situations["snapshot installed"] > 0)
    cluster.check_end()


def test_a_server_joins_as_learner_becomes_voter_and_another_leaves(engine: str) -> None:
    cluster = Cluster(16, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    cluster.add_host("d")
    assert cluster.change(ChangeKind.ADD_LEARNER, "d")
    assert cluster.run(10 * SECOND_US, lambda: cluster.change(ChangeKind.PROMOTE, "d"))
    leaving = next(n for n in "abc" if n != leader.replica_id)
    assert cluster.run(10 * SECOND_US, lambda: cluster.change(ChangeKind.REMOVE, leaving))
    assert cluster.run(
        10 * SECOND_US, lambda: "d" in cluster.hosts["d"].engine.configuration.voters
    )
    cluster.propose(leader.replica_id, 5)
    assert acknowledged_all(cluster, 5)
    assert sorted(leader.configuration.voters) == sorted({*"abcd"} - {leaving})
    joined = cluster.hosts["d"]
    assert cluster.run(SECOND_US, lambda: joined.applied_index == leader.last_index)
    assert registers.read(joined.state, "k") == registers.read(
        cluster.hosts[leader.replica_id].state, "k"
    )


def test_one_change_of_membership_at_a_time(engine: str) -> None:
    cluster = Cluster(17, engine=engine)
    leader = cluster.wait_for_leader()
    first = Change(ChangeKind.ADD_LEARNER, "d", "d:1")
    assert leader.change_membership(first, cluster.now_us) is not None
    second = Change(ChangeKind.ADD_LEARNER, "e", "e:1")
    assert leader.change_membership(second, cluster.now_us) is None
    assert leader.refusal is Refusal.CHANGE_PENDING


def test_a_single_replica_commits_only_what_is_durable(engine: str) -> None:
    single = alone(engine)
    single.bootstrap(Configuration.of({"a": "a:1"}), [b"first"], 0)
    tickets, committed = [], []
    for now_us in range(0, 3_000_000, 100_000):
        single.tick(now_us)
        output = single.take_output()
        committed += output.committed
        if output.persist:
            tickets.append(output.persist.ticket)
    assert tickets and not committed
    while tickets:
        single.persisted(tickets.pop(0), 3_000_000)
        output = single.take_output()
        committed += output.committed
        tickets += [output.persist.ticket] if output.persist else []
    assert [entry.data for entry in committed if entry.kind is Kind.COMMAND] == [b"first"]


def test_bootstrap_wants_an_empty_replica_and_its_own_name(engine: str) -> None:
    used = alone(engine, boot=Boot(term=3))
    with pytest.raises(ValueError, match="already belongs to a cluster"):
        used.bootstrap(Configuration.of({"a": ""}), [], 0)
    with pytest.raises(ValueError, match="not among the first voters"):
        alone(engine).bootstrap(Configuration.of({"b": ""}), [], 0)


def test_bytes_that_are_no_message_are_refused_with_the_reason(engine: str) -> None:
    replica = alone(engine)
    for garbage in (b"", b"\x01\x01", b"\x09\x01abc", b"\x01\x01\xc1", 7, ["Nonsense", 1]):
        with pytest.raises(MessageError):
            replica.read_message(garbage)


def test_a_disk_that_fails_silences_the_replica(engine: str) -> None:
    single = alone(engine)
    single.bootstrap(Configuration.of({"a": "a:1"}), [b"first"], 0)
    single.tick(0)
    persist = single.take_output().persist
    assert persist is not None
    single.persist_failed(persist.ticket, False, 1)
    assert single.propose([b"x"], 2) is None
    output = single.take_output()
    assert not (output.messages or output.committed or output.persist)


def test_a_full_disk_refuses_writes_and_recovers(engine: str) -> None:
    cluster = Cluster(20, engine=engine)
    leader = cluster.wait_for_leader().replica_id
    cluster.hosts[leader].disk.is_full = True
    engine_there = cluster.hosts[leader].engine
    cluster.propose(leader, 3, size=2_000)
    assert cluster.run(SECOND_US, lambda: engine_there.is_disk_full)
    assert engine_there.propose([b"x"], cluster.now_us) is None
    assert engine_there.refusal is Refusal.DISK_FULL
    cluster.hosts[leader].disk.is_full = False
    cluster.check_end()


# --- known losses ---------------------------------------------------------------------


@pytest.mark.parametrize("engine", lost("a full disk silences it: its office goes to another"))
def test_a_leader_on_a_full_disk_keeps_its_office_and_reads_go_on(engine: str) -> None:
    cluster = Cluster(25, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    cluster.hosts[leader.replica_id].disk.is_full = True
    cluster.propose(leader.replica_id, 3, size=2_000)
    assert cluster.run(SECOND_US, lambda: leader.is_disk_full)
    cluster.read(leader.replica_id)
    assert cluster.run(SECOND_US // 2, lambda: cluster.ended("read") > 0)


@pytest.mark.parametrize("engine", lost("a replica that comes back raises the term"))
def test_a_replica_that_comes_back_does_not_unseat_the_leader(engine: str) -> None:
    cluster = Cluster(21, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    away = next(name for name in cluster.hosts if name != leader.replica_id)
    term = leader.term
    cluster.sever([away])
    cluster.run(5 * SECOND_US)
    cluster.heal()
    cluster.run(5 * SECOND_US)
    assert (leader.role, leader.term) == (Role.LEADER, term)


@pytest.mark.parametrize("engine", lost("it has no lease: every read is an entry of the log"))
def test_a_lease_serves_reads_where_the_clock_rates_are_bounded(engine: str) -> None:
    cluster = Cluster(22, settings=Settings(clock_drift_ppm=1000), engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    assert leader.has_lease(cluster.now_us)


@pytest.mark.parametrize("engine", lost("a leader can't remove itself"))
def test_a_leader_may_leave(engine: str) -> None:
    cluster = Cluster(23, engine=engine)
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    assert cluster.change(ChangeKind.REMOVE, leader.replica_id), leader.refusal.value


@pytest.mark.parametrize("engine", lost("it counts as many votes as arrive, whoever sent them"))
def test_a_vote_that_arrives_twice_counts_once(engine: str) -> None:
    cluster = Cluster(24, size=5, engine=engine)
    cluster.wait_for_leader()
    cluster.run(SECOND_US)
    names = sorted(cluster.hosts)
    for name in names:
        cluster.hosts[name].cut_power()
    for name in names[:2]:
        cluster.hosts[name].start()
    cluster.duplication = 1.0
    led = cluster.run(
        10 * SECOND_US,
        lambda: any(h.engine and h.engine.role is Role.LEADER for h in cluster.hosts.values()),
    )
    assert not led, "two of five voters elected a leader"


# --- PySyncObj's own edges --------------------------------------------------------------


@pytest.mark.parametrize("extra", [{"transmission": "finish", "data": b""}, {"serialized": [b""]}])
def test_nothing_reaches_the_librarys_pickle(extra: dict[str, object]) -> None:
    cluster = Cluster(30, engine="pysyncobj")
    leader = cluster.wait_for_leader()
    cluster.run(SECOND_US)
    from raft.pysyncobj_engine import LibraryMessage

    body = {"type": "append_entries", "term": leader.term + 5, "commit_index": 0, **extra}
    leader.step("b", LibraryMessage(leader.term + 5, body), cluster.now_us)
    assert leader.dropped["message that the library would unpickle"] == 1
    body = {
        "type": "append_entries",
        "term": leader.term + 5,
        "commit_index": 0,
        "entries": [[b"\x03pickle", leader.last_index + 1, leader.term + 5]],
        "prevLogIdx": leader.last_index,
        "prevLogTerm": leader.term,
    }
    leader.step("b", LibraryMessage(leader.term + 5, body), cluster.now_us)
    assert leader.dropped["message that the library can't read"] == 1


def test_engines_do_not_understand_each_other() -> None:
    core, other = alone("core"), alone("pysyncobj")
    heartbeat = Heartbeat(1, 0, 0)
    assert core.read_message(encode(heartbeat)) == heartbeat
    with pytest.raises(MessageError):
        other.read_message(encode(heartbeat))


def test_an_engine_that_is_not_there_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="want one of core, pysyncobj"):
        check("paxos")
    monkeypatch.setitem(sys.modules, "pysyncobj", None)
    with pytest.raises(EngineError, match=r"pip install 'serai\[pysyncobj\]'"):
        make(
            "pysyncobj",
            replica_id="a",
            settings=Settings(),
            rng=random.Random(1),
            boot=Boot(),
            now_us=0,
        )
