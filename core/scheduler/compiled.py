"""The loops of the placement kernel, compiled by numba when this module is imported.

The subset of Python that numba compiles: arrays and numbers in, arrays out, no objects. The
same operations in the same order as rank.py and kinds.py, so the plans are the same bit for
bit; with NUMBA_DISABLE_JIT=1 the functions below run as they stand. Only kernel.py imports
this module.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.scheduler.view import Floats, Ints, Mask

# No fused multiply-add without `fastmath`; a division by zero gives inf, as numpy's.
_compiled = njit(cache=True, nogil=True, error_model="numpy")

BLOCK = 64  # nodes whose best is remembered together
ALGORITHM_SPREAD = 1
ALGORITHM_NOMAD = 2

_SPAN = 2.0
_STEPS = 64.0
_SCORE_MAX = 18.0
_PARTS_END = 4  # a score has at most three parts beside the spread


class Scoring(NamedTuple):
    """What a node's score for one more instance depends on, beside the spread."""

    cpu_capacity: Ints  # by node ordinal, as the four below
    memory_capacity: Ints
    cpu_used: Ints
    memory_used: Ints
    collisions: Ints
    affinity: Floats
    cpu_shape: Ints  # node -> entry of `cpu_steps`
    memory_shape: Ints
    cpu_steps: Floats  # 10^-ask
    memory_steps: Floats
    table: Floats  # of power10, as the next
    coefficients: Floats
    cpu: int  # asked
    memory: int
    algorithm: int
    group_count: int


class Blocks(NamedTuple):
    """Spread blocks. Rows are blocks; `counts` and `is_used` are changed."""

    kind_values: Ints  # [blocks, kinds]: the value of a kind's nodes, -1 = they lack it
    sizes: Ints  # values of each block
    weights: Floats
    is_targeted: Ints
    desired: Floats  # [blocks, values]
    counts: Ints
    is_used: Ints


@_compiled
def _power10(exponent: float, scoring: Scoring) -> float:
    x = min(max(exponent, -_SPAN), _SPAN)
    nearest = np.rint(x * _STEPS)
    rest = x - nearest / _STEPS
    polynomial = scoring.coefficients[0]
    for k in range(1, scoring.coefficients.size):
        polynomial = polynomial * rest + scoring.coefficients[k]
    entry = scoring.table[int(nearest + _SPAN * _STEPS)]
    result: float = entry * (polynomial * rest + 1.0)
    return result


@_compiled
def _fitness(node: int, taken: int, scoring: Scoring) -> float:
    # Of one node for one instance more, `taken` of this ask being there.
    cpu_whole = float(max(scoring.cpu_capacity[node], 1))
    memory_whole = float(max(scoring.memory_capacity[node], 1))
    cpu_left = scoring.cpu_capacity[node] - scoring.cpu_used[node] - taken * scoring.cpu
    memory_left = scoring.memory_capacity[node] - scoring.memory_used[node] - taken * scoring.memory
    cpu_factor = _power10(cpu_left / cpu_whole, scoring)
    cpu_factor = cpu_factor * scoring.cpu_steps[scoring.cpu_shape[node]]
    memory_factor = _power10(memory_left / memory_whole, scoring)
    memory_factor = memory_factor * scoring.memory_steps[scoring.memory_shape[node]]
    total = cpu_factor + memory_factor
    if scoring.algorithm == ALGORITHM_SPREAD:
        score = total - 2.0
    elif scoring.algorithm == ALGORITHM_NOMAD:
        score = 20.0 - total
    else:
        cpu_after = (cpu_left - scoring.cpu) / cpu_whole
        memory_after = (memory_left - scoring.memory) / memory_whole
        score = (20.0 - total) - 2.0 * abs(cpu_after - memory_after)
    result: float = min(max(score, 0.0), _SCORE_MAX) / _SCORE_MAX
    return result


@_compiled
def _renew(
    position: int, node: int, taken: int, total: Floats, parts: Ints, scoring: Scoring
) -> None:
    # The node has taken some: its sum of components, and how many they are.
    already = scoring.collisions[node] + taken
    liking = scoring.affinity[node]
    total[position] = _fitness(node, taken, scoring) - (already + 1) / scoring.group_count + liking
    parts[position] = 2 + (liking != 0.0)


@_compiled
def _sink(heap: Ints, start: int, size: int, place: int, key: Floats) -> None:
    # Restore the order below `place`: the largest key first, of equals the lower position.
    if size == 0:
        return
    moved = heap[start + place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        best = heap[start + child]
        if child + 1 < size:
            other = heap[start + child + 1]
            if key[other] > key[best] or (key[other] == key[best] and other < best):
                child += 1
                best = other
        if key[moved] > key[best] or (key[moved] == key[best] and moved < best):
            break
        heap[start + place] = best
        place = child
    heap[start + place] = moved


@_compiled
def _rise(heap: Ints, start: int, place: int, key: Floats) -> None:
    moved = heap[start + place]
    while place > 0:
        parent = (place - 1) // 2
        above = heap[start + parent]
        if key[above] > key[moved] or (key[above] == key[moved] and above < moved):
            break
        heap[start + place] = above
        place = parent
    heap[start + place] = moved


@_compiled
def _heapify(heap: Ints, start: int, size: int, key: Floats) -> None:
    for place in range(size // 2 - 1, -1, -1):
        _sink(heap, start, size, place, key)


@_compiled
def greedy(
    wanted: int, nodes: Ints, fits: Ints, total: Floats, parts: Ints, scoring: Scoring
) -> tuple[Ints, Floats]:
    """Place one instance after the other where the score is best.

    Args:
        nodes: Ordinals of those that have room, ascending; the next three are theirs.
        fits: How many instances each holds.
        total, parts: Sum and number of the components for the first instance. Changed.

    Returns:
        Chosen nodes in the order of placement, and their scores.
    """
    members = nodes.size
    score = total / parts
    taken = np.zeros(members, np.int64)
    heap = np.arange(members)
    _heapify(heap, 0, members, score)
    chosen = np.empty(wanted, np.int64)
    scores = np.empty(wanted, np.float64)
    done = 0
    while done < wanted and members > 0:
        best = heap[0]
        chosen[done], scores[done] = nodes[best], score[best]
        done += 1
        taken[best] += 1
        if taken[best] < fits[best]:
            _renew(best, nodes[best], taken[best], total, parts, scoring)
            score[best] = total[best] / parts[best]
        else:
            members -= 1
            heap[0] = heap[members]
        _sink(heap, 0, members, 0, score)
    return chosen[:done], scores[:done]


@_compiled
def _spread_by_kind(scores: Floats, blocks: Blocks) -> None:
    # The sum over the blocks, each as SpreadScorer.by_value has it.
    scores[:] = 0.0
    for block in range(blocks.sizes.size):
        least, most = -1, -1
        for value in range(blocks.sizes[block]):
            if blocks.is_used[block, value]:
                held = blocks.counts[block, value]
                least = held if least < 0 else min(least, held)
                most = max(most, held)
        for kind in range(scores.size):
            value = blocks.kind_values[block, kind]
            scores[kind] += _block_score(block, value, least, most, blocks)


@_compiled
def _block_score(block: int, value: int, least: int, most: int, blocks: Blocks) -> float:
    if value < 0:
        return -1.0
    held = blocks.counts[block, value]
    if blocks.is_targeted[block]:
        desired = blocks.desired[block, value]
        if desired <= 0.0:
            return -1.0
        score: float = ((desired - (held + 1)) / desired) * blocks.weights[block]
        return score
    if least < 0:
        return 0.0
    if held != least:
        return (least - held) / least if least > 0 else -1.0
    if least == most:
        return -1.0
    return (most - least) / least if least > 0 else 1.0


@_compiled
def _count(kind: int, blocks: Blocks) -> None:
    for block in range(blocks.sizes.size):
        value = blocks.kind_values[block, kind]
        if value >= 0:
            blocks.counts[block, value] += 1
            blocks.is_used[block, value] = 1


@_compiled
def _queues(kind_of: Ints, kinds: int, total: Floats, parts: Ints) -> tuple[Ints, Ints, Ints]:
    # One heap for each (kind, parts): where each starts in `heap`, and its size. Each has
    # room for all nodes of the kind, for taking moves a node from one to another.
    starts = np.zeros((kinds, _PARTS_END), np.int64)
    size = np.zeros((kinds, _PARTS_END), np.int64)
    members = np.zeros(kinds, np.int64)
    for position in range(kind_of.size):
        members[kind_of[position]] += 1
    end = 0
    for kind in range(kinds):
        for part in range(1, _PARTS_END):
            starts[kind, part] = end
            end += members[kind]
    heap = np.empty(end, np.int64)
    for position in range(kind_of.size):
        kind, part = kind_of[position], parts[position]
        heap[starts[kind, part] + size[kind, part]] = position
        size[kind, part] += 1
    for kind in range(kinds):
        for part in range(1, _PARTS_END):
            _heapify(heap, starts[kind, part], size[kind, part], total)
    return heap, starts, size


@_compiled
def spread(
    wanted: int,
    nodes: Ints,
    fits: Ints,
    total: Floats,
    parts: Ints,
    kind_of: Ints,
    blocks: Blocks,
    scoring: Scoring,
) -> tuple[Ints, Floats]:
    """Place with spread blocks: the best of the heads of all queues, see kinds.py.

    Args and result as `greedy`; `kind_of` gives the number of each node's kind.
    """
    kinds = blocks.kind_values.shape[1]
    heap, starts, size = _queues(kind_of, kinds, total, parts)
    taken = np.zeros(nodes.size, np.int64)
    extra = np.zeros(kinds, np.float64)
    chosen = np.empty(wanted, np.int64)
    scores = np.empty(wanted, np.float64)
    for done in range(wanted):
        _spread_by_kind(extra, blocks)
        best, best_score = -1, -np.inf
        for kind in range(kinds):
            for part in range(1, _PARTS_END):
                if size[kind, part] == 0:
                    continue
                position = heap[starts[kind, part]]
                score = (total[position] + extra[kind]) / (part + (extra[kind] != 0.0))
                if score > best_score or (score == best_score and position < best):
                    best, best_score = position, score
        if best < 0:
            return chosen[:done], scores[:done]
        chosen[done], scores[done] = nodes[best], best_score
        kind, part = kind_of[best], parts[best]
        size[kind, part] -= 1
        heap[starts[kind, part]] = heap[starts[kind, part] + size[kind, part]]
        _sink(heap, starts[kind, part], size[kind, part], 0, total)
        _count(kind, blocks)
        taken[best] += 1
        if taken[best] < fits[best]:
            _renew(best, nodes[best], taken[best], total, parts, scoring)
            part = parts[best]
            heap[starts[kind, part] + size[kind, part]] = best
            _rise(heap, starts[kind, part], size[kind, part], total)
            size[kind, part] += 1
    return chosen, scores


class Rows(NamedTuple):
    """A kept column (core.scheduler.standing), and what it is renewed from."""

    column: Floats
    lacks: NDArray[np.int8]
    short: Ints  # [1 + dimensions, node classes]
    peaks: Floats  # the best of each `BLOCK` nodes
    eligible: Mask
    class_of: Ints
    disk_capacity: Ints
    disk_used: Ints
    disk: int  # asked


@_compiled
def peak(block: int, rows: Rows) -> None:
    """Find the best of one block anew."""
    best = -np.inf
    for node in range(block * BLOCK, min((block + 1) * BLOCK, rows.column.size)):
        best = max(best, rows.column[node])
    rows.peaks[block] = best


@_compiled
def _lack(node: int, rows: Rows, scoring: Scoring) -> int:
    if not rows.eligible[node]:
        return 0
    if 0 < scoring.cpu > scoring.cpu_capacity[node] - scoring.cpu_used[node]:
        return 1
    if 0 < scoring.memory > scoring.memory_capacity[node] - scoring.memory_used[node]:
        return 2
    if 0 < rows.disk > rows.disk_capacity[node] - rows.disk_used[node]:
        return 3
    return 0


@_compiled
def follow(changed: Ints, newest: Ints, first: int, end: int, rows: Rows, scoring: Scoring) -> None:
    """Renew what changed from `first` to `end`: each node once, where it is named last."""
    for place in range(first, end):
        node = changed[place]
        if newest[node] != place:
            continue
        lack = _lack(node, rows, scoring)
        rows.short[rows.lacks[node], rows.class_of[node]] -= 1
        rows.short[lack, rows.class_of[node]] += 1
        rows.lacks[node] = lack
        if rows.eligible[node] and lack == 0:
            _write(node, _fitness(node, 0, scoring), rows)
        else:
            _write(node, -np.inf, rows)


@_compiled
def _write(node: int, score: float, rows: Rows) -> None:
    # One element of the column, and the best of its block.
    block = node // BLOCK
    before = rows.column[node]
    rows.column[node] = score
    if score >= rows.peaks[block]:
        rows.peaks[block] = score
    elif before == rows.peaks[block]:
        peak(block, rows)


@_compiled
def _held(node: int, most: int, rows: Rows, scoring: Scoring) -> int:
    # How many instances a node holds, at most `most`.
    if scoring.cpu > 0:
        left = scoring.cpu_capacity[node] - scoring.cpu_used[node]
        most = min(most, left // scoring.cpu)
    if scoring.memory > 0:
        left = scoring.memory_capacity[node] - scoring.memory_used[node]
        most = min(most, left // scoring.memory)
    if rows.disk > 0:
        left = rows.disk_capacity[node] - rows.disk_used[node]
        most = min(most, left // rows.disk)
    return most


@_compiled
def few(
    wanted: int, group_count: int, is_alone: bool, rows: Rows, scoring: Scoring
) -> tuple[Ints, Floats]:
    """Choose nodes for a few instances of a group that has none; see Standings.choose."""
    chosen = np.empty(wanted, np.int64)
    scores = np.empty(wanted, np.float64)
    for done in range(wanted):
        best = -np.inf
        block = -1
        for other in range(rows.peaks.size):
            if rows.peaks[other] > best:
                best = rows.peaks[other]
                block = other
        if block < 0:
            return chosen[:done], scores[:done]
        node = block * BLOCK
        while rows.column[node] != best:
            node += 1
        taken = 0
        for earlier in range(done):
            taken += chosen[earlier] == node
        chosen[done], scores[done] = node, best
        crowd = -(taken + 2) / max(group_count, 1)
        if is_alone or _held(node, taken + 2, rows, scoring) < taken + 2:
            _write(node, -np.inf, rows)
        else:
            _write(node, (_fitness(node, taken + 1, scoring) + crowd) / 2, rows)
    return chosen, scores
