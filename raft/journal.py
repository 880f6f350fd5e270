"""What must reach the disk, in which order, and what waits until it has.

The core never blocks on the disk. It collects records here; `take` closes a batch and
names it with a ticket. Batches become durable in the order of their tickets, several
may be under way at once. A message that promises something durable is held with the
newest ticket and released when that ticket returns:

* a granted vote, and the candidate's own: else a replica that restarts votes twice;
* a *request* for votes: it claims (last_index, last_term). Were these lost in a crash,
  the candidate would come back with a shorter log, run again in the same term, and win
  by the late answers to its longer log (the term's durability alone shuts that out,
  because it then can't run in that term again);
* the acknowledgement of entries, and the leader's own match (section 10.2.1 lets the
  leader write in parallel with its followers).

A full disk is treated as a crash that kept the process: nothing of the refused batch is
on disk, nor of those handed out after it. Their tickets are void. The hard state is
written again at once (the log's reserve has room for it), the entries when
`raft.settings.disk_retry_us` has passed.
"""

from collections import deque
from dataclasses import dataclass

from raft.messages import AppendAnswer, Entry, Message, SnapshotMeta, VoteRequest
from raft.output import HardState, InvariantError, Persist


@dataclass(slots=True)
class _Batch:
    ticket: int
    last_index: int  # entries up to here are durable with this batch; 0 = says nothing
    has_hard_state: bool
    reset_to: SnapshotMeta | None


class Journal:
    """Invariant: `durable_index` never exceeds what a crash at this moment would leave.

    An index means the entry that the log holds there *now*: when a tail is cut, both
    `durable_index` and the batches under way forget the part that was cut.
    """

    def __init__(self, durable_index: int) -> None:
        self.durable_index = durable_index
        self.is_full = False
        self._ticket = 0  # the newest handed out
        self._first_valid_ticket = 1  # older ones were void by a full disk
        self._underway: deque[_Batch] = deque()
        self._held: deque[tuple[int, str, Message]] = deque()
        self._hard_state: HardState | None = None
        self._reset_to: SnapshotMeta | None = None
        self._deferred_reset: SnapshotMeta | None = None  # refused by a full disk
        self._truncate_from = 0
        self._entries: list[Entry] = []
        self._release_through = 0
        self._is_retry = False
        self._is_dirty = False

    @property
    def is_settled(self) -> bool:
        """Everything recorded so far is durable."""
        return not self._underway and not self._is_dirty

    def record_hard_state(self, term: int, voted_for: str) -> None:
        self._hard_state = HardState(term, voted_for)
        self._is_dirty = True

    def record_entries(self, entries: list[Entry]) -> None:
        if self.is_full:
            return  # they come from the log when the disk is tried again
        self._entries += entries
        self._is_dirty = True

    def record_truncate(self, index: int) -> None:
        """Void the entries from `index` on, wherever they are on their way."""
        self.durable_index = min(self.durable_index, index - 1)
        for batch in self._underway:
            batch.last_index = min(batch.last_index, index - 1)
        if self.is_full:
            return
        while self._entries and self._entries[-1].index >= index:
            self._entries.pop()
        if not self._truncate_from or index < self._truncate_from:
            self._truncate_from = index
        self._is_dirty = True

    def record_reset(self, meta: SnapshotMeta) -> None:
        """The log begins after a snapshot that is durable under its name already."""
        self.durable_index = 0
        for batch in self._underway:
            batch.last_index = 0
        self._entries.clear()
        self._truncate_from = 0
        if self.is_full:
            self._deferred_reset = meta
            return
        self._reset_to = meta
        self._is_dirty = True

    def record_release(self, index: int) -> None:
        self._release_through = max(self._release_through, index)
        self._is_dirty = True

    def hold(self, to: str, message: Message) -> bool:
        """Keep the message until all that was recorded is durable.

        Returns:
            False when nothing is on its way: the caller sends at once.
        """
        if self.is_full and isinstance(message, AppendAnswer):
            if message.index > self.durable_index:
                # The entries' turn is unknown; the leader asks again when the disk has room.
                return True
        if self.is_settled:
            return False
        self._held.append((self._ticket + self._is_dirty, to, message))
        return True

    def take(self, last_index: int) -> Persist | None:
        """Close the batch. `last_index` is the log's: unless the disk is full, all is recorded."""
        if not self._is_dirty:
            return None
        self._ticket += 1
        reset_index = self._reset_to.index if self._reset_to else 0
        if self._entries:
            reached = self._entries[-1].index
        else:
            reached = reset_index
        assert self.is_full or not self._entries or reached == last_index
        self._underway.append(
            _Batch(self._ticket, reached, self._hard_state is not None, self._reset_to)
        )
        persist = Persist(
            ticket=self._ticket,
            is_retry=self._is_retry,
            hard_state=self._hard_state,
            reset_to=self._reset_to,
            truncate_from=self._truncate_from,
            entries=self._entries,
            release_through=self._release_through,
        )
        self._hard_state = self._reset_to = None
        self._entries = []
        self._truncate_from = self._release_through = 0
        self._is_retry = self._is_dirty = False
        return persist

    def persisted(self, ticket: int) -> list[tuple[str, Message]]:
        """Note that a batch is durable and return the messages that waited for it.

        Raises:
            InvariantError: Tickets came out of order or were never handed out.
        """
        if ticket < self._first_valid_ticket:
            return []
        if not self._underway or self._underway[0].ticket != ticket:
            expected = self._underway[0].ticket if self._underway else None
            raise InvariantError(f"ticket {ticket} came back, the next under way is {expected}")
        batch = self._underway.popleft()
        self.durable_index = max(self.durable_index, batch.last_index)
        released = []
        while self._held and self._held[0][0] <= ticket:
            _, to, message = self._held.popleft()
            released.append((to, message))
        return released

    def refuse(self, ticket: int, term: int, voted_for: str) -> bool:
        """The disk is full: void what is under way, write the hard state again at once.

        Returns:
            False when the ticket was void already.
        """
        if ticket < self._first_valid_ticket:
            return False
        lost_hard_state = self._hard_state is not None
        newest_reset = self._deferred_reset
        for batch in self._underway:
            lost_hard_state = lost_hard_state or batch.has_hard_state
            newest_reset = batch.reset_to or newest_reset
        # A void reset waits for the retry: alone it would empty the log for nothing.
        self._deferred_reset, self._reset_to = self._reset_to or newest_reset, None
        self._underway.clear()
        self._first_valid_ticket = self._ticket + 1
        self._held = deque(
            (self._first_valid_ticket, to, message)
            for _, to, message in self._held
            # Neither entries nor the log that a candidacy claimed are there any more.
            if not isinstance(message, AppendAnswer | VoteRequest)
        )
        self._entries = []
        self._truncate_from = 0
        self.is_full = True
        self._is_dirty = False
        if lost_hard_state or self._held:
            self.record_hard_state(term, voted_for)
        return True

    def forget_held(self) -> None:
        """Drop what waits: for who can't tell which messages promise what was refused."""
        self._held.clear()

    def retry(self, entries: list[Entry]) -> None:
        """Try the disk again with `entries`: all that the log holds beyond `durable_index`."""
        self.is_full = False
        self._is_retry = True
        if self._deferred_reset is not None:
            self._reset_to, self._deferred_reset = self._deferred_reset, None
        else:
            self._truncate_from = self.durable_index + 1
        self._entries = list(entries)
        self._is_dirty = True
