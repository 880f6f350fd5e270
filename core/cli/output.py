"""What commands print: tables, pairs, JSON, templates, colours.

Tables and pairs are laid out as Nomad lays them out, so scripts that cut columns go on
working: columns stand two spaces apart, pairs as `Key = Value`, an empty value of a pair
is `<none>`. Colours appear on a terminal alone (NO_COLOR is respected).
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_CODES = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34",
    "cyan": "36",
}  # fmt: skip
NONE = "<none>"
NANOSECONDS = 1_000_000_000

_STATUS_COLOURS = {
    "running": "green", "successful": "green", "complete": "green", "ready": "green",
    "alive": "green", "passing": "green", "success": "green",
    "pending": "yellow", "blocked": "yellow", "paused": "yellow", "initializing": "yellow",
    "disconnected": "yellow", "unknown": "yellow", "left": "yellow",
    "failed": "red", "lost": "red", "down": "red", "dead": "red", "failure": "red",
}  # fmt: skip


def is_colour_wanted(stream: TextIO, *, no_color: bool = False, force_color: bool = False) -> bool:
    """Whether to colour what goes to `stream`."""
    if no_color or os.environ.get("NO_COLOR"):
        return False
    return force_color or (stream.isatty() and os.environ.get("TERM") != "dumb")


def style_error(text: str) -> str:
    """Return `text` in red when stderr is a terminal."""
    return paint(text, "red") if is_colour_wanted(sys.stderr) else text


def paint(text: str, *styles: str) -> str:
    return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


class Output:
    """Writes to stdout (`stream`); `note` and `warn` go to stderr."""

    def __init__(
        self, stream: TextIO | None = None, *, no_color: bool = False, force_color: bool = False
    ) -> None:
        self.stream = stream or sys.stdout
        self.has_colour = is_colour_wanted(self.stream, no_color=no_color, force_color=force_color)

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def line(self, text: str = "") -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def warn(self, text: str) -> None:
        """Write a warning to stderr, so that piped output stays clean."""
        text = f"Warning: {text}"
        print(paint(text, "yellow") if is_colour_wanted(sys.stderr) else text, file=sys.stderr)

    def error(self, text: str) -> None:
        """Report a failure that does not end the command."""
        print(style_error(f"Error: {text}"), file=sys.stderr)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def style(self, text: str, *styles: str) -> str:
        return paint(text, *styles) if self.has_colour else text

    def status(self, text: str) -> str:
        """Return a status word in the colour of its mood."""
        colour = _STATUS_COLOURS.get(text)
        return self.style(text, colour) if colour else text

    def heading(self, text: str) -> None:
        self.line()
        self.line(self.style(text, "bold"))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write columns two spaces apart; None is an empty cell."""
        cells = [[_cell(value) for value in row] for row in rows]
        lines = layout([list(header), *cells])
        self.line(self.style(lines[0], "bold"))
        for line, row in zip(lines[1:], cells, strict=True):
            self.line(self._coloured(line, row) if self.has_colour else line)

    def pairs(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Write `Key = Value` with the equal signs below each other."""
        rows = list(rows)
        width = max((len(key) for key, _ in rows), default=0)
        for key, value in rows:
            text = _cell(value) or NONE
            shown = self.status(text) if key.endswith("Status") or key == "Status" else text
            self.line(f"{key.ljust(width)} = {shown}")

    def json(self, value: Any) -> None:
        self.line(json.dumps(value, indent=4, ensure_ascii=False))

    def render(self, value: Any, *, as_json: bool, template: str | None) -> bool:
        """Write `value` as -json or -t ask; returns False when neither was given."""
        if as_json:
            self.json(value)
        elif template is not None:
            from core.cli.gotemplate import Template

            self.line(Template(template).render(value))
        else:
            return False
        return True

    def _coloured(self, line: str, row: list[str]) -> str:
        for cell in row:
            if cell in _STATUS_COLOURS:
                head, found, tail = line.rpartition(cell)
                return head + self.status(found) + tail
        return line


def layout(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, columns padded and two spaces apart."""
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[column]) for row in rows if column < len(row)), default=0)
        for column in range(columns)
    ]
    return [
        "  ".join(cell.ljust(widths[column]) for column, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def short(identifier: str, *, verbose: bool = False) -> str:
    """Return the first 8 characters of an id, or all when `verbose`."""
    return identifier if verbose else identifier[:8]


def clock(time_ns: int) -> str:
    """Return nanoseconds since 1970 as local RFC 3339 to the second; 0 is N/A."""
    from datetime import datetime

    if not time_ns:
        return "N/A"
    return datetime.fromtimestamp(time_ns // NANOSECONDS).astimezone().isoformat(timespec="seconds")


def ago(time_ns: int, now_ns: int) -> str:
    """Return how long ago a moment was: its two largest units, "5m3s ago"."""
    if not time_ns:
        return "N/A"
    elapsed_s = max(0, now_ns - time_ns) // NANOSECONDS
    return f"{duration(elapsed_s)} ago"


def duration(seconds: int) -> str:
    """Return whole seconds in their two largest units: 93784 -> "1d2h"."""
    parts = []
    for unit, size_s in (("mo", 2_592_000), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size_s)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2]) or "0s"


def parse_time_ns(text: str | None) -> int:
    """Return an RFC 3339 time of the API as nanoseconds since 1970; Go's zero is 0."""
    from datetime import datetime

    if not text or text.startswith("0001-"):
        return 0
    try:
        # Go writes up to nine digits of a second, fromisoformat reads them since 3.11.
        return int(datetime.fromisoformat(text).timestamp() * NANOSECONDS)
    except ValueError:
        return 0


def mebibytes(size_mib: int) -> str:
    """Return a size as Nomad shows it: "256 MiB", "2.0 GiB"."""
    if size_mib < 1024:
        return f"{size_mib} MiB"
    return f"{size_mib / 1024:.1f} GiB"
