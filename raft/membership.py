"""One-at-a-time membership (dissertation chapter 4).

A change is an entry; it is in force where it is appended. Two configurations that differ
by one voter share a member in every two majorities, so no two leaders can arise, as long
as the previous change is committed and the leader has committed an entry of its own term
(the flaw of 2015 in the published algorithm: raft-dev, "bug in single-server membership
changes"). A server comes in as a learner and is promoted once it has caught up (4.2.1).
"""

from raft import replication
from raft.messages import Configuration, Entry, Kind
from raft.output import Change, ChangeKind, Refusal, Role
from raft.replica import Replica


def propose(r: Replica, change: Change, now_us: int) -> int | None:
    """Append a changed configuration; see `RaftCore.change_membership`."""
    r.refusal = _refusal(r, change)
    if r.refusal is not Refusal.NONE:
        return None
    configuration = changed(r.configuration, change)
    index = r.log.last_index + 1
    r.append([Entry(index, r.term, Kind.CONFIGURATION, configuration.encode())])
    replication.adopt_peers(r, now_us)
    return index


def changed(configuration: Configuration, change: Change) -> Configuration:
    """Return the configuration after a change that `refused_by` did not refuse."""
    voters, learners = dict(configuration.voters), dict(configuration.learners)
    name = change.replica_id
    if change.kind is ChangeKind.ADD_LEARNER:
        learners[name] = change.address
    elif change.kind is ChangeKind.PROMOTE:
        voters[name] = learners.pop(name)
    elif change.kind is ChangeKind.DEMOTE:
        learners[name] = voters.pop(name)
    elif change.kind is ChangeKind.SET_ADDRESS:
        (voters if name in voters else learners)[name] = change.address
    else:
        voters.pop(name, None)
        learners.pop(name, None)
    return Configuration.of(voters, learners)


def refused_by(configuration: Configuration, change: Change) -> Refusal:
    """Say what in the configuration itself forbids the change."""
    voters, learners = configuration.voters, configuration.learners
    name, kind = change.replica_id, change.kind
    if kind is ChangeKind.ADD_LEARNER:
        is_known = not name or name in voters or name in learners
        return Refusal.ALREADY_MEMBER if is_known else Refusal.NONE
    if kind is ChangeKind.PROMOTE:
        return Refusal.NONE if name in learners else Refusal.UNKNOWN_REPLICA
    if name not in voters and (kind is ChangeKind.DEMOTE or name not in learners):
        return Refusal.UNKNOWN_REPLICA
    if kind is not ChangeKind.SET_ADDRESS and list(voters) == [name]:
        return Refusal.LAST_VOTER
    return Refusal.NONE


def _refusal(r: Replica, change: Change) -> Refusal:
    if r.role is not Role.LEADER:
        return Refusal.NOT_LEADER
    if r.transfer_to:
        return Refusal.TRANSFERRING
    if r.journal.is_full:
        return Refusal.DISK_FULL
    if r.configuration_index > r.commit_index:
        return Refusal.CHANGE_PENDING
    if r.commit_index < r.term_start_index:
        return Refusal.NOT_READY
    refusal = refused_by(r.configuration, change)
    if refusal is Refusal.NONE and change.kind is ChangeKind.PROMOTE:
        peer = r.peers.get(change.replica_id)
        behind = r.log.last_index - (peer.match_index if peer else 0)
        if behind > r.settings.promotion_lag:
            return Refusal.TOO_FAR_BEHIND
    return refusal
