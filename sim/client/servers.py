"""The servers of a node, as far as it sees them: what they want of it, what they were told.

They are one state behind several addresses. Calls take time, fail while the servers can't be
reached, and may be carried out though the answer is lost. A poll that arrives at a follower
gets a list that is older than one seen before; a list may be read by one leader and the
allocations from the next, which is not as far yet.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.model.allocation import Allocation, ClientStatus
from core.model.host import Call, CallDone
from core.state.commands import AllocUpdate
from sim.client.jobs import DATACENTER_ID, S

if TYPE_CHECKING:
    from sim.client.world import World

ADDRESSES: Final = ("s1:4647", "s2:4647", "s3:4647")
UNKNOWN_NODE: Final = "node not found: register first"


class Servers:
    def __init__(self, world: "World") -> None:
        self._world = world
        self.is_reachable = True
        self.loses_answers = 0.0
        self.is_stale = 0.0  # share of answers out of the past
        self.knows_node = False
        self.index = 10
        self.restored = 0
        self.allocs: dict[str, Allocation] = {}
        self.reports: dict[str, AllocUpdate] = {}
        self.services: dict[str, dict[str, Any]] = {}  # by id
        self._past: tuple[int, dict[str, bytes]] = (1, {})  # index and records of a moment ago
        self._polls: list[tuple[Call, int]] = []

    # --- what users and schedulers do --------------------------------------------------------

    def put(self, *allocs: Allocation) -> None:
        """Place or change allocations, by one entry of the log."""
        self._remember()
        self.index += 1
        for alloc in allocs:
            alloc.modify_index = alloc.alloc_modify_index = self.index
            alloc.create_index = alloc.create_index or self.index
            self.allocs[alloc.id] = alloc
        self._wake()

    def forget(self, alloc_id: str) -> None:
        self._remember()
        self.index += 1
        del self.allocs[alloc_id]
        self.reports.pop(alloc_id, None)
        self._wake()

    def forget_node(self) -> None:
        self.knows_node = False
        self.services.clear()
        self._wake()

    def restore(self) -> None:
        """An operator restores a state from before the reports of what is still on the node."""
        self.index += 1
        self.restored = self.index
        kept = self._world.watch.outlast_a_restore()
        self.reports = {one: report for one, report in self.reports.items() if one in kept}
        self.services.clear()
        self._world.watch.servers_restored(self._world.now_us)
        self._wake()

    # --- calls --------------------------------------------------------------------------------

    def on_agent_ended(self) -> None:
        self._polls = []

    def on_call(self, call: Call) -> None:
        world = self._world
        life = world.life
        if not self.is_reachable:
            if world.rng.random() < 0.5:
                self._fail(call, "unreachable: refused", 1_000)
            else:
                self._fail(call, "timeout", call.timeout_us)
            return

        def arrive(_: Any) -> None:
            if not self.is_reachable:
                self._fail(call, "timeout", call.timeout_us)
            elif world.life == life or call.method == "Node.Update":
                self._on_arrived(call)

        world.after(world.rng.choice((1_000, 10_000)), arrive)

    def _on_arrived(self, call: Call) -> None:
        body = msgspec.msgpack.decode(msgspec.msgpack.encode(call.body))
        if call.method not in ("Node.Hello", "Node.Register") and not self.knows_node:
            self._fail(call, UNKNOWN_NODE, 1_000)
            return
        match call.method:
            case "Node.Hello":
                answer: Any = {"datacenter_id": DATACENTER_ID, "servers": list(ADDRESSES)}
            case "Node.Register":
                self.knows_node = True
                answer = {"index": self.index, "servers": list(ADDRESSES)}
            case "Node.Allocations":
                self._poll(call, body["min_index"], body["wait_us"])
                return
            case "Node.FetchAllocations":
                answer = self._fetched(body["ids"])
            case "Node.Update":
                self._take(body)
                answer = {"index": self.index}
            case _:
                raise AssertionError(f"unexpected call {call.method}")
        self._answer(call, answer)

    def _answer(self, call: Call, body: Any) -> None:
        world = self._world
        if world.rng.random() < self.loses_answers:
            world.faults["answer lost"] += 1
            self._fail(call, "timeout", call.timeout_us)
            return
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(body))
        world.tell(world.rng.choice((1_000, 10_000)), CallDone(call.call_id, "", plain))

    def _fail(self, call: Call, error: str, delay_us: int) -> None:
        world = self._world
        world.watch.call_fails(world.now_us + delay_us)
        world.tell(delay_us, CallDone(call.call_id, error))

    def _poll(self, call: Call, min_index: int, wait_us: int) -> None:
        world = self._world
        past, records = self._past
        if min_index > past and world.rng.random() < self.is_stale:
            world.faults["stale list"] += 1
            allocs = {
                alloc_id: msgspec.msgpack.decode(record, type=Allocation).alloc_modify_index
                for alloc_id, record in records.items()
            }
            self._answer(call, {"index": past, "allocs": allocs, "restored": self.restored})
        elif min_index < self.index:
            self._answer(call, self._list())
        else:
            deadline_us = world.now_us + wait_us
            self._polls.append((call, deadline_us))
            world.after(wait_us, self._unpark, call)

    def _unpark(self, call: Call) -> None:
        for parked in self._polls:
            if parked[0] is call:
                self._polls.remove(parked)
                if self.is_reachable:
                    answer = {"index": self.index, "allocs": None, "restored": self.restored}
                    self._answer(call, answer)
                else:
                    self._fail(call, "timeout", 2 * S)
                return

    def _wake(self) -> None:
        polls, self._polls = self._polls, []
        for call, _ in polls:
            if not self.is_reachable:
                self._fail(call, "timeout", 2 * S)
            elif self.knows_node:
                self._answer(call, self._list())
            else:
                self._fail(call, UNKNOWN_NODE, 1_000)

    def _list(self) -> dict[str, Any]:
        allocs = {alloc.id: alloc.alloc_modify_index for alloc in self.allocs.values()}
        return {"index": self.index, "allocs": allocs, "restored": self.restored}

    def _fetched(self, ids: list[str]) -> dict[str, Any]:
        world = self._world
        if world.rng.random() < self.is_stale:
            world.faults["stale allocations"] += 1
            old = [self._past[1][one] for one in ids if one in self._past[1]]
            found = [msgspec.msgpack.decode(record, type=Allocation) for record in old]
        else:
            found = [self._copy(self.allocs[one]) for one in ids if one in self.allocs]
        jobs = {alloc.job_id: alloc.job for alloc in found}
        for alloc in found:
            alloc.job = None
        return {"allocs": found, "jobs": list(jobs.values())}

    def _copy(self, alloc: Allocation) -> Allocation:
        record = msgspec.structs.replace(alloc)
        report = self.reports.get(alloc.id)
        if report is not None:
            record.client_status = ClientStatus(report.client_status).name.lower()
        return record

    def _remember(self) -> None:
        self._past = (
            self.index,
            {one.id: msgspec.msgpack.encode(self._copy(one)) for one in self.allocs.values()},
        )

    def _take(self, body: dict[str, Any]) -> None:
        world = self._world
        for update in msgspec.convert(body["updates"], list[AllocUpdate]):
            world.watch.reported(update, world.now_us)
            if update.alloc_id in self.allocs:
                self.reports[update.alloc_id] = update
        for service in body["services"]:
            self.services[service["ID"]] = service
        for key in body["removed_services"]:
            self.services.pop(key, None)
