"""A client that runs nothing: it registers, learns of allocations and reports them running."""

import random
from typing import Any

import msgspec

from core.model.allocation import Allocation, AllocDeploymentStatus, ClientStatus, Desired
from core.model.host import (
    Address,
    Call,
    CallDone,
    GossipExchange,
    GossipExchanged,
    GossipExchangeReply,
    GossipExchangeRequested,
    GossipReceived,
    GossipSend,
    Now,
    Reply,
    Requested,
)
from core.model.ids import new_id
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
)
from core.state.commands import AllocUpdate
from gossip.machine import GossipMachine
from gossip.settings import LAN

FINISHED = (ClientStatus.COMPLETE, ClientStatus.FAILED)


class FakeClient:
    def __init__(self, world: Any, name: str, number: int, servers: list[Address]) -> None:
        self.name = name
        self.rpc_addr = f"10.1.0.{number}:4647"
        self.gossip_addr = f"10.1.0.{number}:4648"
        self.rng = random.Random(number)
        self.world = world
        self.servers = servers
        self.datacenter_id = ""
        self.node_id = ""
        self.secret_id = ""
        self.index = 0
        self.statuses: dict[str, int] = {}  # what runs here, by allocation
        self.datacenter = "dc1"
        self.is_deaf = False  # answers no call
        self.exit_status = ClientStatus.RUNNING  # what new allocations become
        self.health: bool | None = True  # what is said of those that run; None = nothing yet
        self._calls: dict[int, str] = {}
        self._wanted: list[str] = []
        self._effects: list[Any] = []
        self.gossip = GossipMachine(
            name=name, address=self.gossip_addr, meta={"role": "client"}, settings=LAN,
            rng=random.Random(number), now_us=world.now_us,
        )  # fmt: skip
        world.add(self, self.rpc_addr, self.gossip_addr)
        world.at(0, lambda: self._call("Node.Hello", {"name": name}))

    @property
    def deadline_us(self) -> int:
        return self.gossip.deadline_us

    def handle(self, event: Any, now: Now) -> list[Any]:
        match event:
            case Requested(request_id, method):
                if not self.is_deaf:
                    body = {"node_id": self.node_id, "method": method, "body": event.body}
                    self._effects.append(Reply(request_id, body))
            case CallDone():
                self._on_done(self._calls.pop(event.call_id), event)
            case GossipReceived(_, source, packet):
                self.gossip.on_packet(source, packet, now.mono_us)
            case GossipExchangeRequested(_, exchange_id, source, packet):
                self.gossip.on_exchange_request(exchange_id, source, packet, now.mono_us)
            case GossipExchanged(_, exchange_id, packet):
                self.gossip.on_exchanged(exchange_id, packet, now.mono_us)
        if self.gossip.deadline_us <= now.mono_us:
            self.gossip.tick(now.mono_us)
        output = self.gossip.take_output()
        self._effects += [GossipSend("lan", to, packet) for to, packet in output.packets]
        self._effects += [GossipExchange("lan", *row) for row in output.exchanges]
        self._effects += [GossipExchangeReply("lan", *row) for row in output.replies]
        effects, self._effects = self._effects, []
        return effects

    def _call(self, method: str, body: dict[str, Any]) -> None:
        call_id = self.world.next_id()
        self._calls[call_id] = method
        if method not in ("Node.Hello", "Node.Register"):
            body = {"node_id": self.node_id, "secret_id": self.secret_id, **body}
        server = self.servers[self.rng.randrange(len(self.servers))]
        if self.world.is_alive(self):
            self.world._carry_out(self, Call(call_id, server, method, body, 70_000_000))

    def _again(self, method: str, body: dict[str, Any]) -> None:
        self.world.at(200_000, lambda: self._call(method, body))

    def _on_done(self, method: str, event: CallDone) -> None:
        body = event.body
        if event.error:
            if method != "Node.Update":
                self._again(method, self._body_of(method))
            else:
                self._report()
            return
        match method:
            case "Node.Hello":
                self.datacenter_id = body["datacenter_id"]
                self.node_id = self.node_id or new_id(self.rng, self.datacenter_id)
                self.secret_id = self.secret_id or new_id(self.rng, self.datacenter_id)
                self.gossip.join(body["lan_members"], self.world.now_us)
                self._call("Node.Register", self._body_of("Node.Register"))
            case "Node.Register":
                self._call("Node.Allocations", self._body_of("Node.Allocations"))
            case "Node.Allocations":
                self.index = body["index"]
                if body["allocs"] is not None:
                    self.statuses = {a: s for a, s in self.statuses.items() if a in body["allocs"]}
                if body["allocs"]:
                    self._wanted = sorted(body["allocs"])
                    self._call("Node.FetchAllocations", self._body_of("Node.FetchAllocations"))
                self._call("Node.Allocations", self._body_of("Node.Allocations"))
            case "Node.FetchAllocations":
                self._take(msgspec.convert(body["allocs"], list[Allocation]))

    def _body_of(self, method: str) -> dict[str, Any]:
        return {
            "Node.Hello": {"name": self.name},
            "Node.Register": {"node": self.node() if self.node_id else None},
            "Node.Allocations": {"min_index": self.index, "wait_us": 60_000_000},
            "Node.FetchAllocations": {"ids": self._wanted},
        }[method]

    def _take(self, allocs: list[Any]) -> None:
        changed: list[str] = []
        for alloc in allocs:
            wanted = (
                self.exit_status if alloc.desired_status == Desired.RUN.name.lower()
                else ClientStatus.COMPLETE
            )  # fmt: skip
            known = self.statuses.get(alloc.id)
            if known != wanted and known not in FINISHED:
                self.statuses[alloc.id] = wanted
                changed.append(alloc.id)
        if changed:
            self._report(changed)

    def _report(self, changed: list[str] | None = None) -> None:
        """Report some allocations; all of them when a report was not taken."""
        health = AllocDeploymentStatus(healthy=bool(self.health))
        is_said = self.health is not None
        updates = [
            AllocUpdate(
                alloc_id=alloc_id, client_status=status,
                deployment_status=health if status == ClientStatus.RUNNING and is_said else None,
            )
            for alloc_id, status in self.statuses.items()
            if changed is None or alloc_id in changed
        ]  # fmt: skip
        self.world.at(1_000, lambda: self._call("Node.Update", {"updates": updates}))

    def finish(self, status: ClientStatus) -> None:
        """End everything that runs here."""
        for alloc_id in self.statuses:
            self.statuses[alloc_id] = status
        self._report()

    def node(self) -> Node:
        return Node(
            id=self.node_id,
            secret_id=self.secret_id,
            name=self.name,
            datacenter=self.datacenter,
            http_addr=self.rpc_addr.replace("4647", "4646"),
            rpc_addr=self.rpc_addr,
            attributes={"kernel.name": "linux", "driver.raw_exec": "1"},
            node_resources=NodeResources(
                cpu=NodeCpuResources(cpu_shares=4000, total_cpu_cores=4),
                memory=NodeMemoryResources(memory_mb=8192),
                disk=NodeDiskResources(disk_mb=50_000),
            ),
            drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
        )


def job(job_id: str = "web", count: int = 2, **changes: Any) -> dict[str, Any]:
    """Return a job as the API takes it."""
    task = {
        "Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"},
        "Resources": {"CPU": 100, "MemoryMB": 64},
    }  # fmt: skip
    return {
        "ID": job_id, "Name": job_id, "Type": "service", "Datacenters": ["*"],
        "TaskGroups": [{"Name": "app", "Count": count, "Tasks": [task]}], **changes,
    }  # fmt: skip
