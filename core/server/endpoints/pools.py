"""NodePool.*: names for groups of nodes. A pool that a node names exists without being made."""

from typing import Any

from core.model.query import Answer
from core.server import views
from core.server.endpoints.nodes import listed_nodes, watch_nodes
from core.server.endpoints.shared import on_namespace, only_index
from core.server.listing import listed, plain
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import DeleteNodePool, UpsertNodePool
from core.state.pools import BUILT_IN, pool_names


def _pools(request: Request) -> dict[str, dict[str, Any]]:
    state = request.state
    return {name: state.pools.get(name) or _unmade(name) for name in sorted(pool_names(state))}


def _unmade(name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Description": BUILT_IN.get(name, ""),
        "Meta": None,
        "NodeIdentityTTL": 0,
        "SchedulerConfiguration": None,
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }


def _index(request: Request) -> int:
    return max(request.state.table_index("nodes"), request.state.table_index("node_pools"))


def pool_list(request: Request) -> Answer:
    return listed(
        request,
        _pools(request).values(),
        key=lambda pool: str(pool["Name"]),
        show=lambda pool: pool,
        index=_index(request),
    )


def pool_get(request: Request) -> Answer:
    pool = _pools(request).get(request.required("name"))
    if pool is None:
        raise QueryError(404, "node pool not found")
    return Answer(body=pool, index=_index(request))


def pool_nodes(request: Request) -> Answer:
    pool_get(request)
    name = request.required("name")
    chosen = [node for node in request.state.nodes if name in ("all", node.node_pool)]
    return listed_nodes(request, chosen)


def pool_jobs(request: Request) -> Answer:
    pool_get(request)
    name = request.required("name")
    state = request.state
    return listed(
        request,
        [
            record
            for record in state.jobs
            if (record.job.node_pool or "default") == name
            and on_namespace(request, record.namespace)
        ],
        key=lambda record: f"{record.namespace}.{record.id}",
        show=lambda record: views.job_stub(
            record.job, state.jobs.summary(record), has_meta=request.flag("meta")
        ),
        prefix_of=lambda record: record.id,
        filtered_as=lambda record: plain(record.job),
        index=state.table_index("jobs"),
    )


def pool_upsert(request: Request) -> Proposal:
    pool = request.body()
    name = request.text("name")
    if name and pool.get("Name") not in (None, "", name):
        raise QueryError(400, f"the body is of pool {pool['Name']!r}, the path says {name!r}")
    meta = pool.get("Meta")
    if meta is not None and not isinstance(meta, dict):
        raise QueryError(400, "Meta must be an object")
    return Proposal([UpsertNodePool(pool={**pool, "Name": pool.get("Name") or name})], only_index)


def pool_delete(request: Request) -> Proposal:
    return Proposal([DeleteNodePool(name=request.required("name"))], only_index)


def _watch(request: Request) -> tuple[str, ...]:
    return (*watch_nodes(request), "node_pools")


ENDPOINTS = {
    "NodePool.List": Endpoint(Kind.READ, pool_list, watches=_watch),
    "NodePool.Get": Endpoint(Kind.READ, pool_get, watches=_watch),
    "NodePool.Nodes": Endpoint(Kind.READ, pool_nodes, watches=watch_nodes),
    "NodePool.Jobs": Endpoint(Kind.READ, pool_jobs, watches=lambda request: ("jobs",)),
    "NodePool.Upsert": Endpoint(Kind.WRITE, pool_upsert),
    "NodePool.Delete": Endpoint(Kind.WRITE, pool_delete),
}
