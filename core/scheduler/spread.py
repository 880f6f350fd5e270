"""Counting instances by a property of their node: spread blocks and distinct_property."""

from collections.abc import Iterable, Sequence

import numpy as np

from core.model.job import Spread
from core.scheduler.view import Floats, Ints, Mask

_OTHERS = "*"


class PropertyValues(list[str | None]):
    """Value of a property by node ordinal, None where the node lacks it; numbered."""

    def __init__(self, values: Iterable[str | None]) -> None:
        super().__init__(values)
        self.names = sorted({value for value in self if value is not None})
        numbers: dict[str | None, int] = {name: n for n, name in enumerate(self.names)}
        self.value_of = np.array([numbers.get(value, -1) for value in self], dtype=np.int64)


class PropertyCounts:
    """How many instances run on nodes of each value of one property.

    Args:
        values: Value of the property by node ordinal, None where the node lacks it.
        nodes: Ordinals on which counted instances run already.
    """

    def __init__(self, values: Sequence[str | None], nodes: Ints) -> None:
        numbered = values if isinstance(values, PropertyValues) else PropertyValues(values)
        self.names, self.value_of = numbered.names, numbered.value_of
        self.counts = np.zeros(len(self.names), np.int64)
        self.used = np.zeros(len(self.names), np.bool_)  # values that ever held an instance
        self.add(nodes)

    def add(self, nodes: Ints) -> None:
        """Count one more instance on each of `nodes`."""
        values = self.value_of[nodes]
        values = values[values >= 0]
        np.add.at(self.counts, values, 1)
        self.used[values] = True

    def remove(self, nodes: Ints) -> None:
        """Count one instance less on each of `nodes`."""
        values = self.value_of[nodes]
        np.subtract.at(self.counts, values[values >= 0], 1)


class SpreadScorer(PropertyCounts):
    """One `spread` block: nodes whose value lags behind its target score higher.

    With targets: `(desired - used) / desired`, the placement itself included, times the
    block's part of all weights. Without: an even spread over the values that are in use,
    from -1 (furthest ahead) to 1. A node without the property scores -1. As Nomad.
    """

    def __init__(
        self, spread: Spread, weight: float, count: int, values: Sequence[str | None], nodes: Ints
    ) -> None:
        """`weight` is the block's share of the sum of weights; `count` the group's."""
        super().__init__(values, nodes)
        self.weight = weight
        self.desired = _desired_counts(spread, count, self.names)

    def scores(self, nodes: Ints) -> Floats:
        """Return the block's score of each node for one more instance there."""
        by_value = self._even() if self.desired is None else self._targeted(self.desired)
        padded = np.append(by_value, -1.0)  # value -1: the node lacks the property
        result: Floats = padded[self.value_of[nodes]]
        return result

    def by_value(self, counts: list[int], used: list[bool]) -> list[float]:
        """Return what `scores` gives nodes of each value, were these the counts.

        Args:
            counts, used: By value, as `PropertyCounts` has them.
        """
        if self.desired is not None:
            return [
                ((wanted - (count + 1)) / wanted) * self.weight if wanted > 0.0 else -1.0
                for wanted, count in zip(self.desired.tolist(), counts)
            ]
        if True not in used:
            return [0.0] * len(counts)
        held = [count for count, is_used in zip(counts, used) if is_used]
        least, most = min(held), max(held)
        if least == most:
            at_least = -1.0
        else:
            at_least = (most - least) / least if least > 0 else 1.0
        return [
            at_least if count == least else (least - count) / least if least > 0 else -1.0
            for count in counts
        ]

    def _targeted(self, desired: Floats) -> Floats:
        has_target = desired >= 0.0
        whole = np.where(desired > 0.0, desired, 1.0)
        score = ((desired - (self.counts + 1)) / whole) * self.weight
        return np.where(has_target, np.where(desired > 0.0, score, -1.0), -1.0)

    def _even(self) -> Floats:
        if not self.used.any():
            return np.zeros(len(self.names))
        least, most = int(self.counts[self.used].min()), int(self.counts[self.used].max())
        if least == most:
            at_least = -1.0
        else:
            at_least = (most - least) / least if least > 0 else 1.0
        # A value that holds nothing yet is behind even when all others are level.
        behind = (least - self.counts) / least if least > 0 else np.full(len(self.names), -1.0)
        return np.where(self.counts == least, at_least, behind)


class PropertyLimit(PropertyCounts):
    """`distinct_property`: at most `limit` instances on nodes of one value."""

    def __init__(self, target: str, limit: int, values: Sequence[str | None], nodes: Ints) -> None:
        super().__init__(values, nodes)
        self.target = target
        self._limit = limit

    def open_nodes(self) -> Mask:
        """Return which nodes may take another instance; one without the property never."""
        is_open = np.append(self.counts < self._limit, False)
        result: Mask = is_open[self.value_of]
        return result


def _desired_counts(spread: Spread, count: int, names: list[str]) -> Floats | None:
    # By value, -1 where no target speaks of it; None for an even spread.
    targets = {target.value: target.percent for target in spread.spread_target or []}
    if not targets:
        return None
    desired = {value: percent / 100 * count for value, percent in targets.items()}
    spoken_for = sum(desired.values())
    if _OTHERS not in desired and 0 < spoken_for < count:
        desired[_OTHERS] = count - spoken_for
    others = desired.get(_OTHERS, -1.0)
    return np.array([desired.get(name, others) for name in names], dtype=np.float64)
