"""Many clients' reports in columns: what tasks have in common goes into the log once.

A million allocations that begin to run report the same three events with the same texts and
differ in times. The leader pulls the times out (task_states.pack) before it proposes, so an
entry carries about 70 bytes an allocation instead of 700, and no replica takes task states
apart again. Reports that say more (health, network) stay as they are.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from core.model.allocation import ClientStatus
from core.state import accounts
from core.state.task_states import pack

if TYPE_CHECKING:
    from core.state.commands import AllocUpdate
    from core.state.context import Context
    from core.state.state import State

T = TypeVar("T")
Ints = npt.NDArray[np.int64]

FINAL: Final = np.array([ClientStatus.COMPLETE, ClientStatus.FAILED], np.uint8)
_NO_STATES: Final = -1
_STATUSES: Final = frozenset(ClientStatus)


class PackedReports(msgspec.Struct, array_like=True, gc=False):
    """Columns over the reports; no allocation comes twice."""

    ids: list[str]
    statuses: bytes  # u1: core.model.allocation.ClientStatus
    texts: list[str]  # different client descriptions
    text_of: bytes  # <i4: which of them
    shapes: list[bytes]  # different shapes of task states
    shape_of: bytes  # <i4: which of them, -1 = no task states were reported
    times: list[bytes]  # of those that reported task states, in order


def packed(updates: list["AllocUpdate"]) -> tuple[list["AllocUpdate"], PackedReports | None]:
    """Return what has to stay as it is, and the rest in columns (None when it is nothing)."""
    if len({update.alloc_id for update in updates}) < len(updates):
        return updates, None  # their order matters
    left = [update for update in updates if not _is_plain(update)]
    plain = [update for update in updates if _is_plain(update)]
    if not plain:
        return updates, None
    texts, shapes = _Numbered[str](), _Numbered[bytes]()
    shape_of: list[int] = []
    times: list[bytes] = []
    for update in plain:
        if update.task_states is None:
            shape_of.append(_NO_STATES)
            continue
        shape, own_times = pack(update.task_states)
        shape_of.append(shapes.number(shape))
        times.append(own_times)
    return left, PackedReports(
        ids=[update.alloc_id for update in plain],
        statuses=bytes(update.client_status for update in plain),
        text_of=_column(texts.number(update.client_description) for update in plain),
        texts=list(texts),
        shape_of=_column(shape_of),
        shapes=list(shapes),
        times=times,
    )


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
    accounts.move(state, taken, context, client=statuses[kept])
    context.changed("allocs", "AllocationUpdated", rows=taken)
    return int(kept.size)


def _is_plain(update: "AllocUpdate") -> bool:
    return (
        update.network_status is None
        and update.deployment_status is None
        and update.client_status in _STATUSES
    )


class _Numbered(dict[T, int]):
    """Different values in the order in which they first came."""

    def number(self, value: T) -> int:
        return self.setdefault(value, len(self))


def _column(numbers: Iterable[int]) -> bytes:
    return np.fromiter(numbers, "<i4").tobytes()


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
