"""Registering nodes and changing what may run on them."""

from typing import TYPE_CHECKING, Any

import msgspec

from core.model.evaluation import Evaluation
from core.model.instant import rfc3339_of_ns
from core.model.node import Eligibility, Node, NodeEvent, NodeStatus
from core.state.allocs import HELD
from core.state.commands import (
    PurgeNode,
    RegisterNode,
    SetNodeDrain,
    SetNodeEligibility,
    SetNodeStatus,
)
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation
from core.state.services import remove_service

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

EVENTS_KEPT = 10
_NOT_FOUND = "node not found"


def register_node(state: "State", command: RegisterNode, context: "Context") -> CommandResult:
    """Create a node or take over what its client says of itself.

    What operators decided (eligibility, drain) and its history stay. A client that
    comes with another secret for a known id is refused: ids can't be taken over.
    `value`: {Ordinal, IsNew}.
    """
    node = command.node
    old = state.nodes.get(node.id)
    if old is not None and old.secret_id and old.secret_id != node.secret_id:
        return CommandResult(error="node secret ID does not match", status=403)
    if old is None:
        events = [_event("Node registered", context)]
        node = msgspec.structs.replace(node, events=events, create_index=context.index)
    else:
        events = old.events or []
        if old.status == NodeStatus.DOWN and node.status != NodeStatus.DOWN:
            events = _with_event(old, "Node re-registered", context)
        node = msgspec.structs.replace(
            node,
            events=events,
            create_index=old.create_index,
            drain_strategy=old.drain_strategy,
            scheduling_eligibility=old.scheduling_eligibility,
        )
    node = msgspec.structs.replace(
        node,
        modify_index=context.index,
        status_updated_at=context.time_us // 1_000_000,
    )
    ordinal = state.nodes.put(node)
    context.changed("nodes", "NodeRegistration", node.id)
    return CommandResult(value={"Ordinal": ordinal, "IsNew": old is None})


def set_node_status(state: "State", command: SetNodeStatus, context: "Context") -> CommandResult:
    """Record ready, down or disconnected; what that means for its work the planner says."""
    old = state.nodes.get(command.node_id)
    if old is None:
        return CommandResult(error=_NOT_FOUND, status=404)
    if command.status not in set(NodeStatus):
        return CommandResult(error=f"invalid node status {command.status!r}", status=400)
    changes: dict[str, Any] = {
        "status": NodeStatus(command.status),
        "status_description": command.description,
        "status_updated_at": context.time_us // 1_000_000,
    }
    if command.status == NodeStatus.DOWN:
        for registration in state.services.of_node(old.id):
            remove_service(state, registration.id, context)
    if command.description:
        changes["events"] = _with_event(old, command.description, context)
    _replace(state, old, "NodeEvent", context, command.evaluations, **changes)
    return CommandResult()


def set_node_eligibility(
    state: "State", command: SetNodeEligibility, context: "Context"
) -> CommandResult:
    old = state.nodes.get(command.node_id)
    if old is None:
        return CommandResult(error=_NOT_FOUND, status=404)
    if command.eligibility not in set(Eligibility):
        return CommandResult(
            error=f"invalid scheduling eligibility {command.eligibility!r}", status=400
        )
    eligibility = Eligibility(command.eligibility)
    if old.drain_strategy is not None and eligibility == Eligibility.ELIGIBLE:
        return CommandResult(
            error="can not set node's scheduling eligibility to eligible while it is draining",
            status=400,
        )
    _replace(
        state,
        old,
        "NodeEligibility",
        context,
        command.evaluations,
        scheduling_eligibility=eligibility,
        events=_with_event(old, f"Node marked as {eligibility.value} for scheduling", context),
    )
    return CommandResult()


def set_node_drain(state: "State", command: SetNodeDrain, context: "Context") -> CommandResult:
    """Begin or end a drain. Ending leaves the node ineligible unless `mark_eligible`."""
    old = state.nodes.get(command.node_id)
    if old is None:
        return CommandResult(error=_NOT_FOUND, status=404)
    eligibility = old.scheduling_eligibility
    drain = command.drain
    if drain is not None:
        now = rfc3339_of_ns(context.time_ns)
        if old.drain_strategy is not None:
            now = old.drain_strategy.started_at
        force = drain.force_deadline
        if drain.deadline_ns > 0:
            force = rfc3339_of_ns(context.time_ns + drain.deadline_ns)
        drain = msgspec.structs.replace(drain, started_at=now, force_deadline=force)
        eligibility = Eligibility.INELIGIBLE
        text = "Node drain strategy set"
    else:
        if command.mark_eligible:
            eligibility = Eligibility.ELIGIBLE
        text = "Node drain complete" if old.drain_strategy else "Node drain strategy unset"
    _replace(
        state,
        old,
        "NodeDrain",
        context,
        command.evaluations,
        drain_strategy=drain,
        scheduling_eligibility=eligibility,
        events=_with_event(old, text, context),
    )
    return CommandResult()


def purge_node(state: "State", command: PurgeNode, context: "Context") -> CommandResult:
    """Forget a node. Its allocations stay until the planner has given them up as lost."""
    if state.nodes.ordinal_of(command.node_id) is None:
        return CommandResult(error=_NOT_FOUND, status=404)
    state.nodes.purge(command.node_id)
    for registration in state.services.of_node(command.node_id):
        remove_service(state, registration.id, context)
    context.changed("nodes", "NodeDeregistration", command.node_id)
    _put_all(state, command.evaluations, context)
    return CommandResult()


def has_work(state: "State", ordinal: int) -> bool:
    """Return whether an allocation on the node is not ended."""
    rows = state.allocs.rows_of_node(ordinal)
    return bool(HELD[state.allocs.columns.client[rows]].any())


def _replace(
    state: "State",
    old: Node,
    type_: str,
    context: "Context",
    evaluations: list[Evaluation],
    **changes: Any,
) -> None:
    state.nodes.put(msgspec.structs.replace(old, modify_index=context.index, **changes))
    context.changed("nodes", type_, old.id)
    _put_all(state, evaluations, context)


def _put_all(state: "State", evaluations: list[Evaluation], context: "Context") -> None:
    for evaluation in evaluations:
        put_evaluation(state, evaluation, context)


def _event(message: str, context: "Context", subsystem: str = "Cluster") -> NodeEvent:
    return NodeEvent(
        message=message,
        subsystem=subsystem,
        timestamp=rfc3339_of_ns(context.time_ns),
        create_index=context.index,
    )


def _with_event(node: Node, message: str, context: "Context") -> list[NodeEvent]:
    subsystem = "Drain" if "drain" in message else "Cluster"
    return [*(node.events or []), _event(message, context, subsystem)][-EVENTS_KEPT:]
