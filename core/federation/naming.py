"""Whose a name is: claims asked for, made and given up; a datacenter becomes a job's home.

    1. the name is taken where it must be: by the authority of the region whose name it is,
       then by that of the home's own region if that is another one
    2. the job is committed at the home
    3. what goes wrong between gives the names up again (`Claim.Close`, until it is heard)

Two homes for one name are impossible because a claim is made in one log, by compare and set
(core.federation.claims). Old claims are audited: only the home's own word closes one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.authority import AuthorityWatch, best_authority
from core.federation.causes import Kind
from core.federation.choice import ANY_REGION
from core.federation.claims import (
    Claim,
    CloseClaim,
    CreateClaim,
    KeepCalls,
    MoveClaim,
    authority_of,
    find_claim,
    open_claims,
)
from core.federation.handing import is_on_its_way
from core.federation.home_log import homes_of
from core.federation.homes import Home
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.roster import is_off, is_own_off, roster_of
from core.federation.succession import pledge_of
from core.federation.taking import Taking
from core.model.child import parent_name
from core.model.job import Job
from core.model.query import Answer, Query
from core.state.access import CallAnswer
from core.state.commands import Command

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

CLOSE_RETRY_US: Final = 5_000_000
AUDIT_INTERVAL_US: Final = 60_000_000
AUDIT_AGE_US: Final = 600_000_000  # younger ones may be of registrations under way
AUDIT_BATCH: Final = 500
CALLS_MOST: Final = 1_000  # of one name: nobody repeats a call so many others later
NAMES_MOST: Final = 1_000  # that are being taken at a time


Found = Callable[[str, str, str], None]  # home, origin (region; "" = our own), error


class Naming:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self.host = coordinator.host
        self._coordinator = coordinator
        self._is_auditing = False
        # Names that are being taken for jobs of this datacenter, and who waits for them.
        self._registering: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._calls: dict[str, dict[str, CallAnswer]] = {}  # by uid: about earlier jobs of its name
        self._watch = AuthorityWatch(coordinator.host)

    def handlers(self) -> dict[str, Any]:
        return {
            "Claim.Get": self._on_claim_get,
            "Claim.Create": self._on_claim_create,
            "Claim.Close": self._on_claim_close,
            "Claim.Move": self._on_claim_move,
            "Home.Holds": self._on_home_holds,
        }

    def on_leadership(self, is_leader: bool) -> None:
        """A leader looks after the claims in its log."""
        self._registering.clear()  # who waits is let on when the one before him is answered
        self._watch.on_leadership(is_leader)
        if is_leader and not self._is_auditing:
            self._is_auditing = True
            self.host.after(AUDIT_INTERVAL_US, self._audit)

    def find_home(self, query: Query, job_id: str, found: Found) -> None:
        """Call `found(home, origin, error)`; home is "" when the name is free."""
        host, namespace = self.host, query.namespace
        claim = find_claim(host.state, namespace, job_id)
        if claim is not None:
            found(claim.home, claim.origin, "")
            return
        authority = self.authority()
        if authority == host.datacenter_id:
            found("", "", "")
            return
        unknown = f"who owns job {job_id!r}: {{}}. Jobs that are known here work on"
        if not authority:
            # Just started, or cut off: that nobody is known says nothing of the name.
            why = unknown.format("no authority is known yet")
            found("", "", self._lost() or f"nobody in region {host.region} can be asked {why}")
            return

        def done(body: Any, error: str) -> None:
            if error:
                name = host.datacenters().get(authority, ("", authority))[1]
                found(
                    "",
                    "",
                    f"the authority of region {host.region} (datacenter {name}) can't be asked"
                    f" {unknown.format(error)}",
                )
            else:
                body = body or {}
                found(str(body.get("Home", "")), str(body.get("Origin", "")), "")

        body = {"Namespace": namespace, "JobID": job_id, "CallID": query.call_id}
        host.ask(authority, "Claim.Get", body, CALL_TIMEOUT_US, done)

    def _lost(self) -> str:
        """Return why nobody can be asked about a name, "" when no authority was ever known."""
        lost = roster_of(self.host.state).authority
        if not lost or not is_off(self.host.state, lost):
            return ""
        name = roster_of(self.host.state).names.get(lost, lost)
        return (
            f"the authority of region {self.host.region}, datacenter {name}, was declared off:"
            " names can't be asked for until another succeeds it (serai authority adopt)"
        )

    def ask_authority(self, region: str, method: str, body: dict[str, Any], done: Done) -> None:
        """Call the authority of a region. What it gives counts only while it is the authority.

        An answer that comes after this datacenter pledged to a successor is void: what is done
        by it would be missing in what the successor is told (core.federation.succession).
        """
        authority = self.authority(region)
        if not authority:
            done(None, self._lost() or f"no authority of region {region} is known")
            return
        before = self.pledged(region)

        def answered(value: Any, error: str) -> None:
            if not error and self.pledged(region) != before:
                value, error = None, f"region {region} gets another authority: try again shortly"
            done(value, error)

        self.host.ask(authority, method, body, CALL_TIMEOUT_US, answered)

    def pledged(self, *regions: str) -> tuple[int, ...]:
        """Return the generations that the authorities of these regions must have."""
        return tuple(pledge_of(self.host.state, region).generation for region in regions)

    def authority(self, region: str = "") -> str:
        """Return the datacenter id of a region's authority, "" when none is known."""
        host = self.host
        region = region or host.region
        if region == host.region and host.state.is_authority:
            return host.datacenter_id
        best = best_authority([site.digest for site in host.sites()], region)
        if best is None and region == host.region:
            return authority_of(host.state).to  # it was here, and no digest shows it there yet
        return best.datacenter_id if best is not None else ""

    def why_not(self, region: str, authority: str) -> str:
        """Return why no name can be taken in a region now, "" when its authority can be asked."""
        if not authority:
            text = self._lost() or f"no authority of region {region} is known yet"
            return f"{text}: new names can't be registered now; try again shortly"
        is_leaving = self._watch.is_yielding or bool(authority_of(self.host.state).to)
        if authority == self.host.datacenter_id and is_leaving:
            return "the region's authority is moving to another datacenter: try again shortly"
        return ""

    def become_home(
        self, query: Query, job: Job, uid: str, claimant: str, respond: Callable[[Answer], None]
    ) -> None:
        """Take the name where it must be taken, then commit the job here.

        One registration of a name at a time: a second one that claimed it meanwhile would
        leave the authority with another uid than the job that is committed first. It waits,
        and is an update then.

        Args:
            claimant: Region whose authority owns the name; "" = our own.
        """
        name = job.namespace or "default", job.id or ""
        known = self.host.state.jobs.get(*name)
        if known is not None and not known.home:
            # It came here meanwhile: a claim for another uid would be the home's newer word.
            self._register_next(query, job, uid, claimant, respond)
            return
        waiting = self._registering.get(name)
        if waiting is not None:
            waiting.append(lambda: self._register_next(query, job, uid, claimant, respond))
            return
        behind: list[Callable[[], None]] = []
        self._registering[name] = behind

        def finished(answer: Answer) -> None:
            respond(answer)
            if self._registering.get(name) is behind:
                del self._registering[name]
            for again in behind:
                again()

        Taking(self._coordinator, query, job, uid, claimant, finished).start()

    def _register_next(
        self, query: Query, job: Job, uid: str, claimant: str, respond: Callable[[Answer], None]
    ) -> None:
        host = self.host
        if host.state.jobs.get(job.namespace or "default", job.id or "") is None:
            self.become_home(query, job, uid, claimant, respond)
        else:
            here = msgspec.structs.replace(query, region=host.region, datacenter=host.datacenter_id)
            host.answer_here(here, respond)

    def close(self, region: str, namespace: str, job_id: str, uid: str) -> None:
        """Give a name free in one region; what its authority does not hear the audit finds."""
        if authority := self.authority(region):
            self.close_at(authority, namespace, job_id, uid)

    def close_at(self, authority: str, namespace: str, job_id: str, uid: str) -> None:
        """Give a claim up, again and again until the authority has heard it."""
        if is_own_off(self.host.state):
            return  # the job lives on, at the home that adopted it
        calls = self.calls_about(namespace, job_id)
        body = {"Namespace": namespace, "JobID": job_id, "UID": uid, "Calls": calls}

        def done(_: Any, error: str) -> None:
            if error and self.host.is_serving:
                self.host.after(CLOSE_RETRY_US, again)

        def again() -> None:
            region = self.host.datacenters().get(authority, (self.host.region,))[0]
            self.close_at(self.authority(region) or authority, namespace, job_id, uid)

        self.host.ask(authority, "Claim.Close", body, CALL_TIMEOUT_US, done)

    def give_up(self, home: Home) -> None:
        """Close the claims of a job that was purged and that nobody holds a part of any more.

        In all regions that it may have run in. What is not heard the audit finds later.
        """
        own = self.host.region if home.region == ANY_REGION else home.region
        if parent_name(home.job_id):
            return  # a child has no claim of its own
        for region in dict.fromkeys((own, self.host.region, *home.regions)):
            authority = self.authority(region)
            if authority:
                self.close_at(authority, home.namespace, home.job_id, home.uid)

    # --- calls about a name -------------------------------------------------------------------

    def kept_calls(self, uid: str) -> list[Command]:
        """Return what is committed with a new job: the answers given to earlier ones."""
        calls = self._calls.pop(uid, None)
        return [KeepCalls(calls=calls)] if calls else []

    def note_calls(self, uid: str, told: Any) -> dict[str, CallAnswer]:
        """Keep what an authority told of earlier jobs of a name, until the new one is committed."""
        calls = msgspec.convert(told or {}, dict[str, CallAnswer])
        if calls:
            self._calls[uid] = self._calls.get(uid, {}) | calls
            while len(self._calls) > NAMES_MOST:
                del self._calls[next(iter(self._calls))]
        return calls

    def calls_about(self, namespace: str, job_id: str) -> dict[str, CallAnswer]:
        """Return the newest answers that this log keeps to calls about jobs of a name."""
        calls = self.host.state.calls.of_job(namespace, job_id)
        return dict([*calls.items()][-CALLS_MOST:])

    # --- calls --------------------------------------------------------------------------------

    def _on_claim_get(self, body: Any, reply: Done) -> None:
        host = self.host
        namespace, job_id = body["Namespace"], body["JobID"]
        claim = find_claim(host.state, namespace, job_id)
        home = claim.home if claim is not None else ""
        record = host.state.jobs.get(namespace, job_id)
        is_own = record is not None and not record.home
        # What earlier homes of the name answered is kept here. Whoever has claimed it now may
        # not have registered his job yet: he would answer that there is no such job.
        is_answered = host.state.calls.get(body.get("CallID", "")) is not None
        if is_answered or (is_own and not home):
            home = host.datacenter_id
        if not home and not host.state.is_authority:
            reply(None, f"datacenter {host.datacenter} is not the region's authority any more")
            return
        origin = claim.origin if claim is not None else ""
        uid = claim.uid if claim is not None else record.uid if record is not None else ""
        told = {"Home": home, "Origin": origin, "UID": uid}
        if home:
            reply(told, "")  # a hint: the home knows
            return

        def proven(is_leader: bool) -> None:
            # Who was deposed and has not heard of it may lack a claim.
            reply(*((told, "") if is_leader else (None, "another server leads by now")))

        host.prove_leadership(proven)

    def _on_claim_create(self, body: Any, reply: Done) -> None:
        command = CreateClaim(
            namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"],
            home=body["Home"], origin=body.get("Origin", ""), follows=body.get("Follows", 0),
            said=body.get("Said", 0),
            calls=msgspec.convert(body.get("Calls") or {}, dict[str, CallAnswer]),
        )  # fmt: skip
        host = self.host
        home = "/".join(host.datacenters().get(command.home, ("", command.home)))

        def claimed(value: Any, error: str) -> None:
            if not error:
                event = host.clock.event(
                    Kind.CLAIMED, command.uid, after=body.get("After") or (), home=home,
                    epoch=value["Epoch"],
                )  # fmt: skip
                calls = self.calls_about(command.namespace, command.job_id)
                value = {**value, "Event": msgspec.to_builtins(event), "Calls": calls}
            reply(value, error)

        host.propose([command], claimed)

    def _on_claim_close(self, body: Any, reply: Done) -> None:
        command = CloseClaim(
            namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"],
            calls=msgspec.convert(body.get("Calls") or {}, dict[str, CallAnswer]),
        )  # fmt: skip
        self.host.propose([command], reply)

    def _on_claim_move(self, body: Any, reply: Done) -> None:
        command = MoveClaim(
            namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"], home=body["Home"],
            expected=int(body["Expected"]), beyond=int(body["Beyond"]),
        )  # fmt: skip
        self.host.propose([command], reply)

    # --- audit --------------------------------------------------------------------------------

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
            if is_off(host.state, home):
                continue  # they are to be adopted
            self._audit_home(home, claims[:AUDIT_BATCH])

    def _audit_home(self, home: str, claims: list[Claim]) -> None:
        def done(body: Any, error: str) -> None:
            if error or not isinstance(body, dict) or not self.host.is_serving:
                return
            held = set(body.get("Held", ()))
            told = msgspec.convert(body.get("Calls") or {}, dict[str, dict[str, CallAnswer]])
            for claim in claims:
                if claim.uid not in held:
                    close = CloseClaim(
                        namespace=claim.namespace, job_id=claim.job_id, uid=claim.uid,
                        calls=told.get(claim.uid, {}),
                    )  # fmt: skip
                    self.host.propose([close], lambda _body, _error: None)

        body = {"Jobs": [[claim.namespace, claim.job_id, claim.uid] for claim in claims]}
        self.host.ask(home, "Home.Holds", body, CALL_TIMEOUT_US, done)

    def _on_home_holds(self, body: Any, reply: Done) -> None:
        """Say which of these jobs have their home here: {"Held": [uid], "Calls": of the others}."""
        held, calls = [], {}
        for namespace, job_id, uid in body["Jobs"]:
            record = self.host.state.jobs.get(namespace, job_id)
            # Under whatever uid: a name that is used here is not free for others.
            is_held = record is not None and not record.home
            state = self.host.state
            if is_held or uid in homes_of(state) or is_on_its_way(state, uid):
                held.append(uid)
            else:
                calls[uid] = self.calls_about(namespace, job_id)
        reply({"Held": held, "Calls": calls}, "")
