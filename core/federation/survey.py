"""From the state to the capacity part of a digest, in columns of nodes.

What is known of a node's *kind* (pool, class, drivers, attributes) is read once per computed
class and kept; which nodes are ready, and in which order their classes lie, is kept until the
node table changes. So a digest costs a few passes over the ready nodes, whatever runs there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.federation import grid, words
from core.federation.digest import ClassRoom, Room
from core.model.node import Node
from core.model.units import device_name
from core.scheduler import Held

if TYPE_CHECKING:
    from core.state.state import State

Ints = npt.NDArray[np.int64]
_TRUE = ("1", "true", "True")


class _Kind(NamedTuple):
    """What all nodes of a computed class have in common."""

    pool: str
    node_class: str
    words: frozenset[str]
    devices: tuple[tuple[str, int], ...]


class _Layout(NamedTuple):
    """The ready nodes, class by class."""

    ordinals: Ints
    starts: Ints
    places: list[tuple[str, str]]  # (pool, node class) of each stretch
    keys: list[list[str]]  # computed classes in it
    fields: dict[str, Any]  # of the digest: devices, words, missing_kinds, common


class Survey:
    """Looks at one state's nodes, again and again."""

    def __init__(self) -> None:
        self._kinds: dict[int, _Kind] = {}
        self._layout: _Layout | None = None
        self._seen: tuple[int, int] = (-1, -1)  # index and length of the node table

    def fields(self, state: "State", held: Sequence[Held] = ()) -> dict[str, Any]:
        """Return the fields of a `Digest` that speak of nodes.

        Args:
            held: What is promised and not in the state yet: it is not free any more.
        """
        layout = self._current(state)
        return {**layout.fields, "classes": self._classes(state, layout, held)}

    def computed_classes(self, state: "State") -> list[list[str]]:
        """Return the keys of the computed classes in each of `fields()["classes"]`."""
        return self._current(state).keys

    def _current(self, state: "State") -> _Layout:
        seen = state.table_index("nodes"), len(state.nodes)
        if self._layout is None or seen != self._seen:
            self._layout, self._seen = self._lay_out(state), seen
        return self._layout

    def _lay_out(self, state: "State") -> _Layout:
        nodes = state.nodes
        ready = np.flatnonzero(nodes.is_ready)
        class_ids, first, of_node = np.unique(
            nodes.class_id[ready], return_index=True, return_inverse=True
        )
        present = class_ids.tolist()
        self._kinds = {key: self._kinds[key] for key in present if key in self._kinds}
        for class_id, place in zip(present, first.tolist(), strict=True):
            node = nodes.record(int(ready[place]))
            if class_id not in self._kinds and node is not None:
                self._kinds[class_id] = _kind_of(node)
        kinds = [self._kinds[class_id] for class_id in present]
        places = sorted({(kind.pool, kind.node_class) for kind in kinds})
        number = {place: i for i, place in enumerate(places)}
        stretch = np.array([number[kind.pool, kind.node_class] for kind in kinds], np.int64)
        of_ready = stretch[of_node.reshape(-1)] if len(present) else np.zeros(0, np.int64)
        order = np.argsort(of_ready, kind="stable")
        keys: list[list[str]] = [[] for _ in places]
        for class_id, kind in zip(present, kinds, strict=True):
            keys[number[kind.pool, kind.node_class]].append(nodes.class_key(class_id))
        return _Layout(
            ordinals=ready[order],
            starts=np.searchsorted(of_ready[order], np.arange(len(places))),
            places=places,
            keys=keys,
            fields=_vocabulary(kinds, np.bincount(of_node.reshape(-1), minlength=len(kinds))),
        )

    def _classes(self, state: "State", layout: _Layout, held: Sequence[Held]) -> list[ClassRoom]:
        if not layout.places:
            return []
        nodes, rows, starts = state.nodes, layout.ordinals, layout.starts
        whole = [
            column[rows]
            for column in (nodes.cpu_capacity, nodes.memory_capacity, nodes.disk_capacity)
        ]
        columns = [nodes.cpu_used, nodes.memory_used, nodes.disk_used]
        if held:
            columns = [column.copy() for column in columns]
        for one in held:
            for column, asked in zip(
                columns, (one.ask.cpu, one.ask.memory, one.ask.disk), strict=True
            ):
                np.add.at(column, one.nodes, asked)
        used = [column[rows] for column in columns]
        free = [np.maximum(one - other, 0) for one, other in zip(whole, used, strict=True)]

        def rooms(columns: list[Ints], reduce: np.ufunc) -> list[Room]:
            parts = [reduce.reduceat(column, starts).tolist() for column in columns]
            return [Room(*one) for one in zip(*parts, strict=True)]

        empty = rooms(whole, np.maximum)
        grids = grid.make_grids(free[0], free[1], starts, [(one.cpu, one.memory) for one in empty])
        counts = np.diff(np.append(starts, len(rows))).tolist()
        total, left, slots = rooms(whole, np.add), rooms(free, np.add), rooms(free, np.maximum)
        least = np.minimum.reduceat(free[2], starts).tolist()
        return [
            ClassRoom(
                pool=pool, node_class=node_class, nodes=counts[i], total=total[i], free=left[i],
                slot_free=slots[i], slot_empty=empty[i], disk_least=least[i], grid=grids[i],
            )
            for i, (pool, node_class) in enumerate(layout.places)
        ]  # fmt: skip


def _vocabulary(kinds: list[_Kind], sizes: Ints) -> dict[str, Any]:
    some: set[str] = set()
    every: frozenset[str] | None = None
    devices: dict[str, int] = {}
    for kind, size in zip(kinds, sizes.tolist(), strict=True):
        some |= kind.words
        every = kind.words if every is None else every & kind.words
        for name, count in kind.devices:
            devices[name] = devices.get(name, 0) + count * size
    kept, missing = words.partial_kinds(words.by_weight(some))
    return {
        "words": words.bloom(kept),
        "missing_kinds": missing,
        "common": words.common(words.by_weight(every or ())),
        "devices": sorted(devices.items()),
    }


def _kind_of(node: Node) -> _Kind:
    pool = node.node_pool or "default"
    found = {f"pool.{pool}", f"class.{node.node_class}", f"datacenter.{node.datacenter}"}
    attributes = node.attributes or {}
    for name, driver in (node.drivers or {}).items():
        if driver.detected and driver.healthy:
            found.add(f"driver.{name}")
    for key, value in attributes.items():
        name = key.removeprefix("driver.")
        if name != key and name not in (node.drivers or {}) and value in _TRUE:
            found.add(f"driver.{name}")
    for prefix, properties in (("attr", attributes), ("meta", node.meta or {})):
        found |= {f"{prefix}.{k}={v}" for k, v in properties.items() if not k.startswith("unique.")}
    for name, volume in (node.host_volumes or {}).items():
        found.add(f"volume.{name}")
        if not volume.read_only:
            found.add(f"volume.{name}.write")
    devices: dict[str, int] = {}
    for group in node.node_resources.devices or []:
        vendor, kind = group.vendor, group.type
        # As a job may ask for it: by its type alone, by whose it is, or by its full name.
        full = device_name(group)
        found |= {f"device.{kind}", f"device.{vendor}/{kind}", f"device.{full}"}
        devices[full] = devices.get(full, 0) + len(group.instances or [])
    return _Kind(pool, node.node_class, frozenset(found), tuple(sorted(devices.items())))
