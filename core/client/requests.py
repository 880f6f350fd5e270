"""What servers and this agent's own API may ask of a client.

    Agent.Ping          {}                                     -> {node_id}
    Client.ReadFile     {alloc_id, operation, ...ReadFile}     -> what FileRead carries
    Client.RestartTask  {alloc_id, task, all_tasks}            -> {}
    Client.SignalTask   {alloc_id, task, signal}               -> {}
    Client.Checks       {alloc_id}                             -> {check id: check}
    Client.Stats        {alloc_id} or {}                       -> usage of tasks or machine
    Query               core.model.query.Query                 -> a server's Answer

A refusal is answered with the error text and the body {status, error}, so that the API
can tell 404 from 500.
"""

from typing import Any, Protocol

import msgspec

from core.client.alloc_runner import AllocRunner
from core.client.contact import ServerContact
from core.client.effects import FileRead, ReadFile, ReadStats, StatsRead
from core.client.outbox import Outbox
from core.client.task_runner import TaskRunner
from core.model.host import CallDone, Requested
from core.model.query import Query

RESTART_REASON = "User requested running tasks to restart"
SIGNAL_REASON = "User requested signal"
SIGNALS = (  # those that people send; a name beyond them is refused before it is tried
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL",
    "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT", "SIGSEGV",
    "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
    "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
)  # fmt: skip
OPERATIONS = ("logs", "ls", "stat", "cat", "readat")
MAX_READ_BYTES = 4 << 20
MAX_WAIT_US = 60_000_000
QUERY_TIMEOUT_US = 30_000_000  # beyond what a blocking query waits
BLOCKING_DEFAULT_US = 300_000_000


class RequestScope(Protocol):
    @property
    def contact(self) -> ServerContact: ...

    @property
    def node_id(self) -> str: ...

    @property
    def runners(self) -> dict[str, AllocRunner]: ...


class _OfAlloc(msgspec.Struct):
    alloc_id: str


class _Read(msgspec.Struct, kw_only=True):
    alloc_id: str
    operation: str
    task: str = ""
    stream: str = "stdout"
    path: str = ""
    origin: str = "start"
    offset: int = 0
    limit: int = 65_536
    wait_us: int = 0
    frame: str = ""


class _Restart(msgspec.Struct, kw_only=True):
    alloc_id: str
    task: str = ""
    all_tasks: bool = False


class _Signal(msgspec.Struct, kw_only=True):
    alloc_id: str
    task: str = ""
    signal: str = "SIGKILL"


class _Stats(msgspec.Struct, kw_only=True):
    alloc_id: str = ""
    task: str = ""


class Requests:
    def __init__(self, box: Outbox, scope: RequestScope) -> None:
        self._box = box
        self._scope = scope
        self._handlers = {
            "Agent.Ping": self._ping,
            "Client.ReadFile": self._read_file,
            "Client.RestartTask": self._restart,
            "Client.SignalTask": self._signal,
            "Client.Checks": self._checks,
            "Client.Stats": self._stats,
            "Query": self._pass_on,
        }

    def on_requested(self, event: Requested) -> None:
        handler = self._handlers.get(event.method)
        if handler is None:
            self._box.refuse(event.request_id, 404, f"a client has no method {event.method!r}")
            return
        try:
            handler(event.request_id, event.body if event.body is not None else {})
        except msgspec.ValidationError as error:
            self._box.refuse(event.request_id, 400, f"{event.method}: {error}")

    def on_file_read(self, event: FileRead) -> None:
        if event.error:
            self._box.refuse(event.request_id, event.status, event.error)
        else:
            self._box.reply(event.request_id, event.body)

    def on_stats_read(self, event: StatsRead) -> None:
        if event.error:
            self._box.refuse(event.request_id, 500, event.error)
        else:
            self._box.reply(event.request_id, event.body)

    def _ping(self, request_id: int, body: Any) -> None:
        self._box.reply(request_id, {"node_id": self._scope.node_id})

    def _pass_on(self, request_id: int, body: Any) -> None:
        """Let a server answer what this agent's own API was asked."""
        query = msgspec.convert(body, Query)
        if query.method == "Client.Stats" and not query.params.get("node_id"):
            # "This agent's machine" means ours, not that of the server that answers.
            params = {**query.params, "node_id": self._scope.node_id}
            query = msgspec.structs.replace(query, params=params)
        wait_us = query.wait_us
        if query.min_index and not wait_us:
            wait_us = BLOCKING_DEFAULT_US

        def answered(event: CallDone) -> None:
            self._box.reply(request_id, event.body, event.error)

        timeout_us = wait_us * 17 // 16 + QUERY_TIMEOUT_US  # servers add a sixteenth of jitter
        self._scope.contact.pass_on("Query", query, timeout_us, answered)

    def _read_file(self, request_id: int, body: Any) -> None:
        asked = msgspec.convert(body, _Read)
        runner = self._runner(request_id, asked.alloc_id)
        if runner is None:
            return
        problem = _problem_of(asked, runner)
        if problem:
            self._box.refuse(request_id, 400, problem)
            return
        self._box.emit(ReadFile(
            request_id=request_id,
            alloc_id=asked.alloc_id,
            operation=asked.operation,
            task=asked.task,
            stream=asked.stream,
            path=asked.path,
            origin=asked.origin,
            offset=asked.offset,
            limit=min(asked.limit, MAX_READ_BYTES),
            wait_us=min(asked.wait_us, MAX_WAIT_US),
            frame=asked.frame,
        ))  # fmt: skip

    def _restart(self, request_id: int, body: Any) -> None:
        asked = msgspec.convert(body, _Restart)
        chosen = self._chosen(request_id, asked.alloc_id, asked.task)
        if chosen is None:
            return
        # `task.restart` touches only what runs or waits for its restart.
        restarted = [task for task in chosen if task.restart(RESTART_REASON)]
        if restarted:
            self._box.reply(request_id, {})
        else:
            self._box.refuse(request_id, 500, "Task not running")

    def _signal(self, request_id: int, body: Any) -> None:
        asked = msgspec.convert(body, _Signal)
        name = asked.signal.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name not in SIGNALS:
            self._box.refuse(request_id, 500, f'invalid signal "{asked.signal}"')
            return
        chosen = self._chosen(request_id, asked.alloc_id, asked.task)
        if chosen is None:
            return
        signalled = [task for task in chosen if task.signal(name, SIGNAL_REASON)]
        if signalled:
            self._box.reply(request_id, {})
        else:
            self._box.refuse(request_id, 500, "Task not running")

    def _chosen(self, request_id: int, alloc_id: str, task: str) -> list[TaskRunner] | None:
        """Return the named task of an allocation, or all; None when the caller was refused."""
        runner = self._runner(request_id, alloc_id)
        if runner is None:
            return None
        if task and task not in runner.tasks:
            self._box.refuse(request_id, 404, f'Could not find task "{task}"')
            return None
        return [runner.tasks[task]] if task else list(runner.tasks.values())

    def _checks(self, request_id: int, body: Any) -> None:
        asked = msgspec.convert(body, _OfAlloc)
        runner = self._runner(request_id, asked.alloc_id)
        if runner is not None:
            self._box.reply(request_id, runner.shown_checks())

    def _stats(self, request_id: int, body: Any) -> None:
        asked = msgspec.convert(body, _Stats)
        if not asked.alloc_id:
            self._box.emit(ReadStats(request_id))
            return
        runner = self._runner(request_id, asked.alloc_id)
        if runner is None:
            return
        if asked.task and asked.task not in runner.tasks:
            self._box.refuse(request_id, 404, f'Could not find task "{asked.task}"')
            return
        handles = {
            name: task.saved.handle
            for name, task in runner.tasks.items()
            if task.has_process and asked.task in ("", name)
        }
        self._box.emit(ReadStats(request_id, asked.alloc_id, handles))

    def _runner(self, request_id: int, alloc_id: str) -> AllocRunner | None:
        runner = self._scope.runners.get(alloc_id)
        if runner is None:
            self._box.refuse(request_id, 404, f'Unknown allocation "{alloc_id}"')
        return runner


def _problem_of(asked: _Read, runner: AllocRunner) -> str:
    if asked.operation not in OPERATIONS:
        return f"unknown operation {asked.operation!r}: one of {', '.join(OPERATIONS)}"
    if asked.offset < 0 or asked.limit < 0:
        return "offset and limit must not be negative"
    if asked.origin not in ("start", "end"):
        return "origin must be start or end"
    if asked.operation == "logs":
        if asked.task not in runner.tasks:
            return f'unknown task name "{asked.task}"' if asked.task else "must provide task name"
        if asked.stream not in ("stdout", "stderr"):
            return "log type must be stdout or stderr"
    return ""
