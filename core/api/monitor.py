"""`/v1/agent/monitor`: an agent's log as a stream, of this agent or of another.

`server_id` names a server by name, id or "leader", `node_id` a client by its node's id or a
unique prefix. Without `plain=true` the stream has Nomad's frames, as that of a file.
"""

import secrets
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from core.api.streams import HEARTBEAT
from core.model.query import Answer, Query


class Backend(Protocol):
    async def request(self, query: Query) -> Answer: ...

    async def read_log(
        self, key: str, level: str, *, as_json: bool, address: str
    ) -> tuple[bytes, str]: ...


async def log_of_agent(backend: Backend, query: Query) -> AsyncIterator[bytes | Answer]:
    """Yield the log from now on; the first item is an `Answer` when it can't be followed."""
    params = query.params
    # Whoever may see the agent's own configuration may see its log.
    allowed = await backend.request(Query(method="Agent.Self", token=query.token))
    if allowed.is_error and allowed.status in (401, 403):
        yield allowed
        return
    address = await _address(backend, query)
    if isinstance(address, Answer):
        yield address
        return
    key = secrets.token_hex(8)
    level = str(params.get("log_level") or "info")
    as_json = str(params.get("log_json", "")).lower() == "true"
    plain = str(params.get("plain", "")).lower() == "true"
    is_first = True
    while True:
        lines, error = await backend.read_log(key, level, as_json=as_json, address=address)
        if error:
            if is_first:
                yield Answer(status=400, error=error)
            return
        is_first = False
        if lines:
            yield lines if plain else msgspec.json.encode({"Data": lines})
        else:
            yield b"" if plain else HEARTBEAT


async def _address(backend: Backend, query: Query) -> str | Answer:
    """Return the RPC address of the agent whose log is wanted, "" for this one."""
    server_id = str(query.params.get("server_id") or "")
    node_id = str(query.params.get("node_id") or "")
    if server_id and node_id:
        return Answer(status=400, error="server_id and node_id exclude each other")
    if node_id:
        found = await backend.request(
            Query(method="Node.Get", params={"node_id": node_id}, token=query.token, stale=True)
        )
        if found.is_error:
            return found
        address = _rpc_of_node(found.body)
        return address or Answer(status=400, error=f"node {node_id} has no address")
    if not server_id:
        return ""
    if server_id == "leader":
        leader = await backend.request(Query(method="Status.Leader", region=query.region))
        return str(leader.body) or Answer(status=500, error="No cluster leader")
    members = await backend.request(Query(method="Agent.Members", token=query.token))
    for member in (members.body or {}).get("Members") or []:
        tags = member["Tags"]
        if server_id in (member["Name"], member["Name"].rpartition(".")[0], tags.get("id")):
            return str(tags.get("rpc") or f"{member['Addr']}:{tags.get('port', '')}")
    return Answer(status=404, error=f"no server {server_id!r}: serai server members lists them")


def _rpc_of_node(node: Any) -> str:
    if isinstance(node, dict):
        return str(node.get("SeraiRPCAddr") or "")
    return str(getattr(node, "rpc_addr", ""))
