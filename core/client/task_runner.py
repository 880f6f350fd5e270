"""One task of one allocation: started, restarted, stopped, and what is told of it.

Theory of operation. A task is in one phase:

    WAITING      its turn has not come (lifecycle hooks)
    STARTING     `StartTask` went out; the answer may be minutes away
    REATTACHING  after the agent's restart: `ReattachTask` went out
    RUNNING      the process lives
    STOPPING     it was sent its kill signal; SIGKILL follows after the kill timeout
    BACKOFF      it ended and waits for its restart
    DEAD         it will not run again

Two wishes may be pending while a process lives: `is_stopping` (end it for good) and
`is_restarting` (end it and start it again). The first wins. Both are saved, so an agent
that dies between the signal and the exit does the right thing afterwards.

Invariant: `may_run` is saved as True before `StartTask` goes out and as False only after
an event said that the run ended or never began. So an agent that comes back asks after
the old run instead of starting a second one.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from core.client import task_events
from core.client.effects import (
    NO_HANDLE,
    LogLimits,
    ReattachTask,
    SaveState,
    SignalTask,
    StartTask,
    TaskExited,
    TaskFailedToStart,
    TaskSpec,
    TaskStarted,
)
from core.client.environment import TaskScope
from core.client.interpolation import interpolate, interpolate_all
from core.client.outbox import Outbox, Timer
from core.client.restarts import Outcome, RestartLimits, decide, resumed_delay_us
from core.client.saved import SavedTask, encode, task_key
from core.model.allocation import TaskEvent, TaskState, TaskStateName
from core.model.job import Task
from core.model.timestamp import rfc3339

DEFAULT_KILL_TIMEOUT_US = 5_000_000
DEFAULT_KILL_SIGNAL = "SIGINT"
KILL_RETRY_US = 10_000_000
LOST_NOTE = "the task ended while no agent watched; its exit code is not known"
SIMULATION_META_PREFIX = "sim_"  # meta { sim_run_for = "30s" }: read by the simulator


class Phase(Enum):
    WAITING = "waiting"
    STARTING = "starting"
    REATTACHING = "reattaching"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    DEAD = "dead"


class Stage(Enum):
    """When a task runs (its lifecycle hook)."""

    PRESTART = "prestart"
    MAIN = ""
    POSTSTART = "poststart"
    POSTSTOP = "poststop"


def stage_of(task: Task) -> Stage:
    hook = task.lifecycle.hook if task.lifecycle else ""
    return Stage(hook) if hook in ("prestart", "poststart", "poststop") else Stage.MAIN


class TaskOwner(Protocol):
    """What a task tells the allocation it belongs to, and what it asks it."""

    def scope_of(self, task_name: str) -> TaskScope: ...

    def meta_of(self, task: Task) -> dict[str, str]: ...

    def on_task_changed(self, task: "TaskRunner") -> None: ...

    def on_task_leaving(self, task: "TaskRunner") -> None:
        """Its process is about to be ended: take its services out first."""


class TaskRunner:
    __slots__ = (
        "_alloc_id",
        "_box",
        "_max_kill_timeout_us",
        "_owner",
        "_timer",
        "limits",
        "phase",
        "saved",
        "stage",
        "started_mono_us",
        "task",
    )

    def __init__(
        self,
        box: Outbox,
        owner: TaskOwner,
        *,
        alloc_id: str,
        task: Task,
        limits: RestartLimits,
        max_kill_timeout_us: int,
        saved: SavedTask | None = None,
    ) -> None:
        self._box = box
        self._owner = owner
        self._alloc_id = alloc_id
        self._max_kill_timeout_us = max_kill_timeout_us
        self.task = task
        self.stage = stage_of(task)
        self.limits = limits
        self.phase = Phase.WAITING
        self.saved = saved or SavedTask(state=TaskState())
        self._timer: Timer | None = None
        self.started_mono_us = 0

    # --- what others may ask ---------------------------------------------------------

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def state(self) -> TaskState:
        return self.saved.state

    @property
    def is_dead(self) -> bool:
        return self.phase is Phase.DEAD

    @property
    def is_running(self) -> bool:
        """Whether the process lives and nobody means to end it."""
        return self.phase is Phase.RUNNING and not (
            self.saved.is_stopping or self.saved.is_restarting
        )

    @property
    def has_process(self) -> bool:
        return self.phase in (Phase.RUNNING, Phase.STOPPING)

    # --- what the allocation wants -----------------------------------------------------

    def start(self) -> None:
        assert self.phase is Phase.WAITING
        self._launch()

    def resume(self) -> None:
        """Take up again what the previous life of the agent left."""
        if self.state.state is TaskStateName.DEAD:
            self.phase = Phase.DEAD
        elif self.saved.may_run:
            self.phase = Phase.REATTACHING
            self._box.emit(ReattachTask(
                self._alloc_id, self.name, self.saved.attempt, self.saved.handle, self._spec()
            ))  # fmt: skip
        elif self.saved.is_stopping:
            self._die(is_failed=self.state.failed)
        elif self.saved.attempt:
            wall_us = self._box.now.wall_us
            delay_us = resumed_delay_us(self.limits, self.saved.history, wall_us)
            self._back_off(0 if self.saved.is_restarting else delay_us)

    def stop(self, *reasons: TaskEvent) -> None:
        """End the task for good; harmless when that is already under way."""
        if self.is_dead or self.saved.is_stopping:
            return
        self.saved.is_stopping = True
        for reason in reasons:
            self.note(reason)
        if self.phase in (Phase.WAITING, Phase.BACKOFF):
            self._die(is_failed=False)
            return
        self._save()
        if self.phase is Phase.RUNNING:
            self._take_leave(self.task.shutdown_delay_ns // 1000)

    def fail(self, reason: TaskEvent) -> None:
        """End a task that never ran, because it cannot."""
        if not self.is_dead:
            self.note(reason)
            self._die(is_failed=True)

    def restart(self, reason: str, *, counts: bool = False) -> bool:
        """End the process and start it again.

        Args:
            reason: Shown in the task's events.
            counts: Whether the restart policy decides (a failed check), or the user did.

        Returns:
            Whether there was something to restart.
        """
        if self.phase is Phase.BACKOFF:
            self.note(task_events.restart_signaled(self._box.now.wall_us, reason))
            self._launch()
            return True
        if not self.is_running:
            return False
        self.saved.is_restarting = True
        self.saved.counts_restart = counts
        self.note(task_events.restart_signaled(self._box.now.wall_us, reason))
        self._save()
        self._take_leave(0)
        return True

    def signal(self, name: str, reason: str) -> bool:
        """Send a signal to the process group; False when no process lives."""
        if not self.has_process:
            return False
        self.note(task_events.signaling(self._box.now.wall_us, name, reason))
        self._send_signal(name)
        self._owner.on_task_changed(self)
        return True

    def note(self, event: TaskEvent) -> None:
        events = [*(self.state.events or ()), event]
        self.state.events = events[-task_events.MAX_EVENTS :]

    # --- what happened ---------------------------------------------------------------------

    def on_started(self, event: TaskStarted) -> None:
        if event.attempt != self.saved.attempt or not self._is_expecting_start:
            return
        now = self._box.now
        self.phase = Phase.RUNNING
        self.saved.handle = event.handle
        self.state.state = TaskStateName.RUNNING
        if not event.is_recovered:
            self._box.measures.task_starts += 1
        if not event.is_recovered or self.state.started_at.startswith("0001"):
            self.state.started_at = rfc3339(now.wall_us)
            self.note(task_events.started(now.wall_us))
        self.started_mono_us = now.mono_us
        self._save()
        if self.saved.is_stopping:
            self._take_leave(self.task.shutdown_delay_ns // 1000)
        elif self.saved.is_restarting:
            self._take_leave(0)
        self._owner.on_task_changed(self)

    def on_failed_to_start(self, event: TaskFailedToStart) -> None:
        if event.attempt != self.saved.attempt or not self._is_expecting_start:
            return
        self.saved.may_run = False
        if self.phase is Phase.REATTACHING and event.is_recoverable and not self.saved.is_stopping:
            self._launch()  # the agent died before the start was carried out: no fault of it
            return
        self._box.measures.task_failures += 1
        self.note(task_events.driver_failure(self._box.now.wall_us, event.reason))
        if self.saved.is_stopping:
            self._die(is_failed=False)
        else:
            self._go_on_after(Outcome.FAILED if event.is_recoverable else Outcome.UNRECOVERABLE)

    def on_exited(self, event: TaskExited) -> None:
        if event.attempt != self.saved.attempt or not self.saved.may_run:
            return
        wall_us = self._box.now.wall_us
        self._cancel_timer()
        self.saved.may_run = False
        self.saved.handle = NO_HANDLE
        note = LOST_NOTE if event.is_lost else ""
        self.note(task_events.terminated(
            wall_us, event.exit_code, event.signal, note, event.oom_killed
        ))  # fmt: skip
        self.state.finished_at = rfc3339(wall_us)
        is_success = event.exit_code == 0 and event.signal == 0 and not event.is_lost
        if self.saved.is_stopping:
            self.note(task_events.killed(wall_us))
            self._die(is_failed=False)
        elif self.saved.is_restarting:
            self.saved.is_restarting = False
            if self.saved.counts_restart:
                self._go_on_after(Outcome.FAILED)
            else:
                self._restart_after(0, "User requested restart")
        else:
            self._box.measures.task_failures += not is_success
            self._owner.on_task_leaving(self)
            self._go_on_after(Outcome.SUCCEEDED if is_success else Outcome.FAILED)

    # --- the way through the phases -----------------------------------------------------

    @property
    def _is_expecting_start(self) -> bool:
        return self.phase in (Phase.STARTING, Phase.REATTACHING)

    def _launch(self) -> None:
        self._cancel_timer()
        self.phase = Phase.STARTING
        self.saved.attempt += 1
        self.saved.may_run = True
        self.saved.is_restarting = False
        self.saved.handle = NO_HANDLE
        self._save()
        self._box.emit(StartTask(self._alloc_id, self.name, self.saved.attempt, self._spec()))

    def _go_on_after(self, outcome: Outcome) -> None:
        now_us = self._box.now.wall_us
        verdict = decide(self.limits, self.saved.history, outcome, now_us, self._box.rng)
        if verdict.is_restart:
            self._restart_after(verdict.delay_us, verdict.reason)
            return
        if verdict.is_failure:
            self.note(task_events.not_restarting(now_us, verdict.reason))
        self._die(is_failed=verdict.is_failure)

    def _restart_after(self, delay_us: int, reason: str) -> None:
        wall_us = self._box.now.wall_us
        self.note(task_events.restarting(wall_us, delay_us, reason))
        self.state.restarts += 1
        self._box.measures.task_restarts += 1
        self.state.last_restart = rfc3339(wall_us)
        self.state.state = TaskStateName.PENDING
        self._back_off(delay_us)
        self._save()
        self._owner.on_task_changed(self)

    def _back_off(self, delay_us: int) -> None:
        self.phase = Phase.BACKOFF
        self._set_timer(delay_us, self._launch)

    def _take_leave(self, delay_us: int) -> None:
        """Deregister, let `delay_us` pass so that callers notice, then end the process."""
        self._owner.on_task_leaving(self)
        if delay_us > 0:
            self.note(task_events.waiting_to_stop(self._box.now.wall_us, delay_us))
            self._set_timer(delay_us, self._interrupt)
            self._owner.on_task_changed(self)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        self.phase = Phase.STOPPING
        timeout_us = self.kill_timeout_us
        self._box.measures.task_kills += 1
        self.note(task_events.killing(self._box.now.wall_us, timeout_us))
        self._send_signal(self.task.kill_signal or DEFAULT_KILL_SIGNAL)
        self._set_timer(timeout_us, self._force)
        self._owner.on_task_changed(self)

    def _force(self) -> None:
        """SIGKILL; again every few seconds, should a process hang in the kernel."""
        self._send_signal("SIGKILL")
        self._set_timer(KILL_RETRY_US, self._force)

    def _die(self, *, is_failed: bool) -> None:
        self._cancel_timer()
        self.phase = Phase.DEAD
        self.saved.may_run = False
        self.state.state = TaskStateName.DEAD
        self.state.failed = is_failed
        if self.state.finished_at.startswith("0001") and self.saved.attempt:
            self.state.finished_at = rfc3339(self._box.now.wall_us)
        self._save()
        self._owner.on_task_changed(self)

    # --- effects -----------------------------------------------------------------------------

    @property
    def kill_timeout_us(self) -> int:
        asked_ns = self.task.kill_timeout_ns
        asked_us = DEFAULT_KILL_TIMEOUT_US if asked_ns is None else asked_ns // 1000
        return min(asked_us, self._max_kill_timeout_us)

    def _send_signal(self, name: str) -> None:
        self._box.emit(SignalTask(self._alloc_id, self.name, self.saved.attempt, name))

    def _save(self) -> None:
        self._box.emit(SaveState(task_key(self._alloc_id, self.name), encode(self.saved)))

    def _set_timer(self, delay_us: int, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._box.after(delay_us, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _spec(self) -> TaskSpec:
        scope = self._owner.scope_of(
            self.name
        )  # built for a start and dropped: it is larger than all else here
        values = scope.values
        config: dict[str, Any] = interpolate_all(self.task.config or {}, values)
        return TaskSpec(
            driver=self.task.driver,
            config=config,
            env=scope.env,
            user=interpolate(self.task.user, values),
            logs=_log_limits(self.task),
            resources=_resources(scope.env),
            cores=_cores(scope.env),
            simulated=self._simulated(config),
        )

    def _simulated(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """How the simulator shall let this task behave; the real host ignores it.

        A `mock_driver` task says it in its config (`run_for`, `exit_code`, ...), any other
        in its meta: `sim_run_for`, `sim_exit_code`, ...
        """
        if self.task.driver == "mock_driver":
            return config
        said = {
            key.removeprefix(SIMULATION_META_PREFIX): value
            for key, value in self._owner.meta_of(self.task).items()
            if key.startswith(SIMULATION_META_PREFIX)
        }
        return said or None


def _cores(env: dict[str, str]) -> tuple[int, ...]:
    return tuple(int(core) for core in env.get("NOMAD_CPU_CORES", "").split(",") if core)


def _resources(env: dict[str, str]) -> dict[str, int]:
    names = (("cpu", "NOMAD_CPU_LIMIT"), ("memory_mb", "NOMAD_MEMORY_LIMIT"))
    return {name: int(env[key]) for name, key in names if key in env}


def _log_limits(task: Task) -> LogLimits:
    logs = task.log_config
    files = 10 if logs is None or logs.max_files is None else logs.max_files
    size_mb = 10 if logs is None or logs.max_file_size_mb is None else logs.max_file_size_mb
    is_off = logs is not None and (bool(logs.disabled) or logs.enabled is False)
    return LogLimits(max(files, 1), max(size_mb, 1) << 20, is_off)
