"""Two versions in one quorum, as processes: the next version is this one with schema 2."""

import contextlib
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from scenario_agents import Agent
from scenario_processes import until
from test_quorum import Servers

Start = Callable[..., Agent]
REPOSITORY = Path(__file__).parents[2]


def next_version(folder: Path) -> Path:
    """Return a copy of the program whose newest schema is one higher."""
    copy = folder / "next"
    for package in ("core", "gossip", "raft"):
        shutil.copytree(
            REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    entry = copy / "core" / "state" / "entry.py"
    text, count = re.subn(
        r"^SCHEMA: Final = 1 ", "SCHEMA: Final = 2 ", entry.read_text(), flags=re.M
    )
    assert count == 1
    entry.write_text(text)
    return copy


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_servers_are_upgraded_one_by_one_and_the_schema_rises_at_the_last(
    start_agent: Start, tmp_path: Path
) -> None:
    newer = next_version(tmp_path)
    servers = Servers(start_agent, tmp_path, 3)
    names = list(servers.hosts)
    for name in names:
        servers.start(name)
    for agent in servers.agents.values():
        agent.until_leader(limit_s=60)
    rise = "the schema of the log rises"
    for number, name in enumerate(names):
        assert rise not in everything(servers)
        servers.kill(name, signal.SIGTERM)
        with contextlib.chdir(newer):  # python -m finds the program there
            servers.start(name)
        servers.agents[name].until_leader(limit_s=60)
        until(lambda n=number: registers(servers, names, f"job-{n}"), "a write", 60)
    until(lambda: rise in everything(servers), "the schema rises", 60)
    leader = servers.leader()
    assert len(servers.jobs(leader)) == 3
    assert servers.serai(leader, "operator", "raft", "verify").code == 0

    # Back to the old version it can't go: it says so and stops, the others go on.
    old = next(name for name in names if name != leader)
    servers.kill(old, signal.SIGTERM)
    refused = servers.start(old)
    assert refused.until_end(90) == 1
    assert "this version knows up to 1" in refused.log() and "upgrade it" in refused.log()
    until(lambda: registers(servers, [n for n in names if n != old], "after"), "a write", 60)
    assert "Traceback" not in everything(servers)


def everything(servers: Servers) -> str:
    return "".join(agent.log() for agent in servers.agents.values())


def registers(servers: Servers, names: list[str], job_id: str) -> bool:
    """Whether any of these servers takes a job now."""
    return any(servers.register(name, job_id).status_code == 200 for name in names)
