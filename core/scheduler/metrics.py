"""Why a placement went where it did, or nowhere: `AllocMetric`."""

import numpy as np

from core.model.allocation import AllocMetric, NodeScoreMeta
from core.scheduler.feasibility import Candidates
from core.scheduler.place import Wish
from core.scheduler.room import Room
from core.scheduler.standing import DIMENSIONS
from core.scheduler.unit_placing import unit_shortages
from core.scheduler.view import Ints, Mask


def placed_metric(room: Room, pool: str, candidates: Candidates, wish: Wish) -> AllocMetric:
    """Return the metric that the placed instances of one group share."""
    metric = base_metric(pool, candidates)
    scores = []
    for ordinal, parts in wish.reasons:
        node = room.view.records[ordinal]
        if node is not None:
            normalised = parts.get("normalized", 0.0)
            named = {name: score for name, score in parts.items() if name != "normalized"}
            scores.append(NodeScoreMeta(node_id=node.id, scores=named, norm_score=normalised))
    metric.score_meta_data = scores or None
    if wish.units or wish.ask.has_ports or wish.candidates < 0:
        _count_exhausted(metric, room, wish, candidates.eligible)
    else:
        _count_lacking(metric, room, wish)
    return metric


def failed_metric(
    room: Room, pool: str, candidates: Candidates, wish: Wish, failures: int
) -> AllocMetric:
    """Return why `failures` instances of a group found no node, as things stand now."""
    metric = base_metric(pool, candidates)
    metric.coalesced_failures = failures - 1
    left = candidates.eligible.copy()
    filtered = dict(metric.constraint_filtered or {})
    if wish.is_alone and wish.occupied is not None:
        closed = left & (wish.occupied > 0)
        _count(filtered, "distinct_hosts", int(closed.sum()))
        left &= ~closed
    for limit in wish.limits:
        closed = left & ~limit.open_nodes()
        _count(filtered, f"distinct_property: {limit.target}", int(closed.sum()))
        left &= ~closed
    metric.constraint_filtered = filtered or None
    metric.nodes_filtered = sum(filtered.values())
    _count_exhausted(metric, room, wish, left)
    return metric


def _count_exhausted(metric: AllocMetric, room: Room, wish: Wish, nodes: Mask) -> None:
    """Say which of `nodes` have no room for one more, by what they lack first."""
    dimensions: dict[str, int] = {}
    classes: dict[str, int] = {}
    shortages = room.shortages(wish.ask, nodes)
    if wish.units:
        shortages += unit_shortages(room, wish, nodes)
    for name, short in shortages:
        _count(dimensions, name, int(short.sum()))
        for ordinal in np.flatnonzero(short).tolist():
            node = room.view.records[ordinal]
            if node is not None and node.node_class:
                _count(classes, node.node_class, 1)
    metric.nodes_exhausted = sum(dimensions.values())
    metric.dimension_exhausted = dimensions or None
    metric.class_exhausted = classes or None


def _count_lacking(metric: AllocMetric, room: Room, wish: Wish) -> None:
    """Do as `_count_exhausted` for all candidates, from a column that the room keeps."""
    standing = room.standings.of(wish.ask, wish.eligible, wish.candidates)
    count_short(metric, standing.short, room.view.node_classes.names)


def count_short(metric: AllocMetric, short: Ints, classes: list[str]) -> None:
    """Say how many nodes lack what, from the counts of a kept column (standing.py)."""
    lacking = short[1:].tolist()
    dimensions = {name: sum(counts) for name, counts in zip(DIMENSIONS, lacking) if any(counts)}
    if not dimensions:
        return
    per_class = [sum(counts) for counts in zip(*lacking)]
    metric.nodes_exhausted = sum(per_class)
    metric.dimension_exhausted = dimensions
    metric.class_exhausted = {
        name: count for name, count in zip(classes, per_class) if name and count
    } or None


def base_metric(pool: str, candidates: Candidates) -> AllocMetric:
    """Return what holds for every instance of a group, wherever it goes."""
    return AllocMetric(
        nodes_evaluated=candidates.evaluated,
        nodes_filtered=sum(candidates.filtered.values()),
        nodes_in_pool=candidates.in_pool,
        node_pool=pool,
        nodes_available=dict(candidates.available) or None,
        class_filtered=dict(candidates.class_filtered) or None,
        constraint_filtered=dict(candidates.filtered) or None,
    )


def _count(counts: dict[str, int], name: str, number: int) -> None:
    if number:
        counts[name] = counts.get(name, 0) + number
