"""The coordinator: where a query belongs, and where a new job goes.

One per server; what it commits, it commits as leader. The way of a new job:

    name claimed?    yes -> its home answers
    candidates       the datacenters of the job's region, judged by their digests; the
                     receiving one first when it has room, then by two weighted choices
    spillover        then those of the regions that its `federation` block lists, in order
    each candidate   judges for itself (`Home.Register`): it takes the name by compare and
                     set and commits the job, or refuses with its reason, and the next is asked
    nobody           has room now: the job waits here, as a blocked evaluation
    nobody           could hold it even empty: refused, with every datacenter's reason

A digest only decides whom to ask first. Two homes for one name are impossible because
the claim is made in one log (core.federation.claims).

Not carried out yet: shares of one job in several datacenters, hand-over of homes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.federation.authority import AuthorityWatch, best_authority
from core.federation.budget import RetryBudget
from core.federation.causes import Kind, events_of, last_of, plain_events
from core.federation.choice import Candidate, Site, judge_all
from core.federation.claims import Claim, CloseClaim, CreateClaim, find_claim, open_claims
from core.federation.host import CALL_TIMEOUT_US, Done, FederationHost
from core.federation.known import Known
from core.federation.offers import Offers
from core.federation.placing import ANY_REGION, Placing
from core.federation.verdicts import as_answer, with_verdicts
from core.federation.where import Answered, Everywhere, Here, Refused, There, Where
from core.model.child import parent_name
from core.model.host import Peer
from core.model.ids import datacenter_of
from core.model.job import Job
from core.model.query import Answer, Query

CLOSE_RETRY_US: Final = 5_000_000
AUDIT_INTERVAL_US: Final = 60_000_000
AUDIT_AGE_US: Final = 600_000_000  # younger ones may be of registrations under way
AUDIT_BATCH: Final = 500

# Parameters that name one record by an id whose last group is its datacenter's.
ROUTED_IDS: Final = ("alloc_id", "eval_id", "deployment_id", "node_id")

# Lists that several datacenters answer together.
GATHERED: Final = frozenset(
    {
        "Job.List", "Alloc.List", "Eval.List", "Deployment.List", "Node.List",
        "Service.List", "Service.Get", "NodePool.List", "NodePool.Nodes", "NodePool.Jobs",
        "Search.Prefix", "Search.Fuzzy",
    }
)  # fmt: skip


class Coordinator:
    """Implements core.server.federation_port.Federation."""

    def __init__(self, host: FederationHost) -> None:
        self.host = host
        self.known = Known()
        self.retries = RetryBudget()
        self.offers = Offers(self)
        self._is_auditing = False
        self._authority_watch = AuthorityWatch(host)

    # --- where a query belongs -------------------------------------------------------------

    def locate(self, query: Query, then: Callable[[Where], None]) -> None:
        """Say where `query` belongs; `then` is called once, now or after calls."""
        host = self.host
        known = host.datacenters()
        for name in ROUTED_IDS:
            owner = datacenter_of(str(query.params.get(name, "")))
            if owner and owner != host.datacenter_id and owner in known:
                then(There(owner))
                return
        if query.method in GATHERED:
            then(self._gathered(query, known))
        elif query.method in ("Job.Register", "Job.Plan"):
            self._locate_job_file(query, then)
        elif query.method.startswith("Job.") and query.params.get("job_id"):
            self._locate_job(query, str(query.params["job_id"]), then)
        else:
            then(Here())

    def _gathered(self, query: Query, known: dict[str, tuple[str, str]]) -> Where:
        if query.datacenter:
            return Here()
        region = query.region or self.host.region
        wanted = tuple(
            datacenter_id for datacenter_id, (name, _) in known.items() if region in ("*", name)
        )
        guests: tuple[str, ...] = ()
        if query.method == "Job.List":
            homes = (claim.home for claim in open_claims(self.host.state))
            guests = tuple(sorted({home for home in homes if home in known} - set(wanted)))
        if len(wanted) > 1 or guests:
            return Everywhere(wanted, guests)
        return Here()

    def _locate_job(self, query: Query, job_id: str, then: Callable[[Where], None]) -> None:
        """Find the home of a job by its name; a child lives where its parent does."""
        if self.host.state.jobs.get(query.namespace, job_id) is not None:
            then(Here())
            return

        def found(home: str, error: str) -> None:
            # Without the authority's word an unknown job is unknown here: the endpoint's 404
            # would be a guess, so the error says what could not be asked.
            if error:
                then(Refused(Answer(status=503, error=error)))
            elif home and home != self.host.datacenter_id:
                then(There(home))
            else:
                then(Here())

        self._find_home(query.namespace, parent_name(job_id) or job_id, found)

    def _find_home(self, namespace: str, job_id: str, found: Callable[[str, str], None]) -> None:
        """Call `found(home, error)`; home is "" when the name is free."""
        host = self.host
        claim = find_claim(host.state, namespace, job_id)
        if claim is not None:
            found(claim.home, "")
            return
        authority = self._authority()
        if authority in ("", host.datacenter_id):
            found("", "")
            return

        def done(body: Any, error: str) -> None:
            if error:
                name = host.datacenters().get(authority, ("", authority))[1]
                found(
                    "",
                    f"the authority of region {host.region} (datacenter {name}) can't be asked"
                    f" who owns job {job_id!r}: {error}. Jobs that are known here work on",
                )
            else:
                found(str((body or {}).get("Home", "")), "")

        body = {"Namespace": namespace, "JobID": job_id}
        host.ask(authority, "Claim.Get", body, CALL_TIMEOUT_US, done)

    def _authority(self, region: str = "") -> str:
        """Return the datacenter id of a region's authority, "" when none is known."""
        host = self.host
        region = region or host.region
        if region == host.region and host.state.is_authority:
            return host.datacenter_id
        best = best_authority([site.digest for site in host.sites()], region)
        return best.datacenter_id if best is not None else ""

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
        namespace, job_id = job.namespace or "default", job.id or ""
        is_plan = query.method == "Job.Plan"
        if host.state.jobs.get(namespace, job_id) is not None:
            self._at_home(query, job, then) if is_plan else then(Here())
            return

        def found(home: str, error: str) -> None:
            if error:
                then(Refused(Answer(status=503, error=error)))
            elif home and home != host.datacenter_id:
                self._pass_to_home(home, query, job, then)
            else:
                Placing(self, query, job, then).start()

        self._find_home(namespace, job_id, found)

    def _at_home(self, query: Query, job: Job, then: Callable[[Where], None]) -> None:
        """Plan a known job here, and say what every datacenter would make of it."""
        candidates = self.judge(job)

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
        candidates = self.judge(job) if is_plan else []

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

    # --- calls of other datacenters -------------------------------------------------------------

    def on_call(
        self, method: str, body: Any, source: Peer, reply: Callable[[Any, str], None]
    ) -> bool:
        """Take a call of another datacenter's leader; False when it is none of ours."""
        handler: Callable[[Any, Done], None] | None = {
            "Claim.Get": self._on_claim_get,
            "Claim.Create": self._on_claim_create,
            "Claim.Close": self._on_claim_close,
            "Home.Holds": self._on_home_holds,
            **self.offers.handlers(),
        }.get(method)
        if handler is None:
            return False
        if not isinstance(body, dict):
            reply(None, f"{method} takes an object, not {type(body).__name__}")
        else:
            try:
                handler(body, reply)
            except (KeyError, TypeError, msgspec.ValidationError) as error:
                reply(None, f"{method}: the body is not valid: {error!r}")
        return True

    def _on_claim_get(self, body: Any, reply: Done) -> None:
        host = self.host
        namespace, job_id = body["Namespace"], body["JobID"]
        claim = find_claim(host.state, namespace, job_id)
        home = claim.home if claim is not None else ""
        if not home and host.state.jobs.get(namespace, job_id) is not None:
            home = host.datacenter_id
        if not home and not host.state.is_authority:
            reply(None, f"datacenter {host.datacenter} is not the region's authority any more")
            return
        reply({"Home": home}, "")

    def _on_claim_create(self, body: Any, reply: Done) -> None:
        command = CreateClaim(
            namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"],
            home=body["Home"], origin=body.get("Origin", ""),
        )  # fmt: skip
        host = self.host
        home = "/".join(host.datacenters().get(command.home, ("", command.home)))

        def claimed(value: Any, error: str) -> None:
            if not error:
                event = host.clock.event(
                    Kind.CLAIMED, command.uid, after=body.get("After") or (), home=home,
                    epoch=value["Epoch"],
                )  # fmt: skip
                value = {**value, "Event": msgspec.to_builtins(event)}
            reply(value, error)

        host.propose([command], claimed)

    def _on_claim_close(self, body: Any, reply: Done) -> None:
        command = CloseClaim(namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"])
        self.host.propose([command], reply)

    def become_home(
        self, query: Query, job: Job, uid: str, claimant: str, respond: Callable[[Answer], None]
    ) -> None:
        """Take the name where it must be taken, then commit the job here.

        Args:
            claimant: Region whose authority owns the name; "" = our own.
        """
        host = self.host
        namespace, job_id = job.namespace or "default", job.id or ""
        authorities = []
        for region in dict.fromkeys((claimant or host.region, host.region)):
            authority = self._authority(region)
            if not authority:
                respond(
                    Answer(status=503, error=f"no authority of region {region} is known yet:"
                           " new names can't be registered now; try again shortly")
                )  # fmt: skip
                return
            if authority == host.datacenter_id and self._authority_watch.is_yielding:
                respond(Answer(status=503, error="the region's authority is moving to another"
                               " datacenter: try again shortly"))  # fmt: skip
                return
            authorities.append((authority, "" if region == claimant else claimant))
        body = query.body if isinstance(query.body, dict) else {}
        stated = {
            "SeraiUID": uid,
            "Region": job.region if job.region == "*" else claimant or host.region,
        }
        named = {**body, "Job": {**body.get("Job", {}), **stated}}
        local = msgspec.structs.replace(
            query, region=host.region, datacenter=host.datacenter_id, body=named
        )
        wanted = [pair for pair in authorities if pair[0] != host.datacenter_id]

        trail = list(query.trail)

        def register() -> None:
            host.answer_here(msgspec.structs.replace(local, trail=trail), finished)

        def finished(answer: Answer) -> None:
            if answer.is_error:
                for authority, _ in wanted:
                    self._close(authority, namespace, job_id, uid)
            respond(answer)

        def claim(position: int) -> None:
            if position == len(wanted):
                register()
                return
            authority, origin = wanted[position]
            body = {
                "Namespace": namespace, "JobID": job_id, "UID": uid,
                "Home": host.datacenter_id, "Origin": origin, "After": last_of(trail),
            }  # fmt: skip

            def done(body: Any, error: str) -> None:
                if not error:
                    trail.extend(plain_events(events_of([(body or {}).get("Event")])))
                    claim(position + 1)
                    return
                for other, _ in wanted[:position]:
                    self._close(other, namespace, job_id, uid)
                status = 409 if "is taken" in error or "given up" in error else 503
                respond(Answer(status=status, error=error))

            host.ask(authority, "Claim.Create", body, CALL_TIMEOUT_US, done)

        claim(0)

    def _close(self, authority: str, namespace: str, job_id: str, uid: str) -> None:
        """Give a claim up, again and again until the authority has heard it."""
        body = {"Namespace": namespace, "JobID": job_id, "UID": uid}

        def done(_: Any, error: str) -> None:
            if error and self.host.is_serving:
                self.host.after(
                    CLOSE_RETRY_US, lambda: self._close(authority, namespace, job_id, uid)
                )

        self.host.ask(authority, "Claim.Close", body, CALL_TIMEOUT_US, done)

    # --- the server's rhythm ------------------------------------------------------------------

    def on_applied(self, changes: Sequence[Any]) -> None:
        """Nothing is derived from the state that would have to follow it."""

    def on_leadership(self, is_leader: bool) -> None:
        """A leader looks after the claims in its log."""
        self._authority_watch.on_leadership(is_leader)
        if is_leader and not self._is_auditing:
            self._is_auditing = True
            self.host.after(AUDIT_INTERVAL_US, self._audit)

    def _audit(self) -> None:
        """Ask the homes of old claims whether the jobs are still theirs.

        A purge at the home gives the name free here; so does a registration that failed
        after its claim was made. Only the home's own word closes a claim, never silence.
        """
        host = self.host
        if not host.is_serving:
            self._is_auditing = False
            return
        host.after(AUDIT_INTERVAL_US, self._audit)
        by_home: dict[str, list[Claim]] = {}
        for claim in open_claims(host.state):
            if host.now.wall_us - claim.created_us > AUDIT_AGE_US:
                by_home.setdefault(claim.home, []).append(claim)
        for home, claims in by_home.items():
            self._audit_home(home, claims[:AUDIT_BATCH])

    def _audit_home(self, home: str, claims: list[Claim]) -> None:
        def done(body: Any, error: str) -> None:
            if error or not isinstance(body, dict) or not self.host.is_serving:
                return
            held = set(body.get("Held", ()))
            for claim in claims:
                if claim.uid not in held:
                    close = CloseClaim(
                        namespace=claim.namespace, job_id=claim.job_id, uid=claim.uid
                    )
                    self.host.propose([close], lambda _body, _error: None)

        body = {"Jobs": [[claim.namespace, claim.job_id, claim.uid] for claim in claims]}
        self.host.ask(home, "Home.Holds", body, CALL_TIMEOUT_US, done)

    def _on_home_holds(self, body: Any, reply: Done) -> None:
        """Say which of these jobs have their home here: {"Held": [uid]}."""
        held = []
        for namespace, job_id, uid in body["Jobs"]:
            record = self.host.state.jobs.get(namespace, job_id)
            if record is not None and record.uid == uid:
                held.append(uid)
        reply({"Held": held}, "")
