"""What a leader does: append, send, count, commit (dissertation sections 3.5, 3.6, 10.2)."""

from raft import reads, transfer
from raft.messages import Append, AppendAnswer, Entry, Heartbeat, HeartbeatAnswer, Kind, TimeoutNow
from raft.output import FOREVER_US, InvariantError, Refusal, Role
from raft.progress import Flow, Progress
from raft.replica import Replica


def lead(r: Replica, now_us: int) -> None:
    """Take office: an entry of the own term is what lets older ones commit (section 3.6.2)."""
    r.role = Role.LEADER
    r.leader_id = r.replica_id
    r.output.role_changed = True
    r.votes = {}
    r.election_due_us = FOREVER_US
    r.staging, r.staged = None, None
    r.uncommitted_bytes = 0
    r.has_handed_over = False
    r.peers = {}
    adopt_peers(r, now_us)
    r.term_start_index = r.log.last_index + 1
    r.append([Entry(r.term_start_index, r.term, Kind.NOOP)])
    advance_commit(r, now_us)
    broadcast_heartbeat(r, now_us)


def adopt_peers(r: Replica, now_us: int) -> None:
    """Follow the configuration: start telling who is new, stop telling who is gone."""
    old = r.peers
    r.peers = {
        replica_id: old.get(replica_id) or Progress(r.log.last_index + 1, now_us)
        for replica_id in sorted(r.configuration.addresses)
        if replica_id != r.replica_id
    }


def propose(r: Replica, data: list[bytes], now_us: int) -> int | None:
    """Append commands; see `RaftCore.propose`."""
    r.refusal = _refusal(r, data)
    if r.refusal is not Refusal.NONE:
        return None
    first = r.log.last_index + 1
    term = r.term
    r.append([Entry(first + i, term, Kind.COMMAND, item) for i, item in enumerate(data)])
    r.uncommitted_bytes += sum(map(len, data))
    return first


def _refusal(r: Replica, data: list[bytes]) -> Refusal:
    if r.role is not Role.LEADER or r.is_failed:
        return Refusal.NOT_LEADER
    if r.transfer_to:
        return Refusal.TRANSFERRING
    if r.journal.is_full:
        return Refusal.DISK_FULL
    size = 0
    for item in data:
        if len(item) > r.settings.entry_bytes:
            return Refusal.TOO_LARGE
        size += len(item)
    # One oversized proposal passes an empty window, else it could never be made.
    if r.uncommitted_bytes and r.uncommitted_bytes + size > r.settings.uncommitted_bytes:
        return Refusal.WINDOW_FULL
    return Refusal.NONE


# --- sending ------------------------------------------------------------------------


def flush(r: Replica, now_us: int) -> None:
    """Send every follower what its window allows. Called once an output is taken, so that
    what was proposed in between shares an Append."""
    for replica_id, peer in r.peers.items():
        send_entries(r, replica_id, peer, now_us)
        if peer.flow is Flow.REPLICATE and peer.commit_sent < min(r.commit_index, peer.match_index):
            peer.commit_sent = min(r.commit_index, peer.match_index)
            r.send(replica_id, Heartbeat(r.term, 0, peer.commit_sent))


def send_entries(r: Replica, to: str, peer: Progress, now_us: int) -> None:
    if peer.flow is Flow.SNAPSHOT or peer.is_disk_full:
        return
    if peer.next_index <= r.log.offset:
        transfer.begin(r, to, peer, now_us)
        return
    if peer.flow is Flow.PROBE:
        if not peer.is_waiting:
            peer.is_waiting = True
            entries, _ = r.log.batch(peer.next_index, r.settings.append_bytes)
            _append(r, to, peer, entries)
        return
    last = r.log.last_index
    while (
        peer.next_index <= last
        and peer.inflight_bytes < r.settings.inflight_bytes
        and len(peer.inflight) < r.settings.inflight_appends
    ):
        entries, size = r.log.batch(peer.next_index, r.settings.append_bytes)
        _append(r, to, peer, entries)
        peer.sent(entries[-1].index, size, now_us)


def _append(r: Replica, to: str, peer: Progress, entries: list[Entry]) -> None:
    prev = peer.next_index - 1
    prev_term = r.log.term_at(prev)
    assert prev_term is not None
    reached = entries[-1].index if entries else prev
    peer.commit_sent = max(peer.commit_sent, min(r.commit_index, reached))
    # Followers that are equally far get the same message: a host may encode it once.
    last = r.last_append
    is_same = (
        (last.term, last.prev_index, last.commit_index) == (r.term, prev, r.commit_index)
        and len(last.entries) == len(entries)
        and (not entries or last.entries[-1] is entries[-1])
    )
    if not is_same:
        r.last_append = Append(r.term, prev, prev_term, r.commit_index, entries)
    r.send(to, r.last_append)


def broadcast_heartbeat(r: Replica, now_us: int) -> None:
    r.round += 1
    r.rounds.append((r.round, now_us))
    r.heartbeat_due_us = now_us + r.settings.heartbeat_us
    for replica_id, peer in r.peers.items():
        # Never beyond the match: the rest of a follower's log may not be ours.
        r.send(replica_id, Heartbeat(r.term, r.round, min(r.commit_index, peer.match_index)))
    reads.on_round(r, now_us)


# --- answers ------------------------------------------------------------------------


def on_append_answer(r: Replica, sender: str, answer: AppendAnswer, now_us: int) -> None:
    peer = r.peers.get(sender)
    if r.role is not Role.LEADER or answer.term != r.term or peer is None:
        r.dropped["append answer not awaited"] += 1
        return
    peer.contact_us = now_us
    if answer.is_accepted:
        _on_accepted(r, sender, peer, answer.index, now_us)
    else:
        _on_refused(r, peer, answer)


def _on_accepted(r: Replica, sender: str, peer: Progress, index: int, now_us: int) -> None:
    if index > r.log.last_index:
        raise InvariantError(f"{sender!r} acknowledged {index}, we sent {r.log.last_index}")
    is_news = peer.matched(index)
    if peer.flow is Flow.PROBE and index >= peer.next_index - 1:
        peer.replicate()
    elif peer.flow is Flow.SNAPSHOT and peer.match_index >= r.log.offset:
        peer.replicate()  # what it lacks is in the log after all
    if is_news:
        advance_commit(r, now_us)
        if sender == r.transfer_to and peer.match_index == r.log.last_index:
            r.send(sender, TimeoutNow(r.term))


def _on_refused(r: Replica, peer: Progress, answer: AppendAnswer) -> None:
    if answer.is_disk_full:
        peer.is_disk_full = True
        peer.probe(peer.match_index + 1)
        return
    if peer.flow is Flow.SNAPSHOT or answer.index <= peer.match_index:
        return  # an answer that was overtaken
    if peer.flow is Flow.PROBE and answer.index != peer.next_index - 1:
        return
    peer.probe(min(answer.index, _next_after_hint(r, answer)))


def _next_after_hint(r: Replica, answer: AppendAnswer) -> int:
    """Return the next index to try: just after the newest place where both could agree.

    At or below `log.offset` it means that only a snapshot helps.
    """
    if answer.hint_index < r.log.offset:
        return answer.hint_index + 1
    index, term = r.log.hint(answer.hint_index, answer.hint_term)
    return index + 1 if term <= answer.hint_term else index


def on_heartbeat_answer(r: Replica, sender: str, answer: HeartbeatAnswer, now_us: int) -> None:
    peer = r.peers.get(sender)
    if r.role is not Role.LEADER or answer.term != r.term or peer is None:
        r.dropped["heartbeat answer not awaited"] += 1
        return
    peer.contact_us = now_us
    peer.is_disk_full = False  # try again; it refuses at once if nothing changed
    if answer.round > peer.acked_round:
        if answer.round > r.round:
            raise InvariantError(f"{sender!r} answered round {answer.round} of {r.round}")
        peer.acked_round = answer.round
        reads.on_round(r, now_us)
    if peer.flow is Flow.PROBE:
        peer.is_waiting = False
    elif peer.flow is Flow.SNAPSHOT:
        transfer.repeat_if_stale(r, sender, peer, now_us)
    elif peer.inflight and now_us - peer.inflight[0][2] > r.settings.inflight_stale_us:
        # Lost, or waiting for a slow disk? An Append without entries finds out: it is
        # refused at once where something was lost, else its answer waits like the rest.
        last_index, size, _ = peer.inflight[0]
        peer.inflight[0] = (last_index, size, now_us)
        _append(r, sender, peer, [])


# --- commit -------------------------------------------------------------------------


def advance_commit(r: Replica, now_us: int) -> None:
    """Commit what a majority of voters hold durably, if the newest of it is of this term.

    Older terms' entries are never committed by counting (section 3.6.2, figure 3.7).
    """
    if r.role is not Role.LEADER:
        return
    voters = r.configuration.voters
    matched = sorted(
        (_match_of(r, voter) for voter in voters),
        reverse=True,
    )
    index = matched[r.configuration.quorum - 1] if matched else 0
    if index <= r.commit_index or r.log.term_at(index) != r.term:
        return
    was_ready = r.commit_index >= r.term_start_index
    r.commit_to(index)
    if not was_ready:
        reads.on_round(r, now_us)
    if r.replica_id not in voters and r.configuration_index <= r.commit_index:
        _retire(r, now_us)


def _match_of(r: Replica, voter: str) -> int:
    if voter == r.replica_id:
        return r.journal.durable_index
    peer = r.peers.get(voter)
    return peer.match_index if peer else 0


def _retire(r: Replica, now_us: int) -> None:
    """Our own removal is committed: lead no more, and let the best follower start at once.

    Until here we led a majority that we are not part of (section 4.2.2).
    """
    flush(r, now_us)
    heir = best_successor(r)
    if heir:
        r.send(heir, TimeoutNow(r.term))
    r.emit_committed()
    r.become_follower(r.term, "", now_us)


def best_successor(r: Replica) -> str:
    """Return the voter whose log is longest, "" when there is none but us."""
    best, best_match = "", -1
    for replica_id, peer in r.peers.items():
        if replica_id in r.configuration.voters and not peer.is_disk_full:
            if peer.match_index > best_match:
                best, best_match = replica_id, peer.match_index
    return best


def has_quorum_contact(r: Replica, now_us: int) -> bool:
    """Say whether a majority was heard of lately; a leader without it steps down (6.2)."""
    return len(reachable_voters(r, now_us)) >= r.configuration.quorum


def reachable_voters(r: Replica, now_us: int) -> list[str]:
    """Return the voters that this leader heard of lately, itself included."""
    floor = now_us - r.settings.election_max_us
    return [
        voter
        for voter in r.configuration.voters
        if voter == r.replica_id or (voter in r.peers and r.peers[voter].contact_us >= floor)
    ]
