"""Blocking queries: parked until something they watch changed, or their time is over.

A query names the **keys** it watches ("jobs", "job:default/web", "node-allocs:ID"). When
an applied entry touches a key, the queries parked under it are evaluated again; one whose
index moved beyond the caller's is answered, the others stay. So a query never misses a
change: it is evaluated once before it is parked, within the same `handle()` call, and
nothing is applied in between.

Nomad adds a random part of the wait, so that callers that began together do not come back
together: up to wait/16.
"""

import random
from collections.abc import Callable, Iterable

from core.model.query import Answer
from core.server.config import LimitsConfig
from core.server.measures import Measures
from core.server.outbox import Outbox, Timer
from core.server.request import Respond

Evaluate = Callable[[], Answer]


class _Parked:
    __slots__ = ("evaluate", "keys", "min_index", "respond", "timer")

    def __init__(
        self, evaluate: Evaluate, respond: Respond, min_index: int, keys: tuple[str, ...]
    ) -> None:
        self.evaluate = evaluate
        self.respond = respond
        self.min_index = min_index
        self.keys = keys
        self.timer: Timer | None = None


class BlockingQueries:
    """Invariant: a parked query stands under each of its keys, and under no other."""

    def __init__(
        self, outbox: Outbox, limits: LimitsConfig, rng: random.Random, measures: Measures
    ) -> None:
        self._outbox = outbox
        self._limits = limits
        self._rng = rng
        self._measures = measures
        self._by_key: dict[str, dict[_Parked, None]] = {}
        self._count = 0

    def answer_or_park(
        self,
        evaluate: Evaluate,
        respond: Respond,
        *,
        min_index: int,
        wait_us: int,
        keys: tuple[str, ...],
    ) -> None:
        """Answer at once when the index is beyond `min_index`, else once it is or time is up.

        Args:
            min_index: 0 = never wait.
            wait_us: 0 = the default; longer than the maximum is the maximum.
            keys: What to watch; () = answer at once.
        """
        answer = evaluate()
        if min_index <= 0 or not keys or answer.is_error or answer.index > min_index:
            # An error is shown at once, except that of a record that does not exist (yet):
            # that has an index and can be waited for as well.
            if not (min_index > 0 and keys and answer.status == 404 and answer.index <= min_index):
                respond(answer)
                return
        if self._count >= self._limits.blocking_queries:
            respond(Answer(status=429, error="Too many blocking queries; try again later"))
            return
        wait_us = min(wait_us or self._limits.blocking_default_us, self._limits.blocking_max_us)
        wait_us += int(self._rng.random() * (wait_us // 16))
        parked = _Parked(evaluate, respond, min_index, keys)
        for key in keys:
            self._by_key.setdefault(key, {})[parked] = None
        self._count += 1
        self._measures.blocking_queries = self._count
        parked.timer = self._outbox.after(wait_us, lambda: self._finish(parked, evaluate()))

    @property
    def is_watched(self) -> bool:
        """Whether anybody is parked: else nobody asks what an entry touched."""
        return self._count > 0

    def on_changed(self, keys: Iterable[str]) -> None:
        """Wake what watches any of `keys`. Their order decides that of the answers."""
        if not self._count:
            return
        woken: dict[_Parked, None] = {}
        for key in keys:
            woken.update(self._by_key.get(key, {}))
        for parked in woken:
            answer = parked.evaluate()
            if answer.index > parked.min_index:
                self._measures.blocking_wakes += 1
                self._finish(parked, answer)

    def answer_all(self) -> None:
        """Answer every parked query as things stand: the state was replaced by a snapshot."""
        everything: dict[_Parked, None] = {}
        for waiting in self._by_key.values():
            everything.update(waiting)
        for parked in everything:
            self._finish(parked, parked.evaluate())

    def _finish(self, parked: _Parked, answer: Answer) -> None:
        for key in parked.keys:
            waiting = self._by_key[key]
            del waiting[parked]
            if not waiting:
                del self._by_key[key]
        self._count -= 1
        self._measures.blocking_queries = self._count
        if parked.timer is not None:
            parked.timer.cancel()
        parked.respond(answer)
