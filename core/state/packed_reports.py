"""Many clients' reports in columns: what tasks have in common goes into the log once.

A million allocations that begin to run report the same three events with the same texts and
differ in times. The leader pulls the times out (task_states.pack) before it proposes, so an
entry carries about 70 bytes an allocation instead of 700, and no replica takes task states
apart again. The same holds when they turn out healthy in a rollout. Reports that say more
(network) stay as they are.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np

from core.model.allocation import ClientStatus
from core.state.task_states import pack

if TYPE_CHECKING:
    from core.state.commands import AllocUpdate

T = TypeVar("T")

_NO_STATES: Final = -1
NO_HEALTH: Final = 0
HEALTHY: Final = 1
UNHEALTHY: Final = 2
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
    health: bytes = b""  # u1: `NO_HEALTH`, `HEALTHY`, `UNHEALTHY`; none at all when nobody says
    health_since: list[str] = []  # of those that said, in order
    deployments: list[str] = []  # different deployments that health was observed for
    deployment_of: bytes = b""  # <i4: which of them, of those that said


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
    said = [update for update in plain if _health_of(update)]
    deployments = _Numbered[str]()
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
        health=bytes(_health_of(update) for update in plain) if said else b"",
        health_since=[one.deployment_status.timestamp for one in said if one.deployment_status],
        deployment_of=_column(deployments.number(update.deployment_id) for update in said),
        deployments=list(deployments),
    )


def _is_plain(update: "AllocUpdate") -> bool:
    return update.network_status is None and update.client_status in _STATUSES


def _health_of(update: "AllocUpdate") -> int:
    said = update.deployment_status
    if said is None or said.healthy is None:  # neither: it says nothing
        return NO_HEALTH
    return HEALTHY if said.healthy else UNHEALTHY


class _Numbered(dict[T, int]):
    """Different values in the order in which they first came."""

    def number(self, value: T) -> int:
        return self.setdefault(value, len(self))


def _column(numbers: Iterable[int]) -> bytes:
    return np.fromiter(numbers, "<i4").tobytes()
