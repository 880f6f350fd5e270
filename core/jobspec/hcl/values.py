"""The values of HCL as Python's, and HCL's conversions between them.

str, int, float, bool, None, list (also for sets and tuples) and dict (maps, objects).
What only the client knows is the str of its own text: `${attr.x}`.
"""

import math
from typing import Any, Final

from core.jobspec.hcl import limits


class ValueProblem(Exception):
    """A value does not do. The evaluator adds the place."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


_TYPE_NAMES: Final = {
    str: "string", bool: "bool", int: "number", float: "number", list: "list", dict: "map",
    type(None): "null",
}  # fmt: skip
_NUMBER_LIMIT: Final = 10**limits.NUMBER_CHARS


def type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def to_string(value: Any) -> str:
    """Return a string, number or bool as a string.

    Raises:
        ValueProblem: it is a list, a map or null.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number_text(value)
    raise ValueProblem(f"a string is needed here, this is a {type_name(value)}")


def number_text(value: float) -> str:
    """Return a fraction without exponent and without the noise of binary."""
    text = format(value, ".15g")
    if "e" not in text:
        return text
    return format(value, ".20f").rstrip("0").rstrip(".") if abs(value) < 1 else str(int(value))


def to_number(value: Any) -> int | float:
    """Return a number, or a string that reads as one.

    Raises:
        ValueProblem: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueProblem(f"a number is needed here, this is a {type_name(value)}")
    if isinstance(value, str):
        return _parse_number(value)
    return value


def _parse_number(text: str) -> int | float:
    if len(text) <= limits.NUMBER_CHARS and text.isascii() and "_" not in text:
        try:
            return int(text) if text.strip() == text else int("?")
        except ValueError:
            pass
        try:
            if text.strip() == text and text.lower().strip("+-") not in {"nan", "inf", "infinity"}:
                return tidy(float(text))
        except ValueError:
            pass
    hint = "a reference such as ${attr.x} is known only where the task runs" * ("${" in text)
    raise ValueProblem(f'a number is needed here, this is the string "{text[:60]}"', hint)


def to_int(value: Any) -> int:
    number = to_number(value)
    if isinstance(number, float):
        if not number.is_integer():
            raise ValueProblem(f"a whole number is needed here, this is {number_text(number)}")
        return int(number)
    return number


def to_bool(value: Any) -> bool:
    """Return a bool, or "true"/"false" as one.

    Raises:
        ValueProblem: it is anything else.
    """
    if isinstance(value, bool):
        return value
    if value in ("true", "false") and isinstance(value, str):
        return value == "true"
    if isinstance(value, str):
        raise ValueProblem(f'true or false is needed here, this is the string "{value[:60]}"')
    raise ValueProblem(f"true or false is needed here, this is a {type_name(value)}")


def tidy(number: int | float) -> int | float:
    """Return whole fractions as int, and refuse what no job can mean.

    Raises:
        ValueProblem: the number is infinite or beyond limits.NUMBER_CHARS digits.
    """
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueProblem("this number is too large")
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if abs(number) >= _NUMBER_LIMIT:
        raise ValueProblem("this number is too large")
    return number


def is_equal(left: Any, right: Any) -> bool:
    """Return HCL's `==`: values of different types are never equal."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[k], right[k]) for k in left)
    return bool(left == right)


def check_size(value: Any) -> Any:
    """Return `value`, unless it is larger than any job file has a use for.

    Raises:
        ValueProblem: a string or collection beyond the limits.
    """
    if isinstance(value, str):
        if len(value) > limits.STRING_CHARS:
            raise ValueProblem(
                f"this string has {len(value)} characters; the limit is {limits.STRING_CHARS}"
            )
    elif isinstance(value, (list, dict)) and len(value) > limits.COLLECTION_ITEMS:
        raise ValueProblem(
            f"this collection has {len(value)} items; the limit is {limits.COLLECTION_ITEMS}"
        )
    return value
