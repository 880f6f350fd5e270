"""A state without secrets: what decides where and whether work runs stays, the rest goes.

A snapshot holds all that was ever submitted: environment, templates, tokens, the text of job
files. `strip` takes that out of a restored state, in place, wherever a record has a job, a node
or the answer to a call in it: the datacenter's own jobs, backups of others', jobs on their way.
What is left is as good for a simulation (sim.live.jobs), and may be handed around.
"""

import hashlib
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.model.job import Job
from core.model.node import Node
from core.state.access import CallAnswer
from core.state.alloc_columns import AllocExtras
from core.state.commands import RegisterJob
from core.state.jobs import JobRecord
from core.state.operating import AUTOPILOT
from core.state.result import CommandResult
from core.state.state import State
from core.state.table import Table
from sim.live.inventory import References
from sim.live.jobs import Note, essence, references

ENDS: Final = ("batch", "sysbatch")
# What essence() leaves out because a job submitted anew gets it anew.
_IDENTITY: Final = (
    "namespace", "id", "name", "parent_id", "stop", "dispatched", "parameterized_job",
    "multiregion", "status", "status_description", "stable", "version", "submit_time_ns",
    "create_index", "modify_index", "job_modify_index", "uid",
)  # fmt: skip
_EMPTIED: Final = ("tokens", "services", "scaling_events", "staged")
_POOL_KEYS: Final = ("Name", "SchedulerConfiguration", "CreateIndex", "ModifyIndex")


def strip(state: State, run_time: str = "", note: Note = lambda _: None) -> None:
    """Take out of a state what a simulation does not need; twice is as once.

    Args:
        state: A restored one that nobody else reads; it is changed.
        run_time: How long tasks of batch jobs run, as SIM_RUN_TIME takes it; "" = for ever.
        note: Is told what was left out that makes a difference.
    """
    asked = references(record.job for record in state.jobs)
    scrub = _Scrub(run_time, asked, note)
    for part in state._parts():
        if not isinstance(part, Table):
            continue
        if part.name in (getattr(state, name).name for name in _EMPTIED):
            _keep(part, lambda _: False)
        else:
            for key, record in [*part.items()]:
                part.put(key, scrub(record))
    _keep(state.operator, lambda key: key == AUTOPILOT)
    for name, pool in [*state.pools.items()]:
        state.pools.put(name, {key: pool[key] for key in _POOL_KEYS if key in pool})
    _strip_allocations(state)


def _keep(table: Table[Any, Any], is_kept: Callable[[Any], bool]) -> None:
    for key in [key for key in table if not is_kept(key)]:
        table.delete(key)


def _strip_allocations(state: State) -> None:
    """Take what clients said in words out of the allocations, and addresses of real networks."""
    allocs = state.allocs
    columns = allocs.columns
    for row in allocs.rows().tolist():
        extras = allocs.extras.get(row)
        if extras is not None and extras.network_status is not None:
            kept: AllocExtras = msgspec.structs.replace(extras, network_status=None)
            allocs.extras.put(row, kept)
        shape = int(columns.task_shape[row])
        states = allocs.states.get(row, shape)
        if states is not None:
            for one in states.values():
                one.events = None
            columns.task_shape[row] = allocs.states.put(row, shape, states)
        text = int(columns.client_text[row])
        if text >= 0:
            allocs.texts.drop(text, 1)
            columns.client_text[row] = -1


class _Scrub:
    """Walks through records; what it does not know stays as it is."""

    def __init__(self, run_time: str, asked: References, note: Note) -> None:
        self._run_time, self._asked, self._note = run_time, asked, note

    def __call__(self, value: Any) -> Any:
        special = _SPECIAL.get(type(value))
        if special is not None:
            return special(self, value)
        if isinstance(value, msgspec.Struct):
            return self._fields(value)
        if isinstance(value, dict):
            return {key: self(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self(one) for one in value)
        return value

    def _fields(self, record: msgspec.Struct, **instead: Any) -> Any:
        changed = dict(instead)
        for name in record.__struct_fields__:
            if name not in changed:
                old = getattr(record, name)
                new = self(old)
                if new is not old:
                    changed[name] = new
        return msgspec.structs.replace(record, **changed) if changed else record

    def _job(self, job: Job) -> Job:
        kept = essence(job, job.region or "", {}, self._note)
        same = {name: getattr(job, name) for name in _IDENTITY}
        kept = msgspec.structs.replace(kept, region=job.region, datacenters=job.datacenters, **same)
        if job.multiregion is not None:
            kept.multiregion = _without_meta(job.multiregion)
        if self._run_time and (job.type or "service") in ENDS:
            for group in kept.task_groups or []:
                for task in group.tasks or []:
                    task.env = {"SIM_RUN_TIME": self._run_time}
        return kept

    def _job_record(self, record: JobRecord) -> Any:
        return self._fields(record, sources={})

    def _register(self, command: RegisterJob) -> Any:
        return self._fields(command, submission=None)

    def _node(self, node: Node) -> Node:
        """Keep what a job can tell of it; its secret becomes one that anybody can work out."""
        return msgspec.structs.replace(
            node,
            secret_id=secret_of(node.id),
            attributes=_those(node.attributes, self._asked.attributes),
            meta=_those(node.meta, self._asked.meta),
            events=None,
            links=None,
            host_volumes=None,
        )

    def _call(self, answer: CallAnswer) -> CallAnswer:
        results = [CommandResult(error=one.error, status=one.status) for one in answer.results]
        return msgspec.structs.replace(answer, results=results)


_SPECIAL: Final[dict[type, Callable[[_Scrub, Any], Any]]] = {
    Job: _Scrub._job,
    JobRecord: _Scrub._job_record,
    RegisterJob: _Scrub._register,
    Node: _Scrub._node,
    CallAnswer: _Scrub._call,
}


def _without_meta(said: dict[str, Any]) -> dict[str, Any]:
    regions = [
        {key: value for key, value in one.items() if key != "Meta"}
        for one in said.get("Regions") or []
    ]
    return {**said, "Regions": regions}


def secret_of(node_id: str) -> str:
    """Return the secret of a simulated node."""
    return str(uuid.UUID(bytes=hashlib.sha256(node_id.encode()).digest()[:16]))


def _those(found: dict[str, str] | None, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in (found or {}).items() if name in names}
