"""A client machine on virtual time, with a scripted server and scripted processes."""

import heapq
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.client.config import ClientBoot, ClientConfig, Fingerprint
from core.client.effects import (
    AllocPrepared,
    CheckDone,
    DestroyAlloc,
    PrepareAlloc,
    ReattachTask,
    RunCheck,
    SaveState,
    ShutdownComplete,
    SignalTask,
    StartTask,
    TaskExited,
    TaskFailedToStart,
    TaskHandle,
    TaskStarted,
)
from core.client.machine import ClientMachine
from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
    PortMapping,
    TaskState,
)
from core.model.host import (
    FOREVER_US,
    Call,
    CallDone,
    GossipExchange,
    GossipExchanged,
    GossipExchangeReply,
    GossipSend,
    Log,
    Now,
    Reply,
    Requested,
    SaveMembers,
    Tick,
)
from core.model.job import Job, Task, TaskGroup
from core.model.node import DriverInfo
from core.state.commands import AllocUpdate

sys.path.insert(0, str(Path(__file__).parent))  # for client_parts: test folders are no packages

S = 1_000_000
DATACENTER_ID = "00000000abcd"
SERVERS = ("s1:4647", "s2:4647")
WALL_AT_ZERO_US = 1_700_000_000 * S


def an_alloc(job: Job, number: int = 1, **more: Any) -> Allocation:
    group = (job.task_groups or [TaskGroup(name="g")])[0]
    tasks = {
        task.name: AllocatedTask(
            cpu=AllocatedCpu(cpu_shares=100), memory=AllocatedMemory(memory_mb=64)
        )
        for task in group.tasks or ()
    }
    ports = [PortMapping(label="http", value=21_000 + number, host_ip="10.0.0.1")]
    fields: dict[str, Any] = {
        "id": f"{number:08d}-0000-0000-0000-{DATACENTER_ID}",
        "namespace": "default",
        "eval_id": "e",
        "name": f"{job.id}.{group.name}[{number}]",
        "node_id": "n",
        "node_name": "node",
        "job_id": job.id,
        "job": job,
        "task_group": group.name,
        "index": number,
        "allocated_resources": AllocatedResources(tasks=tasks, shared=AllocatedShared(ports=ports)),
    }
    return Allocation(**{**fields, **more})


def a_job(*tasks: Task, type_: str = "service", **group: Any) -> Job:
    chosen = list(tasks) or [Task(name="web", driver="raw_exec", config={"command": "web"})]
    return Job(
        id="job", name="job", type=type_, version=0, job_modify_index=1,
        task_groups=[TaskGroup(name="g", tasks=chosen, **group)],
    )  # fmt: skip


class World:
    """Runs one client to chosen moments, and keeps what it did.

    Processes: `behave` maps a task's name to what a start does: None runs until a signal,
    (delay_us, exit code) ends by itself, an error text does not start.
    """

    def __init__(self, **config: Any) -> None:
        self.now_us = 0
        self.behave: dict[str, Any] = {}
        self.ignores: set[str] = set()  # signals that processes ignore
        self.is_reachable = True
        self.knows_node = True
        self.index = 1
        self.allocs: dict[str, Allocation] = {}
        self.updates: list[AllocUpdate] = []
        self.services: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.calls: list[Call] = []
        self.starts: list[StartTask] = []
        self.effects: list[Any] = []
        self.logs: list[Log] = []
        self.replies: dict[int, Reply] = {}
        self.disk: dict[str, bytes] = {}
        self.checks: Callable[[RunCheck], bool] = lambda check: True
        self.processes: dict[tuple[str, str, int], TaskHandle] = {}
        self._sequence = 0
        self._pending: list[tuple[int, int, Any]] = []
        self._polls: list[Call] = []
        self._pids = 100
        self._config = {
            "name": "node", "servers": SERVERS, "alloc_dir": "/a",
            "fingerprint": Fingerprint(
                attributes={"cpu.arch": "amd64", "unique.network.ip-address": "10.0.0.1"},
                drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
            ),
            **config,
        }  # fmt: skip
        self.machine: ClientMachine
        self.boot()

    # --- the agent's life ------------------------------------------------------------------

    def boot(self) -> None:
        """Start the agent, or start it again with what its disk holds."""
        self._pending = [item for item in self._pending if not isinstance(item[2], CallDone)]
        self._polls = []
        self.machine = ClientMachine(
            config=ClientConfig(**self._config),
            boot=ClientBoot(saved=dict(self.disk)),
            rng=random.Random(7),
            now=self.now,
        )

    @property
    def now(self) -> Now:
        return Now(self.now_us, WALL_AT_ZERO_US + self.now_us)

    def run(self, seconds: float) -> None:
        end_us = self.now_us + int(seconds * S)
        for _ in range(100_000):
            due_us = self._pending[0][0] if self._pending else FOREVER_US
            next_us = min(due_us, self.machine.deadline_us)
            if next_us > end_us:
                self.now_us = end_us
                return
            self.now_us = max(self.now_us, next_us)
            if due_us <= self.machine.deadline_us:
                self.feed(heapq.heappop(self._pending)[2])
            else:
                self.feed(Tick())
        raise AssertionError("the machine spins")

    def feed(self, event: Any) -> None:
        if isinstance(event, tuple):
            self._end(*event)
            return
        for effect in self.machine.handle(event, self.now):
            self.effects.append(effect)
            self._carry_out(effect)

    def ask(self, method: str, **body: Any) -> Reply | None:
        number = 1000 + len(self.replies)
        self.feed(Requested(number, method, body))
        return self.replies.get(number)

    # --- the server's side -----------------------------------------------------------------

    def place(self, alloc: Allocation) -> str:
        self.index += 1
        alloc.modify_index = self.index
        self.allocs[alloc.id] = msgspec.msgpack.decode(
            msgspec.msgpack.encode(alloc), type=Allocation
        )
        self._wake()
        return alloc.id

    def change(self, alloc_id: str, **fields: Any) -> None:
        self.place(msgspec.structs.replace(self.allocs[alloc_id], **fields))

    def remove(self, alloc_id: str) -> None:
        del self.allocs[alloc_id]
        self.index += 1
        self._wake()

    def last(self, alloc_id: str) -> AllocUpdate:
        return [update for update in self.updates if update.alloc_id == alloc_id][-1]

    def state(self, alloc_id: str, task: str = "web") -> TaskState:
        states = self.last(alloc_id).task_states
        assert states is not None
        return states[task]

    def events(self, alloc_id: str, task: str = "web") -> list[str]:
        return [event.type for event in self.state(alloc_id, task).events or ()]

    def messages(self, alloc_id: str, task: str = "web") -> list[str]:
        return [event.display_message for event in self.state(alloc_id, task).events or ()]

    def running(self) -> list[tuple[str, str]]:
        return [(alloc_id, task) for alloc_id, task, _ in self.processes]

    def exit(self, task: str, code: int, signal: int = 0) -> None:
        """End the process of a task."""
        key = next(key for key in self.processes if key[1] == task)
        self._end(key, code, signal)

    # --- carrying out ----------------------------------------------------------------------

    def _later(self, delay_us: int, event: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._pending, (self.now_us + delay_us, self._sequence, event))

    def _carry_out(self, effect: Any) -> None:
        match effect:
            case Call():
                self.calls.append(effect)
                self._answer(effect)
            case Reply():
                self.replies[effect.request_id] = effect
            case Log():
                self.logs.append(effect)
            case SaveState():
                if effect.value is None:
                    self.disk.pop(effect.key, None)
                else:
                    self.disk[effect.key] = effect.value
            case PrepareAlloc():
                self._later(1_000, AllocPrepared(effect.alloc_id))
            case StartTask():
                self._start(effect)
            case ReattachTask():
                self._reattach(effect)
            case SignalTask():
                if effect.signal not in self.ignores:
                    key = (effect.alloc_id, effect.task, effect.attempt)
                    number = {"SIGKILL": 9, "SIGINT": 2, "SIGTERM": 15}.get(effect.signal, 0)
                    if key in self.processes and number:
                        self._later(1_000, (key, 128 + number, number))
            case RunCheck():
                passes = self.checks(effect)
                self._later(1_000, CheckDone(effect.check_id, passes, "output", 200))
            case (
                DestroyAlloc()
                | ShutdownComplete()
                | GossipSend()
                | SaveMembers()
                | GossipExchangeReply()
            ):
                pass
            case GossipExchange():
                self._later(5_000, GossipExchanged(effect.pool, effect.exchange_id, None))
            case _:
                raise AssertionError(f"unexpected effect {effect}")

    def _start(self, effect: StartTask) -> None:
        self.starts.append(effect)
        key = (effect.alloc_id, effect.task, effect.attempt)
        saved = self.disk[f"task/{effect.alloc_id}/{effect.task}"]
        assert msgspec.msgpack.decode(saved)["attempt"] == effect.attempt  # saved before
        assert not any(other[:2] == key[:2] for other in self.processes), "a second copy"
        behaviour = self.behave.get(effect.task)
        if isinstance(behaviour, str):
            self._later(1_000, TaskFailedToStart(*key, behaviour))
            return
        self._pids += 1
        handle = TaskHandle(self._pids, self.now_us, "boot")
        self.processes[key] = handle
        self._later(1_000, TaskStarted(*key, handle))
        if behaviour is not None:
            self._later(1_000 + behaviour[0], (key, behaviour[1], 0))

    def _reattach(self, effect: ReattachTask) -> None:
        key = (effect.alloc_id, effect.task, effect.attempt)
        handle = self.processes.get(key)
        if handle is not None:
            self._later(1_000, TaskStarted(*key, handle, is_recovered=True))
        else:
            self._later(1_000, TaskExited(*key, exit_code=-1, is_lost=True))

    def _end(self, key: tuple[str, str, int], code: int, signal: int) -> None:
        if self.processes.pop(key, None) is not None:
            self.feed(TaskExited(*key, exit_code=code, signal=signal))

    def _answer(self, call: Call) -> None:
        if not self.is_reachable:
            self._later(5_000, CallDone(call.call_id, "unreachable: refused"))
            return
        body = msgspec.msgpack.decode(msgspec.msgpack.encode(call.body))
        if call.method in ("Node.Allocations", "Node.Update", "Node.FetchAllocations"):
            if not self.knows_node:
                self._later(5_000, CallDone(call.call_id, "node not found: register first"))
                return
        match call.method:
            case "Node.Hello":
                answer: Any = {
                    "datacenter_id": DATACENTER_ID,
                    "servers": list(SERVERS),
                    "lan_members": ["s1:4648"],
                }
            case "Node.Register":
                self.knows_node = True
                self.nodes.append(body["node"])
                answer = {"index": self.index, "servers": list(SERVERS)}
            case "Node.Allocations":
                if body["min_index"] >= self.index:
                    self._polls.append(call)
                    return
                answer = self._list()
            case "Node.FetchAllocations":
                found = [self.allocs[i] for i in body["ids"] if i in self.allocs]
                answer = {"allocs": msgspec.msgpack.decode(msgspec.msgpack.encode(found))}
            case "Node.Update":
                self.updates += msgspec.convert(body["updates"], list[AllocUpdate])
                for service in body["services"]:
                    self.services[service["ID"]] = service
                for key in body["removed_services"]:
                    self.services.pop(key, None)
                answer = {"index": self.index}
            case _:
                answer = {"echo": call.method}
        self._later(5_000, CallDone(call.call_id, "", answer))

    def _list(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "allocs": {alloc.id: alloc.modify_index for alloc in self.allocs.values()},
        }

    def _wake(self) -> None:
        polls, self._polls = self._polls, []
        for call in polls:
            self._later(5_000, CallDone(call.call_id, "", self._list()))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[..., World]:
    return World


@pytest.fixture
def make_job() -> Callable[..., Job]:
    return a_job


@pytest.fixture
def make_alloc() -> Callable[..., Allocation]:
    return an_alloc
