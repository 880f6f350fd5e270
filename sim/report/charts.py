"""Charts as inline SVG: lines over virtual time, bars, dots.

Colours, fonts and dark mode are the page's (style.css): a chart only names classes. Every
mark carries a <title>, so that its value can be read without a script.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 640
HEIGHT: Final = 236
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 10, 42  # margins
TIME: Final = "virtual time"
_TIMES_S: Final = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800,
    14_400, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip


class Line(NamedTuple):
    """One series; `colour` is a number of the page's palette."""

    name: str
    values: Sequence[float]
    colour: int


class Band(NamedTuple):
    """A span of time that is shaded, for a fault."""

    begin_s: float
    end_s: float


def time_text(seconds: float) -> str:
    """Return a time on an axis: 90s, 12m, 1h30."""
    if seconds >= 3_600:
        minutes = round(seconds / 60)
        return f"{minutes // 60}h{minutes % 60:02}" if minutes % 60 else f"{minutes // 60}h"
    if seconds >= 120:
        return f"{seconds / 60:g}m"
    return f"{seconds:g}s"


def amount_text(value: float) -> str:
    """Return a number as an axis has room for: 1.2k, 3M."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def time_ticks(end_s: float) -> list[float]:
    """Return at most seven round times from 0 to the end."""
    step = next((step for step in _TIMES_S if end_s / step <= 7), _TIMES_S[-1])
    return [number * step for number in range(int(end_s / step + 1e-9) + 1)]


def value_ticks(highest: float) -> list[float]:
    """Return three to six round values from 0 to at least `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    scale = 10 ** math.floor(math.log10(highest))
    step = next(
        part * scale / 10 for part in (1, 2, 5, 10, 20, 50) if highest <= part * scale / 10 * 5
    )
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


class Frame:
    """The axes of a chart over time: where a time and a value lie."""

    def __init__(
        self, end_s: float, highest: float, height: int = HEIGHT, left: int = LEFT
    ) -> None:
        self.left = left
        self.end_s = max(end_s, 1e-9)
        self.ticks = value_ticks(highest)
        self.top = self.ticks[-1]
        self.height = height

    def x(self, time_s: float) -> float:
        return self.left + (WIDTH - self.left - RIGHT) * time_s / self.end_s

    def y(self, value: float) -> float:
        return TOP + (self.height - TOP - BOTTOM) * (1 - value / self.top)

    def axes(self, unit: str) -> str:
        return self.value_axis(unit) + self.time_axis()

    def value_axis(self, unit: str) -> str:
        middle = TOP + (self.height - TOP - BOTTOM) / 2
        parts = [
            f'<text class="tick middle" x="14" y="{middle:.1f}" '
            f'transform="rotate(-90 14 {middle:.1f})">{escape(unit)}</text>'
        ]
        for value in self.ticks:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                         f'y2="{y:.1f}"/><text class="tick end" x="{LEFT - 6}" '
                         f'y="{y + 3.5:.1f}">{amount_text(value)}</text>')  # fmt: skip
        return "".join(parts)

    def time_axis(self) -> str:
        parts = []
        base = self.height - BOTTOM
        for time_s in time_ticks(self.end_s):
            x = self.x(time_s)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" '
                         f'y2="{base + 4}"/><text class="tick middle" x="{x:.1f}" '
                         f'y="{base + 17}">{time_text(time_s)}</text>')  # fmt: skip
        line = f'<line class="axis" x1="{self.left}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
        return line + "".join(parts) + self.below(TIME)

    def below(self, said: str) -> str:
        """Return what the horizontal axis is."""
        middle = (self.left + WIDTH - RIGHT) / 2
        y = self.height - 6
        return f'<text class="tick middle" x="{middle:.1f}" y="{y}">{escape(said)}</text>'

    def bands(self, bands: Iterable[Band]) -> str:
        parts = []
        for band in bands:
            x = self.x(band.begin_s)
            width = max(1.0, self.x(min(band.end_s, self.end_s)) - x)
            height = self.height - TOP - BOTTOM
            parts.append(f'<rect class="band" x="{x:.1f}" y="{TOP}" width="{width:.1f}" '
                         f'height="{height}"/>')  # fmt: skip
        return "".join(parts)


def svg(body: str, label: str, *, height: int = HEIGHT, kind: str = "") -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" class="{kind}" '
        f'aria-label="{escape(label)}">{body}</svg>'
    )


def line_chart(
    name: str,
    times_s: Sequence[float],
    lines: Sequence[Line],
    *,
    unit: str,
    end_s: float,
    bands: Iterable[Band] = (),
) -> str:
    """Return a chart of lines over time, with its legend."""
    highest = max((max(line.values, default=0.0) for line in lines), default=0.0)
    frame = Frame(end_s, highest)
    parts = [frame.bands(bands), frame.axes(unit)]
    for line in lines:
        points = _thinned(
            [
                (frame.x(time_s), frame.y(value))
                for time_s, value in zip(times_s, line.values, strict=True)
            ]
        )
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
        parts.append(f'<path class="line c{line.colour}" d="{path}"/>')
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    return legend(lines) + svg("".join(parts), name, kind="over-time")


def legend(lines: Sequence[Line]) -> str:
    if not any(one.name for one in lines):
        return ""
    keys = "".join(f'<span><i class="key c{one.colour}"></i>{escape(one.name)}</span>'
                   for one in lines)  # fmt: skip
    return f'<div class="legend">{keys}</div>'


def bar_chart(
    name: str, bars: Sequence[tuple[str, int]], *, unit: str, below: str, colour: int = 1
) -> str:
    """Return bars side by side, each with its label below and its count as a title."""
    highest = max((count for _, count in bars), default=0)
    frame = Frame(1.0, highest)
    parts = [frame.value_axis(unit), frame.below(below)]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    base = HEIGHT - BOTTOM
    for place, (label, count) in enumerate(bars):
        x, y = LEFT + place * step, frame.y(count)
        parts.append(f'<rect class="bar c{colour}" x="{x + 1:.1f}" y="{y:.1f}" '
                     f'width="{step - 2:.1f}" height="{max(0.0, base - y):.1f}">'
                     f"<title>{escape(label)}: {count:,}</title></rect>"
                     f'<text class="tick middle" x="{x + step / 2:.1f}" y="{base + 15}">'
                     f"{escape(label)}</text>")  # fmt: skip
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    return svg("".join(parts), name)


def dot_chart(
    name: str,
    dots: Sequence[tuple[float, str, float]],
    *,
    unit: str,
    end_s: float,
    colour: int = 1,
) -> str:
    """Return dots over time: (time, what, value)."""
    frame = Frame(end_s, max((value for _, _, value in dots), default=0.0))
    parts = [frame.axes(unit)]
    for time_s, what, value in dots:
        parts.append(f'<circle class="dot c{colour}" cx="{frame.x(time_s):.1f}" '
                     f'cy="{frame.y(value):.1f}" r="3.5"><title>{escape(what)} at '
                     f"{time_text(time_s)}: {value:g} s</title></circle>")  # fmt: skip
    return svg("".join(parts), name)


def buckets(values: Sequence[float], number: int = 12) -> list[tuple[str, int]]:
    """Return a histogram of values by the upper bound of each of at most `number` spans."""
    if not values:
        return []
    ticks = value_ticks(max(values))
    width = ticks[-1] / number
    counts = [0] * number
    for value in values:
        counts[min(number - 1, int(value / width))] += 1
    return [(f"{(place + 1) * width:.3g}", count) for place, count in enumerate(counts)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drop points that lie on the way between their neighbours: flat lines have thousands."""
    kept: list[tuple[float, float]] = []
    for place, point in enumerate(points):
        is_inner = 0 < place < len(points) - 1
        if is_inner and abs(points[place - 1][1] - point[1]) < 0.05:
            if abs(points[place + 1][1] - point[1]) < 0.05:
                continue
        kept.append(point)
    return kept
