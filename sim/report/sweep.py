"""The report of a sweep: `sweep.html`, `sweep.json` and `sweep.csv` in a folder.

Over the values of the first variable, each measure has a chart, with a line for every
combination of the others. With several seeds a point is their mean.
"""

import csv
import os
from collections.abc import Sequence
from html import escape
from math import isnan
from statistics import fmean
from typing import Final

import msgspec

from sim.report.charts import BOTTOM, HEIGHT, Frame, Line, legend, svg
from sim.report.page import card, document, section
from sim.sweep import MEASURES, Result, Values

_COLOURS: Final = 4  # of the page's palette


def write_sweep(folder: str, name: str, results: Sequence[Result], command: str) -> None:
    """Write the three files; the folder is made if need be.

    Raises:
        OSError: They can't be written.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "sweep.html"), "w", encoding="utf-8") as file:
        file.write(render_sweep(name, results, command))
    told = {"command": command, "runs": msgspec.to_builtins(list(results))}
    with open(os.path.join(folder, "sweep.json"), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    with open(os.path.join(folder, "sweep.csv"), "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*results[0].values, "seed", "ok", *MEASURES])
        for one in results:
            lines.writerow(
                [*one.values.values(), one.seed, one.summary.is_ok, *one.measured.values()]
            )


def render_sweep(name: str, results: Sequence[Result], command: str) -> str:
    """Return the whole page."""
    variables = list(results[0].values)
    held = sum(one.summary.is_ok for one in results)
    head = (
        f"<header><h1>{escape(name)}</h1><p>{held} of {len(results)} runs hold, over "
        f"{escape(' and '.join(variables) or 'nothing')}.</p></header>"
    )
    cards = []
    for key, measure in MEASURES.items():
        labels, lines = _lines(key, results)
        if any(not isnan(value) for line in lines for value in line.values):
            below = next(iter(variables), "")
            drawn = point_chart(measure.title, labels, lines, unit=measure.unit, below=below)
            cards.append(card(measure.title, measure.unit, drawn))
    parts = [
        head,
        section("Runs", _table(variables, results)),
        f'<div class="charts">{"".join(cards)}</div>',
        section("Repeat it", f"<p><code>{escape(command)}</code></p>"),
    ]
    return document(f"{name}, a sweep", "".join(parts))


def _table(variables: Sequence[str], results: Sequence[Result]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in (*variables, "seed", "", *MEASURES))
    rows = []
    for one in results:
        mark = "met" if one.summary.is_ok else "missed"
        cells = [*one.values.values(), str(one.seed)]
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        verdict = "holds" if one.summary.is_ok else "fails"
        shown += f"<td class='mark {mark}'>{verdict}</td>"
        shown += "".join(f"<td class='number'>{number(v)}</td>" for v in one.measured.values())
        rows.append(f"<tr>{shown}</tr>")
    return f"<table><thead><tr>{head}</tr></thead>{''.join(rows)}</table>"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,g}" if value < 1e6 else f"{value:,.0f}"


def _lines(key: str, results: Sequence[Result]) -> tuple[list[str], list[Line]]:
    """Return the values of the first variable, and a line for each combination of the rest."""
    found: dict[str, dict[str, list[float]]] = {}
    labels: dict[str, None] = {}
    for one in results:
        label = next(iter(one.values.values()), "")
        labels[label] = None
        value = one.measured[key]
        if value is not None:
            found.setdefault(_rest(one.values), {}).setdefault(label, []).append(value)
    lines = [
        Line(
            rest,
            [fmean(values[label]) if label in values else float("nan") for label in labels],
            1 + number % _COLOURS,
        )
        for number, (rest, values) in enumerate(found.items())
    ]
    return list(labels), lines


def _rest(values: Values) -> str:
    return ", ".join(f"{name}={value}" for name, value in list(values.items())[1:])


def point_chart(
    name: str, labels: Sequence[str], lines: Sequence[Line], *, unit: str, below: str
) -> str:
    """Return values over what has no scale but an order; NaN where there is none."""
    known = [value for line in lines for value in line.values if not isnan(value)]
    frame = Frame(max(1, len(labels) - 1), max(known, default=0.0))
    parts = [frame.value_axis(unit), frame.below(below)]
    for place, label in enumerate(labels):
        parts.append(f'<text class="tick middle" x="{frame.x(place):.1f}" '
                     f'y="{HEIGHT - BOTTOM + 17}">{escape(label)}</text>')  # fmt: skip
    for line in lines:
        dots = [(frame.x(place), frame.y(value), labels[place], value)
                for place, value in enumerate(line.values) if not isnan(value)]  # fmt: skip
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in dots)
        parts.append(f'<path class="line c{line.colour}" d="M{path}"/>' if dots else "")
        for x, y, label, value in dots:
            title = f"{escape(line.name)} {escape(label)}: {value:,g}".strip()
            parts.append(f'<circle class="dot c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" '
                         f'r="3.5"><title>{title}</title></circle>')  # fmt: skip
    return legend(lines) + svg("".join(parts), name)
