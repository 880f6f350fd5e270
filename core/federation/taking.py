"""One registration's way to its name: claimed where it must be, then committed here.

    claims     by the authority of the region whose name it is, then by that of the home's own
               region if that is another one; what this datacenter is the authority of needs none
    commit     the job, with the answers that earlier jobs of the name were given
    back       what was claimed is given up again if anything goes wrong between

A copy of a call that was carried out elsewhere long ago may come here when the name is free
again: the answers that come with the claim show it, and the first answer is given once more.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core.federation import tokens
from core.federation.causes import events_of, last_of, plain_events
from core.federation.given_up import GiveUpName
from core.federation.host import CALL_TIMEOUT_US
from core.model.job import Job
from core.model.query import Answer, Query, ReadQuery

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

SHORTLY = "try again shortly"


class Taking:
    """Takes a name for one job and registers it. Made anew for each registration."""

    def __init__(
        self, coordinator: "Coordinator", query: Query, job: Job, uid: str, claimant: str,
        respond: Callable[[Answer], None],
    ) -> None:  # fmt: skip
        """Args: claimant: Region whose authority owns the name; "" = our own."""
        self._coordinator, self._query, self._job = coordinator, query, job
        self._host, self._naming = coordinator.host, coordinator.naming
        self._uid, self._claimant, self._respond = uid, claimant, respond
        self._name = job.namespace or "default", job.id or ""
        self._regions = tuple(dict.fromkeys((claimant or self._host.region, self._host.region)))
        self._pledged = self._naming.pledged(*self._regions)
        self._wanted: list[tuple[str, str]] = []  # (authority, origin) still to be asked for it
        self._taken: list[str] = []  # authorities that gave it
        self._epoch = 0  # of the claim that decides whose the name is
        self._trail = list(query.trail)

    def start(self) -> None:
        for region in self._regions:
            authority = self._naming.authority(region)
            if why := self._naming.why_not(region, authority):
                self._respond(Answer(status=503, error=why))
                return
            if authority != self._host.datacenter_id:
                self._wanted.append((authority, "" if region == self._claimant else self._claimant))
        self._next()

    # --- claims -----------------------------------------------------------------------------

    def _next(self) -> None:
        if not self._wanted:
            self._register()
            return
        authority, origin = self._wanted.pop(0)
        namespace, job_id = self._name
        body = {
            "Namespace": namespace, "JobID": job_id, "UID": self._uid,
            "Home": self._host.datacenter_id, "Origin": origin, "After": last_of(self._trail),
            "Said": self._host.state.index, "Calls": self._naming.calls_about(*self._name),
            "Follows": self._epoch,
        }  # fmt: skip

        def done(body: Any, error: str) -> None:
            if error:
                status = 409 if "is taken" in error or "given up" in error else 503
                self._give_up(Answer(status=status, error=error))
                return
            self._taken.append(authority)
            if not origin:
                self._epoch = int(body["Epoch"])
            self._trail.extend(plain_events(events_of([body.get("Event")])))
            calls = self._naming.note_calls(self._uid, body.get("Calls"))
            if self._query.call_id in calls and not tokens.is_answered(
                self._host.state, self._query
            ):
                self._repeat()
            else:
                self._next()

        self._host.ask(authority, "Claim.Create", body, CALL_TIMEOUT_US, done)

    # --- the job ----------------------------------------------------------------------------

    def _local(self) -> Query:
        """Return the query as this datacenter carries it out, for this job and nobody else's."""
        query, host = self._query, self._host
        region = "*" if self._job.region == "*" else self._claimant or host.region
        stated = {"SeraiUID": self._uid, "Region": region}
        body = query.body if isinstance(query.body, dict) else {}
        at = {
            "region": host.region, "datacenter": host.datacenter_id, "trail": self._trail,
            "body": {**body, "Job": {**body.get("Job", {}), **stated}},
        }  # fmt: skip
        if _is_read(query, self._job):
            return ReadQuery.of(query, _stated(self._job, stated, host.region), **at)
        return msgspec.structs.replace(query, **at)

    def _register(self) -> None:
        if self._naming.pledged(*self._regions) == self._pledged:
            if self._epoch:
                self._coordinator.dividing.note_epoch(self._uid, self._epoch)
            self._host.answer_here(self._local(), self._finished)
            return
        # A claim of an authority that was succeeded meanwhile.
        text = f"the region gets another authority: {SHORTLY}"
        self._finished(Answer(status=503, error=text))

    def _finished(self, answer: Answer) -> None:
        if answer.is_error:
            self._give_up(answer)
        else:
            self._respond(answer)

    def _repeat(self) -> None:
        """This very call was carried out elsewhere: keep its answer here, and give it again."""

        def kept(_value: Any, error: str) -> None:
            if error:
                self._give_up(Answer(status=503, error=f"{error}: {SHORTLY}"))
            else:
                self._host.answer_here(self._local(), self._give_up)

        self._host.propose(self._naming.kept_calls(self._uid), kept)

    def _give_up(self, answer: Answer) -> None:
        """Commit that this job is not registered here any more, then give its names free.

        Where another leads by now nothing is given free: what was proposed here may be committed
        there yet. The audit of old claims will find what became of it.
        """
        namespace, job_id = self._name
        if not self._taken and answer.status != 409:
            self._respond(answer)
            return

        def given_up(value: Any, error: str) -> None:
            if not error and not value["IsHere"]:
                for authority in self._taken:
                    self._naming.close_at(authority, namespace, job_id, self._uid)
            self._respond(answer)

        never = GiveUpName(namespace=namespace, job_id=job_id, uid=self._uid)
        self._host.propose([never], given_up)


def _is_read(query: Query, job: Job) -> bool:
    """Whether the endpoint would read out of the query just what was read already."""
    return (
        type(query) is Query
        and job.multiregion is None
        and bool(job.namespace)
        and query.namespace in (job.namespace, "default", "*")
    )


def _stated(job: Job, stated: dict[str, str], own_region: str) -> Job:
    """Return a job that was read, with what its registration states beside the file."""
    region = stated["Region"]
    return msgspec.structs.replace(
        job, uid=stated["SeraiUID"], region=own_region if region in ("", "global") else region
    )
