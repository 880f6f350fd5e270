"""Node.* of the API (those of clients are in core.server.nodes)."""

from typing import Any

from core.model.evaluation import EvalTrigger, Evaluation
from core.model.node import DrainStrategy, Eligibility, Node
from core.model.query import Answer
from core.server import evaluations, lookups, views
from core.server.endpoints.shared import checked
from core.server.listing import check_prefix, listed
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import (
    PurgeNode,
    SetNodeDrain,
    SetNodeEligibility,
    UpsertEvaluations,
)
from core.state.result import Applied


def node_list(request: Request) -> Answer:
    check_prefix(request.text("prefix"))
    return listed_nodes(request, [*request.state.nodes])


def listed_nodes(request: Request, nodes: list[Node]) -> Answer:
    has_resources, has_os = request.flag("resources"), request.flag("os")
    return listed(
        request,
        nodes,
        key=lambda node: node.id,
        show=lambda node: views.node_stub(node, has_resources=has_resources, has_os=has_os),
        filtered_as=views.node_view,
        index=request.state.table_index("nodes"),
    )


def node_get(request: Request) -> Answer:
    node = _node(request)
    return Answer(body=views.node_view(node), index=node.modify_index)


def node_allocations(request: Request) -> Answer:
    node = _node(request)
    state = request.state
    rows = lookups.rows_of_node(state, node.id)
    ordinal = state.nodes.ordinal_of(node.id)
    index = state.nodes.allocs_index(ordinal) if ordinal is not None else 0
    found = [state.allocs.allocation(int(row)) for row in rows]
    return Answer(body=[views.alloc_view(alloc) for alloc in found], index=max(index, 1))


def node_eligibility(request: Request) -> Proposal:
    node = _node(request)
    word = request.field("Eligibility", str, "")
    if word not in (Eligibility.ELIGIBLE, Eligibility.INELIGIBLE):
        raise QueryError(400, f"invalid scheduling eligibility {word!r}")
    if word == Eligibility.ELIGIBLE and node.drain_strategy is not None:
        raise QueryError(500, "can not set node's scheduling eligibility to eligible while it is"
                              " draining")  # fmt: skip
    due: list[Evaluation] = []
    if word == Eligibility.ELIGIBLE and node.scheduling_eligibility != Eligibility.ELIGIBLE:
        due = evaluations.for_node(request.server, node.id, EvalTrigger.NODE_UPDATE)
    command = SetNodeEligibility(node_id=node.id, eligibility=word, evaluations=due)
    return Proposal([command], _changed(node.id, due))


def node_drain(request: Request) -> Proposal:
    """Begin or end a drain; core.server.draining empties the node at its jobs' pace."""
    node = _node(request)
    spec: dict[str, Any] = request.field("DrainSpec", dict, {})
    mark_eligible = request.field("MarkEligible", bool, False)
    server = request.server
    if not spec:
        due = evaluations.for_node(server, node.id, EvalTrigger.NODE_UPDATE)
        command = SetNodeDrain(
            node_id=node.id, drain=None, mark_eligible=mark_eligible, evaluations=due
        )
        return Proposal([command], _changed(node.id, due))
    deadline_ns = spec.get("Deadline") or 0
    if not isinstance(deadline_ns, int) or isinstance(deadline_ns, bool):
        raise QueryError(400, "DrainSpec.Deadline must be an integer, nanoseconds")
    ignores_system = bool(spec.get("IgnoreSystemJobs"))
    drain = DrainStrategy(deadline_ns=deadline_ns, ignore_system_jobs=ignores_system)
    due = evaluations.for_node(server, node.id, EvalTrigger.NODE_DRAIN)
    command = SetNodeDrain(node_id=node.id, drain=drain, evaluations=due)
    return Proposal([command], _changed(node.id, due))


def node_purge(request: Request) -> Proposal:
    node = _node(request)
    due = evaluations.for_node(request.server, node.id, EvalTrigger.NODE_UPDATE)
    return Proposal([PurgeNode(node_id=node.id, evaluations=due)], _changed(node.id, due))


def node_evaluate(request: Request) -> Proposal:
    node = _node(request)
    due = evaluations.for_node(request.server, node.id, EvalTrigger.NODE_UPDATE)
    return Proposal([UpsertEvaluations(evaluations=due)], _changed(node.id, due))


def _changed(node_id: str, due: list[Evaluation]) -> Any:
    del node_id

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "NodeModifyIndex": applied.index,
            "EvalIDs": [evaluation.id for evaluation in due] or None,
            "EvalCreateIndex": applied.index if due else 0,
            "HeartbeatTTL": 0,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return answer


def _node(request: Request) -> Node:
    """Return the node that `node_id` names, in full or by a unique prefix.

    Raises:
        QueryError: 404, or 400 when the prefix fits several.
    """
    wanted = request.required("node_id")
    nodes = request.state.nodes
    node = nodes.get(wanted)
    if node is None:
        found = nodes.ids_with_prefix(wanted) if len(wanted) > 1 else []
        node = nodes.get(lookups.unique_id(found, wanted, "node"))
    assert node is not None
    return node


def watch_nodes(request: Request) -> tuple[str, ...]:
    return ("nodes",)


def _watch_node(request: Request) -> tuple[str, ...]:
    wanted = request.text("node_id")
    if request.state.nodes.get(wanted) is not None:
        return (f"nodes:{wanted}",)
    return ("nodes",)  # a prefix, or not there yet


def _watch_node_allocs(request: Request) -> tuple[str, ...]:
    return (f"node-allocs:{_node(request).id}",)


ENDPOINTS = {
    "Node.List": Endpoint(Kind.READ, node_list, watches=watch_nodes),
    "Node.Get": Endpoint(Kind.READ, node_get, watches=_watch_node),
    "Node.AllocationsOf": Endpoint(Kind.READ, node_allocations, watches=_watch_node_allocs),
    "Node.Eligibility": Endpoint(Kind.WRITE, node_eligibility),
    "Node.Drain": Endpoint(Kind.WRITE, node_drain),
    "Node.Purge": Endpoint(Kind.WRITE, node_purge),
    "Node.Evaluate": Endpoint(Kind.WRITE, node_evaluate),
}
