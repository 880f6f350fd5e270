"""Snapshots to followers whose next entry is compacted (dissertation section 5.1).

Chunks go one at a time, each with the snapshot's id, its offset and a checksum. The
receiver says which byte it wants next, so a broken transfer goes on where it stopped,
also under another leader: state is a function of the log, and the digest in the meta
says that the bytes are the same. The first chunk is empty and only asks.

The sender's bytes come from the host (`NeedChunk`), the receiver's go to it
(`StageChunk`); neither is held here.
"""

from typing import Final

from raft.following import is_outdated
from raft.messages import SnapshotAnswer, SnapshotChunk, checksum
from raft.output import InvariantError, NeedChunk, Role, StageChunk
from raft.progress import Flow, Progress
from raft.replica import Replica

STRANGER: Final = "snapshot of another cluster"  # a reason in `dropped`

# --- the sender ---------------------------------------------------------------------


def begin(r: Replica, to: str, peer: Progress, now_us: int) -> None:
    """Send the newest snapshot to a follower that the log can't help."""
    if r.snapshot.index < r.log.offset:
        raise InvariantError(f"log begins after {r.log.offset}, snapshot is {r.snapshot.index}")
    peer.send_snapshot(r.snapshot)
    _ask_where(r, to, peer, now_us)


def _ask_where(r: Replica, to: str, peer: Progress, now_us: int) -> None:
    peer.chunk_asked_us = now_us
    question = SnapshotChunk(r.term, peer.snapshot, 0, b"", is_last=False, checksum=0)
    r.send(to, question)


def _read_next(r: Replica, to: str, peer: Progress, now_us: int) -> None:
    assert peer.offset is not None
    peer.chunk_ticket = r.next_chunk_ticket
    peer.chunk_asked_us = now_us
    r.next_chunk_ticket += 1
    r.output.need_chunk.append(
        NeedChunk(peer.chunk_ticket, to, peer.snapshot, peer.offset, r.settings.chunk_bytes)
    )


def on_chunk_read(
    r: Replica, ticket: int, data: bytes, *, is_last: bool, error: str, now_us: int
) -> None:
    """The host read what a `NeedChunk` asked for."""
    awaited = (
        (replica_id, peer)
        for replica_id, peer in r.peers.items()
        if peer.flow is Flow.SNAPSHOT and peer.chunk_ticket == ticket
    )
    to, peer = next(awaited, ("", None))
    if peer is None:
        return  # nobody wants it any more
    peer.chunk_ticket = 0
    peer.chunk_asked_us = now_us
    if error or peer.offset is None:
        # Begin again with the newest snapshot, after the next sign of life.
        r.dropped["snapshot chunk that could not be read"] += 1
        peer.probe(peer.match_index + 1)
        peer.is_waiting = True
        return
    r.send(
        to,
        SnapshotChunk(r.term, peer.snapshot, peer.offset, data, is_last, checksum(data)),
    )


def on_answer(r: Replica, sender: str, answer: SnapshotAnswer, now_us: int) -> None:
    peer = r.peers.get(sender)
    if r.role is not Role.LEADER or answer.term != r.term or peer is None:
        return
    peer.contact_us = now_us
    if peer.flow is not Flow.SNAPSHOT or peer.snapshot.snapshot_id != answer.snapshot_id:
        return
    if answer.is_done:
        # Not a promise of durability: the Append that follows gets one.
        peer.probe(peer.snapshot.index + 1)
    elif answer.next_offset != peer.offset:
        # The same offset again is the answer to a repeated chunk; to heed it would send
        # every following chunk twice.
        peer.offset = answer.next_offset
        _read_next(r, sender, peer, now_us)


def repeat_if_stale(r: Replica, to: str, peer: Progress, now_us: int) -> None:
    """A chunk or its answer was lost: send it again."""
    if now_us - peer.chunk_asked_us < r.settings.chunk_stale_us:
        return
    if peer.offset is None:
        _ask_where(r, to, peer, now_us)
    else:
        _read_next(r, to, peer, now_us)


# --- the receiver -------------------------------------------------------------------


def on_chunk(r: Replica, sender: str, chunk: SnapshotChunk, now_us: int) -> None:
    if is_outdated(r, sender, chunk):
        return
    r.hear_leader(sender, chunk.term, now_us)
    meta = chunk.meta
    if r.cluster_id and meta.cluster_id not in ("", r.cluster_id):
        r.dropped[STRANGER] += 1
        return
    if meta.index <= r.commit_index or r.log.matches(meta.index, meta.term):
        r.commit_to(meta.index)  # a snapshot holds committed entries only
        r.staged = None
        r.send(sender, SnapshotAnswer(r.term, meta.snapshot_id, meta.size, is_done=True))
        return
    if checksum(chunk.data) != chunk.checksum:
        r.dropped["snapshot chunk with a wrong checksum"] += 1
        return
    if r.staging is not None:
        return  # a chunk is being written; its answer is still to come
    if r.staged is None or r.staged[0] != meta:
        r.staged = (meta, 0)
    next_offset = r.staged[1]
    if chunk.offset != next_offset or not (chunk.data or chunk.is_last):
        r.send(sender, SnapshotAnswer(r.term, meta.snapshot_id, next_offset))
        return
    ticket = r.next_chunk_ticket
    r.next_chunk_ticket += 1
    r.staging = StageChunk(ticket, meta, chunk.offset, chunk.data, chunk.is_last)
    r.output.stage.append(r.staging)


def on_chunk_staged(r: Replica, ticket: int, *, error: str, now_us: int) -> None:
    """The host wrote what a `StageChunk` asked for, and installed it if it was the last."""
    stage = r.staging
    if stage is None or stage.ticket != ticket:
        return
    r.staging = None
    meta = stage.meta
    if error:
        # No answer: the leader asks again after `chunk_stale_us`, from the beginning.
        r.dropped["snapshot chunk that could not be written"] += 1
        r.staged = None
        return
    if not stage.is_last:
        next_offset = stage.offset + len(stage.data)
        r.staged = (meta, next_offset)
        if r.leader_id:
            r.send(r.leader_id, SnapshotAnswer(r.term, meta.snapshot_id, next_offset))
        return
    r.staged = None
    if meta.index > r.commit_index:
        if r.log.matches(meta.index, meta.term):
            r.commit_to(meta.index)
        else:
            r.reset_to(meta)
    if r.leader_id:
        r.promise(r.leader_id, SnapshotAnswer(r.term, meta.snapshot_id, meta.size, is_done=True))
