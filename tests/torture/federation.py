"""Three regions as real processes: plain `serai agent`, three servers a datacenter, a client each.

    eu    dc1 and dc2        us    dc1        ap    dc1

Everything between agents goes through the relay, which cuts a region off. Tasks outlive an
agent that is killed; they become our children then, and are ended with the federation.
"""

import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from core.devcluster import orphans
from core.devcluster.layout import PerRegion, Plan
from core.devcluster.links import Links
from core.devcluster.processes import AgentProcess
from core.devcluster.relay import Relay
from core.devcluster.supervisor import free_plan
from tests.torture.cluster import ClusterError
from tests.torture.instances import Processes

REGIONS: Final = ("eu", "us", "ap")
SERVERS: Final = 3  # of each datacenter
SLOTS: Final = 5  # instances that a datacenter's client has room for
SLOT_MHZ: Final = 200
SLOT_MIB: Final = 32
_POLL_S: Final = 0.2
_STOP_GRACE_S: Final = 5.0
_TASK_GRACE_S: Final = 2.0
READY_LIMIT_S: Final = 180.0


class Federation:
    """Agents that run until the end of `open_federation`'s block."""

    def __init__(self, plan: Plan, folder: Path, report: Callable[[str], None]) -> None:
        self.plan = plan
        self.links = Links(agent.endpoint() for agent in plan.agents)
        self.agents = {one.name: AgentProcess(one, folder / one.name, "torture")
                       for one in plan.agents}  # fmt: skip
        self.http = httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(8.0, connect=2.0))
        self.processes = Processes(folder)
        self.last_error = ""  # what the newest answer said that tells nothing of the outcome
        self._report = report
        self._nursery: trio.Nursery | None = None

    @property
    def places(self) -> list[str]:
        return self.plan.places

    def servers_of(self, *places: str) -> list[AgentProcess]:
        return [a for a in self.agents.values() if a.spec.is_server and a.spec.place in places]

    def start(self, agents: Iterable[AgentProcess]) -> None:
        assert self._nursery is not None
        for agent in agents:
            if agent.process is None:
                agent.start()
                self._nursery.start_soon(agent.watch, self._report)

    async def kill(self, agents: list[AgentProcess]) -> bool:
        """Kill -9; return whether all of them ended by it."""
        alive = [agent for agent in agents if agent.process is not None]
        for agent in alive:
            agent.is_wanted = False
            agent.send(signal.SIGKILL)
        for agent in alive:
            await agent.ended.wait()
        return bool(alive) and all("signal 9" in agent.ending for agent in alive)

    def heal(self) -> None:
        """Take every fault away: cuts, and dead agents."""
        self.links.heal()
        self.start(self.agents.values())

    def has_failed(self) -> str:
        """Return what an agent said that ended by itself, "" when none did."""
        for agent in self.agents.values():
            if agent.state == "ended" and agent.is_wanted:
                tail = "\n".join(f"    {line}" for line in agent.log_tail())
                return f"{agent.spec.name} {agent.ending} by itself:\n{tail}"
        return ""

    # --- asking -------------------------------------------------------------------------

    async def call(
        self, method: str, path: str, rng: random.Random, *, limit_s: float = 8.0, body: Any = None,
        region: str = "", **params: str,
    ) -> httpx.Response | None:  # fmt: skip
        """Ask any living server, wherever the region is; None = no answer, or a 5xx."""
        alive = [a for a in self.servers_of(*self.places) if a.process is not None]
        if not alive:
            return None
        if region:
            params["region"] = region
        url = f"{rng.choice(alive).spec.api}/v1/{path}"
        try:
            found = await self.http.request(
                method, url, params=params, json=body, timeout=httpx.Timeout(limit_s, connect=2.0)
            )
        except httpx.HTTPError:
            return None
        self.last_error = found.text[:300] if found.status_code >= 500 else ""
        return found if found.status_code < 500 else None

    async def leader_of(self, place: str) -> AgentProcess | None:
        """Return the server that one of its datacenter says leads it."""
        servers = self.servers_of(place)
        for server in servers:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                found = await self.http.get(f"{server.spec.api}/v1/status/leader", timeout=1.0)
                for one in servers:
                    if found.json() == f"{one.spec.face}:{one.spec.rpc_port}":
                        return one
        return None

    async def until_ready(self) -> None:
        """Return once every datacenter has a leader, a ready client, and hears of all others.

        Raises:
            ClusterError: Not within `READY_LIMIT_S`, or an agent ended by itself.
        """
        missing = "nobody was asked"
        with trio.move_on_after(READY_LIMIT_S):
            while missing:
                if failed := self.has_failed():
                    raise ClusterError(failed)
                await trio.sleep(_POLL_S)
                missing = ""
                for place in self.places:
                    missing = missing or await self._missing_at(place)
        if missing:
            raise ClusterError(f"not ready in {READY_LIMIT_S:g} s: {missing}")

    async def _missing_at(self, place: str) -> str:
        region, _, datacenter = place.partition("/")
        api = self.servers_of(place)[0].spec.api
        own = {"region": region, "datacenter": datacenter}
        try:
            nodes = await self.http.get(f"{api}/v1/nodes", params=own)
            known = await self.http.get(f"{api}/v1/federation/status", params=own)
            if nodes.status_code != 200 or known.status_code != 200:
                return f"{place}: {nodes.text[:100]} {known.text[:100]}"
            ready = [one for one in nodes.json() if one["Status"] == "ready"]
            heard = [one for one in known.json() if one["HasQuorum"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            return f"{place}: {error!r}"
        if not ready or len(heard) < len(self.places):
            return f"{place}: {len(ready)} nodes ready, hears of {len(heard)} datacenters"
        return ""

    # --- life ---------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run relay and agents during the block; then no process is left."""
        orphans.adopt_orphans()
        async with Relay(self.links).open() as relay, trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(relay.run)
            nursery.start_soon(self._reap)
            try:
                for agent in self.agents.values():
                    agent.folder.mkdir(parents=True, exist_ok=True)
                    data_dir = agent.folder / "data"
                    text = self.plan.config_of(agent.spec, data_dir, log_level="INFO")
                    agent.config_path.write_text(text)
                self.start(self.agents.values())
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop_all()
                    await self.http.aclose()
                nursery.cancel_scope.cancel()

    async def _reap(self) -> None:
        while True:
            orphans.reap_adopted(self._own_pids())
            await trio.sleep(1.0)

    def _own_pids(self) -> set[int]:
        return {agent.pid for agent in self.agents.values() if agent.pid is not None}

    async def _stop_all(self) -> None:
        alive = [agent for agent in self.agents.values() if agent.process is not None]
        for agent in alive:
            agent.is_wanted = False
            agent.send(signal.SIGTERM)
        with trio.move_on_after(_STOP_GRACE_S):
            for agent in alive:
                await agent.ended.wait()
        await self.kill(alive)
        await trio.to_thread.run_sync(orphans.end_adopted, self._own_pids(), _TASK_GRACE_S)


@contextlib.asynccontextmanager
async def open_federation(folder: Path, report: Callable[[str], None]) -> AsyncIterator[Federation]:
    """Start the three regions and stop them afterwards."""
    plan = free_plan(
        lambda net: Plan.build(
            REGIONS,
            net=net,
            datacenters=PerRegion(1, {"eu": 2}),
            servers=PerRegion(SERVERS, {}),
            clients=PerRegion(1, {}),
            cpu_mhz=PerRegion(SLOTS * SLOT_MHZ, {}),
            memory_mib=PerRegion(4096, {}),
        )
    )
    federation = Federation(plan, folder, report)
    async with federation.run():
        yield federation
