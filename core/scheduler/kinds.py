"""Many instances with a spread: the best node is the best of few queues.

A node's score is `(total + spread) / parts`, see rank.py. `total` and the number of parts
change with what the node itself takes. `spread` changes with every placement, but is the
same for all nodes with the same values of the spread's properties. So among the nodes of
one such kind that have as many parts the one with the best total is the best, whatever the
spread is: each such set is a queue, and one placement looks at the heads of all queues
only. With three datacenters that is six numbers instead of ten thousand. (Where two totals
differ by less than the rounding of their scores, the better total wins here, and not the
lower ordinal.)
"""

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from core.scheduler.spread import SpreadScorer
from core.scheduler.view import Floats, Ints

_KINDS_MAX = 64  # with more, the vectors of `Placer._steps` are as fast

# (position, taken) -> (total, parts) of a node that has taken so many more.
Renewed = Callable[[int, int], tuple[float, int]]


def kinds_of(spreads: Sequence[SpreadScorer], nodes: Ints) -> tuple[Ints, Ints] | None:
    """Return each node's kind, and one node that speaks for each; None when they are too many.

    Nodes of one kind have the same values of all properties; kinds are numbered by values.
    """
    kind_of = np.zeros(nodes.size, np.int64)
    for scorer in spreads:
        code = kind_of * (len(scorer.names) + 1) + scorer.value_of[nodes] + 1
        is_there = np.bincount(code) > 0
        kind_of = (np.cumsum(is_there) - 1)[code]
    kinds = int(kind_of.max()) + 1 if nodes.size else 0
    if kinds > _KINDS_MAX:
        return None
    speakers = np.zeros(kinds, np.int64)
    speakers[kind_of[::-1]] = nodes[::-1]  # the last word is the lowest ordinal's
    return kind_of, speakers


class Kinds:
    """The nodes that have room, in queues by (kind, parts). Used once."""

    def __init__(
        self,
        tallies: list["_Tally"],
        kind_of: list[int],
        nodes: list[int],
        fits: list[int],
        renewed: Renewed,
    ) -> None:
        self._tallies, self._kind_of = tallies, kind_of
        self._nodes, self._fits, self._renewed = nodes, fits, renewed
        self._taken: dict[int, int] = {}  # position -> instances
        self._queues: dict[tuple[int, int], _Queue] = {}

    @staticmethod
    def of(
        spreads: Sequence[SpreadScorer],
        nodes: Ints,
        fits: Ints,
        total: Floats,
        parts: Ints,
        renewed: Renewed,
    ) -> "Kinds | None":
        """Return the queues; None when the nodes are of too many kinds.

        Args:
            nodes: Ordinals of those that have room, ascending; the columns are theirs.
            fits: How many instances each holds.
        """
        found = kinds_of(spreads, nodes)
        if found is None:
            return None
        kind_of, speakers = found
        tallies = [_Tally(scorer, scorer.value_of[speakers].tolist()) for scorer in spreads]
        kinds = Kinds(tallies, kind_of.tolist(), nodes.tolist(), fits.tolist(), renewed)
        order = np.argsort(-total, kind="stable")  # of equals the lowest ordinal first
        for number in range(speakers.size):
            of_kind = order[kind_of[order] == number]
            for count in np.unique(parts[of_kind]).tolist():
                members = of_kind[parts[of_kind] == count]
                kinds._queues[number, count] = _Queue(
                    number, count, members.tolist(), total[members].tolist()
                )
        return kinds

    def take(self, wanted: int) -> tuple[list[int], list[float]]:
        """Choose up to `wanted` nodes, one after the other; return them with their scores."""
        chosen: list[int] = []
        scores: list[float] = []
        while len(chosen) < wanted:
            spread = self._spread()
            best_score, best, best_queue = -np.inf, -1, None
            for queue in self._queues.values():
                position = queue.position
                if position < 0:
                    continue
                extra = spread[queue.kind]
                score = (queue.total + extra) / (queue.parts + (extra != 0.0))
                if score > best_score or (score == best_score and position < best):
                    best_score, best, best_queue = score, position, queue
            if best_queue is None:
                break
            chosen.append(self._nodes[best])
            scores.append(best_score)
            best_queue.pop()
            self._count(best)
        return chosen, scores

    def _spread(self) -> list[float]:
        # By kind: the sum over the blocks.
        columns = [tally.scores for tally in self._tallies]
        return columns[0] if len(columns) == 1 else [sum(column) for column in zip(*columns)]

    def _count(self, position: int) -> None:
        kind = self._kind_of[position]
        for tally in self._tallies:
            tally.add(kind)
        taken = self._taken[position] = self._taken.get(position, 0) + 1
        if taken >= self._fits[position]:
            return
        total, parts = self._renewed(position, taken)
        if (kind, parts) not in self._queues:
            self._queues[kind, parts] = _Queue(kind, parts, [], [])
        self._queues[kind, parts].put(total, position)


class _Queue:
    """Positions by total, best first, of equals the lowest: a sorted run and a heap.

    `total` and `position` are the head's; position -1 says that the queue is empty.
    """

    __slots__ = ("_heap", "_next", "_run", "_totals", "kind", "parts", "position", "total")

    def __init__(self, kind: int, parts: int, run: list[int], totals: list[float]) -> None:
        self.kind, self.parts = kind, parts
        self._run, self._totals, self._next = run, totals, 0
        self._heap: list[tuple[float, int]] = []  # (-total, position)
        self.total, self.position = 0.0, -1
        self._look()

    def pop(self) -> None:
        if self._heap and self._heap[0][1] == self.position:
            heapq.heappop(self._heap)
        else:
            self._next += 1
        self._look()

    def put(self, total: float, position: int) -> None:
        heapq.heappush(self._heap, (-total, position))
        self._look()

    def _look(self) -> None:
        if self._next < len(self._run):
            self.total, self.position = self._totals[self._next], self._run[self._next]
            if self._heap and self._heap[0] < (-self.total, self.position):
                self.total, self.position = -self._heap[0][0], self._heap[0][1]
        elif self._heap:
            self.total, self.position = -self._heap[0][0], self._heap[0][1]
        else:
            self.position = -1


class _Tally:
    """One spread block's score by kind, counted along without arrays."""

    def __init__(self, scorer: SpreadScorer, values: list[int]) -> None:
        self._scorer = scorer
        self._values = values  # of each kind, -1 where its nodes lack the property
        self._counts: list[int] = scorer.counts.tolist()
        self._used: list[bool] = scorer.used.tolist()
        self.scores = self._find()

    def add(self, kind: int) -> None:
        value = self._values[kind]
        if value >= 0:
            self._counts[value] += 1
            self._used[value] = True
            self.scores = self._find()

    def _find(self) -> list[float]:
        by_value = self._scorer.by_value(self._counts, self._used)
        return [-1.0 if value < 0 else by_value[value] for value in self._values]
