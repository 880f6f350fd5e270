"""How the nodes stand for those who ask alike: a column that is kept and followed.

Small jobs come in rows, and many of them ask for the same: then nearly all that the last one
found out of 10,000 nodes is true for the next. Kept is, for an ask and its candidates, what
each node scores for the first instance and what it lacks. Only nodes that changed since are
looked at again, when somebody asks.

Invariant: a column shows what a fresh look would, at every node, each time that it is given out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from core.scheduler.kernel import loaded
from core.scheduler.view import Floats, Ints, Mask

if TYPE_CHECKING:
    from core.scheduler.room import Ask, Room

_KEPT_BYTES: Final = 48 << 20  # of all kept columns together; at least a few are kept
_KEPT_LEAST: Final = 8
_CHANGES_KEPT: Final = 1 << 16
_ONE_BY_ONE: Final = 6  # so many nodes cost less one by one than as arrays
DIMENSIONS: Final = ("cpu", "memory", "disk")  # in Nomad's words and order

Lacks = npt.NDArray[np.int8]


@dataclass(slots=True)
class Standing:
    """How the nodes stand for one ask and its candidates."""

    ask: "Ask"
    eligible: Mask
    column: Floats  # fitness for the first instance, -inf where none fits
    lacks: Lacks  # what is lacking first: 0 nothing, else which of DIMENSIONS, from 1
    short: Ints  # [1 + dimensions, named node classes]: how many nodes lack it
    followed: int  # how many of the changes are in it
    compiled: Any = None  # of the kernel: its arguments, put together once


class Standings:
    """Those of one room, which tells what changed."""

    def __init__(self, room: "Room") -> None:
        self._room = room
        self._kept: dict[tuple[int, int, int, int], Standing] = {}
        self._changed = np.zeros(1 << 10, np.int64)  # ordinals, in order
        self._newest = np.zeros(len(room), np.int64)  # by ordinal: place in it, the last one
        self._changes = 0

    def note(self, nodes: Ints | list[int]) -> None:
        """Take in that the usage of these nodes changed; each is named once."""
        end = self._changes + len(nodes)
        if end > self._changed.size:
            self._changed = np.resize(self._changed, max(2 * self._changed.size, end))
        self._changed[self._changes : end] = nodes
        self._newest[nodes] = np.arange(self._changes, end)
        self._changes = end

    def tidy(self) -> None:
        """Begin anew when there is too much to follow."""
        if self._changes > _CHANGES_KEPT:
            self._kept.clear()
            self._changes = 0

    def of(self, ask: "Ask", eligible: Mask, number: int) -> Standing:
        """Return how the nodes stand now.

        Args:
            eligible: The same for all calls with one `number`.
            number: Of the candidates (`Candidates.number`), -1 = keep nothing.
        """
        standing = self._find(ask, eligible, number)
        self._follow(standing)
        return standing

    def choose(
        self, standing: Standing, wanted: int, count: int, *, is_alone: bool = False
    ) -> tuple[list[int], list[float]]:
        """Return the nodes of up to `wanted` instances of a group that has none, and scores.

        One after the other, the best first, ties to the lower ordinal; nothing is taken. Who
        does not take them from the room afterwards notes them: the column shows the group's
        own nodes as they would be for its next instance.

        Args:
            standing: As `of` gave it out, and nothing changed since.
            count: Of the group: the denominator of anti-affinity.
            is_alone: Whether a node takes one of them at most.
        """
        kernel = loaded()
        if kernel is not None:
            return kernel.few(self._room, standing, wanted, count, is_alone)
        standing.compiled = None
        room, ask, column = self._room, standing.ask, standing.column
        chosen: list[int] = []
        scores: list[float] = []
        while column.size and len(chosen) < wanted:  # a datacenter may have no node yet
            node = int(np.argmax(column))  # the first of equals: the lowest ordinal
            score = float(column[node])
            if score == -np.inf:
                break
            taken = chosen.count(node)
            chosen.append(node)
            scores.append(score)
            crowd = -(taken + 2) / max(count, 1)
            if is_alone or room.room_for(ask, node, taken + 2) < taken + 2:
                column[node] = -np.inf
            else:
                column[node] = (room.head_after(ask, node, taken + 1) + crowd) / 2
        return chosen, scores

    def _find(self, ask: "Ask", eligible: Mask, number: int) -> Standing:
        key = ask.cpu, ask.memory, ask.disk, number
        kept = self._kept.get(key)
        if kept is None:
            room = self._room
            most = max(_KEPT_LEAST, _KEPT_BYTES // (9 * max(len(room), 1)))
            if len(self._kept) >= most:
                del self._kept[next(iter(self._kept))]
            column = room.heads(ask, slice(None))
            lacks = self._lacks(ask, eligible, slice(None))
            column[~eligible | (lacks > 0)] = -np.inf
            classes = room.view.node_classes
            short = np.zeros((1 + len(DIMENSIONS), max(len(classes.names), 1)), np.int64)
            np.add.at(short, (lacks, classes.of_node), 1)
            kept = Standing(ask, eligible, column, lacks, short, self._changes)
            if number >= 0:
                self._kept[key] = kept
        return kept

    def _follow(self, standing: Standing) -> None:
        first = standing.followed
        if first == self._changes:
            return
        standing.followed = self._changes
        kernel = loaded()
        if kernel is not None:
            kernel.follow(self._room, standing, self._changed, self._newest, first, self._changes)
            return
        standing.compiled = None  # it does not see what is written here
        nodes = np.unique(self._changed[first : self._changes])
        ask, eligible = standing.ask, standing.eligible
        of_node, short = self._room.view.node_classes.of_node, standing.short
        if nodes.size <= _ONE_BY_ONE:
            for node in nodes.tolist():
                score, lack = self._stands(ask, eligible, node)
                short[standing.lacks[node], of_node[node]] -= 1
                short[lack, of_node[node]] += 1
                standing.column[node], standing.lacks[node] = score, lack
            return
        lacks = self._lacks(ask, eligible, nodes)
        np.subtract.at(short, (standing.lacks[nodes], of_node[nodes]), 1)
        np.add.at(short, (lacks, of_node[nodes]), 1)
        standing.lacks[nodes] = lacks
        holds = eligible[nodes] & (lacks == 0)
        scores = self._room.heads(ask, nodes)
        standing.column[nodes] = np.where(holds, scores, -np.inf)

    def _stands(self, ask: "Ask", eligible: Mask, node: int) -> tuple[float, int]:
        # What one node has in a kept column and its lacks.
        if not eligible[node]:
            return -np.inf, 0
        room, view = self._room, self._room.view
        cpu_left = int(view.cpu_capacity[node]) - int(room.cpu_used[node])
        memory_left = int(view.memory_capacity[node]) - int(room.memory_used[node])
        disk_left = int(view.disk_capacity[node]) - int(room.disk_used[node])
        lefts = (ask.cpu, cpu_left), (ask.memory, memory_left), (ask.disk, disk_left)
        for dimension, (asked, left) in enumerate(lefts, 1):
            if 0 < asked > left:
                return -np.inf, dimension
        return room.head_after(ask, node, 0), 0

    def _lacks(self, ask: "Ask", eligible: Mask, nodes: Ints | slice) -> Lacks:
        room, view = self._room, self._room.view
        lacks = np.zeros(eligible[nodes].size, np.int8)
        for dimension, asked, capacity, used in (
            (3, ask.disk, view.disk_capacity, room.disk_used),
            (2, ask.memory, view.memory_capacity, room.memory_used),
            (1, ask.cpu, view.cpu_capacity, room.cpu_used),  # last: it is the one that is told
        ):
            if asked > 0:
                lacks[used[nodes] + asked > capacity[nodes]] = dimension
        lacks[~eligible[nodes]] = 0
        return lacks
