"""What operators do to a quorum, with processes: certificates, peers, snapshots, recovery."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scenario_agents import HTTP_PORT, RPC_PORT, Agent, free_hosts
from scenario_federation import Done, a_job, serai
from scenario_processes import until

Start = Callable[..., Agent]

SERVER = """
name      = "{name}"
data_dir  = "{folder}"
log_level = "INFO"
server {{
  enabled                 = true
  bootstrap_expect        = {expect}
  raft_snapshot_threshold = 12
  server_join {{
    retry_join     = {joins}
    retry_interval = "1s"
  }}
}}
autopilot {{
  server_stabilization_time = "1s"
}}
"""


class Servers:
    """Servers of one datacenter, by name; their folders and addresses outlive them."""

    def __init__(self, start: Start, folder: Path, count: int, more: str = "") -> None:
        self._start = start
        self.folder = folder
        self._more = more
        self._hosts = free_hosts()
        self.hosts = {f"s{number}": next(self._hosts) for number in range(1, count + 1)}
        self.agents: dict[str, Agent] = {}
        self.expect = count

    def start(self, name: str) -> Agent:
        host = self.hosts.setdefault(name, "") or next(self._hosts)
        self.hosts[name] = host
        joins = [f"{one}:4648" for other, one in self.hosts.items() if other != name]
        file = self.folder / f"{name}.hcl"
        file.write_text(
            SERVER.format(
                name=name, folder=self.data(name), expect=self.expect, joins=json.dumps(joins)
            )
            + self._more.format(name=name)
        )
        agent = self._start("-config", str(file), host=host)
        self.agents[name] = agent
        return agent

    def data(self, name: str) -> Path:
        return self.folder / f"data-{name}"

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End one server alone, by default without a word."""
        process = self.agents[name].process
        process.send_signal(number)
        process.wait()

    def get(self, name: str, path: str, **params: Any) -> httpx.Response:
        return httpx.get(f"{self.agents[name].api}/v1/{path}", params=params, timeout=20)

    def peers(self, name: str) -> dict[str, dict[str, Any]]:
        answer = self.get(name, "operator/raft/configuration", stale="true")
        rows = answer.json()["Servers"] if answer.status_code == 200 else []
        return {row["Node"].partition(".")[0]: row for row in rows}

    def leader(self) -> str:
        def look() -> str:
            for name, agent in self.agents.items():
                if agent.process.poll() is None:
                    for peer, row in self.peers(name).items():
                        if row["Leader"]:
                            return peer
            return ""

        return until(look, "a leader", 60)

    def register(self, name: str, job_id: str) -> httpx.Response:
        job = {
            "ID": job_id,
            "Name": job_id,
            "Datacenters": ["dc1"],
            "Type": "service",
            "TaskGroups": [
                {
                    "Name": "g",
                    "Count": 1,
                    "Tasks": [
                        {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/true"}}
                    ],
                }
            ],
        }
        return httpx.put(f"{self.agents[name].api}/v1/jobs", json={"Job": job}, timeout=20)

    def jobs(self, name: str, **params: Any) -> list[str]:
        return [job["ID"] for job in self.get(name, "jobs", **params).json()]

    def serai(self, name: str, *words: str) -> Done:
        return serai(*words, SERAI_ADDR=self.agents[name].api)


@pytest.fixture
def servers(start_agent: Start, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(start_agent, tmp_path, 3)
    for name in made.hosts:
        made.start(name)
    for agent in made.agents.values():
        agent.until_leader(limit_s=60)
    yield made
    logs = "".join(agent.log() for agent in made.agents.values())
    assert "Traceback" not in logs


def other_than(servers: Servers, *names: str) -> str:
    return next(name for name in servers.hosts if name not in names)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_of_three_disks_are_lost_and_the_third_goes_on_with_all_it_had(
    servers: Servers,
) -> None:
    leader = servers.leader()
    for number in range(9):
        assert servers.register(leader, f"job-{number}").status_code == 200
    left = other_than(servers, leader)
    lost = [name for name in servers.hosts if name != left]
    own = servers.peers(left)[left]["ID"]
    until(lambda: len(servers.jobs(left, stale="true")) == 9, "the last server holds all")

    for name in lost:
        servers.kill(name)
        shutil.rmtree(servers.data(name))
    cut_off = servers.register(left, "refused")
    assert cut_off.status_code == 500 and "No cluster leader" in cut_off.text
    headers = servers.get(left, "jobs", stale="true").headers
    assert headers["X-Nomad-KnownLeader"] == "false"
    assert int(headers["X-Nomad-LastContact"]) >= 5000  # the refusal took so long

    servers.kill(left)
    peers = servers.data(left) / "server" / "raft" / "peers.json"
    for rubbish, reason in (
        ("{not json", "Write it as"),
        ('[{"id": "someone", "address": "127.0.0.1:4647"}]', "does not name this server"),
        (f'[{{"id": "{own}", "address": "nowhere"}}]', "is no RPC address"),
        (f'[{{"id": "{own}", "address": "h:1"}}, {{"id": "{own}", "address": "h:1"}}]', "twice"),
    ):
        peers.write_text(rubbish)
        refused = servers.start(left)
        assert refused.until_end(60) == 1
        assert reason in refused.log() and str(peers) in refused.log()
    address = f"{servers.hosts[left]}:{RPC_PORT}"
    peers.write_text(json.dumps([{"id": own, "address": address, "non_voter": False}]))
    servers.start(left).until_leader(limit_s=60)
    assert not peers.exists()
    assert len(servers.jobs(left)) == 9
    assert servers.register(left, "after").status_code == 200

    for name in lost:  # with empty disks, under their old names
        servers.start(name)

    def all_vote() -> bool:
        rows = servers.peers(left)
        return len(rows) == 3 and all(row["Voter"] for row in rows.values())

    until(all_vote, "the new servers vote", 90)
    verified = servers.serai(left, "operator", "raft", "verify")
    assert verified.code == 0 and "All 3 servers hold the same state" in verified.out
    assert len(servers.jobs(lost[0], stale="true")) == 10


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_operator_removes_hands_over_saves_and_restores(
    servers: Servers, start_agent: Start, tmp_path: Path
) -> None:
    leader = servers.leader()
    servers.register(leader, "kept")
    saved = tmp_path / "state.snap"
    done = servers.serai(leader, "operator", "snapshot", "save", str(saved))
    assert done.code == 0, done.error
    index = json.loads(
        serai("operator", "snapshot", "inspect", "-json", str(saved)).out
    )["Index"]  # fmt: skip
    for number in range(12):  # past a snapshot of Raft's own
        servers.register(leader, f"lost-{number}")
    for name in servers.hosts:  # each server rebuilds the state of that index alike
        again = tmp_path / f"{name}.snap"
        done = servers.serai(
            name, "operator", "snapshot", "save", "-stale", f"-index={index}", str(again)
        )
        if "is compacted" not in done.error:
            assert done.code == 0, done.error
            assert again.read_bytes() == saved.read_bytes()
    newest = int(servers.get(leader, "jobs").headers["X-Nomad-Index"])
    files = []
    for name in servers.hosts:
        files.append(tmp_path / f"{name}-new.snap")
        done = servers.serai(
            name, "operator", "snapshot", "save", "-stale", f"-index={newest}", str(files[-1])
        )
        assert done.code == 0, done.error
    assert len({file.read_bytes() for file in files}) == 1

    refuse_damage(servers, leader, saved, tmp_path)
    alone = start_agent("-dev")
    alone.until_leader()
    foreign = serai("operator", "snapshot", "restore", str(saved), SERAI_ADDR=alone.api)
    assert foreign.code == 1 and "restore it there, or say -force" in foreign.error
    forced = serai("operator", "snapshot", "restore", "-force", str(saved), SERAI_ADDR=alone.api)
    assert forced.code == 0, forced.error
    assert [job["ID"] for job in httpx.get(f"{alone.api}/v1/jobs").json()] == ["kept"]

    restored = servers.serai(leader, "operator", "snapshot", "restore", str(saved))
    assert restored.code == 0, restored.error
    assert servers.jobs(leader) == ["kept"]
    for name in servers.hosts:
        until(lambda name=name: servers.jobs(name, stale="true") == ["kept"], f"{name} has it")
    assert servers.serai(leader, "operator", "raft", "verify").code == 0

    heir = other_than(servers, leader)
    address = f"{servers.hosts[heir]}:{RPC_PORT}"
    done = servers.serai(
        leader, "operator", "raft", "transfer-leadership", f"-peer-address={address}"
    )
    assert done.code == 0 and address in done.out
    assert servers.leader() == heir

    third = other_than(servers, leader, heir)
    gone = servers.peers(heir)[leader]["ID"]
    os.kill(servers.agents[third].process.pid, signal.SIGSTOP)
    try:
        done = until(
            lambda: refused(servers, heir, gone), "a removal that loses the quorum is refused"
        )
        assert "the quorum would be lost" in done.error
    finally:
        os.kill(servers.agents[third].process.pid, signal.SIGCONT)
    until(lambda: servers.get(heir, "operator/autopilot/health").status_code == 200, "all healthy")
    done = servers.serai(heir, "operator", "raft", "remove-peer", f"-peer-id={gone}")
    assert done.code == 0, done.error
    assert set(servers.peers(heir)) == {heir, third}
    unknown = servers.serai(heir, "operator", "raft", "remove-peer", "-peer-id=nobody")
    assert unknown.code == 1 and "no server with id 'nobody'" in unknown.error
    until(lambda: "an operator removed this server" in servers.agents[heir].log(), "it is told")
    assert set(servers.peers(heir)) == {heir, third}  # it is not taken in again


def refused(servers: Servers, leader: str, server_id: str) -> Done | None:
    """Return the refusal of a removal, None when the leader does not know yet who is gone."""
    answer = servers.get(leader, "operator/autopilot/health")
    if answer.status_code != 429:
        return None
    done = servers.serai(leader, "operator", "raft", "remove-peer", f"-peer-id={server_id}")
    return done if done.code == 1 else None


def refuse_damage(servers: Servers, leader: str, saved: Path, folder: Path) -> None:
    """A snapshot that was cut, altered or is none is refused, by the command and by the API."""
    whole = saved.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for data, reason in (
        (whole[:-7], "cut short"),
        (flipped, "damaged"),
        (b"rubbish" * 99, "no Serai snapshot"),
        (b"", ""),
    ):
        file = folder / "damaged.snap"
        file.write_bytes(data)
        done = servers.serai(leader, "operator", "snapshot", "restore", str(file))
        assert done.code == 1 and reason in done.error and str(file) in done.error
        answer = httpx.put(
            f"{servers.agents[leader].api}/v1/operator/snapshot", content=data, timeout=20
        )
        assert answer.status_code == 400 and "nothing was restored" in answer.text
    assert "kept" in servers.jobs(leader)


TLS = """
tls {{{{
  http                   = true
  rpc                    = true
  ca_file                = "{folder}/serai-agent-ca.pem"
  cert_file              = "{folder}/global-server-{{name}}-serai.pem"
  key_file               = "{folder}/global-server-{{name}}-serai-key.pem"
  verify_server_hostname = true
  verify_https_client    = true
}}}}
"""

CLIENT = """
name     = "c1"
data_dir = "{folder}/data-c1"
client {{
  enabled = true
  servers = {servers}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
tls {{
  http                   = true
  rpc                    = true
  ca_file                = "{folder}/serai-agent-ca.pem"
  cert_file              = "{folder}/global-client-serai.pem"
  key_file               = "{folder}/global-client-serai-key.pem"
  verify_server_hostname = true
  verify_https_client    = true
}}
"""


def test_a_quorum_and_a_client_run_on_certificates_of_ones_own(
    start_agent: Start, tmp_path: Path
) -> None:
    def tls(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "core.cli.main", "tls", *words], cwd=tmp_path,
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    servers = Servers(start_agent, tmp_path, 3, TLS.format(folder=tmp_path))
    tls("ca", "create")
    for name, host in servers.hosts.items():
        tls("cert", "create", "-server", "-node", name, f"-additional-ipaddress={host}")
    tls("cert", "create", "-client")
    tls("cert", "create", "-cli")
    cli = {
        "SERAI_CACERT": f"{tmp_path}/serai-agent-ca.pem",
        "SERAI_CLIENT_CERT": f"{tmp_path}/global-cli-serai.pem",
        "SERAI_CLIENT_KEY": f"{tmp_path}/global-cli-serai-key.pem",
    }
    for name in servers.hosts:
        servers.start(name)
    api = f"https://{servers.hosts['s1']}:{HTTP_PORT}"

    def ask(*words: str) -> Done:
        return serai(*words, SERAI_ADDR=api, **cli)

    until(lambda: ask("operator", "raft", "list-peers").code == 0, "a quorum over TLS", 90)
    file = tmp_path / "client.hcl"
    addresses = json.dumps([f"{host}:{RPC_PORT}" for host in servers.hosts.values()])
    file.write_text(CLIENT.format(folder=tmp_path, servers=addresses))
    client = start_agent("-config", str(file))
    until(lambda: "ready" in ask("node", "status").out, "the client is ready", 90)
    ran = serai("job", "run", "-", text=a_job("web"), SERAI_ADDR=api, **cli)
    assert ran.code == 0, ran.error
    assert ask("operator", "raft", "verify").code == 0
    bare = serai("status", SERAI_ADDR=api, SERAI_CACERT=cli["SERAI_CACERT"])
    assert bare.code == 1 and "Traceback" not in bare.error  # no certificate of ours
    logs = client.log() + "".join(agent.log() for agent in servers.agents.values())
    assert "Traceback" not in logs
