"""Values to HCL text: strings, numbers, lists and maps as expressions, names as labels.

The text is right but not laid out: whoever writes a file passes it through format.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.jobspec.hcl.lexer import KEYWORDS

_LINE_WIDTH: Final = 88
_NAME = re.compile(r"[^\W\d][\w-]*")
_OPENERS = re.compile(r"(?<![$%])([$%]+)\{")
_SPECIAL = re.compile(r'["\\]|[^\x20-\x7e]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKERS: Final = ("EOT", "EOF", "END_OF_TEXT")


class Segment(NamedTuple):
    """A part of a string: plain text, or template syntax that stays as it is."""

    text: str
    is_syntax: bool


class Number(str):
    """A number by its spelling, so that none is rounded."""

    __slots__ = ()


Split = Callable[[str], Sequence[Segment]]


def as_text(text: str) -> Sequence[Segment]:
    """The `Split` of strings that mean themselves: no part is a template."""
    return (Segment(text, False),)


def is_name(text: str) -> bool:
    """Whether `text` may name an attribute or a block in any reader of HCL."""
    return _NAME.fullmatch(text) is not None and text.replace("-", "_").isidentifier()


def quoted(text: str, split: Split = as_text) -> str:
    """Return a string literal.

    Raises:
        ValueError: the text holds half of a surrogate pair, which is no character.
    """
    parts: list[str] = []
    segments = split(text)
    for index, segment in enumerate(segments):
        if segment.is_syntax:
            parts.append(segment.text)
            continue
        plain = _escaped(segment.text)
        if plain[-1:] in {"$", "%"} and index + 1 < len(segments):
            plain = f"{plain[:-1]}\\u{ord(plain[-1]):04x}"  # "$${" would be an escape
        parts.append(plain)
    return f'"{"".join(parts)}"'


def _escaped(text: str) -> str:
    # Of "$$${" only the last dollar may double itself: what stands before is spelled out.
    return _OPENERS.sub(
        lambda m: "".join(f"\\u{ord(c):04x}" for c in m[1][:-1]) + m[1][-1] * 2 + "{",
        _SPECIAL.sub(_escape, text),
    )


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"\\u{code:04x} is half of a surrogate pair, and no character")
    if char.isprintable():
        return char
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def heredoc(text: str, split: Split = as_text) -> str | None:
    """Return a text over several lines as a heredoc, None where that can't be exact."""
    if not text.endswith("\n") or text.count("\n") < 2:
        return None
    if not all(char.isprintable() or char in "\n\t" for char in text):
        return None
    lines = {line.strip() for line in text.split("\n")}
    marker = next((name for name in _MARKERS if name not in lines), None)
    if marker is None:
        return None
    parts: list[str] = []
    segments = split(text)
    for index, segment in enumerate(segments):
        plain = segment.text
        if not segment.is_syntax:
            if any(len(match[1]) > 1 for match in _OPENERS.finditer(plain)):
                return None
            if plain[-1:] in {"$", "%"} and index + 1 < len(segments):
                return None
            plain = _OPENERS.sub(lambda m: m[1] * 2 + "{", plain)
        parts.append(plain)
    return f"<<{marker}\n{''.join(parts)}{marker}"


def number_text(value: int | float) -> str:
    """Return a number in HCL's digits.

    Raises:
        ValueError: it is infinite, or no number at all.
    """
    text = repr(value)
    if text in {"inf", "-inf", "nan"}:
        raise ValueError(f"{text} is no number in HCL")
    return text


def expression(value: Any, split: Split = as_text) -> str:
    """Return a value of HCL (values.py; a `Number` too) as an expression.

    Raises:
        ValueError: a string or number that HCL can't hold.
    """
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return heredoc(value, split) or quoted(value, split)
    return _inner(value, split)


def _inner(value: Any, split: Split) -> str:
    """As `expression`, but never a heredoc: those need a line of their own."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return quoted(value, split)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, Mapping):
        return _object(value, split)
    return _list([_inner(item, split) for item in value])


def _list(items: Sequence[str]) -> str:
    line = f"[{', '.join(items)}]"
    if "\n" not in line and len(line) <= _LINE_WIDTH:
        return line
    return "[\n" + "".join(f"{item},\n" for item in items) + "]"


def _object(value: Mapping[str, Any], split: Split) -> str:
    if not value:
        return "{}"
    lines = [f"{_key(key)} = {expression(item, split)}\n" for key, item in value.items()]
    return "{\n" + "".join(lines) + "}"


def _key(key: str) -> str:
    # `{ for = 1 }` would begin a loop, `{ null = 1 }` look like a value.
    return key if is_name(key) and key not in KEYWORDS else quoted(key)


def header(type_: str, labels: Iterable[str] = ()) -> str:
    return " ".join([type_, *(quoted(label) for label in labels), "{"])
