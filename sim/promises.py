"""What a replica promises while its log is being written: the shipped journal, judged.

`raft.journal` makes batches of what a replica records, and holds each message back until
what it promises is durable. `Promises` stands where the core stands: it records, asks for a
message to be held, and notes which batch the messages that were let go rely on. So a power
cut that takes such a batch away is a broken promise, whether the log or the journal is at
fault.
"""

from raft.journal import Journal
from raft.messages import AppendAnswer, Message, VoteAnswer
from raft.output import HardState, Persist
from sim.log_model import Log
from sim.seeds import Violation


class Promises:
    """The journal of one life of a replica, and what it let out."""

    def __init__(self, log: Log) -> None:
        self._journal = Journal(log.last_index)
        self._next_ticket = 1
        self._claims: list[int] = []  # by number of the message: the batch that it relies on
        self._refused: set[int] = set()  # batches that are not on disk and never will be
        self.claimed = 0  # the newest batch that somebody was told to be durable

    @property
    def is_full(self) -> bool:
        return self._journal.is_full

    @property
    def durable_index(self) -> int:
        """Up to where the leader would count its own copy."""
        return self._journal.durable_index

    def record(self, meant: Persist, before: Log) -> Persist | None:
        """Record what a batch is meant to say; return the one that the journal makes of it.

        Raises:
            Violation: It says something else.
        """
        journal = self._journal
        *_, after = (before, *before.steps(meant))
        if meant.hard_state is not None:
            journal.record_hard_state(meant.hard_state.term, meant.hard_state.voted_for)
        if meant.is_retry:
            journal.retry(meant.entries)
        else:
            if meant.reset_to is not None:
                journal.record_reset(meant.reset_to)
            if meant.truncate_from:
                journal.record_truncate(meant.truncate_from)
            if meant.entries:
                journal.record_entries(meant.entries)
        if meant.release_through:
            journal.record_release(meant.release_through)
        is_vote = not (meant.entries or meant.truncate_from or meant.reset_to)
        term = after.hard_state.term
        answer: Message = (
            VoteAnswer(term, True) if is_vote else AppendAnswer(term, True, after.last_index)
        )
        self._claims.append(self._next_ticket)
        name = str(len(self._claims) - 1)
        if not journal.hold(name, answer):
            self._let_out(name, answer)
        batch = journal.take(after.last_index)
        if batch is None:
            return None
        self._next_ticket = batch.ticket + 1
        *_, said = (before, *before.steps(batch))
        if said != after or batch.release_through != meant.release_through:
            raise Violation("acknowledged", f"the journal makes {batch} of {meant}")
        return batch

    def durable(self, batch: Persist) -> None:
        """The log says that a batch is durable."""
        for name, message in self._journal.persisted(batch.ticket):
            self._let_out(name, message)

    def refused(self, batches: list[Persist], hard_state: HardState) -> None:
        """A full disk took none of these batches."""
        self._refused.update(batch.ticket for batch in batches)
        self._journal.refuse(batches[0].ticket, hard_state.term, hard_state.voted_for)

    def _let_out(self, name: str, message: Message) -> None:
        ticket = self._claims[int(name)]
        if isinstance(message, AppendAnswer) and ticket in self._refused:
            raise Violation("acknowledged", f"batch {ticket}, which a full disk refused")
        self.claimed = max(self.claimed, ticket)
