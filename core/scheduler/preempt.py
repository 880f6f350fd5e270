"""Preemption: which running allocations give way to one of a more important job.

Only jobs whose priority is at least `PRIORITY_GAP` below may be touched, and only where
the operator allows it for the type of the job that needs room (`PreemptionConfig`).

On one node: the least important go first; of equals the one whose size comes nearest to
what is still missing; what turns out not to be needed in the end stays. Among the nodes
the cheapest set wins: whose most important victim is least important, then the fewest
victims, then the least room freed beyond need, then the lowest ordinal.

Cores and devices have names, and which of them an instance gets depends on all that are free
(units.py): there, victims are added one by one until the node holds the instance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from core.model.ids import AllocKey, alloc_id
from core.scheduler.room import Ask, Room
from core.scheduler.view import Ints, Mask

PRIORITY_GAP: Final = 10
_NODES_MOST: Final = 256  # nodes whose sets are worked out, those that lack least first


class JobOf(NamedTuple):
    """The job of a possible victim."""

    namespace: str
    id: str
    type: str
    priority: int


@dataclass(slots=True)
class Running:
    """Live allocations that some job of the batch may displace, in columns."""

    node: Ints
    asks: Ints  # [rows, 3]: cpu, memory, disk
    job: Ints  # ordinal
    group: Ints
    index: Ints
    generation: Ints
    jobs: dict[int, JobOf]  # by ordinal
    ports: dict[int, list[int]]  # host ports, rows that have any
    datacenter_id: str
    units: dict[int, frozenset[str]] = field(default_factory=dict)  # names held, likewise

    @property
    def priority(self) -> Ints:
        ordinals, inverse = np.unique(self.job, return_inverse=True)
        known = np.array([self.jobs[n].priority for n in ordinals.tolist()], np.int64)
        return known[inverse] if known.size else np.zeros(0, np.int64)

    def alloc_id(self, row: int) -> str:
        key = AllocKey(
            int(self.job[row]), int(self.group[row]), int(self.index[row]),
            int(self.generation[row]),
        )  # fmt: skip
        return alloc_id(key, self.datacenter_id)


class Choice(NamedTuple):
    node: int
    rows: list[int]  # of `Running`


class Preemption:
    """Finds room by displacing. One per batch of plans; `taken` grows with them."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.taken: set[int] = set()  # rows that plans of this batch displaced
        self._priority = running.priority

    def choose(self, room: Room, ask: Ask, open_nodes: Mask, priority: int) -> Choice | None:
        """Return the node and the victims for one instance, None when nothing helps.

        Args:
            open_nodes: Nodes that may run the instance, whatever room they have.
        """
        rows = self._movable(open_nodes, priority)
        lacks = _lacks(room, ask)
        best: tuple[tuple[int, int, int], Choice] | None = None
        for node in self._promising(room, lacks, rows):
            here = rows[self.running.node[rows] == node]
            found = self._on_node(room, ask, node, here, lacks[node])
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        return None if best is None else best[1]

    def choose_by_trial(
        self,
        room: Room,
        ask: Ask,
        open_nodes: Mask,
        priority: int,
        holds: Callable[[int, list[int]], bool],
    ) -> Choice | None:
        """As `choose`, for an instance that asks for more than amounts and static ports.

        Args:
            holds: (node, rows) -> whether the node holds the instance once the rows are gone.
        """
        rows = self._movable(open_nodes, priority)
        best: tuple[tuple[int, int], Choice] | None = None
        for node in self._promising(room, _lacks(room, ask), rows):
            here = rows[self.running.node[rows] == node].tolist()
            chosen = self._tried(sorted(here, key=self._importance), node, holds)
            if not chosen:
                continue
            cost = max(int(self._priority[row]) for row in chosen), len(chosen)
            if best is None or cost < best[0]:
                best = cost, Choice(node, chosen)
        return None if best is None else best[1]

    def _tried(
        self, left: list[int], node: int, holds: Callable[[int, list[int]], bool]
    ) -> list[int]:
        # The least important that are enough; [] when nothing helps, or nothing has to.
        if not holds(node, left):
            return []
        chosen: list[int] = []
        while not holds(node, chosen):
            chosen.append(left.pop(0))
        for row in sorted(chosen, key=self._importance, reverse=True):
            without = [one for one in chosen if one != row]
            if holds(node, without):
                chosen = without
        return chosen

    def _importance(self, row: int) -> tuple[int, int]:
        return int(self._priority[row]), row

    def _movable(self, open_nodes: Mask, priority: int) -> Ints:
        may_go = open_nodes[self.running.node] & (self._priority <= priority - PRIORITY_GAP)
        may_go[sorted(self.taken)] = False
        return np.flatnonzero(may_go)

    def _promising(self, room: Room, lacks: Ints, rows: Ints) -> list[int]:
        # Nodes where all of `rows` together hold what is missing, those that lack least.
        freed = np.zeros_like(lacks)
        np.add.at(freed, self.running.node[rows], self.running.asks[rows])
        has_victims = np.bincount(self.running.node[rows], minlength=len(room)) > 0
        nodes = np.flatnonzero(has_victims & (freed >= lacks).all(axis=1))
        if nodes.size > _NODES_MOST:
            share = (lacks[nodes] / np.maximum(_capacity(room)[nodes], 1)).sum(axis=1)
            nodes = np.sort(nodes[np.argsort(share, kind="stable")[:_NODES_MOST]])
        found: list[int] = nodes.tolist()
        return found

    def _on_node(
        self, room: Room, ask: Ask, node: int, rows: Ints, lacks: Ints
    ) -> tuple[tuple[int, int, int], Choice] | None:
        chosen = self._for_ports(room, ask, node, rows)
        if chosen is None:
            return None
        asks = self.running.asks
        left = rows.tolist()
        missing = lacks - asks[chosen].sum(axis=0) if chosen else lacks.copy()
        for row in chosen:
            left.remove(row)
        needed = list(chosen)
        while (missing > 0).any():
            if not left:
                return None
            least = min(int(self._priority[row]) for row in left)
            level = [row for row in left if self._priority[row] == least]
            row = min(level, key=lambda one: (_distance(missing, asks[one]), one))
            left.remove(row)
            chosen.append(row)
            missing = missing - asks[row]
        for row in sorted(chosen, key=lambda one: (-int(self._priority[one]), one)):
            if row not in needed and ((missing + asks[row]) <= 0).all():
                chosen.remove(row)
                missing = missing + asks[row]
        if not chosen:
            return None  # it fits already, or what it lacks is nothing that could be freed
        highest = max(int(self._priority[row]) for row in chosen)
        return (highest, len(chosen), int(-missing.sum())), Choice(node, chosen)

    def _for_ports(self, room: Room, ask: Ask, node: int, rows: Ints) -> list[int] | None:
        # Who holds a static port that is asked for has to go; None when it may not.
        if not ask.has_ports:
            return []
        held = room.ports_used.get(node, 0)
        wanted = sum(1 << port for port in ask.static_ports if held >> port & 1)
        chosen = []
        for row in rows.tolist():
            mask = sum(1 << port for port in self.running.ports.get(row, []))
            if mask & wanted:
                chosen.append(row)
                wanted &= ~mask
        return None if wanted else chosen


def _capacity(room: Room) -> Ints:
    view = room.view
    return np.stack((view.cpu_capacity, view.memory_capacity, view.disk_capacity), axis=1)


def _lacks(room: Room, ask: Ask) -> Ints:
    """Return int64[nodes, 3]: what each node lacks for one more instance, 0 where nothing."""
    used = np.stack((room.cpu_used, room.memory_used, room.disk_used), axis=1)
    wanted = np.array([ask.cpu, ask.memory, ask.disk], np.int64)
    lacks: Ints = np.where(wanted > 0, np.maximum(used + wanted - _capacity(room), 0), 0)
    return lacks


def _distance(missing: Ints, size: Ints) -> float:
    # How far one allocation is from just what is missing; 0 = exactly that.
    total = 0.0
    for lack, freed in zip(missing.tolist(), size.tolist(), strict=True):
        if lack > 0:
            total += ((lack - freed) / lack) ** 2
    return total
