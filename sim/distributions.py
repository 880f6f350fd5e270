"""How long things take, and how large they are, as a scenario and a job file write it.

    90s                            always the same; a bare number is seconds
    10s..30s                       uniform
    exponential(60s)               by its mean
    lognormal(2m, 1.5)             by its median and the standard deviation of the logarithm
    pareto(10s, 1.2)               by its least value and its exponent
    weibull(1h, 0.7)               by scale and shape
    lognormal(2m, 1.5, 6h)         a last argument caps what is drawn

Values are floats: seconds for times, plain numbers for sizes.
"""

import math
import random
import re
from collections.abc import Callable
from typing import Final

import msgspec

from core.model.durations import parse_duration_ns

_CALL: Final = re.compile(r"\s*([a-z]+)\s*\(([^()]*)\)\s*")
_EXAMPLE: Final = '"90s", "10s..30s", "exponential(1m)" or "lognormal(2m, 1.5, 6h)"'


class Distribution(msgspec.Struct, frozen=True):
    """What a text says. `parameters` in seconds or plain numbers; `cap` 0.0: none."""

    text: str
    kind: str
    parameters: tuple[float, ...]
    cap: float = 0.0

    def draw(self, rng: random.Random) -> float:
        """Return a value, never negative."""
        value = max(0.0, _DRAWS[self.kind](rng, *self.parameters))
        return min(value, self.cap) if self.cap else value

    def draw_us(self, rng: random.Random) -> int:
        return int(self.draw(rng) * 1e6)


def _exponential(rng: random.Random, mean: float) -> float:
    return rng.expovariate(1.0 / mean) if mean else 0.0


def _lognormal(rng: random.Random, median: float, sigma: float) -> float:
    return rng.lognormvariate(math.log(median), sigma) if median else 0.0


_DRAWS: Final[dict[str, Callable[..., float]]] = {
    "constant": lambda _rng, value: value,
    "uniform": lambda rng, low, high: low + rng.random() * (high - low),
    "exponential": _exponential,
    "lognormal": _lognormal,
    "pareto": lambda rng, least, exponent: least * rng.paretovariate(exponent),
    "weibull": lambda rng, scale, shape: rng.weibullvariate(scale, shape),
}
_ARGUMENTS: Final = {"exponential": 1, "lognormal": 2, "pareto": 2, "weibull": 2}


def parse_distribution(text: str) -> Distribution:
    """Return what a text says.

    Raises:
        ValueError: It is no distribution; the message gives examples.
    """
    low, dots, high = text.partition("..")
    if dots:
        ends = (_value(low), _value(high))
        if ends[0] > ends[1]:
            raise ValueError(f"{text!r} ends below where it begins")
        return Distribution(text, "uniform", ends)
    call = _CALL.fullmatch(text)
    if call is None:
        return Distribution(text, "constant", (_value(text),))
    kind = call[1]
    if kind not in _ARGUMENTS:
        raise ValueError(f"there is no distribution {kind!r}: {', '.join(_ARGUMENTS)}")
    wanted = _ARGUMENTS[kind]
    values = [_value(part) for part in call[2].split(",")]
    if len(values) not in (wanted, wanted + 1):
        raise ValueError(
            f"{kind}(...) takes {wanted} arguments and perhaps a cap, as in {_EXAMPLE}"
        )
    if kind in ("pareto", "weibull") and values[1] <= 0:
        raise ValueError(f"the second argument of {kind}(...) must be more than 0")
    cap = values[wanted] if len(values) > wanted else 0.0
    return Distribution(text, kind, tuple(values[:wanted]), cap)


def _value(text: str) -> float:
    """Return seconds of a duration, or a plain number."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        try:
            value = parse_duration_ns(text) / 1e9
        except ValueError:
            raise ValueError(f"{text!r} is no time and no number; write {_EXAMPLE}") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{text!r} is negative or without end")
    return value


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def parse_rate(text: str) -> float:
    """Return how many a second "30/m" is.

    Raises:
        ValueError: It is no rate.
    """
    number, slash, unit = text.partition("/")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not slash or unit.strip() not in _UNITS or not 0 < value < 1e9:
        raise ValueError(f'{text!r} is no rate such as "5/s", "30/m", "2/h" or "1/d"')
    return value / _UNITS[unit.strip()]


def parse_bytes_per_s(text: str) -> float:
    """Return the bytes a second of "20 kB/s", "1.5MB/s" or "800 B/s".

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*(B|kB|MB|GB)/s\s*", text)
    if found is None:
        raise ValueError(f'{text!r} is no bandwidth such as "20 kB/s"')
    return float(found[1]) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[found[2]]
