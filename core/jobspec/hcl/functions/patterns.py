"""Regular expressions, by RE2: Go's syntax, and time linear in the text whatever the pattern."""

import re
from collections.abc import Iterator
from typing import Any, Final

from core.jobspec.hcl import limits
from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_string

_GROUP_NAME = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")
# RE2 is linear for one match; these bound the search for all of them (a quarter of a second).
_PATTERN_CHARS: Final = 500
_TEXT_CHARS: Final = 32_768
_MATCHES: Final = 4096


def _pattern(pattern: Any) -> Any:
    """Return the compiled pattern. RE2 also bounds the memory a pattern may need."""
    import re2

    text = to_string(pattern)
    if len(text) > _PATTERN_CHARS:
        raise ValueProblem(f"a pattern has at most {_PATTERN_CHARS} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueProblem(f'the pattern "{text}" is not a regular expression: {reason}') from None


def _matches(compiled: Any, text: str) -> Iterator[Any]:
    """Yield the matches as Go has them: none that is empty and touches the one before."""
    end = -1
    for number, found in enumerate(compiled.finditer(text)):
        if number == _MATCHES:
            raise ValueProblem(f"the pattern matches more than {_MATCHES} times")
        if found.start() == found.end() == end:
            continue
        end = found.end()
        yield found


def _subject(text: Any) -> str:
    subject = to_string(text)
    if len(subject) > _TEXT_CHARS:
        raise ValueProblem(f"a text to search has at most {_TEXT_CHARS} characters")
    return subject


def _groups(found: Any) -> Any:
    """Return what a match gives: named groups a map, others a list, none the text itself."""
    if found.re.groupindex:
        return {name: found.group(name) for name in found.re.groupindex}
    return list(found.groups()) if found.re.groups else found.group()


def _regex(pattern: Any, text: Any) -> Any:
    found = _pattern(pattern).search(_subject(text))
    if found is None:
        raise ValueProblem("the pattern does not match")
    return _groups(found)


def _regexall(pattern: Any, text: Any) -> list[Any]:
    return [_groups(found) for found in _matches(_pattern(pattern), _subject(text))]


def _template(replacement: str, compiled: Any) -> list[str | int]:
    """Return a replacement in Go's form, `$1`, `${name}` and `$$`, as texts and group numbers.

    A name that no group has stands for nothing, as in Go.
    """
    parts: list[str | int] = []
    end = 0
    for found in _GROUP_NAME.finditer(replacement):
        parts.append(replacement[end : found.start()])
        end = found.end()
        name = found.group(2) or found.group(3)
        if found.group(1):
            parts.append("$")
        elif not name.isascii() or not name.isdigit():
            parts.append(compiled.groupindex.get(name, ""))
        else:
            parts.append(int(name) if int(name[:6]) <= compiled.groups else "")
    return [*parts, replacement[end:]]


def _regex_replace(text: Any, pattern: Any, replacement: Any) -> str:
    """Return `text` with each match of the pattern replaced, as Go's ReplaceAllString does."""
    whole, compiled = _subject(text), _pattern(pattern)
    template = _template(to_string(replacement), compiled)
    made: list[str] = []
    end = size = 0
    for found in _matches(compiled, whole):
        parts = [p if isinstance(p, str) else found.group(p) or "" for p in template]
        made += [whole[end : found.start()], *parts]
        size += sum(map(len, parts))
        end = found.end()
        if size > limits.STRING_CHARS:
            raise ValueProblem(f"the text would have more than {limits.STRING_CHARS} characters")
    return "".join(made) + whole[end:]


def _steps_text_first(text: Any, *_: Any) -> int:
    return 4 * len(text) if isinstance(text, str) else 1


def _steps_pattern_first(_: Any, text: Any) -> int:
    return _steps_text_first(text)


FUNCTIONS: Final = {
    "regex": Function(_regex, 2, 2, _steps_pattern_first),
    "regex_replace": Function(_regex_replace, 3, 3, _steps_text_first),
    "regexall": Function(_regexall, 2, 2, _steps_pattern_first),
}
