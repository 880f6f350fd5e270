"""Functions on strings."""

import re
from collections.abc import Callable
from typing import Any, Final

from core.jobspec.hcl import limits
from core.jobspec.hcl.functions.formatting import MAX_WIDTH, format_text
from core.jobspec.hcl.functions.function import Function, as_list
from core.jobspec.hcl.values import ValueProblem, to_int, to_string


def _plain(function: Callable[[str], Any]) -> Function:
    return Function(lambda value: function(to_string(value)), 1, 1)


def _trim(text: Any, characters: Any) -> str:
    return to_string(text).strip(to_string(characters))


def _check_growth(size: int, added: int) -> None:
    """Refuse a text before it is made, where making it would take the memory of the host."""
    if size + added > 2 * limits.STRING_CHARS:
        raise ValueProblem(f"the text would have more than {limits.STRING_CHARS} characters")


def _indent(width: Any, text: Any) -> str:
    whole, spaces = to_string(text), min(to_int(width), MAX_WIDTH)
    _check_growth(len(whole), whole.count("\n") * spaces)
    return whole.replace("\n", "\n" + " " * spaces)


def _join(separator: Any, *lists: Any) -> str:
    items = [to_string(item) for one in lists for item in as_list(one)]
    between = to_string(separator)
    _check_growth(sum(map(len, items)), len(between) * len(items))
    return between.join(items)


def _split(separator: Any, text: Any) -> list[str]:
    by, whole = to_string(separator), to_string(text)
    if not whole:
        return [] if not by else [""]
    return whole.split(by) if by else list(whole)


def _substr(text: Any, offset: Any, length: Any) -> str:
    whole, start, count = to_string(text), to_int(offset), to_int(length)
    if start < 0:
        start = max(0, len(whole) + start)
    return whole[start:] if count < 0 else whole[start : start + count]


def _title(text: str) -> str:
    return re.sub(r"(^|[^\w'])(\w)", lambda m: m.group(1) + m.group(2).upper(), text)


def _formatlist(pattern: Any, *arguments: Any) -> list[str]:
    lengths = {len(argument) for argument in arguments if isinstance(argument, list)}
    if len(lengths) > 1:
        raise ValueProblem("all lists must be of the same length")
    count = lengths.pop() if lengths else 1
    return [
        format_text(pattern, *[a[i] if isinstance(a, list) else a for a in arguments])
        for i in range(count)
    ]


def _replace(text: Any, old: Any, new: Any) -> str:
    whole, search, other = to_string(text), to_string(old), to_string(new)
    _check_growth(len(whole), whole.count(search) * len(other))
    return whole.replace(search, other)


def _remove_prefix(text: Any, prefix: Any) -> str:
    return to_string(text).removeprefix(to_string(prefix))


def _remove_suffix(text: Any, suffix: Any) -> str:
    return to_string(text).removesuffix(to_string(suffix))


FUNCTIONS: Final = {
    "chomp": _plain(lambda text: text.rstrip("\r\n")),
    "format": Function(format_text, 1),
    "formatlist": Function(_formatlist, 1),
    "indent": Function(_indent, 2, 2),
    "join": Function(_join, 2),
    "lower": _plain(str.lower),
    "replace": Function(_replace, 3, 3),
    "split": Function(_split, 2, 2),
    "strlen": _plain(len),
    "strrev": _plain(lambda text: text[::-1]),
    "substr": Function(_substr, 3, 3),
    "title": _plain(_title),
    "trim": Function(_trim, 2, 2),
    "trimprefix": Function(_remove_prefix, 2, 2),
    "trimspace": _plain(str.strip),
    "trimsuffix": Function(_remove_suffix, 2, 2),
    "upper": _plain(str.upper),
}
