"""A small federation of real agents suffers a little of everything; every metric must move.

Scraped all along, from outside, over HTTP. A family moved when some agent showed one of
its series with two values, or a counter beyond its zero.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.agent.metrics import every_family

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation-monitoring")]

SCRAPE_INTERVAL_S = 0.25
STORY_LIMIT_S = 50.0
MHZ, MIB = 2000, 2048  # of each client; what `serai dev` gives by default

# Families that this story can't move, each with the reason. Keep it empty.
UNMOVED: dict[str, str] = {}

LISTEN = (
    "import os, socket, time; "
    "s = socket.create_server(('127.0.0.1', int(os.environ['NOMAD_PORT_web']))); "
    "time.sleep(600)"
)


class Federation:
    """`serai dev` in the background, and a thread that scrapes all its agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agents: dict[str, str] = {}  # name -> API address
        # metric -> (agent, series) -> [min, max]
        self.seen: dict[str, dict[tuple[str, str], list[float]]] = {}
        self._lines: dict[str, set[str]] = {}  # what each agent's last scrape said
        self.latest: dict[tuple[str, str], float] = {}
        self.http = httpx.Client(timeout=15.0)
        self._is_over = threading.Event()
        self._scraper = threading.Thread(target=self._scrape, daemon=True)

    # --- life ---------------------------------------------------------------------------

    def dev(self, *words: str) -> str:
        """Run `serai dev` on this federation; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "core.cli.main", "dev", "-dir", str(self.folder), *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"serai dev {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def start(self) -> None:
        self.dev("-regions", "eu,us", "-servers", "eu=3,us=1", "-clients", "1", "-detach")
        self.agents = {one["name"]: one["api"] for one in self.status()["agents"]}
        self._scraper.start()
        names = set(self.agents)
        self.until(lambda: {name for name, _ in list(self.latest)} == names, "a first scrape")

    def stop(self) -> None:
        self._is_over.set()
        if self._scraper.is_alive():
            self._scraper.join()
        self.http.close()
        try:
            if (self.folder / "control.sock").exists():
                self.dev("down")
        finally:
            left = self.processes()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes of the federation were left: {left}"

    def processes(self) -> list[int]:
        """Return all that runs for this federation: its folder is in their words or settings."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    if f"{self.folder}/".encode() in told:
                        found.append(int(entry.name))
        return found

    def status(self) -> Any:
        return json.loads(self.dev("status", "-json"))

    def leader(self, region: str) -> str:
        """Return the name of a region's leader, once it has one."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [
                name for name in self.agents
                if name.startswith(region)
                and self.latest.get((name, "serai_raft_is_leader")) == 1
            ]  # fmt: skip
            return len(found) == 1

        self.until(is_there, f"one leader in {region}")
        return found[0]

    def file_of(self, name: str) -> Path:
        return self.folder / name / "agent.hcl"

    # --- scraping -------------------------------------------------------------------------

    def _scrape(self) -> None:
        with httpx.Client(timeout=2.0) as http:
            while not self._is_over.wait(SCRAPE_INTERVAL_S):
                for name, api in self.agents.items():
                    try:
                        text = http.get(f"{api}/v1/metrics", params={"format": "prometheus"}).text
                    except httpx.HTTPError:
                        self._forget(name)  # it is dead, or paused
                    else:
                        self._take_in(name, text)

    def _forget(self, name: str) -> None:
        self._lines.pop(name, None)
        for key in [key for key in self.latest if key[0] == name]:
            del self.latest[key]

    def _take_in(self, name: str, text: str) -> None:
        lines = {line for line in text.splitlines() if not line.startswith("#")}
        for line in lines - self._lines.get(name, set()):  # most say what they said before
            series, _, shown = line.rpartition(" ")
            value = float(shown)
            spans = self.seen.setdefault(series.partition("{")[0], {})
            span = spans.setdefault((name, series), [value, value])
            span[0] = min(span[0], value)
            span[1] = max(span[1], value)
            self.latest[name, series] = value
        self._lines[name] = lines

    def has_moved(self, name: str, kind: str) -> bool:
        wanted = {"counter": f"{name}_total", "histogram": f"{name}_count"}.get(kind, name)
        return any(
            low != high or (kind != "gauge" and high > 0)
            for low, high in list(self.seen.get(wanted, {}).values())
        )

    def unmoved(self) -> list[str]:
        return [family[0] for family in every_family() if not self.has_moved(family[0], family[1])]

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
        """Wait for something the scrapes or the API shall show."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
            time.sleep(0.05)

    def until_moved(self, *names: str) -> None:
        kinds = {family[0]: family[1] for family in every_family()}
        for name in names:
            self.until(lambda name=name: self.has_moved(name, kinds[name]), f"{name} moves")

    # --- the API --------------------------------------------------------------------------

    def put(self, agent: str, path: str, body: Any = None, **params: str) -> httpx.Response:
        return self.http.put(f"{self.agents[agent]}/v1/{path}", json=body, params=params)

    def get(self, agent: str, path: str, **params: str) -> httpx.Response:
        return self.http.get(f"{self.agents[agent]}/v1/{path}", params=params)

    def run(self, agent: str, job: dict[str, Any]) -> httpx.Response:
        return self.put(agent, "jobs", {"Job": job})

    def try_to_run(self, agent: str, job: dict[str, Any]) -> None:
        """Give a job to an agent that may have no answer, for it is cut off."""
        with contextlib.suppress(httpx.HTTPError):
            self.run(agent, job)

    def until_running(self, agent: str, job_id: str) -> None:
        def is_running() -> bool:
            rows = self.get(agent, f"job/{job_id}/allocations").json()
            return any(row["ClientStatus"] == "running" for row in rows)

        self.until(is_running, f"{job_id} runs")


def a_job(job_id: str, *, region: str, cpu: int = 100, **more: Any) -> dict[str, Any]:
    """Return a service of one sleeping task, in Nomad's JSON."""
    words = more.pop("words", ["sleep", "600"])
    group = {
        "Name": "main",
        "Count": more.pop("count", 1),
        "EphemeralDisk": {"SizeMB": 150},
        "Tasks": [
            {
                "Name": "task",
                "Driver": "raw_exec",
                "Config": {"command": words[0], "args": words[1:]},
                "Resources": {"CPU": cpu, "MemoryMB": 32},
                "KillTimeout": 1_000_000_000,
            }
        ],
        **more.pop("group", {}),
    }
    return {
        "ID": job_id, "Name": job_id, "Region": region, "Type": more.pop("kind", "service"),
        "Datacenters": more.pop("Datacenters", ["*"]), "TaskGroups": [group], **more,
    }  # fmt: skip


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    found = Federation(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.mark.timeout(120)
def test_no_metric_family_stays_still(federation: Federation) -> None:
    begun = time.monotonic()
    server, client = "us-dc1-server-1", "us-dc1-client-1"
    run_jobs(federation, server)
    divide_a_job(federation)
    lose_the_server(federation, server)
    fill_the_node(federation, server)
    federation.dev("kill", client)  # found dead while the rest happens in eu
    send_garbage(federation, "eu-dc1-server-1")
    slow_the_quorum(federation)
    isolate_the_leader(federation)
    kill_the_leader(federation)
    cut_the_regions(federation)
    go_back_in_time(federation)
    while federation.unmoved() and time.monotonic() - begun < STORY_LIMIT_S:
        time.sleep(0.1)
    unmoved = set(federation.unmoved())
    assert unmoved == set(UNMOVED), f"after {time.monotonic() - begun:.1f} s"


# --- what happens -------------------------------------------------------------------------


def run_jobs(federation: Federation, agent: str) -> None:
    """A service whose checks pass and fail; a batch job that fails and is restarted."""
    checks = [
        {"Name": "well", "Type": "tcp", "PortLabel": "web"},
        {"Name": "ill", "Type": "tcp", "PortLabel": "none"},
    ]
    period = {"Interval": 1_000_000_000, "Timeout": 1_000_000_000}
    web = a_job(
        "web", region="us", words=[sys.executable, "-c", LISTEN],
        group={
            "Networks": [{"DynamicPorts": [{"Label": "web"}, {"Label": "none"}]}],
            "Services": [
                {
                    "Name": "web", "Provider": "nomad", "PortLabel": "web",
                    "Checks": [{**check, **period} for check in checks],
                }
            ],
        },
    )  # fmt: skip
    restart = {"Attempts": 50, "Interval": 60_000_000_000, "Delay": 200_000_000, "Mode": "fail"}
    crash = a_job(
        "crash", region="us", words=["false"], kind="batch", group={"RestartPolicy": restart}
    )
    later = a_job(
        "later", region="us", words=["false"], kind="batch",
        group={
            "RestartPolicy": {"Attempts": 0, "Interval": 60_000_000_000, "Mode": "fail"},
            "ReschedulePolicy": {
                "Attempts": 1, "Interval": 600_000_000_000, "Delay": 30_000_000_000,
                "DelayFunction": "constant",
            },
        },
    )  # fmt: skip
    for job in (web, crash, later):
        answer = federation.run(agent, job)
        assert answer.status_code == 200, answer.text
    federation.until_running(agent, "web")
    federation.until_moved("serai_client_checks", "serai_client_task_restarts")


def lose_the_server(federation: Federation, server: str) -> None:
    """The only server of us dies: its client's reports wait. It comes back, less patient."""
    federation.until_moved("serai_scheduler_waiting")  # before its evaluation is forgotten
    federation.dev("kill", server)
    federation.until_moved("serai_client_reports_retried")
    path = federation.file_of(server)
    impatient = 'server {\n  failover_heartbeat_ttl = "3s"\n  raft_snapshot_threshold = 20\n'
    path.write_text(re.sub(r"^server \{\n", impatient, path.read_text(), flags=re.MULTILINE))
    federation.dev("start", server)
    alive = (server, 'serai_gossip_members{pool="lan",state="alive"}')
    federation.until(lambda: federation.latest.get(alive) == 2, "the client in the LAN pool")
    federation.leader("us")


def fill_the_node(federation: Federation, agent: str) -> None:
    """What fits runs, one more waits for room, what is too big is refused, a stop ends one."""
    assert federation.run(agent, a_job("fits", region="us", cpu=MHZ * 6 // 10)).status_code == 200
    federation.until_running(agent, "fits")
    assert federation.run(agent, a_job("more", region="us", cpu=MHZ * 6 // 10)).status_code == 200
    federation.until_moved("serai_scheduler_blocked", "serai_scheduler_placements_refused")
    answer = federation.run("eu-dc1-server-1", a_job("huge", region="eu", cpu=MHZ * 50))
    assert answer.status_code == 422 and "eu/dc1" in answer.text and "us/dc1" in answer.text
    answer = federation.run("eu-dc1-server-1", a_job("far", region="mars"))
    assert answer.status_code == 500
    stopped = federation.http.delete(f"{federation.agents[agent]}/v1/job/web")
    assert stopped.status_code == 200
    federation.until_moved("serai_client_task_kills", "serai_raft_snapshots")


def send_garbage(federation: Federation, name: str) -> None:
    """Bytes that are not ours on the RPC and gossip ports."""
    text = federation.file_of(name).read_text()
    host = re.search(r'^bind_addr\s*= "(.+)"', text, re.MULTILINE)
    ports = dict(re.findall(r"^  (rpc|serf)\s*= (\d+)$", text, re.MULTILINE))
    assert host
    with socket.create_connection((host[1], int(ports["rpc"]))) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"\xff" * 200, (host[1], int(ports["serf"])))
    federation.until_moved("serai_rpc_connections_refused", "serai_gossip_packets_dropped")


def slow_the_quorum(federation: Federation) -> None:
    """While a plan waits for its commit, another evaluation waits for the planner."""
    leader = federation.leader("eu")
    for name in federation.agents:
        if name.startswith("eu-dc1-server") and name != leader:
            federation.dev("slow", leader, name, "400ms")
    writers = [
        threading.Thread(
            target=federation.try_to_run, args=(leader, a_job(f"slow-{n}", region="eu"))
        )
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    federation.until_moved("serai_scheduler_ready")
    federation.dev("heal")
    for writer in writers:
        writer.join()


def isolate_the_leader(federation: Federation) -> None:
    """A leader without its followers loses what it was about to write."""
    leader = federation.leader("eu")
    federation.dev("cut", leader)
    writer = threading.Thread(
        target=federation.try_to_run, args=(leader, a_job("lost", region="eu")), daemon=True
    )
    writer.start()
    federation.until_moved("serai_raft_proposals_refused")
    federation.dev("heal")
    writer.join()


def kill_the_leader(federation: Federation) -> None:
    leader = federation.leader("eu")
    federation.dev("kill", leader)
    federation.until(lambda: (leader, "serai_raft_is_leader") not in federation.latest, "its end")
    assert federation.leader("eu") != leader
    federation.until_moved("serai_raft_voters")
    federation.dev("start", leader)


def divide_a_job(federation: Federation) -> None:
    """A part of it runs in us for a moment; us hears of its stop after the cut only."""
    home = federation.leader("eu")
    for count in (6, 1):
        job = a_job("parts", region="eu", cpu=400, count=count,
                    Federation={"Spillover": {"Regions": ["us"]}})  # fmt: skip
        answer = federation.run(home, job)
        assert answer.status_code == 200, answer.text
        federation.until_moved("serai_federation_share_moves", "serai_federation_instances_abroad")


def go_back_in_time(federation: Federation) -> None:
    """A datacenter that was restored waits for the one that it can't ask."""
    agent = federation.agents[federation.leader("eu")]
    saved = federation.http.get(f"{agent}/v1/operator/snapshot")
    assert saved.status_code == 200, saved.text
    federation.dev("cut", "eu", "us")
    answer = federation.http.put(f"{agent}/v1/operator/snapshot", content=saved.content)
    assert answer.status_code == 200, answer.text
    federation.until_moved("serai_federation_sealed")
    federation.dev("heal")


def cut_the_regions(federation: Federation) -> None:
    """Who asks for us waits in vain; a list goes on without it, and says so."""
    federation.dev("cut", "eu", "us")
    home = federation.leader("eu")
    federation.http.delete(f"{federation.agents[home]}/v1/job/parts")
    answers: list[httpx.Response] = []
    askers = [
        # Refused at once or at a time limit, depending on what gossip knows already.
        threading.Thread(target=lambda: answers.append(federation.get(home, "jobs", region="us"))),
        # No datacenter that it may run in answers.
        threading.Thread(
            target=federation.try_to_run,
            args=(home, a_job("cut-off", region="*", Datacenters=["us-dc1"])),
        ),
    ]
    for asker in askers:
        asker.start()
    answer = federation.get(home, "jobs", region="*", stale="true")
    assert answer.headers["X-Serai-Missing-Datacenters"] == "us/dc1"
    askers[0].join()
    assert answers[0].status_code >= 500
    federation.until_moved("serai_federation_bounces", "serai_federation_missing")
    federation.dev("heal")
    askers[1].join()
    federation.until_moved("serai_federation_shares_unsettled", "serai_federation_heal_seconds")
