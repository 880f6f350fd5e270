"""One node on virtual time: the agent's lives, its disk, its processes.

The host's contract is core/client/effects.py's and is kept as core/agent/execution keeps it:
effects are carried out in order; what was saved is on the disk before a `StartTask` is carried
out, and otherwise a few milliseconds later; processes outlive the agent. An agent that is
killed loses what of its effects was not carried out yet, and of what it saved a tail that had
not reached the disk.

Whatever happens is told to the `Watch` in the order in which it happens.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from core.client import effects as fx
from core.client.config import ClientBoot, ClientConfig, ClientTimings, Fingerprint
from core.client.machine import ClientMachine
from core.model.host import FOREVER_US, Call, Event, Log, Now, Reply, Tick
from core.model.node import DriverInfo
from sim.client.jobs import WALL_US, Behaviour, S
from sim.client.servers import ADDRESSES, Servers
from sim.client.watch import Watch
from sim.seeds import Violation

FLUSH_US: Final = 4_000
SPIN: Final = 2_000  # events at one moment
NUMBERS: Final = {"SIGINT": 2, "SIGQUIT": 3, "SIGKILL": 9, "SIGTERM": 15}

Key = tuple[str, str, int]  # allocation, task, attempt


class Process:
    """One run, from the moment its start was asked for until its record is forgotten."""

    __slots__ = ("behaviour", "code", "ends_us", "handle", "is_alive", "is_begun", "signal")

    def __init__(self, behaviour: Behaviour, handle: fx.TaskHandle) -> None:
        self.behaviour = behaviour
        self.handle = handle
        self.is_begun = False  # a process exists, or did
        self.is_alive = True  # it exists, or is about to
        self.code = 0
        self.signal = 0


class World:
    def __init__(
        self, rng: random.Random, watch: Watch, counts: tuple[Counter[str], Counter[str]]
    ) -> None:
        self.rng = rng
        self.watch = watch
        self.faults, self.situations = counts
        self.now_us = 0
        self.config = ClientConfig(
            name="node",
            servers=ADDRESSES,
            alloc_dir="/a",
            fingerprint=Fingerprint(
                attributes={"unique.network.ip-address": "10.0.0.1"},
                drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
            ),
            max_kill_timeout_us=4 * S,
            max_terminal_allocs=rng.choice((1, 2, 50)),
            timings=ClientTimings(
                retry_max_us=2 * S, call_timeout_us=2 * S, allocations_wait_us=8 * S
            ),
        )
        self.behaviours: dict[tuple[str, str], Behaviour] = {}
        self.failing: set[tuple[str, int]] = set()  # (allocation, port) of checks that fail
        self.refuses_folders: set[str] = set()
        self.processes: dict[Key, Process] = {}
        self.disk: dict[str, bytes] = {}
        self.replies: dict[int, Reply] = {}
        self.repeats = 0.0  # of completions
        self.has_said_goodbye = False
        self.midst: Callable[[Event], bool] | None = None  # kill the agent in this event's effects
        self.servers = Servers(self)
        self.machine: ClientMachine | None = None
        self.life = 0
        self._unsaved: list[tuple[str, bytes | None]] = []
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._sequence = 0
        self._pids = 100

    # --- time ------------------------------------------------------------------------------

    @property
    def now(self) -> Now:
        return Now(self.now_us, WALL_US + self.now_us)

    def after(self, delay_us: int, function: Callable[[Any], None], argument: Any = None) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._sequence, function, argument))

    def run(self, span_us: int) -> None:
        end_us = self.now_us + span_us
        heap, spun = self._heap, 0
        while True:
            due_us = heap[0][0] if heap else FOREVER_US
            wanted_us = self.machine.deadline_us if self.machine is not None else FOREVER_US
            next_us = due_us if due_us <= wanted_us else wanted_us
            if next_us > end_us:
                break
            if next_us > self.now_us:
                self.now_us, spun = next_us, 0
                self.watch.pass_time(next_us)
            spun += 1
            if spun > SPIN:
                raise Violation("spins", f"{SPIN} events at one moment")
            if due_us <= wanted_us:
                _, _, function, argument = heapq.heappop(heap)
                function(argument)
            else:
                self.deliver(Tick())
        self.now_us = end_us
        self.watch.pass_time(end_us)

    # --- the agent -------------------------------------------------------------------------

    def boot(self) -> None:
        assert self.machine is None
        self.life += 1
        self._unsaved = []
        self.watch.agent_begins(self.now_us)
        self.machine = ClientMachine(
            config=self.config,
            boot=ClientBoot(saved=dict(self.disk)),
            rng=random.Random(self.rng.getrandbits(32)),
            now=self.now,
        )

    def kill(self, dropped: list[Any] | None = None) -> None:
        """End the agent at once: a tail of what it saved is not on the disk."""
        kept = self.rng.randrange(len(self._unsaved) + 1)
        lost = [key for key, _ in self._unsaved[kept:]]
        del self._unsaved[kept:]
        self._flush(None)
        for effect in dropped or ():
            lost.append(effect.key if isinstance(effect, fx.SaveState) else _subject(effect))
        self._end_agent({_alloc_of(key) for key in lost} - {""})

    def quit(self) -> None:
        """The agent ended in good order."""
        self._flush(None)
        self._end_agent(set())

    def _end_agent(self, unsure: set[str]) -> None:
        self.machine = None
        self.servers.on_agent_ended()
        for process in self.processes.values():
            if process.is_alive and not process.is_begun:  # its start was under way
                if self.rng.random() < 0.5:
                    self._begin_process(process)
                else:
                    process.is_alive = False
        self.watch.agent_ends(self.now_us, unsure)

    def deliver(self, event: Event, *, is_repeat: bool = False) -> None:
        machine = self.machine
        if machine is None:
            return
        now = self.now
        if not is_repeat:
            self.watch.before(event, now)
        effects = machine.handle(event, now)
        if self.midst is not None and effects and self.midst(event):
            self.midst = None
            self.faults["agent killed amid its effects"] += 1
            cut = self.rng.randrange(len(effects))
            for effect in effects[:cut]:
                self._carry_out(effect)
            self.kill(effects[cut:])
            return
        for effect in effects:
            self._carry_out(effect)
        if self.machine is machine:
            self.watch.after(self.now_us)

    def tell(self, delay_us: int, event: Event) -> None:
        """Deliver an event later, should this agent still live then."""
        life = self.life

        def arrive(_: Any) -> None:
            if self.life == life and self.machine is not None:
                self.deliver(event)
                if event.__class__ is not fx.CheckDone and self.rng.random() < self.repeats:
                    self.after(self.rng.choice((0, 50_000, 2 * S)), again)

        def again(_: Any) -> None:
            if self.life == life and self.machine is not None:
                self.faults["completion repeated"] += 1
                self.deliver(event, is_repeat=True)

        self.after(delay_us, arrive)

    # --- carrying out ----------------------------------------------------------------------

    def _carry_out(self, effect: Any) -> None:
        kind = effect.__class__
        if kind is fx.SaveState:
            if not self._unsaved:
                self.after(FLUSH_US, self._flush)
            self._unsaved.append((effect.key, effect.value))
            return
        self.watch.effect(effect, self.now_us)
        if kind is Call:
            self.servers.on_call(effect)
        elif kind is fx.StartTask:
            self._flush(None)
            self._start(effect)
        elif kind is fx.SignalTask:
            self._signal(effect)
        elif kind is fx.ReattachTask:
            self._reattach(effect)
        elif kind is fx.PrepareAlloc:
            refused = effect.alloc_id in self.refuses_folders
            error = "no space left on device" if refused else ""
            delay_us = self.rng.choice((2_000, 15_000))
            self.tell(delay_us, fx.AllocPrepared(effect.alloc_id, error))
        elif kind is fx.RunCheck:
            passes = (effect.check_id.partition("/")[0], effect.port) not in self.failing
            answer = fx.CheckDone(effect.check_id, passes, "output", 200 if passes else 503)
            self.tell(self.rng.choice((3_000, 60_000)), answer)
        elif kind is Reply:
            self.replies[effect.request_id] = effect
        elif kind is fx.ShutdownComplete:
            self.has_said_goodbye = True
        elif kind is fx.DestroyAlloc:
            for key in [key for key in self.processes if key[0] == effect.alloc_id]:
                del self.processes[key]
        elif kind is not Log:
            raise AssertionError(f"unexpected effect {effect}")

    def _flush(self, _: Any) -> None:
        for key, value in self._unsaved:
            if value is None:
                self.disk.pop(key, None)
            else:
                self.disk[key] = value
        self._unsaved.clear()

    # --- processes -------------------------------------------------------------------------

    def alive(self, alloc_id: str = "") -> list[Key]:
        """Return the runs that live or are about to: the truth, whatever an agent believes."""
        return [
            key
            for key, process in self.processes.items()
            if process.is_alive and alloc_id in ("", key[0])
        ]

    def _start(self, effect: fx.StartTask) -> None:
        key = (effect.alloc_id, effect.task, effect.attempt)
        behaviour = self.behaviours[key[:2]]
        delay_us = self.rng.choice((4_000, 30_000))
        if behaviour.never_starts or self.rng.random() < behaviour.refuses:
            self.faults["start failed"] += 1
            hope = not behaviour.never_starts
            self.tell(delay_us, fx.TaskFailedToStart(*key, "no such program", hope))
            return
        self._pids += 1
        process = Process(behaviour, fx.TaskHandle(self._pids, self.now_us // 10_000, "boot"))
        self.processes[key] = process
        life = self.life

        def begin(_: Any) -> None:
            if self.life == life and self.machine is not None and process.is_alive:
                self._begin_process(process)
                self.tell(0, fx.TaskStarted(*key, process.handle))

        self.after(delay_us, begin)

    def _begin_process(self, process: Process) -> None:
        process.is_begun = True
        behaviour = process.behaviour
        if behaviour.run_us is not None:
            code = self.rng.choice(behaviour.codes)
            number = code - 1000 if code > 1000 else 0
            how = (process, 128 + number if number else code, number)
            self.after(self.rng.randrange(*behaviour.run_us), self._end, how)

    def end(self, key: Key, code: int, signal: int = 0) -> None:
        """A process ends of itself."""
        self._end((self.processes[key], code, signal))

    def _end(self, how: tuple[Process, int, int]) -> None:
        process, code, signal = how
        if not (process.is_alive and process.is_begun):
            return
        process.is_alive, process.code, process.signal = False, code, signal
        key = next((key for key, one in self.processes.items() if one is process), None)
        if key is None:
            return
        self.watch.process_ended(key, self.now_us)
        if self.machine is not None:
            self.tell(self.rng.choice((500, 500, 20_000)), fx.TaskExited(*key, code, signal))
        else:
            self.faults["ended while nobody watched"] += 1

    def _reattach(self, effect: fx.ReattachTask) -> None:
        key = (effect.alloc_id, effect.task, effect.attempt)
        process = self.processes.get(key)
        if process is None or not process.is_begun:
            if effect.handle == fx.NO_HANDLE:
                self.situations["start lost with the agent"] += 1
                self.tell(1_000, fx.TaskFailedToStart(*key, "it never began", True))
            else:
                self.tell(1_000, fx.TaskExited(*key, -1, is_lost=True))
        elif process.is_alive:
            self.situations["process taken up again"] += 1
            self.tell(1_000, fx.TaskStarted(*key, process.handle, is_recovered=True))
        elif self.rng.random() < 0.3:
            self.situations["exit code lost"] += 1
            self.tell(1_000, fx.TaskExited(*key, -1, is_lost=True))
        else:
            self.tell(1_000, fx.TaskExited(*key, process.code, process.signal))

    def _signal(self, effect: fx.SignalTask) -> None:
        process = self.processes.get((effect.alloc_id, effect.task, effect.attempt))
        if process is None or not (process.is_alive and process.is_begun):
            return
        if effect.signal == "SIGKILL":
            self.after(1_000, self._end, (process, 137, 9))
        elif effect.signal in NUMBERS and not process.behaviour.ignores:
            number = NUMBERS[effect.signal] if self.rng.random() < 0.5 else 0
            how = (process, 128 + number if number else 0, number)
            self.after(process.behaviour.stop_us, self._end, how)
        elif effect.signal in NUMBERS:
            self.faults["kill signal ignored"] += 1


def _subject(effect: Any) -> str:
    """Return the key of what an effect that was not carried out was about."""
    alloc_id = getattr(effect, "alloc_id", "")
    return f"alloc/{alloc_id}" if alloc_id else ""


def _alloc_of(key: str) -> str:
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("alloc", "task") else ""
