"""How fast a datacenter takes jobs in and gets them running: `python -m bench.submission`.

Drives what `serai agent` ships, over its HTTP API. One `-dev` agent (server and client in
one process, real write-ahead log, fdatasync) is started on free ports; then

    ready           from the start of the process to the first ready node
    register        jobs without instances, one connection after another and 8 at once:
                    acknowledged means committed and on disk
    running         jobs of one raw_exec task each: from the request to the client's
                    report "running" in the state, and processes counted in /proc

The last line is one JSON object with the figures. A reduced run (`--reduced`) says so and
exits 3: its figures are no claim.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sim.lastline import last_line

FULL = {"serial": 300, "parallel": 2000, "running": 40}
REDUCED = {"serial": 20, "parallel": 80, "running": 4}
CONNECTIONS = 8
READY_LIMIT_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Agent:
    """A `serai agent -dev` of our own."""

    def __init__(self, folder: str) -> None:
        self.port = free_port()
        flags = ["-http-port", self.port, "-rpc-port", free_port(), "-serf-port", free_port()]
        self.log = open(os.path.join(folder, "agent.log"), "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "core.cli.main", "agent", "-dev", *map(str, flags)],
            stdout=self.log,
            stderr=self.log,
        )

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def wait_ready(self) -> None:
        give_up = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < give_up:
            try:
                nodes = call(self.connect(), "GET", "/v1/nodes")
                if any(node["Status"] == "ready" for node in nodes):
                    return
            except (OSError, ValueError, http.client.HTTPException):
                pass
            time.sleep(0.02)
        raise SystemExit("the agent was not ready in time; see its log")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


def call(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise ValueError(f"{method} {path}: {answer.status} {data.decode()[:200]}")
    return json.loads(data)


def job(name: str, count: int, arguments: list[str]) -> dict[str, Any]:
    task = {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": "sleep", "args": arguments},
        "Resources": {"CPU": 10, "MemoryMB": 10},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
    }
    group = {"Name": "g", "Count": count, "Tasks": [task], "EphemeralDisk": {"SizeMB": 10}}
    return {"Job": {"ID": name, "Name": name, "Type": "batch", "TaskGroups": [group]}}


def register_serial(agent: Agent, count: int) -> list[float]:
    connection = agent.connect()
    took = []
    for number in range(count):
        began = time.perf_counter()
        call(connection, "PUT", "/v1/jobs", job(f"serial-{number}", 0, ["1"]))
        took.append((time.perf_counter() - began) * 1e3)
    return took


def register_parallel(agent: Agent, count: int) -> float:
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        connection = agent.connect()
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            call(connection, "PUT", "/v1/jobs", job(f"parallel-{number}", 0, ["1"]))

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - began)


def run_tasks(agent: Agent, count: int) -> tuple[list[float], int]:
    connection = agent.connect()
    took = []
    for number in range(count):
        began = time.perf_counter()
        name = f"running-{number}"
        call(connection, "PUT", "/v1/jobs", job(name, 1, ["3600"]))
        while True:
            allocs = call(connection, "GET", f"/v1/job/{name}/allocations")
            if allocs and allocs[0]["ClientStatus"] == "running":
                break
            time.sleep(0.005)
        took.append((time.perf_counter() - began) * 1e3)
    return took, processes()


def processes() -> int:
    """Count processes of our jobs by their environment, not by what the API says."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            found += b"NOMAD_JOB_ID=running-" in environment
    return found


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    reduced = parser.parse_args().reduced
    sizes = REDUCED if reduced else FULL
    with tempfile.TemporaryDirectory(prefix="serai-bench-") as folder:
        began = time.perf_counter()
        agent = Agent(folder)
        try:
            agent.wait_ready()
            ready_s = time.perf_counter() - began
            serial = register_serial(agent, sizes["serial"])
            parallel = register_parallel(agent, sizes["parallel"])
            running, seen = run_tasks(agent, sizes["running"])
        finally:
            agent.stop()
    figures = {
        "ready_s": round(ready_s, 2),
        "register_p50_ms": round(statistics.median(serial), 2),
        "register_p99_ms": round(percentile(serial, 0.99), 2),
        "registers_per_s_8": round(parallel, 1),
        "running_p50_ms": round(statistics.median(running), 1),
        "running_p99_ms": round(percentile(running, 0.99), 1),
        "processes_seen": seen,
    }
    for name, value in figures.items():
        print(f"{name:20} {value}")
    print(last_line(figures, sizes=sizes, samples=sum(sizes.values()), is_reduced=reduced))
    if seen != sizes["running"]:
        print(f"{seen} processes instead of {sizes['running']}", file=sys.stderr)
        return 1
    return 3 if reduced else 0


if __name__ == "__main__":
    sys.exit(main())
