"""What the kernel knows of processes: the witness that no agent can talk into anything."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

POLL_S = 0.05


def until(look: Callable[[], Seen], what: str, limit_s: float = 15.0) -> Seen:
    """Look until there is something to see (truthy) and return it; fail after `limit_s`."""
    give_up = time.monotonic() + limit_s
    while not (seen := look()):
        assert time.monotonic() < give_up, f"not within {limit_s:g} s: {what}; last: {seen!r}"
        time.sleep(POLL_S)
    return seen


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment a process began with, {} when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = [item.partition("=") for item in raw.decode(errors="replace").split("\0")]
    return {name: value for name, _, value in pairs if name}


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: field 22 of its stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def resident_mib(pid: int) -> float:
    """Return how much memory a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def task_processes(job: str, folder: Path) -> dict[int, dict[str, str]]:
    """Return pid -> environment of the living processes of a job run below `folder`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            environment = environment_of(int(entry.name))
            is_ours = environment.get("NOMAD_TASK_DIR", "").startswith(f"{folder}/")
            if environment.get("NOMAD_JOB_ID") == job and is_ours and is_alive(int(entry.name)):
                found[int(entry.name)] = environment
    return found


def processes_below(folder: Path) -> list[int]:
    """Return all that runs for `folder`: it stands in their words or their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if f"{folder}/".encode() in told and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
