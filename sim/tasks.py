"""Simulated processes of one node: they start, run for a time, obey signals, exit.

They belong to the node, not to the agent: an agent that crashes and comes back finds
them by their handle, as it does on a real machine; only a power loss ends them.

How long a task runs and how it ends is read from its environment, so that a job file
says it in `env` and means nothing by it on a real machine:

    SIM_RUN_TIME   seconds, or "a..b" for a uniform draw; absent = until it is stopped
    SIM_EXIT_CODE  exit code at the end of it; default 0
    SIM_STOP_TIME  seconds it takes to obey a signal; default 0.05
"""

import random
from collections.abc import Callable
from typing import Any, Final

from core.client import effects as fx
from core.model.host import Event
from sim.wheel import Wheel

START_US: Final = 8_000
PREPARE_US: Final = 2_000
CHECK_US: Final = 3_000
KILL_US: Final = 1_000
BOOT_ID: Final = "sim"

_Key = tuple[str, str, int]  # allocation, task, attempt


class SimTask:
    def __init__(self, key: _Key, pid: int, spec: fx.TaskSpec, started_us: int) -> None:
        self.key = key
        self.spec = spec
        self.started_us = started_us
        self.handle = fx.TaskHandle(pid=pid, start_ticks=started_us // 10_000, boot_id=BOOT_ID)
        self.is_running = True
        self.exit_code = 0
        self.signal = 0


class SimTasks:
    """What a client's host does with tasks, on virtual time."""

    def __init__(self, wheel: Wheel, rng: random.Random) -> None:
        self.saved: dict[str, bytes] = {}  # of SaveState: the client's disk
        self.started = 0
        self._wheel = wheel
        self._rng = rng
        self._tasks: dict[_Key, SimTask] = {}
        self._next_pid = 100
        self._deliver: Callable[[Event], None] | None = None

    def attach(self, deliver: Callable[[Event], None] | None) -> None:
        """Say where events go; None while no agent runs on the node."""
        self._deliver = deliver

    def running(self) -> list[SimTask]:
        """Return the processes that exist now: the truth, whatever an agent believes."""
        return [task for task in self._tasks.values() if task.is_running]

    def power_off(self) -> None:
        self._tasks.clear()

    # --- effects --------------------------------------------------------------------------

    def carry_out(self, effect: Any) -> bool:
        """Carry out one effect of core.client.effects; False when it is none of them."""
        handler = _HANDLERS.get(type(effect))
        if handler is None:
            return False
        handler(self, effect)
        return True

    def _prepare(self, effect: fx.PrepareAlloc) -> None:
        self._later(PREPARE_US, fx.AllocPrepared(effect.alloc_id))

    def _start(self, effect: fx.StartTask) -> None:
        key = (effect.alloc_id, effect.task, effect.attempt)
        self._next_pid += 1
        self.started += 1
        task = SimTask(key, self._next_pid, effect.spec, self._wheel.now_us)
        self._tasks[key] = task
        self._later(START_US, fx.TaskStarted(*key, task.handle))
        run_us = self._run_time_us(effect.spec)
        if run_us is not None:
            code = int(effect.spec.env.get("SIM_EXIT_CODE", "0") or 0)
            self._wheel.after(START_US + run_us, lambda _: self._exit(task, code, 0))

    def _reattach(self, effect: fx.ReattachTask) -> None:
        key = (effect.alloc_id, effect.task, effect.attempt)
        task = self._tasks.get(key)
        if task is None:
            if effect.handle == fx.NO_HANDLE:
                reason = "the run never began"
                self._later(1_000, fx.TaskFailedToStart(*key, reason, is_recoverable=True))
            else:
                self._later(1_000, fx.TaskExited(*key, exit_code=0, is_lost=True))
        elif task.is_running:
            self._later(1_000, fx.TaskStarted(*key, task.handle, is_recovered=True))
        else:
            self._later(1_000, fx.TaskExited(*key, task.exit_code, task.signal))

    def _signal(self, effect: fx.SignalTask) -> None:
        task = self._tasks.get((effect.alloc_id, effect.task, effect.attempt))
        if task is None or not task.is_running:
            return
        if effect.signal == "SIGKILL":
            self._wheel.after(KILL_US, lambda _: self._exit(task, 0, 9))
        elif effect.signal in ("SIGINT", "SIGTERM", "SIGQUIT"):
            stop_us = int(float(task.spec.env.get("SIM_STOP_TIME", "0.05")) * 1e6)
            self._wheel.after(stop_us, lambda _: self._exit(task, 0, 0))

    def _exit(self, task: SimTask, code: int, signal: int) -> None:
        if not task.is_running or self._tasks.get(task.key) is not task:
            return
        task.is_running = False
        task.exit_code = code
        task.signal = signal
        if self._deliver is not None:
            self._deliver(fx.TaskExited(*task.key, code, signal))

    def _destroy(self, effect: fx.DestroyAlloc) -> None:
        for key in [key for key in self._tasks if key[0] == effect.alloc_id]:
            if not self._tasks[key].is_running:
                del self._tasks[key]

    def _check(self, effect: fx.RunCheck) -> None:
        self._later(CHECK_US, fx.CheckDone(effect.check_id, True, "simulated", 200))

    def _save(self, effect: fx.SaveState) -> None:
        if effect.value is None:
            self.saved.pop(effect.key, None)
        else:
            self.saved[effect.key] = effect.value

    def _read(self, effect: fx.ReadFile) -> None:
        body = {"data": b"", "offset": effect.offset, "frame": effect.frame, "eof": True}
        self._later(1_000, fx.FileRead(effect.request_id, body))

    def _stats(self, effect: fx.ReadStats) -> None:
        self._later(1_000, fx.StatsRead(effect.request_id, {}))

    def _run_time_us(self, spec: fx.TaskSpec) -> int | None:
        text = spec.env.get("SIM_RUN_TIME", "")
        if not text:
            return None
        low, _, high = text.partition("..")
        seconds = float(low)
        if high:
            seconds += self._rng.random() * (float(high) - seconds)
        return int(seconds * 1e6)

    def _later(self, delay_us: int, event: Event) -> None:
        deliver = self._deliver

        def arrive(what: Any) -> None:
            # An event for an agent that crashed meanwhile goes nowhere.
            if deliver is not None and self._deliver is deliver:
                deliver(what)

        self._wheel.after(delay_us, arrive, event)


_HANDLERS: Final[dict[type, Callable[[SimTasks, Any], None]]] = {
    fx.PrepareAlloc: SimTasks._prepare,
    fx.StartTask: SimTasks._start,
    fx.ReattachTask: SimTasks._reattach,
    fx.SignalTask: SimTasks._signal,
    fx.DestroyAlloc: SimTasks._destroy,
    fx.RunCheck: SimTasks._check,
    fx.SaveState: SimTasks._save,
    fx.ReadFile: SimTasks._read,
    fx.ReadStats: SimTasks._stats,
    fx.ShutdownComplete: lambda _tasks, _effect: None,
}
