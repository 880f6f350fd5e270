"""Room on the nodes while a problem is solved: what earlier placements of the batch left.

Starts as a copy of the view's columns; each placement takes from it, so the evaluations
of a batch see each other. The factors `10^free` are kept per node and renewed only where
something changed.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.model.node import Node
from core.scheduler.rank import BINPACK, fitness, fitness_one, power10, power10_one
from core.scheduler.standing import Standings
from core.scheduler.view import Floats, Ints, Mask, NodesView

PORT_LAST = 65_535
_HEADS_KEPT = 4
_EVERYWHERE = slice(None)
_FEW = 6  # so many nodes cost less one by one than as arrays


@dataclass(slots=True, frozen=True)
class Ask:
    """What one instance takes from its node."""

    cpu: int  # MHz
    memory: int  # MiB
    disk: int  # MiB
    static_ports: tuple[int, ...] = ()
    dynamic_ports: int = 0

    @property
    def has_ports(self) -> bool:
        return bool(self.static_ports) or self.dynamic_ports > 0


class Room:
    """Free resources by node ordinal."""

    def __init__(self, view: NodesView, rng: random.Random, *, algorithm: str = BINPACK) -> None:
        self.view = view
        self.algorithm = algorithm
        self.cpu_used = view.cpu_used.copy()
        self.memory_used = view.memory_used.copy()
        self.disk_used = view.disk_used.copy()
        self.ports_used = dict(view.ports_used)
        self._units_taken: dict[int, frozenset[str]] = dict(view.units_held)
        # A capacity of 0 divides by 1: only an ask of 0 fits there anyhow.
        self._cpu_whole = np.maximum(view.cpu_capacity, 1).astype(np.float64)
        self._memory_whole = np.maximum(view.memory_capacity, 1).astype(np.float64)
        self._cpu_shapes, self.cpu_shape = np.unique(self._cpu_whole, return_inverse=True)
        self._memory_shapes, self.memory_shape = np.unique(self._memory_whole, return_inverse=True)
        self._cpu_factor = power10((view.cpu_capacity - self.cpu_used) / self._cpu_whole)
        self._memory_factor = power10(
            (view.memory_capacity - self.memory_used) / self._memory_whole
        )
        # Dynamic ports are given out from a random place on, so that a port just freed
        # is not at once another service's.
        self._port_offset = rng.getrandbits(16)
        self._heads: dict[tuple[int, int], Floats] = {}  # fitness by ordinal, by (cpu, memory)
        self._steps: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        self.standings = Standings(self)
        self._port_range: tuple[Ints, Ints] | None = None
        self._dynamic_free: Ints | None = None

    def __len__(self) -> int:
        return len(self.view)

    def follow(self, view: NodesView, rng: random.Random) -> None:
        """Become the room of `view`, which differs from the one before in usage alone.

        As if made anew, but for what it costs: only nodes that differ are looked at.
        """
        self.view = view
        self._port_offset = rng.getrandbits(16)
        self.ports_used = dict(view.ports_used)
        self._units_taken = dict(view.units_held)
        self._dynamic_free = None
        differs = self.cpu_used != view.cpu_used
        differs |= self.memory_used != view.memory_used
        differs |= self.disk_used != view.disk_used
        nodes = np.flatnonzero(differs)
        if nodes.size:
            self.cpu_used[nodes] = view.cpu_used[nodes]
            self.memory_used[nodes] = view.memory_used[nodes]
            self.disk_used[nodes] = view.disk_used[nodes]
            self._renew(nodes)
        self.standings.tidy()

    def fits(self, ask: Ask, eligible: Mask, most: int) -> Ints:
        """Return how many instances each node holds, 0 where not eligible, at most `most`."""
        view = self.view
        fits = np.where(eligible, most, 0)
        for asked, capacity, used in (
            (ask.cpu, view.cpu_capacity, self.cpu_used),
            (ask.memory, view.memory_capacity, self.memory_used),
            (ask.disk, view.disk_capacity, self.disk_used),
        ):
            if asked > 0:
                fits = np.minimum(fits, (capacity - used) // asked)
        fits = np.maximum(fits, 0)
        return np.minimum(fits, self._port_sets(ask, most)) if ask.has_ports else fits

    def holds(self, ask: Ask, ordinal: int) -> bool:
        """Whether one node has room for one instance more."""
        view = self.view
        return bool(
            self.cpu_used[ordinal] + ask.cpu <= view.cpu_capacity[ordinal]
            and self.memory_used[ordinal] + ask.memory <= view.memory_capacity[ordinal]
            and self.disk_used[ordinal] + ask.disk <= view.disk_capacity[ordinal]
            and (not ask.has_ports or self._port_sets(ask, 1)[ordinal])
        )

    def shortages(self, ask: Ask, nodes: Mask) -> list[tuple[str, Mask]]:
        """Return which of `nodes` have too little, by the first dimension that lacks.

        Dimensions are in Nomad's words and order; nodes with room for one are in none.
        """
        view, left = self.view, nodes.copy()
        found: list[tuple[str, Mask]] = []
        for name, asked, capacity, used in (
            ("cpu", ask.cpu, view.cpu_capacity, self.cpu_used),
            ("memory", ask.memory, view.memory_capacity, self.memory_used),
            ("disk", ask.disk, view.disk_capacity, self.disk_used),
        ):
            short = left & (used + asked > capacity) & (asked > 0)
            found.append((name, short))
            left &= ~short
        if ask.has_ports:
            for port in ask.static_ports:
                alone = Ask(0, 0, 0, static_ports=(port,))
                short = left & (self._port_sets(alone, 1) == 0)
                found.append((f"network: reserved port collision {port}", short))
                left &= ~short
            short = left & (self._port_sets(ask, 1) == 0)
            found.append(("network: dynamic port selection failed", short))
        return [(name, short) for name, short in found if short.any()]

    def head_scores(self, ask: Ask, nodes: Ints) -> Floats:
        """Return the fitness of each node for one instance more.

        Kept for the asks that came last, since identical ones come in rows; `_change`
        renews what is kept.
        """
        key = ask.cpu, ask.memory
        kept = self._heads.get(key)
        if kept is None:
            if len(self._heads) >= _HEADS_KEPT:
                del self._heads[next(iter(self._heads))]
            kept = self._heads[key] = self.heads(ask, _EVERYWHERE)
        return kept[nodes]

    def heads(self, ask: Ask, nodes: Ints | slice) -> Floats:
        """Return as `head_scores`, and keep nothing."""
        return self._fitness(
            ask,
            nodes,
            self.cpu_used[nodes],
            self.memory_used[nodes],
            self._cpu_factor[nodes],
            self._memory_factor[nodes],
        )

    def head_after(self, ask: Ask, node: int, taken: int) -> float:
        """Return one node's fitness for one instance more, `taken` of this ask being there."""
        view = self.view
        cpu_left = int(view.cpu_capacity[node]) - int(self.cpu_used[node]) - taken * ask.cpu
        memory_left = (
            int(view.memory_capacity[node]) - int(self.memory_used[node]) - taken * ask.memory
        )
        return self._fitness_one(ask.cpu, ask.memory, node, cpu_left, memory_left)

    def room_for(self, ask: Ask, node: int, most: int) -> int:
        """Return how many instances one node holds, at most `most`. Ports do not count."""
        view = self.view
        for asked, capacity, used in (
            (ask.cpu, view.cpu_capacity, self.cpu_used),
            (ask.memory, view.memory_capacity, self.memory_used),
            (ask.disk, view.disk_capacity, self.disk_used),
        ):
            if asked > 0:
                most = min(most, int(capacity[node] - used[node]) // asked)
        return max(most, 0)

    def run_scores(self, ask: Ask, nodes: Ints, depth: int) -> Floats:
        """Return [len(nodes), depth]: the fitness for the first, second, ... instance there."""
        before = np.arange(depth, dtype=np.int64)
        cpu_used = self.cpu_used[nodes][:, None] + before * ask.cpu
        memory_used = self.memory_used[nodes][:, None] + before * ask.memory
        column = nodes[:, None]
        cpu_free = (self.view.cpu_capacity[column] - cpu_used) / self._cpu_whole[column]
        memory_free = (self.view.memory_capacity[column] - memory_used) / self._memory_whole[column]
        return self._fitness(
            ask, column, cpu_used, memory_used, power10(cpu_free), power10(memory_free)
        )

    def _fitness(
        self,
        ask: Ask,
        nodes: Ints | slice,
        cpu_used: Ints,
        memory_used: Ints,
        cpu_factor: Floats,
        memory_factor: Floats,
    ) -> Floats:
        cpu_left = (self.view.cpu_capacity[nodes] - cpu_used - ask.cpu) / self._cpu_whole[nodes]
        memory_left = (
            self.view.memory_capacity[nodes] - memory_used - ask.memory
        ) / self._memory_whole[nodes]
        cpu_steps, memory_steps = self.steps_of(ask.cpu, ask.memory)
        return fitness(
            cpu_factor * cpu_steps[self.cpu_shape[nodes]],
            memory_factor * memory_steps[self.memory_shape[nodes]],
            cpu_left,
            memory_left,
            algorithm=self.algorithm,
        )

    def steps_of(self, cpu: int, memory: int) -> tuple[Floats, Floats]:
        """Return 10^-ask by shape of node, for both: the second factor of 10^(free - ask)."""
        known = self._steps.get((cpu, memory))
        if known is None:
            known = power10(-cpu / self._cpu_shapes), power10(-memory / self._memory_shapes)
            self._steps[cpu, memory] = known
        return known

    def take(self, ask: Ask, nodes: Ints) -> None:
        """Take one ask from each of `nodes`; an ordinal may come several times. No ports."""
        if nodes.size <= _FEW:
            self._change_few(ask, nodes, 1)
            return
        touched, counts = np.unique(nodes, return_counts=True)
        self._change(ask, touched, counts)

    def give_back(self, ask: Ask, nodes: Ints) -> None:
        """Give back one ask to each of `nodes`; an ordinal may come several times. No ports."""
        if nodes.size <= _FEW:
            self._change_few(ask, nodes, -1)
            return
        touched, counts = np.unique(nodes, return_counts=True)
        self._change(ask, touched, -counts)

    def _change(self, ask: Ask, nodes: Ints, counts: npt.NDArray[np.int64]) -> None:
        self.cpu_used[nodes] += counts * ask.cpu
        self.memory_used[nodes] += counts * ask.memory
        self.disk_used[nodes] += counts * ask.disk
        self._renew(nodes)

    def _renew(self, nodes: Ints) -> None:
        # What is derived from the usage of these nodes.
        view = self.view
        self._cpu_factor[nodes] = power10(
            (view.cpu_capacity[nodes] - self.cpu_used[nodes]) / self._cpu_whole[nodes]
        )
        self._memory_factor[nodes] = power10(
            (view.memory_capacity[nodes] - self.memory_used[nodes]) / self._memory_whole[nodes]
        )
        self.standings.note(nodes)
        for (cpu, memory), kept in self._heads.items():
            kept[nodes] = self.heads(Ask(cpu, memory, 0), nodes)

    def _change_few(self, ask: Ask, nodes: Ints, sign: int) -> None:
        # As `_change`, where arrays of a few elements would cost most of the time.
        counts: dict[int, int] = {}
        for node in nodes.tolist():
            counts[node] = counts.get(node, 0) + sign
        for node, count in counts.items():
            self._change_one(ask, node, count)

    def _change_one(self, ask: Ask, node: int, count: int) -> None:
        view = self.view
        self.cpu_used[node] += count * ask.cpu
        self.memory_used[node] += count * ask.memory
        self.disk_used[node] += count * ask.disk
        cpu_left = int(view.cpu_capacity[node]) - int(self.cpu_used[node])
        memory_left = int(view.memory_capacity[node]) - int(self.memory_used[node])
        self._cpu_factor[node] = power10_one(cpu_left / float(self._cpu_whole[node]))
        self._memory_factor[node] = power10_one(memory_left / float(self._memory_whole[node]))
        self.standings.note([node])
        for (cpu, memory), kept in self._heads.items():
            kept[node] = self._fitness_one(cpu, memory, node, cpu_left, memory_left)

    def _fitness_one(
        self, cpu: int, memory: int, node: int, cpu_left: int, memory_left: int
    ) -> float:
        # As `_fitness`; what is left is before the ask.
        cpu_whole, memory_whole = float(self._cpu_whole[node]), float(self._memory_whole[node])
        cpu_steps, memory_steps = self.steps_of(cpu, memory)
        return fitness_one(
            power10_one(cpu_left / cpu_whole) * float(cpu_steps[self.cpu_shape[node]]),
            power10_one(memory_left / memory_whole) * float(memory_steps[self.memory_shape[node]]),
            (cpu_left - cpu) / cpu_whole,
            (memory_left - memory) / memory_whole,
            self.algorithm,
        )

    # --- cores and devices --------------------------------------------------------

    def units_taken(self, ordinal: int) -> frozenset[str]:
        """Return the names of what is held on a node (core.model.units)."""
        return self._units_taken.get(ordinal, frozenset())

    def take_units(self, ordinal: int, names: Iterable[str]) -> None:
        self._units_taken[ordinal] = self.units_taken(ordinal).union(names)

    def free_units(self, ordinal: int, names: Iterable[str]) -> None:
        self._units_taken[ordinal] = self.units_taken(ordinal).difference(names)

    # --- ports --------------------------------------------------------------------

    def take_ports(self, ask: Ask, ordinal: int) -> list[int]:
        """Take the ask's static ports and free dynamic ones; return the dynamic ones.

        The caller made sure with `fits` that there are enough.
        """
        taken = self.ports_used.get(ordinal, 0) | _mask(ask.static_ports)
        lows, highs = self._dynamic_range()
        low, high = int(lows[ordinal]), int(highs[ordinal])
        chosen: list[int] = []
        port = low + self._port_offset % max(high - low + 1, 1)
        for _ in range(high - low + 1):
            if len(chosen) == ask.dynamic_ports:
                break
            if not taken >> port & 1:
                chosen.append(port)
                taken |= 1 << port
            port = port + 1 if port < high else low
        assert len(chosen) == ask.dynamic_ports, f"node {ordinal} is out of dynamic ports"
        self._set_ports(ordinal, taken)
        return chosen

    def free_ports(self, ordinal: int, ports: list[int]) -> None:
        """Give back ports that an instance held."""
        self._set_ports(ordinal, self.ports_used.get(ordinal, 0) & ~_mask(tuple(ports)))

    def hold_ports(self, ordinal: int, ports: list[int]) -> None:
        """Mark ports as taken."""
        self._set_ports(ordinal, self.ports_used.get(ordinal, 0) | _mask(tuple(ports)))

    def _set_ports(self, ordinal: int, taken: int) -> None:
        self.ports_used[ordinal] = taken
        if self._dynamic_free is not None:
            self._dynamic_free[ordinal] = self._count_dynamic(ordinal)

    def _port_sets(self, ask: Ask, most: int) -> Ints:
        # How often each node has all the ports of the ask, at most `most` times.
        lows, highs = self._dynamic_range()
        if self._dynamic_free is None:
            self._dynamic_free = np.maximum(highs - lows + 1, 0)
            for ordinal in self.ports_used:
                self._dynamic_free[ordinal] = self._count_dynamic(ordinal)
        if not ask.static_ports:
            return np.minimum(self._dynamic_free // ask.dynamic_ports, most)
        needed = np.full(len(self), ask.dynamic_ports)
        for port in ask.static_ports:
            needed += (lows <= port) & (port <= highs)
        sets = (self._dynamic_free >= needed).astype(np.int64)
        asked = _mask(ask.static_ports)
        for ordinal, taken in self.ports_used.items():
            if taken & asked:
                sets[ordinal] = 0
        return sets

    def _count_dynamic(self, ordinal: int) -> int:
        lows, highs = self._dynamic_range()
        low, width = int(lows[ordinal]), int(highs[ordinal] - lows[ordinal]) + 1
        if width <= 0:
            return 0
        taken = self.ports_used.get(ordinal, 0) >> low & ((1 << width) - 1)
        return width - taken.bit_count()

    def _dynamic_range(self) -> tuple[Ints, Ints]:
        # First and last dynamic port by ordinal; nodes of a class share them.
        if self._port_range is None:
            classes = self.view.classes
            bounds = [(_first_port(node), _last_port(node)) for node in classes.nodes]
            columns = np.array(bounds or [(1, 0)], dtype=np.int64)[classes.of_node]
            self._port_range = (columns[:, 0].copy(), columns[:, 1].copy())
        return self._port_range


def _first_port(node: Node | None) -> int:
    return 1 if node is None else max(node.node_resources.min_dynamic_port, 1)


def _last_port(node: Node | None) -> int:
    return 0 if node is None else min(node.node_resources.max_dynamic_port, PORT_LAST)


def _mask(ports: tuple[int, ...]) -> int:
    mask = 0
    for port in ports:
        mask |= 1 << port
    return mask
