"""The map of regions: circles as large as their nodes, arcs as wide as their traffic."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from sim.report.charts import WIDTH, amount_text, svg
from sim.report.data import RegionSpot

MAP_HEIGHT: Final = 360
_ROW_HEIGHT: Final = 150  # where they stand side by side
_RADIUS_MAX: Final = 34.0
_RADIUS_MIN: Final = 12.0
_CROWD: Final = 210.0  # of many regions, all circles side by side are so wide
_WIDEST: Final = 9.0


def region_map(regions: Sequence[RegionSpot], flows: Mapping[tuple[str, str], float]) -> str:
    """Return the regions on an ellipse, with the flows between them."""
    height = MAP_HEIGHT if len(regions) > 2 else _ROW_HEIGHT
    places = _places(regions, height)
    largest = max((region.nodes for region in regions), default=0) or 1
    between = {key: rate for key, rate in flows.items() if key[0] != key[1]}
    widest = max(between.values(), default=0.0) or 1.0
    parts: list[str] = []
    words: list[str] = []  # over all circles
    for (one, other), rate in sorted(between.items(), key=lambda flow: flow[1]):
        if one in places and other in places:
            parts.append(_arc(one, other, places, rate, rate / widest))
    for region in regions:
        x, y = places[region.name]
        most = min(_RADIUS_MAX, _CROWD / len(regions))
        radius = max(min(_RADIUS_MIN, most), most * math.sqrt(region.nodes / largest))
        inside = flows.get((region.name, region.name), 0.0)
        title = (
            f"{region.name}: {region.datacenters:,} datacenters, {region.servers:,} servers, "
            f"{region.nodes:,} nodes, {region.running:,} instances; "
            f"{amount_text(inside)}B/s inside"
        )
        parts.append(f'<g><title>{escape(title)}</title><circle class="under" cx="{x:.1f}" '
                     f'cy="{y:.1f}" r="{radius:.1f}"/><circle class="region" cx="{x:.1f}" '
                     f'cy="{y:.1f}" r="{radius:.1f}"/></g>')  # fmt: skip
        words.append(f'<text class="name middle" x="{x:.1f}" '
                     f'y="{y + 4:.1f}">{escape(region.name)}</text>'
                     f'<text class="tick middle place" x="{x:.1f}" '
                     f'y="{y + radius + 13:.1f}">{region.nodes:,} '
                     f"{'node' if region.nodes == 1 else 'nodes'}, "
                     f"{amount_text(region.running)} run</text>")  # fmt: skip
    return svg("".join([*parts, *words]), "map of regions", height=height, kind="wide")


def _places(regions: Sequence[RegionSpot], height: int) -> dict[str, tuple[float, float]]:
    middle = (WIDTH / 2, height / 2 - 6)
    if len(regions) == 1:
        return {regions[0].name: middle}
    places = {}
    for number, region in enumerate(regions):
        angle = 2 * math.pi * number / len(regions) - math.pi
        places[region.name] = (
            middle[0] + 235 * math.cos(angle),
            middle[1] + (118 if len(regions) > 2 else 0) * math.sin(angle),
        )
    return places


def _arc(
    one: str, other: str, places: Mapping[str, tuple[float, float]], rate: float, share: float
) -> str:
    (x1, y1), (x2, y2) = places[one], places[other]
    # bent to its own right, so that both directions of a pair can be told apart
    bend = 0.12
    cx, cy = (x1 + x2) / 2 + (y2 - y1) * bend, (y1 + y2) / 2 - (x2 - x1) * bend
    width = max(0.8, _WIDEST * math.sqrt(share))
    title = f"{one} to {other}: {amount_text(rate)}B/s"
    return (
        f'<path class="flow" d="M{x1:.1f} {y1:.1f}Q{cx:.1f} {cy:.1f} {x2:.1f} {y2:.1f}" '
        f'stroke-width="{width:.1f}"><title>{escape(title)}</title></path>'
    )
