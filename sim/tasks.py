"""Simulated processes of one node: they start, run for a time, obey signals, exit.

They belong to the node, not to the agent: an agent that crashes and comes back finds
them by their handle, as it does on a real machine; only a power loss ends them.

How long a task runs and how it ends is read from its environment, so that a job file
says it in `env` and means nothing by it on a real machine:

    SIM_RUN_TIME      seconds, or a distribution (sim.distributions) that each run draws
                      from; absent = until it is stopped
    SIM_EXIT_CODE     exit code at the end of it; default 0
    SIM_FAILURE_RATE  the fraction of runs that end with exit code 1 instead; default 0
    SIM_STOP_TIME     how long it takes to obey a signal; default 0.05 seconds
"""

import random
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from core.client import effects as fx
from core.model.host import Event
from sim.distributions import Distribution, parse_distribution
from sim.wheel import Wheel

if TYPE_CHECKING:
    from sim.census import Census

START_US: Final = 8_000
PREPARE_US: Final = 2_000
CHECK_US: Final = 3_000
KILL_US: Final = 1_000
BOOT_ID: Final = "sim"
_STOP_US: Final = 50_000

_Key = tuple[str, str, int]  # allocation, task, attempt


class SimTask:
    """A process. It does not keep the task's specification: there may be millions."""

    __slots__ = (
        "exit_code", "group", "index", "is_running", "job", "key", "pid", "signal",
        "started_us", "stop_us", "task",
    )  # fmt: skip

    def __init__(self, key: _Key, pid: int, env: dict[str, str], started_us: int) -> None:
        self.key = key
        self.pid = pid
        self.started_us = started_us
        self.task = key[1]
        self.job = sys.intern(env.get("NOMAD_JOB_ID", ""))
        self.group = sys.intern(env.get("NOMAD_GROUP_NAME", ""))
        self.index = int(env.get("NOMAD_ALLOC_INDEX", 0))
        self.stop_us = _STOP_US if "SIM_STOP_TIME" not in env else stop_time_us(env)
        self.is_running = True
        self.exit_code = 0
        self.signal = 0

    @property
    def handle(self) -> fx.TaskHandle:
        return fx.TaskHandle(pid=self.pid, start_ticks=self.started_us // 10_000, boot_id=BOOT_ID)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> Distribution:
    return parse_distribution(text)


def stop_time_us(env: dict[str, str]) -> int:
    return int(_distribution(env["SIM_STOP_TIME"]).parameters[0] * 1e6)


def check_environment(env: dict[str, str]) -> None:
    """Refuse what the simulator could not carry out.

    Raises:
        ValueError: A SIM_ variable is none of its kind; the message names it.
    """
    for name, text in env.items():
        if not name.startswith("SIM_"):
            continue
        try:
            if name in ("SIM_RUN_TIME", "SIM_STOP_TIME"):
                _distribution(text)
            elif name == "SIM_EXIT_CODE":
                int(text)
            elif name == "SIM_FAILURE_RATE" and not 0 <= float(text) <= 1:
                raise ValueError("it is a fraction from 0 to 1")
        except ValueError as error:
            raise ValueError(f"{name} = {text!r}: {error}") from None


class SimTasks:
    """What a client's host does with tasks, on virtual time."""

    def __init__(self, wheel: Wheel, rng: random.Random) -> None:
        self.started = 0
        self._wheel = wheel
        self._rng = rng
        self._tasks: dict[_Key, SimTask] = {}
        self._next_pid = 100
        self._deliver: Callable[[Event], None] | None = None
        self._census: Census | None = None
        self._node = 0
        self._region = ""

    def report_to(self, census: "Census", node: int, region: str) -> None:
        """Tell a census of every start and end; `node` is this node's number there."""
        self._census, self._node, self._region = census, node, region

    def attach(self, deliver: Callable[[Event], None] | None) -> None:
        """Say where events go; None while no agent runs on the node."""
        self._deliver = deliver

    def running(self) -> list[SimTask]:
        """Return the processes that exist now: the truth, whatever an agent believes."""
        return [task for task in self._tasks.values() if task.is_running]

    def power_off(self) -> None:
        for task in self.running():
            task.is_running = False
            self._tell_ended(task)
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
        env = effect.spec.env
        self._next_pid += 1
        try:
            task = SimTask(key, self._next_pid, env, self._wheel.now_us)
            run_us = self._run_time_us(env)
            code = self._exit_code(env)
        except ValueError as error:
            self._later(START_US, fx.TaskFailedToStart(*key, str(error), is_recoverable=False))
            return
        self.started += 1
        self._tasks[key] = task
        if self._census is not None:
            self._census.started(task, self._node, self._region, self._wheel.now_us)
        self._later(START_US, fx.TaskStarted(*key, task.handle))
        if run_us is not None:
            self._wheel.after(START_US + run_us, self._end, (task, code, 0))

    def go_on(self, key: _Key, env: dict[str, str]) -> fx.TaskHandle:
        """Let a process exist that ran before the simulation began; what it draws, it draws now."""
        self._next_pid += 1
        task = self._tasks[key] = SimTask(key, self._next_pid, env, self._wheel.now_us)
        if self._census is not None:
            self._census.started(task, self._node, self._region, self._wheel.now_us)
        run_us = self._run_time_us(env)
        if run_us is not None:
            self._wheel.after(run_us, self._end, (task, self._exit_code(env), 0))
        return task.handle

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
            self._wheel.after(KILL_US, self._end, (task, 0, 9))
        elif effect.signal in ("SIGINT", "SIGTERM", "SIGQUIT"):
            self._wheel.after(task.stop_us, self._end, (task, 0, 0))

    def _end(self, how: tuple[SimTask, int, int]) -> None:
        task, code, signal = how
        if not task.is_running or self._tasks.get(task.key) is not task:
            return
        task.is_running = False
        task.exit_code = code
        task.signal = signal
        self._tell_ended(task)
        if self._deliver is not None:
            self._deliver(fx.TaskExited(*task.key, code, signal))

    def _destroy(self, effect: fx.DestroyAlloc) -> None:
        for key in [key for key in self._tasks if key[0] == effect.alloc_id]:
            if not self._tasks[key].is_running:
                del self._tasks[key]

    def _check(self, effect: fx.RunCheck) -> None:
        self._later(CHECK_US, fx.CheckDone(effect.check_id, True, "simulated", 200))

    def _read(self, effect: fx.ReadFile) -> None:
        body = {"data": b"", "offset": effect.offset, "frame": effect.frame, "eof": True}
        self._later(1_000, fx.FileRead(effect.request_id, body))

    def _stats(self, effect: fx.ReadStats) -> None:
        self._later(1_000, fx.StatsRead(effect.request_id, {}))

    def _tell_ended(self, task: SimTask) -> None:
        if self._census is not None:
            self._census.ended(task, self._node, self._region)

    def _run_time_us(self, env: dict[str, str]) -> int | None:
        text = env.get("SIM_RUN_TIME", "")
        return _distribution(text).draw_us(self._rng) if text else None

    def _exit_code(self, env: dict[str, str]) -> int:
        rate = env.get("SIM_FAILURE_RATE", "")
        if rate and self._rng.random() < float(rate):
            return 1
        return int(env.get("SIM_EXIT_CODE", "0") or 0)

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
    fx.ReadFile: SimTasks._read,
    fx.ReadStats: SimTasks._stats,
    fx.ShutdownComplete: lambda _tasks, _effect: None,
}
