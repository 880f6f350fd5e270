"""Nodes: records by ordinal, and what placement needs of them as numpy columns.

An ordinal is given at the first registration and never again, so a plan or a system
job's allocation key can name a node by it for ever. A purged node leaves an empty row.

`*_used` is what allocations **hold**: from their placement until their client reports
them terminal, or they are given up as lost. An allocation that is asked to stop holds
on until its end. See core.state.placing for what that means for replacements.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from core.model.node import Eligibility, Node, NodeStatus
from core.state.columns import ENCODER, Columns
from core.state.resources import parse_ports
from core.state.table import Table

Ints = npt.NDArray[np.int64]
Ports = int  # bit n is port n


class NodeColumns(Columns):
    """By node ordinal. Capacities are what is left after the node's own reservation."""

    NAME = "node_columns"
    DTYPES = {  # noqa: RUF012
        "cpu_capacity": "<i8",  # MHz
        "memory_capacity": "<i8",  # MiB
        "disk_capacity": "<i8",  # MiB
        "cpu_used": "<i8",
        "memory_used": "<i8",
        "disk_used": "<i8",
        "is_ready": "?",
        "class_id": "<i4",  # -1: no node here
        "allocs_index": "<i8",  # last index that changed an allocation of this node
        "first_row": "<i4",  # head of its chain in the allocation table, -1 = none
    }
    DERIVED = frozenset({"first_row"})

    cpu_capacity: Ints
    memory_capacity: Ints
    disk_capacity: Ints
    cpu_used: Ints
    memory_used: Ints
    disk_used: Ints
    is_ready: npt.NDArray[np.bool_]
    class_id: npt.NDArray[np.int32]
    allocs_index: Ints
    first_row: npt.NDArray[np.int32]


class NodeTable:
    """All nodes of the datacenter, `len(table)` ordinals of which some may be purged.

    The columns are properties cut to that length; they are views: read, never write.
    """

    def __init__(self) -> None:
        self.columns = NodeColumns()
        self.records: Table[int, Node] = Table("nodes", int, Node)
        self.classes: Table[int, str] = Table("node_classes", int, str)
        self._ordinals: dict[str, int] = {}
        self._class_ids: dict[str, int] = {}
        self._reserved_ports: dict[int, Ports] = {}
        self._alloc_ports: dict[int, Ports] = {}
        self._shared_ports: dict[int, Ports] = {}  # held by more than one allocation

    # --- reading -------------------------------------------------------------------

    def __len__(self) -> int:
        return self.columns.length

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the nodes that exist, in order of ordinal."""
        for ordinal in sorted(self.records):
            record = self.records.get(ordinal)
            assert record is not None
            yield record

    @property
    def count(self) -> int:
        """Nodes that exist; `len(self)` counts purged ordinals too."""
        return len(self.records)

    def ordinal_of(self, node_id: str) -> int | None:
        return self._ordinals.get(node_id)

    def record(self, ordinal: int) -> Node | None:
        """Return the node, None when it was purged (or there never was one)."""
        return self.records.get(ordinal)

    def get(self, node_id: str) -> Node | None:
        ordinal = self._ordinals.get(node_id)
        return None if ordinal is None else self.records.get(ordinal)

    def ids_with_prefix(self, prefix: str) -> list[str]:
        return sorted(key for key in self._ordinals if key.startswith(prefix))

    @property
    def cpu_capacity(self) -> Ints:
        return self.columns.cpu_capacity[: len(self)]

    @property
    def memory_capacity(self) -> Ints:
        return self.columns.memory_capacity[: len(self)]

    @property
    def disk_capacity(self) -> Ints:
        return self.columns.disk_capacity[: len(self)]

    @property
    def cpu_used(self) -> Ints:
        return self.columns.cpu_used[: len(self)]

    @property
    def memory_used(self) -> Ints:
        return self.columns.memory_used[: len(self)]

    @property
    def disk_used(self) -> Ints:
        return self.columns.disk_used[: len(self)]

    @property
    def is_ready(self) -> npt.NDArray[np.bool_]:
        return self.columns.is_ready[: len(self)]

    @property
    def class_id(self) -> npt.NDArray[np.int32]:
        return self.columns.class_id[: len(self)]

    def allocs_index(self, ordinal: int) -> int:
        """Return the last index that changed an allocation of this node."""
        return int(self.columns.allocs_index[ordinal])

    def class_key(self, class_id: int) -> str:
        """Return the computed class's name, alike on all replicas."""
        key = self.classes.get(class_id)
        if key is None:
            raise KeyError(f"no node class {class_id}")
        return key

    def class_of_key(self, key: str) -> int | None:
        return self._class_ids.get(key)

    def class_representative(self, class_id: int) -> int | None:
        """Return the lowest ordinal of the class, None when no node is of it now."""
        members = np.flatnonzero(self.class_id == class_id)
        return int(members[0]) if members.size else None

    def ports_used(self, ordinal: int) -> Ports:
        """Return the taken host ports as a bit mask: reserved ones, and the allocations'."""
        return self._reserved_ports.get(ordinal, 0) | self._alloc_ports.get(ordinal, 0)

    def ports_by_node(self) -> dict[int, Ports]:
        """Return `ports_used` of each node where some are taken."""
        taken = {ordinal: ports for ordinal, ports in self._alloc_ports.items() if ports}
        for ordinal, ports in self._reserved_ports.items():
            taken[ordinal] = taken.get(ordinal, 0) | ports
        return taken

    def ports_shared(self, ordinal: int) -> Ports:
        """Return those of them that more than one allocation holds: one stops, one follows."""
        return self._shared_ports.get(ordinal, 0)

    # --- changing: for the handlers only -----------------------------------------------

    def put(self, node: Node) -> int:
        """Create or replace a node and return its ordinal."""
        ordinal = self._ordinals.get(node.id)
        if ordinal is None:
            ordinal = self.columns.extend(1)
            self.columns.first_row[ordinal] = -1
            self._ordinals[node.id] = ordinal
        self.columns.touch(ordinal)
        self.records.put(ordinal, node)
        resources, reserved = node.node_resources, node.reserved_resources
        columns = self.columns
        columns.cpu_capacity[ordinal] = resources.cpu.cpu_shares - reserved.cpu.cpu_shares
        columns.memory_capacity[ordinal] = resources.memory.memory_mb - reserved.memory.memory_mb
        columns.disk_capacity[ordinal] = resources.disk.disk_mb - reserved.disk.disk_mb
        columns.is_ready[ordinal] = is_placeable(node)
        columns.class_id[ordinal] = self._class_of(node)
        self._reserve_ports(ordinal, node)
        return ordinal

    def purge(self, node_id: str) -> None:
        """Forget a node; its ordinal stays empty for ever."""
        ordinal = self._ordinals.pop(node_id)
        self.records.delete(ordinal)
        self._reserved_ports.pop(ordinal, None)
        self.columns.touch(ordinal)
        for name in ("cpu_capacity", "memory_capacity", "disk_capacity", "is_ready"):
            getattr(self.columns, name)[ordinal] = 0
        self.columns.class_id[ordinal] = -1

    def take_ports(self, ordinal: int, ports: Ports) -> None:
        taken = self._alloc_ports.get(ordinal, 0)
        if taken & ports:
            self._shared_ports[ordinal] = self._shared_ports.get(ordinal, 0) | taken & ports
        self._alloc_ports[ordinal] = taken | ports

    def free_ports(self, ordinal: int, ports: Ports, still_held: Callable[[], list[Ports]]) -> None:
        """Give ports back.

        A replacement may take a port while its predecessor still holds it, so a port can
        have several holders; then what is left is counted anew from `still_held`.
        """
        if self._shared_ports.get(ordinal, 0) & ports:
            self._shared_ports.pop(ordinal, None)
            self._alloc_ports[ordinal] = 0
            for mask in still_held():
                self.take_ports(ordinal, mask)
        else:
            self._alloc_ports[ordinal] = self._alloc_ports.get(ordinal, 0) & ~ports

    def restored(self) -> None:
        """Rebuild what is derived from the records. Ports follow with the allocations."""
        self.columns.first_row[:] = -1
        for ordinal, node in self.records.items():
            self._ordinals[node.id] = ordinal
            self._reserve_ports(ordinal, node)
        for class_id, key in self.classes.items():
            self._class_ids[key] = class_id

    def _reserve_ports(self, ordinal: int, node: Node) -> None:
        mask = parse_ports(node.reserved_resources.networks.reserved_host_ports)
        if mask:
            self._reserved_ports[ordinal] = mask
        else:
            self._reserved_ports.pop(ordinal, None)

    def _class_of(self, node: Node) -> int:
        key = class_key_of(node)
        class_id = self._class_ids.get(key)
        if class_id is None:
            class_id = len(self._class_ids)
            self._class_ids[key] = class_id
            self.classes.put(class_id, key)
        return class_id


def is_placeable(node: Node) -> bool:
    """Return whether new work may go to the node: ready, eligible, not draining."""
    return (
        node.status == NodeStatus.READY
        and node.scheduling_eligibility == Eligibility.ELIGIBLE
        and node.drain_strategy is None
    )


def class_key_of(node: Node) -> str:
    """Return the computed class: equal for nodes that differ in unique properties only.

    Counted in: datacenter, class, pool, attributes and meta except `unique.*`, which
    drivers are healthy, host volumes, and what the node has.
    """
    resources = node.node_resources
    shape: list[Any] = [
        node.datacenter,
        node.node_class,
        node.node_pool,
        _without_unique(node.attributes),
        _without_unique(node.meta),
        sorted(n for n, info in (node.drivers or {}).items() if info.detected and info.healthy),
        sorted((name, volume.read_only) for name, volume in (node.host_volumes or {}).items()),
        msgspec.to_builtins([resources.cpu, resources.memory, resources.disk, resources.devices]),
        [resources.min_dynamic_port, resources.max_dynamic_port],
        msgspec.to_builtins(node.reserved_resources),
    ]
    digest = hashlib.blake2b(ENCODER.encode(shape), digest_size=8).digest()
    return f"v1:{int.from_bytes(digest, 'big')}"


def _without_unique(properties: dict[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in (properties or {}).items() if not k.startswith("unique.")}
