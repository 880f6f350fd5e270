"""Functions on numbers."""

import math
from typing import Any, Final

from core.jobspec.hcl import limits
from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, tidy, to_int, to_number, to_string

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_DIGITS: Final = 4 * limits.NUMBER_CHARS


def _log(value: Any, base: Any) -> int | float:
    number, of = to_number(value), to_number(base)
    if number <= 0 or of <= 0 or of == 1:
        raise ValueProblem("a logarithm needs positive numbers and a base that is not 1")
    return tidy(math.log(number, of))


def _pow(value: Any, exponent: Any) -> int | float:
    base, power = to_number(value), to_number(exponent)
    if isinstance(base, int) and isinstance(power, int) and power >= 0:
        if base.bit_length() * power > 4 * limits.NUMBER_CHARS:
            raise ValueProblem("this number is too large")
        return tidy(base**power)
    if base < 0 or (base == 0 and power < 0):
        raise ValueProblem("this power is not a number")
    return tidy(float(base) ** float(power))


def _parseint(text: Any, base: Any) -> int:
    digits, radix = to_string(text), to_int(base)
    if not 2 <= radix <= 62:
        raise ValueProblem("the base is between 2 and 62")
    unsigned = digits[1:] if digits[:1] in {"+", "-"} else digits
    # Beyond 36 a letter's case tells: a is 10, A is 36.
    values = [_DIGITS.find(c if radix > 36 else c.lower()) for c in unsigned[:_MAX_DIGITS]]
    if not values or len(unsigned) > _MAX_DIGITS or not all(0 <= v < radix for v in values):
        raise ValueProblem(f'"{digits[:40]}" is not a number of base {radix}')
    number = 0
    for value in values:
        number = number * radix + value
    return int(tidy(-number if digits[0] == "-" else number))


def _max(*values: Any) -> int | float:
    return max(to_number(value) for value in values)


def _min(*values: Any) -> int | float:
    return min(to_number(value) for value in values)


def _signum(value: Any) -> int:
    number = to_number(value)
    return (number > 0) - (number < 0)


FUNCTIONS: Final = {
    "abs": Function(lambda value: abs(to_number(value)), 1, 1),
    "ceil": Function(lambda value: math.ceil(to_number(value)), 1, 1),
    "floor": Function(lambda value: math.floor(to_number(value)), 1, 1),
    "log": Function(_log, 2, 2),
    "max": Function(_max, 1),
    "min": Function(_min, 1),
    "parseint": Function(_parseint, 2, 2),
    "pow": Function(_pow, 2, 2),
    "signum": Function(_signum, 1, 1),
    "tonumber": Function(to_number, 1, 1),
    "tostring": Function(to_string, 1, 1),
}
