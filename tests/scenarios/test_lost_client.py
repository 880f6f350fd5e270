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


class Pair:
    """A server and two clients, `one` and `two`, both ready."""

    def __init__(self, start_agent: Callable[..., Agent], folder: Path) -> None:
        self.folder = folder
        self.clients: dict[str, Agent] = {}
        self._start_agent = start_agent
        self.server = self._start("server", SERVER.format(folder=folder))
        self.server.until_leader()
        for name in ("one", "two"):
            text = CLIENT.format(name=name, folder=folder, server=self.server.host)
            self.clients[name] = self._start(name, text)
        until(lambda: self.nodes() == {"one": "ready", "two": "ready"}, "both nodes are ready")

    def _start(self, name: str, text: str) -> Agent:
        file = self.folder / f"{name}.hcl"
        file.write_text(text)
        return self._start_agent("-config", str(file))

    def nodes(self) -> dict[str, str]:
        rows: list[dict[str, Any]] = httpx.get(f"{self.server.api}/v1/nodes").json()
        return {row["Name"]: row["Status"] for row in rows}

    def allocations(self, job: str) -> dict[str, str]:
        rows: list[dict[str, Any]] = httpx.get(f"{self.server.api}/v1/job/{job}/allocations").json()
        return {row["NodeName"]: row["ClientStatus"] for row in rows}

    def run(self, text: str) -> None:
        done = serai("job", "run", "-detach", "-address", self.server.api, "-", text=text)
        assert done.code == 0, done.error

    def tasks(self, job: str) -> dict[str, int]:
        """Return the process of each client that runs one of this job."""
        return {name_of(pid, self.folder): pid for pid in task_processes(job, self.folder)}


def test_work_of_a_lost_client_is_replaced(
    start_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    pair = Pair(start_agent, tmp_path)
    pair.run(a_job("moves"))
    ((lost, first),) = until(lambda: pair.tasks("moves"), "the task").items()
    (kept,) = {"one", "two"} - {lost}

    os.kill(pair.clients[lost].process.pid, signal.SIGKILL)
    kill_all([first])  # the machine is gone, not only its agent
    until(lambda: pair.nodes() == {lost: "down", kept: "ready"}, f"{lost} is down", 30)
    second = until(lambda: pair.tasks("moves"), "its replacement")
    assert [*second] == [kept]
    until(lambda: pair.allocations("moves") == {lost: "lost", kept: "running"}, "both are told")


DISCONNECT = """
disconnect {
  lost_after = "10m"
  reconcile  = "keep_original"
}
"""


def test_a_client_that_is_back_keeps_its_task_where_the_job_prefers_it(
    start_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    pair = Pair(start_agent, tmp_path)
    pair.run(a_job("returns", group=DISCONNECT))
    ((away, first),) = until(lambda: pair.tasks("returns"), "the task").items()
    (other,) = {"one", "two"} - {away}

    os.kill(pair.clients[away].process.pid, signal.SIGSTOP)  # its task runs on
    until(lambda: pair.nodes() == {away: "disconnected", other: "ready"}, "it is missed", 30)
    both = {away: "unknown", other: "running"}
    until(lambda: pair.allocations("returns") == both, "a replacement runs meanwhile")

    os.kill(pair.clients[away].process.pid, signal.SIGCONT)
    until(lambda: pair.nodes() == {"one": "ready", "two": "ready"}, "it is back", 30)
    until(lambda: pair.tasks("returns") == {away: first}, "only the original process is left", 30)
    settled = {away: "running", other: "complete"}
    until(lambda: pair.allocations("returns") == settled, "both are told")


STOPS = """
disconnect {
  stop_on_client_after = "3s"
}
"""


def test_a_client_without_servers_ends_what_must_not_run_twice(
    start_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    pair = Pair(start_agent, tmp_path)
    pair.run(a_job("ends", count=1, group=STOPS))
    pair.run(a_job("stays", count=1))
    until(lambda: pair.tasks("ends") and pair.tasks("stays"), "both jobs run")
    stays = pair.tasks("stays")
    os.kill(pair.server.process.pid, signal.SIGSTOP)
    until(lambda: not pair.tasks("ends"), "the task was ended by its client", 30)
    assert pair.tasks("stays") == stays
    os.kill(pair.server.process.pid, signal.SIGCONT)
    until(lambda: pair.tasks("ends"), "it runs again once there is a server", 30)
    assert pair.tasks("stays") == stays


def name_of(pid: int, folder: Path) -> str:
    """Return which client runs a task, by where its folder is."""
    return Path(environment_of(pid)["NOMAD_TASK_DIR"]).relative_to(folder).parts[0]
