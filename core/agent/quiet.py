"""Keeps what happens again and again from filling the log: once a minute is enough."""

from collections.abc import Hashable
from typing import Final

import trio

QUIET_S: Final = 60.0
MAX_KEYS: Final = 1000  # a bound, for strangers choose some of what is in a key


class Quiet:
    """Says whether a line is due: the first time, and once `QUIET_S` passed since."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def is_due(self, *key: Hashable) -> bool:
        now_s = trio.current_time()
        if now_s < self._until.get(key, 0.0):
            return False
        if len(self._until) >= MAX_KEYS:
            self._until.clear()
        self._until[key] = now_s + QUIET_S
        return True
