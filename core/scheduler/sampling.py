"""Nomad's choice of a node: the best of a few that come along in random order.

With `algorithm = "nomad"` a placement does not look at every node. The eligible nodes
stand in a random ring; from where the last search ended, nodes that hold the ask are
taken until there are enough of them, and the best of these gets the instance, the first
of equals. Enough are 2 for batch jobs, `ceil(log2(n))` of n eligible nodes for services, and
`max(100, count)` where affinity or spread needs a wider look. Up to 3 nodes whose score is
not above 0 are passed over on the way and come last.
"""

import math
import random

import numpy as np

from core.scheduler.view import Floats, Ints

_SKIPPED_MOST = 3
_WIDE = 100


def sample_size(nodes: int, count: int, *, is_batch: bool, is_wide: bool) -> int:
    """Return how many nodes one placement compares."""
    if is_wide:
        return max(_WIDE, count)
    if is_batch or nodes < 2:
        return 2
    return max(2, math.ceil(math.log2(nodes)))


class Sampler:
    """A ring of candidates, used for all placements of one group in one plan."""

    def __init__(self, rng: random.Random, positions: int, limit: int) -> None:
        order = list(range(positions))
        rng.shuffle(order)
        self._order: Ints = np.array(order, np.int64)
        self._limit = limit
        self._offset = 0

    def choose(self, scores: Floats) -> int:
        """Return a position, given the scores by position; -inf does not hold the ask.

        When nothing holds it, the position returned has -inf.
        """
        ring = np.roll(self._order, -self._offset)
        ringed = scores[ring]
        places = np.flatnonzero(ringed > -np.inf)
        if not places.size:
            return int(ring[0])
        chosen: list[int] = []
        passed: list[int] = []
        end = 0
        for place in places.tolist():
            end = place
            if ringed[place] <= 0.0 and len(passed) < _SKIPPED_MOST:
                passed.append(place)
                continue
            chosen.append(place)
            if len(chosen) == self._limit:
                break
        chosen += passed[: self._limit - len(chosen)]
        self._offset = (self._offset + end + 1) % len(self._order)
        return int(ring[max(chosen, key=lambda place: ringed[place])])
