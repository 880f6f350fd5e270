"""Processes that outlive their agent: task processes whose agent was killed.

They would become children of init, and nobody would stop them when the federation is
gone. A process can ask to be their new parent instead (PR_SET_CHILD_SUBREAPER); then it
must also collect them when they end, or they stay as zombies, which an agent that watches
for its task would take for alive.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Make this process the parent of all its descendants that lose theirs."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def reap_adopted(own: Collection[int]) -> None:
    """Collect adopted children that have ended; `own` are collected by who started them."""
    for pid in children():
        if pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_adopted(own: Collection[int], grace_s: float) -> int:
    """Stop all adopted children and what they started: SIGTERM, after the grace SIGKILL.

    Blocks for as long as that takes, a little over `grace_s` at most for processes that
    can be killed at all.

    Returns:
        How many there were.
    """
    seen: set[int] = set()
    begun = time.monotonic()
    while left := [pid for pid in children() if pid not in own]:
        is_over = time.monotonic() - begun > grace_s
        for pid in left:
            if pid not in seen or is_over:
                _signal(pid, signal.SIGKILL if is_over else signal.SIGTERM)
            seen.add(pid)
        reap_adopted(own)
        if time.monotonic() - begun > grace_s + 5:
            break
        time.sleep(0.02)
    return len(seen)


def children() -> list[int]:
    """Return the pids of this process's children, ended ones not yet collected included."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(entry.path, "stat").read_text()
                # The name in parentheses may hold anything, parentheses too.
                if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return sorted(found)


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None when there is none.

    With the pid it names a process for good: pids are used again.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _signal(pid: int, number: int) -> None:
    # A task leads a process group of its own; what it started is in there with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _prctl(what: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
