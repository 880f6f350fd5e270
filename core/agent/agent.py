"""One agent's life: bind, build the machines from what the disk holds, serve, stop.

Everything that can be refused is refused before a machine exists: the configuration,
the data folder, the ports. After that the agent ends only by a signal, or when a
machine halts (a disk that can't be trusted).
"""

import os
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

import hypercorn.config
import hypercorn.trio
import msgspec
import trio

from core.agent import build
from core.agent.config import AgentConfig
from core.agent.disk import Disk
from core.agent.execution.executor import Executor
from core.agent.host import AgentHost, deliver_to
from core.agent.keyring_file import KeyringFile
from core.agent.loop import MachineLoop, now
from core.agent.metrics import HOST_FAMILIES, Exporter, HostMeasures
from core.agent.monitor import MonitorError, Monitors
from core.agent.options import Options
from core.agent.record import RunRecorder
from core.agent.rpc import CallFailed, Identity, RpcEndpoint
from core.agent.tls import check_server_certificate, client_context, server_context
from core.client import effects as client_effects
from core.client.machine import ClientMachine
from core.client.measures import FAMILIES as CLIENT_FAMILIES
from core.model.query import Answer, Query
from core.server import effects as server_effects
from core.server.machine import ServerMachine
from core.server.measures import FAMILIES as SERVER_FAMILIES
from core.server.nodes import BODIES
from core.state.state import SnapshotError
from gossip.endpoint import Endpoint, KeepKeys, open_endpoint
from gossip.keyring import encode_key
from gossip.measures import SOCKET
from raft.engine import WARNINGS

STOP_TIMEOUT_S: Final = 40.0  # a task may take its kill timeout
LEAVE_TIMEOUT_S: Final = 2.0
READ_LOG: Final = "Agent.ReadLog"
READ_LOG_TIMEOUT_S: Final = 15.0


# The HTTP floor lies above this one: whoever starts the agent hands its application in.
MakeApi = Callable[["Agent"], Any]


class StartError(Exception):
    """The agent can't start; the text says what and what to do."""


class Agent:
    """A running agent. `serve` returns when it was told to stop."""

    def __init__(
        self, config: AgentConfig, options: Options, folder: str, log: Any, make_api: MakeApi
    ) -> None:
        self.config = config
        self._make_api = make_api
        self.options = options
        self.folder = folder
        self.log = log
        self.region = config.region
        self.measures = HostMeasures()
        self._monitors = Monitors()
        self.exporter = Exporter()
        self.host: AgentHost
        self._server: ServerMachine | None = None
        self._client: ClientMachine | None = None
        self._recorder: RunRecorder | None = None
        self._disk: Disk | None = None
        self._executor: Executor | None = None
        self._stop = trio.Event()
        self._client_done = trio.Event()
        self._halt_reason = ""

    # --- the backend of core.api -----------------------------------------------------------

    async def request(self, query: Query) -> Answer:
        answer = await self.host.request(query)
        is_own = query.method == "Agent.Self" and query.region in ("", self.region)
        if is_own and self._client is not None and isinstance(answer.body, dict):
            # What only this process knows: the server that answered may be another agent.
            stats = {**answer.body.get("stats", {}), "client": {"node_id": self._client.node_id}}
            answer = msgspec.structs.replace(answer, body={**answer.body, "stats": stats})
        return answer

    async def read_log(
        self, key: str, level: str, *, as_json: bool, address: str
    ) -> tuple[bytes, str]:
        """Return (new lines of an agent's log, why not); `address` "" is this agent."""
        if address in ("", self.host.rpc.identity.address if self.host.rpc else ""):
            return await self._own_log({"key": key, "level": level, "json": as_json})
        assert self.host.rpc is not None
        body = {"key": key, "level": level, "json": as_json}
        try:
            found = await self.host.rpc.call(address, READ_LOG, body, READ_LOG_TIMEOUT_S)
        except CallFailed as error:
            return b"", str(error)
        return bytes(found or b""), ""

    async def _own_log(self, body: Any) -> tuple[bytes, str]:
        said = body if isinstance(body, dict) else {}
        try:
            lines = await self._monitors.read(
                str(said.get("key")), str(said.get("level")), as_json=bool(said.get("json"))
            )
        except MonitorError as error:
            return b"", str(error)
        return lines, ""

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        return self.exporter.text(accept)

    def metrics_json(self) -> Any:
        return self.exporter.summary()

    def count_request(self, method: str, status: int, seconds: float) -> None:
        self.measures.count_request(method, status, seconds)

    # --- life -------------------------------------------------------------------------------

    async def serve(self) -> str:
        """Run until stopped. Returns why a machine halted, "" when it was asked to stop.

        Raises:
            StartError: A port, the data folder or a certificate can't be used.
        """
        sockets = _bind_all(self.config)
        async with trio.open_nursery() as nursery:
            self.host = AgentHost(nursery=nursery, log=self.log)
            self.host.on_halt = self._on_halt
            self.host.own_methods[READ_LOG] = self._own_log
            self.host.on_members = self._save_members
            endpoint = await nursery.start(self._run_gossip)
            await self._start(nursery, sockets, endpoint)
            nursery.start_soon(self._watch_signals)
            await self._stop.wait()
            await self._shut_down()
            nursery.cancel_scope.cancel()
        self._close()
        return self._halt_reason

    async def _start(
        self, nursery: trio.Nursery, sockets: dict[str, socket.socket], endpoint: Endpoint
    ) -> None:
        addresses = build.Addresses.of(self.config, sockets, endpoint.port)
        identity = Identity(
            self.config.name,
            "server" if self.config.server.enabled else "client",
            addresses.rpc,
            lambda: self._server.datacenter_id if self._server else "",
        )
        outgoing, incoming = self._rpc_tls()
        self.host.rpc = RpcEndpoint(
            identity,
            nursery=nursery,
            source_host=self.config.bind_address("rpc")[0],
            on_request=self.host.on_request,
            on_message=self.host.on_message,
            on_call=self.host.on_call,
            until_taken=self.host.until_taken,
            is_long=self.measures.stalls.is_long,
            log=self.log,
            client_tls=outgoing,
            server_tls=incoming,
            verifies_server=self.config.tls.verify_server_hostname,
            bodies=BODIES,
        )
        self.host.gossip = endpoint
        started = now()
        recipe: dict[str, Any] = {}
        loops: list[MachineLoop] = []
        if self.options.record_path:
            self._recorder = _open_record(self.options.record_path, self.log)
            self.host.recorder = self._recorder
        if self.config.server.enabled:
            loops.append(self._add_server(nursery, addresses, recipe, started))
        if self.config.client.enabled:
            loops.append(await self._add_client(nursery, addresses, recipe, started))
        if self._recorder is not None:
            self._recorder.header(recipe, started)
        self.exporter.add(HOST_FAMILIES, self._refresh_measures)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sockets["rpc"]))
        nursery.start_soon(self.host.rpc.serve, [listener])
        for loop in loops:
            nursery.start_soon(loop.run_timers)
        nursery.start_soon(self._serve_http, sockets["http"])
        trio.lowlevel.add_instrument(self.measures.stalls)
        nursery.start_soon(self.measures.watch_lag, lambda: sum(one.busy_us for one in loops))
        self.log.info(
            "agent started",
            name=self.config.name,
            region=self.config.region,
            datacenter=self.config.datacenter,
            http=addresses.http,
            rpc=addresses.rpc,
            gossip=addresses.gossip,
        )

    def _add_server(
        self,
        nursery: trio.Nursery,
        addresses: build.Addresses,
        recipe: dict[str, Any],
        started: Any,
    ) -> MachineLoop:
        folder = os.path.join(self.folder, "server")
        disk = Disk(folder, deliver=deliver_to(lambda: self.host.server), log=self.log)
        self._disk = disk
        config = build.server_config(
            self.config, addresses, disk.server_id, is_dev=self.options.is_dev
        )
        if warning := WARNINGS.get(config.raft_engine):
            self.log.warning(f"the raft engine is {config.raft_engine}", reason=warning)
        boot = disk.boot()
        seed = secrets.randbits(64)
        try:
            self._server = build.server_machine(config, boot, seed, started)
        except SnapshotError as error:  # whole, but not for this version
            disk.close()
            raise StartError(f"{folder}: {error}") from None
        recipe["server"] = {"config": config, "boot": boot, "seed": seed}
        nursery.start_soon(disk.run)
        self.exporter.add(SERVER_FAMILIES, lambda: self._server and self._server.measures)
        return self.host.add_machine("server", self._server, [disk])

    async def _add_client(
        self,
        nursery: trio.Nursery,
        addresses: build.Addresses,
        recipe: dict[str, Any],
        started: Any,
    ) -> MachineLoop:
        client = self.config.client
        is_enabled = self.options.is_dev or self.config.is_raw_exec_enabled
        executor = Executor(
            client.state_dir or os.path.join(self.folder, "client"),
            deliver=deliver_to(lambda: self.host.client),
            log=self.log,
            alloc_dir=client.alloc_dir or os.path.join(self.folder, "alloc"),
            drivers=("raw_exec",) if is_enabled else (),
        )
        self._executor = executor
        config = await build.client_config(
            self.config, addresses, executor.alloc_dir, is_dev=self.options.is_dev
        )
        boot = executor.boot()
        seed = secrets.randbits(64)
        self._client = build.client_machine(config, boot, seed, started)
        recipe["client"] = {"config": config, "boot": boot, "seed": seed}
        nursery.start_soon(executor.run)
        self.exporter.add(CLIENT_FAMILIES, lambda: self._client and self._client.measures)
        return self.host.add_machine("client", self._client, [executor, _ClientEnd(self)])

    def _rpc_tls(self) -> tuple[Any, Any]:
        tls = self.config.tls
        if not tls.rpc:
            return None, None
        if self.config.server.enabled:
            check_server_certificate(tls.cert_file)
        return (
            client_context(tls.ca_file, tls.cert_file, tls.key_file),
            server_context(
                tls.ca_file, tls.cert_file, tls.key_file, requires_client_certificate=True
            ),
        )

    async def _serve_http(self, sock: socket.socket) -> None:
        config = hypercorn.config.Config()
        config.bind = [f"fd://{sock.fileno()}"]
        config.errorlog = None
        config.accesslog = None
        config.graceful_timeout = 1.0
        config.keep_alive_timeout = 300.0
        config.include_server_header = False
        tls = self.config.tls
        if tls.http:
            config.certfile, config.keyfile, config.ca_certs = (
                tls.cert_file, tls.key_file, tls.ca_file or None,
            )  # fmt: skip
            if tls.verify_https_client:
                import ssl

                config.verify_mode = ssl.CERT_REQUIRED
        await hypercorn.trio.serve(
            self._make_api(self),
            config,
            shutdown_trigger=self._stop.wait,
            mode="asgi",
        )

    async def _run_gossip(self, task_status: trio.TaskStatus[Endpoint]) -> None:
        host, port = self.config.bind_address("serf")
        keys = KeyringFile(self.folder)
        try:
            kept = keys.load()
        except ValueError as error:
            raise StartError(str(error)) from None
        pools = build.gossip_pools(self.config, kept)
        if kept and self.config.server.encrypt not in ("", encode_key(kept[0])):
            self.log.warning(
                "server.encrypt is not the gossip key in use: keys changed over gossip win",
                keyring=str(keys.path),
            )
        try:
            async with open_endpoint(
                host,
                port,
                pools=pools,
                on_packet=self.host.on_gossip_packet,
                on_exchange=self.host.on_gossip_exchange,
                keep_keys=self._keep_keys(keys),
            ) as endpoint:
                task_status.started(endpoint)
                await trio.sleep_forever()
        except OSError as error:
            raise StartError(_bind_error("gossip", host, port, error)) from None

    def _keep_keys(self, file: KeyringFile) -> KeepKeys:
        async def keep(pool: str, keys: list[bytes]) -> str:
            error = await trio.to_thread.run_sync(file.save, keys)
            if error:
                self.log.error("gossip keys not changed", reason=error)
            else:
                self.log.info("gossip keys changed", keys=len(keys))
            return error

        return keep

    # --- signals and the end ------------------------------------------------------------------

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload()
                elif self._stop.is_set():
                    self.log.warning("stopping at once", signal=signal.Signals(number).name)
                    self._client_done.set()
                else:
                    self.log.info("stopping", signal=signal.Signals(number).name)
                    self._stop.set()

    def _reload(self) -> None:
        """Take up what can change under way: the log level and the TLS files' content."""
        from core.agent.config import load_config
        from core.agent.journal import set_level
        from core.jobspec.diagnostics import SourceError

        try:
            fresh = load_config(
                self.options.config_paths,
                flags=self.options.flags or {},
                is_dev=self.options.is_dev,
            )
        except SourceError as error:
            self.log.error("configuration not reloaded", reason=str(error))
            return
        self.log = self.host.log = set_level(fresh.log_level)
        changed = build.needs_restart(self.config, fresh)
        self.log.info("configuration reloaded", log_level=fresh.log_level)
        if changed:
            self.log.warning("these changes take effect at the next start", keys=changed)

    def _on_halt(self, reason: str) -> None:
        self.log.error("the agent stops", reason=reason)
        self._halt_reason = self._halt_reason or reason
        self._client_done.set()  # who waits for the client's leave waits no longer
        self._stop.set()

    async def _shut_down(self) -> None:
        """Let each machine that is still whole take its leave."""
        if self.host.client is not None and not self.host.client.is_stopped:
            self.host.client.deliver(
                client_effects.ShutdownRequested(stop_tasks=self.options.is_dev)
            )
            with trio.move_on_after(STOP_TIMEOUT_S):
                await self._client_done.wait()
        if self.host.server is not None and not self.host.server.is_stopped:
            self.host.server.deliver(server_effects.ShutdownRequested())
            with trio.move_on_after(LEAVE_TIMEOUT_S):
                while self._server and not self._server.server.membership.is_left:
                    await trio.sleep(0.02)

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.close(self._server.state.hash() if self._server else "")
        if self._disk is not None:
            self._disk.close()
        if self._executor is not None:
            self._executor.close()

    def _save_members(self, role: str, pool: str, members: list[tuple[str, str]]) -> None:
        if role == "server" and self._disk is not None:
            self._disk.save_members(pool, members)
        elif self._executor is not None:
            self._executor.save_members(members)

    def _refresh_measures(self) -> HostMeasures:
        measures = self.measures
        assert self.host.rpc is not None
        rpc = self.host.rpc.counters
        measures.rpc_bytes = {"sent": rpc.bytes_sent, "received": rpc.bytes_received}
        measures.rpc_refused = rpc.refused
        measures.rpc_dropped = rpc.dropped
        for loop in (self.host.server, self.host.client):
            if loop is not None:
                measures.machine_busy_seconds[loop.role] = loop.busy_us / 1e6
                measures.machine_events[loop.role] = loop.events
        if self.host.gossip is not None:
            drops = self.host.gossip.drops
            measures.gossip_dropped = {f"{SOCKET}/{key}": n for key, n in drops.items()}
        return measures


class _ClientEnd:
    """Carries out the one effect of a client that is about the agent itself."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handles(self, effect: Any) -> bool:
        return isinstance(effect, client_effects.ShutdownComplete)

    def submit(self, effect: Any) -> None:
        self._agent._client_done.set()


def _open_record(path: str, log: Any) -> RunRecorder:
    try:
        return RunRecorder(open(path, "wb"), log)
    except OSError as error:
        raise StartError(f"-record {path}: {error.strerror}") from None


def _bind_all(config: AgentConfig) -> dict[str, socket.socket]:
    bound: dict[str, socket.socket] = {}
    for protocol in ("http", "rpc"):
        host, port = config.bind_address(protocol)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(1024)
        except (OSError, socket.gaierror) as error:
            for other in (*bound.values(), sock):
                other.close()
            raise StartError(_bind_error(protocol, host, port, error)) from None
        sock.setblocking(False)
        bound[protocol] = sock
    return bound


def _bind_error(protocol: str, host: str, port: int, error: OSError) -> str:
    key = "serf" if protocol == "gossip" else protocol
    reason = error.strerror or str(error)
    return (
        f"can't listen for {protocol} on {host}:{port}: {reason}. "
        f"Another agent may be running; choose another port with `ports {{ {key} = N }}` "
        f"or another address with `bind_addr`."
    )
