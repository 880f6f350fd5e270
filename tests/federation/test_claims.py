"""Who owns a name: compare and set in the authority's log, tombstones, a purge at the home."""

import pytest

from core.federation.claims import (
    CloseClaim,
    CreateClaim,
    ExtendClaim,
    find_claim,
)
from core.federation.given_up import GiveUpName
from core.federation.share_log import PutShare
from core.federation.shares import Share
from core.model.job import Job, TaskGroup
from core.state.access import CallAnswer
from core.state.commands import Bootstrap, DeregisterJob, Entry, RecordCall, RegisterJob
from core.state.entry import encode_entry
from core.state.result import CommandResult
from core.state.state import State

HERE, THERE = "0000000000aa", "0000000000bb"


@pytest.fixture
def state() -> State:
    state = State()
    first = Bootstrap(datacenter_id=HERE, region="eu", datacenter="dc1", is_authority=True)
    state.apply(1, encode_entry(Entry(wall_us=1, commands=[first])))
    return state


def commit(state: State, command: object) -> CommandResult:
    entry = Entry(wall_us=1_000, commands=[command])
    return state.apply(state.index + 1, encode_entry(entry)).results[0]


def create(uid: str, home: str) -> CreateClaim:
    return CreateClaim(namespace="default", job_id="web", uid=uid, home=home)


def close(uid: str) -> CloseClaim:
    return CloseClaim(namespace="default", job_id="web", uid=uid)


def give_up(uid: str) -> GiveUpName:
    return GiveUpName(namespace="default", job_id="web", uid=uid)


def test_the_first_claim_wins_and_may_be_repeated(state: State) -> None:
    assert not commit(state, create("u1", THERE)).error
    assert not commit(state, create("u1", THERE)).error
    refused = commit(state, create("u2", HERE))
    assert refused.status == 409 and THERE in refused.error
    claim = find_claim(state, "default", "web")
    assert claim is not None and (claim.uid, claim.home) == ("u1", THERE)


def test_one_uid_never_gets_two_homes(state: State) -> None:
    commit(state, create("u1", THERE))
    assert commit(state, create("u1", HERE)).status == 409


def test_a_create_that_comes_after_its_close_fails(state: State) -> None:
    """Also where no claim existed: the close leaves a tombstone."""
    commit(state, close("u1"))
    assert commit(state, create("u1", THERE)).status == 409
    assert find_claim(state, "default", "web") is None
    assert not commit(state, create("u2", HERE)).error


def test_a_name_given_up_stays_given_up_whatever_came_after(state: State) -> None:
    """A duplicate of the first create may be on its way for as long as it likes."""
    commit(state, create("u1", THERE))
    commit(state, close("u1"))
    commit(state, create("u2", THERE))
    commit(state, close("u3"))  # never claimed: its create is still on its way
    commit(state, close("u2"))
    for uid in ("u1", "u2", "u3"):
        assert commit(state, create(uid, THERE)).status == 409
    assert find_claim(state, "default", "web") is None


def test_a_registration_that_a_claim_overtook_is_refused(state: State) -> None:
    """The authority registers its own jobs without a claim: the log decides who was first."""
    commit(state, create("u1", THERE))
    late = RegisterJob(job=Job(id="web", namespace="default", uid="u2", task_groups=[]))
    refused = commit(state, late)
    assert refused.status == 409 and THERE in refused.error
    commit(state, close("u1"))
    assert not commit(state, late).error


def test_a_part_of_a_job_is_no_claim_to_its_name(state: State) -> None:
    """The home, elsewhere, purged the job and registers it anew."""
    commit(state, create("u1", THERE))
    share = Share(
        namespace="default", job_id="web", uid="u1", home=THERE, epoch=1, index=5,
        indices={"g": ((0, 1),)},
        job=Job(id="web", namespace="default", uid="u1", task_groups=[TaskGroup(name="g")]),
    )  # fmt: skip
    commit(state, PutShare(share=share, room=share.indices))
    assert state.jobs.get("default", "web") is not None
    assert not commit(state, create("u2", THERE)).error


def test_closing_leaves_another_uids_claim_alone(state: State) -> None:
    commit(state, create("u1", THERE))
    commit(state, close("u2"))
    claim = find_claim(state, "default", "web")
    assert claim is not None and claim.uid == "u1"


def test_the_epoch_rises_with_each_claim(state: State) -> None:
    first = commit(state, create("u1", THERE)).value["Epoch"]
    commit(state, close("u1"))
    assert commit(state, create("u2", THERE)).value["Epoch"] > first


def test_a_home_that_purged_a_job_may_claim_its_name_anew(state: State) -> None:
    commit(state, create("u1", THERE))
    assert not commit(state, create("u2", THERE)).error
    claim = find_claim(state, "default", "web")
    assert claim is not None and claim.uid == "u2"
    late = commit(state, create("u1", THERE))  # a duplicate of the first, long under way
    assert late.status == 409
    assert commit(state, create("u3", HERE)).status == 409


def test_a_datacenter_that_is_no_authority_refuses(state: State) -> None:
    state.is_authority = False
    assert commit(state, create("u1", THERE)).status == 503


def test_a_job_that_was_given_up_is_not_registered_by_a_late_retry(state: State) -> None:
    commit(state, close("u1"))
    late = commit(state, RegisterJob(job=Job(id="web", namespace="default", uid="u1")))
    assert late.status == 409 and state.jobs.get("default", "web") is None


def test_what_was_given_up_or_registered_first_stays_so(state: State) -> None:
    """Of two copies of a call one may register a job while the other one gives its name up."""
    state.is_authority = False  # the tombstone is the home's own
    register = RegisterJob(job=Job(id="web", namespace="default", uid="u1"))
    assert commit(state, give_up("u1")).value == {"IsHere": False}
    assert commit(state, register).status == 409
    register = RegisterJob(job=Job(id="web", namespace="default", uid="u2"))
    assert not commit(state, register).error
    assert commit(state, give_up("u2")).value == {"IsHere": True}
    assert commit(state, give_up("u1")).value == {"IsHere": False}, "the name is used by another"


def test_a_claim_is_extended_by_its_own_home_only(state: State) -> None:
    epoch = commit(state, create("u1", THERE)).value["Epoch"]
    extend = ExtendClaim(namespace="default", job_id="web", uid="u1", home=THERE, region="us")
    assert commit(state, extend).value == {"Epoch": epoch, "Regions": ["us"]}
    assert commit(state, extend).value["Regions"] == ["us"], "again changes nothing"
    other = ExtendClaim(namespace="default", job_id="web", uid="u1", home=HERE, region="ap")
    assert commit(state, other).status == 409


def test_a_home_says_what_uid_its_job_has_and_what_it_said_later_stands(state: State) -> None:
    epoch = commit(state, create("u2", THERE)).value["Epoch"]
    extend = ExtendClaim(
        namespace="default", job_id="web", uid="u1", home=THERE, region="us", said=7
    )
    corrected = commit(state, extend)
    assert corrected.value["Epoch"] > epoch, "another job, another epoch"
    claim = find_claim(state, "default", "web")
    assert claim is not None and (claim.uid, claim.former) == ("u1", ("u2",))
    assert commit(state, create("u2", THERE)).status == 409
    purged = CreateClaim(namespace="default", job_id="web", uid="u3", home=THERE, said=9)
    assert not commit(state, purged).error
    assert commit(state, extend).status == 409, "it comes late: the home purged u1 since"
    elsewhere = ExtendClaim(
        namespace="default", job_id="web", uid="u1", home=HERE, region="us", said=99
    )
    assert commit(state, elsewhere).status == 409


def test_answers_to_calls_come_with_the_name(state: State) -> None:
    answer = CallAnswer(1_000, 3, [CommandResult(value={"UID": "u1"})], (("default", "web"),))
    commit(state, create("u1", THERE))
    told = CloseClaim(namespace="default", job_id="web", uid="u1", calls={"t1": answer})
    commit(state, told)
    assert state.calls.of_job("default", "web") == {"t1": answer}
    job = Job(id="web", namespace="default", uid="u2")
    commit(state, RegisterJob(job=job))
    late = Entry(
        wall_us=1_000, commands=[DeregisterJob(namespace="default", job_id="web", purge=True)],
        call=RecordCall("t1", 1_000),
    )  # fmt: skip
    applied = state.apply(state.index + 1, encode_entry(late))
    assert applied.is_repeat and applied.results[0].value == {"UID": "u1"}
    assert state.jobs.get("default", "web") is not None, "the new job stays"


def test_a_purge_means_one_job_of_a_name(state: State) -> None:
    commit(state, RegisterJob(job=Job(id="web", namespace="default", uid="u2")))
    purge = DeregisterJob(namespace="default", job_id="web", purge=True, uid="u1")
    assert commit(state, purge).status == 404
    assert state.jobs.get("default", "web") is not None


def test_a_job_of_the_authority_itself_gets_its_claim_when_it_leaves_home(state: State) -> None:
    commit(state, RegisterJob(job=Job(id="web", namespace="default", uid="u1")))
    assert find_claim(state, "default", "web") is None
    extend = ExtendClaim(namespace="default", job_id="web", uid="u1", home=HERE, region="us")
    epoch = commit(state, extend).value["Epoch"]
    claim = find_claim(state, "default", "web")
    assert claim is not None and (claim.epoch, claim.home) == (epoch, HERE)


def test_a_registration_that_was_refused_never_gets_the_name(state: State) -> None:
    """A copy of the call may come when the name is free again."""
    commit(state, create("u1", THERE))
    assert commit(state, create("u2", HERE)).status == 409
    commit(state, give_up("u3"))
    commit(state, give_up("u1"))
    claim = find_claim(state, "default", "web")
    assert claim is not None and claim.uid == "u1", "who has it keeps it"
    commit(state, close("u1"))
    for late in ("u2", "u3"):
        assert commit(state, create(late, HERE)).status == 409
    assert not commit(state, create("u4", HERE)).error


def test_a_foreign_claim_goes_when_its_origin_has_given_the_name_to_another(state: State) -> None:
    def foreign(uid: str, home: str, epoch: int) -> CreateClaim:
        return CreateClaim(namespace="default", job_id="web", uid=uid, home=home, origin="us",
                           follows=epoch)  # fmt: skip

    commit(state, foreign("u1", THERE, 3))
    assert not commit(state, foreign("u2", "0000000000cc", 4)).error, "its close was not heard"
    assert commit(state, foreign("u1", THERE, 3)).status == 409, "a late one"
    assert commit(state, create("u3", THERE)).status == 409, "nor is it anybody's here"
