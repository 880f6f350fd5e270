"""Task states, packed: what tasks of a job have in common is stored once.

The states of a million allocations differ in their times and little else. So the times
are pulled out, and what remains (names, states, events with their texts) is a *shape*
that is interned. A running allocation costs about 100 bytes here instead of 1.5 KiB.

All fields of `TaskState` and `TaskEvent` are covered by construction: a new field is
part of the shape unless it is named a time below.
"""

from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from core.model.allocation import ZERO_TIME, TaskEvent, TaskState, TaskStateName
from core.state.columns import ENCODER, SparseColumn
from core.state.intern import Interned

_STATE_TIMES: Final = ("last_restart", "started_at", "finished_at")
_STATE_REST: Final = tuple(
    name for name in TaskState.__struct_fields__ if name not in {*_STATE_TIMES, "events"}
)
_EVENT_DEFAULTS: Final = {
    info.name: info.default
    for info in msgspec.structs.fields(TaskEvent)
    if info.name not in {"type", "time_ns"}
}


_NOTHING_SAID: Final = tuple(_EVENT_DEFAULTS.values())
_said_by = attrgetter("type", *_EVENT_DEFAULTS)
_times_of = attrgetter(*_STATE_TIMES)
_rest_of = attrgetter(*_STATE_REST)


class PackedStates:
    """`{task: TaskState}` by row. The shape's ordinal is the column `task_shape`."""

    def __init__(self) -> None:
        self.shapes: Interned[bytes] = Interned("task_shapes", bytes)
        self.times: SparseColumn[bytes] = SparseColumn("task_times", bytes)

    def put(self, row: int, old_shape: int, states: dict[str, TaskState]) -> int:
        """Store the states of a row; return the ordinal for its `task_shape`."""
        shape, times = pack(states)
        ordinal = self.shapes.ordinal(shape, 1)
        if old_shape >= 0:
            self.shapes.drop(old_shape, 1)
        self.times.put(row, times)
        return ordinal

    def get(self, row: int, shape: int) -> dict[str, TaskState] | None:
        """Return the states of a row, None when nothing was reported."""
        if shape < 0:
            return None
        return unpack(self.shapes.get(shape), self.times.get(row) or b"")

    def remove(self, row: int) -> None:
        self.times.remove(row)


def pack(states: dict[str, TaskState]) -> tuple[bytes, bytes]:
    """Return (shape, times) such that `unpack` makes the same states of them."""
    times: list[Any] = []
    parts: list[_Part] = []
    for name in sorted(states):
        state = states[name]
        for value in _times_of(state):
            times.append("" if value == ZERO_TIME else value or None)
        events = None
        if state.events is not None:
            times += [event.time_ns for event in state.events]
            events = tuple(map(_said_by, state.events))
        parts.append((name, _rest_of(state), events))
    try:
        shape = _known_shape(tuple(parts))
    except TypeError:  # an event has details: a dict can't be a key
        shape = _shape(parts)
    return shape, ENCODER.encode(times)


# Name, what `_rest_of` and each event's `_said_by` return.
_Part = tuple[str, tuple[Any, ...], tuple[tuple[Any, ...], ...] | None]


def _shape(parts: Iterable[_Part]) -> bytes:
    shape: list[Any] = []
    for name, rest, said in parts:
        events = None
        if said is not None:
            events = [
                {"type": kind}
                | {
                    field: value
                    for field, value, default in zip(_EVENT_DEFAULTS, values, _NOTHING_SAID)
                    if value != default
                }
                for kind, *values in said
            ]
        shape.append([name, rest, events])
    return ENCODER.encode(shape)


_known_shape = lru_cache(maxsize=1024)(_shape)


def unpack(shape: bytes, times: bytes) -> dict[str, TaskState]:
    """Undo `pack`."""
    left = iter(msgspec.msgpack.decode(times))
    states = {}
    for name, rest, said_events in msgspec.msgpack.decode(shape):
        fields = dict(zip(_STATE_REST, rest, strict=True))
        fields["state"] = TaskStateName(fields["state"])
        for field in _STATE_TIMES:
            value = next(left)
            fields[field] = ZERO_TIME if value == "" else value or ""
        events = None
        if said_events is not None:
            events = [TaskEvent(**said, time_ns=next(left)) for said in said_events]
        states[name] = TaskState(**fields, events=events)
    return states
