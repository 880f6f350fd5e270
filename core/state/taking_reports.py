"""Packed reports taken into the state: many rows at once, with what the same reports do singly."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from core.model.allocation import ClientStatus
from core.state import accounts
from core.state.health import HealthReport, take_health
from core.state.packed_reports import HEALTHY, NO_HEALTH, PackedReports

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

Ints = npt.NDArray[np.int64]

FINAL: Final = np.array([ClientStatus.COMPLETE, ClientStatus.FAILED], np.uint8)


def take_packed(state: "State", reports: PackedReports, context: "Context") -> int:
    """Take in packed reports as core.state.reports does others; return how many were known."""
    statuses = np.frombuffer(reports.statuses, np.uint8)
    text_of = np.frombuffer(reports.text_of, "<i4").astype(np.int64)
    shape_of = np.frombuffer(reports.shape_of, "<i4").astype(np.int64)
    allocs, columns = state.allocs, state.allocs.columns
    rows = allocs.rows_of(reports.ids)
    client = columns.client[np.maximum(rows, 0)]
    # As one by one: the client's word that an allocation ended is final.
    is_late = np.isin(client, FINAL) & ~np.isin(statuses, FINAL)
    kept = np.flatnonzero((rows >= 0) & ~is_late)
    if not kept.size:
        return 0
    taken = rows[kept]
    columns.touch(taken)
    _set_texts(state, taken, [reports.texts[n] or "" for n in text_of[kept].tolist()])
    has_states = shape_of[kept] >= 0
    position = np.cumsum(shape_of >= 0) - 1  # in `times`
    if has_states.any():
        stated = kept[has_states]
        _set_states(
            state,
            rows[stated],
            [reports.shapes[n] for n in shape_of[stated].tolist()],
            [reports.times[n] for n in position[stated].tolist()],
        )
    take_health(state, _health_reports(reports, rows, kept), context)
    accounts.move(state, taken, context, client=statuses[kept])
    context.changed("allocs", "AllocationUpdated", rows=taken)
    return int(kept.size)


def _health_reports(reports: PackedReports, rows: Ints, kept: Ints) -> list[HealthReport]:
    """Return what was said of the health of the rows that are kept."""
    if not reports.health:
        return []
    health = np.frombuffer(reports.health, np.uint8)
    deployment_of = np.frombuffer(reports.deployment_of, "<i4").tolist()
    position = (np.cumsum(health != NO_HEALTH) - 1).tolist()
    return [
        HealthReport(
            row=int(rows[place]),
            is_healthy=bool(health[place] == HEALTHY),
            timestamp=reports.health_since[position[place]],
            deployment_id=reports.deployments[deployment_of[position[place]]],
        )
        for place in kept[health[kept] != NO_HEALTH].tolist()
    ]


def _set_texts(state: "State", rows: Ints, texts: list[str]) -> None:
    allocs = state.allocs
    old = allocs.columns.client_text[rows].copy()
    allocs.columns.client_text[rows] = _ordinals(allocs.texts, texts)
    allocs.texts.release(old)


def _set_states(state: "State", rows: Ints, shapes: list[bytes], times: list[bytes]) -> None:
    allocs = state.allocs
    old = allocs.columns.task_shape[rows].copy()
    allocs.columns.task_shape[rows] = _ordinals(allocs.states.shapes, shapes)
    allocs.states.shapes.release(old)
    allocs.states.times.put_many(rows.tolist(), times)


def _ordinals(interned: Any, values: list[Any]) -> list[int]:
    # Each value's ordinal, referenced as often as it comes; "" is no value.
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    ordinals = {
        value: interned.ordinal(value, times) if value else -1 for value, times in counts.items()
    }
    return [ordinals[value] for value in values]
