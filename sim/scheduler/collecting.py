"""What garbage collection may forget, and what it must.

Held against the ledger's own records, before and after each collection:

    collected too early    what runs or holds room, is too young, or decides what comes next
    not collected          what ended long enough ago and decides nothing

The rules in a slow and obvious form: an allocation decides when it is the last one of its index
that was wanted (was it done, how often did it fail?), unless its job is stopped or forgotten as
a whole.
"""

import random
from collections import Counter
from typing import Any, Final

from core.model.evaluation import EvalStatus
from core.model.node import NodeStatus
from core.server.config import CollectionConfig
from core.state.commands import CollectGarbage
from core.state.jobs import JobRecord
from core.state.state import State
from sim.scheduler.known import Known
from sim.scheduler.leader import S
from sim.scheduler.ledger import Ledger
from sim.seeds import Violation

_OPEN: Final = (EvalStatus.PENDING, EvalStatus.BLOCKED)
_ENDED: Final = ("successful", "failed", "cancelled")
_ONCE: Final = ("batch", "sysbatch")


def random_ages(rng: random.Random) -> CollectionConfig:
    """Return thresholds in seconds where Nomad's are hours."""
    return CollectionConfig(
        interval_us=rng.choice((15, 40)) * S,
        job_us=rng.choice((20, 60, 120)) * S,
        evaluation_us=rng.choice((5, 30)) * S,
        deployment_us=rng.choice((5, 30)) * S,
        node_us=rng.choice((10, 60)) * S,
    )


class Collecting:
    """Judges one datacenter's collections."""

    def __init__(self, ledger: Ledger, situations: Counter[str]) -> None:
        self._ledger, self._situations = ledger, situations
        self._due: dict[str, set[str]] = {}  # kind -> ids that this collection must take
        self._there: dict[str, set[str]] = {}
        self._old: set[str] = set()  # allocations
        self._either: set[str] = set()  # allocations of which it can't be said

    def before(self, state: State, command: CollectGarbage) -> None:
        """Note what is there, and what of it must go."""
        self._there = _ids(state)
        self._either = set()
        self._old = _ended_before(state, command.evaluation_before_us)
        whole = {record.uid for record in state.jobs if self._goes_whole(state, record, command)}
        gone = [one for one in self._ledger.known.values() if self._may_go(state, one, whole)]
        before_ns = command.evaluation_before_us * 1000
        ids = {one.alloc.id for one in gone} & self._old
        left = [one.alloc for one in self._ledger.known.values() if one.alloc.id not in ids]
        evals = {
            one.id
            for one in state.evals.values()
            if one.status not in _OPEN and one.modify_time_ns <= before_ns
        } - {alloc.eval_id for alloc in left}
        deployments = {
            one.id
            for one in state.deployments.values()
            if one.status in _ENDED and one.modify_time_ns <= command.deployment_before_us * 1000
        } - {alloc.deployment_id for alloc in left}
        for record in state.jobs:
            newest = state.deployments.latest_of_job(record.namespace, record.id)
            if newest is not None and not record.is_stopped:
                deployments -= {newest.id}
        busy = {(one.namespace, one.job_id) for one in state.evals.values() if one.id not in evals}
        uids = {
            one.job_uid for one in self._ledger.known.values() if one.alloc.id not in ids
        }  # with something left
        jobs = {
            record.uid
            for record in state.jobs
            if self._is_over(state, record, command)
            and record.uid not in uids
            and (record.namespace, record.id) not in busy
        }
        names = {(one.namespace, one.id) for one in state.jobs if one.uid in jobs}
        deployments |= {  # they go with their job
            one.id for one in state.deployments.values() if (one.namespace, one.job_id) in names
        }
        nodes = {
            node.id
            for node in state.nodes
            if node.status == NodeStatus.DOWN
            and node.status_updated_at * S <= command.node_before_us
        } - {alloc.node_id for alloc in left}
        self._due = {
            "allocation": ids, "evaluation": evals, "deployment": deployments,
            "job": jobs, "node": nodes,
        }  # fmt: skip

    def after(self, state: State) -> None:
        """Judge what is gone.

        Raises:
            Violation: It must not be, or more must be.
        """
        now = _ids(state)
        either = self._either  # what only they refer to is as doubtful
        allocs = [self._ledger.known[key].alloc for key in sorted(either)]
        doubts = {
            "allocation": either,
            "evaluation": {alloc.eval_id for alloc in allocs},
            "deployment": {alloc.deployment_id for alloc in allocs},
            "job": {self._ledger.known[key].job_uid for key in either},
            "node": {alloc.node_id for alloc in allocs},
        }
        for kind, due in self._due.items():
            gone = self._there[kind] - now[kind]
            self._situations[f"{kind} collected"] += len(gone)
            if early := sorted(gone - due - doubts[kind]):
                raise Violation("collected too early", f"{kind} {self._name(state, early[0])}")
            if not either and (late := sorted(due - gone)):
                raise Violation("not collected", f"{kind} {self._name(state, late[0])}")
        self._ledger.forget(self._there["allocation"] - now["allocation"])
        for group in [*self._ledger.collected]:
            if state.jobs.by_uid(group[0]) is None:
                del self._ledger.collected[group]

    def _name(self, state: State, key: str) -> str:
        known = self._ledger.known.get(key)
        record = state.jobs.by_uid(key)
        name = known.alloc.name if known is not None else record.id if record is not None else ""
        return f"{key} {name}"

    def _is_over(self, state: State, record: JobRecord, command: CollectGarbage) -> bool:
        """Whether a job is dead for long enough, if nothing of it is left."""
        is_ended = bool(record.job.stop) or record.job.type in _ONCE
        is_old = record.modify_time_us <= command.job_before_us
        has_children = bool(state.jobs.children_of(record.namespace, record.id))
        return record.status == "dead" and is_ended and is_old and not has_children

    def _goes_whole(self, state: State, record: JobRecord, command: CollectGarbage) -> bool:
        before_ns = command.evaluation_before_us * 1000
        mine = [one for one in self._ledger.known.values() if one.job_uid == record.uid]
        evals = [one for one in state.evals.values() if one.job_id == record.id]
        return (
            self._is_over(state, record, command)
            and all(not one.holds and one.alloc.id in self._old for one in mine)
            and all(one.status not in _OPEN and one.modify_time_ns <= before_ns for one in evals)
        )

    def _may_go(self, state: State, known: Known, whole: set[str]) -> bool:
        if known.holds:
            return False
        record = state.jobs.by_uid(known.job_uid)
        if record is None or record.is_stopped or known.job_uid in whole:
            return True
        mine = self._ledger.by_group[known.job_uid, known.alloc.task_group].values()
        alike = [one for one in mine if one.alloc.index == known.alloc.index and one is not known]
        newest = max((one.created for one in alike), default=0)
        wanted = max((one.created for one in alike if one.alloc.desired_status == "run"), default=0)
        is_wanted = known.alloc.desired_status == "run"
        is_kept = is_wanted and known.created > wanted
        is_kept |= record.job.type in _ONCE and known.created > newest
        if known.created == (wanted if is_wanted else newest):
            self._either.add(known.alloc.id)  # a canary, and what replaced its index's old one
        return not is_kept


def _ids(state: State) -> dict[str, set[str]]:
    allocs = state.allocs
    return {
        "allocation": {allocs.id_of(row) for row in allocs.rows().tolist()},
        "evaluation": {one.id for one in state.evals.values()},
        "deployment": {one.id for one in state.deployments.values()},
        "job": {record.uid for record in state.jobs},
        "node": {node.id for node in state.nodes},
    }


def _ended_before(state: State, before_us: int) -> set[str]:
    """Return the allocations that nobody touched since; a successor touches its predecessor."""
    allocs = (state.allocs.allocation(row) for row in state.allocs.rows().tolist())
    return {alloc.id for alloc in allocs if alloc.modify_time_ns <= before_us * 1000}


def judged(commands: list[Any]) -> CollectGarbage | None:
    """Return the collection among an entry's commands."""
    return next((one for one in commands if isinstance(one, CollectGarbage)), None)
