"""Servers as real processes: plain `serai agent`, each on a disk of its own, and the relay.

A `Cluster` is laid out by `core.devcluster.layout.Plan`, so it may have any number of
regions and datacenters. Nothing in the agents knows that they are being tortured.
"""

import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from core.devcluster.layout import AgentSpec, PerRegion, Plan
from core.devcluster.links import Links
from core.devcluster.processes import AgentProcess
from core.devcluster.relay import Relay
from core.devcluster.supervisor import free_plan
from tests.torture.disks import SmallDisk

_POLL_S: Final = 0.05
_STOP_GRACE_S: Final = 5.0
READY_LIMIT_S: Final = 60.0


class ClusterError(Exception):
    """The servers do not do what they must for the torture to go on."""


class Server:
    """One server: process, disk, and what its log said."""

    def __init__(self, spec: AgentSpec, folder: Path) -> None:
        self.spec = spec
        self.disk = SmallDisk(folder / "disk")
        self.data_dir = self.disk.folder / "data"
        self.agent = AgentProcess(spec, folder, command="torture")

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_alive(self) -> bool:
        return self.agent.process is not None

    @property
    def is_running(self) -> bool:
        """Alive, and not stopped by a signal."""
        return self.agent.state == "running"

    @property
    def has_failed(self) -> bool:
        """It ended, and nobody made it."""
        return self.agent.state == "ended" and self.agent.is_wanted

    def log_size(self) -> int:
        return self.agent.log_path.stat().st_size

    def log_since(self, offset: int) -> str:
        with self.agent.log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    async def kill(self) -> None:
        """Kill -9; returns when it is gone, or was gone already by another fault."""
        if not self.is_alive:
            return
        self.agent.is_wanted = False
        self.agent.send(signal.SIGKILL)
        await self.agent.ended.wait()


class Cluster:
    """Servers that run until the end of `open`'s block."""

    def __init__(self, plan: Plan, folder: Path, report: Callable[[str], None]) -> None:
        self.plan = plan
        self.links = Links(agent.endpoint() for agent in plan.agents)
        self.servers = [Server(spec, folder / spec.name) for spec in plan.agents]
        self.http = httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(8.0, connect=2.0),
            limits=httpx.Limits(max_keepalive_connections=64),
        )
        self._report = report
        self._nursery: trio.Nursery | None = None

    @property
    def minority(self) -> int:
        return (len(self.servers) - 1) // 2

    def living(self) -> list[Server]:
        return [server for server in self.servers if server.is_running]

    def start(self, server: Server) -> None:
        assert self._nursery is not None
        server.agent.start()
        self._nursery.start_soon(server.agent.watch, self._report)

    async def heal(self) -> None:
        """Take every fault away: links, disks, stopped and dead processes."""
        self.links.heal()
        for server in self.servers:
            server.disk.free()
            if server.agent.state == "paused":
                server.agent.send(signal.SIGCONT)
            if not server.is_alive:
                self.start(server)
            await trio.lowlevel.checkpoint()

    # --- asking ---------------------------------------------------------------------------

    async def get(self, server: Server, path: str, **params: Any) -> httpx.Response:
        return await self.http.get(f"{server.spec.api}/v1/{path}", params=params)

    async def leader(self) -> Server | None:
        """Return the server that most others follow now, None when nobody says."""
        votes: dict[str, int] = {}
        for server in self.living():
            with contextlib.suppress(httpx.HTTPError):
                found = await self.http.get(f"{server.spec.api}/v1/status/leader", timeout=1.0)
                if found.status_code == 200 and found.json():
                    votes[found.json()] = votes.get(found.json(), 0) + 1
        if not votes:
            return None
        address = max(sorted(votes), key=lambda key: votes[key])
        return next(
            (one for one in self.servers if f"{one.spec.face}:{one.spec.rpc_port}" == address),
            None,
        )

    async def until_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        """Return once every server runs and follows the same leader.

        Raises:
            ClusterError: Not within `limit_s`, or a server ended by itself.
        """
        state = "nobody was asked"
        with trio.move_on_after(limit_s):
            while True:
                for server in self.servers:
                    if server.has_failed:
                        raise ClusterError(failure_of(server))
                leaders: set[str] = set()
                for server in self.servers:
                    leaders.add(await self._leader_seen_by(server))
                if len(leaders) == 1 and "" not in leaders:
                    return
                state = f"leaders seen: {sorted(leaders)}"
                await trio.sleep(_POLL_S)
        raise ClusterError(f"the servers did not agree on a leader in {limit_s:g} s: {state}")

    async def _leader_seen_by(self, server: Server) -> str:
        try:
            found = await self.http.get(f"{server.spec.api}/v1/status/leader", timeout=2.0)
            return str(found.json() or "") if found.status_code == 200 else ""
        except (httpx.HTTPError, ValueError):
            return ""

    async def views(self) -> str:
        """Return what each server says of itself and logged last, for who looks for a cause."""
        lines = []
        for server in self.servers:
            try:
                found = await self.http.get(f"{server.spec.api}/v1/agent/self", timeout=2.0)
                said = str(found.json()["stats"]["raft"])
            except (httpx.HTTPError, ValueError, KeyError) as error:
                said = repr(error)
            lines.append(f"    {server.name} {server.agent.state}: {said}")
            lines += [f"        {line}" for line in server.agent.log_tail()]
        return "\n".join(lines)

    # --- life -----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run relay and servers during the block; then no process and no mount is left."""
        async with Relay(self.links).open() as relay, trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(relay.run)
            try:
                for server in self.servers:
                    server.agent.folder.mkdir(parents=True, exist_ok=True)
                    server.agent.config_path.write_text(
                        self.plan.config_of(server.spec, server.data_dir, log_level="INFO")
                    )
                    self.start(server)
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop_all()
                    await self.http.aclose()
                for server in self.servers:
                    server.disk.close()
                nursery.cancel_scope.cancel()

    async def _stop_all(self) -> None:
        alive = [server for server in self.servers if server.is_alive]
        for server in alive:
            server.agent.is_wanted = False
            server.agent.send(signal.SIGTERM)
            server.agent.send(signal.SIGCONT)
        if not await self._have_ended(alive, _STOP_GRACE_S):
            for server in alive:
                if server.is_alive:
                    server.agent.send(signal.SIGKILL)
            await self._have_ended(alive, _STOP_GRACE_S)

    async def _have_ended(self, servers: list[Server], limit_s: float) -> bool:
        """Wait for the processes, not for the tasks that watch them: those may be cancelled."""
        with trio.move_on_after(limit_s):
            while any(one.agent.process and one.agent.process.poll() is None for one in servers):
                await trio.sleep(_POLL_S)
            return True
        return False


@contextlib.asynccontextmanager
async def open_cluster(
    servers: int, folder: Path, report: Callable[[str], None]
) -> AsyncIterator[Cluster]:
    """Start a datacenter of so many servers and stop it afterwards."""
    none = PerRegion(0, {})
    plan = free_plan(
        lambda net: Plan.build(
            ["torture"],
            net=net,
            datacenters=PerRegion(1, {}),
            servers=PerRegion(servers, {}),
            clients=none,
            cpu_mhz=none,
            memory_mib=none,
        )
    )
    cluster = Cluster(plan, folder, report)
    async with cluster.run():
        yield cluster


def failure_of(server: Server) -> str:
    tail = "\n".join(f"    {line}" for line in server.agent.log_tail())
    return f"{server.name} {server.agent.ending} by itself:\n{tail}"
