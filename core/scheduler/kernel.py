"""The compiled placement kernel, where it is loaded; without it numpy finds the same plans.

Compiling takes seconds and memory, and pays from some thousand nodes on. So a host calls
`load` when its cluster is that large, away from its loop, and has another process call it
before: the interpreter is held while numba compiles, much less while it reads what it
compiled. Until that is done, and where numba (the extra `serai[kernel]`) is not installed,
`loaded` gives None and place.py takes its own way. Which of the two placed can't be told
from a plan.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

from core.scheduler.kinds import kinds_of
from core.scheduler.rank import COEFFICIENTS, NOMAD, SPREAD, TABLE
from core.scheduler.view import Floats, Ints

if TYPE_CHECKING:
    from core.scheduler.compiled import Rows, Scoring
    from core.scheduler.place import Wish
    from core.scheduler.room import Ask, Room
    from core.scheduler.standing import Standing

WORTH_NODES: Final = 1_000  # from so many nodes on, a host loads it

_kernel: "Kernel | None" = None


def is_installed() -> bool:
    """Whether there is a compiler to compile it with."""
    return find_spec("numba") is not None


def load() -> bool:
    """Compile the kernel, or read what was compiled before; False where numba is missing.

    Blocks for seconds the first time. Harmless to repeat.
    """
    global _kernel  # noqa: PLW0603 one compiled program a process, as the module itself
    if _kernel is None:
        try:
            compiled = import_module("core.scheduler.compiled")
        except ImportError:
            return False
        kernel = Kernel(compiled)
        kernel.warm()
        _kernel = kernel
    return True


def loaded() -> "Kernel | None":
    """Return the kernel if `load` was done."""
    return _kernel


def unload() -> None:
    """Place with numpy from here on."""
    global _kernel  # noqa: PLW0603
    _kernel = None


class Kernel:
    """The compiled loops, given what they need of a room and a wish."""

    def __init__(self, compiled: ModuleType) -> None:
        self._compiled = compiled
        self._algorithms = {
            SPREAD: compiled.ALGORITHM_SPREAD,
            NOMAD: compiled.ALGORITHM_NOMAD,
        }

    def greedy(
        self, room: "Room", wish: "Wish", wanted: int, nodes: Ints, fits: Ints,
        total: Floats, parts: Ints,
    ) -> tuple[Ints, Floats]:  # fmt: skip
        """Return chosen nodes and their scores, at most `wanted`.

        Args:
            nodes: Ordinals of those that have room, ascending; the next three are theirs.
            fits: How many instances each holds.
            total, parts: Sum and number of the components for the first instance. Changed.
        """
        scoring = self._scoring(room, wish)
        chosen: tuple[Ints, Floats] = self._compiled.greedy(
            wanted, nodes, fits, total, parts, scoring
        )
        return chosen

    def spread(
        self, room: "Room", wish: "Wish", wanted: int, nodes: Ints, fits: Ints,
        total: Floats, parts: Ints,
    ) -> tuple[Ints, Floats] | None:  # fmt: skip
        """As `greedy`, with the wish's spread blocks; None when the nodes are of too many kinds."""
        found = kinds_of(wish.spreads, nodes)
        if found is None:
            return None
        kind_of, speakers = found
        spreads = wish.spreads
        values = max(1, *(len(one.names) for one in spreads))
        desired = np.zeros((len(spreads), values))
        counts = np.zeros((len(spreads), values), np.int64)
        is_used = np.zeros((len(spreads), values), np.int64)
        for row, one in enumerate(spreads):
            counts[row, : len(one.names)] = one.counts
            is_used[row, : len(one.names)] = one.used
            if one.desired is not None:
                desired[row, : len(one.names)] = one.desired
        blocks = self._compiled.Blocks(
            kind_values=np.array([one.value_of[speakers] for one in spreads]),
            sizes=np.array([len(one.names) for one in spreads]),
            weights=np.array([one.weight for one in spreads], np.float64),
            is_targeted=np.array([one.desired is not None for one in spreads], np.int64),
            desired=desired,
            counts=counts,
            is_used=is_used,
        )
        chosen: tuple[Ints, Floats] = self._compiled.spread(
            wanted, nodes, fits, total, parts, kind_of, blocks, self._scoring(room, wish)
        )
        return chosen

    def follow(
        self, room: "Room", standing: "Standing", changed: Ints, newest: Ints, first: int, end: int
    ) -> None:
        """Renew a kept column at the nodes that changed from `first` to `end`."""
        rows, scoring = self._kept(room, standing)
        self._compiled.follow(changed, newest, first, end, rows, scoring)

    def few(
        self, room: "Room", standing: "Standing", wanted: int, count: int, is_alone: bool
    ) -> tuple[list[int], list[float]]:
        """As `Standings.choose`."""
        rows, scoring = self._kept(room, standing)
        nodes, scores = self._compiled.few(wanted, count, is_alone, rows, scoring)
        return nodes.tolist(), scores.tolist()

    def _kept(self, room: "Room", standing: "Standing") -> tuple["Rows", "Scoring"]:
        """Return the arguments of a kept column: its room changes the arrays in place."""
        kept: tuple[Rows, Scoring] | None = standing.compiled
        if kept is None:
            view, ask = room.view, standing.ask
            blocks = -(-len(room) // self._compiled.BLOCK)
            rows = self._compiled.Rows(
                column=standing.column,
                lacks=standing.lacks,
                short=standing.short,
                peaks=np.zeros(blocks),
                eligible=standing.eligible,
                class_of=view.node_classes.of_node,
                disk_capacity=view.disk_capacity,
                disk_used=room.disk_used,
                disk=ask.disk,
            )
            for block in range(blocks):
                self._compiled.peak(block, rows)
            none = np.zeros(0, np.int64)
            kept = standing.compiled = (rows, self._of(room, ask, none, np.zeros(0), 1))
        return kept

    def _scoring(self, room: "Room", wish: "Wish") -> "Scoring":
        affinity = np.zeros(len(room)) if wish.affinity is None else wish.affinity
        return self._of(room, wish.ask, wish.collisions, affinity, wish.count)

    def _of(
        self, room: "Room", ask: "Ask", collisions: Ints, affinity: Floats, count: int
    ) -> "Scoring":
        view, steps = room.view, room.steps_of(ask.cpu, ask.memory)
        scoring: Scoring = self._compiled.Scoring(
            cpu_capacity=view.cpu_capacity,
            memory_capacity=view.memory_capacity,
            cpu_used=room.cpu_used,
            memory_used=room.memory_used,
            collisions=collisions,
            affinity=affinity,
            cpu_shape=room.cpu_shape,
            memory_shape=room.memory_shape,
            cpu_steps=steps[0],
            memory_steps=steps[1],
            table=TABLE,
            coefficients=COEFFICIENTS,
            cpu=ask.cpu,
            memory=ask.memory,
            algorithm=self._algorithms.get(room.algorithm, 0),
            group_count=max(count, 1),
        )
        return scoring

    def warm(self) -> None:
        """Have the loops compiled for the types that they are called with."""
        ones, halves = np.ones(1, np.int64), np.full(1, 0.5)
        scoring = self._compiled.Scoring(
            ones, ones, ones, ones, ones, halves, ones - 1, ones - 1, halves, halves,
            TABLE, COEFFICIENTS, 1, 1, 0, 1,
        )  # fmt: skip
        table = ones.reshape(1, 1)
        blocks = self._compiled.Blocks(
            table - 1, ones, halves, ones, halves.reshape(1, 1), table.copy(), table.copy()
        )
        self._compiled.greedy(1, ones - 1, ones, halves.copy(), ones.copy(), scoring)
        self._compiled.spread(
            1, ones - 1, ones, halves.copy(), ones.copy(), ones - 1, blocks, scoring
        )
        rows = self._compiled.Rows(
            halves.copy(), np.zeros(1, np.int8), np.ones((4, 1), np.int64), halves.copy(),
            ones > 0, ones - 1, ones, ones, 1,
        )  # fmt: skip
        self._compiled.peak(0, rows)
        self._compiled.follow(ones - 1, ones - 1, 0, 1, rows, scoring)
        self._compiled.few(1, 1, True, rows, scoring)
