"""How a leader is found: pre-vote, vote, hand-over (dissertation sections 3.4, 3.6, 9.6)."""

from raft import replication
from raft.messages import VoteAnswer, VoteRequest
from raft.output import Role
from raft.replica import Replica


def on_timeout(r: Replica, now_us: int) -> None:
    """No leader was heard, or the last campaign came to nothing."""
    if not r.may_campaign or r.journal.is_full:
        # A full disk could not take the no-op that a new leader must commit.
        r.become_follower(r.term, "", now_us)
        r.election_due_us = now_us + r.settings.election_max_us
        return
    if r.settings.is_pre_vote:
        _ask_first(r, now_us)
    else:
        campaign(r, now_us)


def _ask_first(r: Replica, now_us: int) -> None:
    """Pre-vote: a replica that can't win must not raise the term and disturb who leads (9.6)."""
    r.role = Role.PRE_CANDIDATE
    r.leader_id = ""
    r.output.role_changed = True
    r.votes = {r.replica_id: True}
    if _has_won(r):
        campaign(r, now_us)
        return
    wait = r.settings.pre_vote_retry_us
    r.election_due_us = now_us + r.rng.randint(wait, 2 * wait)
    request = VoteRequest(r.term + 1, r.log.last_index, r.log.last_term, is_pre_vote=True)
    for voter in r.configuration.voters:
        if voter != r.replica_id:
            r.send(voter, request)


def campaign(r: Replica, now_us: int, *, is_transfer: bool = False) -> None:
    """Stand for a new term. Our own vote counts like any other: once it is durable."""
    r.role = Role.CANDIDATE
    r.leader_id = ""
    r.votes = {}
    r.set_hard_state(r.term + 1, r.replica_id)
    wait = r.settings.campaign_retry_us
    r.election_due_us = now_us + r.rng.randint(wait, 2 * wait)
    request = VoteRequest(r.term, r.log.last_index, r.log.last_term, is_transfer=is_transfer)
    for voter in r.configuration.voters:
        if voter == r.replica_id:
            r.promise(voter, VoteAnswer(r.term, is_granted=True))
        else:
            r.promise(voter, request)


def on_vote_request(r: Replica, sender: str, request: VoteRequest, now_us: int) -> None:
    """Grant or refuse. Whether we are voters ourselves is not asked: the candidate's newer
    configuration may say so before ours does (section 4.1)."""
    if not request.is_transfer and _trusts_leader(r, now_us):
        r.dropped["vote request while a leader is heard"] += 1
        return
    if request.term > r.term and not request.is_pre_vote:
        r.become_follower(request.term, "", now_us)
    is_current = (request.last_term, request.last_index) >= (r.log.last_term, r.log.last_index)
    if request.is_pre_vote:
        is_granted = is_current and request.term > r.term
        term = request.term if is_granted else r.term
        r.send(sender, VoteAnswer(term, is_granted, is_pre_vote=True))
        return
    if (
        request.term == r.term
        and is_current
        and r.role in (Role.FOLLOWER, Role.PRE_CANDIDATE)
        and r.voted_for in ("", sender)
    ):
        r.become_follower(r.term, r.leader_id, now_us)
        if not r.voted_for:
            r.set_hard_state(r.term, sender)
        r.wait_for_leader(now_us)
        r.promise(sender, VoteAnswer(r.term, is_granted=True))
    else:
        r.send(sender, VoteAnswer(r.term, is_granted=False))


def on_vote_answer(r: Replica, sender: str, answer: VoteAnswer, now_us: int) -> None:
    if sender not in r.configuration.voters:
        r.dropped["vote of a stranger"] += 1
        return
    if answer.is_pre_vote:
        if r.role is not Role.PRE_CANDIDATE or (answer.is_granted and answer.term != r.term + 1):
            return
    elif r.role is not Role.CANDIDATE or answer.term != r.term:
        return
    r.votes[sender] = answer.is_granted
    if _has_won(r):
        if answer.is_pre_vote:
            campaign(r, now_us)
        else:
            replication.lead(r, now_us)


def on_timeout_now(r: Replica, now_us: int) -> None:
    """The leader wants us to succeed it: no pre-vote, it would be refused (section 3.10)."""
    if r.is_voter and r.role is not Role.LEADER and not r.journal.is_full:
        campaign(r, now_us, is_transfer=True)


def _trusts_leader(r: Replica, now_us: int) -> bool:
    """A leader was heard within the shortest timeout: others must not unseat it (4.2.3)."""
    if not r.settings.is_check_quorum:
        return False
    return r.role is Role.LEADER or now_us - r.heard_us < r.settings.election_min_us


def _has_won(r: Replica) -> bool:
    granted = sum(r.votes.get(voter, False) for voter in r.configuration.voters)
    return granted >= r.configuration.quorum
