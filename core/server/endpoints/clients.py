"""Client.*: what only the node knows that runs the allocation; carried there by a call.

alloc id -> node -> its RPC address -> `Client.ReadFile`, `Client.RestartTask`, ... A node
answers a refusal with the body {status, error}.
"""

from typing import Any, Final

from core.model.host import CallDone
from core.model.node import NodeStatus
from core.model.query import Answer
from core.server import lookups
from core.server.measures import count
from core.server.request import Deferred, Endpoint, Kind, QueryError, Request, Respond

_MAX_WAIT_US: Final = 60_000_000


def logs(request: Request) -> Deferred:
    return _read(request, "logs", task=request.text("task"), stream=request.text("type", "stdout"))


def fs_list(request: Request) -> Deferred:
    return _read(request, "ls")


def fs_stat(request: Request) -> Deferred:
    return _read(request, "stat")


def fs_cat(request: Request) -> Deferred:
    return _read(request, "cat")


def fs_read_at(request: Request) -> Deferred:
    return _read(request, "readat")


def _read(request: Request, operation: str, **more: Any) -> Deferred:
    alloc_id, address = _target(request)
    path = request.text("path", "/" if operation == "ls" else "")
    if operation in ("stat", "cat", "readat") and not path:
        raise QueryError(400, "must provide a file name")
    wait_us = min(max(0, request.number("wait_us", request.query.wait_us)), _MAX_WAIT_US)
    body = {
        "alloc_id": alloc_id,
        "operation": operation,
        "path": path,
        "origin": request.text("origin", "start") or "start",
        "offset": request.number("offset"),
        "limit": request.number("limit", 65_536),
        "wait_us": wait_us,
        "frame": request.text("frame"),
        **more,
    }
    return _asked(request, address, "Client.ReadFile", body, wait_us)


def restart(request: Request) -> Deferred:
    alloc_id, address = _target(request)
    body = {
        "alloc_id": alloc_id,
        "task": request.field("TaskName", str, ""),
        "all_tasks": request.field("AllTasks", bool, False),
    }
    return _asked(request, address, "Client.RestartTask", body, is_write=True)


def signal(request: Request) -> Deferred:
    alloc_id, address = _target(request)
    body = {
        "alloc_id": alloc_id,
        "task": request.field("Task", str, ""),
        "signal": request.field("Signal", str, "") or "SIGKILL",
    }
    return _asked(request, address, "Client.SignalTask", body, is_write=True)


def checks(request: Request) -> Deferred:
    alloc_id, address = _target(request)
    return _asked(request, address, "Client.Checks", {"alloc_id": alloc_id})


def alloc_stats(request: Request) -> Deferred:
    alloc_id, address = _target(request)
    body = {"alloc_id": alloc_id, "task": request.text("task")}
    return _asked(request, address, "Client.Stats", body)


def stats(request: Request) -> Deferred:
    """Usage of a machine; without a node id, of the node of the agent that was asked."""
    wanted = request.text("node_id")
    nodes = request.state.nodes
    if wanted:
        node = nodes.get(lookups.unique_id(nodes.ids_with_prefix(wanted), wanted, "node"))
    else:
        own = request.server.config.rpc_addr
        node = next((node for node in nodes if node.rpc_addr == own), None)
    if node is None:
        raise QueryError(400, "this agent is no client: name one with node_id")
    return _asked(request, node.rpc_addr, "Client.Stats", {})


def _target(request: Request) -> tuple[str, str]:
    """Return the allocation's full id and the RPC address of its node.

    Raises:
        QueryError: Unknown allocation, or a node that cannot be reached.
    """
    state = request.state
    row = lookups.alloc_row(state, request.required("alloc_id"))
    node = state.nodes.record(int(state.allocs.columns.node[row]))
    if node is None or not node.rpc_addr:
        raise QueryError(404, "the allocation's node is not known any more")
    if node.status is NodeStatus.DOWN:
        raise QueryError(500, f"node {node.name} is down: its allocations cannot be asked")
    return state.allocs.id_of(row), node.rpc_addr


def _asked(
    request: Request, address: str, method: str, body: Any, wait_us: int = 0, *,
    is_write: bool = False,
) -> Deferred:  # fmt: skip
    server = request.server

    def start(respond: Respond) -> None:
        count(server.measures.forwards, "node")

        def on_done(event: CallDone) -> None:
            index = max(1, server.consensus.applied_index)
            if not event.error:
                shown = {"Index": index} if is_write else event.body
                respond(Answer(body=shown, index=index))
                return
            refusal = event.body if isinstance(event.body, dict) else {}
            status = refusal.get("status")
            respond(
                Answer(
                    status=status if isinstance(status, int) and 400 <= status < 600 else 500,
                    error=str(refusal.get("error") or f"node at {address}: {event.error}"),
                )
            )

        timeout_us = wait_us + server.config.limits.forward_timeout_us
        server.outbox.ask(address, method, body, timeout_us, on_done)

    return Deferred(start)


ENDPOINTS = {
    "Client.Logs": Endpoint(Kind.CLIENT, logs),
    "Client.FS.List": Endpoint(Kind.CLIENT, fs_list),
    "Client.FS.Stat": Endpoint(Kind.CLIENT, fs_stat),
    "Client.FS.Cat": Endpoint(Kind.CLIENT, fs_cat),
    "Client.FS.ReadAt": Endpoint(Kind.CLIENT, fs_read_at),
    "Client.FS.Stream": Endpoint(Kind.CLIENT, fs_read_at),
    "Client.Restart": Endpoint(Kind.CLIENT, restart),
    "Client.Signal": Endpoint(Kind.CLIENT, signal),
    "Client.Checks": Endpoint(Kind.CLIENT, checks),
    "Client.AllocStats": Endpoint(Kind.CLIENT, alloc_stats),
    "Client.Stats": Endpoint(Kind.CLIENT, stats),
}
