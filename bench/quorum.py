"""Three `serai agent` servers of one datacenter, as operating-system processes.

Each has a data folder on the real disk, a certificate of its own, and mutual TLS on its
RPC port; nothing in its configuration is other than an operator would write it.
"""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from core.agent.certificates import issue, make_authority, write_pair

START_LIMIT_S = 90.0  # a starved machine takes that long to start three
REGION = "bench"


class Unanswered(Exception):
    """An agent gave no answer, or one that is not 200."""


class Server:
    """One agent; it can be killed and started again on the same folder."""

    def __init__(self, folder: Path, name: str, ports: dict[str, int]) -> None:
        self.folder = folder
        self.name = name
        self.http_port = ports["http"]
        self.rpc = f"127.0.0.1:{ports['rpc']}"
        self.config = folder / f"{name}.hcl"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "core.cli.main", "agent", "-config", str(self.config)],
                stdout=log,
                stderr=log,
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = 30.0) -> Any:
        """Return an answer of its HTTP API.

        Raises:
            Unanswered: It is down, did not answer in time, or refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{self.name}: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Unanswered(f"{self.name}: {method} {path}: {answer.status} {data[:200]!r}")
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data.decode()

    def download(self, path: str, timeout_s: float = 600.0) -> int:
        """Read an answer that is no JSON to its end and return its size in bytes.

        Raises:
            Unanswered: It is down, did not answer in time, or refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout_s)
        size = 0
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            while data := answer.read(1 << 20):
                size += len(data)
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{self.name}: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Unanswered(f"{self.name}: GET {path}: {answer.status}")
        return size


class Quorum:
    """Three servers. Use as a context manager: at the end they are stopped."""

    def __init__(self, folder: Path, *, engine: str, settings: str = "") -> None:
        """Write configurations and certificates.

        Args:
            folder: Empty; on the disk that is measured.
            settings: More lines for the `server` block.
        """
        folder.mkdir(parents=True)
        ports = _free_ports(3)
        authority = make_authority(days=2)
        write_pair(authority, folder / "ca.pem", folder / "ca-key.pem")
        for role in ("cli", "client"):
            pair = issue(authority, role=role, region=REGION, days=2)
            write_pair(pair, folder / f"{role}.pem", folder / f"{role}-key.pem")
        joins = ", ".join(f'"127.0.0.1:{one["serf"]}"' for one in ports)
        self.servers = []
        for number, own in enumerate(ports, 1):
            server = Server(folder, f"server-{number}", own)
            pair = issue(authority, role="server", region=REGION, days=2, name=server.name)
            write_pair(pair, folder / f"{server.name}.pem", folder / f"{server.name}-key.pem")
            server.config.write_text(_config(server, own, joins, engine, settings))
            self.servers.append(server)

    def __enter__(self) -> "Quorum":
        for server in self.servers:
            server.start()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.stop(signal.SIGKILL)

    def wait_ready(self) -> Server:
        """Return the leader, once a write of ours went through."""
        give_up = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up:
            leader = self.leader()
            if leader is not None:
                try:
                    leader.ask("PUT", "/v1/operator/raft/measure", {"Seconds": 0.01}, 3.0)
                    return leader
                except Unanswered:
                    pass
            time.sleep(0.05)
        raise SystemExit(f"no leader within {START_LIMIT_S:g} s; see {self.servers[0].folder}")

    def leader(self) -> Server | None:
        """Return who leads, by what a majority of those who answer say."""
        says = []
        for server in self.servers:
            if server.process is not None:
                try:
                    says.append(server.ask("GET", "/v1/status/leader?stale", timeout_s=1.0))
                except Unanswered:
                    continue
        for server in self.servers:
            if server.process is not None and says.count(server.rpc) >= 2:
                return server
        return None


def _free_ports(count: int) -> list[dict[str, int]]:
    """Return free ports of each protocol; all are held at once, so that none comes twice."""
    held = []
    try:
        for _ in range(3 * count):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", 0))
        numbers = iter([int(one.getsockname()[1]) for one in held])
        return [{name: next(numbers) for name in ("http", "rpc", "serf")} for _ in range(count)]
    finally:
        for one in held:
            one.close()


def _config(server: Server, ports: dict[str, int], joins: str, engine: str, settings: str) -> str:
    folder = server.folder
    return f"""\
name       = "{server.name}"
region     = "{REGION}"
datacenter = "dc1"
data_dir   = "{folder / server.name}"
bind_addr  = "127.0.0.1"
log_level  = "INFO"

ports {{
  http = {ports["http"]}
  rpc  = {ports["rpc"]}
  serf = {ports["serf"]}
}}

server {{
  enabled          = true
  bootstrap_expect = 3
  {settings}
  server_join {{
    retry_join     = [{joins}]
    retry_interval = "1s"
  }}
}}

raft {{
  engine = "{engine}"
}}

tls {{
  rpc                    = true
  ca_file                = "{folder / "ca.pem"}"
  cert_file              = "{folder / f"{server.name}.pem"}"
  key_file               = "{folder / f"{server.name}-key.pem"}"
  verify_server_hostname = true
}}
"""
