"""Starts tasks, pumps their output into rotated files, and keeps their exit codes.

This file is a program, run by the agent as

    python -I -S supervisor.py REQUESTS REPLIES LOCK        (three file descriptors)

It imports nothing of the product, so that it starts fast and stays small.

Theory of operation
-------------------
A task must live on when its agent is killed, must never block because nobody reads its
output, and its exit code must be known to the agent that comes after. So something must
outlive the agent: one *supervisor* process per task, in a session of its own, that holds
the other end of the task's pipes and waits for it. To have one per task cheaply, the agent
starts one *launcher* (this program's main loop), and the launcher forks a supervisor for
each task from its own small, already initialised interpreter.

Measured here (2 cores, CPython 3.11, 30 tasks one after the other): 5 ms from the effect to
`TaskStarted`, 30 ms for the first; 1.3 MB of proportional memory a supervisor (1.1 MB of its
own), 11 MB resident for the launcher. Refused designs: an interpreter per task (30 ms, 8 MB
each); a file as the task's output, copied and truncated by the agent (no limit holds while
the agent is gone, lines are lost at each rotation, the exit code is lost); `sh` as the
supervisor (smallest, but it cannot rotate, nor tell exit code 137 from SIGKILL); one process
for all tasks (its death would take all of them).
What is left: a task whose supervisor is killed by hand gets SIGPIPE at its next write.

    agent --requests (stream)--> launcher --fork--> supervisor --fork--> task
    agent <--replies (one datagram per start)----------'

The supervisor writes RUN.run (who runs) before it replies and RUN.exit (how it ended) as
its last act, each by rename. It holds the LOCK of the run folder until RUN.run is written:
an agent that takes that lock knows that no start is half done.

When the task ends, what it left in its process group is killed, and so are its orphans:
the supervisor is their subreaper.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import marshal
import os
import select
import signal
import sys

TYPE_CHECKING = False  # `typing` itself would be a third of this program's start
if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 65_536
DRAIN_MS = 1_000  # for output that is still in the pipes when all processes are dead
MAX_ORPHANS = 10_000
PR_SET_CHILD_SUBREAPER = 36
LENGTH_BYTES = 4


class LogFile:
    """One stream's files: BASE.0, BASE.1, ...; the highest number is written.

    A line is kept whole where it fits into the file's limit.
    """

    def __init__(self, base: str, max_files: int, max_bytes: int) -> None:
        self._base = base
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._number = max(self._numbers(), default=0)
        self._fd = -1
        self._size = 0
        self._open()

    def write(self, data: bytes) -> None:
        """Write and rotate. A full disk loses output; it must not stop the task."""
        while data:
            room = self._max_bytes - self._size
            cut = len(data)
            if cut > room:
                cut = data.rfind(b"\n", 0, max(room, 0)) + 1
                if cut == 0 and self._size == 0:
                    cut = room
            if cut:
                try:
                    written = os.write(self._fd, data[:cut])
                except OSError:
                    return
                self._size += written
                data = data[written:]
            if data and len(data) > self._max_bytes - self._size:
                self._rotate()

    def _rotate(self) -> None:
        self._number += 1
        self._open()
        for number in self._numbers():
            if number <= self._number - self._max_files:
                try:  # noqa: SIM105  (contextlib is not worth its import)
                    os.unlink(f"{self._base}.{number}")
                except OSError:
                    pass

    def _open(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        path = f"{self._base}.{self._number}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._fd).st_size

    def _numbers(self) -> list[int]:
        folder, name = os.path.split(self._base)
        try:
            found = [entry[len(name) + 1 :] for entry in os.listdir(folder)
                     if entry.startswith(name + ".")]  # fmt: skip
        except OSError:
            return []
        return [int(number) for number in found if number.isdigit()]


def launcher(request_fd: int, reply_fd: int, lock_fd: int) -> None:
    """Fork a supervisor for each request until the agent is gone."""
    for fd in (request_fd, reply_fd, lock_fd):
        os.set_inheritable(fd, False)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)  # a ^C is for the agent; we end with it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps supervisors
    # A collection writes into every object, and so would copy every page that supervisors
    # share. They make no cycles: they need none.
    gc.disable()
    gc.freeze()
    while True:
        head = read_exactly(request_fd, LENGTH_BYTES)
        body = read_exactly(request_fd, int.from_bytes(head, "big")) if head else b""
        if not body:
            return
        if os.fork() == 0:
            status = 1
            try:
                os.close(request_fd)
                supervise(marshal.loads(body), reply_fd, lock_fd)
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())  # into the launcher's own log
            finally:
                os._exit(status)


def supervise(request: dict[str, Any], reply_fd: int, lock_fd: int) -> None:
    """Run one task from start to end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    become_subreaper()
    try:
        pumps, ends, out_fd, err_fd = open_output(request)
        pid, failure = start(request, out_fd, err_fd)
    except OSError as error:
        pumps, ends, pid, failure = {}, [], 0, ("supervisor", error.errno or 0)
    for fd in ends:
        os.close(fd)
    if failure is not None:
        reply(reply_fd, {"id": request["id"], "stage": failure[0], "errno": failure[1]})
        return
    started = {
        "id": request["id"],
        "pid": pid,
        "start_ticks": start_ticks(pid),
        "supervisor_pid": os.getpid(),
        "supervisor_ticks": start_ticks(os.getpid()),
    }
    try:
        write_record(f"{request['run']}.run", {**started, "boot_id": request["boot_id"]})
    except OSError as error:  # nobody could find it again: better it does not run
        os.killpg(pid, signal.SIGKILL)
        reply(reply_fd, {"id": request["id"], "stage": "supervisor", "errno": error.errno or 0})
        return
    reply(reply_fd, started)
    os.close(reply_fd)
    os.close(lock_fd)
    status = pump(pid, pumps, wake_read)
    end_group(pid, pumps)
    code = os.waitstatus_to_exitcode(status)
    killed_by = -code if code < 0 else 0
    record = {"exit_code": 128 + killed_by if killed_by else code, "signal": killed_by}
    write_record(f"{request['run']}.exit", record)


def open_output(request: dict[str, Any]) -> tuple[dict[int, LogFile], list[int], int, int]:
    """Return pipe -> log file, the fds to close after the fork, and the task's two fds."""
    if request["logs_disabled"]:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        return {}, [null], null, null
    pumps: dict[int, LogFile] = {}
    ends = []
    for stream in ("stdout", "stderr"):
        log = LogFile(f"{request['log_base']}.{stream}", request["max_files"], request["max_bytes"])
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        pumps[read_end] = log
        ends.append(write_end)
    return pumps, ends, ends[0], ends[1]


def start(request: dict[str, Any], out_fd: int, err_fd: int) -> tuple[int, tuple[str, int] | None]:
    """Fork and exec the task. Returns its pid, and (stage, errno) when it did not come up."""
    error_read, error_write = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        stage = "start"
        try:
            os.setsid()
            for number in (
                signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD,
                signal.SIGXFSZ,
            ):  # fmt: skip
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (out_fd, 1), (err_fd, 2)):
                os.dup2(source, target, inheritable=True)
            if request["oom_score_adj"]:
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write(str(request["oom_score_adj"]))
            stage = "cores"
            if request["cores"]:
                os.sched_setaffinity(0, request["cores"])
            stage = "user"
            if request["user"] is not None:
                uid, gid, groups = request["user"]
                os.setgroups(groups)
                os.setgid(gid)
                os.setuid(uid)
            stage = "folder"
            os.chdir(request["folder"])
            stage = "exec"
            os.execve(request["program"], request["arguments"], request["environment"])
        except OSError as error:
            os.write(error_write, f"{stage} {error.errno or 0}".encode())
        finally:
            os._exit(127)
    os.close(error_write)
    said = os.read(error_read, 64)
    os.close(error_read)
    if not said:
        return pid, None
    os.waitpid(pid, 0)
    failed_stage, code = said.decode().split()
    return pid, (failed_stage, int(code))


def pump(pid: int, pumps: dict[int, LogFile], wake_fd: int) -> int:
    """Move output into files until the task has ended; return its wait status."""
    poller = select.poll()
    poller.register(wake_fd, select.POLLIN)
    for fd in pumps:
        poller.register(fd, select.POLLIN)
    status: int | None = reap(pid)
    while status is None:
        for fd, _ in poller.poll():
            if fd == wake_fd:
                drain(wake_fd, None)
            elif not drain(fd, pumps[fd]):
                poller.unregister(fd)  # every writer has closed it
        status = reap(pid)
    return status


def end_group(pid: int, pumps: dict[int, LogFile]) -> None:
    """Kill what the task left behind, then take the rest of the output."""
    try:  # noqa: SIM105  (contextlib is not worth its import)
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
    for _ in range(MAX_ORPHANS):  # each round may uncover children of those just killed
        for child in children():
            try:  # noqa: SIM105  (contextlib is not worth its import)
                os.kill(child, signal.SIGKILL)
            except OSError:
                pass
        try:
            os.waitpid(-1, 0)
        except OSError:
            break  # no child is left
    for fd, log in pumps.items():
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while poller.poll(DRAIN_MS) and drain(fd, log):
            pass


def reap(pid: int) -> int | None:
    """Take in dead children; return the task's wait status when it is among them."""
    found: int | None = None
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if child == 0:
            return found
        if child == pid:
            found = status


def drain(fd: int, log: LogFile | None) -> bool:
    """Read what is there; False at the end of the stream."""
    while True:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if log is not None:
            log.write(data)
        if len(data) < READ_BYTES:
            return True


def children() -> list[int]:
    """Return this process's children, orphans of the task that it adopted included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []  # a kernel without CONFIG_PROC_CHILDREN: the process group has to do


def become_subreaper() -> None:
    prctl = getattr(LIBC, "prctl", None)
    if prctl is not None:
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def write_record(path: str, record: dict[str, Any]) -> None:
    """Write a flat JSON record of integers and plain strings, whole or not at all."""
    fields = ", ".join(
        f'"{name}": {value}' if isinstance(value, int) else f'"{name}": "{value}"'
        for name, value in record.items()
    )
    with open(f"{path}.new", "w") as file:
        file.write(f"{{{fields}}}\n")
    os.rename(f"{path}.new", path)


def reply(fd: int, answer: dict[str, Any]) -> None:
    try:
        os.write(fd, marshal.dumps(answer))
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise  # the agent is gone: the next one finds the record


def read_exactly(fd: int, count: int) -> bytes:
    """Return so many bytes, or none when the stream ends before."""
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            return b""
        data += more
    return data


LIBC: Any = None

if __name__ == "__main__":
    try:
        LIBC = ctypes.CDLL(None, use_errno=True)
    except OSError:
        LIBC = None
    launcher(*(int(argument) for argument in sys.argv[1:4]))
