"""What a follower does with its leader's messages (dissertation section 3.5)."""

from raft.messages import Append, AppendAnswer, Entry, Heartbeat, HeartbeatAnswer, Message
from raft.replica import Replica


def is_outdated(r: Replica, sender: str, message: Message) -> bool:
    """Tell a leader of an older term that it is one.

    It can't learn it by our request for votes: those who hear it would not heed that.
    """
    if message.term >= r.term:
        return False
    r.dropped["message of an older term"] += 1
    r.send(sender, AppendAnswer(r.term, is_accepted=False, index=0))
    return True


def on_append(r: Replica, sender: str, message: Append, now_us: int) -> None:
    """Make the log equal to the leader's up to the last entry given."""
    if is_outdated(r, sender, message):
        return
    if not _is_well_formed(message):
        r.dropped["append with a gap or sinking terms"] += 1
        return
    r.hear_leader(sender, message.term, now_us)
    prev, entries = message.prev_index, message.entries
    if prev < r.commit_index:
        # What is committed here is equal there; it may be compacted, so don't look.
        entries = entries[r.commit_index - prev :]
        prev = r.commit_index
    elif not r.log.matches(prev, message.prev_term):
        hint_index, hint_term = r.log.hint(prev, message.prev_term)
        r.send(
            sender,
            AppendAnswer(
                r.term,
                is_accepted=False,
                index=message.prev_index,
                hint_index=hint_index,
                hint_term=hint_term,
            ),
        )
        return
    reached = entries[-1].index if entries else prev
    fresh = _fresh(r, entries)
    if fresh:
        if r.journal.is_full:
            refusal = AppendAnswer(r.term, is_accepted=False, index=prev, is_disk_full=True)
            r.send(sender, refusal)
            return
        if fresh[0].index <= r.log.last_index:
            r.truncate_from(fresh[0].index)
            r.wait_for_leader(now_us)  # we may not be the only voter any more
        r.append(fresh)
    r.commit_to(min(message.commit_index, reached))
    r.promise(sender, AppendAnswer(r.term, is_accepted=True, index=reached))


def on_heartbeat(r: Replica, sender: str, message: Heartbeat, now_us: int) -> None:
    if is_outdated(r, sender, message):
        return
    r.hear_leader(sender, message.term, now_us)
    # The leader told no more than we acknowledged, so this is its log.
    r.commit_to(message.commit_index)
    if message.round:
        r.send(sender, HeartbeatAnswer(r.term, message.round))


def _fresh(r: Replica, entries: list[Entry]) -> list[Entry]:
    """Return the entries from the first that the log lacks or holds otherwise.

    A matching tail stays: this Append may be older than what already arrived.
    """
    if not entries or entries[0].index > r.log.last_index:
        return entries
    for position, entry in enumerate(entries):
        if not r.log.matches(entry.index, entry.term):
            return entries[position:]
    return []


def _is_well_formed(message: Append) -> bool:
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= message.term
