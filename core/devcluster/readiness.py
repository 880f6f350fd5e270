"""Whether a federation is ready: each datacenter has a leader and its clients, and all
servers know all regions. Asked of the agents' own APIs, as a user would."""

from dataclasses import dataclass
from typing import Any

import httpx

from core.devcluster.layout import Plan

_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class PlaceState:
    """One datacenter. `leader` is an RPC address, "" for none."""

    place: str
    leader: str
    ready_clients: int
    known_regions: int

    def is_ready(self, plan: Plan) -> bool:
        return (
            bool(self.leader)
            and self.ready_clients >= len(plan.clients_of(self.place))
            and self.known_regions >= len(plan.regions)
        )


async def look_at(client: httpx.AsyncClient, plan: Plan, place: str) -> PlaceState:
    """Ask the first server of a datacenter that answers."""
    for server in plan.servers_of(place):
        try:
            leader = await _get(client, f"{server.api}/v1/status/leader", server.datacenter)
            nodes = await _get(client, f"{server.api}/v1/nodes", "")
            regions = await _get(client, f"{server.api}/v1/regions", "")
        except (httpx.HTTPError, ValueError):
            continue
        ready = sum(
            node.get("Status") == "ready" and node.get("Datacenter") == server.datacenter
            for node in nodes or []
        )
        return PlaceState(place, str(leader or ""), ready, len(regions or []))
    return PlaceState(place, "", 0, 0)


async def _get(client: httpx.AsyncClient, url: str, datacenter: str) -> Any:
    params = {"datacenter": datacenter} if datacenter else {}
    response = await client.get(url, params=params, timeout=_TIMEOUT_S)
    response.raise_for_status()
    return response.json()
