"""The authority goes to another datacenter: in one generation, one datacenter makes claims."""

from logs import A, B, C, a_job, a_state, commit

from core.federation.claims import (
    Claim,
    CloseClaim,
    CreateClaim,
    authority_of,
    claims_of,
    find_claim,
    generation_of,
)
from core.federation.roster import FLOORS, is_off, roster_of
from core.federation.roster_log import CopyRoster, DeclareOff, EnrolMember
from core.federation.transfer import (
    ForgetClaims,
    GiveAuthority,
    PlanTransfer,
    StageClaims,
    TakeAuthority,
)
from core.state.commands import RegisterJob
from core.state.state import State


def create(uid: str, home: str = C, job_id: str = "") -> CreateClaim:
    return CreateClaim(namespace="default", job_id=job_id or f"job-{uid}", uid=uid, home=home)


def given() -> tuple[State, State, list[Claim]]:
    """Return the old authority with everything given away, the next one, and the claims."""
    a, b = a_state(A, is_authority=True), a_state(B)
    commit(a, RegisterJob(job=a_job(id="own", uid="u0")))
    commit(a, create("u1"))
    commit(a, CloseClaim(namespace="default", job_id="job-late", uid="late"))
    commit(a, PlanTransfer(to=B))
    commit(a, GiveAuthority(to=B, generation=1))
    return a, b, list(claims_of(a).values())


def test_it_arrives_whole_or_not_at_all() -> None:
    a, b, claims = given()
    assert not a.is_authority and len(claims) == 3, "its own job has got a claim"
    take = TakeAuthority(generation=1, counter=9, batches=2)
    commit(b, StageClaims(generation=1, number=1, claims=claims[2:]))
    assert not commit(b, take).value["Taken"] and not b.is_authority
    commit(b, StageClaims(generation=1, number=0, claims=claims[:2]))
    for _ in range(2):
        assert commit(b, take).value == {"Taken": True, "Reason": ""}
    commit(a, ForgetClaims(generation=1))
    assert b.is_authority and not len(claims_of(a)) and not a.is_authority
    assert list(claims_of(b).values()) == claims, "with their epochs"
    assert find_claim(b, "default", "own").home == A


def test_a_name_that_was_used_anew_goes_as_the_job_of_now() -> None:
    """The claim of a purged job is open as long as a part of it runs elsewhere."""
    a = a_state(A, is_authority=True)
    commit(a, create("u1", A, "own"))
    commit(a, RegisterJob(job=a_job(id="own", uid="u2")))
    commit(a, PlanTransfer(to=B))
    commit(a, GiveAuthority(to=B, generation=1))
    commit(a, CloseClaim(namespace="default", job_id="own", uid="u1"))
    (claim,) = claims_of(a).values()
    assert (claim.uid, claim.home, claim.is_closed) == ("u2", A, False)
    assert "u1" in claim.former and claim.epoch > 1


def test_epochs_and_tombstones_go_on() -> None:
    _, b, claims = given()
    commit(b, StageClaims(generation=1, number=0, claims=claims))
    commit(b, TakeAuthority(generation=1, counter=2, batches=1))
    epoch = int(commit(b, create("u5")).value["Epoch"])
    assert generation_of(epoch) == 1 and epoch > max(claim.epoch for claim in claims)
    assert commit(b, create("late", job_id="job-late")).status == 409


def test_the_old_authority_never_resumes() -> None:
    a, _, _ = given()
    assert commit(a, create("u2")).status == 503
    assert commit(a, CloseClaim(namespace="default", job_id="job-u1", uid="u1")).status == 503
    assert commit(a, PlanTransfer(to=C)).status == 409
    commit(a, GiveAuthority(to=B, generation=2))
    assert authority_of(a).to_generation == 1
    assert commit(a, TakeAuthority(generation=0, counter=0, batches=0)).value["Taken"] is False


def test_late_doubles_do_not_bring_it_back() -> None:
    _, b, claims = given()
    stage = StageClaims(generation=1, number=0, claims=claims)
    take = TakeAuthority(generation=1, counter=9, batches=1)
    commit(b, stage)
    commit(b, take)
    commit(b, PlanTransfer(to=C))
    commit(b, GiveAuthority(to=C, generation=2))
    commit(b, ForgetClaims(generation=2))
    commit(b, stage)
    assert commit(b, take).value["Taken"], "it was, once"
    assert not b.is_authority and not len(claims_of(b))


def test_a_second_plan_does_not_change_the_first() -> None:
    a = a_state(A, is_authority=True)
    assert not commit(a, PlanTransfer(to=B)).error
    assert B in commit(a, PlanTransfer(to=C)).error
    commit(a, GiveAuthority(to=C, generation=1))
    assert a.is_authority


def test_who_was_declared_off_stays_off_under_the_next_authority() -> None:
    a, b = a_state(A, is_authority=True), a_state(B)
    for dc in (A, B, C):
        commit(a, EnrolMember(datacenter_id=dc, name=dc))
    commit(b, CopyRoster(roster=roster_of(a)))
    assert not commit(a, DeclareOff(datacenter_id=C)).error
    assert commit(a, PlanTransfer(to=C)).status == 409
    roster, floors = roster_of(a), dict(a.table(FLOORS).items())
    take = TakeAuthority(generation=1, counter=0, batches=0, roster=roster, floors=floors)
    assert commit(b, take).value["Taken"]
    assert is_off(b, C) and C in roster_of(b).gone
