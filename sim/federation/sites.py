"""Real states of small datacenters, one step at a time: what the exploration is made of.

A `Site` is one datacenter. Its states are numbered; a step is computed once, and looked up
after that. For each one a leader is made anew of the shipped parts, as after an election: so
nothing can rest on what was in a leader's memory. It gets the call that arrives, commits at
once what it proposes, and what it answers counts as sent. Two states have one number when
all that the federation's commands read in them is equal.
"""

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from core.federation import ranges
from core.federation.home_log import PutParts, current, homes_of
from core.federation.homes import Home, Report
from core.federation.ranges import Indices
from core.federation.roster import Member, Roster
from core.federation.roster_log import CopyRoster
from core.federation.sending import report_in
from core.federation.share_log import report_of, watermarks_of
from core.federation.shares import Share, share_of
from core.model.allocation import ClientStatus, Desired
from core.model.evaluation import EvalStatus, EvalTrigger, Evaluation
from core.model.host import Now, Peer
from core.model.ids import derived_id
from core.model.job import Job
from core.model.node import Node
from core.scheduler import prepare
from core.server.config import ServerConfig
from core.server.consensus import Consensus
from core.server.context import Server
from core.server.federation_host import FederatedDatacenter
from core.server.planning import Planning
from core.server.proposal import Outcome, Then
from core.server.sites import Datacenter as KnownDatacenter
from core.state.allocs import HELD
from core.state.commands import (
    AllocUpdate,
    ApplyPlans,
    Bootstrap,
    Entry,
    RecordCall,
    RegisterJob,
    RegisterNode,
    UpdateAllocations,
)
from core.state.entry import encode_entry
from core.state.result import Applied
from core.state.state import State

SPACING: Final = 1_000  # between the indexes of decisions: equal histories, equal numbers
WALL_US: Final = 1_800_000_000_000_000
GROUP: Final = "web"
_TABLES: Final = (
    "homes", "watermarks", "synced_homes", "home_floors", "adoptions", "arrivals",
    "backed_datacenters",
)  # fmt: skip

Division = tuple[frozenset[int], ...]  # instances by datacenter, the home first


class Messages:
    """Whatever is sent, by number; equal messages have one number."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.to: list[str] = []
        self._numbers: dict[tuple[str, bytes], int] = {}

    def number(self, to: str, body: Any) -> int:
        key = to, msgspec.msgpack.encode([type(body).__name__, body])
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.bodies)
            self.bodies.append(body)
            self.to.append(to)
        return known


class Step(NamedTuple):
    """What came of a step."""

    number: int  # of the state after it
    answers: tuple[int, ...] = ()  # messages


class Told(NamedTuple):
    """What the home has of another datacenter's part."""

    allowed: frozenset[int]
    is_settled: bool


class View(NamedTuple):
    """What one numbered state shows."""

    authorised: frozenset[int]  # instances that its log lets it run
    running: frozenset[int]  # that its nodes run
    ending: tuple[int, ...]  # of these, those that shall end
    messages: tuple[int, ...]  # what it has to say now
    parts: tuple[tuple[str, Told], ...] = ()  # of the home: by datacenter id
    free: frozenset[int] = frozenset()  # of the home: what it may give
    own: frozenset[int] = frozenset()  # of the home: what it lets itself run
    is_home: bool = False  # whether the job's home is here


class FullSync(msgspec.Struct, frozen=True):
    """The body of `Share.Sync`."""

    home: str
    index: int
    listed: dict[str, int]


class _Log(Consensus):
    """Commits at once."""

    def __init__(self, site: "Site", state: State) -> None:
        self._site, self.state = site, state
        self.is_serving = True

    def propose(self, commands: list[Any], then: Then, call: RecordCall | None = None) -> None:
        then(Outcome(self._site.commit(self.state, commands)))


class _Membership:
    """Who there is. No digests: nobody chooses here but the exploration."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self._known = {one: KnownDatacenter(one, one, "r") for one in ids}
        self.wan = self

    def digests(self, mono_us: int) -> list[Any]:
        return []

    def datacenters(self) -> dict[str, KnownDatacenter]:
        return self._known

    def servers_of_datacenter(self, datacenter: str) -> list[Any]:
        return []


class Site:
    """One datacenter with one job. Sub-classes say which steps there are."""

    peers: tuple[str, ...] = ()

    def __init__(
        self, datacenter_id: str, messages: Messages, node: Node, uid: str, *,
        is_authority: bool = False,
    ) -> None:  # fmt: skip
        self.id, self.messages, self.uid = datacenter_id, messages, uid
        self.views: list[View] = []
        self.computed = 0  # steps that were carried out for real
        self._images: list[list[bytes]] = []
        self._numbers: dict[bytes, int] = {}
        self._steps: dict[tuple[int, Any], Step] = {}
        self._spare: tuple[int, State] | None = None  # a copy that a step left as it was
        state = State()
        first = self.birth(datacenter_id, is_authority=is_authority)
        known = {one: Member(name=one, since=1) for one in (datacenter_id, *self.peers)}
        roster = Roster(region="r", authority="authority", version=1, members=known)
        commands = [first, RegisterNode(node=node)]
        self.commit(state, commands if is_authority else [*commands, CopyRoster(roster=roster)])
        self.first = self.enter(state)

    def birth(self, datacenter_id: str, *, is_authority: bool = False) -> Bootstrap:
        return Bootstrap(
            datacenter_id=datacenter_id, region="r", datacenter=datacenter_id,
            is_authority=is_authority,
        )  # fmt: skip

    # --- numbering ----------------------------------------------------------------------

    def enter(self, state: State) -> int:
        """Return the number of a state, a new one when none is equal to it."""
        key = self._key(state)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.views)
            self._images.append(list(state.image().chunks()))
            self.views.append(self._view(state))
        return number

    def step(
        self, number: int, action: Any, carry_out: Callable[[State], list[Any]], to: str = ""
    ) -> Step:
        """Return the number of the state after a step, and the numbers of what was answered."""
        known = self._steps.get((number, action))
        if known is None:
            self.computed += 1
            state = self._copy(number)
            index = state.index
            answers = carry_out(state)
            after = self.enter(state)
            if after == number:
                state.index = index  # a repetition changes nothing: the copy serves again
                self._spare = number, state
            numbers = tuple(self.messages.number(to or self.peers[0], one) for one in answers)
            known = self._steps[number, action] = Step(after, numbers)
        return known

    def leader(self, state: State) -> FederatedDatacenter:
        """Return the federation's part of a leader who has just been elected."""
        config = ServerConfig(name="s", server_id="s", region="r", datacenter=self.id)
        rng = random.Random(0)
        server = Server(config, rng, Now(0, WALL_US))
        server.consensus = _Log(self, state)
        server.membership = _Membership((self.id, *self.peers))  # type: ignore[assignment]
        server.planning = Planning(server, rng)
        leader = server.federation = FederatedDatacenter(server)
        return leader

    def peer(self, datacenter_id: str) -> Peer:
        return Peer(name="s", role="server", datacenter_id=datacenter_id, is_proven=True)

    def _copy(self, number: int) -> State:
        spare, self._spare = self._spare, None
        if spare is not None and spare[0] == number:
            return spare[1]
        return State.restore(self._images[number])

    def _key(self, state: State) -> bytes:
        record = state.jobs.by_uid(self.uid)
        columns = state.allocs.columns
        none: list[int] = []
        rows = none if record is None else state.allocs.rows_of_job(record.ordinal).tolist()
        held = sorted(
            (int(columns.index[row]), int(columns.desired[row]))
            for row in rows
            if HELD[columns.client[row]]
        )
        shown = None
        if record is not None:
            shown = [record.indices, record.job.version, record.job.stop, record.is_purged]
        tables = [[*state.table(name).items()] for name in _TABLES]
        return msgspec.msgpack.encode([tables, held, shown], order="deterministic")

    def _view(self, state: State) -> View:
        record = state.jobs.by_uid(self.uid)
        if record is None:
            return View(frozenset(), frozenset(), (), self._to_say(state))
        count = sum(group.count or 0 for group in record.job.task_groups or [])
        authorised = frozenset(
            index
            for found in record.share().values()
            for low, high in found
            for index in range(low, min(high, count))
            if not record.is_stopped
        )
        columns = state.allocs.columns
        rows = state.allocs.rows_of_job(record.ordinal)
        rows = rows[HELD[columns.client[rows]]]
        ending = rows[columns.desired[rows] != Desired.RUN]
        return View(
            authorised,
            frozenset(columns.index[rows].tolist()),
            tuple(sorted(columns.index[ending].tolist())),
            self._to_say(state),
        )

    def _to_say(self, state: State) -> tuple[int, ...]:
        raise NotImplementedError

    # --- the log ------------------------------------------------------------------------

    def commit(self, state: State, commands: list[Any], index: int = 0) -> Applied:
        entry = Entry(wall_us=WALL_US, commands=commands)
        return state.apply(index or state.index + 1, encode_entry(entry))

    def evaluation(self, job_id: str) -> Evaluation:
        return Evaluation(
            id=derived_id("evaluation", self.id), priority=50, type="service",
            triggered_by=EvalTrigger.JOB_REGISTER, namespace="default", job_id=job_id,
            status=EvalStatus.PENDING,
        )  # fmt: skip

    def plan(self, state: State) -> None:
        """Have the shipped planner do what the job asks for, at once."""
        pending = [one for one in state.evals.open() if one.status is EvalStatus.PENDING][:1]
        if not pending:
            return
        problem = prepare(state, pending, now_us=WALL_US, rng=random.Random(0))
        self.commit(state, [ApplyPlans(plans=problem.solve().plans)])

    def end(self, number: int, instance: int) -> Step:
        """A process that shall end does, and its node says so."""

        def carry_out(state: State) -> list[Any]:
            record = state.jobs.by_uid(self.uid)
            assert record is not None
            allocs = state.allocs
            updates = [
                AllocUpdate(alloc_id=allocs.id_of(row), client_status=ClientStatus.COMPLETE)
                for row in allocs.rows_of_job(record.ordinal).tolist()
                if allocs.columns.index[row] == instance
                and HELD[allocs.columns.client[row]]
                and allocs.columns.desired[row] != Desired.RUN
            ]
            self.commit(state, [UpdateAllocations(updates=updates)])
            return []

        return self.step(number, ("end", instance), carry_out)


class HomeSite(Site):
    """The home: it decides, and takes reports."""

    def __init__(
        self, datacenter_id: str, others: tuple[str, ...], messages: Messages, node: Node, job: Job
    ) -> None:
        self.others = self.peers = others
        super().__init__(datacenter_id, messages, node, job.uid or "")
        state = State.restore(self._images[self.first])
        # Nobody runs anything yet: as when a registration is divided at once.
        parts = PutParts(
            namespace="default", job_id=job.id or "", uid=self.uid, expected=0, epoch=1,
            allowed={self.id: {}},
        )  # fmt: skip
        self.commit(state, [RegisterJob(job=job), parts], SPACING)
        self.first = self.enter(state)

    def home(self, state: State) -> Home | None:
        return homes_of(state).get(self.uid)

    def _to_say(self, state: State) -> tuple[int, ...]:
        """Every share as it is now."""
        home = self.home(state)
        record = state.jobs.by_uid(self.uid)
        if home is None or record is None:
            return ()
        return tuple(
            self.messages.number(other, share_of(home, other, self.id, record.job))
            for other in self.others
            if home.part(other).index
        )

    def _view(self, state: State) -> View:
        view, home = super()._view(state), self.home(state)
        if home is None:
            return view._replace(own=view.authorised)
        home = current(state, home)
        parts = tuple(
            (other, Told(_plain(home.part(other).allowed), home.part(other).is_settled))
            for other in self.others
            if home.part(other).index
        )
        own = _plain(home.part(self.id).allowed)
        return view._replace(parts=parts, free=_plain(home.free), own=own, is_home=True)

    def divisions(self, number: int, choice: tuple[str, ...]) -> tuple[Division, Division]:
        """Return how the instances 0, 1, ... go to the datacenters named in `choice`.

        First with care: what is free is given, the rest taken back. Then boldly, all at once,
        though others may hold some; that must be refused.
        """
        view = self.views[number]
        told = dict(view.parts)
        careful, bold = [], []
        for datacenter_id in (self.id, *self.others):
            wanted = frozenset(i for i, who in enumerate(choice) if who == datacenter_id)
            has = view.own if datacenter_id == self.id else frozenset()
            if datacenter_id in told:
                has = told[datacenter_id].allowed
            careful.append(wanted & (has | view.free))
            bold.append(wanted)
        return tuple(careful), tuple(bold)

    def decide(self, number: int, decision: int, division: Division) -> Step:
        """Propose a division; the same number when it was refused."""

        def carry_out(state: State) -> list[Any]:
            record = state.jobs.by_uid(self.uid)
            assert record is not None
            home = self.home(state)
            allowed = {
                datacenter_id: ranges.indices({GROUP: [(i, i + 1) for i in wanted]})
                for datacenter_id, wanted in zip((self.id, *self.others), division, strict=True)
            }
            command = PutParts(
                namespace="default", job_id=record.id, uid=self.uid, epoch=1,
                expected=home.index if home is not None else 0, allowed=allowed,
                evaluation=self.evaluation(record.id),
            )  # fmt: skip
            self.commit(state, [command], (decision + 2) * SPACING)
            self.plan(state)
            return []

        return self.step(number, ("decide", decision, division), carry_out)

    def take(self, number: int, message: int) -> Step:
        """A report arrives."""
        report: Report = self.messages.bodies[message]

        def carry_out(state: State) -> list[Any]:
            leader = self.leader(state)
            source = self.peer(report.datacenter_id)
            leader.on_call("Share.Report", {"Report": report}, source, lambda body, error: None)
            return []

        return self.step(number, ("report", message), carry_out)

    def sync_for(self, number: int, other: str) -> int:
        """Return the number of the message that lists all shares of a datacenter."""
        state = State.restore(self._images[number])
        home = self.home(state)
        listed = {}
        if home is not None and not (home.part(other).is_settled and not home.part(other).holds):
            listed = {home.uid: home.epoch}
        index = home.index if home is not None else 0
        return self.messages.number(other, FullSync(self.id, index, listed))


def _plain(indices: Indices) -> frozenset[int]:
    return frozenset(ranges.each(indices.get(GROUP, ())))


class ShareSite(Site):
    """A datacenter that runs a part."""

    def __init__(
        self, datacenter_id: str, home: str, messages: Messages, node: Node, job: Job
    ) -> None:
        self.home = home
        self.peers = (home,)
        super().__init__(datacenter_id, messages, node, job.uid or "")

    def _to_say(self, state: State) -> tuple[int, ...]:
        """Its word on the newest share, to whoever is the home by that."""
        report, mark = report_of(state, self.uid), watermarks_of(state).get(self.uid)
        return () if report is None or mark is None else (self.messages.number(mark.home, report),)

    def take(self, number: int, message: int, *, has_room: bool) -> Step:
        """A share arrives, or a full sync."""
        body: Share | FullSync = self.messages.bodies[message]

        def carry_out(state: State) -> list[Any]:
            leader = self.leader(state)
            answers: list[Any] = []

            def reply(body: Any, error: str) -> None:
                found = (body or {}).get("Reports") or [(body or {}).get("Report")]
                reports = [report_in({"Report": one}) for one in found]
                answers.extend(_bare(one) for one in reports if one is not None)

            if isinstance(body, FullSync):
                plain = {"Home": body.home, "Index": body.index, "Listed": body.listed}
                leader.on_call("Share.Sync", plain, self.peer(self.home), reply)
            else:
                if not has_room:
                    leader.receiving._room_for = _no_room  # type: ignore[method-assign]
                leader.on_call("Share.Put", {"Share": body}, self.peer(body.home), reply)
            self.plan(state)
            return answers

        return self.step(number, ("take", message, has_room), carry_out, to=body.home)


def _no_room(share: Share, mark: Any) -> tuple[Indices, str]:
    """Whether there is room is the exploration's choice."""
    return {}, "no room"


def _bare(report: Report) -> Report:
    """Without what tells of time: here every order of two words is tried."""
    return msgspec.structs.replace(report, events=[], as_of=0)
