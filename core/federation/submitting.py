"""A job over several regions is submitted, or stopped in all of them.

    1. somewhere in one of its regions: at the job's home there, if it has one
    2. each region is asked whether it would take its copy, and what it has of the job; if one
       can't be asked, or would not, nothing has happened and the answer says why
    3. the rollout is committed, with a generation beyond all that were heard of
    4. each region takes its copy (core.federation.coordinating); the answer waits for that,
       for `TAKEN_WAIT_US`: whoever is not heard of by then gets it later

What every region has already, rolled out to its end, begins no rollout.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.copies import find_copy, has_deployment
from core.federation.host import CALL_TIMEOUT_US
from core.federation.multiregion import OnFailure, Region, Rollout, Status, Want, generation_beyond
from core.federation.rollout_log import BeginRollout, find_rollout
from core.federation.where import Answered, Refused, There, Where
from core.jobspec.regions import (
    call_of,
    coordinator_of,
    generation_of,
    marked,
    region_names,
    regional,
    strategy,
    unmarked,
)
from core.model.job import Job
from core.model.query import Answer, OwnQuery, Query
from core.state.jobs import JobRecord

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

TAKEN_WAIT_US: Final = 6_000_000
_KEPT: Final = ("Submission", "PreserveCounts", "EvalPriority")  # of a registration's body

Then = Callable[[Where], None]
Answers = dict[str, tuple[Any, str]]  # by region: body and error of its answer


def is_stopped_everywhere(query: Query, record: JobRecord) -> bool:
    """Whether this stops a job in all of its regions."""
    said = str(query.params.get("global", "")).lower()
    is_global = "global" in query.params and said in ("", "1", "t", "true")
    return query.method == "Job.Deregister" and is_global and bool(region_names(record.job))


class Submitting:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._last = 0  # generation given here

    # --- where it belongs -----------------------------------------------------------------

    def locate(self, query: Query, job: Job, then: Then) -> None:
        """Find who registers or plans a job that has a `multiregion` block."""
        names, host = region_names(job), self._host
        if host.region not in names:
            self._pass_to(names[0], query, then)
            return
        if query.method == "Job.Plan":
            self._plan(query, job, then)
            return
        namespace, job_id = job.namespace or "default", job.id or ""
        record = host.state.jobs.get(namespace, job_id)
        if record is not None and not record.home:
            self._begin(query, job, then)
            return

        def found(home: str, origin: str, error: str) -> None:
            if error:
                then(Refused(Answer(status=503, error=error)))
            elif origin not in ("", host.region):
                text = f"the name of job {job_id!r} is taken by a job of region {origin}"
                then(Refused(Answer(status=409, error=text)))
            elif home not in ("", host.datacenter_id):
                then(There(home))
            else:
                self._begin(query, job, then)

        named = msgspec.structs.replace(query, namespace=namespace)
        self._coordinator.naming.find_home(named, job_id, found)

    def coordinator_of(self, query: Query) -> str:
        """Return who has the rollout of a job, "" when that is not known here: its home knows."""
        state, name = self._host.state, (query.namespace, str(query.params.get("job_id", "")))
        own, copy = find_rollout(state, *name), find_copy(state, *name)
        if own is not None and (copy is None or copy.generation <= own.generation):
            return self._host.datacenter_id
        return copy.coordinator if copy is not None else ""

    def _pass_to(self, region: str, query: Query, then: Then) -> None:
        """Have another region answer: the job does not run in ours."""
        to = self._coordinator.authority(region)
        if not to:
            known = sorted({place[0] for place in self._host.datacenters().values()})
            text = f"region {region!r} of the job's multiregion block is not known: known are"
            then(Refused(Answer(status=400, error=f"{text} {', '.join(known)}")))
            return
        then(There(to))

    def _plan(self, query: Query, job: Job, then: Then) -> None:
        """Plan the copy of this region, as any job of it."""
        host = self._host
        record = host.state.jobs.get(job.namespace or "default", job.id or "")
        copy = regional(job, host.region)
        if record is not None and generation_of(record.job):
            # Not shown as a difference: the next submission has marks of its own.
            kept = generation_of(record.job), coordinator_of(record.job), call_of(record.job)
            copy = marked(copy, *kept)
        body = {**query.body, "Job": msgspec.to_builtins(copy)}
        self._coordinator.locate_one(msgspec.structs.replace(query, body=body), copy, then)

    # --- a registration -------------------------------------------------------------------

    def _begin(self, query: Query, job: Job, then: Then) -> None:
        host, job = self._host, unmarked(job)
        if refused := host.refusal(query):
            then(Refused(refused))
            return
        known = find_rollout(host.state, job.namespace or "default", job.id or "")
        if known is not None and query.call_id and known.call_id == query.call_id:
            self._answer_when_taken(known, then)  # it was sent again
            return
        if error := self._enforced(query, job):
            then(Refused(Answer(status=409, error=error)))
            return
        names = region_names(job)
        regions = {place[0] for place in host.datacenters().values()} | {host.region}
        if unknown := [name for name in names if name not in regions]:
            text = f"unknown region {', '.join(unknown)}; known are {', '.join(sorted(regions))}"
            then(Refused(Answer(status=400, error=f"job {job.id!r}: multiregion names {text}")))
            return
        given = query.body if isinstance(query.body, dict) else {}
        body = {name: given[name] for name in _KEPT if given.get(name) is not None}
        body["Job"] = msgspec.to_builtins(job)
        self._ask_about(query, job, body, then)

    def _enforced(self, query: Query, job: Job) -> str:
        """Return why a compare-and-set registration is refused; our own region's copy counts."""
        given = query.body if isinstance(query.body, dict) else {}
        if not given.get("EnforceIndex"):
            return ""
        record = self._host.state.jobs.get(job.namespace or "default", job.id or "")
        expected = given.get("JobModifyIndex") or 0
        found = record.job.job_modify_index if record is not None else 0
        if expected == found:
            return ""
        return f"Enforcing job modify index {expected}: job's index in this region is {found}"

    def _commit(
        self, query: Query, job: Job, body: dict[str, Any], newest: int, then: Then
    ) -> None:
        """Commit a rollout whose generation is beyond `newest`, and answer when it is taken."""
        host = self._host
        parallel, on_failure = strategy(job)
        copies = [regional(job, name) for name in region_names(job)]
        rollout = Rollout(
            namespace=job.namespace or "default", job_id=job.id or "",
            generation=self._generation(newest), coordinator=host.datacenter_id,
            call_id=query.call_id, body=body,
            regions=tuple(Region(name=name) for name in region_names(job)),
            max_parallel=parallel, on_failure=OnFailure(on_failure),
            has_deployments=any(map(has_deployment, copies)),
            has_barrier=job.type != "system",
        )  # fmt: skip
        self._propose(rollout, then)

    def _generation(self, newest: int) -> int:
        """Return a generation that nobody else has, beyond `newest` and those given here."""
        time_us = max(self._host.clock.read(), newest, self._last)
        self._last = generation_beyond(time_us, self._host.datacenter_id)
        return self._last

    def _propose(self, rollout: Rollout, then: Then) -> None:
        def done(_: Any, error: str) -> None:
            if error:
                status = 409 if "newer version" in error else 500
                then(Refused(Answer(status=status, error=error)))
            else:
                self._answer_when_taken(rollout, then)

        self._host.propose([BeginRollout(rollout=rollout)], done)

    def _answer_when_taken(self, rollout: Rollout, then: Then) -> None:
        def answer(now: Rollout) -> None:
            then(Answered(self._answer(now)))

        self._coordinator.coordinating.when_taken(rollout, TAKEN_WAIT_US, answer)

    def _answer(self, rollout: Rollout) -> Answer:
        """Return what a submission is answered: as of our own region, and a row for each."""
        state, region = self._host.state, rollout.region(self._host.region)
        if region is not None and not region.is_taken and rollout.superseded_by:
            text = f"job {rollout.job_id!r}: a newer version of it came meanwhile"
            return Answer(status=409, error=text)
        if region is not None and not region.is_taken:
            # Who submits next could not know of it: so it is not said to be done.
            text = "is under way: this region has not taken its part yet; try again shortly"
            return Answer(status=503, error=f"job {rollout.job_id!r} {text}")
        own = self._coordinator.coordinating.registered(rollout, self._host.region)
        waiting = [region.name for region in rollout.regions if not region.is_taken]
        refused = [f"{region.name}: {region.reason}" for region in rollout.regions
                   if region.status is Status.FAILED]  # fmt: skip
        warnings = [own["Warnings"]] if own.get("Warnings") else []
        if waiting:
            what = "stopped" if rollout.is_stop else "begun"
            warnings.append(f"Not {what} yet: waits for region {', '.join(waiting)}")
        if refused:
            warnings.append("Refused by region " + "; ".join(refused))
        body = {
            "EvalID": own.get("EvalID", ""),
            "EvalCreateIndex": own.get("EvalCreateIndex", 0),
            "JobModifyIndex": own.get("JobModifyIndex", 0),
            "Warnings": "\n".join(warnings),
            "Index": max(1, state.index),
            "SeraiRegions": described(rollout)["Regions"],
        }
        return Answer(body=body, index=max(1, state.index))

    def _answer_unchanged(self, query: Query, job: Job, then: Then) -> None:
        """Answer what changes nothing anywhere: the copy of our region is looked at again."""
        params = {"job_id": job.id or ""}
        if job.is_template:
            body = {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0, "Warnings": ""}
            then(Answered(Answer(body=body, index=max(1, self._host.state.index))))
            return
        again = OwnQuery(
            method="Job.Evaluate", params=params, namespace=job.namespace or "default",
            region=self._host.region, call_id=query.call_id, call_issued_us=query.call_issued_us,
        )  # fmt: skip
        self._host.answer_here(again, lambda answer: then(Answered(answer)))

    # --- a stop ---------------------------------------------------------------------------

    def stop(self, query: Query, record: JobRecord, then: Then) -> None:
        """Stop a job in all of its regions: committed first, told until each has done it."""
        host = self._host
        if refused := host.refusal(query):
            then(Refused(refused))
            return
        known = find_rollout(host.state, record.namespace, record.id)
        if known is not None and query.call_id and known.call_id == query.call_id:
            self._answer_when_taken(known, then)
            return
        names = region_names(record.job)
        purge = str(query.params.get("purge", "")).lower()
        regions = tuple(Region(name=name, want=Want.STOP) for name in names)

        def heard(answers: Answers) -> None:
            # Who can't be asked now is told later; nothing newer is known there than here.
            found = [body for body, error in answers.values() if not error]
            if any(body["IsKnown"] for body in found):
                then(Answered(_done_before(host.state.index)))
                return
            newest = max((int(body["Generation"]) for body in found), default=0)
            rollout = Rollout(
                namespace=record.namespace, job_id=record.id,
                generation=self._generation(newest), coordinator=host.datacenter_id,
                call_id=query.call_id, regions=regions, is_stop=True,
                is_purge="purge" in query.params and purge in ("", "1", "t", "true"),
            )  # fmt: skip
            self._propose(rollout, then)

        body = {"Namespace": record.namespace, "JobID": record.id, "CallID": query.call_id}
        self._ask_all(dict.fromkeys(names, body), heard)

    # --- asking ---------------------------------------------------------------------------

    def _ask_all(self, bodies: dict[str, dict[str, Any]], then: Callable[[Answers], None]) -> None:
        """Ask every region what it has of a job, and would make of its copy."""
        answers: Answers = {}

        def ask(region: str, body: dict[str, Any]) -> None:
            def done(answer: Any, error: str) -> None:
                answers[region] = answer, error
                if len(answers) == len(bodies):
                    then({name: answers[name] for name in bodies})

            to = self._coordinator.authority(region)
            if not to:
                done(None, "nobody of it is known to be there")
            else:
                self._host.ask(to, "Multiregion.Look", body, CALL_TIMEOUT_US, done)

        for region, body in bodies.items():
            ask(region, body)

    def _ask_about(self, query: Query, job: Job, body: dict[str, Any], then: Then) -> None:
        """Begin a rollout if every region would take its copy."""

        def heard(answers: Answers) -> None:
            unheard = [f"{name}: {error}" for name, (_, error) in answers.items() if error]
            found = {name: answer for name, (answer, error) in answers.items() if not error}
            text = f"job {job.id!r} was registered in no region;"
            if any(one["IsKnown"] for one in found.values()):
                then(Answered(_done_before(self._host.state.index)))
            elif refused := [f"{name}: {one['Error']}" for name, one in found.items()
                             if one["Error"]]:  # fmt: skip
                error = f"{text} it is refused by\n  " + "\n  ".join(refused)
                then(Refused(Answer(status=422, error=error)))
            elif unheard:
                error = f"{text} not all can be asked:\n  " + "\n  ".join(unheard)
                then(Refused(Answer(status=503, error=error)))
            elif all(one["IsSame"] for one in found.values()):
                self._answer_unchanged(query, job, then)
            else:
                newest = max(int(one["Generation"]) for one in found.values())
                self._commit(query, job, body, newest, then)

        named = {
            "Namespace": job.namespace or "default", "JobID": job.id, "CallID": query.call_id,
        }  # fmt: skip
        copies = {name: msgspec.to_builtins(regional(job, name)) for name in region_names(job)}
        bodies = {name: {**named, "Body": {**body, "Job": copy}} for name, copy in copies.items()}
        self._ask_all(bodies, heard)


def _done_before(index: int) -> Answer:
    """Return the answer to a call that came again after it took effect."""
    body = {
        "EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0,
        "Warnings": "this call was carried out before", "Index": max(1, index),
    }  # fmt: skip
    return Answer(body=body, index=max(1, index))


def described(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout as the API shows it."""
    return {
        "JobID": rollout.job_id,
        "Namespace": rollout.namespace,
        "Generation": rollout.generation,
        "Coordinator": rollout.coordinator,
        "Status": rollout.status.value,
        "Action": ("purge" if rollout.is_purge else "stop") if rollout.is_stop else "register",
        "MaxParallel": rollout.max_parallel,
        "OnFailure": rollout.on_failure.value,
        "Regions": [
            {
                "Region": region.name,
                "Status": region.status.value,
                "Wanted": region.want.value,
                "IsTaken": region.is_taken,
                "DatacenterID": region.home,
                "DeploymentID": region.deployment_id,
                "JobVersion": region.version,
                "Reason": region.reason,
            }
            for region in rollout.regions
        ],
    }
