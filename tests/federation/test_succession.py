"""A lost authority is succeeded: pledges rise, the lost one's word comes too late, names stay."""

from logs import A, B, C, a_job, a_state, commit
from test_handing import Logs

from core.federation.claims import Claim, CreateClaim, authority_of, epoch_of, find_claim
from core.federation.handing_log import TakeParcel
from core.federation.names_held import Kept, Names, joined, names_here
from core.federation.roster import is_off
from core.federation.roster_log import EnrolMember
from core.federation.succession import (
    BeginSuccession,
    EndSuccession,
    NotePledges,
    TakePledge,
    pledge_of,
    succession_of,
)
from core.federation.transfer import StageClaims, TakeAuthority
from core.state.commands import RegisterJob


def begin(generation: int = 1, lost: str = A) -> BeginSuccession:
    return BeginSuccession(lost=lost, name="aa", generation=generation, members=[A, B, C])


def pledge(generation: int, by: str) -> TakePledge:
    return TakePledge(region="eu", generation=generation, by=by, lost=[A])


def claim(uid: str, home: str, epoch: int = 1, **changes: str) -> Claim:
    fields = {"namespace": "default", "job_id": "web", "uid": uid, "home": home, **changes}
    return Claim(epoch=epoch, **fields)


def test_nobody_is_asked_for_names_before_all_have_pledged() -> None:
    b = a_state(B)
    commit(b, begin())
    assert is_off(b, A) and succession_of(b).stage == "pledges"
    assert list(succession_of(b).members) == [B, C], "the lost one is not waited for"
    commit(b, NotePledges(generation=1, datacenter_ids=[C], members=["0000000000dd"]))
    assert succession_of(b).stage == "pledges", "C knows one more, who may hold a name"
    commit(b, NotePledges(generation=1, datacenter_ids=["0000000000dd"]))
    assert succession_of(b).stage == "claims"


def test_of_two_successors_a_member_follows_the_first_and_then_the_later_generation() -> None:
    b, c = a_state(B), a_state(C)
    commit(b, begin(1))
    assert not commit(c, pledge(1, B)).value["Refused"]
    assert not commit(c, pledge(1, B)).value["Refused"], "asked again: the same"
    assert B in commit(c, pledge(1, "0000000000dd")).value["Refused"]
    assert pledge_of(c, "eu").by == B
    # C is told to succeed itself, in a later generation: B gives up.
    commit(c, begin(2))
    assert not commit(b, pledge(2, C)).value["Refused"]
    assert succession_of(b).stage == "superseded"
    commit(b, StageClaims(generation=1, number=0, claims=[]))
    take = TakeAuthority(generation=1, counter=0, batches=1)
    assert not commit(b, take).value["Taken"] and not b.is_authority
    commit(b, EndSuccession(generation=1))
    assert succession_of(b).stage == "superseded"


def test_an_authority_that_lives_gives_way_and_tells_its_names() -> None:
    """It was declared off by mistake, or took over a moment ago and is succeeded itself."""
    c = a_state(C, is_authority=True)
    commit(c, RegisterJob(job=a_job(id="own", uid="u0")))
    commit(c, EnrolMember(datacenter_id=C, name="cc"))
    assert not commit(c, pledge(1, B)).value["Refused"] and not c.is_authority
    late = CreateClaim(namespace="default", job_id="late", uid="u9", home=C)
    assert commit(c, late).status == 503
    (told,) = names_here(c, "eu", [A]).claims
    assert (told.job_id, told.home) == ("own", C) and authority_of(c).to == B


def test_the_lost_ones_last_word_begins_no_home() -> None:
    logs = Logs()
    commit(logs.b, TakeParcel(parcel=logs.freeze()))
    winner, epoch = logs.move(B)
    assert winner == B
    # The answer is on its way when B pledges: what B tells does not have it as the home.
    commit(logs.b, pledge(1, C))
    (told,) = names_here(logs.b, "eu", []).claims
    assert (told.home, told.epoch) == (A, logs.epoch), "as before the move"
    assert logs.activate(epoch).error and logs.active() == []
    assert not logs.activate(epoch_of(1, 1)).error, "asked for again, of the successor"
    assert logs.active() == [B]


def test_names_are_joined_by_the_newest_word() -> None:
    mine, moved = claim("u1", B, 4), claim("u1", C, 7)
    (found,), twice = joined([Names((mine,)), Names((moved,))])
    assert (found.home, twice) == (C, [])
    other = claim("u2", C, 9, origin="us")
    (found,), twice = joined([Names((other,)), Names((mine,))])
    assert found.uid == "u1" and twice == [(mine, other)], "whose name it is stays"
    old, new = Kept(A, 3, (claim("u1", A),)), Kept(A, 8, (claim("u3", A, job_id="api"),))
    found, _ = joined([Names(backups=(old,)), Names(backups=(new,))])
    assert [one.uid for one in found] == ["u3"], "only the newest backup counts"


def test_claims_keep_their_epochs_and_new_ones_are_beyond() -> None:
    b = a_state(B)
    commit(b, begin())
    commit(b, StageClaims(generation=1, number=0, claims=[claim("u1", C, 5)]))
    assert commit(b, TakeAuthority(generation=1, counter=0, batches=1)).value["Taken"]
    commit(b, EndSuccession(generation=1))
    assert succession_of(b).stage == "done" and b.is_authority
    assert find_claim(b, "default", "web").epoch == 5
    created = commit(b, CreateClaim(namespace="default", job_id="new", uid="u2", home=C))
    assert created.value["Epoch"] > epoch_of(1, 0)
    assert commit(b, CreateClaim(namespace="default", job_id="x", uid="u3", home=A)).status == 409
