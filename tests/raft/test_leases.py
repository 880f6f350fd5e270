"""What a lease stands on: nobody votes who may have heard the leader, unless that one asked."""

import random

import pytest

from raft.core import Boot, Configuration, Entry, Kind, RaftCore, Role, Settings
from raft.messages import AppendAnswer, HeartbeatAnswer, VoteAnswer, VoteRequest

ABC = Configuration.of({"a": "a:1", "b": "b:1", "c": "c:1"})
LEASES = Settings(clock_drift_ppm=10_000)
SECOND_US = 1_000_000


def replica(settings: Settings) -> RaftCore:
    """Replica `a` of three, just started, with a log of term 1."""
    entries = [Entry(1, 1, Kind.CONFIGURATION, ABC.encode())]
    return RaftCore(
        replica_id="a", settings=settings, rng=random.Random(1), boot=Boot(1, "", entries), now_us=0
    )


def settle(core: RaftCore, now_us: int) -> None:
    """Let its disk take everything."""
    while (output := core.take_output()).persist:
        core.persisted(output.persist.ticket, now_us)


def elected(now_us: int) -> RaftCore:
    core = replica(LEASES)
    core.tick(now_us)
    core.step("b", VoteAnswer(2, True, is_pre_vote=True), now_us)
    settle(core, now_us)
    core.step("b", VoteAnswer(2, True), now_us)
    settle(core, now_us)
    core.step("b", AppendAnswer(2, is_accepted=True, index=core.last_index), now_us)
    assert core.role is Role.LEADER
    return core


def test_a_hand_over_ends_the_lease_for_the_rest_of_the_term_also_one_that_failed() -> None:
    now_us = 2 * SECOND_US
    core = elected(now_us)
    core.step("b", HeartbeatAnswer(2, core.round), now_us)
    assert core.has_lease(now_us)
    assert core.transfer_leadership("b", now_us)
    assert not core.has_lease(now_us)
    for _ in range(12):  # the heir says nothing of it; its message may be under way for long
        now_us += SECOND_US // 10
        core.tick(now_us)
        core.step("b", HeartbeatAnswer(2, core.round), now_us)
    assert core.role is Role.LEADER and core.transfer_to == ""
    assert not core.has_lease(now_us)


@pytest.mark.parametrize(("settings", "is_granted"), [(LEASES, False), (Settings(), True)])
def test_who_restarts_where_leases_are_read_votes_only_after_a_while(
    settings: Settings, is_granted: bool
) -> None:
    def answers(core: RaftCore, now_us: int) -> list[bool]:
        core.step("c", VoteRequest(2, 9, 1), now_us)
        found: list[bool] = []
        while output := core.take_output():
            found += [m.is_granted for _, m in output.messages if isinstance(m, VoteAnswer)]
            if output.persist is None:
                return found
            core.persisted(output.persist.ticket, now_us)
        return found

    assert answers(replica(settings), 1_000) == [True] * is_granted
    assert answers(replica(settings), settings.election_min_us) == [True]
