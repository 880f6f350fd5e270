"""How long a suspect has to refute (SWIM, section 4.2; Lifeguard, "LHA-Suspicion")."""

import math
from functools import lru_cache
from typing import NamedTuple

from gossip.settings import Settings


def suspicion_min_us(settings: Settings, members: int) -> int:
    """Return the shortest suspicion in a pool of `members`, microseconds.

    It grows with the log of the pool's size, as the time does that a rumour needs to
    reach the suspect and its refutation to come back.
    """
    scale = max(1.0, math.log10(max(1, members)))
    return int(settings.suspicion_multiplier * scale * settings.probe_interval_us)


def suspicion_timeout_us(confirmations: int, *, k: int, min_us: int, max_us: int) -> int:
    """Return how long a member may stay SUSPECT before it is declared DEAD.

    One accuser may itself be the slow one; `k` others who agree hardly can. So the wait
    starts at `max_us` and sinks with the log of the confirmations (Lifeguard, section
    "LHA-Suspicion").

    Args:
        confirmations: Members that suspect it too, the first accuser not counted.
        k: Confirmations after which the wait is `min_us`; 0 when none can confirm.
        min_us: Shortest wait, microseconds.
        max_us: Longest wait, microseconds.

    Returns:
        Microseconds since the suspicion *began*, not since now.

    Raises:
        ValueError: `confirmations` or `k` is negative, or `min_us > max_us`.
    """
    if confirmations < 0 or k < 0 or min_us > max_us:
        raise ValueError(
            f"need confirmations, k >= 0 and min_us <= max_us; got {confirmations}, {k}, "
            f"{min_us}, {max_us}"
        )
    if confirmations >= k:
        return min_us
    share = math.log(confirmations + 1) / math.log(k + 1)
    return max(min_us, int(max_us - share * (max_us - min_us)))


class Terms(NamedTuple):
    """What all suspicions have in common that begin in a pool of one size."""

    k: int  # confirmations after which the wait is the shortest
    min_us: int
    waits_us: tuple[int, ...]  # by confirmations, 0 to k


@lru_cache(maxsize=64)
def suspicion_terms(settings: Settings, members: int) -> Terms:
    """Return the terms of a suspicion in a pool of `members`; the same object for the same pool:
    when many die at once, ten thousand members hold a million suspicions.
    """
    k = settings.suspicion_multiplier - 2 if settings.dynamic_suspicion else 0
    min_us = suspicion_min_us(settings, members)
    max_us = min_us * settings.suspicion_max_multiplier
    # the suspect and its first accuser can't confirm
    k = max(0, k) if members - 2 >= k else 0
    waits_us = (suspicion_timeout_us(n, k=k, min_us=min_us, max_us=max_us) for n in range(k + 1))
    return Terms(k, min_us, tuple(waits_us))


class Suspicion:
    """One suspicion of one member.

    Invariants: `accusers` are distinct, the first one began it; only `defer` moves
    `deadline_us` later; at most one live timer, the one that is due at `armed_us`.
    """

    __slots__ = ("_earliest_us", "accusers", "armed_us", "deadline_us", "start_us", "terms")

    def __init__(self, accuser: str, now_us: int, settings: Settings, members: int) -> None:
        """`members` are those believed alive or suspect, this machine included."""
        self.terms = suspicion_terms(settings, members)
        self.accusers: tuple[str, ...] = (accuser,)
        self.start_us = now_us
        self._earliest_us = now_us
        self.deadline_us = 0
        self._set_deadline()
        # armed at the earliest end; firing early, the timer looks again
        self.armed_us = now_us + self.terms.min_us

    @property
    def is_confirmed(self) -> bool:
        """Whether no further accuser would shorten the wait."""
        return len(self.accusers) > self.terms.k

    def is_news(self, accuser: str) -> bool:
        """Return whether one more accuser, this one, would shorten the wait."""
        return len(self.accusers) <= self.terms.k and accuser not in self.accusers

    def confirm(self, accuser: str) -> bool:
        """Count `accuser`; return whether that was new and still mattered."""
        if not self.is_news(accuser):
            return False
        self.accusers += (accuser,)
        self._set_deadline()
        return True

    def defer(self, until_us: int) -> None:
        """End no earlier, whoever confirms it meanwhile."""
        self._earliest_us = until_us
        self._set_deadline()

    def _set_deadline(self) -> None:
        wait_us = self.terms.waits_us[min(len(self.accusers) - 1, self.terms.k)]
        self.deadline_us = max(self._earliest_us, self.start_us + wait_us)
