"""The coordinator: where a query belongs, and where a new job goes.

One per server; what it commits, it commits as leader. The way of a new job:

    name claimed?    yes -> its home answers
    candidates       the datacenters of the job's region, judged by their digests; the
                     receiving one first when it has room, then by two weighted choices
    spillover        then those of the regions that its `federation` block lists, in order
    each candidate   judges for itself (`Home.Register`): it takes the name by compare and
                     set and commits the job, or refuses with its reason, and the next is asked
    nobody           has room now: the job waits here, as a blocked evaluation
    nobody           could hold an instance even empty: refused, with every one's reason

A digest only decides whom to ask first. Two homes for one name are impossible because
the claim is made in one log (core.federation.claims).

A job that no datacenter holds whole, or that asks to be spread, is divided by its home
(dividing, sending); parts of other homes' jobs are taken by receiving.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.federation import tokens
from core.federation.adopting import Adopting
from core.federation.arriving import Arriving
from core.federation.backing import Backing
from core.federation.budget import RetryBudget
from core.federation.causes import Kind, last_of, plain_events
from core.federation.ceasing import Ceasing, gone_text
from core.federation.choice import ANY_REGION, Candidate, Site, judge_all, within_reach
from core.federation.coordinating import Coordinating
from core.federation.copying import Copying
from core.federation.departing import Departing
from core.federation.dividing import Dividing
from core.federation.enrolling import Enrolling
from core.federation.extending import Extending
from core.federation.floors import SpanRegion, is_spanned
from core.federation.home_log import datacenters_of
from core.federation.host import CALL_TIMEOUT_US, Done, FederationHost
from core.federation.known import Known
from core.federation.leaving import Leaving
from core.federation.lists import GATHERED, ROUTED_IDS, who_lists
from core.federation.naming import Naming
from core.federation.offers import Offers
from core.federation.placing import Placing
from core.federation.receiving import Receiving
from core.federation.roster import is_off, is_own_off
from core.federation.seal import is_sealed, sealed_text
from core.federation.sealing import Sealing
from core.federation.sending import Sending
from core.federation.submitting import Submitting, is_stopped_everywhere
from core.federation.succeeding import Succeeding
from core.federation.transfer import Transfer, destination
from core.federation.verdicts import as_answer, with_verdicts
from core.federation.where import Answered, Everywhere, Here, Refused, There, Where
from core.model.child import parent_name
from core.model.host import Peer
from core.model.ids import datacenter_of
from core.model.job import Job
from core.model.query import Answer, Query
from core.state.commands import Command
from core.state.jobs import JobRecord

SPAN_LOOK_US: Final = 5_000_000


# What is known of a job where its allocations are.
TOLD_BY_PARTS: Final = frozenset(
    {
        "Job.Allocations", "Job.Summary", "Job.Evaluations", "Job.Deployments",
        "Job.LatestDeployment", "Job.Services", "Job.ScaleStatus",
    }
)  # fmt: skip


# What changes a job: only by the region whose name it is.
CHANGES: Final = frozenset(
    {
        "Job.Register", "Job.Deregister", "Job.Evaluate", "Job.Revert", "Job.Stable",
        "Job.Scale", "Job.Dispatch", "Job.PeriodicForce", "Job.Start", "Job.TagVersion",
        "Job.UntagVersion",
    }
)  # fmt: skip


# What the region's authority answers, or carries out.
AT_AUTHORITY: Final = frozenset({"Authority.Status", "Authority.Transfer", "Datacenter.Off"})


class Coordinator:
    """Implements core.server.federation_port.Federation."""

    def __init__(self, host: FederationHost) -> None:
        self.host = host
        self.known = Known()
        self.retries = RetryBudget()
        self.offers = Offers(self)
        self.naming = Naming(self)
        self.extending = Extending(self)
        self.sending = Sending(self)
        self.dividing = Dividing(self)
        self.receiving = Receiving(self)
        self.departing = Departing(self)
        self.arriving = Arriving(self)
        self.transfer = Transfer(host)
        self.coordinating = Coordinating(self)
        self.copying = Copying(self)
        self.submitting = Submitting(self)
        self.enrolling = Enrolling(self)
        self.ceasing = Ceasing(self)
        self.leaving = Leaving(self)
        self.backing = Backing(self)
        self.adopting = Adopting(self)
        self.succeeding = Succeeding(self)
        self.sealing = Sealing(self)
        self._is_leader = False
        self._is_looking_around = False

    # --- where a query belongs -------------------------------------------------------------

    def locate(self, query: Query, then: Callable[[Where], None]) -> None:
        """Say where `query` belongs; `then` is called once, now or after calls."""
        host = self.host
        if late := tokens.refusal(query, host.now.wall_us):
            then(Refused(Answer(status=409, error=late)))
            return
        if query.method in CHANGES and is_sealed(host.state):
            then(Refused(Answer(status=503, error=sealed_text(host.state))))
            return
        if query.method in CHANGES and is_own_off(host.state):
            then(Refused(Answer(status=409, error=gone_text(host.state))))
            return
        for name in ROUTED_IDS if query.params else ():
            owner = datacenter_of(str(query.params.get(name, "")))
            if owner and owner != host.datacenter_id and owner in host.datacenters():
                then(There(owner))
                return
        if query.method in GATHERED:
            then(who_lists(query, host.state, host.region, host.datacenters()))
        elif query.method in ("Job.Register", "Job.Plan"):
            self._locate_job_file(query, then)
        elif query.method == "Job.Rollout" and (there := self.submitting.coordinator_of(query)):
            then(Here() if there == host.datacenter_id else There(there))
        elif query.method.startswith("Job.") and query.params.get("job_id"):
            self._locate_job(query, str(query.params["job_id"]), then)
        elif query.method in AT_AUTHORITY:
            authority = self.authority()
            is_known = authority in host.datacenters()
            is_elsewhere = is_known and authority not in ("", host.datacenter_id)
            then(There(authority) if is_elsewhere and not query.hops else Here())
        else:
            then(Here())

    def _locate_job(self, query: Query, job_id: str, then: Callable[[Where], None]) -> None:
        """Find the home of a job by its name; a child lives where its parent does."""
        if tokens.is_answered(self.host.state, query):
            then(Here())  # a repetition: the answer is kept here, whoever has the name by now
            return
        record = self.host.state.jobs.get(query.namespace, job_id)
        if record is not None:
            is_here = self.host.is_serving and not record.home
            if is_here and is_stopped_everywhere(query, record):
                self.submitting.stop(query, record, then)
            else:
                then(self._at_known_job(query, record))
            return

        def found(home: str, origin: str, error: str) -> None:
            # Without the authority's word an unknown job is unknown here: the endpoint's 404
            # would be a guess, so the error says what could not be asked.
            if error:
                then(Refused(Answer(status=503, error=error)))
            elif self._is_anothers(query, origin):
                then(_of_region(job_id, origin))
            elif home and home != self.host.datacenter_id:
                then(self._there(home, job_id))
            else:
                then(Here())

        self.naming.find_home(query, parent_name(job_id) or job_id, found)

    def _at_known_job(self, query: Query, record: JobRecord) -> Where:
        """A share's job is its home's; what its allocations tell, all of its datacenters do."""
        if query.is_part:
            return Here()
        if self._is_anothers(query, record.job.region or ""):
            return _of_region(record.id, record.job.region or "")
        if record.home:
            return self._there(record.home, record.id)
        if query.method in TOLD_BY_PARTS:
            parts = datacenters_of(self.host.state, record.namespace, record.id)
            if len(parts) > 1:
                return Everywhere(parts)
        return Here()

    def _there(self, home: str, job_id: str) -> Where:
        if not is_off(self.host.state, home):
            return There(home)
        text = f"the home of job {job_id!r}, datacenter {home}, was declared off, and nobody has"
        return Refused(
            Answer(status=503, error=f"{text} adopted its jobs yet (serai datacenter adopt)")
        )

    def _is_anothers(self, query: Query, region: str) -> bool:
        """Whether somebody of this region would change a job that belongs to another one.

        What comes from elsewhere was judged where it was asked, by the region it named.
        """
        is_own = region in ("", ANY_REGION, self.host.region)
        return not is_own and query.method in CHANGES and not query.hops

    # --- a job file: register and plan --------------------------------------------------------

    def _locate_job_file(self, query: Query, then: Callable[[Where], None]) -> None:
        host = self.host
        if not host.is_serving:
            then(Here())  # which is: at the leader, who is asked this again
            return
        job = host.canonical(query.body)
        if job is None:
            then(Here())  # the endpoint says what is wrong with it
            return
        if job.multiregion:
            self.submitting.locate(query, job, then)
        else:
            self.locate_one(query, job, then)

    def locate_one(self, query: Query, job: Job, then: Callable[[Where], None]) -> None:
        """Find who registers or plans a job of one region, or one region's copy."""
        host = self.host
        namespace, job_id = job.namespace or "default", job.id or ""
        is_plan = query.method == "Job.Plan"
        record = host.state.jobs.get(namespace, job_id)
        if record is not None and self._is_anothers(query, record.job.region or ""):
            then(_of_region(job_id, record.job.region or ""))
            return
        if record is not None and not record.home:
            self._at_home(query, job, then) if is_plan else then(Here())
            return

        def found(home: str, origin: str, error: str) -> None:
            if error:
                then(Refused(Answer(status=503, error=error)))
            elif self._is_anothers(query, origin):
                then(_of_region(job_id, origin))
            elif home and is_off(host.state, home):
                then(self._there(home, job_id))
            elif home and home != host.datacenter_id:
                self._pass_to_home(home, query, job, then)
            else:
                Placing(self, query, job, then).start()

        if tokens.is_answered(host.state, query):
            then(Here())
            return
        named = msgspec.structs.replace(query, namespace=namespace)
        self.naming.find_home(named, job_id, found)

    def _at_home(self, query: Query, job: Job, then: Callable[[Where], None]) -> None:
        """Plan a known job here, and say what every datacenter would make of it."""
        candidates = within_reach(job, self.judge(job), self.host.region)

        def respond(answer: Answer) -> None:
            then(Answered(with_verdicts(answer, candidates, self.host.datacenter_id)))

        self.host.answer_here(query, respond)

    def _pass_to_home(
        self, home: str, query: Query, job: Job, then: Callable[[Where], None]
    ) -> None:
        is_plan = query.method == "Job.Plan"
        region = self.host.datacenters().get(home, ("", ""))[0]
        if not is_plan and region in ("", self.host.region):
            then(There(home))
            return
        candidates = within_reach(job, self.judge(job), self.host.region) if is_plan else []

        def respond(answer: Answer) -> None:
            then(Answered(with_verdicts(answer, candidates, home) if is_plan else answer))

        self.ask_query(home, region or self.host.region, query, respond)

    def ask_query(
        self, datacenter_id: str, region: str, query: Query, respond: Callable[[Answer], None]
    ) -> None:
        """Have another datacenter answer a query about a job whose name is of our region."""
        body = query.body if isinstance(query.body, dict) else {}
        job = body.get("Job") or {}
        # Said here: a file without a region would mean the region of whoever answers.
        named = ANY_REGION if job.get("Region") == ANY_REGION else self.host.region
        trail = list(query.trail)
        if query.method == "Job.Register":
            goal = "/".join(self.host.datacenters().get(datacenter_id, (region, datacenter_id)))
            passed_on = self.host.clock.event(Kind.FORWARDED, after=last_of(trail), to=goal)
            trail += plain_events([passed_on])
        passed = msgspec.structs.replace(
            query, region=region, datacenter=datacenter_id, hops=query.hops + 1,
            body={**body, "Job": {**job, "Region": named}}, trail=trail,
        )  # fmt: skip

        def done(body: Any, error: str) -> None:
            respond(Answer(status=500, error=error) if error else as_answer(body))

        self.host.ask(datacenter_id, "Query", passed, CALL_TIMEOUT_US, done)

    def judge(self, job: Job, placed: dict[str, int] | None = None) -> list[Candidate]:
        """Return every known datacenter's verdict on a job, own debits taken off.

        Args:
            placed: How many of its instances each datacenter has already.
        """
        host = self.host
        return judge_all(
            job, host.sites(), self.known, now_us=host.now.mono_us, own_id=host.datacenter_id,
            placed=placed,
        )  # fmt: skip

    def sites(self) -> list[Site]:
        """Return every datacenter as its newest digest shows it, our own live."""
        return self.host.sites()

    def authority(self, region: str = "") -> str:
        """Return the datacenter id of a region's authority, "" when none is known."""
        return self.naming.authority(region)

    def authority_destination(self, name: str) -> tuple[str, str]:
        """Return (datacenter id, why it can't be its region's authority), by name or id."""
        return destination(self.host, name)

    def adoption_waits(self, source: str) -> dict[str, str]:
        return self.adopting.waiting(source)

    def seal_waits(self) -> dict[str, str]:
        return self.sealing.waiting()

    def succession_waits(self) -> dict[str, str]:
        return self.succeeding.waiting()

    def become_home(
        self, query: Query, job: Job, uid: str, claimant: str, respond: Callable[[Answer], None]
    ) -> None:
        """Take the name where it must be taken, then commit the job here."""
        self.naming.become_home(query, job, uid, claimant, respond)

    def division(self, job: Job) -> list[Command]:
        """Return what is committed with a new job: its parts elsewhere, what its name brought."""
        return [*self.dividing.division(job), *self.naming.kept_calls(job.uid or "")]

    # --- calls of other datacenters -------------------------------------------------------------

    def on_call(
        self, method: str, body: Any, source: Peer, reply: Callable[[Any, str], None]
    ) -> bool:
        """Take a call of another datacenter's leader; False when it is none of ours."""
        handler: Callable[[Any, Done], None] | None = {
            "Share.Put": lambda given, done: self.receiving.on_put(given, source, done),
            "Share.Sync": lambda given, done: self.receiving.on_sync(given, source, done),
            "Home.Take": lambda given, done: self.arriving.on_take(given, source, done),
            "Authority.Stage": lambda given, done: self.transfer.on_stage(given, source, done),
            "Authority.Take": lambda given, done: self.transfer.on_take(given, source, done),
            "Authority.Pledge": lambda given, done: self.succeeding.on_pledge(given, source, done),
            "Authority.Names": lambda given, done: self.succeeding.on_names(given, source, done),
            "Seal.Renew": lambda given, done: self.sealing.on_renew(given, source, done),
            "Seal.Ask": lambda given, done: self.sealing.on_ask(given, source, done),
            "Multiregion.Look": lambda given, done: self.copying.on_look(given, source, done),
            "Multiregion.Steer": lambda given, done: self.copying.on_steer(given, source, done),
            "Home.Register": lambda given, done: self.offers.on_register(given, source, done),
            "Home.Reserve": lambda given, done: self.offers.on_reserve(given, source, done),
            "Home.Settled": self.arriving.on_settled,
            "Backup.Kept": lambda given, done: self.backing.on_kept(given, source, done),
            "Backup.Put": lambda given, done: self.backing.on_put(given, source, done),
            "Roster.Leave": lambda given, done: self.leaving.on_leave(given, source, done),
            "Roster.Put": lambda given, done: self.enrolling.on_put(given, source, done),
            **self.adopting.handlers(),
            **self.naming.handlers(),
            **self.extending.handlers(),
            **self.sending.handlers(),
            **self.coordinating.handlers(),
        }.get(method)
        if handler is None:
            return False
        if sealed := self.sealing.refuses(method, source):
            reply(None, sealed)
        elif is_off(self.host.state, source.datacenter_id):
            reply(None, f"datacenter {source.datacenter_id} was declared off: its word is void")
        elif not isinstance(body, dict):
            reply(None, f"{method} takes an object, not {type(body).__name__}")
        else:
            try:
                handler(body, reply)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reply(None, f"{method}: the body is not valid: {error!r}")
        return True

    # --- the server's rhythm ------------------------------------------------------------------

    def on_applied(self, changes: Sequence[Any]) -> None:
        if self._is_leader and any(change.table == "seal" for change in changes):
            self._lead_parts()
        self.dividing.on_applied(changes)
        self.receiving.on_applied(changes)
        self.copying.on_applied(changes)
        self.coordinating.on_applied(changes)
        self.backing.on_applied(changes)

    def on_leadership(self, is_leader: bool) -> None:
        self._is_leader = is_leader
        for part in (self.receiving, self.ceasing, self.succeeding, self.sealing):
            part.on_leadership(is_leader)
        self._lead_parts()
        if is_leader and not self._is_looking_around:
            self._is_looking_around = True
            self.host.after(SPAN_LOOK_US, self._look_around)

    def _lead_parts(self) -> None:
        """Let the parts that give and take lead, unless what they know is of earlier."""
        may_act = self._is_leader and not is_sealed(self.host.state)
        for part in (
            self.naming, self.sending, self.dividing, self.departing, self.arriving,
            self.transfer, self.coordinating, self.copying, self.enrolling, self.leaving,
            self.backing, self.adopting,
        ):  # fmt: skip
            part.on_leadership(may_act)

    def _look_around(self) -> None:
        """Once the region has a second datacenter its lists have virtual indices, for ever."""
        host = self.host
        self._is_looking_around = host.is_serving and not is_spanned(host.state)
        if not self._is_looking_around:
            return
        if sum(region == host.region for region, _ in host.datacenters().values()) > 1:
            host.propose([SpanRegion()], lambda _body, _error: None)
        host.after(SPAN_LOOK_US, self._look_around)


def _of_region(job_id: str, region: str) -> Refused:
    text = f"job {job_id!r} belongs to region {region}, which runs it here: change it there"
    return Refused(Answer(status=409, error=f"{text} (-region {region})"))
