"""Go's durations, "1h30m" and "200ms", as flags take them.

`core.jobspec.durations` reads them too, but importing anything of that package loads the HCL
parser (0.3 s), which a command without a job file need not wait for.
"""

import re
from typing import Final

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
    "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip


def parse_duration_ns(text: str) -> int:
    """Return a duration in nanoseconds.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    if text == "0":
        return 0
    at, total_ns = 0, 0.0
    while match := _PART.match(text, at):
        total_ns += float(match[1]) * _NANOSECONDS[match[2]]
        at = match.end()
    if not text or at != len(text):
        raise ValueError(f'"{text}" is no duration such as "30s", "200ms" or "1h30m"')
    return int(total_ns)
