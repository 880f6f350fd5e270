"""What a client machine asks of its host, and what it hears back, beside core.model.host.

A task's life: `StartTask` -> `TaskStarted` -> (`SignalTask` ...) -> `TaskExited`, or
`StartTask` -> `TaskFailedToStart`. After an agent's restart: `ReattachTask` ->
`TaskStarted` with the old handle; `TaskExited` with the code, where it is known, or with
`is_lost`; or `TaskFailedToStart(is_recoverable=True)` when it is certain that the run
never began. `ReattachTask.handle` is `NO_HANDLE` when the agent died before it learnt the
handle: the host then looks the run up by its name. A run is named by (alloc_id, task,
attempt), so a late event of an older attempt is recognised.
"""

from typing import Any

import msgspec

from core.model.host import Effect, Event


class LogLimits(msgspec.Struct, frozen=True):
    max_files: int
    max_file_bytes: int
    disabled: bool = False


class TaskHandle(msgspec.Struct, frozen=True):
    """How to find a running task again: the pid alone could be somebody else's by now."""

    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat, clock ticks since boot
    boot_id: str


NO_HANDLE = TaskHandle(pid=0, start_ticks=0, boot_id="")


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    driver: str
    config: dict[str, Any]  # interpolated
    env: dict[str, str]  # whole: nothing is inherited beyond the driver's allow list
    user: str = ""
    logs: LogLimits
    resources: dict[str, int] = {}  # cpu (MHz), memory_mb
    cores: tuple[int, ...] = ()  # it runs on these only; () = on any
    simulated: dict[str, Any] | None = None  # only the simulator reads it


class PrepareAlloc(Effect, frozen=True):
    """Make the allocation's folders: alloc/{data,logs,tmp}, TASK/{local,secrets,tmp}.

    `files` are put there as well, by their path below a task's local folder; one that
    exists is left as it is.
    """

    alloc_id: str
    tasks: list[str]
    files: dict[str, dict[str, bytes]] = msgspec.field(default_factory=dict)  # by task


class StartTask(Effect, frozen=True):
    alloc_id: str
    task: str
    attempt: int
    spec: TaskSpec


class ReattachTask(Effect, frozen=True):
    alloc_id: str
    task: str
    attempt: int
    handle: TaskHandle
    spec: TaskSpec


class SignalTask(Effect, frozen=True):
    """Send a signal, by name, to the task's whole process group."""

    alloc_id: str
    task: str
    attempt: int
    signal: str  # "SIGINT", "SIGKILL", ...


class DestroyAlloc(Effect, frozen=True):
    """Remove the allocation's folders."""

    alloc_id: str


class RunCheck(Effect, frozen=True):
    """One run of a service check against the task's address."""

    check_id: str
    probe: str  # "http" | "tcp"
    address: str
    port: int
    path: str = ""
    method: str = "GET"
    protocol: str = "http"
    headers: dict[str, list[str]] = msgspec.field(default_factory=dict)
    body: str = ""
    tls_skip_verify: bool = False
    timeout_us: int = 3_000_000


class SaveState(Effect, frozen=True):
    """Keep one small record across restarts; `value` None deletes it. Durable before the
    next `StartTask` is carried out, so a task is never started twice."""

    key: str
    value: bytes | None


class ReadFile(Effect, frozen=True):
    """Read from an allocation's folder; the host answers with `FileRead`."""

    request_id: int
    alloc_id: str
    operation: str  # "logs" | "ls" | "stat" | "cat" | "readat"
    task: str = ""
    stream: str = "stdout"
    path: str = ""
    origin: str = "start"  # "start" | "end"
    offset: int = 0
    limit: int = 65_536
    wait_us: int = 0  # at the end of the data: wait this long for more
    frame: str = ""  # of logs: the rotated file that `offset` counts in


class ReadStats(Effect, frozen=True):
    """Measure what tasks use now, or the machine when `alloc_id` is ""; `StatsRead` follows."""

    request_id: int
    alloc_id: str = ""
    tasks: dict[str, TaskHandle] = msgspec.field(default_factory=dict)


class ShutdownComplete(Effect, frozen=True):
    """Nothing more is to be done after `ShutdownRequested`: the host may end the process."""


class AllocPrepared(Event, frozen=True):
    alloc_id: str
    error: str = ""


class TaskStarted(Event, frozen=True):
    alloc_id: str
    task: str
    attempt: int
    handle: TaskHandle
    is_recovered: bool = False


class TaskFailedToStart(Event, frozen=True):
    alloc_id: str
    task: str
    attempt: int
    reason: str
    is_recoverable: bool = False


class TaskExited(Event, frozen=True):
    alloc_id: str
    task: str
    attempt: int
    exit_code: int
    signal: int = 0
    is_lost: bool = False  # it ended while no agent watched; the code is not known
    oom_killed: bool = False


class CheckDone(Event, frozen=True):
    check_id: str
    is_passing: bool
    output: str
    status_code: int = 0


class FileRead(Event, frozen=True):
    request_id: int
    body: Any = None  # of logs: {"data": bytes, "offset": int, "frame": str, "eof": bool}
    error: str = ""
    status: int = 200


class StatsRead(Event, frozen=True):
    """`body` is Nomad's AllocResourceUsage, or HostStats when the machine was measured."""

    request_id: int
    body: Any = None
    error: str = ""


class ShutdownRequested(Event, frozen=True):
    """The agent is asked to stop. Tasks stay, except under `-dev` (`stop_tasks`).

    `ShutdownComplete` follows, at the latest after the longest kill timeout.
    """

    stop_tasks: bool
