"""Reads that see every acknowledged write, without a log entry (dissertation section 6.4).

A barrier joins the next round of heartbeats; when a majority answered that round, nobody
else led when the barrier was asked for, so the commit index of now covers every write
acknowledged before. One round is under way at a time; all barriers meanwhile share the
next. A new leader waits until an entry of its own term is committed: before that it does
not know how far its predecessor's acknowledgements went.
"""

from raft.output import Refusal, Role
from raft.replica import Replica


def request(r: Replica, now_us: int) -> int | None:
    """Ask for a barrier; see `RaftCore.read_barrier`."""
    if r.role is not Role.LEADER:
        r.refusal = Refusal.NOT_LEADER
        return None
    r.refusal = Refusal.NONE
    ticket = r.next_read_ticket
    r.next_read_ticket += 1
    if has_lease(r, now_us) and _knows_commit(r):
        r.output.reads_ready.append((ticket, r.commit_index))
    else:
        r.reads.append((ticket, r.round + 1))
    return ticket


def is_round_wanted(r: Replica) -> bool:
    """Say whether barriers wait for a round not yet sent, and none is under way."""
    return bool(r.reads) and r.reads[-1][1] > r.round and quorum_round(r) == r.round


def on_round(r: Replica, now_us: int) -> None:
    """A round was sent or answered, or the first entry of the term was committed."""
    reached = quorum_round(r)
    while r.rounds and r.rounds[0][0] < reached:
        r.rounds.popleft()
    if not _knows_commit(r):
        return
    while r.reads and r.reads[0][1] <= reached:
        ticket, _ = r.reads.popleft()
        r.output.reads_ready.append((ticket, r.commit_index))


def quorum_round(r: Replica) -> int:
    """Return the newest round that a majority of voters answered."""
    rounds = sorted(
        (
            r.round if voter == r.replica_id else _acked(r, voter)
            for voter in r.configuration.voters
        ),
        reverse=True,
    )
    return rounds[r.configuration.quorum - 1] if rounds else 0


def has_lease(r: Replica, now_us: int) -> bool:
    """Say whether nobody else can lead yet, by the bound on clock rates (section 6.4.1).

    A hand-over ends it for the rest of the term, also one that failed: its message may still
    be under way, and then voters do not wait for their leader's silence.
    """
    if not r.settings.lease_us or not r.settings.is_check_quorum or r.has_handed_over:
        return False
    return (
        bool(r.rounds)
        and r.rounds[0][0] == quorum_round(r)
        and now_us < r.rounds[0][1] + r.settings.lease_us
    )


def _knows_commit(r: Replica) -> bool:
    return r.commit_index >= r.term_start_index


def _acked(r: Replica, voter: str) -> int:
    peer = r.peers.get(voter)
    return peer.acked_round if peer else 0
