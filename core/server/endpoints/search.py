"""Search.*: ids by prefix, and names by a part of them."""

from collections.abc import Callable
from typing import Any

from core.model.query import Answer
from core.server.endpoints.shared import on_namespace
from core.server.request import Endpoint, Kind, QueryError, Request
from core.state.pools import pool_names

# Contexts that Nomad knows and that hold nothing here yet.
_EMPTY = (
    "plugins", "scaling_policy", "variables", "volumes", "host_volumes",
    "recommendations",
)  # fmt: skip


def _allocs(request: Request, prefix: str) -> list[str]:
    return request.state.allocs.ids_with_prefix(prefix)


def _deployments(request: Request, prefix: str) -> list[str]:
    return sorted(key for key in request.state.deployments if key.startswith(prefix))


def _evals(request: Request, prefix: str) -> list[str]:
    return sorted(key for key in request.state.evals if key.startswith(prefix))


def _jobs(request: Request, prefix: str) -> list[str]:
    found = request.state.jobs.ids_with_prefix(request.query.namespace, prefix)
    return [job_id for _, job_id in found]


def _nodes(request: Request, prefix: str) -> list[str]:
    return request.state.nodes.ids_with_prefix(prefix)


def _pools(request: Request, prefix: str) -> list[str]:
    return sorted(name for name in pool_names(request.state) if name.startswith(prefix))


def _quotas(request: Request, prefix: str) -> list[str]:
    return sorted(name for name in request.state.quotas if name.startswith(prefix))


def _namespaces(request: Request, prefix: str) -> list[str]:
    return [name for name in ("default",) if name.startswith(prefix)]


_CONTEXTS: dict[str, Callable[[Request, str], list[str]]] = {
    "allocs": _allocs,
    "deployment": _deployments,
    "evals": _evals,
    "jobs": _jobs,
    "nodes": _nodes,
    "node_pools": _pools,
    "namespaces": _namespaces,
    "quotas": _quotas,
}


def _index(request: Request) -> int:
    state = request.state
    tables = ("allocs", "deployment", "evals", "jobs", "nodes")
    return max(state.table_index(table) for table in tables)


def search_prefix(request: Request) -> Answer:
    prefix = request.field("Prefix", str, "")
    context = request.field("Context", str, "all") or "all"
    if context != "all" and context not in _CONTEXTS and context not in _EMPTY:
        raise QueryError(400, f"unknown search context {context!r}")
    limit = request.server.config.limits.search_results
    matches: dict[str, list[str]] = {}
    truncations: dict[str, bool] = {}
    for name, find in _CONTEXTS.items():
        if context in ("all", name):
            found = find(request, prefix)
            matches[name] = found[:limit]
            truncations[name] = len(found) > limit
    for name in _EMPTY:
        if context in ("all", name):
            matches[name], truncations[name] = [], False
    return Answer(body={"Matches": matches, "Truncations": truncations}, index=_index(request))


def search_fuzzy(request: Request) -> Answer:
    text = request.field("Text", str, "")
    context = request.field("Context", str, "all") or "all"
    if len(text) < 2:
        raise QueryError(400, f"fuzzy search query must be at least 2 characters, got {len(text)}")
    state, wanted = request.state, text.lower()
    found: dict[str, list[dict[str, Any]]] = {}

    def note(kind: str, name: str, scope: list[str]) -> None:
        if wanted in name.lower():
            found.setdefault(kind, []).append({"ID": name, "Scope": scope})

    for record in state.jobs:
        if not on_namespace(request, record.namespace):
            continue
        if context in ("all", "jobs"):
            note("jobs", record.job.name or record.id, [record.namespace, record.id])
            for group in record.job.task_groups or []:
                note("groups", group.name, [record.namespace, record.id])
                for task in group.tasks or []:
                    note("tasks", task.name, [record.namespace, record.id, group.name])
    if context in ("all", "nodes"):
        for node in state.nodes:
            note("nodes", node.name, [node.id])
    if context in ("all", "node_pools"):
        for name in _pools(request, ""):
            note("node_pools", name, [])
    limit = request.server.config.limits.search_results
    body = {
        "Matches": {kind: rows[:limit] for kind, rows in sorted(found.items())},
        "Truncations": {kind: len(rows) > limit for kind, rows in sorted(found.items())},
    }
    return Answer(body=body, index=_index(request))


ENDPOINTS = {
    "Search.Prefix": Endpoint(Kind.READ, search_prefix),
    "Search.Fuzzy": Endpoint(Kind.READ, search_fuzzy),
}
