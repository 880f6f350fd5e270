"""One list out of several datacenters, and how to wait for a change of it.

Each datacenter answers the same query for itself; the rows are joined (core.server.joining).
One that does not answer makes the list incomplete: with `stale` it is named in
`X-Serai-Missing-Datacenters`, else the whole query is an error that names it. Never is a
list silently partial.

**Blocking.** The joined list has a virtual index with a vector of real ones behind it
(core.server.virtual_index). A query with an index gathers first; when the vector is still
that of the index, it waits at every datacenter for *its* real index to move (`Watches`),
then gathers again. So no change is missed: one that came between gathering and waiting has
moved the index, and the wait ends at once. Callers that wait for the same list share one
question per datacenter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.where import Everywhere
from core.model.query import Answer, Query
from core.server.joining import joined, part_params
from core.server.request import Endpoint, Respond
from core.server.scatter import Scatter
from core.server.virtual_index import Vector, VirtualIndices

if TYPE_CHECKING:
    from core.server.context import Server

MISSING: Final = "X-Serai-Missing-Datacenters"
WATCH_US: Final = 30_000_000  # one question of a watch; asked again while somebody waits
WATCH_PAUSE_US: Final = 1_000_000  # after a datacenter that did not answer, or did not wait

Ask = Callable[[int, int, Respond], None]  # (beyond this index, at most so long, answer)


class Watch:
    """Some callers wait for one datacenter's part of one list to change."""

    __slots__ = ("index", "is_asking", "waiting")

    def __init__(self, index: int) -> None:
        self.index = index  # the newest that is known here
        self.waiting: dict[int, Callable[[], None]] = {}
        self.is_asking = False


class Watches:
    """Invariant: whoever waits is woken once, when the index is not the one it knows."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._watches: dict[tuple[str, str], Watch] = {}

    def wait(
        self, scope: str, datacenter_id: str, index: int, ask: Ask, wake: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `wake` once when a datacenter's index is another; return how to give up."""
        key = (scope, datacenter_id)
        watch = self._watches.setdefault(key, Watch(index))
        number = self._server.outbox.next_id()
        watch.waiting[number] = wake
        if watch.index != index:
            # Others know it newer, or older: which one is right, gathering again will show.
            self._server.outbox.after(0, lambda: self._wake(key, watch))
        self._ask(key, watch, ask)

        def give_up() -> None:
            watch.waiting.pop(number, None)

        return give_up

    def _ask(self, key: tuple[str, str], watch: Watch, ask: Ask) -> None:
        if watch.is_asking or self._watches.get(key) is not watch:
            return
        if not watch.waiting:
            del self._watches[key]
            return
        watch.is_asking = True
        asked_us = self._server.now.mono_us

        def answered(answer: Answer) -> None:
            watch.is_asking = False
            outbox = self._server.outbox
            took_us = self._server.now.mono_us - asked_us
            if answer.is_error and answer.status != 404:  # what is not there has an index
                outbox.after(WATCH_PAUSE_US, lambda: self._wake(key, watch))
            elif answer.index != watch.index:
                self._wake(key, watch)
            elif took_us < WATCH_PAUSE_US:  # it does not wait: a list that never blocks
                outbox.after(WATCH_PAUSE_US, lambda: self._ask(key, watch, ask))
            else:
                self._ask(key, watch, ask)

        ask(watch.index, WATCH_US, answered)

    def _wake(self, key: tuple[str, str], watch: Watch) -> None:
        if self._watches.get(key) is watch:
            del self._watches[key]
        waiting, watch.waiting = watch.waiting, {}
        for wake in waiting.values():
            wake()


class Gathering:
    def __init__(self, server: Server, scatter: Scatter) -> None:
        self._server = server
        self._scatter = scatter
        self._indices = VirtualIndices(server.rng.getrandbits(12))
        self._watches = Watches(server)

    def start(self, where: Everywhere, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        """Ask each datacenter and answer with the joined list, changed if it is waited for."""
        _Gathered(self._server, self._scatter, self._indices, self._watches, where, endpoint,
                  query, respond).gather()  # fmt: skip


class _Gathered:
    """One query about a list, until it is answered."""

    def __init__(
        self, server: Server, scatter: Scatter, indices: VirtualIndices, watches: Watches,
        where: Everywhere, endpoint: Endpoint, query: Query, respond: Respond,
    ) -> None:  # fmt: skip
        self._server = server
        self._scatter = scatter
        self._indices = indices
        self._watches = watches
        self._where = where
        self._endpoint = endpoint
        self._query = query
        self._respond = respond
        self._ids = (*where.datacenter_ids, *where.guests)
        self._scope = _scope_of(query, self._ids)
        limits = server.config.limits
        wait_us = min(query.wait_us or limits.blocking_default_us, limits.blocking_max_us)
        self._give_up_us = server.now.mono_us + wait_us
        self._seen: Vector | None = None
        if query.min_index > 0:
            self._seen = indices.vector_of(self._scope, query.min_index)

    def gather(self) -> None:
        asked = msgspec.structs.replace(
            self._query, min_index=0, wait_us=0, params=part_params(self._query)
        )
        self._scatter.ask(
            self._ids, self._endpoint, lambda one: self._part(asked, one), self._gathered
        )

    def _part(self, query: Query, datacenter_id: str) -> Query:
        """Return what one datacenter is asked; a guest, what of its own belongs here."""
        if datacenter_id not in self._where.guests:
            return query
        own = self._server.config.region
        return msgspec.structs.replace(query, params={**query.params, "submitted_to": own})

    def _gathered(self, answers: dict[str, Answer]) -> None:
        answer = self._join(answers)
        if answer.is_error:
            self._respond(answer)
            return
        vector = tuple(
            sorted((dc, 0 if one.status >= 500 else one.index) for dc, one in answers.items())
        )
        if self._seen == vector and self._server.now.mono_us < self._give_up_us:
            self._wait(vector)
            return
        answer.index = self._indices.index_of(
            self._scope, vector, self._server.now.wall_us, self._query.min_index
        )
        self._respond(answer)

    def _wait(self, vector: Vector) -> None:
        """Gather again once one of the datacenters has moved on, or time is over."""
        given_up: list[Callable[[], None]] = []
        is_over = False

        def wake() -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            timer.cancel()
            for give_up in given_up:
                give_up()
            self._server.outbox.after(0, self.gather)

        timer = self._server.outbox.at(self._give_up_us, wake)
        scope = f"{self._scope}\0{self._query.token}"
        for datacenter_id, index in vector:
            ask = self._ask_of(datacenter_id)
            give_up = self._watches.wait(scope, datacenter_id, index, ask, wake)
            if is_over:  # its own datacenter's answer came at once
                give_up()
                break
            given_up.append(give_up)

    def _ask_of(self, datacenter_id: str) -> Ask:
        # Only the index matters: of a list in pages, the first row is enough.
        params = {**self._query.params, "per_page": "1", "next_token": ""}
        query = self._part(msgspec.structs.replace(self._query, params=params), datacenter_id)

        def ask(index: int, wait_us: int, respond: Respond) -> None:
            # An index of 0 would not be waited for: whatever answers then is a change.
            waiting = msgspec.structs.replace(query, min_index=index, wait_us=wait_us)
            self._scatter.ask_one(datacenter_id, self._endpoint, waiting, respond)

        return ask

    def _join(self, answers: dict[str, Answer]) -> Answer:
        # Not everybody has to know of it: of a pool, of a job whose parts are elsewhere.
        unknown = [one for one in answers.values() if one.status == 404]
        if len(unknown) == len(answers):
            return unknown[0]
        answers = {dc: one for dc, one in answers.items() if one.status != 404}
        for answer in answers.values():
            if 400 <= answer.status < 500:
                return answer  # the caller's mistake is the same everywhere
        missing = {dc: one for dc, one in answers.items() if one.is_error}
        self._scatter.count_missing(missing)
        if missing and (not self._query.stale or len(missing) == len(answers)):
            named = "; ".join(
                f"{self._scatter.name_of(dc)}: {one.error}" for dc, one in missing.items()
            )  # fmt: skip
            hint = "" if self._query.stale else " (with stale, the list is given without them)"
            return Answer(status=500, error=f"datacenters did not answer: {named}{hint}")
        answer = joined({dc: one for dc, one in answers.items() if dc not in missing}, self._query)
        if missing:
            answer.headers[MISSING] = ",".join(self._scatter.name_of(dc) for dc in missing)
        return answer


def _scope_of(query: Query, datacenter_ids: tuple[str, ...]) -> str:
    """Return what says which list a query is about."""
    params = sorted((name, str(value)) for name, value in query.params.items())
    return repr((query.method, query.namespace, params, query.body, datacenter_ids))
