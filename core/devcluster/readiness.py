"""Whether a federation is ready: each datacenter has a leader and its clients, knows all
regions, and has heard what every other datacenter has free. Asked of the agents' own APIs,
as a user would."""

from dataclasses import dataclass
from typing import Any, Final

import httpx

from core.devcluster.layout import AgentSpec, Plan

_TIMEOUT_S = 1.0
_PROBE: Final = {
    "ID": "serai-dev-probe",
    "Name": "serai-dev-probe",
    "Region": "*",
    "Type": "batch",
    "TaskGroups": [
        {
            "Name": "probe",
            "Tasks": [{"Name": "probe", "Driver": "raw_exec", "Config": {"command": "true"}}],
        }
    ],
}


@dataclass(frozen=True)
class PlaceState:
    """One datacenter. `leader` is an RPC address, "" for none."""

    place: str
    leader: str
    ready_clients: int
    known_regions: int
    known_places: int | None  # datacenters it knows the free capacity of; None = not asked

    def lacks(self, plan: Plan) -> str:
        """Return what is still missing, "" when it is ready."""
        clients = len(plan.clients_of(self.place))
        if not self.leader:
            return f"{self.place} has no leader"
        if self.ready_clients < clients:
            return f"{self.place}: {self.ready_clients} of {clients} clients are ready"
        if self.known_regions < len(plan.regions):
            return f"{self.place} knows {self.known_regions} of {len(plan.regions)} regions"
        if self.known_places is not None and self.known_places < len(plan.places):
            return (
                f"{self.place} has heard from {self.known_places} of "
                f"{len(plan.places)} datacenters what they have free"
            )
        return ""


async def look_at(client: httpx.AsyncClient, plan: Plan, place: str) -> PlaceState:
    """Ask the first server of a datacenter that answers."""
    for server in plan.servers_of(place):
        try:
            leader = await _get(client, f"{server.api}/v1/status/leader", server.datacenter)
            nodes = await _get(client, f"{server.api}/v1/nodes", "")
            regions = await _get(client, f"{server.api}/v1/regions", "")
            # Only a federation with room can answer this; one without clients need not.
            places = await _known_places(client, server) if plan.has_clients else None
        except (httpx.HTTPError, ValueError):
            continue
        ready = sum(
            node.get("Status") == "ready" and node.get("Datacenter") == server.datacenter
            for node in nodes or []
        )
        return PlaceState(place, str(leader or ""), ready, len(regions or []), places)
    return PlaceState(place, "", 0, 0, 0)


async def _known_places(client: httpx.AsyncClient, server: AgentSpec) -> int:
    """Return of how many datacenters a server knows what they have free.

    Planning a job for any region tells: the answer has a verdict of each known one.
    """
    url = f"{server.api}/v1/job/{_PROBE['ID']}/plan"
    response = await client.put(url, json={"Job": _PROBE}, timeout=_TIMEOUT_S)
    response.raise_for_status()
    verdicts = response.json().get("SeraiVerdicts") or []
    return len({(one.get("Region"), one.get("Datacenter")) for one in verdicts})


async def _get(client: httpx.AsyncClient, url: str, datacenter: str) -> Any:
    params = {"datacenter": datacenter} if datacenter else {}
    response = await client.get(url, params=params, timeout=_TIMEOUT_S)
    response.raise_for_status()
    return response.json()
