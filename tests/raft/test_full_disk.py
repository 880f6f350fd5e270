"""What a full disk takes back: nothing that it refused is claimed or acknowledged later."""

import random

from raft.core import Boot, Configuration, Entry, Kind, RaftCore, Role, Settings
from raft.messages import Append, VoteAnswer, VoteRequest

ABC = Configuration.of({"a": "a:1", "b": "b:1", "c": "c:1"})


def test_a_candidate_does_not_claim_the_log_that_its_full_disk_refused() -> None:
    core = RaftCore(
        replica_id="a",
        settings=Settings(),
        rng=random.Random(1),
        boot=Boot(1, "", [Entry(1, 1, Kind.CONFIGURATION, ABC.encode())]),
        now_us=0,
    )
    core.step("b", Append(1, 1, 1, 0, [Entry(2, 1, Kind.COMMAND, b"x")]), 0)
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
