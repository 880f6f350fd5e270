"""What a leader knows of one follower, and how fast it may send to it.

PROBE      the match is unknown: one Append at a time, the next at an answer or heartbeat
REPLICATE  the match is known: Appends go out ahead of their answers, within a window
SNAPSHOT   what the follower needs is compacted: chunks of a snapshot, one at a time
"""

from collections import deque
from enum import Enum

from raft.messages import SnapshotMeta


class Flow(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """Invariant: match_index < next_index, and match_index never sinks within a term."""

    __slots__ = (
        "acked_round",
        "chunk_asked_us",
        "chunk_ticket",
        "commit_sent",
        "contact_us",
        "flow",
        "inflight",
        "inflight_bytes",
        "is_disk_full",
        "is_waiting",
        "match_index",
        "next_index",
        "offset",
        "snapshot",
    )

    def __init__(self, next_index: int, now_us: int) -> None:
        self.match_index = 0
        self.next_index = next_index
        self.flow = Flow.PROBE
        self.is_waiting = False  # PROBE: the one Append is out
        self.inflight: deque[tuple[int, int, int]] = deque()  # (last index, bytes, sent at)
        self.inflight_bytes = 0
        self.commit_sent = 0  # the newest commit index told
        self.acked_round = 0  # the newest heartbeat round answered
        self.contact_us = now_us  # when it last said anything in this term
        self.is_disk_full = False  # it refuses entries until its disk has room
        self.snapshot = SnapshotMeta()  # SNAPSHOT: the one being sent
        self.offset: int | None = None  # of the next chunk; None = the follower was asked
        self.chunk_ticket = 0  # of the read under way; 0 = the chunk itself is out
        self.chunk_asked_us = 0

    def probe(self, next_index: int) -> None:
        self.flow = Flow.PROBE
        self.next_index = max(next_index, self.match_index + 1)
        self.is_waiting = False
        self._clear_inflight()

    def replicate(self) -> None:
        self.flow = Flow.REPLICATE
        self.next_index = self.match_index + 1
        self.is_waiting = False
        self._clear_inflight()

    def send_snapshot(self, meta: SnapshotMeta) -> None:
        self.flow = Flow.SNAPSHOT
        self.snapshot = meta
        self.offset = None
        self.chunk_ticket = 0
        self._clear_inflight()

    def sent(self, last_index: int, size_bytes: int, now_us: int) -> None:
        """Note an Append that went out ahead of its answer."""
        self.next_index = last_index + 1
        self.inflight.append((last_index, size_bytes, now_us))
        self.inflight_bytes += size_bytes

    def matched(self, index: int) -> bool:
        """Note that the follower's log is durable and equal up to `index`; say if it is news."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]
        if index <= self.match_index:
            return False
        self.match_index = index
        self.next_index = max(self.next_index, index + 1)
        return True

    def _clear_inflight(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0
