"""The simulated disk of a server: what was synced survives a crash, the rest may not.

It holds what the write-ahead log and the snapshot store of the real host hold, as
records: hard state, entries, snapshots. A write takes the modelled time; a crash before
its end leaves a random prefix of the batch (a torn tail is cut by the real log at the
next start, so a prefix is all it can leave).
"""

import random

import msgspec

from raft.messages import Entry, SnapshotMeta
from raft.output import Boot, Persist


class DiskModel(msgspec.Struct, frozen=True, kw_only=True):
    """Times in microseconds."""

    sync_us: int = 1_500
    jitter_us: int = 1_000
    bytes_per_us: int = 200  # 200 MB/s


class SimDisk:
    """One server's data folder."""

    def __init__(self, model: DiskModel, rng: random.Random) -> None:
        self.model = model
        self.is_full = False
        self.syncs = 0
        self._factor = 1.0  # of a slow disk: how many times as long everything takes
        self._extra_us = 0  # ... and how much longer on top
        self._rng = rng
        self._term = 0
        self._voted_for = ""
        self._entries: list[Entry] = []
        self._snapshot = SnapshotMeta()
        self._image = b""
        self._free_at_us = 0
        self.members: dict[str, list[tuple[str, str]]] = {}

    def duration_us(self, size: int, now_us: int) -> int:
        """Return how long from now a write of `size` bytes takes, queued behind others."""
        took = self.model.sync_us + int(self._rng.random() * self.model.jitter_us)
        took += size // self.model.bytes_per_us
        if self._factor != 1.0 or self._extra_us:
            took = int(took * self._factor) + self._extra_us
        start = max(now_us, self._free_at_us)
        self._free_at_us = start + took
        return self._free_at_us - now_us

    def slow(self, factor: float, extra_us: int) -> None:
        """Let every write take `factor` times as long, and `extra_us` more; (1.0, 0) mends."""
        self._factor, self._extra_us = factor, extra_us

    def apply(self, batch: Persist, *, torn: bool = False) -> None:
        """Make a batch durable; `torn`: a crash came first, so only a prefix of it is."""
        self.syncs += 1
        steps = self._rng.randrange(3 + len(batch.entries)) if torn else 3 + len(batch.entries)
        if steps > 0 and batch.hard_state is not None:
            self._term = batch.hard_state.term
            self._voted_for = batch.hard_state.voted_for
        if steps > 1 and batch.reset_to is not None:
            self._entries = []
        if steps > 2 and batch.truncate_from:
            self._entries = [e for e in self._entries if e.index < batch.truncate_from]
        self._entries.extend(batch.entries[: max(0, steps - 3)])
        if batch.release_through and not torn:
            self._release(min(batch.release_through, self._snapshot.index))

    def _release(self, through: int) -> None:
        self._entries = [entry for entry in self._entries if entry.index > through]

    def save_snapshot(self, meta: SnapshotMeta, image: bytes) -> None:
        self._snapshot = meta
        self._image = image

    def begin_from(self, meta: SnapshotMeta, image: bytes) -> None:
        """Hold a snapshot, as of a log that went on for long."""
        self._term = meta.term
        self.save_snapshot(meta, image)

    def read_snapshot(self, snapshot_id: str, offset: int, size: int) -> bytes | None:
        if snapshot_id != self._snapshot.snapshot_id:
            return None
        return self._image[offset : offset + size]

    @property
    def snapshot_size(self) -> int:
        return len(self._image)

    def boot(self) -> tuple[Boot, bytes | None]:
        """Return what a starting server finds."""
        entries = [entry for entry in self._entries if entry.index > self._snapshot.index]
        boot = Boot(
            term=self._term,
            voted_for=self._voted_for,
            entries=list(entries),
            snapshot=self._snapshot,
        )
        return boot, self._image or None
