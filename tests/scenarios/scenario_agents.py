"""Agents that stand alone: plain `serai agent`, each on a loopback address of its own."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from scenario_processes import is_alive, kill_all, processes_below, until

HTTP_PORT, RPC_PORT, GOSSIP_PORT = 4646, 4647, 4648


def free_hosts() -> Iterator[str]:
    """Yield loopback addresses on which nothing listens; each test process has its own range."""
    for number in itertools.count(os.getpid() * 16):
        host = f"127.{60 + number // 62_500 % 60}.{1 + number // 250 % 250}.{1 + number % 250}"
        try:
            for port in (HTTP_PORT, RPC_PORT, GOSSIP_PORT):
                with socket.create_server((host, port)):
                    pass
        except OSError:
            continue
        yield host


class Agent:
    """One `serai agent` process; its log is a file in its folder."""

    def __init__(self, folder: Path, host: str, *words: str) -> None:
        self.folder = folder
        self.host = host
        self.scheme = "http"
        self.log_path = folder / f"{host}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOMAD_", "SERAI_"))}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "core.cli.main", "agent", "-bind", host, *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**kept, "TMPDIR": str(folder)},
            )  # fmt: skip

    @property
    def api(self) -> str:
        return f"{self.scheme}://{self.host}:{HTTP_PORT}"

    def log(self) -> str:
        return self.log_path.read_text()

    def until_leader(self, http: httpx.Client | None = None, limit_s: float = 20.0) -> None:
        """Wait until it knows a leader, which is when it takes jobs."""

        def look() -> bool:
            assert self.process.poll() is None, f"the agent ended: {self.log()}"
            try:
                answer = (http or httpx).get(f"{self.api}/v1/status/leader", timeout=5)
            except httpx.TransportError:
                return False
            return answer.status_code == 200 and bool(answer.json())

        until(look, "a leader", limit_s)

    def until_end(self, limit_s: float = 10.0) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(limit_s)

    def stop(self) -> None:
        """End it and everything it started, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = [pid for pid in processes_below(self.folder) if is_alive(pid)]
        kill_all(left)
