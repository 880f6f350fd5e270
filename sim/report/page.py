"""The page of a report: one file that needs nothing else.

Style, script and data are inline; no request leaves the page. Charts are drawn here, so the
page is whole without its script, which only adds a cursor that reads all charts at one time.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from sim.observer import COLUMNS
from sim.report.charts import Band, Line, bar_chart, buckets, dot_chart, line_chart, time_text
from sim.report.data import ReportData
from sim.report.map import region_map
from sim.report.timeline import timeline

_HERE: Final = Path(__file__).parent
_BANDS: Final = 60  # spans of faults shaded in each chart; more would be a grey page
_LISTED: Final = 50  # violations, halts

# title, unit of the values, what is said of them, (series, its name, palette colour)
_CHARTS: Final[tuple[tuple[str, str, str, tuple[tuple[str, str, int], ...]], ...]] = (
    (
        "Nodes",
        "nodes",
        "as their datacenters see them",
        (("nodes_ready", "ready", 1), ("nodes_down", "down", 4)),
    ),
    (
        "Allocations",
        "instances",
        "those of services are wanted; batch runs beside them",
        (
            ("instances_wanted", "wanted by services", 3),
            ("instances_running", "really running", 1),
            ("reported_running", "reported running", 2),
        ),
    ),
    (
        "Placements",
        "allocations/s",
        "in virtual time",
        (("placements_per_s", "placed a second", 1),),
    ),
    (
        "Queue",
        "evaluations",
        "of all datacenters' leaders",
        (("queue_ready", "waiting for the planner", 1), ("queue_blocked", "waiting for room", 2)),
    ),
    (
        "Age of digests",
        "seconds",
        "the oldest that any leader holds",
        (("digest_age_s", "oldest digest", 1),),
    ),
    (
        "Bandwidth",
        "bytes/s",
        "all agents, estimated from a sample",
        (
            ("gossip_bytes_per_s", "gossip", 1),
            ("raft_bytes_per_s", "raft", 2),
            ("calls_bytes_per_s", "calls", 3),
        ),
    ),
    (
        "Datacenters with a leader",
        "datacenters",
        "one that serves",
        (("leaders", "with a leader", 1),),
    ),
    (
        "Events",
        "events/s",
        "of the simulation, in a virtual second",
        (("events_per_s", "events", 1),),
    ),
)


def render(data: ReportData) -> str:
    """Return the whole page."""
    summary = data.summary
    title = f"{summary.scenario}, seed {summary.seed}"
    parts = [
        _head(data),
        section("Goals", _goals(data)),
        section("What went wrong", _wrong(data)) if _has_wrong(data) else "",
        section("Timeline of faults", timeline(data.faults, data.end_s), "wide"),
        f'<div class="charts">{"".join(_charts(data))}</div>',
        section("Map of regions", _map(data)),
        section("Invariants", _checked(data)),
        section("Repeat it", _repeat(data)),
    ]
    script = (_HERE / "script.js").read_text(encoding="utf-8")
    read = f"<script type='application/json' id='data'>{_json(data)}</script>"
    return document(
        title, "".join(parts), f"<div id='readout' hidden></div>{read}<script>{script}</script>"
    )


def document(title: str, body: str, tail: str = "") -> str:
    """Return a page that needs nothing else: `body` in its column, `tail` behind it."""
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main>{tail}</body></html>\n"
    )


def _head(data: ReportData) -> str:
    summary = data.summary
    verdict = "holds" if summary.is_ok else "fails"
    met = sum(goal.is_met for goal in summary.goals)
    speed = summary.sim_s / max(summary.wall_s, 1e-9)
    tiles = (
        ("agents", f"{summary.agents:,}", f"{summary.nodes:,} nodes"),
        ("simulated", time_text(round(summary.sim_s)), f"{speed:,.1f} times real time"),
        ("placed", f"{summary.placements:,}", f"{summary.instances_running:,} run at the end"),
        ("goals met", f"{met} of {len(summary.goals)}", ""),
        ("faults", f"{sum(summary.faults.values()):,}", f"{len(summary.faults)} kinds"),
        ("checked", f"{sum(summary.checked.values()):,}", f"{len(summary.violations)} violations"),
    )
    cards = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<small>{escape(more)}</small></div>"
        for name, value, more in tiles
    )
    return (
        f'<header><h1>{escape(summary.scenario)}<em class="{verdict}">{verdict}</em></h1>'
        f"<p>Seed {summary.seed}. The machines of real agents, on virtual time.</p>"
        f'<div class="tiles">{cards}</div></header>'
    )


def section(title: str, body: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{body}</section>'


def _goals(data: ReportData) -> str:
    if not data.summary.goals:
        return '<p class="quiet">The scenario names none.</p>'
    rows = "".join(
        f"<tr><td class='mark {'met' if goal.is_met else 'missed'}'>"
        f"{'met' if goal.is_met else 'missed'}</td><td>{escape(goal.text)}</td>"
        f"<td>{escape(goal.measured)}</td></tr>"
        for goal in data.summary.goals
    )
    return f"<table><thead><tr><th></th><th>goal</th><th>found</th></tr></thead>{rows}</table>"


def _has_wrong(data: ReportData) -> bool:
    summary = data.summary
    return bool(summary.violations or summary.halts or summary.jobs_refused)


def _wrong(data: ReportData) -> str:
    summary = data.summary
    refused = [f"{name}: {why}" for name, why in sorted(summary.jobs_refused.items())]
    parts = []
    for title, lines in (
        ("Violations", summary.violations), ("Halted", summary.halts), ("Refused", refused),
    ):  # fmt: skip
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines[:_LISTED])
            more = f"<li>and {len(lines) - _LISTED:,} more</li>" if len(lines) > _LISTED else ""
            parts.append(f"<h3>{title}</h3><ul>{items}{more}</ul>")
    return "".join(parts)


def _charts(data: ReportData) -> list[str]:
    times_s = data.series["time_s"]
    longest = sorted(data.faults, key=lambda fault: fault.begin_s - fault.end_s)[:_BANDS]
    bands = [Band(fault.begin_s, fault.end_s) for fault in longest]
    series = {**data.series, "placements_per_s": _per_second(times_s, data.series["placements"])}
    cards = []
    for title, unit, said, named in _CHARTS:
        lines = [Line(name, series[key], colour) for key, name, colour in named]
        drawn = line_chart(title, times_s, lines, unit=unit, end_s=data.end_s, bands=bands)
        keys = " ".join(key for key, _, _ in named)
        cards.append(card(title, said, drawn, keys))
    if data.waits:
        below = "from a job's submission to the start of an instance, at most"
        drawn = bar_chart("waits", data.waits, unit="instances", below=below)
        cards.append(card("Wait for a start", "instances, by time since the submission", drawn))
    if data.summary.detection_s:
        bars = buckets(data.summary.detection_s)
        below = "seconds until called down, at most"
        drawn = bar_chart("detection", bars, unit="nodes", below=below, colour=4)
        cards.append(card("Detection", "lost nodes, by seconds until called down", drawn))
    if data.heals:
        drawn = dot_chart("healing", data.heals, unit="seconds", end_s=data.end_s, colour=2)
        text = "seconds until services were whole, at the mending of each fault"
        cards.append(card("Healing", text, drawn))
    return cards


def card(title: str, unit: str, drawn: str, keys: str = "") -> str:
    return (
        f'<section data-series="{keys}"><h2>{escape(title)}</h2>'
        f'<p class="unit">{escape(unit)}</p>{drawn}</section>'
    )


def _per_second(times_s: Sequence[float], totals: Sequence[float]) -> list[float]:
    rates = [0.0]
    for place in range(1, len(totals)):
        span_s = max(1e-9, times_s[place] - times_s[place - 1])
        rates.append(max(0.0, totals[place] - totals[place - 1]) / span_s)
    return rates[: len(totals)]


def _map(data: ReportData) -> str:
    note = "A circle is as large as its nodes, an arc as wide as what is sent along it."
    return f'<p class="unit">{note}</p>{region_map(data.regions, data.flows)}'


def _checked(data: ReportData) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='number'>{count:,}</td>"
        f"<td>{'' if count else '<b>there was nothing to look at</b>'}</td></tr>"
        for name, count in data.summary.checked.items()
    )
    return (
        f"<table><thead><tr><th>invariant</th><th>checked</th><th></th></tr></thead>{rows}</table>"
    )


def _repeat(data: ReportData) -> str:
    states = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(digest)}</code></td></tr>"
        for name, digest in data.summary.state_hashes.items()
    )
    return (
        f"<p><code>{escape(data.command)}</code></p>"
        f"<p>trace hash <code>{escape(data.summary.trace_hash)}</code></p>"
        f"<details><summary>hash of each server's state</summary><table>{states}</table></details>"
    )


def _json(data: ReportData) -> str:
    """Return what the script reads: the series, and how they are called."""
    series = {**data.series}
    series["placements_per_s"] = _per_second(series["time_s"], series["placements"])
    rounded = {name: [round(value, 3) for value in values] for name, values in series.items()}
    names = {key: name for _, _, _, named in _CHARTS for key, name, _ in named}
    held = {"end_s": data.end_s, "series": rounded, "names": names, "about": COLUMNS}
    return json.dumps(held, separators=(",", ":")).replace("</", "<\\/")
