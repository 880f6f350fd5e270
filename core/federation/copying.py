"""A region's side of a job over several regions: its copy is looked for, taken and steered.

    Multiregion.Look    would you take it, and what do you have of it?  (commits nothing)
    Multiregion.Steer   take it, let it run, unblock, fail, cancel or stop it
    Multiregion.Report  back to the coordinator, by itself, when something changed

Any datacenter of the region may be asked: who is not the copy's home passes the call on to
it, and where no home is known a copy that is to be taken looks for one, as every new job of
the region does (core.federation.placing).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from core.federation.copies import Copy, SteerCopy, find_copy, report_of
from core.federation.home_log import datacenters_of
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.multiregion import Report, Status, Want
from core.federation.placing import Placing
from core.federation.where import Answered, Refused, Where
from core.jobspec.regions import unmarked
from core.model.host import Peer
from core.model.job import Job
from core.model.query import Answer, OwnQuery, Query
from core.state.jobs import JobRecord, spec_key

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

HOPS_MAX: Final = 2  # from whoever owns the names to the home, and once more if it moved
_FOR_GOOD: Final = (400, 403, 422)  # HTTP status of a copy that no repetition would bring in


class Copying:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._is_active = False

    def on_leadership(self, is_leader: bool) -> None:
        self._is_active = is_leader

    def on_applied(self, changes: Sequence[Any]) -> None:
        """Tell coordinators how far their copies are; what is lost they ask for themselves."""
        if not self._is_active:
            return
        state = self._host.state
        names: dict[tuple[str, str], None] = {}
        for one in changes:
            if one.table == "copies":
                names[one.namespace, one.key] = None
            elif one.table == "deployment":
                deployment = state.deployments.get(one.key)
                if deployment is not None and deployment.is_multiregion:
                    names[deployment.namespace, deployment.job_id] = None
        for namespace, job_id in names:
            copy = find_copy(state, namespace, job_id)
            if copy is not None:
                body = {"Namespace": namespace, "JobID": job_id, "Report": report_of(state, copy)}
                self._host.ask(
                    copy.coordinator, "Multiregion.Report", body, CALL_TIMEOUT_US,
                    lambda _body, _error: None,
                )  # fmt: skip

    # --- calls of coordinators ------------------------------------------------------------

    def on_look(self, body: Any, source: Peer, reply: Done) -> None:
        """Say what a region would make of a copy: {Generation, IsKnown, IsSame, Error}.

        Without a `Body` nothing is to come: then only what it has of the job is said.
        """
        if error := _stranger(source):
            reply(None, error)
            return
        namespace, job_id = str(body["Namespace"]), str(body["JobID"])
        record = self._record(namespace, job_id)
        copy = find_copy(self._host.state, namespace, job_id)
        call_id = str(body.get("CallID") or "")
        known = {
            "Generation": copy.generation if copy is not None else 0,
            "IsKnown": copy is not None and call_id != "" and call_id in copy.calls,
            "IsSame": False,
            "Error": "",
        }
        query = self._query("Job.Plan", body, namespace)
        job = self._host.canonical(query.body) if "Body" in body else None

        def planned(answer: Answer) -> None:
            is_same = record is not None and copy is not None and job is not None
            if is_same:
                assert record is not None and copy is not None and job is not None
                is_same = self._is_same(record, copy, job)
            reply({**known, "IsSame": is_same, "Error": answer.error}, "")

        if "Body" in body and job is None:
            reply({**known, "Error": "the job is not valid there"}, "")
        elif record is None:
            self._elsewhere(
                "Multiregion.Look", body, reply,
                lambda: self._place(query, job, planned) if job is not None else reply(known, ""),
                lambda why: reply({**known, "Error": why}, ""),
            )  # fmt: skip
        elif job is None:
            reply(known, "")
        elif len(datacenters_of(self._host.state, namespace, job_id)) > 1:
            reply({**known, "Error": "it is divided over datacenters there: stop it first"}, "")
        else:
            self._host.answer_here(query, planned)

    def on_steer(self, body: Any, source: Peer, reply: Done) -> None:
        """Do what is wanted of a copy: {Report}, {Superseded: generation} or {Refused: why}."""
        if error := _stranger(source):
            reply(None, error)
            return
        namespace, job_id = str(body["Namespace"]), str(body["JobID"])
        want, generation = Want(body["Want"]), int(body["Generation"])
        copy = find_copy(self._host.state, namespace, job_id)
        record = self._record(namespace, job_id)
        if copy is not None and copy.generation > generation:
            reply({"Superseded": copy.generation}, "")
        elif copy is not None and copy.generation == generation:
            is_adopted = copy.coordinator != str(body["Coordinator"])
            if want in (Want.RUN, Want.UNBLOCK, Want.FAIL) or is_adopted:
                self._steer(body, record, reply)
            else:
                reply({"Report": report_of(self._host.state, copy)}, "")
        elif record is not None:
            if want is Want.HOLD and "Body" in body:
                self._register(body, reply)
            else:
                self._steer(body, record, reply)
        else:
            self._steer_elsewhere(body, want, reply)

    def _steer_elsewhere(self, body: Any, want: Want, reply: Done) -> None:
        """The copy is not here: its home is told, or there is none."""

        def nobody() -> None:
            if want is Want.HOLD and "Body" in body:
                self._register(body, reply)
            else:
                self._steer(body, None, reply)  # what is on its way shall not bring it back

        def passed_on(answer: Any, error: str) -> None:
            if error or not body.get("IsPurge") or "Report" not in (answer or {}):
                reply(answer, error)
            else:
                self._steer(body, None, lambda _answer, failed: reply(answer, failed))

        self._elsewhere(
            "Multiregion.Steer", body, passed_on, nobody, lambda why: reply({"Refused": why}, "")
        )

    def _elsewhere(
        self, method: str, body: Any, reply: Done, nobody: Callable[[], None],
        refuse: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Pass a call on to the copy's home; `nobody` is called when there is none."""
        host, hops = self._host, int(body.get("Hops") or 0)
        query = Query(method="Job.Get", namespace=str(body["Namespace"]))

        def found(home: str, origin: str, error: str) -> None:
            if error:
                reply(None, error)
            elif origin not in ("", host.region):
                refuse(f"the name is taken there by a job of region {origin}")
            elif home in ("", host.datacenter_id):
                nobody()
            elif hops >= HOPS_MAX:
                reply(None, "the job's home is not found")
            else:
                passed = {**body, "Hops": hops + 1}
                host.ask(home, method, passed, CALL_TIMEOUT_US, reply)

        self._coordinator.naming.find_home(query, str(body["JobID"]), found)

    # --- carrying it out ------------------------------------------------------------------

    def _register(self, body: Any, reply: Done) -> None:
        """Have the copy registered, here where it is known, or at the home that it finds."""
        namespace, job_id = str(body["Namespace"]), str(body["JobID"])
        query = self._query("Job.Register", body, namespace)
        job = self._host.canonical(query.body)
        if job is None:
            reply({"Refused": "the job is not valid there"}, "")
            return

        def registered(answer: Answer) -> None:
            if answer.status in _FOR_GOOD:
                reply({"Refused": answer.error}, "")
            elif answer.is_error:
                reply(None, answer.error)
            else:
                copy = find_copy(self._host.state, namespace, job_id)
                said = report_of(self._host.state, copy) if copy is not None else Report(
                    region=self._host.region, generation=int(body["Generation"]),
                    status=Status.PENDING,
                )  # fmt: skip
                reply({"Report": said, "Registered": _plain(answer)}, "")

        if self._record(namespace, job_id) is not None:
            self._host.answer_here(query, registered)
        else:
            self._place(query, job, registered)

    def _place(self, query: Query, job: Job, then: Callable[[Answer], None]) -> None:
        """Let a new copy find its home within the region, or be planned there."""

        def found(where: Where) -> None:
            if isinstance(where, Answered | Refused):
                then(where.answer)
            else:
                self._host.answer_here(query, then)

        Placing(self._coordinator, query, job, found).start()

    def _steer(self, body: Any, record: JobRecord | None, reply: Done) -> None:
        """Commit it, also where it finds no copy: only the log knows that there is none.

        Who was deposed and has not heard of it may lack a copy that its region has taken.
        """
        namespace, job_id = str(body["Namespace"]), str(body["JobID"])
        due = self._coordinator.dividing.evaluation(record.job) if record is not None else None
        command = SteerCopy(
            namespace=namespace, job_id=job_id, generation=int(body["Generation"]),
            coordinator=str(body["Coordinator"]), want=Want(body["Want"]),
            call_id=str(body.get("CallID") or ""), is_purge=bool(body.get("IsPurge")),
            evaluation=due,
        )  # fmt: skip

        def done(value: Any, error: str) -> None:
            if error or "Superseded" in (value or {}):
                reply(value, error)
                return
            copy = find_copy(self._host.state, namespace, job_id)
            said = self._gone(command.generation)
            if copy is not None and copy.generation == command.generation:
                said = report_of(self._host.state, copy)
            answer: dict[str, Any] = {"Report": said}
            if due is not None:
                answer["Registered"] = {"EvalID": due.id}
            reply(answer, "")

        self._host.propose([command], done)

    # --- small things ---------------------------------------------------------------------

    def _record(self, namespace: str, job_id: str) -> JobRecord | None:
        """Return the job if its home is here."""
        record = self._host.state.jobs.get(namespace, job_id)
        return record if record is not None and not record.home else None

    def _query(self, method: str, body: Any, namespace: str) -> OwnQuery:
        given = body.get("Body")
        return OwnQuery(
            method=method, region=self._host.region, namespace=namespace,
            body=given if isinstance(given, dict) else {},
        )  # fmt: skip

    def _is_same(self, record: JobRecord, copy: Copy, job: Job) -> bool:
        """Whether a copy is what is submitted again, and rolled out to its end."""
        is_over = report_of(self._host.state, copy).status is Status.SUCCESSFUL
        is_newest = copy.version == record.version and not record.is_stopped
        return is_over and is_newest and spec_key(unmarked(record.job)) == spec_key(unmarked(job))

    def _gone(self, generation: int) -> Report:
        return Report(
            region=self._host.region, generation=generation, status=Status.CANCELLED,
            home=self._host.datacenter_id, reason="the job is gone there",
        )  # fmt: skip


def _stranger(source: Peer) -> str:
    """Return why a call is not taken from its sender, "" when it is."""
    return "" if source.role == "server" else "only servers may call this"


def _plain(answer: Answer) -> dict[str, Any]:
    body = answer.body if isinstance(answer.body, dict) else {}
    return {name: body[name] for name in ("EvalID", "EvalCreateIndex", "JobModifyIndex", "Warnings")
            if name in body}  # fmt: skip
