"""A federation of fake agents as real processes: started, killed, restarted, stopped."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.devcluster import control
from core.devcluster.orphans import start_time

pytestmark = pytest.mark.process
BOUND_S = 20.0


class Federation:
    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.folder, self.process = folder, process

    def wait_for_line(self, wanted: str) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if readable:
                line = os.read(self.process.stdout.fileno(), 65536).decode()
                if wanted in line or not line:
                    return line
        raise AssertionError(f"never said {wanted!r}")

    def agents(self) -> dict[str, dict[str, object]]:
        answer = control.ask(self.folder, "status", [])
        return {one["name"]: one for one in answer["agents"]}

    def task_pid(self, name: str) -> int:
        return int((self.folder / name / "task.pid").read_text())


@contextmanager
def federation(folder: Path, regions: str = "eu,us") -> Iterator[Federation]:
    script = str(Path(__file__).with_name("run_federation.py"))
    process = subprocess.Popen(
        [sys.executable, script, str(folder), regions], stdout=subprocess.PIPE, text=True
    )
    try:
        yield Federation(folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(BOUND_S)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return start_time(pid) is None


def test_a_killed_agent_is_reported_restarted_and_nothing_is_left(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        running.wait_for_line("ready")
        agents = running.agents()
        assert sorted(agents) == [
            "eu-dc1-client-1", "eu-dc1-server-1", "us-dc1-client-1", "us-dc1-server-1",
        ]  # fmt: skip
        assert agents["eu-dc1-server-1"]["role"] == "leader"
        orphan = running.task_pid("eu-dc1-client-1")
        victim = agents["eu-dc1-client-1"]["pid"]
        assert isinstance(victim, int)
        os.kill(victim, signal.SIGKILL)
        line = running.wait_for_line("was killed")
        assert "serai dev start eu-dc1-client-1" in line
        assert not is_gone(orphan), "a task outlives its agent"
        started = control.ask(tmp_path, "start", ["eu-dc1-client-1"])["lines"][0]
        assert started.startswith("eu-dc1-client-1 started (pid ")
        wait_until(lambda: running.agents()["eu-dc1-client-1"]["state"] == "running")
        pids = [one["pid"] for one in running.agents().values()]
        control.ask(tmp_path, "down", [])
        assert running.process.wait(BOUND_S) == 0
    assert all(isinstance(pid, int) and is_gone(pid) for pid in pids)
    assert is_gone(orphan)
    assert not control.is_served(tmp_path)
    assert not (tmp_path / "control.sock").exists()


def test_an_ended_task_of_a_killed_agent_leaves_no_zombie(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        running.wait_for_line("ready")
        control.ask(tmp_path, "kill", ["us-dc1-client-1"])
        orphan = running.task_pid("us-dc1-client-1")
        os.kill(orphan, signal.SIGTERM)
        wait_until(lambda: is_gone(orphan))


def test_a_paused_agent_can_be_stopped(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        running.wait_for_line("ready")
        control.ask(tmp_path, "stop", ["us"])
        assert running.agents()["us-dc1-server-1"]["state"] == "paused"
        control.ask(tmp_path, "cont", ["us-dc1-client-1"])
        assert running.agents()["us-dc1-client-1"]["state"] == "running"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(BOUND_S) == 0


def test_rules_are_set_listed_and_refused_from_another_terminal(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        running.wait_for_line("started")
        control.ask(tmp_path, "cut", ["eu", "us"])
        control.ask(tmp_path, "slow", ["eu", "us", "0.2"])
        rules = control.ask(tmp_path, "status", [])["rules"]
        assert rules == ["eu <-> us: cut", "eu <-> us: slow by 200 ms"]
        with pytest.raises(control.ControlError, match="asia"):
            control.ask(tmp_path, "kill", ["asia"])
        with pytest.raises(control.ControlError, match="does not take 0 arguments"):
            control.ask(tmp_path, "cut", [])
        assert len(control.ask(tmp_path, "heal", [])["lines"]) == 2


def test_an_agent_that_does_not_start_ends_everything_and_says_why(tmp_path: Path) -> None:
    with federation(tmp_path, "eu,bad") as running:
        text = running.wait_for_line("before it was ready")
        assert "bad-dc1-server-1 ended with exit code 1" in text
        assert "the port is taken" in text
        assert running.process.wait(BOUND_S) == 1


def test_agents_end_when_their_supervisor_is_killed() -> None:
    """`launch` asks the kernel for that; here a shell plays the supervisor."""
    script = (
        "import subprocess, sys, time;"
        "from core.devcluster import launch, orphans; import os, signal;"
        "child = os.fork();"
        "child or (orphans.die_with_parent(signal.SIGTERM), print(os.getpid(), flush=True),"
        " time.sleep(600));"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: is_gone(child) or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
