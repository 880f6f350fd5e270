"""Gossip of real agents: who refuses whom, joining by name, and a key changed under way."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from scenario_agents import Agent
from scenario_processes import until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("agents")]

Start = Callable[..., Agent]
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.hcl"
    path.write_text(f'name = "{name}"\ndata_dir = "{folder}/{name}"\n{text}')
    return str(path)


def server(folder: Path, name: str, **changes: str) -> str:
    """Return the path of a server's configuration; one that begins a datacenter by itself."""
    region, datacenter = changes.get("region", "eu"), changes.get("datacenter", "dc1")
    joins = f"server_join {{\n retry_join = [{changes.get('joins', '')}]\n }}"
    return write(
        folder, name,
        f'region = "{region}"\ndatacenter = "{datacenter}"\n'
        f'server {{\n enabled = true\n bootstrap_expect = 1\n encrypt = "{KEY}"\n {joins}\n}}\n',
    )  # fmt: skip


def serai(agent: Agent, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOMAD_", "SERAI_"))}
    return subprocess.run(
        [sys.executable, "-m", "core.cli.main", *words],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**kept, "SERAI_ADDR": agent.api},
    )  # fmt: skip


def members(agent: Agent) -> list[str]:
    found = httpx.get(f"{agent.api}/v1/agent/members", timeout=10).json()["Members"]
    return sorted(one["Name"] for one in found if one["Status"] == "alive")


def test_two_regions_of_one_name_refuse_each_other(start_agent: Start, tmp_path: Path) -> None:
    one = start_agent("-config", server(tmp_path, "s1"))
    two = start_agent("-config", server(tmp_path, "s2", datacenter="dc2"))
    one.until_leader()
    two.until_leader()
    done = serai(one, "server", "join", f"{two.host}:4648")
    assert done.returncode == 1 and "s2.eu is refused" in done.stderr, done
    until(lambda: "wan member refused" in two.log(), "the other side's word", 10)
    for agent, other in ((one, "s2.eu"), (two, "s1.eu")):
        (line,) = [line for line in agent.log().splitlines() if "wan member refused" in line]
        assert other in line and "'eu'" in line
        text = httpx.get(f"{agent.api}/v1/metrics?format=prometheus", timeout=10).text
        pattern = r'serai_gossip_packets_dropped_total\{pool="wan",reason="not_admitted"\} [1-9]'
        assert re.search(pattern, text)
        assert len(members(agent)) == 1


def test_a_key_is_changed_under_way_and_kept_over_a_restart(
    start_agent: Start, tmp_path: Path
) -> None:
    """Joined by a DNS name; the client of the datacenter gets the key as well."""
    one = start_agent("-config", server(tmp_path, "s1"), host="127.0.0.1")
    one.until_leader()
    two = start_agent(
        "-config", server(tmp_path, "s2", region="us", joins='"localhost", "127.255.1.1"')
    )
    client = write(
        tmp_path, "c1",
        f'region = "eu"\nclient {{\n enabled = true\n servers = ["127.0.0.1"]\n}}\n'
        f'server {{\n encrypt = "{KEY}"\n}}\n',
    )  # fmt: skip
    start_agent("-config", client)
    two.until_leader()
    until(lambda: members(one) == ["s1.eu", "s2.us"], "both regions", 20)
    until(lambda: keys(one)["NumResp"] == 3, "the client", 20)
    new = serai(one, "operator", "gossip", "keyring", "generate").stdout.strip()
    early = serai(one, "operator", "gossip", "keyring", "use", new)
    assert early.returncode == 1 and "would be cut off" in early.stderr
    for operation, key in (("install", new), ("use", new), ("remove", KEY)):
        done = serai(one, "operator", "gossip", "keyring", operation, key)
        assert done.returncode == 0 and "at 3 of 3 members" in done.stdout, done
    assert keys(two)["PrimaryKeys"] == {new: 3}
    for name in ("s1", "s2", "c1"):
        assert json.loads((tmp_path / name / "serf.keyring").read_text()) == [new]
    two.process.terminate()  # not `stop`: that ends all agents of this folder
    two.until_end(20)
    again = start_agent("-config", str(tmp_path / "s2.hcl"), host=two.host)
    again.until_leader()
    until(lambda: members(again) == ["s1.eu", "s2.us"], "both again, by the kept key", 20)


def keys(agent: Agent) -> dict[str, object]:
    answer = httpx.get(f"{agent.api}/v1/agent/keyring/list", timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()
