"""Real processes: start, output, signals, ends, and what survives a killed agent."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from core.agent.execution.executor import Executor
from core.agent.execution.runs import RunFolder, RunsBusy, boot_id, is_alive, start_ticks
from core.client.effects import (
    NO_HANDLE,
    AllocPrepared,
    DestroyAlloc,
    LogLimits,
    PrepareAlloc,
    ReadStats,
    ReattachTask,
    SaveState,
    SignalTask,
    StartTask,
    StatsRead,
    TaskExited,
    TaskFailedToStart,
    TaskSpec,
    TaskStarted,
)

ALLOC = "11111111-2222-3333-4444-555555555555"
WAIT_S = 20


class Bench:
    """An executor, and the events it delivered."""

    def __init__(self, executor: Executor, events: list[Any], heard: "trio.Event") -> None:
        self.executor = executor
        self.events = events
        self.heard = heard

    async def until(self, kind: type, where: Callable[[Any], bool] = lambda e: True) -> Any:
        with trio.fail_after(WAIT_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and where(event):
                        return event
                self.heard = trio.Event()
                await self.heard.wait()

    async def prepare(self, *tasks: str) -> None:
        self.executor.submit(PrepareAlloc(ALLOC, list(tasks)))
        event = await self.until(AllocPrepared)
        assert event.error == ""

    async def start(self, script: str, *, attempt: int = 1, task: str = "web", **more: Any) -> Any:
        self.executor.submit(StartTask(ALLOC, task, attempt, shell(script, **more)))
        return await self.until(
            (TaskStarted, TaskFailedToStart),  # type: ignore[arg-type]
            lambda e: (e.task, e.attempt) == (task, attempt),
        )

    async def exited(self, attempt: int = 1) -> TaskExited:
        return await self.until(TaskExited, lambda e: e.attempt == attempt)

    def log(self, name: str) -> str:
        return (Path(self.executor.alloc_dir) / ALLOC / "alloc" / "logs" / name).read_text()


def shell(script: str, *, limits: LogLimits | None = None, **more: Any) -> TaskSpec:
    fields: dict[str, Any] = {
        "driver": "raw_exec",
        "config": {"command": "/bin/sh", "args": ["-c", script]},
        "env": {"NOMAD_ALLOC_ID": ALLOC},
        "logs": limits or LogLimits(10, 1 << 20),
    }
    return TaskSpec(**{**fields, **more})


@asynccontextmanager
async def opened(folder: Path, **more: Any) -> AsyncIterator[Bench]:
    """Run an executor; its end is an agent's end: tasks stay."""
    events: list[Any] = []
    bench: Bench

    def deliver(event: Any) -> None:
        events.append(event)
        bench.heard.set()

    executor = Executor(folder, deliver=deliver, log=structlog.get_logger(), **more)
    bench = Bench(executor, events, trio.Event())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            yield bench
            nursery.cancel_scope.cancel()
    finally:
        executor.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as bench:
        await bench.prepare("web", "log")
        yield bench
        end_all(bench.events)


def end_all(events: list[Any]) -> None:
    boot = boot_id()
    for event in events:
        if isinstance(event, TaskStarted) and is_alive(event.handle, boot):
            os.killpg(event.handle.pid, signal.SIGKILL)


async def gone(pid: int) -> None:
    """Wait until no process has this pid, or it is a zombie."""
    with trio.fail_after(WAIT_S):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return
            if state == "Z":
                return
            await trio.sleep(0.01)


async def test_a_task_runs_in_a_session_of_its_own_and_its_end_is_told(bench: Bench) -> None:
    started = await bench.start("echo out; echo err >&2; echo $NOMAD_ALLOC_ID; pwd; exit 3")
    assert isinstance(started, TaskStarted)
    ended = await bench.exited()
    assert (ended.exit_code, ended.signal, ended.is_lost) == (3, 0, False)
    folder = Path(bench.executor.alloc_dir) / ALLOC / "web"
    assert bench.log("web.stdout.0") == f"out\n{ALLOC}\n{folder}\n"
    assert bench.log("web.stderr.0") == "err\n"


async def test_the_environment_is_the_allow_list_and_the_jobs(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/h", "SECRET_TOKEN": "x"}
    async with opened(tmp_path, environment=environment) as bench:
        await bench.prepare("web")
        await bench.start("env", env={"A": "1"})
        await bench.exited()
        names = {line.split("=")[0] for line in bench.log("web.stdout.0").splitlines()}
        assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "HOME", "A"}


async def test_a_signal_reaches_the_whole_group(bench: Bench) -> None:
    started = await bench.start("sleep 1000 & echo $! ; wait")
    with trio.fail_after(WAIT_S):
        while not (text := bench.log("web.stdout.0")):
            await trio.sleep(0.01)
    child = int(text)
    assert os.getpgid(child) == os.getsid(started.handle.pid) == started.handle.pid
    bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGTERM"))
    ended = await bench.exited()
    assert (ended.exit_code, ended.signal) == (143, signal.SIGTERM)
    await gone(child)


async def test_a_task_that_ignores_its_interrupt_falls_to_sigkill(bench: Bench) -> None:
    await bench.start("trap '' INT; echo ready; while :; do sleep 0.05; done")
    with trio.fail_after(WAIT_S):
        while "ready" not in bench.log("web.stdout.0"):
            await trio.sleep(0.01)
    bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGINT"))
    bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGKILL"))
    ended = await bench.exited()
    assert (ended.exit_code, ended.signal) == (137, signal.SIGKILL)


async def test_what_a_task_leaves_behind_ends_with_it_even_in_another_session(
    bench: Bench,
) -> None:
    await bench.start("setsid sleep 1000 & sleep 1000 & echo done; exit 0")
    ended = await bench.exited()
    assert ended.exit_code == 0
    session = f"NOMAD_ALLOC_ID={ALLOC}".encode()
    alive = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                if session in Path(f"/proc/{entry}/environ").read_bytes():
                    alive.append(entry)
            except OSError:
                continue
    assert alive == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, '"command" is missing'),
        ({"command": "no-such-thing"}, "not found in the task's folder or PATH"),
        ({"command": "/no/such"}, "not found"),
        ({"command": "/etc/passwd"}, "permission denied"),
        ({"command": "/tmp"}, "is a folder"),
        ({"command": "/bin/true", "args": "x"}, "must be a list"),
        ({"command": "/bin/true", "work_dir": "nowhere"}, "is not a folder"),
        ({"command": "local/broken"}, "interpreter"),
        ({"command": "/bin/sh", "args": ["a\0b"]}, "NUL"),
    ],
)
async def test_a_start_that_cannot_work_says_why(
    bench: Bench, config: dict[str, Any], words: str
) -> None:
    broken = Path(bench.executor.alloc_dir) / ALLOC / "web" / "local" / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    event = await bench.start("", config=config)
    assert isinstance(event, TaskFailedToStart)
    assert words in event.reason
    assert not event.is_recoverable


async def test_a_driver_that_is_not_enabled_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, drivers=()) as bench:
        await bench.prepare("web")
        event = await bench.start("true")
        assert "not enabled" in event.reason


async def test_logs_are_rotated_within_their_limits(bench: Bench) -> None:
    limits = LogLimits(max_files=3, max_file_bytes=1000)
    await bench.start("i=0; while [ $i -lt 400 ]; do echo line-$i; i=$((i+1)); done", limits=limits)
    await bench.exited()
    logs = Path(bench.executor.alloc_dir) / ALLOC / "alloc" / "logs"
    found = sorted(logs.glob("web.stdout.*"), key=lambda path: int(path.suffix[1:]))
    assert len(found) == 3
    assert all(path.stat().st_size <= 1000 for path in found)
    text = "".join(path.read_text() for path in found)
    assert text.endswith("line-399\n")
    first = int(text.splitlines()[0].removeprefix("line-"))  # no line was cut
    assert text.splitlines() == [f"line-{i}" for i in range(first, 400)]


async def test_a_second_run_writes_on_in_the_same_log(bench: Bench) -> None:
    await bench.start("echo one")
    await bench.exited(1)
    await bench.start("echo two", attempt=2)
    await bench.exited(2)
    assert bench.log("web.stdout.0") == "one\ntwo\n"


async def test_logs_can_be_off(bench: Bench) -> None:
    await bench.start("echo hidden", limits=LogLimits(1, 1000, disabled=True))
    assert (await bench.exited()).exit_code == 0
    assert not list((Path(bench.executor.alloc_dir) / ALLOC / "alloc" / "logs").iterdir())


async def test_usage_counts_the_tasks_processes(bench: Bench) -> None:
    started = await bench.start("sleep 1000 & sleep 1000")
    numbers = itertools.count(10)
    with trio.fail_after(WAIT_S):  # a process that is being replaced by exec has no memory yet
        while True:
            number = next(numbers)
            bench.executor.submit(ReadStats(number, ALLOC, {"web": started.handle}))
            body = (await bench.until(StatsRead, lambda e, n=number: e.request_id == n)).body
            if body["Tasks"]["web"]["ResourceUsage"]["MemoryStats"]["RSS"] > 0:
                break
    bench.executor.submit(ReadStats(8))
    host = (await bench.until(StatsRead, lambda e: e.request_id == 8)).body
    assert host["Memory"]["Total"] > host["Memory"]["Available"] > 0


async def test_many_starts_at_once(bench: Bench) -> None:
    for number in range(30):
        bench.executor.submit(StartTask(ALLOC, "web", number, shell(f"exit {number}")))
    for number in range(30):
        assert (await bench.exited(number)).exit_code == number


async def test_a_dead_launcher_is_replaced_and_takes_no_task_with_it(bench: Bench) -> None:
    started = await bench.start("sleep 1000")
    launcher = bench.executor._launcher
    assert launcher is not None and launcher._process is not None
    os.kill(launcher._process.pid, signal.SIGKILL)
    await gone(launcher._process.pid)
    with trio.fail_after(WAIT_S):
        while launcher._requests is not None:
            await trio.sleep(0.01)
    again = await bench.start("exit 4", attempt=2)
    assert isinstance(again, TaskStarted)
    assert (await bench.exited(2)).exit_code == 4
    assert is_alive(started.handle, boot_id())


async def test_destroy_removes_folder_and_records(bench: Bench, tmp_path: Path) -> None:
    await bench.start("true")
    await bench.exited()
    bench.executor.submit(DestroyAlloc(ALLOC))
    with trio.fail_after(WAIT_S):
        while (tmp_path / "alloc" / ALLOC).exists() or (tmp_path / "runs" / ALLOC).exists():
            await trio.sleep(0.01)


@pytest.mark.parametrize("name", ["..", "a/b", "", "alloc"])
async def test_a_task_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as bench:
        bench.executor.submit(PrepareAlloc(ALLOC, [name]))
        assert (await bench.until(AllocPrepared)).error


async def test_a_second_agent_on_the_same_folder_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.agent.execution.runs.LOCK_WAIT_S", 0.0)
    with pytest.raises(RunsBusy, match="another agent"):
        RunFolder(tmp_path / "runs")


# --- after the agent's death -----------------------------------------------------------------


async def test_a_task_lives_on_and_is_found_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.prepare("web")
        script = "trap 'exit 9' USR1; echo a; while :; do sleep 0.02; done"
        started = await bench.start(script)
        with trio.fail_after(WAIT_S):
            while "a" not in bench.log("web.stdout.0"):
                await trio.sleep(0.01)
    assert start_ticks(started.handle.pid) == started.handle.start_ticks
    async with opened(tmp_path) as bench:
        bench.executor.submit(ReattachTask(ALLOC, "web", 1, started.handle, shell("")))
        again = await bench.until(TaskStarted)
        assert again.handle == started.handle
        assert again.is_recovered
        bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGUSR1"))
        ended = await bench.exited()
        assert (ended.exit_code, ended.is_lost) == (9, False)


async def test_the_exit_code_is_known_though_no_agent_watched(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.prepare("web")
        started = await bench.start("while [ ! -e go ]; do sleep 0.02; done; echo late; exit 5")
    (tmp_path / "alloc" / ALLOC / "web" / "go").touch()
    await gone(started.handle.pid)
    async with opened(tmp_path) as bench:
        bench.executor.submit(ReattachTask(ALLOC, "web", 1, NO_HANDLE, shell("")))
        ended = await bench.exited()
        assert (ended.exit_code, ended.is_lost) == (5, False)
        assert bench.log("web.stdout.0") == "late\n"


async def test_a_run_that_never_began_is_told_apart_from_a_lost_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.executor.submit(ReattachTask(ALLOC, "web", 1, NO_HANDLE, shell("")))
        event = await bench.until(TaskFailedToStart)
        assert event.is_recoverable
        # Same pid as ours, another start time: a stranger's process must not be taken over.
        stranger = type(NO_HANDLE)(pid=os.getpid(), start_ticks=1, boot_id=boot_id())
        bench.executor.submit(ReattachTask(ALLOC, "web", 2, stranger, shell("")))
        ended = await bench.exited(2)
        assert ended.is_lost


async def test_a_killed_agent_leaves_tasks_that_are_found_without_a_handle(
    tmp_path: Path,
) -> None:
    """kill -9 of a real agent-like process, between the start and the saving of its handle."""
    program = textwrap.dedent(
        f"""
        import sys, trio, structlog
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_execution import ALLOC, opened
        from pathlib import Path

        async def main():
            async with opened(Path(sys.argv[1])) as bench:
                await bench.prepare("web")
                started = await bench.start(
                    "trap 'exit 6' TERM; while :; do sleep 0.02; done"
                )
                print(started.handle.pid, flush=True)
                await trio.sleep_forever()

        trio.run(main)
        """
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert agent.stdout is not None
        pid = int(await trio.to_thread.run_sync(agent.stdout.readline))
    finally:
        agent.kill()
        agent.wait()
    ticks = start_ticks(pid)
    assert ticks
    async with opened(tmp_path) as bench:
        bench.executor.submit(ReattachTask(ALLOC, "web", 1, NO_HANDLE, shell("")))
        started = await bench.until(TaskStarted)
        assert (started.handle.pid, started.handle.start_ticks) == (pid, ticks)
        bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGTERM"))
        assert (await bench.exited()).exit_code == 6


async def test_a_task_without_supervisor_is_watched_and_its_end_is_called_lost(
    bench: Bench,
) -> None:
    started = await bench.start("exec sleep 1000")
    run = bench.executor._runs.started(ALLOC, "web", 1)
    assert run is not None
    os.kill(run.supervisor.pid, signal.SIGKILL)
    await gone(run.supervisor.pid)
    assert is_alive(started.handle, boot_id())
    bench.executor.submit(SignalTask(ALLOC, "web", 1, "SIGKILL"))
    ended = await bench.exited()
    assert ended.is_lost


# --- saved records ------------------------------------------------------------------------------


async def test_records_are_on_disk_before_the_start_they_precede(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.prepare("web")
        bench.executor.submit(SaveState("task/x", b"attempt 1"))
        await bench.start("true")
        assert b"attempt 1" in (tmp_path / "state.log").read_bytes()
        await bench.exited()
    async with opened(tmp_path) as bench:
        assert bench.executor.boot().saved == {"task/x": b"attempt 1"}


async def test_a_start_fails_when_its_record_cannot_be_saved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(changes: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.executor._store, "append", refuse)
    bench.executor.submit(SaveState("task/x", b"attempt 1"))
    event = await bench.start("echo ran")
    assert isinstance(event, TaskFailedToStart)
    assert event.is_recoverable
    monkeypatch.undo()
    assert isinstance(await bench.start("true", attempt=2), TaskStarted)
    await bench.exited(2)
    assert bench.executor.boot().saved == {"task/x": b"attempt 1"}


async def test_a_task_with_cores_of_its_own_runs_on_them_alone(bench: Bench) -> None:
    core = min(os.sched_getaffinity(0))
    await bench.start("grep Cpus_allowed_list /proc/self/status", cores=(core,))
    await bench.exited()
    assert bench.log("web.stdout.0").split() == ["Cpus_allowed_list:", str(core)]


async def test_cores_that_are_not_there_are_named(bench: Bench) -> None:
    event = await bench.start("true", cores=(1023,))
    assert isinstance(event, TaskFailedToStart)
    assert "could not run on cores 1023 alone" in event.reason
