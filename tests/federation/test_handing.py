"""A home moves between two logs: whichever message is late, lost or doubled, one home acts."""

import msgspec
import pytest
from logs import A, B, C, a_job, a_state, commit

from core.federation import shares
from core.federation.claims import CloseClaim, CreateClaim, ExtendClaim, MoveClaim, find_claim
from core.federation.handing import Parcel, arrivals_of, departures_of, parcel_of, stub_uids
from core.federation.handing_log import (
    ActivateHome,
    DropArrival,
    FreezeHome,
    ReleaseHome,
    TakeParcel,
    ThawHome,
)
from core.federation.home_log import PutParts, find_home, homes_of
from core.federation.lifecycle import SetDatacenterDrain
from core.federation.share_log import PutShare, SyncShares, watermarks_of
from core.model.job import PeriodicConfig
from core.state.commands import DeregisterJob, MarkLaunch, RegisterJob
from core.state.result import CommandResult
from core.state.state import State

INDICES = {"g": ((0, 4),)}


class Logs:
    """A has the job, and gave its indices to C; the authority is a log of its own."""

    def __init__(self) -> None:
        self.a, self.b, self.c = a_state(A), a_state(B), a_state(C)
        self.z = a_state("0000000000dd", is_authority=True)
        create = CreateClaim(namespace="default", job_id="web", uid="u1", home=A)
        self.epoch = int(commit(self.z, create).value["Epoch"])
        commit(self.a, RegisterJob(job=a_job()))
        given = PutParts(
            namespace="default", job_id="web", uid="u1", expected=0, epoch=self.epoch,
            allowed={A: {}, C: INDICES},
        )  # fmt: skip
        commit(self.a, given)
        self.give(self.a, A)
        commit(self.a, SetDatacenterDrain(is_draining=True))

    def give(self, state: State, own: str) -> bool:
        """Bring C's newest share of a home to C; return whether it was news."""
        home, record = homes_of(state).get("u1"), state.jobs.by_uid("u1")
        share = shares.share_of(home, C, own, record.job)
        put = PutShare(share=share, room=share.indices)
        return bool(commit(self.c, put).value["IsApplied"])

    def freeze(self) -> Parcel:
        command = FreezeHome(uid="u1", to=B, epoch=self.epoch, claim_region="eu")
        assert commit(self.a, command).value == {"IsFrozen": True}
        parcel = parcel_of(self.a, departures_of(self.a).get("u1"))
        assert parcel is not None
        return parcel

    def move(self, home: str, expected: int = 0) -> tuple[str, int]:
        value = commit(
            self.z,
            MoveClaim(
                namespace="default", job_id="web", uid="u1", home=home,
                expected=expected or self.epoch, beyond=self.epoch,
            ),
        ).value  # fmt: skip
        return value["Home"], value["Epoch"]

    def activate(self, epoch: int) -> CommandResult:
        return commit(self.b, ActivateHome(uid="u1", epoch=self.epoch, claimed=epoch))

    def active(self) -> list[str]:
        """Return who would give an index to somebody now."""
        found = []
        for state in (self.a, self.b):
            home = find_home(state, "default", "web")
            if home is not None and not home.leaving_to:
                found.append(state.datacenter_id)
        return found


def test_the_whole_way() -> None:
    logs = Logs()
    parcel = logs.freeze()
    assert logs.active() == []
    assert commit(logs.b, TakeParcel(parcel=parcel)).value == {"Refused": ""}
    assert logs.active() == [], "held is not active"
    winner, epoch = logs.move(B)
    assert winner == B and epoch > logs.epoch
    logs.activate(epoch)
    assert logs.active() == [B]
    commit(logs.a, ReleaseHome(uid="u1", to=B, epoch=epoch))
    assert logs.active() == [B] and departures_of(logs.a).get("u1").parts == (C,)
    home = find_home(logs.b, "default", "web")
    assert home.parts[C].allowed == INDICES and home.epoch == epoch
    assert logs.a.jobs.get("default", "web").home == B
    assert logs.give(logs.b, B), "a share of the new epoch is news, whatever its index"
    mark = watermarks_of(logs.c).get("u1")
    assert (mark.home, mark.epoch, mark.accepts) == (B, epoch, INDICES)


@pytest.mark.parametrize("order", [(A, B), (B, A)])
def test_whoever_moves_the_claim_first_is_the_home(order: tuple[str, str]) -> None:
    logs = Logs()
    commit(logs.b, TakeParcel(parcel=logs.freeze()))
    answers = [logs.move(home) for home in (*order, *order)]
    assert len(set(answers)) == 1 and answers[0][0] == order[0], "asked again, told the same"
    winner, epoch = answers[0]
    if winner == A:
        commit(logs.a, ThawHome(uid="u1", epoch=epoch))
        commit(logs.b, DropArrival(uid="u1", epoch=logs.epoch))
        assert logs.activate(epoch).error, "what was dropped can't begin"
    else:
        logs.activate(epoch)
        commit(logs.a, ReleaseHome(uid="u1", to=B, epoch=epoch))
        commit(logs.a, ThawHome(uid="u1", epoch=epoch))
    assert logs.active() == [winner]


def test_nothing_is_changed_while_a_home_is_frozen() -> None:
    logs = Logs()
    parcel = logs.freeze()
    before = homes_of(logs.a).get("u1")
    assert commit(logs.a, RegisterJob(job=a_job(priority=70))).status == 503
    assert commit(logs.a, RegisterJob(job=a_job(id="web/x", uid="u2", parent_id="web"))).error
    stop = DeregisterJob(namespace="default", job_id="web")
    assert commit(logs.a, stop).status == 503
    assert commit(logs.a, MarkLaunch(namespace="default", job_id="web", launched_us=9)).error
    take = PutParts(
        namespace="default", job_id="web", uid="u1", expected=before.index, allowed={C: {}}
    )
    assert "Stale" in commit(logs.a, take).value
    assert homes_of(logs.a).get("u1") == before
    assert parcel_of(logs.a, departures_of(logs.a).get("u1")).members == parcel.members
    commit(logs.a, ThawHome(uid="u1", epoch=logs.move(A)[1]))
    assert not commit(logs.a, stop).error, "thawed, it takes changes again"


def test_late_doubles_of_every_message_change_nothing() -> None:
    logs = Logs()
    parcel = logs.freeze()
    late_share = shares.share_of(homes_of(logs.a).get("u1"), C, A, a_job())
    commit(logs.b, TakeParcel(parcel=parcel))
    epoch = logs.move(B)[1]
    logs.activate(epoch)
    commit(logs.a, ReleaseHome(uid="u1", to=B, epoch=epoch))
    logs.give(logs.b, B)
    assert commit(logs.b, TakeParcel(parcel=parcel)).value == {"Refused": ""}
    assert logs.activate(epoch + 1).error
    assert logs.move(A) == (B, epoch) and logs.move(B) == (B, epoch)
    old = PutShare(share=late_share, room=INDICES)
    assert not commit(logs.c, old).value["IsApplied"]
    mine = msgspec.structs.replace(late_share, index=10**6)
    assert not commit(logs.b, PutShare(share=mine)).value["IsApplied"], "not even at the new home"
    commit(logs.a, FreezeHome(uid="u1", to=B, epoch=epoch, claim_region="eu"))
    assert logs.active() == [B]
    assert find_home(logs.b, "default", "web").epoch == epoch
    commit(logs.b, DropArrival(uid="u1", epoch=logs.epoch))
    again = commit(logs.b, TakeParcel(parcel=parcel)).value["Refused"]
    assert "at home" in again


def test_the_stub_keeps_shares_that_do_not_know_the_new_home_yet() -> None:
    logs = Logs()
    commit(logs.b, TakeParcel(parcel=logs.freeze()))
    epoch = logs.move(B)[1]
    logs.activate(epoch)
    commit(logs.a, ReleaseHome(uid="u1", to=B, epoch=epoch))
    listed = dict.fromkeys(stub_uids(logs.a, C), 0)
    commit(logs.c, SyncShares(home=A, index=logs.a.index, listed=listed))
    assert watermarks_of(logs.c).get("u1").accepts == INDICES
    commit(logs.c, SyncShares(home=A, index=logs.a.index, listed={}))
    assert logs.c.jobs.get("default", "web") is None, "which is what the stub is for"


def test_a_parcel_thawed_meanwhile_can_come_again_under_a_later_epoch() -> None:
    logs = Logs()
    first = logs.freeze()
    epoch = logs.move(A)[1]
    commit(logs.a, ThawHome(uid="u1", epoch=epoch))
    commit(logs.b, TakeParcel(parcel=first))  # comes late
    assert logs.move(B) == (A, epoch)
    logs.epoch = epoch
    second = logs.freeze()
    commit(logs.b, TakeParcel(parcel=second))
    assert arrivals_of(logs.b).get("u1").epoch == epoch
    winner, newest = logs.move(B)
    assert winner == B and not logs.activate(newest).error and newest > epoch


def test_a_claim_given_up_meanwhile_belongs_to_nobody() -> None:
    logs = Logs()
    logs.freeze()
    commit(logs.z, CloseClaim(namespace="default", job_id="web", uid="u1"))
    assert logs.move(B)[0] == ""
    commit(logs.a, ReleaseHome(uid="u1", to="", epoch=0))
    assert logs.active() == [] and logs.a.jobs.get("default", "web") is None


def test_a_periodic_job_takes_what_it_knows_along() -> None:
    """Its last launch, so that none is made twice, and its child that runs."""
    logs = Logs()
    periodic = PeriodicConfig(enabled=True, spec="0 * * * *", spec_type="cron")
    parent = a_job(id="clock", uid="u7", periodic=periodic)
    commit(logs.a, RegisterJob(job=parent))
    child = a_job(id="clock/periodic-1", uid="u8", parent_id="clock")
    done = a_job(id="clock/periodic-0", uid="u9", parent_id="clock", stop=True)
    commit(logs.a, RegisterJob(job=child), RegisterJob(job=done))
    commit(logs.a, MarkLaunch(namespace="default", job_id="clock", launched_us=77))
    create = CreateClaim(namespace="default", job_id="clock", uid="u7", home=A)
    epoch = int(commit(logs.z, create).value["Epoch"])
    commit(logs.a, FreezeHome(uid="u7", to=B, epoch=epoch, claim_region="eu"))
    parcel = parcel_of(logs.a, departures_of(logs.a).get("u7"))
    assert [member.job.uid for member in parcel.members] == ["u7", "u8"]
    commit(logs.b, TakeParcel(parcel=parcel))
    move = MoveClaim(
        namespace="default", job_id="clock", uid="u7", home=B, expected=epoch, beyond=epoch
    )
    claimed = commit(logs.z, move).value["Epoch"]
    assert not commit(logs.b, ActivateHome(uid="u7", epoch=epoch, claimed=claimed)).error
    commit(logs.a, ReleaseHome(uid="u7", to=B, epoch=claimed))
    there = logs.b.jobs.get("default", "clock")
    assert there.launched_us == 77 and sum(there.children) == 2
    assert not logs.b.jobs.get("default", "clock/periodic-1").home
    assert logs.a.jobs.get("default", "clock").home == B
    assert logs.a.jobs.get("default", "clock/periodic-0") is None


def test_a_claim_of_another_region_follows_the_first_and_never_goes_back() -> None:
    state = a_state("0000000000dd", is_authority=True)

    def follow(home: str, follows: int) -> CommandResult:
        return commit(
            state,
            CreateClaim(
                namespace="default", job_id="web", uid="u1", home=home, origin="us",
                follows=follows,
            ),
        )  # fmt: skip

    assert not follow(A, 0).error
    assert not follow(B, 7).error
    assert follow(A, 0).status == 409, "what the old home said comes late"
    assert not follow(C, 9).error
    assert find_claim(state, "default", "web").home == C


def test_the_next_epoch_is_beyond_every_share() -> None:
    logs = Logs()
    move = MoveClaim(
        namespace="default", job_id="web", uid="u1", home=B, expected=logs.epoch, beyond=5 << 32
    )
    assert commit(logs.z, move).value["Epoch"] == (5 << 32) + 1
    extend = ExtendClaim(namespace="default", job_id="web", uid="u1", home=B, region="us")
    assert commit(logs.z, extend).value["Epoch"] == (5 << 32) + 1
