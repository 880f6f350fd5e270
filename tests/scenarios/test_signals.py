"""SIGTERM, SIGHUP, and a development agent that leaves nothing behind."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from scenario_agents import Agent
from scenario_federation import a_job, serai
from scenario_processes import processes_below, task_processes, until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("agents")]

Start = Callable[..., Agent]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_development_agent_leaves_nothing(
    start_agent: Start, tmp_path: Path, number: signal.Signals
) -> None:
    agent = start_agent("-dev")
    agent.until_leader()
    run = ("job", "run", "-address", agent.api, "-detach", "-")
    assert serai(*run, text=a_job("dev")).code == 0
    until(lambda: task_processes("dev", tmp_path), "the task")
    began = time.monotonic()
    agent.process.send_signal(number)
    assert agent.until_end() == 0, agent.log()
    assert time.monotonic() - began < 8
    assert not processes_below(tmp_path)
    assert [path for path in tmp_path.iterdir() if path != agent.log_path] == []
    assert "Traceback" not in agent.log()


def test_a_hangup_changes_the_log_level(start_agent: Start, tmp_path: Path) -> None:
    file = tmp_path / "agent.hcl"
    settings = 'data_dir = "{}/data"\nlog_level = "{}"\nserver {{\n  enabled = true\n}}\n'
    file.write_text(settings.format(tmp_path, "ERROR"))
    agent = start_agent("-config", str(file), "-bootstrap-expect", "1")
    agent.until_leader()
    assert "[info" not in agent.log()
    file.write_text(settings.format(tmp_path, "DEBUG"))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: "[info" in agent.log().lower(), "a line of the new level")

    # What can't be read changes nothing, and is told.
    file.write_text("log_level = \n")
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: f"{file}:1" in agent.log(), "the error of the file")
    assert httpx.get(f"{agent.api}/v1/status/leader").status_code == 200
    agent.process.send_signal(signal.SIGTERM)
    assert agent.until_end() == 0
    assert "Traceback" not in agent.log()
