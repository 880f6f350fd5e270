"""From the attributes of a block to the fields of a record, with the line of what is wrong.

A table of `Key`s says which attributes a block may have, what field each fills and what
kind of value it takes. Whatever the table lacks is an error that names what was meant.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from core.jobspec.diagnostics import SourceError, did_you_mean
from core.jobspec.durations import parse_duration_ns
from core.jobspec.hcl.body import Attribute, Block, Body
from sim.distributions import parse_bytes_per_s, parse_distribution, parse_rate
from sim.plans import ALWAYS, AT_END


class Key(NamedTuple):
    field: str
    kind: str  # of _KINDS


Keys = Mapping[str, Key]


class _Wrong(Exception):
    """What the value must be."""


def values_of(
    body: Body, keys: Keys, blocks: Iterable[str] = (), *, required: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the fields that the attributes of a body give.

    Raises:
        SourceError: An attribute or a block is unknown, missing, or of a wrong value.
    """
    only(body, keys, blocks)
    for name in required:
        if name not in body.attributes:
            raise body.error(body.span, f"{name!r} is missing")
    return {
        keys[name].field: _convert(body, attribute, keys[name].kind)
        for name, attribute in body.attributes.items()
    }


def only(body: Body, keys: Iterable[str], blocks: Iterable[str]) -> None:
    """Refuse what is neither among the keys nor among the blocks."""
    known = [*keys, *blocks]
    for name, attribute in body.attributes.items():
        if name not in keys:
            hint = did_you_mean(name, known) or _these("it takes", known)
            raise body.error(attribute.span, f"there is no {name!r} here", hint=hint)
    for block in body.blocks:
        if block.type not in blocks:
            hint = did_you_mean(block.type, known) or _these("it takes", known)
            raise body.error(block.span, f"there is no {block.type!r} block here", hint=hint)


def _these(words: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"{words} {listed}" if listed else "it takes nothing"


def label_of(block: Block) -> str:
    """Return the one label of a block."""
    if len(block.labels) != 1:
        raise block.body.error(block.span, f'a {block.type} block has one name: {block.type} "..."')
    return block.labels[0]


def one_of(block: Block, names: Iterable[str], what: str) -> str:
    """Return the label of a block, which must be one of these names."""
    known = list(names)
    label = label_of(block)
    if label not in known:
        raise block.body.error(
            block.label_spans[0],
            f"there is no {what} {label!r}: {', '.join(known)}",
            hint=did_you_mean(label, known),
        )
    return label


def value_error(body: Body, name: str, message: str, hint: str = "") -> SourceError:
    """Return an error at an attribute's value, or at the body when it is not written."""
    attribute = body.attributes.get(name)
    span = body.span if attribute is None else attribute.value_span
    return body.error(span, message, hint=hint)


def _convert(body: Body, attribute: Attribute, kind: str) -> Any:
    try:
        return _KINDS[kind](attribute.value)
    except _Wrong as wrong:
        message = f"{attribute.name!r} must be {wrong}"
    except ValueError as error:
        message = f"{attribute.name!r}: {error}"
    raise body.error(attribute.value_span, message)


def duration_us(value: Any) -> int:
    try:
        us = parse_duration_ns(value if isinstance(value, str) else "") // 1_000
    except ValueError:
        us = -1
    if us < 0:
        raise _Wrong('a duration such as "1h30m" or "50ms"')
    return us


def _when(value: Any) -> int:
    words = {"end": AT_END, "always": ALWAYS}
    if isinstance(value, str) and value in words:
        return words[value]
    try:
        return duration_us(value)
    except _Wrong:
        raise _Wrong('a duration such as "10m", or "end", or "always"') from None


def _span(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Wrong('two times, as in ["10m", "2h"]')
    begin_us, end_us = duration_us(value[0]), duration_us(value[1])
    if begin_us >= end_us:
        raise _Wrong("two times, the earlier one first")
    return begin_us, end_us


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: Any) -> int:
    if not _is_number(value) or value != int(value) or value < 0:
        raise _Wrong("a whole number, not negative")
    return int(value)


def _signed(value: Any) -> int:
    if not _is_number(value) or value != int(value) or abs(value) > 500_000:
        raise _Wrong("a whole number from -500000 to 500000")
    return int(value)


def _fraction(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise _Wrong("a number from 0 to 1")
    return float(value)


def _amount(value: Any) -> float:
    if not _is_number(value) or not 0 < value < 1e12:
        raise _Wrong("a number more than 0")
    return float(value)


def _count(value: Any) -> float:
    if not _is_number(value) or not 0 <= value < 1e12:
        raise _Wrong("a number, not negative")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong("a string")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, str) and item for item in listed):
        raise _Wrong("a string, or a list of strings")
    return tuple(listed)


def _pools(value: Any) -> bool:
    if value not in ("cold", "formed"):
        raise _Wrong('"cold" or "formed"')
    return bool(value == "formed")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _map(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong("a map")
    return {str(key): _plain(item) for key, item in value.items()}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _nested(value: Any) -> dict[str, dict[str, int]]:
    example = '{ eu = { us = "80ms" } }'
    if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
        raise _Wrong(f"a map of maps of durations: {example}")
    return {
        one: {other: duration_us(time) for other, time in row.items()} for one, row in value.items()
    }


_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "duration": duration_us,
    "when": _when,
    "span": _span,
    "integer": _integer,
    "signed": _signed,
    "fraction": _fraction,
    "amount": _amount,
    "count": _count,
    "text": _text,
    "texts": _texts,
    "places": lambda value: ", ".join(_texts(value)),
    "flag": _flag,
    "pools": _pools,
    "map": _map,
    "matrix": _nested,
    "distribution": lambda value: parse_distribution(
        repr(value) if _is_number(value) else _text(value)
    ),
    "rate": lambda value: parse_rate(_text(value)),
    "bandwidth": lambda value: parse_bytes_per_s(_text(value)),
    "seconds": lambda value: duration_us(value) / 1e6,
}
