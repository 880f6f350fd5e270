"""A leader that appended its own removal, and crashed, may be the only one who can win."""

import random

from raft.core import Boot, Configuration, Entry, Kind, RaftCore, Role, Settings
from raft.messages import VoteAnswer, VoteRequest

AB = Configuration.of({"a": "a:1", "b": "b:1"})
B = Configuration.of({"b": "b:1"})


def _core(*configurations: Configuration) -> RaftCore:
    entries = [
        Entry(index, 1, Kind.CONFIGURATION, one.encode())
        for index, one in enumerate(configurations, 1)
    ]
    return RaftCore(
        replica_id="a", settings=Settings(), rng=random.Random(1),
        boot=Boot(1, "", entries), now_us=0,
    )  # fmt: skip


def test_it_campaigns_while_its_removal_may_not_hold() -> None:
    """Dissertation 4.2.2; found by `python -m sim.raft --seeds 1 --start 2873`."""
    core = _core(AB, B)
    core.tick(core.deadline_us)
    assert core.role is Role.PRE_CANDIDATE
    asked = [(to, m) for to, m in core.take_output().messages if isinstance(m, VoteRequest)]
    assert [to for to, _ in asked] == ["b"]
    core.step("b", VoteAnswer(2, True, is_pre_vote=True), 1)
    assert core.role is Role.CANDIDATE
    while (output := core.take_output()).persist:
        core.persisted(output.persist.ticket, 2)
    assert core.role is Role.CANDIDATE, "its own vote does not count"
    core.step("b", VoteAnswer(2, True), 3)
    assert core.role is Role.LEADER


def test_one_that_never_voted_does_not_campaign() -> None:
    core = _core(B)
    core.tick(core.deadline_us)
    assert core.role is Role.FOLLOWER


def test_one_whose_removal_is_committed_does_not_campaign() -> None:
    core = _core(AB, B)
    core.commit_index = 2
    core.tick(core.deadline_us)
    assert core.role is Role.FOLLOWER
