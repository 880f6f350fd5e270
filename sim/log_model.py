"""What a log on disk amounts to, and which states of it are legal at a moment."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from raft.messages import Entry, SnapshotMeta
from raft.output import Boot, HardState, Persist

_NO_TERM: Final = HardState(0, "")


@dataclass(frozen=True)
class Log:
    """What a log amounts to: what of it is acknowledged is a matter of who holds it."""

    hard_state: HardState = _NO_TERM
    base: tuple[int, int] = (0, 0)  # (index, term) before the first entry
    entries: tuple[Entry, ...] = ()

    @property
    def last_index(self) -> int:
        return self.base[0] + len(self.entries)

    def term_at(self, index: int) -> int:
        """Return an entry's term, -1 when the log does not hold it."""
        if index == self.base[0]:
            return self.base[1]
        position = index - self.base[0] - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else -1

    def steps(self, batch: Persist) -> Iterator["Log"]:
        """Yield the log after each record of a batch; each is one that a cut may leave."""
        log = self
        if batch.hard_state is not None:
            yield (log := replace(log, hard_state=batch.hard_state))
        if batch.reset_to is not None:
            meta = batch.reset_to
            yield (log := replace(log, base=(meta.index, meta.term), entries=()))
        if batch.truncate_from:
            kept = log.entries[: batch.truncate_from - log.base[0] - 1]
            yield (log := replace(log, entries=kept))
        for entry in batch.entries:
            yield (log := replace(log, entries=(*log.entries, entry)))

    def boot(self, snapshot: SnapshotMeta) -> Boot:
        """Return what a start finds, given the newest snapshot."""
        term, voted_for = self.hard_state.term, self.hard_state.voted_for
        if term < snapshot.term:
            term, voted_for = snapshot.term, ""
        entries: list[Entry] = []
        if self.term_at(snapshot.index) == snapshot.term:
            entries = list(self.entries[snapshot.index - self.base[0] :])
        return Boot(term, voted_for, entries, snapshot)


def body_of(index: int, term: int) -> bytes:
    """Return a snapshot's bytes: a function of what it holds, as a state's are."""
    return b"".join(
        hashlib.sha256(b"%d %d %d" % (index, term, part)).digest() for part in range(40)
    )


def difference(found: Boot, acknowledged: Boot) -> tuple[str, str]:
    """Return (checker, text) of what is wrong with a boot that no prefix explains."""
    lost = [entry for entry in acknowledged.entries if entry not in found.entries]
    if lost:
        return "acknowledged", f"{len(lost)} entries are gone, the first is {lost[0].index}"
    if (found.term, found.voted_for) != (acknowledged.term, acknowledged.voted_for):
        return "acknowledged", (
            f"the vote is {found.voted_for!r} in term {found.term}, it was "
            f"{acknowledged.voted_for!r} in {acknowledged.term}"
        )
    extra = [entry.index for entry in found.entries if entry not in acknowledged.entries]
    return "not invented", f"entries {extra[:5]} are there in a state that nobody wrote"
