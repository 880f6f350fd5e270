"""Scores: how good a node is for one more instance.

A node's score is the mean of the components that apply, each within [-1, 1]:

* bin-pack (always): Google's best-fit-v3 as Nomad has it, `20 - 10^free_cpu - 10^free_mem`
  after the placement, minus an imbalance term `2*|free_cpu - free_mem|` (DESIGN, "The way of
  a job": it strands less), cut to [0, 18] and divided by 18. With the algorithm "nomad"
  without the imbalance term; with "spread" `10^free_cpu + 10^free_mem - 2`, so that the
  emptiest node wins;
* job anti-affinity: `-(collisions + 1) / count` where instances of the group run already;
* node penalty: -1 where the instance that is replaced failed;
* affinity: weight of the met ones over the sum of all weights, where it is not 0;
* spread: see spread.py, where it is not 0.

Float rules, so that numpy, a compiled kernel and a loop in Python agree bit for bit: float64;
only + - * / abs, minimum and maximum, in the order written here; no fused multiply-add;
powers only through `power10`, which is made of the same operations. Used and asked
resources are integers, so a node's factor `10^free` depends on its state alone and not on
the way it got there.
"""

from decimal import Decimal
from typing import Final

import numpy as np

from core.scheduler.view import Floats

BINPACK: Final = "binpack"
SPREAD: Final = "spread"
NOMAD: Final = "nomad"  # Nomad's formula, and its choice among a few sampled nodes
ALGORITHMS: Final = (BINPACK, SPREAD, NOMAD)

_STEPS: Final = 64  # table entries for each whole exponent
_SPAN: Final = 2  # exponents from -2 to 2
TABLE: Final = np.array(
    [
        float(Decimal(10) ** (Decimal(n) / _STEPS))
        for n in range(-_SPAN * _STEPS, _SPAN * _STEPS + 1)
    ]
)
_ENTRIES: Final[list[float]] = TABLE.tolist()
_LN10: Final = 2.302585092994046
_COEFFICIENTS: Final = (  # ln(10)^k / k!, for k from 6 down to 1
    0.20699584869686811,
    0.5393829291955815,
    1.1712551489122673,
    2.034678592293477,
    2.650949055239199,
    _LN10,
)
COEFFICIENTS: Final = np.array(_COEFFICIENTS)
SCORE_MAX: Final = 18.0


def power10(exponent: Floats) -> Floats:
    """Return 10^x for x in [-2, 2] (others are cut to it), the same on every machine.

    The nearest table entry times a polynomial of the rest; relative error below 1e-15.
    """
    x = np.minimum(np.maximum(exponent, -float(_SPAN)), float(_SPAN))
    nearest = np.rint(x * _STEPS)
    rest = x - nearest / _STEPS
    polynomial = np.full_like(rest, _COEFFICIENTS[0])
    for coefficient in _COEFFICIENTS[1:]:
        polynomial = polynomial * rest + coefficient
    polynomial = polynomial * rest + 1.0
    result: Floats = TABLE[(nearest + _SPAN * _STEPS).astype(np.int64)] * polynomial
    return result


def power10_one(exponent: float) -> float:
    """Return what `power10` returns for one value: the same operations, without arrays."""
    x = min(max(exponent, -float(_SPAN)), float(_SPAN))
    nearest = round(x * _STEPS)  # to even, as rint
    rest = x - nearest / _STEPS
    polynomial = _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:]:
        polynomial = polynomial * rest + coefficient
    return _ENTRIES[nearest + _SPAN * _STEPS] * (polynomial * rest + 1.0)


def fitness_one(
    cpu_factor: float, memory_factor: float, cpu_left: float, memory_left: float, algorithm: str
) -> float:
    """Return what `fitness` returns for one node."""
    total = cpu_factor + memory_factor
    if algorithm == SPREAD:
        score = total - 2.0
    elif algorithm == NOMAD:
        score = 20.0 - total
    else:
        score = (20.0 - total) - 2.0 * abs(cpu_left - memory_left)
    return min(max(score, 0.0), SCORE_MAX) / SCORE_MAX


def fitness(
    cpu_factor: Floats,
    memory_factor: Floats,
    cpu_left: Floats,
    memory_left: Floats,
    *,
    algorithm: str,
) -> Floats:
    """Return the bin-pack (or spread) component.

    Args:
        cpu_factor, memory_factor: `10^free * 10^-ask`, elementwise.
        cpu_left, memory_left: Free share of the capacity after the placement.
    """
    total = cpu_factor + memory_factor
    if algorithm == SPREAD:
        score = total - 2.0
    elif algorithm == NOMAD:
        score = 20.0 - total
    else:
        score = (20.0 - total) - 2.0 * np.abs(cpu_left - memory_left)
    result: Floats = np.minimum(np.maximum(score, 0.0), SCORE_MAX) / SCORE_MAX
    return result
