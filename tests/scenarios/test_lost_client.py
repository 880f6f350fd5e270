"""A client that dies for good: its node goes down, its work goes to another node."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from scenario_agents import Agent
from scenario_federation import a_job, serai
from scenario_processes import environment_of, kill_all, task_processes, until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("agents")]

SERVER = """
data_dir = "{folder}/server"
server {{
  enabled                = true
  bootstrap_expect       = 1
  failover_heartbeat_ttl = "2s"
}}
"""
CLIENT = """
name     = "{name}"
data_dir = "{folder}/{name}"
client {{
  enabled = true
  servers = ["{server}:4647"]
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
"""


def test_work_of_a_lost_client_is_replaced(
    start_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    def start(name: str, text: str) -> Agent:
        file = tmp_path / f"{name}.hcl"
        file.write_text(text)
        return start_agent("-config", str(file))

    server = start("server", SERVER.format(folder=tmp_path))
    server.until_leader()
    clients = {}
    for name in ("one", "two"):
        text = CLIENT.format(name=name, folder=tmp_path, server=server.host)
        clients[name] = start(name, text)

    def nodes() -> dict[str, str]:
        rows: list[dict[str, Any]] = httpx.get(f"{server.api}/v1/nodes").json()
        return {row["Name"]: row["Status"] for row in rows}

    until(lambda: nodes() == {"one": "ready", "two": "ready"}, "both nodes are ready")
    done = serai("job", "run", "-detach", "-address", server.api, "-", text=a_job("moves"))
    assert done.code == 0, done.error
    (first,) = until(lambda: task_processes("moves", tmp_path), "the task")
    lost = name_of(first, tmp_path)
    (kept,) = {"one", "two"} - {lost}

    os.kill(clients[lost].process.pid, signal.SIGKILL)
    kill_all([first])  # the machine is gone, not only its agent
    until(lambda: nodes() == {lost: "down", kept: "ready"}, f"{lost} is down", 30)
    (second,) = until(lambda: task_processes("moves", tmp_path), "its replacement")
    assert name_of(second, tmp_path) == kept

    def allocations() -> dict[str, str]:
        rows: list[dict[str, Any]] = httpx.get(f"{server.api}/v1/job/moves/allocations").json()
        return {row["NodeName"]: row["ClientStatus"] for row in rows}

    until(lambda: allocations() == {lost: "lost", kept: "running"}, "both are told")


def name_of(pid: int, folder: Path) -> str:
    """Return which client runs a task, by where its folder is."""
    return Path(environment_of(pid)["NOMAD_TASK_DIR"]).relative_to(folder).parts[0]
