"""What is to be sent to whom, and when again: the home's memory of unanswered shares.

One entry per (job, datacenter), and only for the newest share: what it says is final, so an
older one need never arrive. An entry stays until the datacenter holds exactly what the share
allows. It is sent at once, then after 0.2 s, 0.4 s, ... 30 s, with jitter; repeated sends
are limited per destination (core.federation.budget).

Nothing of it is in the log: a new leader finds the entries in the homes themselves.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from core.federation.budget import RetryBudget

FIRST_US: Final = 200_000
MOST_US: Final = 30_000_000
_DENIED_US: Final = 500_000  # the budget was used up


class Key(NamedTuple):
    uid: str
    datacenter_id: str


@dataclass(slots=True)
class _Entry:
    index: int  # of the share
    due_us: int
    sends: int = 0
    is_under_way: bool = False


class Outbox:
    """One per leader. Times are monotonic microseconds, always handed in."""

    def __init__(self, rng: random.Random, budget: RetryBudget) -> None:
        self._rng = rng
        self._budget = budget
        self._entries: dict[Key, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._entries))

    def put(self, key: Key, index: int, now_us: int) -> None:
        """Want a share delivered. A newer one takes the place of the older at once."""
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = _Entry(index, now_us)
        elif index > known.index:
            self._entries[key] = _Entry(index, now_us, is_under_way=known.is_under_way)

    def settle(self, key: Key) -> None:
        """Its share is held exactly as allowed: nothing is left to say."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def due(self, now_us: int) -> list[Key]:
        """Return what to send now; each counts as under way until `returned`."""
        found = []
        for key, entry in self._entries.items():
            if entry.is_under_way or entry.due_us > now_us:
                continue
            if entry.sends == 0:
                self._budget.first(key.datacenter_id, now_us)
            elif not self._budget.may_retry(key.datacenter_id, now_us):
                entry.due_us = now_us + _DENIED_US
                continue
            entry.sends += 1
            entry.is_under_way = True
            found.append(key)
        return found

    def returned(self, key: Key, now_us: int) -> None:
        """A call came back, answered or not; while the entry stays it is sent again later."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.is_under_way = False
        if entry.sends:  # else a newer share was put meanwhile: it is due at once
            wait_us = min(MOST_US, FIRST_US << min(entry.sends - 1, 20))
            entry.due_us = now_us + int(wait_us * (0.75 + 0.5 * self._rng.random()))

    def hurry(self, datacenter_id: str, now_us: int) -> None:
        """A datacenter is back: do not wait out the long pauses."""
        for key, entry in self._entries.items():
            if key.datacenter_id == datacenter_id:
                entry.due_us = min(entry.due_us, now_us)
                entry.sends = min(entry.sends, 1)

    @property
    def deadline_us(self) -> int | None:
        """Return when the next one is due; None while all are under way or settled."""
        waiting = (e.due_us for e in self._entries.values() if not e.is_under_way)
        return min(waiting, default=None)
