"""`format`: Go's verbs as HCL knows them.

    %v  any value as it stands in a template, collections as JSON     %#v  all as JSON
    %s %q  a string, plain or quoted          %t  true or false
    %d %b %o %x %X  a whole number            %e %E %f %g %G  a number with a fraction

Between `%` and the verb may stand flags (`-`, `+`, a space, `0`, `#`), a width, a precision
and `[2]`, the number of the argument that is meant.
"""

import re
from typing import Any, Final

from core.jobspec.hcl.values import (
    ValueProblem,
    number_text,
    to_bool,
    to_int,
    to_number,
    to_string,
    type_name,
)

MAX_WIDTH: Final = 1000
_MAX_PRECISION: Final = 100
_VERB = re.compile(r"%(?:(%)|([-+ 0#]*)(\d*)(?:(\.)(\d*))?(?:\[(\d+)\])?([a-zA-Z]))?")


def format_text(pattern: Any, *arguments: Any) -> str:
    """Return the pattern with each verb replaced by its argument.

    Raises:
        ValueProblem: an unknown verb, a value that does not suit it, too many or too few.
    """
    made: list[str] = []
    text, end, following, last = to_string(pattern), 0, 0, 0
    for match in _VERB.finditer(text):
        made.append(text[end : match.start()])
        end = match.end()
        percent, flags, width, dot, precision, place, verb = match.groups()
        if percent:
            made.append("%")
            continue
        if verb is None:
            raise ValueProblem(f'the verb "{text[match.start() : end + 5]}" is not complete')
        index = int(place[:6]) if place else following + 1
        if not 1 <= index <= len(arguments):
            raise ValueProblem(f"there is no argument {index} for {match.group()}")
        following, last = index, max(last, index)
        digits = (int(precision[:6] or 0) if precision else 0) if dot else None
        shown = _shown(verb, flags, digits, arguments[index - 1])
        made.append(_padded(shown, flags, int(width[:6] or 0), verb))
    if last < len(arguments):
        raise ValueProblem(f"{len(arguments) - last} argument(s) too many for the pattern")
    return "".join(made) + text[end:]


def _padded(shown: str, flags: str, width: int, verb: str) -> str:
    if width > MAX_WIDTH:
        raise ValueProblem(f"a width is at most {MAX_WIDTH}")
    if "-" in flags:
        return shown.ljust(width)
    is_number = verb in "dbxXoeEfgG" or (verb == "v" and re.fullmatch(r"-?[0-9.]+", shown))
    return shown.zfill(width) if "0" in flags and is_number else shown.rjust(width)


def _shown(verb: str, flags: str, precision: int | None, value: Any) -> str:
    if verb == "v":
        return _value(value, flags, precision)
    if value is None:
        raise ValueProblem(f"null has no %{verb}; %v shows it")
    if verb in "sq":
        text = to_string(value)
        text = text if precision is None else text[:precision]
        return _json(text) if verb == "q" else text
    if verb == "t":
        return to_string(to_bool(value))
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in "dxXbo":
        return format(to_int(value), sign + verb)
    if verb in "feEgG":
        number = to_number(value)
        if verb in "gG" and precision is None:
            return (sign if number >= 0 else "") + number_text(float(number))
        digits = 6 if precision is None else min(precision, _MAX_PRECISION)
        return format(float(number), f"{sign}.{digits}{verb}")
    raise ValueProblem(f"there is no verb %{verb}")


def _value(value: Any, flags: str, precision: int | None) -> str:
    if "#" in flags or isinstance(value, (list, dict)):
        return _json(value)
    if value is None:
        return "null"
    shown = to_string(value)
    if precision is not None and isinstance(value, str):
        return shown[:precision]
    return f"+{shown}" if "+" in flags and type_name(value) == "number" and value >= 0 else shown


def _json(value: Any) -> str:
    from core.jobspec.hcl.functions.encoding import encode_json

    return encode_json(value)
