"""The calls of clients: register, learn of allocations, report.

Any server takes them; all but `Node.Hello` are carried to the leader, for a call renews
the node there. Each names the node and its secret; a wrong one is refused. Reports are
gathered for `update_gather_us` and committed as one entry, together with the evaluations
they cause; a report is answered once it is committed, so a client may forget it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.seal import is_sealed, sealed_text
from core.model.allocation import ClientStatus
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.host import CallDone
from core.model.ids import datacenter_of
from core.model.node import Node, NodeStatus
from core.model.query import Answer
from core.model.service import ServiceRegistration
from core.server import evaluations, lookups
from core.server.proposal import Outcome
from core.state.commands import (
    AllocUpdate,
    PutServices,
    RegisterNode,
    UpdateAllocations,
    UpsertEvaluations,
)
from core.state.operating import REPLACED
from core.state.packed_reports import packed

if TYPE_CHECKING:
    from core.server.context import Server

Reply = Callable[[Any, str], None]  # body, error text

HELLO: Final = "Node.Hello"
# A longer report is several entries: applying one must not keep the loop from Raft.
_ENTRY_UPDATES: Final = 1_024
_SEALED_US: Final = 1_000_000  # so often a client asks a sealed datacenter again
_NOT_READY: Final = "this datacenter has no leader yet: try again shortly"


# Of ClientStatus.is_terminal, as plain numbers: asked for each of many updates.
_FIRST_ENDED: Final = int(ClientStatus.COMPLETE)
_LAST_ENDED: Final = int(ClientStatus.LOST)


class _Named(msgspec.Struct):
    node_id: str
    secret_id: str = ""


class _Register(msgspec.Struct):
    node: Node


class _Allocations(_Named):
    min_index: int = 0
    wait_us: int = 60_000_000


class _Fetch(_Named):
    ids: list[str] = []


class _Update(_Named):
    updates: list[AllocUpdate] = []
    services: list[ServiceRegistration] = []
    removed_services: list[str] = []


# Long bodies that the host may decode into what is expected here, by method.
BODIES: Final = {
    method: msgspec.msgpack.Decoder(_Update) for method in ("Node.Update", "Node.Update@Leader")
}


class CallError(Exception):
    """The call is refused with this text."""


class NodeCalls:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._gathered: list[tuple[_Update, Reply]] = []
        self._gathered_updates = 0
        self._handlers: dict[str, Callable[[Any, Reply], None]] = {
            "Node.Register": self._register,
            "Node.Allocations": self._allocations,
            "Node.FetchAllocations": self._fetch,
            "Node.Update": self._update,
        }

    def on_call(self, method: str, body: Any, reply: Reply) -> bool:
        """Take a client's call; False when there is no such method."""
        if method == HELLO:
            reply(*self._hello())
            return True
        handler = self._handlers.get(method)
        if handler is None:
            return False
        if not self._server.consensus.is_serving:
            self._pass_on(method, body, reply)
            return True
        try:
            handler(body, reply)
        except CallError as error:
            reply(None, str(error))
        except msgspec.ValidationError as error:
            reply(None, f"{method}: the body is not valid: {error}")
        return True

    def _pass_on(self, method: str, body: Any, reply: Reply) -> None:
        consensus = self._server.consensus
        address = consensus.leader_address()
        if not address or consensus.is_leader:
            reply(None, _NOT_READY)
            return
        waits_us = body.get("wait_us", 0) if isinstance(body, dict) else 0
        timeout_us = self._server.config.limits.forward_timeout_us
        if isinstance(waits_us, int):
            timeout_us += (
                max(0, min(waits_us, self._server.config.limits.blocking_max_us)) * 17 // 16
            )

        def on_done(event: CallDone) -> None:
            reply(event.body, event.error)

        self._server.outbox.ask(address, f"{method}@Leader", body, timeout_us, on_done)

    def on_call_at_leader(self, method: str, body: Any, reply: Reply) -> bool:
        """Take a call that another server passed on: never pass it on again."""
        name = method.removesuffix("@Leader")
        if name == method or name not in self._handlers:
            return False
        if self._server.consensus.is_serving:
            return self.on_call(name, body, reply)
        reply(None, _NOT_READY)
        return True

    # --- the calls --------------------------------------------------------------------

    def _hello(self) -> tuple[Any, str]:
        server = self._server
        if not server.datacenter_id:
            return None, _NOT_READY
        return {
            "datacenter_id": server.datacenter_id,
            "region": server.config.region,
            "datacenter": server.config.datacenter,
            "servers": self._servers(),
            "lan_members": server.membership.lan_addresses(),
        }, ""

    def _servers(self) -> list[str]:
        return [site.rpc for site in self._server.membership.own_servers() if site.is_alive]

    def _register(self, body: Any, reply: Reply) -> None:
        server = self._server
        node = msgspec.convert(body, _Register).node
        self._check_newcomer(node)
        known = server.state.nodes.get(node.id)
        node.status = NodeStatus.READY
        node.status_updated_at = server.now.wall_us // 1_000_000
        commands: list[Any] = [RegisterNode(node=node)]
        if known is None or known.status is not NodeStatus.READY:
            due = evaluations.for_node(server, node.id, EvalTrigger.NODE_UPDATE)
            if due:
                commands.append(UpsertEvaluations(evaluations=due))
        server.liveness.on_registered(node.id)
        server.consensus.propose(
            commands, lambda outcome: self._committed(outcome, reply, servers=self._servers())
        )

    def _check_newcomer(self, node: Node) -> None:
        """Refuse a record that cannot be of this datacenter.

        Raises:
            CallError: With what is wrong.
        """
        server = self._server
        if datacenter_of(node.id) != server.datacenter_id:
            raise CallError(
                f"node id {node.id!r} does not belong to this datacenter"
                f" ({server.datacenter_id}): ask Node.Hello and draw a new id"
            )
        if not node.secret_id:
            raise CallError("Node.Register: the node has no secret id")
        known = server.state.nodes.get(node.id)
        if known is not None and known.secret_id != node.secret_id:
            raise CallError("node secret ID does not match")
        labels = (server.config.datacenter, *server.config.serves)
        if node.datacenter not in labels:
            raise CallError(
                f"clients of datacenter {node.datacenter!r} are not served here, only of"
                f" {', '.join(labels)}: see server {{ serves }}"
            )

    def _allocations(self, body: Any, reply: Reply) -> None:
        call = msgspec.convert(body, _Allocations)
        node = self._known(call)
        self._server.liveness.on_renewed(node)

        def evaluate() -> Answer:
            state = self._server.state  # a snapshot may have replaced it meanwhile
            if is_sealed(state):
                return Answer(index=call.min_index)  # no list: what runs goes on running
            return lookups.allocs_to_run(state, call.node_id, call.min_index)

        def respond(answer: Answer) -> None:
            if answer.is_error:
                reply(None, answer.error)
            else:
                restored = self._server.state.table_index(REPLACED)
                body = {"index": answer.index, "allocs": answer.body, "restored": restored}
                reply(body, "")

        self._server.blocking.answer_or_park(
            evaluate,
            respond,
            min_index=call.min_index,
            wait_us=_SEALED_US if is_sealed(self._server.state) else call.wait_us,
            keys=(f"node-allocs:{call.node_id}",),
        )

    def _fetch(self, body: Any, reply: Reply) -> None:
        call = msgspec.convert(body, _Fetch)
        self._server.liveness.on_renewed(self._known(call))
        state = self._server.state
        if is_sealed(state):
            raise CallError(sealed_text(state))
        found = [state.allocs.get(alloc_id) for alloc_id in call.ids]
        allocs = [one for one in found if one and one.node_id == call.node_id]
        jobs = {}
        for one in allocs:  # records of their own, made whole for this answer
            if one.job is not None:
                jobs[one.namespace, one.job_id, one.job_version] = one.job
            one.job = one.metrics = None
        reply({"allocs": allocs, "jobs": list(jobs.values())}, "")

    def _update(self, body: Any, reply: Reply) -> None:
        call = msgspec.convert(body, _Update)
        self._server.liveness.on_renewed(self._known(call))
        if not self._gathered:
            self._server.outbox.after(
                self._server.config.limits.update_gather_us, self._commit_gathered
            )
        self._gathered.append((call, reply))
        self._gathered_updates += len(call.updates)
        if self._gathered_updates >= _ENTRY_UPDATES:
            self._commit_gathered()

    def _commit_gathered(self) -> None:
        gathered, self._gathered, self._gathered_updates = self._gathered, [], 0
        if not gathered:
            return
        updates = [update for call, _ in gathered for update in call.updates]
        commands: list[Any] = []
        if updates:
            due = self._evaluations_after(updates)
            left, columns = packed(updates)
            commands.append(UpdateAllocations(updates=left, evaluations=due, packed=columns))
        services = [service for call, _ in gathered for service in call.services]
        removed = [service_id for call, _ in gathered for service_id in call.removed_services]
        if services or removed:
            commands.append(PutServices(registrations=services, removed=removed))

        def on_outcome(outcome: Outcome) -> None:
            for _, reply in gathered:
                self._committed(outcome, reply)

        if commands:
            self._server.consensus.propose(commands, on_outcome)
        else:
            for _, reply in gathered:
                reply({"index": max(1, self._server.consensus.applied_index)}, "")

    def _evaluations_after(self, updates: list[AllocUpdate]) -> list[Evaluation]:
        """Return what must be looked at again: jobs of allocations that ended now, or are back.

        A finished allocation of a batch job needs nothing unless it failed; one of a
        service or system job was meant to run on. One that was unknown may have been
        replaced meanwhile.
        """
        server = self._server
        allocs = server.state.allocs
        has_unknown = allocs.has_unknown()  # seldom: then no row need be looked up
        due: dict[tuple[str, str], Evaluation] = {}
        for update in updates:
            is_back = False
            if has_unknown:
                row = allocs.row_of(update.alloc_id)
                is_back = row is not None and allocs.is_unknown(row)
            if not (is_back or _FIRST_ENDED <= update.client_status <= _LAST_ENDED):
                continue
            alloc = server.state.allocs.get(update.alloc_id)
            if alloc is None or alloc.client_status in ("complete", "failed", "lost"):
                continue
            record = server.state.jobs.get(alloc.namespace, alloc.job_id)
            if record is None or (alloc.namespace, alloc.job_id) in due:
                continue
            is_failed = update.client_status == ClientStatus.FAILED
            is_batch = record.job.type in ("batch", "sysbatch")
            if alloc.desired_status != "run" and record.is_stopped:
                continue
            if is_failed or is_back or not is_batch:
                trigger = EvalTrigger.RECONNECT if is_back else EvalTrigger.NODE_UPDATE
                trigger = EvalTrigger.RETRY_FAILED_ALLOC if is_failed else trigger
                due[alloc.namespace, alloc.job_id] = evaluations.for_job(server, record, trigger)
        return list(due.values())

    # --- small things -----------------------------------------------------------------

    def _known(self, call: _Named) -> Node:
        """Return the caller's node.

        Raises:
            CallError: No such node, or not its secret.
        """
        node = self._server.state.nodes.get(call.node_id)
        if node is None:
            raise CallError("node not found: register first")
        if node.secret_id != call.secret_id:
            raise CallError("node secret ID does not match")
        return node

    def _committed(self, outcome: Outcome, reply: Reply, **more: Any) -> None:
        if outcome.applied is None:
            reply(None, outcome.reason)
            return
        for result in outcome.applied.results:
            if result.is_error:
                reply(None, result.error)
                return
        reply({"index": outcome.applied.index, **more}, "")
