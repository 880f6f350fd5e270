"""One test per rule of the protocol, on a quiet or lightly disturbed cluster."""

import random
import sys

import pytest
from raft_cluster import SECOND_US, Cluster

from raft.core import (
    Boot,
    ChangeKind,
    Configuration,
    Entry,
    InvariantError,
    Kind,
    RaftCore,
    Refusal,
    Role,
    Settings,
)
from raft.log import FREED_BYTES, Log
from raft.messages import (
    Append,
    AppendAnswer,
    Heartbeat,
    HeartbeatAnswer,
    MessageError,
    TimeoutNow,
    VoteAnswer,
    VoteRequest,
    decode,
    encode,
)

ABC = Configuration.of({"a": "a:1", "b": "b:1", "c": "c:1"})


def replica(
    name: str = "b",
    *,
    terms: tuple[int, ...] = (1,),
    term: int = 1,
    settings: Settings | None = None,
) -> RaftCore:
    """A replica of ABC whose log after the configuration entry has these terms."""
    entries = [Entry(1, 1, Kind.CONFIGURATION, ABC.encode())]
    entries += [Entry(2 + i, t, Kind.COMMAND, b"x") for i, t in enumerate(terms)]
    return RaftCore(
        replica_id=name,
        settings=settings or Settings(),
        rng=random.Random(1),
        boot=Boot(term, "", entries),
        now_us=0,
    )


def sent(core: RaftCore, *, is_durable: bool = True) -> list[object]:
    """The messages that leave, after the disk has done its part if it does."""
    output = core.take_output()
    messages = [message for _, message in output.messages]
    if output.persist and is_durable:
        core.persisted(output.persist.ticket, 0)
        messages += sent(core)
    return messages


def leading(name: str = "a", **options: object) -> RaftCore:
    core = replica(name, **options)
    core.tick(core.deadline_us)
    core.step("b", VoteAnswer(core.term + 1, True, is_pre_vote=True), 1)
    sent(core)
    core.step("b", VoteAnswer(core.term, True), 1)
    assert core.role is Role.LEADER
    return core


# --- election -----------------------------------------------------------------------


def test_a_single_server_leads_at_once() -> None:
    cluster = Cluster(1, size=1)
    assert cluster.run(20_000, lambda: cluster.leader() is not None)


def test_an_empty_replica_waits_to_be_contacted() -> None:
    core = RaftCore(
        replica_id="z", settings=Settings(), rng=random.Random(1), boot=Boot(), now_us=0
    )
    for _ in range(20):
        core.tick(core.deadline_us)
        assert core.take_output().messages == []
    assert core.role is Role.FOLLOWER and core.term == 0


def test_bootstrap_needs_an_empty_log() -> None:
    with pytest.raises(ValueError, match="empty data folder"):
        replica().bootstrap(ABC, [], 0)


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:
    core = replica()
    core.step("c", VoteRequest(9, 9, 9, is_pre_vote=True), 0)
    assert sent(core) == [VoteAnswer(9, True, is_pre_vote=True)]
    assert (core.term, core.voted_for) == (1, "")


def test_a_vote_is_answered_only_once_it_is_on_disk() -> None:
    core = replica()
    core.step("c", VoteRequest(2, 9, 9), 0)
    output = core.take_output()
    assert output.messages == [] and output.persist.hard_state.voted_for == "c"
    core.persisted(output.persist.ticket, 0)
    assert core.take_output().messages == [("c", VoteAnswer(2, True))]


def test_one_vote_a_term() -> None:
    core = replica()
    core.step("c", VoteRequest(2, 9, 9), 0)
    core.step("a", VoteRequest(2, 9, 9), 0)
    assert set(sent(core)) == {VoteAnswer(2, False), VoteAnswer(2, True)}
    core.step("c", VoteRequest(2, 9, 9), 0)
    assert sent(core) == [VoteAnswer(2, True)], "a lost answer is given again"


def test_a_request_for_votes_waits_for_the_disk_too() -> None:
    """It claims a log; were that lost in a crash, late answers could elect a shorter one."""
    core = replica("a")
    core.tick(core.deadline_us)
    core.step("b", VoteAnswer(2, True, is_pre_vote=True), 1)
    assert core.role is Role.CANDIDATE
    assert not [m for m in sent(core, is_durable=False) if not m.is_pre_vote]


@pytest.mark.parametrize(("index", "term", "granted"), [(3, 1, False), (2, 2, False), (3, 2, True)])
def test_no_vote_for_a_shorter_log(index: int, term: int, granted: bool) -> None:
    core = replica(terms=(1, 2), term=2)
    core.step("c", VoteRequest(3, index, term), 0)
    assert sent(core) == [VoteAnswer(3, granted)]


def test_who_hears_a_leader_heeds_no_candidate_unless_it_is_a_hand_over() -> None:
    core = replica()
    core.step("a", Heartbeat(1, 1, 0), 0)
    sent(core)
    core.step("c", VoteRequest(2, 9, 9), 400_000)
    core.step("c", VoteRequest(2, 9, 9, is_pre_vote=True), 400_000)
    assert sent(core) == [] and core.term == 1
    core.step("c", VoteRequest(2, 9, 9, is_transfer=True), 400_000)
    assert sent(core) == [VoteAnswer(2, True)]


def test_a_leader_without_its_quorum_steps_down() -> None:
    cluster = Cluster(3)
    old = cluster.wait_for_leader()
    cluster.sever([old.replica_id])
    assert cluster.run(3 * SECOND_US, lambda: old.role is not Role.LEADER)
    assert cluster.run(3 * SECOND_US, lambda: cluster.leader() not in (None, old))


def test_a_replica_cut_off_does_not_raise_the_term_or_disturb_on_return() -> None:
    cluster = Cluster(4)
    leader = cluster.wait_for_leader()
    lonely = next(name for name in cluster.hosts if name != leader.replica_id)
    cluster.sever([lonely])
    cluster.run(10 * SECOND_US)
    cluster.heal()
    cluster.run(3 * SECOND_US)
    assert cluster.leader() is leader and leader.term == cluster.hosts[lonely].engine.term


def test_after_the_leader_dies_another_leads_within_a_second_and_a_half() -> None:
    waits = []
    for seed in range(60):
        cluster = Cluster(seed)
        leader = cluster.wait_for_leader()
        cluster.run(cluster.rng.randint(1, 500_000))
        cluster.hosts[leader.replica_id].cut_power()
        before = cluster.now_us
        cluster.wait_for_leader()
        waits.append(cluster.now_us - before)
    assert sorted(waits)[-2] < 1_500_000


def test_an_older_leader_learns_the_newer_term() -> None:
    core = replica(term=5)
    core.step("a", Heartbeat(3, 1, 0), 0)
    core.step("a", Append(3, 0, 0, 0), 0)
    assert {m.term for m in sent(core)} == {5}


def test_two_leaders_of_one_term_stop_the_replica() -> None:
    core = leading()
    with pytest.raises(InvariantError, match="two leaders"):
        core.step("b", Heartbeat(core.term, 1, 0), 2)


# --- log ----------------------------------------------------------------------------


def test_entries_are_acknowledged_only_once_they_are_on_disk() -> None:
    core = replica()
    core.step("a", Append(1, 2, 1, 0, [Entry(3, 1, Kind.COMMAND, b"y")]), 0)
    output = core.take_output()
    assert output.messages == []
    core.step("a", Append(1, 3, 1, 0), 0)  # nothing new: still nothing to promise
    assert core.take_output().messages == []
    core.persisted(output.persist.ticket, 0)
    assert AppendAnswer(1, True, 3) in sent(core)


def test_a_gap_is_refused_with_a_hint() -> None:
    core = replica(terms=(1, 1, 4, 4), term=5)
    core.step("a", Append(5, 9, 5, 0), 0)
    core.step("a", Append(5, 6, 3, 0), 0)
    hints = [(m.hint_index, m.hint_term) for m in sent(core)]
    assert hints == [(5, 4), (3, 1)], "the last place there is, then the end of term 1"


def test_a_conflicting_tail_is_cut_and_a_matching_one_stays() -> None:
    core = replica(terms=(1, 1, 1), term=2)
    core.step("a", Append(2, 2, 1, 0, [Entry(3, 1, Kind.COMMAND, b"x")]), 0)
    assert core.last_index == 4, "an old Append must not shorten the log"
    core.step("a", Append(2, 2, 1, 0, [Entry(3, 2, Kind.COMMAND, b"z")]), 0)
    assert core.last_index == 3 and core.log.term_at(3) == 2
    assert core.take_output().persist.truncate_from == 3


def test_a_committed_entry_is_never_cut() -> None:
    core = replica(terms=(1, 1), term=2)
    core.step("a", Append(2, 3, 1, 3), 0)
    with pytest.raises(InvariantError, match="committed"):
        core.truncate_from(3)


def test_a_notice_for_a_cut_tail_says_nothing_of_what_replaced_it() -> None:
    """Durable was (3, term 1); the log now holds (3, term 2), which is still on its way."""
    core = replica(terms=(), term=1)
    core.step("a", Append(1, 1, 1, 0, [Entry(2, 1), Entry(3, 1)]), 0)
    first = core.take_output().persist
    core.step("c", Append(2, 1, 1, 0, [Entry(2, 2), Entry(3, 2)]), 0)
    second = core.take_output().persist
    core.persisted(first.ticket, 0)
    assert core.journal.durable_index == 1
    core.persisted(second.ticket, 0)
    assert core.journal.durable_index == 3


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    core = leading()
    sent(core)
    core.step("b", AppendAnswer(core.term, True, 2), 2)
    assert core.commit_index == 0
    core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
    assert core.commit_index == core.last_index


def test_the_leader_does_not_count_itself_before_its_disk_does() -> None:
    core = leading()
    assert core.journal.durable_index < core.last_index
    core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
    assert core.commit_index == 0
    sent(core)
    assert core.commit_index == core.last_index


def test_the_followers_majority_commits_before_the_leaders_slow_disk() -> None:
    core = leading()
    for voter in ("b", "c"):
        core.step(voter, AppendAnswer(core.term, True, core.last_index), 2)
    assert core.commit_index == core.last_index > core.journal.durable_index


def test_proposals_between_two_outputs_share_one_append() -> None:
    core = leading()
    core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
    sent(core)
    for _ in range(50):
        core.propose([b"x"], 3)
    appends = [m for to, m in core.take_output().messages if isinstance(m, Append) and to == "b"]
    assert [len(m.entries) for m in appends] == [50]


def test_a_full_window_refuses_and_says_so() -> None:
    core = leading(settings=Settings(uncommitted_bytes=100))
    assert core.propose([b"x" * 60], 2) is not None
    assert core.propose([b"x" * 60], 2) is None
    assert core.refusal is Refusal.WINDOW_FULL
    assert replica().propose([b"x"], 0) is None


def test_what_is_in_flight_to_a_follower_is_bounded() -> None:
    core = leading(settings=Settings(append_bytes=1000, inflight_bytes=3000))
    core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
    sent(core)
    core.propose([b"x" * 500] * 100, 3)
    appends = [m for to, m in core.take_output().messages if isinstance(m, Append) and to == "b"]
    assert sum(len(e.data) for m in appends for e in m.entries) <= 3500
    assert len(appends) > 1


def test_malformed_entries_are_dropped_and_counted() -> None:
    core = replica()
    core.step("a", Append(1, 2, 1, 0, [Entry(4, 1), Entry(3, 1)]), 0)
    core.step("a", Append(1, 2, 1, 0, [Entry(3, 9)]), 0)
    assert core.last_index == 2 and sum(core.dropped.values()) == 2


# --- reads --------------------------------------------------------------------------


def test_a_read_waits_for_an_entry_of_the_leaders_term_and_for_a_round() -> None:
    core = leading()
    sent(core)
    ticket = core.read_barrier(2)
    first = core.take_output().messages
    rounds = [m.round for _, m in first if isinstance(m, Heartbeat)]
    core.step("b", HeartbeatAnswer(core.term, core.round), 3)
    assert core.take_output().reads_ready == [], "nothing of this term is committed"
    core.step("b", AppendAnswer(core.term, True, core.last_index), 4)
    core.step("b", HeartbeatAnswer(core.term, core.round), 4)
    ready = core.take_output().reads_ready
    core.step("b", HeartbeatAnswer(core.term, core.round), 5)
    ready += core.take_output().reads_ready
    assert ready == [(ticket, core.commit_index)] and (rounds or core.round)


def test_an_answer_sent_before_the_barrier_does_not_confirm_it() -> None:
    core = leading()
    sent(core)
    core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
    core.step("b", HeartbeatAnswer(core.term, core.round), 2)
    sent(core)
    old = core.round
    core.read_barrier(3)
    core.take_output()
    core.step("c", HeartbeatAnswer(core.term, old), 4)
    assert core.take_output().reads_ready == []
    core.step("c", HeartbeatAnswer(core.term, old + 1), 4)
    assert core.take_output().reads_ready


def test_a_lost_leader_fails_its_reads() -> None:
    core = leading()
    ticket = core.read_barrier(2)
    core.step("c", AppendAnswer(core.term + 1, False, 0), 3)
    output = core.take_output()
    assert output.reads_failed == [ticket] and output.role_changed


def test_a_lease_reads_at_once_until_it_ends_and_only_where_configured() -> None:
    for drift, expected in ((1000, True), (None, False)):
        core = leading(settings=Settings(clock_drift_ppm=drift))
        sent(core)
        core.step("b", AppendAnswer(core.term, True, core.last_index), 2)
        core.step("b", HeartbeatAnswer(core.term, core.round), 2)
        sent(core)
        assert core.has_lease(400_000) is expected
        assert not core.has_lease(2 * SECOND_US)


# --- hand-over, membership, snapshots, full disk ----------------------------------------


def test_leadership_is_handed_over_within_a_few_round_trips() -> None:
    cluster = Cluster(6)
    old = cluster.wait_for_leader()
    heir = next(name for name in "abc" if name != old.replica_id)
    assert old.transfer_leadership(heir, cluster.now_us)
    assert old.propose([b"x"], cluster.now_us) is None and old.refusal is Refusal.TRANSFERRING
    cluster.hosts[old.replica_id].pump()
    assert cluster.run(100_000, lambda: cluster.hosts[heir].engine.role is Role.LEADER)


def test_only_the_leader_can_order_a_campaign() -> None:
    core = replica()
    core.step("c", TimeoutNow(1), 0)
    assert core.role is Role.FOLLOWER and core.term == 1


def test_a_learner_is_added_catches_up_and_is_promoted() -> None:
    cluster = Cluster(7)
    leader = cluster.wait_for_leader()
    cluster.propose(leader.replica_id, 30)
    cluster.add_host("d")
    assert cluster.change(ChangeKind.ADD_LEARNER, "d")
    assert cluster.run(2 * SECOND_US, lambda: cluster.hosts["d"].applied_index > 30)
    assert cluster.change(ChangeKind.PROMOTE, "d")
    assert not cluster.change(ChangeKind.REMOVE, "a"), "one at a time"
    assert leader.refusal is Refusal.CHANGE_PENDING
    assert cluster.run(2 * SECOND_US, lambda: cluster.hosts["d"].engine.is_voter)
    cluster.check_end()


def test_a_change_waits_for_an_entry_of_the_leaders_term() -> None:
    core = leading()
    core.commit_index = 1
    from raft.core import Change

    assert core.change_membership(Change(ChangeKind.ADD_LEARNER, "d", "d:1"), 2) is None
    assert core.refusal is Refusal.NOT_READY


def test_a_leader_that_removes_itself_leads_until_that_is_committed() -> None:
    cluster = Cluster(8)
    old = cluster.wait_for_leader()
    assert cluster.change(ChangeKind.REMOVE, old.replica_id)
    assert old.role is Role.LEADER
    assert cluster.run(SECOND_US, lambda: cluster.leader() not in (None, old))
    assert old.replica_id not in cluster.leader().configuration.voters
    cluster.check_end()


def test_the_last_voter_stays() -> None:
    cluster = Cluster(9, size=1)
    cluster.wait_for_leader()
    assert not cluster.change(ChangeKind.REMOVE, "a")
    assert cluster.hosts["a"].engine.refusal is Refusal.LAST_VOTER


def test_a_configuration_that_is_cut_off_the_log_is_no_longer_in_force() -> None:
    core = replica(terms=())
    larger = Configuration.of({**ABC.voters, "d": "d:1"})
    core.step("a", Append(1, 1, 1, 0, [Entry(2, 1, Kind.CONFIGURATION, larger.encode())]), 0)
    assert "d" in core.configuration.voters
    core.step("c", Append(2, 1, 1, 0, [Entry(2, 2, Kind.NOOP)]), 0)
    assert core.configuration == ABC


def test_a_follower_far_behind_gets_a_snapshot_and_resumes_it_under_a_new_leader() -> None:
    cluster = Cluster(10, settings=Settings(trailing_entries=1, chunk_bytes=100))
    leader = cluster.wait_for_leader()
    behind = next(name for name in "abc" if name != leader.replica_id)
    cluster.hosts[behind].cut_power()
    for _ in range(20):
        cluster.propose(leader.replica_id, 10, 30)
        cluster.run(20_000)
    for name in "abc":
        cluster.hosts[name].snapshot()
    cluster.run(100_000)
    cluster.hosts[behind].start()
    chunks = cluster.situations
    assert cluster.run(3 * SECOND_US, lambda: cluster.newest_chunk[2] == behind)
    cluster.run(20_000)
    cluster.hosts[leader.replica_id].cut_power()
    assert cluster.run(10 * SECOND_US, lambda: chunks["snapshot installed"] > 0)
    assert chunks["snapshot install resumed by another leader"] == 1
    cluster.hosts[leader.replica_id].start()
    cluster.check_end()


def test_a_full_disk_refuses_writes_and_reads_go_on() -> None:
    cluster = Cluster(11)
    leader = cluster.wait_for_leader()
    name = leader.replica_id
    for host in cluster.hosts.values():
        host.disk.is_full = True
    cluster.propose(name, 3, size=2_000)  # more than the segment has room for
    cluster.run(100_000)
    assert leader.propose([b"x"], cluster.now_us) is None
    assert leader.refusal is Refusal.DISK_FULL
    cluster.read(name)
    assert cluster.run(SECOND_US, lambda: cluster.ended("read") == 1)
    for host in cluster.hosts.values():
        host.disk.is_full = False
    cluster.check_end()
    assert len(cluster.acknowledged) == 3


def test_a_leader_whose_disk_alone_is_full_hands_over() -> None:
    cluster = Cluster(12)
    old = cluster.wait_for_leader()
    cluster.hosts[old.replica_id].disk.is_full = True
    cluster.propose(old.replica_id, 3, size=2_000)
    assert cluster.run(4 * SECOND_US, lambda: cluster.leader() not in (None, old))


def test_a_failed_fsync_silences_the_replica() -> None:
    core = leading()
    core.take_output()
    core.persist_failed(2, False, 3)
    core.propose([b"x"], 4)
    core.step("b", VoteRequest(9, 9, 9), 5)
    output = core.take_output()
    assert output.messages == [] and output.persist is None and core.role is Role.FOLLOWER


# --- bad input ----------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x09\x01\x90", b"\x01\x01\xc1", b"\x01\x01\x90"])
def test_bytes_that_are_no_message_get_a_clear_error(data: bytes) -> None:
    with pytest.raises(MessageError, match=r"cut short|upgrade|not a raft message"):
        decode(data)


def test_a_message_survives_the_wire_and_a_newer_schema_may_add_fields() -> None:
    message = Append(3, 2, 1, 1, [Entry(3, 3, Kind.COMMAND, b"data")])
    assert decode(encode(message)) == message
    import msgspec

    longer = msgspec.msgpack.encode(["TimeoutNow", 4, "something of a later schema"])
    assert decode(b"\x01\x07" + longer) == TimeoutNow(4)


def test_a_tail_of_large_entries_is_short() -> None:
    log = Log(0, 0, [Entry(index, 1, Kind.COMMAND, b"x" * 1_000) for index in range(1, 101)])
    assert log.tail_begin(0, 100, 1 << 20) == 0
    assert log.tail_begin(0, 100, 10_300) == 90
    assert log.tail_begin(0, 90, 0) == 90
    log.compact(log.tail_begin(0, 100, 10_300))
    assert log.first_index == 91


def test_the_memory_of_a_compacted_log_is_given_back_a_little_at_a_time() -> None:
    large = [Entry(index, 1, Kind.COMMAND, bytes(FREED_BYTES)) for index in range(1, 4)]
    alone = [sys.getrefcount(entry) for entry in large]
    log = Log(0, 0, large)
    log.compact(3)
    freed = []
    for _ in range(3):
        log.free_some()
        counts = [sys.getrefcount(entry) for entry in large]
        freed.append(sum(count == before for count, before in zip(counts, alone, strict=True)))
    assert freed == [1, 2, 3]
