"""What a full disk takes back: nothing that it refused is claimed or acknowledged later."""

import random

from raft.core import Boot, Configuration, Entry, Kind, RaftCore, Role, Settings
from raft.messages import Append, AppendAnswer, VoteAnswer, VoteRequest

ABC = Configuration.of({"a": "a:1", "b": "b:1", "c": "c:1"})


def _with_an_entry_under_way() -> RaftCore:
    """Replica `a` of three in term 1; entry 2 is on its way to the disk."""
    core = RaftCore(
        replica_id="a",
        settings=Settings(),
        rng=random.Random(1),
        boot=Boot(1, "", [Entry(1, 1, Kind.CONFIGURATION, ABC.encode())]),
        now_us=0,
    )
    core.step("b", Append(1, 1, 1, 0, [Entry(2, 1, Kind.COMMAND, b"x")]), 0)
    return core


def test_a_candidate_does_not_claim_the_log_that_its_full_disk_refused() -> None:
    core = _with_an_entry_under_way()
    entries = core.take_output().persist
    core.tick(core.deadline_us)
    core.step("c", VoteAnswer(2, True, is_pre_vote=True), 1)
    assert core.role is Role.CANDIDATE
    vote = core.take_output().persist
    core.persist_failed(entries.ticket, True, 2)
    core.persist_failed(vote.ticket, True, 2)
    sent = []
    while (output := core.take_output()).persist:
        core.persisted(output.persist.ticket, 3)
        sent += output.messages
    sent += output.messages
    assert core.last_index == 1
    assert not [m for _, m in sent if isinstance(m, VoteRequest) and not m.is_pre_vote]


def test_no_acknowledgement_in_a_term_that_is_not_on_disk() -> None:
    """Found by `python -m sim.raft --seeds 1 --start 1858`."""
    core = _with_an_entry_under_way()
    refused = core.take_output().persist
    core.persist_failed(refused.ticket, True, 1)
    core.take_output()
    core.step("c", Append(2, 1, 1, 0, []), 2)  # a leader of term 2 asks about what is durable
    output = core.take_output()
    assert not [m for _, m in output.messages if isinstance(m, AppendAnswer)]
    answers = []
    while output.persist:
        core.persisted(output.persist.ticket, 3)
        output = core.take_output()
        answers += [m for _, m in output.messages if isinstance(m, AppendAnswer)]
    assert [(m.term, m.index) for m in answers] == [(2, 1)]
