"""The coordinator on a host that is a script: where queries belong, and what calls may do."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from nodes import node, state_with

from core.federation.causes import CausalClock
from core.federation.claims import CreateClaim, KeepCalls
from core.federation.coordinator import Coordinator
from core.federation.digest import Digest
from core.federation.handing import Member, Parcel
from core.federation.handing_log import FreezeHome, TakeParcel
from core.federation.home_log import PutParts, homes_of
from core.federation.homes import Home
from core.federation.known import Site
from core.federation.lifecycle import SetDatacenterDrain
from core.federation.roster_log import DeclareOff, EnrolMember
from core.federation.share_log import PutShare, report_of, watermarks_of
from core.federation.shares import Share
from core.federation.survey import Survey
from core.federation.where import Everywhere, Here, Refused, There, Where
from core.model.host import LOCAL, Now, Peer
from core.model.job import Job, TaskGroup
from core.model.query import Answer, Query
from core.scheduler import Fit
from core.scheduler.annotate import GroupFit
from core.state.access import CallAnswer
from core.state.commands import Bootstrap, Entry, RegisterJob
from core.state.entry import encode_entry
from core.state.result import CommandResult
from core.state.state import State

OWN, X = "0000000000aa", "0000000000bb"
HOUR_US = 3600 * 1_000_000


class Host:
    """Everything is committed at once; nobody else answers."""

    region, datacenter, datacenter_id = "eu", "dc1", OWN
    is_serving = True

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.state = State()
        self.now = Now(0, 100 * HOUR_US)
        self.calls: list[tuple[str, str, Any]] = []
        self.timers: list[Callable[[], None]] = []
        self.clock = CausalClock(self)
        self.commit(Bootstrap(datacenter_id=OWN, region="eu", datacenter="dc1", is_authority=True))
        self.commit(EnrolMember(datacenter_id=OWN, name="dc1"))

    def commit(self, *commands: Any) -> Any:
        entry = Entry(wall_us=self.now.wall_us, commands=list(commands))
        return self.state.apply(self.state.index + 1, encode_entry(entry)).results[0]

    def propose(self, commands: list[Any], done: Callable[[Any, str], None]) -> None:
        result = self.commit(*commands)
        done(result.value, result.error)

    def ask(self, datacenter_id: str, method: str, body: Any, timeout_us: int, done: Any) -> None:
        self.calls.append((datacenter_id, method, body))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self.timers.append(action)

    def datacenters(self) -> dict[str, tuple[str, str]]:
        return {OWN: ("eu", "dc1"), X: ("us", "dc1")}

    def sites(self) -> list[Site]:
        said = {"region": "eu", "datacenter": "dc1", "datacenter_id": OWN, "has_quorum": True}
        return [Site(Digest(**said, **Survey().fields(state_with([node("n1")]))), 1, 1, None)]

    def fit(self, job: Job, indices: Any, held: Sequence[Any]) -> Fit:
        groups = [
            GroupFit(name, sum(high - low for low, high in found), 1, 9, ["memory"])
            for name, found in indices.items()
        ]  # there is room for one
        return Fit(groups)

    def canonical(self, body: Any) -> Job | None:
        return a_job()

    def count_refusal(self, reason: str) -> None: ...

    def count_bounce(self) -> None: ...

    def count_moves(self, reason: str, instances: int) -> None: ...

    def measure_shares(self, unsettled: int, abroad: int) -> None: ...

    def note_heal(self, took_us: int) -> None: ...

    def prove_leadership(self, then: Callable[[bool], None]) -> None:
        then(True)


def a_job(region: str = "eu", uid: str = "u") -> Job:
    return Job(
        id="web", namespace="default", region=region, type="service", uid=uid, version=0,
        task_groups=[TaskGroup(name="web", count=4)],
    )  # fmt: skip


def a_share(index: int, *indices: int, **changes: Any) -> Share:
    found = tuple((i, i + 1) for i in indices)
    given = {
        "namespace": "default", "job_id": "web", "uid": "u", "home": X, "epoch": 1,
        "index": index, "region": "us", "indices": {"web": found} if found else {},
        "job": a_job("us"),
    }  # fmt: skip
    return Share(**{**given, **changes})


@pytest.fixture
def host() -> Host:
    return Host()


def located(host: Host, method: str, **more: Any) -> Where:
    found: list[Where] = []
    params = {"job_id": "web"} if method != "Job.Register" else {}
    query = Query(method=method, params=params, body={"Job": {}}, **more)
    Coordinator(host).locate(query, found.append)  # type: ignore[arg-type]
    (where,) = found
    return where


def called(host: Host, method: str, body: Any, source: Peer = LOCAL) -> tuple[Any, str]:
    answers: list[tuple[Any, str]] = []
    taken = Coordinator(host).on_call(method, body, source, lambda *a: answers.append(a))  # type: ignore[arg-type]
    assert taken
    (answer,) = answers
    return answer


def test_a_job_that_lives_whole_here_is_answered_here(host: Host) -> None:
    host.commit(RegisterJob(job=a_job()))
    assert located(host, "Job.Get") == Here()
    assert located(host, "Job.Allocations") == Here()


def test_what_all_parts_know_is_asked_of_all(host: Host) -> None:
    host.commit(RegisterJob(job=a_job()))
    parts = {OWN: {"web": ((0, 2),)}, X: {"web": ((2, 4),)}}
    host.commit(PutParts(namespace="default", job_id="web", uid="u", expected=0, allowed=parts))
    assert located(host, "Job.Get") == Here()
    assert located(host, "Job.Allocations") == Everywhere((OWN, X))
    assert located(host, "Job.Allocations", is_part=True) == Here()


def test_a_part_s_job_is_read_at_its_home_and_changed_by_its_own_region_only(host: Host) -> None:
    host.commit(PutShare(share=a_share(5, 0), room={"web": ((0, 1),)}))
    assert located(host, "Job.Get") == There(X)
    for method in ("Job.Deregister", "Job.Scale", "Job.Register"):
        where = located(host, method)
        assert isinstance(where, Refused) and where.answer.status == 409
        assert "region us" in where.answer.error
    assert located(host, "Job.Deregister", hops=1) == There(X), "asked by the region us"


@pytest.mark.parametrize("hours", [-25, 25])
def test_a_call_of_another_day_is_never_begun(host: Host, hours: int) -> None:
    issued_us = host.now.wall_us + hours * HOUR_US
    where = located(host, "Job.Deregister", call_id="c", call_issued_us=issued_us)
    assert isinstance(where, Refused) and where.answer.status == 409
    assert located(host, "Job.Deregister", call_id="c", call_issued_us=host.now.wall_us) == Here()


def test_as_much_of_a_share_is_accepted_as_fits_and_the_refusal_is_kept(host: Host) -> None:
    body, error = called(host, "Share.Put", {"Share": a_share(5, 0, 1)})
    report = body["Report"]
    assert not error and report.index == 5 and report.accepts == {"web": ((0, 1),)}
    assert "memory" in report.reason
    again, _ = called(host, "Share.Put", {"Share": a_share(5, 0, 1)})
    assert again["Report"].accepts == report.accepts, "a late duplicate finds no room either"
    older, _ = called(host, "Share.Put", {"Share": a_share(4, 0, 1, 2)})
    assert older["Report"].index == 5 and older["Report"].accepts == report.accepts


def test_only_the_home_itself_speaks_of_its_shares(host: Host) -> None:
    other = Peer(name="s", role="server", datacenter_id="0000000000cc", is_proven=True)
    _, error = called(host, "Share.Put", {"Share": a_share(5, 0)}, other)
    assert "can't speak" in error and not len(watermarks_of(host.state))
    sync = {"Home": X, "Index": 9, "Listed": {}}
    assert "can't speak" in called(host, "Share.Sync", sync, other)[1]


def test_a_full_sync_ends_what_it_lacks_and_bars_what_was_older(host: Host) -> None:
    called(host, "Share.Put", {"Share": a_share(5, 0)})
    called(host, "Share.Put", {"Share": a_share(6, 0, uid="v", job=a_job("us", "v"))})
    called(host, "Share.Sync", {"Home": X, "Index": 7, "Listed": {"v": 1}})
    assert host.state.jobs.get("default", "web") is None
    late, _ = called(host, "Share.Put", {"Share": a_share(6, 0, uid="w")})
    assert late["Report"].accepts == {} and report_of(host.state, "w") is None
    fresh, _ = called(host, "Share.Put", {"Share": a_share(8, 0, uid="w")})
    assert fresh["Report"].accepts == {"web": ((0, 1),)}


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("Share.Put", {}), ("Share.Put", {"Share": 7}), ("Share.Put", []),
        ("Share.Report", {"Report": {"uid": 3}}), ("Share.Sync", {"Home": X, "Index": "x"}),
        ("Claim.Extend", {"UID": "u"}), ("Claim.Create", {"Namespace": "default"}),
    ],
)  # fmt: skip
def test_a_body_that_is_none_gets_an_error_and_changes_nothing(
    host: Host, method: str, body: Any
) -> None:
    before = host.state.hash()
    answer, error = called(host, method, body)
    assert answer is None and method.partition(".")[0] in error
    assert host.state.hash() == before and not len(homes_of(host.state))


def test_a_name_is_registered_once_at_a_time(host: Host) -> None:
    """A second one waits: by then the job is there, and it is an update of that very job."""
    answered_here: list[tuple[Any, Callable[[Answer], None]]] = []
    host.answer_here = lambda query, respond: answered_here.append(  # type: ignore[attr-defined]
        (query, respond)
    )
    coordinator = Coordinator(host)  # type: ignore[arg-type]
    said: list[str] = []
    query = Query(method="Job.Register", body={"Job": {"ID": "web"}})
    for uid in ("u1", "u2"):
        coordinator.naming.become_home(
            query, a_job(), uid, "", lambda answer, uid=uid: said.append(uid)
        )
    ((first, respond),) = answered_here
    assert first.body["Job"]["SeraiUID"] == "u1"
    host.commit(RegisterJob(job=a_job(uid="u1")))
    respond(Answer(body={}))
    assert said == ["u1"]
    _, (second, respond) = answered_here
    assert "SeraiUID" not in second.body["Job"], "an update keeps the uid of the job"
    respond(Answer(body={}))
    assert said == ["u1", "u2"]
    coordinator.naming.become_home(query, a_job(), "u3", "", lambda answer: said.append("u3"))
    assert len(answered_here) == 3


def test_a_name_in_use_is_not_given_free_whatever_its_uid(host: Host) -> None:
    host.commit(RegisterJob(job=a_job(uid="u1")))
    body, error = called(host, "Home.Holds", {"Jobs": [["default", "web", "u2"]]})
    assert not error and body == {"Held": ["u2"], "Calls": {}}


def kept(host: Host, call_id: str) -> None:
    answer = CallAnswer(host.now.wall_us, 3, [CommandResult(value={})], (("default", "web"),))
    host.commit(KeepCalls(calls={call_id: answer}))


def test_a_repetition_is_answered_where_its_answer_is_whoever_has_the_name_now(host: Host) -> None:
    """The newest claimant may not have registered his job yet: he would say that it is unknown."""
    host.commit(CreateClaim(namespace="default", job_id="web", uid="u9", home=X))
    kept(host, "t1")
    asked = {"Namespace": "default", "JobID": "web"}
    assert called(host, "Claim.Get", {**asked, "CallID": "t1"})[0]["Home"] == OWN
    assert called(host, "Claim.Get", {**asked, "CallID": "t2"})[0]["Home"] == X


@pytest.mark.parametrize("is_done", [True, False])
def test_a_registration_that_was_carried_out_elsewhere_is_not_repeated(
    host: Host, *, is_done: bool
) -> None:
    """The name is free again: with the claim comes what earlier jobs of it were answered."""
    host.state.is_authority = False
    here: list[Query] = []
    host.answer_here = lambda query, respond: here.append(query)  # type: ignore[attr-defined]
    coordinator = Coordinator(host)  # type: ignore[arg-type]
    coordinator.naming.authority = lambda region="": X  # type: ignore[method-assign]
    asked: list[Callable[[Any, str], None]] = []
    host.ask = lambda dc, method, body, timeout_us, done: asked.append(done)  # type: ignore[method-assign]
    query = Query(method="Job.Register", body={"Job": {"ID": "web"}}, call_id="t1")
    coordinator.naming.become_home(query, a_job(), "u1", "", lambda answer: None)
    answer = msgspec.to_builtins(CallAnswer(host.now.wall_us, 3, [CommandResult(value={})]))
    (claimed,) = asked
    claimed({"Epoch": 1, "Calls": {"t1": answer} if is_done else {}}, "")
    assert len(here) == 1, "the endpoint gives the first answer, if one is kept"
    assert (host.state.calls.get("t1") is not None) is is_done


def test_a_home_on_its_way_to_a_datacenter_that_was_declared_off_is_asked_back(
    host: Host,
) -> None:
    host.commit(EnrolMember(datacenter_id=X, name="dc2"))
    host.commit(SetDatacenterDrain(is_draining=True))
    host.commit(RegisterJob(job=a_job()))
    host.commit(FreezeHome(uid="u", to=X, epoch=1, claim_region="eu"))
    coordinator = Coordinator(host)  # type: ignore[arg-type]
    coordinator.departing.look()
    host.commit(DeclareOff(datacenter_id=X))
    asked = [method for _, method, _ in host.calls]
    Coordinator(host).departing.look()  # type: ignore[arg-type]
    assert asked == ["Home.Take"]
    dc, method, body = host.calls[-1]
    assert (dc, method, body["Home"]) == (OWN, "Claim.Move", OWN)


def test_a_home_comes_only_to_who_is_a_member_of_its_own_region(host: Host) -> None:
    """Another region's authority may not know that this datacenter was declared off."""
    host.state.is_authority = False
    coordinator = Coordinator(host)  # type: ignore[arg-type]
    coordinator.naming.authority = lambda region="": f"authority of {region or 'eu'}"  # type: ignore[method-assign]
    home = Home(namespace="default", job_id="web", uid="u", region="us", epoch=1, index=1)
    parcel = Parcel(uid="u", source=X, epoch=1, claim_region="us", index=9,
                    members=(Member(job=a_job("us"), home=home),))  # fmt: skip
    answered: list[Callable[[Any, str], None]] = []
    host.ask = lambda dc, method, body, timeout_us, done: (  # type: ignore[method-assign]
        host.calls.append((dc, method, body)), answered.append(done)
    )  # fmt: skip
    host.commit(TakeParcel(parcel=parcel))
    for _ in range(2):
        coordinator.arriving.look()
        answered.pop()(None, "datacenter 0000000000aa was declared off: its word is void")
    assert [call[:2] for call in host.calls] == [("authority of eu", "Claim.Get")] * 2
    coordinator.arriving.look()
    answered.pop()({"Home": ""}, "")
    assert host.calls[-1][:2] == ("authority of us", "Claim.Move")
