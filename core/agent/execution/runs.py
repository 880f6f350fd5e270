"""Records of runs on disk, and finding a process again after the agent's restart.

    runs/ALLOC/TASK.ATTEMPT.run    who runs: written by the supervisor before it replies
    runs/ALLOC/TASK.ATTEMPT.exit   how it ended: its last act
    runs/lock                      held by the agent, its launcher and half-done starts

A pid alone proves nothing: it may be another process's by now. Pid, start time and boot id
together do; a pidfd opened before the comparison keeps it true afterwards.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from core.client.effects import TaskHandle

LOCK_WAIT_S = 10.0  # a killed agent's launcher needs milliseconds to end
LOCK_POLL_S = 0.05
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


class RunsBusy(Exception):
    """Another agent uses this data folder."""


class Run(NamedTuple):
    """A started task and its supervisor."""

    handle: TaskHandle
    supervisor: TaskHandle


class Exit(NamedTuple):
    exit_code: int
    signal: int


def boot_id() -> str:
    try:
        return BOOT_ID_PATH.read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int:
    """Return field 22 of /proc/PID/stat, clock ticks since boot; 0 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[19])  # the name before may hold anything
    except (OSError, ValueError, IndexError):
        return 0


def is_alive(handle: TaskHandle, boot: str) -> bool:
    """Whether this very process still exists (it may be a zombie)."""
    return (
        handle.pid > 0
        and handle.boot_id == boot
        and (start_ticks(handle.pid) == handle.start_ticks)
    )


def open_pidfd(handle: TaskHandle, boot: str) -> int | None:
    """Return a pidfd of this very process, or None when it has ended. The caller closes it."""
    if handle.pid <= 0 or handle.boot_id != boot:
        return None
    try:
        pidfd = os.pidfd_open(handle.pid)
    except OSError:
        return None
    if start_ticks(handle.pid) != handle.start_ticks:
        os.close(pidfd)
        return None
    return pidfd


class RunFolder:
    """The run records of one agent. Locked from construction to `close`."""

    def __init__(self, path: Path) -> None:
        """Create and lock the folder.

        Raises:
            RunsBusy: Another agent holds it.
            OSError: It can't be written.
        """
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up:
                    os.close(self.lock_fd)
                    raise RunsBusy(
                        f"{path} is in use: another agent runs on this data folder. "
                        "Stop it, or choose another data_dir."
                    ) from None
                time.sleep(LOCK_POLL_S)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.lock_fd)

    def base(self, alloc_id: str, task: str, attempt: int) -> Path:
        return self.path / alloc_id / f"{task}.{attempt}"

    def make(self, alloc_id: str) -> None:
        (self.path / alloc_id).mkdir(mode=0o700, exist_ok=True)

    def started(self, alloc_id: str, task: str, attempt: int) -> Run | None:
        """Return who runs, or ran, under this name; None when it never came up."""
        record = _read(Path(f"{self.base(alloc_id, task, attempt)}.run"))
        if record is None:
            return None
        boot = str(record.get("boot_id", ""))
        return Run(
            TaskHandle(_number(record, "pid"), _number(record, "start_ticks"), boot),
            TaskHandle(
                _number(record, "supervisor_pid"), _number(record, "supervisor_ticks"), boot
            ),
        )

    def ended(self, alloc_id: str, task: str, attempt: int) -> Exit | None:
        record = _read(Path(f"{self.base(alloc_id, task, attempt)}.exit"))
        if record is None:
            return None
        return Exit(_number(record, "exit_code"), _number(record, "signal"))

    def forget(self, alloc_id: str, task: str, attempt: int) -> None:
        """Drop a run's records: the client has saved what became of it."""
        base = self.base(alloc_id, task, attempt)
        for suffix in ("run", "exit"):
            with contextlib.suppress(OSError):
                os.unlink(f"{base}.{suffix}")

    def forget_alloc(self, alloc_id: str) -> None:
        shutil.rmtree(self.path / alloc_id, ignore_errors=True)


def _read(path: Path) -> dict[str, object] | None:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _number(record: dict[str, object], name: str) -> int:
    value = record.get(name, 0)
    return value if isinstance(value, int) else 0
