"""What one server's storage has reported durable: the yardstick of the durability checks.

The write-ahead log says "durable" batch by batch. `DurableLog` takes the batches in and
knows what the log must therefore hold, also after a power cut: all of them, and of those
that were being written any prefix of records.
"""

from collections.abc import Iterator, Sequence

from raft.core import Boot, Entry, HardState, Persist, SnapshotMeta
from sim.seeds import Violation


class DurableLog:
    """Term, vote and entries, as sure as what was reported."""

    def __init__(self) -> None:
        self.term, self.voted_for = 0, ""
        self.base_index, self.base_term = 0, 0
        self.entries: list[Entry] = []

    @classmethod
    def of(cls, boot: Boot) -> "DurableLog":
        """Return what a server that started with `boot` stands on."""
        log = cls()
        log.term, log.voted_for = boot.term, boot.voted_for
        log.base_index, log.base_term = boot.snapshot.index, boot.snapshot.term
        log.entries = list(boot.entries)
        return log

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    def term_at(self, index: int) -> int | None:
        position = index - self.base_index - 1
        if position < 0:
            return self.base_term if position == -1 else None
        return self.entries[position].term if position < len(self.entries) else None

    def holds(self, index: int, term: int) -> bool:
        """Say whether that place is here, or in the snapshot that the log begins after."""
        return index <= self.base_index or self.term_at(index) == term

    def write(self, batch: Persist) -> None:
        """Take in a batch that is durable.

        Raises:
            Violation: It leaves a gap in the log.
        """
        for _ in self._steps(batch):
            pass

    def possible(self, batches: Sequence[Persist], snapshot: SnapshotMeta) -> Iterator[Boot]:
        """Yield each state that a power cut during the writing of `batches` may leave.

        Changes itself while it is iterated over.
        """
        yield self._boot(snapshot)
        for batch in batches:
            for _ in self._steps(batch):
                yield self._boot(snapshot)

    def _steps(self, batch: Persist) -> Iterator[None]:
        """Carry out a batch record by record, in the order that `Persist` promises."""
        if batch.hard_state is not None:
            self._set(batch.hard_state)
            yield
        if batch.reset_to is not None:
            self._reset(batch.reset_to)
            yield
        if batch.truncate_from:
            del self.entries[max(0, batch.truncate_from - self.base_index - 1) :]
            yield
        for entry in batch.entries:
            if entry.index != self.last_index + 1:
                text = f"entry {entry.index} is written after {self.last_index}"
                raise Violation("durability", text)
            self.entries.append(entry)
            yield

    def _set(self, hard_state: HardState) -> None:
        self.term, self.voted_for = hard_state.term, hard_state.voted_for

    def _reset(self, meta: SnapshotMeta) -> None:
        self.base_index, self.base_term = meta.index, meta.term
        self.entries = []

    def _boot(self, snapshot: SnapshotMeta) -> Boot:
        """Join with the newest snapshot; one installed just before the end wins."""
        term, voted_for = self.term, self.voted_for
        if term < snapshot.term:
            term, voted_for = snapshot.term, ""
        entries: list[Entry] = []
        if self.term_at(snapshot.index) == snapshot.term:
            entries = self.entries[snapshot.index - self.base_index :]
        return Boot(term, voted_for, entries, snapshot)
