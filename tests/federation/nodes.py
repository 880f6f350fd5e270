"""A datacenter's state that holds nodes and what they are used for, without a log."""

from collections.abc import Iterable
from typing import Any

from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from core.state.commands import Bootstrap, Entry, RegisterNode
from core.state.state import State

DATACENTER_ID = "0123456789ab"


def node(
    name: str, cpu: int = 8_000, memory: int = 16_000, disk: int = 100_000, **fields: Any
) -> Node:
    """Return a ready linux node with raw_exec."""
    return Node(
        id=f"{name:0>23}-{DATACENTER_ID}",
        name=name,
        status=NodeStatus.READY,
        datacenter=fields.pop("datacenter", "paris"),
        attributes={"kernel.name": "linux", **fields.pop("attributes", {})},
        drivers=fields.pop("drivers", {"raw_exec": DriverInfo(detected=True, healthy=True)}),
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=cpu),
            memory=NodeMemoryResources(memory_mb=memory),
            disk=NodeDiskResources(disk_mb=disk),
        ),
        **fields,
    )


def state_with(nodes: Iterable[Node]) -> State:
    state = State()
    birth = Bootstrap(
        datacenter_id=DATACENTER_ID, region="eu", datacenter="paris", is_authority=True
    )
    commands = [birth, *(RegisterNode(node=one) for one in nodes)]
    state.apply_entry(1, Entry(wall_us=1_700_000_000_000_000, commands=commands))
    return state


def use(state: State, ordinal: int, cpu: int, memory: int, disk: int = 0) -> None:
    """Take room from a node, as allocations do."""
    columns = state.nodes.columns
    columns.cpu_used[ordinal] += cpu
    columns.memory_used[ordinal] += memory
    columns.disk_used[ordinal] += disk
