"""The grid of a digest: how many instances of a size fit on a class of nodes, in 25 bytes.

Sums mislead: ten nodes with one free core each do not hold a ten-core task. So cell (c, m)
counts, node by node, how many instances fit that take STEPS[c] of the processor and STEPS[m]
of the memory of the class's largest node. Counts are kept as logarithms, rounded down: a
reader knows the true count within 6%, and exactly up to a dozen.

An ask between two steps is bounded from both sides: what fits of the next larger size fits of
this one too, and no more of it fits than of the next smaller.
"""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

STEPS: Final = ((1, 64), (1, 16), (1, 4), (1, 2), (3, 4))  # of the largest node, as fractions
CELLS: Final = len(STEPS) ** 2
_SCALE: Final = 12  # a cell is floor(log2(1 + count) * 12): a byte reaches two millions
_FULL: Final = 255
_ROUNDING: Final = 1e-6  # of logarithms, in counts
NO_LIMIT: Final = 1 << 40

Column = npt.NDArray[np.int64]


class Bounds(NamedTuple):
    """How many instances fit: surely, probably, and at the very most."""

    at_least: int
    likely: float
    at_most: int


def steps(largest: int) -> list[int]:
    """Return the sizes of the grid's rows (or columns) for a largest node of this size."""
    return [max(1, largest * part // whole) for part, whole in STEPS]


def make_grids(
    cpu: Column, memory: Column, starts: Column, largest: list[tuple[int, int]]
) -> list[bytes]:
    """Return one grid for each class of nodes.

    Args:
        cpu, memory: What is free on each node, MHz and MiB; the nodes of a class in a row.
        starts: Where each class begins; none is empty.
        largest: (MHz, MiB) of each class's largest node, were it empty.
    """
    if not len(starts):
        return []
    lengths = np.diff(np.append(starts, len(cpu)))
    counts = np.empty((CELLS, len(starts)), np.int64)
    cpu_sizes = np.array([steps(one) for one, _ in largest], np.int64)
    memory_sizes = np.array([steps(one) for _, one in largest], np.int64)
    columns = [_quotient(memory, memory_sizes[:, m], lengths) for m in range(len(STEPS))]
    for c in range(len(STEPS)):
        row = _quotient(cpu, cpu_sizes[:, c], lengths)
        for m, column in enumerate(columns):
            fits = np.minimum(row, column)
            counts[c * len(STEPS) + m] = np.add.reduceat(fits, starts)
    cells = np.minimum(np.floor(np.log2(1.0 + counts) * _SCALE + 1e-9), _FULL).astype(np.uint8)
    return [cells[:, number].tobytes() for number in range(len(starts))]


def _quotient(free: Column, sizes: Column, lengths: Column) -> Column:
    # Dividing by one number is several times faster than by a column of them.
    result: Column = free // (sizes[0] if len(sizes) == 1 else np.repeat(sizes, lengths))
    return result


@lru_cache(maxsize=4096)  # jobs that ask alike come in rows
def fits(grid: bytes, largest: tuple[int, int], cpu: int, memory: int) -> Bounds:
    """Return how many instances of (cpu MHz, memory MiB) fit, as far as a grid tells.

    `at_most` is NO_LIMIT below the smallest step: there the sums of what is free say more.
    """
    if len(grid) != CELLS or cpu > largest[0] or memory > largest[1]:
        return Bounds(0, 0.0, 0)
    rows, columns = steps(largest[0]), steps(largest[1])
    cpu, memory = max(cpu, 1), max(memory, 1)
    least, most = 0, NO_LIMIT
    for c, row in enumerate(rows):
        for m, column in enumerate(columns):
            cell = grid[c * len(STEPS) + m]
            if row >= cpu and column >= memory:
                # A hole of the cell's size holds so many of the ask's.
                least = max(least, _low(cell) * min(row // cpu, column // memory))
            if row <= cpu and column <= memory:
                # An instance of the ask holds so many of the cell's size.
                most = min(most, _high(cell) // min(cpu // row, memory // column))
    likely = _interpolated(grid, _way(rows, cpu, largest[0]), _way(columns, memory, largest[1]))
    return Bounds(least, min(max(likely, least), most), max(most, least))


def _way(sizes: list[int], asked: int, largest: int) -> tuple[int, float]:
    """Return the step below (-1 = none) and how far from there to the next, 0 to 1."""
    below = max((i for i, size in enumerate(sizes) if size <= asked), default=-1)
    low = sizes[below] if below >= 0 else 0
    high = sizes[below + 1] if below + 1 < len(sizes) else largest
    return below, min(1.0, (asked - low) / max(high - low, 1))


def _interpolated(grid: bytes, row: tuple[int, float], column: tuple[int, float]) -> float:
    # Between the logarithms of the four cells around the ask; beyond the last step is nothing.
    total = 0.0
    for c, c_share in ((row[0], 1 - row[1]), (row[0] + 1, row[1])):
        for m, m_share in ((column[0], 1 - column[1]), (column[0] + 1, column[1])):
            if c < len(STEPS) and m < len(STEPS):
                cell = grid[max(c, 0) * len(STEPS) + max(m, 0)]
                total += cell / _SCALE * c_share * m_share
    return float(2.0**total - 1)


def _low(cell: int) -> int:
    return math.ceil(2.0 ** (cell / _SCALE) - 1 - _ROUNDING) if cell else 0


def _high(cell: int) -> int:
    if cell == _FULL:
        return NO_LIMIT
    return math.floor(2.0 ** ((cell + 1) / _SCALE) - 1 + _ROUNDING) if cell else 0
