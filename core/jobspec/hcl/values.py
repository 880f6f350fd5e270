"""The values of HCL as Python's, and HCL's conversions between them.

str, int, float, bool, None, list (also for tuples), SetValue and dict (maps, objects).
What only the client knows is the str of its own text: `${attr.x}`.
"""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from core.jobspec.hcl import limits


class ValueProblem(Exception):
    """A value does not do. The evaluator adds the place."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SetValue(list[Any]):
    """A set: no two items are equal, and none has a number. Loops give each as its own key."""


_TYPE_NAMES: Final = {
    str: "string", bool: "bool", int: "number", float: "number", list: "list", dict: "map",
    SetValue: "set", type(None): "null",
}  # fmt: skip
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WITH_UNIT = re.compile(r"[0-9.]+ ?(?:[kKmMgG](?:[iI]?[bB])?|[mMgG][hH][zZ])")
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
    if len(text) <= limits.NUMBER_CHARS and _NUMBER.fullmatch(text):
        return number_of_text(text)
    hint = "a reference such as ${attr.x} is known only where the task runs" * ("${" in text)
    if _WITH_UNIT.fullmatch(text):
        hint = "write the number alone: memory is in MB, cpu in MHz"
    raise ValueProblem(f'a number is needed here, this is the string "{text[:60]}"', hint)


def number_of_text(text: str) -> int | float:
    """Return the number that digits with a fraction or an exponent spell; whole ones exactly.

    Raises:
        ValueProblem: it has more than limits.NUMBER_CHARS digits.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond even Decimal's range
        raise ValueProblem("this number is too large") from None
    if number and number.adjusted() >= limits.NUMBER_CHARS:
        raise ValueProblem("this number is too large")
    if number and number.adjusted() < -limits.NUMBER_CHARS:
        return 0
    whole = int(number)
    return whole if whole == number else tidy(float(number))


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
    return bool(identity(left) == identity(right))


def identity(value: Any) -> Any:
    """Return something hashable that is equal for exactly the values HCL takes as equal."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, SetValue):
        return frozenset(map(identity, value))
    if isinstance(value, list):
        return "list", tuple(map(identity, value))
    if isinstance(value, dict):
        return "map", frozenset((key, identity(item)) for key, item in value.items())
    return value


def distinct(values: list[Any]) -> list[Any]:
    """Return the values in their order, the first of equal ones."""
    first: dict[Any, Any] = {}
    for value in values:
        first.setdefault(identity(value), value)
    return list(first.values())


def set_of(values: list[Any]) -> SetValue:
    """Return a set, in the order in which HCL walks it where it has one."""
    items = distinct(values)
    if all(isinstance(item, str) for item in items) or all(
        isinstance(item, (int, float)) and not isinstance(item, bool) for item in items
    ):
        items.sort()
    return SetValue(items)


def without_sets(value: Any) -> Any:
    """Return the value as an attribute has it, where a set is a list like any other."""
    if isinstance(value, list):
        return [without_sets(item) for item in value]
    if isinstance(value, dict):
        return {key: without_sets(item) for key, item in value.items()}
    return value


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
