"""`Executor`: carries out a client's effects with real processes and files.

    executor = Executor(folder, deliver=deliver, log=log)
    machine = ClientMachine(config=..., boot=executor.boot(), ...)
    nursery.start_soon(executor.run)
    executor.submit(effect)          for every effect that `handles` says yes to
    executor.close()                 after `run` was cancelled

Layout under `folder`: `state.log` (saved records), `runs/` (records of runs), `alloc/`
(the allocations' folders, or `alloc_dir` where that is given).

All effects pass one queue, in order. `SaveState`s that stand together share one fdatasync,
and a `StartTask` is carried out only after those before it are on disk; if the disk
refuses, the start fails rather than be forgotten. What may take long (starts, file reads,
checks) runs beside the queue.

Tasks are not children of the agent (see supervisor): the agent watches the supervisor's
pidfd, and reads the exit code it left. So the watch is the same after a restart.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio

from core.agent.execution import commands, files, folders, probes, usage
from core.agent.execution.launcher import Launcher, LauncherDied
from core.agent.execution.runs import Run, RunFolder, boot_id, is_alive, open_pidfd
from core.agent.execution.store import StateStore
from core.client.config import ClientBoot, ClientConfig
from core.client.effects import (
    NO_HANDLE,
    AllocPrepared,
    DestroyAlloc,
    FileRead,
    PrepareAlloc,
    ReadFile,
    ReadStats,
    ReattachTask,
    RunCheck,
    SaveState,
    SignalTask,
    StartTask,
    StatsRead,
    TaskExited,
    TaskFailedToStart,
    TaskStarted,
)
from core.model.host import Address, Effect, Event

MEMBERS_KEY = "members/lan"
UNKNOWN_EXIT_CODE = -1
RunName = tuple[str, str, int]  # allocation, task, attempt


class Executor:
    def __init__(
        self,
        folder: str | Path,
        *,
        deliver: Callable[[Event], None],
        log: Any,
        alloc_dir: str | Path = "",
        drivers: tuple[str, ...] = ("raw_exec",),
        env_allow: tuple[str, ...] = ClientConfig(name="").env_allow,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Open the folder and lock it.

        Raises:
            RunsBusy: Another agent runs on this folder.
            StoreDamaged: The saved records can't be trusted.
            OSError: The folder can't be written.
        """
        self._folder = Path(folder).absolute()
        self._alloc_root = Path(alloc_dir).absolute() if alloc_dir else self._folder / "alloc"
        self._alloc_root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._deliver = deliver
        self._log = log
        self._drivers = drivers
        self._env_allow = env_allow
        self._environment = environment
        self._runs = RunFolder(self._folder / "runs")
        self._store = StateStore(self._folder / "state.log")
        self._boot_id = boot_id()
        self._queue: deque[Effect] = deque()
        self._wake = trio.Event()
        self._unsaved: list[tuple[str, bytes | None]] = []
        self._alive: dict[RunName, Run] = {}
        self._nursery: trio.Nursery | None = None
        self._launcher: Launcher | None = None
        self._handlers: dict[type[Effect], Callable[[Any], None]] = {
            PrepareAlloc: self._beside(self._prepare),
            StartTask: self._beside(self._start),
            ReattachTask: self._beside(self._reattach),
            SignalTask: self._signal,
            DestroyAlloc: self._beside(self._destroy),
            RunCheck: self._beside(self._check),
            ReadFile: self._beside(self._read_file),
            ReadStats: self._beside(self._read_stats),
        }

    @property
    def alloc_dir(self) -> str:
        return str(self._alloc_root)

    def boot(self) -> ClientBoot:
        """Return what the previous life saved."""
        saved = dict(self._store.values)
        members = saved.pop(MEMBERS_KEY, None)
        known: tuple[tuple[str, Address], ...] = ()
        if members is not None:
            known = msgspec.msgpack.decode(members, type=tuple[tuple[str, Address], ...])
        return ClientBoot(saved=saved, lan_members=known)

    def save_members(self, members: list[tuple[str, Address]]) -> None:
        """Keep the LAN member list, for `boot` of the next life."""
        self.submit(SaveState(MEMBERS_KEY, msgspec.msgpack.encode(members)))

    def handles(self, effect: Effect) -> bool:
        return type(effect) in self._handlers or isinstance(effect, SaveState)

    def submit(self, effect: Effect) -> None:
        self._queue.append(effect)
        self._wake.set()

    async def run(self) -> None:
        """Carry out effects until cancelled. Tasks live on afterwards."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._launcher = Launcher(nursery, self._runs.lock_fd, self._folder / "launcher.log")
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._carry_out()

    def close(self) -> None:
        """Write what was saved last, and let go of the folder."""
        left = [effect for effect in self._queue if isinstance(effect, SaveState)]
        self._unsaved += [(effect.key, effect.value) for effect in left]
        if self._unsaved:
            try:
                self._store.append(self._unsaved)
            except OSError as error:
                self._log.error("client state not saved", error=str(error))
        if self._launcher is not None:
            self._launcher.close()
        self._store.close()
        self._runs.close()

    async def _carry_out(self) -> None:
        while self._queue:
            effect = self._queue.popleft()
            if isinstance(effect, SaveState):
                self._unsaved.append((effect.key, effect.value))
            elif isinstance(effect, StartTask) and not await self._save():
                self._deliver(TaskFailedToStart(
                    effect.alloc_id, effect.task, effect.attempt,
                    "the client's state can't be saved: see the agent's log", True,
                ))  # fmt: skip
            else:
                self._handlers[type(effect)](effect)
        await self._save()

    async def _save(self) -> bool:
        """Make the gathered records durable; False when the disk refuses, to be tried again."""
        if not self._unsaved:
            return True
        batch = list(self._unsaved)
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.append, batch)
        except OSError as error:
            self._log.error("client state not saved", error=str(error))
            return False
        del self._unsaved[: len(batch)]
        return True

    def _beside(self, work: Callable[[Any], Any]) -> Callable[[Any], None]:
        def begin(effect: Effect) -> None:
            assert self._nursery is not None
            self._nursery.start_soon(work, effect)

        return begin

    # --- folders ---------------------------------------------------------------------------

    async def _prepare(self, effect: PrepareAlloc) -> None:
        error = ""
        try:
            await trio.to_thread.run_sync(
                folders.prepare, self._alloc_root, effect.alloc_id, effect.tasks, effect.files
            )
        except (OSError, ValueError) as failure:
            error = str(failure)
        self._deliver(AllocPrepared(effect.alloc_id, error))

    async def _destroy(self, effect: DestroyAlloc) -> None:
        try:
            await trio.to_thread.run_sync(folders.destroy, self._alloc_root, effect.alloc_id)
        except ValueError as error:
            self._log.error("folder not removed", error=str(error))
            return
        self._runs.forget_alloc(effect.alloc_id)

    # --- tasks -----------------------------------------------------------------------------

    async def _start(self, effect: StartTask) -> None:
        name = (effect.alloc_id, effect.task, effect.attempt)
        try:
            run = await self._launch(effect)
        except commands.CommandError as error:
            self._deliver(TaskFailedToStart(*name, str(error), error.is_recoverable))
            return
        self._deliver(TaskStarted(*name, run.handle))
        await self._watch(name, run)

    async def _launch(self, effect: StartTask) -> Run:
        """Start the task's process.

        Raises:
            CommandError: With the reason in words.
        """
        spec = effect.spec
        if spec.driver not in self._drivers:
            raise commands.CommandError(f"driver {spec.driver!r} is not enabled on this node")
        base = self._alloc_root / effect.alloc_id
        command = await trio.to_thread.run_sync(
            commands.resolve, spec, base / effect.task, self._environment, self._env_allow
        )
        self._runs.make(effect.alloc_id)
        self._runs.forget(effect.alloc_id, effect.task, effect.attempt - 1)
        assert self._launcher is not None
        try:
            answer = await self._launcher.launch({
                "run": str(self._runs.base(effect.alloc_id, effect.task, effect.attempt)),
                "boot_id": self._boot_id,
                "log_base": str(base / "alloc" / "logs" / effect.task),
                "max_files": spec.logs.max_files,
                "max_bytes": spec.logs.max_file_bytes,
                "logs_disabled": spec.logs.disabled,
                **command._asdict(),
            })  # fmt: skip
        except LauncherDied as error:
            run = self._runs.started(effect.alloc_id, effect.task, effect.attempt)
            if run is not None:
                return run
            raise commands.CommandError(str(error), is_recoverable=True) from None
        if "errno" in answer:
            raise commands.start_failure(answer["stage"], answer["errno"], command)
        run = self._runs.started(effect.alloc_id, effect.task, effect.attempt)
        if run is None:
            raise commands.CommandError("the record of the run is gone", is_recoverable=True)
        return run

    async def _reattach(self, effect: ReattachTask) -> None:
        name = (effect.alloc_id, effect.task, effect.attempt)
        run = self._runs.started(*name)
        if run is None and effect.handle == NO_HANDLE:
            self._deliver(TaskFailedToStart(
                *name, "the agent ended before the task was started", is_recoverable=True
            ))  # fmt: skip
            return
        if run is None:
            run = Run(effect.handle, NO_HANDLE)
        lives = is_alive(run.supervisor, self._boot_id) or is_alive(run.handle, self._boot_id)
        if lives and self._runs.ended(*name) is None:
            self._deliver(TaskStarted(*name, run.handle, is_recovered=True))
        await self._watch(name, run)

    async def _watch(self, name: RunName, run: Run) -> None:
        """Wait for the end of a run, and tell it with its exit code where that is known."""
        self._alive[name] = run
        try:
            await self._until_gone(run.supervisor)
            ended = self._runs.ended(*name)
            if ended is None and is_alive(run.handle, self._boot_id):
                self._log.warning(
                    "a task lost its supervisor: its output is gone, its exit code will be",
                    alloc_id=name[0], task=name[1], pid=run.handle.pid,
                )  # fmt: skip
                await self._until_gone(run.handle)
        finally:
            del self._alive[name]
        if ended is None:
            self._deliver(TaskExited(*name, exit_code=UNKNOWN_EXIT_CODE, is_lost=True))
        else:
            self._deliver(TaskExited(*name, exit_code=ended.exit_code, signal=ended.signal))

    async def _until_gone(self, handle: Any) -> None:
        pidfd = open_pidfd(handle, self._boot_id)
        if pidfd is None:
            return
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            trio.lowlevel.notify_closing(pidfd)
            os.close(pidfd)

    def _signal(self, effect: SignalTask) -> None:
        run = self._alive.get((effect.alloc_id, effect.task, effect.attempt))
        if run is None or not is_alive(run.handle, self._boot_id):
            return  # it has just ended: the event is on its way
        number = _signal_number(effect.signal)
        if number is None:
            self._log.error("no such signal on this system", signal=effect.signal)
            return
        try:
            os.killpg(run.handle.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            self._log.error("signal not sent", pid=run.handle.pid, error=str(error))

    # --- checks, files, usage ----------------------------------------------------------------

    async def _check(self, effect: RunCheck) -> None:
        self._deliver(await probes.run_check(effect))

    async def _read_file(self, effect: ReadFile) -> None:
        try:
            body = await files.read(self._alloc_root, effect)
        except files.FileError as error:
            self._deliver(FileRead(effect.request_id, error=str(error), status=error.status))
        except OSError as error:
            self._deliver(FileRead(effect.request_id, error=str(error), status=500))
        else:
            self._deliver(FileRead(effect.request_id, body))

    async def _read_stats(self, effect: ReadStats) -> None:
        try:
            if effect.alloc_id:
                body = await trio.to_thread.run_sync(usage.read_tasks, effect.tasks)
            else:
                body = await trio.to_thread.run_sync(usage.read_host, self._alloc_root)
        except (OSError, ValueError, IndexError) as error:
            self._deliver(StatsRead(effect.request_id, error=f"usage can't be measured: {error}"))
        else:
            self._deliver(StatsRead(effect.request_id, body))


def _signal_number(name: str) -> int | None:
    try:
        return signal.Signals[name]
    except KeyError:
        return None
