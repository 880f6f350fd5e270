"""The timeline of faults: one lane a kind, a bar or a tick each."""

from collections.abc import Sequence
from html import escape
from typing import Final

from sim.report.charts import BOTTOM, RIGHT, TOP, WIDTH, Frame, svg, time_text
from sim.report.data import FaultSpan

LANE: Final = 18
LEFT: Final = 150  # room for the names of lanes
SHOWN: Final = 2_000  # spans drawn; more would be one another's shadow


def timeline(faults: Sequence[FaultSpan], end_s: float) -> str:
    """Return the timeline as SVG, or a sentence where nothing was broken."""
    if not faults:
        return '<p class="quiet">Nothing was broken.</p>'
    kinds = sorted({fault.kind for fault in faults}, key=lambda kind: _first(faults, kind))
    height = TOP + LANE * len(kinds) + 46
    frame = Frame(end_s, 1.0, height, LEFT)
    base = TOP + LANE * len(kinds) + 4
    parts = []
    for lane, kind in enumerate(kinds):
        y = TOP + lane * LANE
        number = sum(fault.kind == kind for fault in faults)
        parts.append(f'<line class="grid" x1="0" x2="{WIDTH - RIGHT}" y1="{y + LANE - 4}" '
                     f'y2="{y + LANE - 4}"/><text class="lane" x="0" y="{y + 11}">'
                     f"{escape(kind)} ({number:,})</text>")  # fmt: skip
    for fault in faults[:SHOWN]:
        y = TOP + kinds.index(fault.kind) * LANE + 3
        x = frame.x(fault.begin_s)
        width = max(2.0, frame.x(fault.end_s) - x)
        lasted = f"for {time_text(round(fault.end_s - fault.begin_s, 1))}"
        title = f"{fault.kind} at {time_text(round(fault.begin_s, 1))} {lasted}: {fault.text}"
        kind = "span" if fault.is_over else "span lasting"
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                     f'height="{LANE - 8}" rx="2">'
                     f"<title>{escape(title)}</title></rect>")  # fmt: skip
    frame.height = base + BOTTOM
    parts.append(frame.time_axis())
    return svg("".join(parts), "timeline of faults", height=frame.height, kind="wide")


def _first(faults: Sequence[FaultSpan], kind: str) -> float:
    return min(fault.begin_s for fault in faults if fault.kind == kind)
