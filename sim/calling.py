"""The `call` blocks of a scenario: what operators ask of the API, in so many words.

    call "Job.Dispatch" {
      at   = "2m"
      job  = "mail"
      body = jsonencode({ Meta = { to = "me" } })
    }

The methods and their parameters are those of core.server.endpoints. Ids that nobody knows
before a run are found when the time comes: of an allocation, an evaluation or a deployment of
`job`, of the node that `node` means. What is refused is counted as denied; it is no user's loss.
"""

import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from core.model.allocation import ClientStatus
from core.model.query import Query
from core.state.jobs import JobRecord
from core.state.state import State
from sim.agents import World
from sim.network import Place
from sim.plans import CallPlan, FaultPlan
from sim.targets import Targets
from sim.workload import Workload

_OF_ALLOCATIONS: Final = ("Alloc.", "Client.")


class Calls:
    """Makes the planned calls."""

    def __init__(self, world: World, workload: Workload, rng: random.Random) -> None:
        self._world, self._workload, self._rng = world, workload, rng
        self._targets = Targets(world, rng)
        self._made = 0

    def plan(self, calls: list[CallPlan], end_us: int) -> None:
        """Schedule them; what comes again and again comes until `end_us`."""
        for call in calls:
            self._world.wheel.at(call.at_us, self._make, (call, end_us))

    def _make(self, what: tuple[CallPlan, int]) -> None:
        call, end_us = what
        now_us = self._world.wheel.now_us
        if call.every_us and now_us + call.every_us < end_us:
            self._world.wheel.after(call.every_us, self._make, what)
        self._made += 1
        self._world.trace.note(now_us, f"call {call.method}")
        params = self._params(call)
        if params is None:
            self._workload.denied[f"{call.method} {self._made}"] = "there is nothing of that kind"
            return
        query = Query(
            method=call.method,
            params=params,
            body=msgspec.json.decode(call.body) if call.body else None,
            region=call.region,
            datacenter=call.datacenter,
            namespace=call.namespace,
            call_id=f"sim-call-{self._made}",
        )
        place = Place(call.region, call.datacenter, f"{call.region}/{call.datacenter}")
        self._workload.ask_as_operator(f"{call.method} {self._made}", place, query)

    def _params(self, call: CallPlan) -> dict[str, Any] | None:
        """Return the parameters, with the ids that were asked for; None: there are none."""
        params: dict[str, Any] = dict(call.params)
        if call.node:
            found = self._targets.choose(FaultPlan(kind="call", at_us=0, target=call.node))
            ids = [*self._nodes({agent.name for agent in found})]
            if not ids:
                return None
            params["node_id"] = ids[0]
        if call.job:
            params["job_id"] = call.job
            kind = _kind_of(call.method)
            ids = [*self._ids(call, kind)] if kind else []
            if kind and not ids:
                return None
            if kind:
                params[kind] = self._rng.choice(ids)
        return params

    def _nodes(self, names: set[str]) -> Iterator[str]:
        """Yield the ids of nodes as the states know them: they may be down, or gone."""
        for server in self._world.servers:
            if server.is_leader and server.state is not None:
                yield from (node.id for node in server.state.nodes if node.name in names)

    def _ids(self, call: CallPlan, kind: str) -> Iterator[str]:
        for state, record in self._records(call):
            if kind == "alloc_id":
                for row in state.allocs.rows_of_job(record.ordinal).tolist():
                    if state.allocs.columns.client[row] == ClientStatus.RUNNING:
                        yield state.allocs.id_of(row)
            elif kind == "deployment_id":
                found = [one for one in state.deployments.values() if one.job_id == call.job]
                if found:  # the newest is the one that an operator means
                    yield max(found, key=lambda one: one.create_index).id
            else:
                yield from (e.id for e in state.evals.values() if e.job_id == call.job)

    def _records(self, call: CallPlan) -> Iterator[tuple[State, JobRecord]]:
        """Yield the job wherever a leader of the region has it."""
        for server in self._world.servers:
            if server.is_leader and server.state is not None and server.place.region == call.region:
                record = server.state.jobs.get(call.namespace, call.job)
                if record is not None:
                    yield server.state, record


def _kind_of(method: str) -> str:
    """Return which id a method takes that only the state knows, "" = none."""
    if method.startswith(_OF_ALLOCATIONS) and method not in ("Alloc.List", "Client.Stats"):
        return "alloc_id"
    if method.startswith("Deployment.") and method != "Deployment.List":
        return "deployment_id"
    if method in ("Eval.Get", "Eval.Allocations"):
        return "eval_id"
    return ""
