"""Go's durations as text: `1h30m`, `250ms`. Nanoseconds on our side."""

import re
from typing import Final

_UNITS_NS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000,
    "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_PART = re.compile(r"([0-9]{1,19})?(?:\.([0-9]{0,18}))?(ns|us|µs|μs|ms|s|m|h)")
_LIMIT_NS: Final = (1 << 63) - 1


class DurationError(ValueError):
    """The text is not a duration."""


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds of a duration such as "1h30m", "-2s" or "0".

    Raises:
        DurationError: it is not one; the message says what is missing.
    """
    body = text[1:] if text[:1] in {"+", "-"} else text
    if body == "0":
        return 0
    total, at = 0, 0
    while at < len(body):
        match = _PART.match(body, at)
        if match is None or (match.group(1) is None and not match.group(2)):
            break
        whole, fraction, unit = match.groups()
        scale = _UNITS_NS[unit]
        total += int(whole or 0) * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        at = match.end()
    if not body or at < len(body):
        hint = f'; a unit is missing, for example "{body}s"' if body.isdigit() else ""
        unit_hint = ' (days are not a unit; write "24h")' if re.search(r"\d+d", body) else ""
        raise DurationError(
            f'"{text[:60]}" is not a duration such as "90s" or "1h30m"{hint}{unit_hint}'
        )
    if total > _LIMIT_NS:
        raise DurationError(f'"{text[:60]}" is longer than 292 years, the limit')
    return -total if text[0] == "-" else total


def parse_length_ns(text: str) -> int:
    """Return the nanoseconds of a duration that can't be below zero, as flags take it.

    Raises:
        DurationError: it is not one, or negative.
    """
    ns = parse_duration_ns(text)
    if ns < 0:
        raise DurationError(f'"{text[:60]}" is negative; a duration such as "30s" is needed')
    return ns


def duration_text(ns: int) -> str:
    """Return nanoseconds as Go prints them: `1h30m0s`, `1.5s`, `250ms`, `0s`."""
    if ns == 0:
        return "0s"
    sign, rest = ("-", -ns) if ns < 0 else ("", ns)
    if rest < 1_000_000_000:
        for unit in ("ms", "µs", "ns"):
            if rest >= _UNITS_NS[unit]:
                return f"{sign}{_fraction(rest, _UNITS_NS[unit])}{unit}"
    minutes, seconds = divmod(rest, _UNITS_NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(seconds, _UNITS_NS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}}".rstrip("0")
