"""Functions on strings and regular expressions."""

import re
from collections.abc import Callable
from typing import Any, Final

from core.jobspec.hcl.functions.function import Function, as_list
from core.jobspec.hcl.values import (
    ValueProblem,
    number_text,
    to_bool,
    to_int,
    to_number,
    to_string,
)

_MAX_WIDTH: Final = 1000
_PATTERN_CHARS: Final = 500


def _plain(function: Callable[[str], Any]) -> Function:
    return Function(lambda value: function(to_string(value)), 1, 1)


def _trim(text: Any, characters: Any) -> str:
    return to_string(text).strip(to_string(characters))


def _indent(width: Any, text: Any) -> str:
    return to_string(text).replace("\n", "\n" + " " * min(to_int(width), _MAX_WIDTH))


def _join(separator: Any, *lists: Any) -> str:
    items = [to_string(item) for one in lists for item in as_list(one)]
    return to_string(separator).join(items)


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


def _pattern(pattern: Any) -> re.Pattern[str]:
    text = to_string(pattern)
    # Python's engine can take exponential time; nested repeats are where it does.
    if len(text) > _PATTERN_CHARS:
        raise ValueProblem(f"a pattern has at most {_PATTERN_CHARS} characters")
    if re.search(r"[*+}][^()]*\)[*+{]", text):
        raise ValueProblem(f"the pattern {text!r} repeats a repetition, which may never end")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueProblem(f"the pattern {text!r} is not a regular expression: {error}") from None


_REGEX_TEXT_CHARS: Final = 20_000


def _subject(text: Any) -> str:
    subject = to_string(text)
    if len(subject) > _REGEX_TEXT_CHARS:
        raise ValueProblem(f"a text to search has at most {_REGEX_TEXT_CHARS} characters")
    return subject


def _regex_replace(text: Any, pattern: Any, replacement: Any) -> str:
    # Go writes groups as $1 and ${name}.
    new = re.sub(r"\$\{(\w+)\}|\$(\w+)", r"\\g<\1\2>", to_string(replacement).replace("\\", r"\\"))
    try:
        return _pattern(pattern).sub(new, _subject(text))
    except (re.error, IndexError) as error:
        raise ValueProblem(f"the replacement does not fit the pattern: {error}") from None


def _regex(pattern: Any, text: Any) -> Any:
    found = _pattern(pattern).search(_subject(text))
    if found is None:
        raise ValueProblem("the pattern does not match")
    if found.re.groupindex:
        return found.groupdict()
    return list(found.groups()) if found.re.groups else found.group()


def _title(text: str) -> str:
    return re.sub(r"(^|[^\w'])(\w)", lambda m: m.group(1) + m.group(2).upper(), text)


_VERB = re.compile(r"%(?:(%)|([-+ 0#]*)(\d*)(?:\.(\d+))?([a-zA-Z]))")


def format_text(pattern: Any, *arguments: Any) -> str:
    """Return Go's `fmt.Sprintf` for the verbs HCL knows: %v %s %q %d %f %g %e %t %x %b %o."""
    pending = list(arguments)

    def one(match: re.Match[str]) -> str:
        if match.group(1):
            return "%"
        _, flags, width, precision, verb = match.groups()
        if not pending:
            raise ValueProblem(f"there is no argument for {match.group()}")
        text = _verb(verb, flags, precision, pending.pop(0))
        size = int(width[:6] or 0) if width else 0
        if size > _MAX_WIDTH:
            raise ValueProblem(f"a width is at most {_MAX_WIDTH}")
        if "-" in flags:
            return text.ljust(size)
        if "0" in flags and verb in "dfgexXbo":
            return text.zfill(size)
        return text.rjust(size)

    result = _VERB.sub(one, to_string(pattern))
    if pending:
        raise ValueProblem(f"{len(pending)} argument(s) too many for the pattern")
    return result


def _verb(verb: str, flags: str, precision: str | None, value: Any) -> str:
    if verb in "vs":
        text = "null" if value is None else _any_text(value)
        return text if precision is None else text[: int(precision[:6])]
    if verb == "q":
        from core.jobspec.hcl.functions.encoding import encode_json

        return encode_json(to_string(value))
    if verb == "t":
        return to_string(to_bool(value))
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in "dxXbo":
        return format(to_int(value), sign + verb)
    if verb in "feEgG":
        digits = min(int(precision or 6), 100)
        if verb in "gG" and precision is None:
            return number_text(float(to_number(value)))
        return format(float(to_number(value)), f"{sign}.{digits}{verb}")
    raise ValueProblem(f"there is no verb %{verb}")


def _any_text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        from core.jobspec.hcl.functions.encoding import encode_json

        return encode_json(value)
    return to_string(value)


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
    whole, search = to_string(text), to_string(old)
    if len(search) > 1 and search.startswith("/") and search.endswith("/"):
        return _regex_replace(whole, search[1:-1], new)
    if not search:
        raise ValueProblem("the text to replace is empty")
    return whole.replace(search, to_string(new))


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
    "regex": Function(_regex, 2, 2),
    "regex_replace": Function(_regex_replace, 3, 3),
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
