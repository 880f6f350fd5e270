"""One list out of several datacenters, and how to wait for a change of it.

Each datacenter answers the same query for itself; the rows are joined in the order of
their keys. One that does not answer makes the list incomplete: with `stale` it is named
in `X-Serai-Missing-Datacenters`, else the whole query is an error that names it.

**Index.** The logs have nothing in common, so the joined list has a virtual index,
`max(previous + 1, milliseconds since 2020) << 12 | server tag`, and this server keeps the
vectors of real indices behind its last 1,024 (FEDERATION.md, "The API over several logs").
A blocking query compares vectors, once a second; an index that this server does not know
is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.where import Everywhere
from core.model.host import Address
from core.model.query import Answer, Query
from core.server.request import Endpoint, Respond

if TYPE_CHECKING:
    from core.server.context import Server

_EPOCH_MS: Final = 1_577_836_800_000  # 2020-01-01
_KEPT: Final = 1_024
_TAG_BITS: Final = 12
_POLL_US: Final = 1_000_000

PassOn = Callable[[list[Address], Query, Respond], None]
Local = Callable[[Endpoint, Query, Respond], None]
Vector = tuple[tuple[str, int], ...]


class Gathering:
    def __init__(self, server: Server, pass_on: PassOn, here: Local) -> None:
        self._server = server
        self._pass_on = pass_on
        self._here = here
        self._vectors: dict[int, Vector] = {}  # virtual index -> real ones, oldest first
        self._last_ms = 0
        self._tag = server.rng.getrandbits(_TAG_BITS)

    def start(self, where: Everywhere, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        """Ask each datacenter and answer with the joined list."""
        limits = self._server.config.limits
        wait_us = min(query.wait_us or limits.blocking_default_us, limits.blocking_max_us)
        give_up_us = self._server.now.mono_us + wait_us
        seen = self._vectors.get(query.min_index) if query.min_index > 0 else None
        asked = msgspec.structs.replace(query, min_index=0, wait_us=0)

        def joined(answer: Answer, vector: Vector) -> None:
            is_unchanged = seen is not None and vector == seen and not answer.is_error
            if is_unchanged and self._server.now.mono_us < give_up_us:
                self._server.outbox.after(_POLL_US, again)
                return
            if not answer.is_error:
                answer.index = query.min_index if is_unchanged else self._index_of(vector)
            respond(answer)

        def again() -> None:
            self._ask_all(where, endpoint, asked, joined)

        again()

    def _ask_all(
        self,
        where: Everywhere,
        endpoint: Endpoint,
        query: Query,
        then: Callable[[Answer, Vector], None],
    ) -> None:
        datacenter_ids = (*where.datacenter_ids, *where.guests)
        answers: dict[str, Answer] = {}

        def collect(datacenter_id: str) -> Respond:
            def respond(answer: Answer) -> None:
                answers[datacenter_id] = answer
                if len(answers) == len(datacenter_ids):
                    then(self._join(where, answers, query), _vector(answers))

            return respond

        for datacenter_id in datacenter_ids:
            respond = collect(datacenter_id)
            addressed = msgspec.structs.replace(query, datacenter=datacenter_id)
            if datacenter_id in where.guests:
                own = self._server.config.region
                params = {**query.params, "submitted_to": own}
                addressed = msgspec.structs.replace(addressed, region="", params=params)
            if datacenter_id == self._server.datacenter_id:
                self._here(endpoint, addressed, respond)
                continue
            servers = self._server.membership.servers_of_datacenter(datacenter_id)
            if servers:
                self._pass_on([site.rpc for site in servers], addressed, respond)
            else:
                respond(Answer(status=500, error="no live server is known"))

    def _join(self, where: Everywhere, answers: dict[str, Answer], query: Query) -> Answer:
        datacenter_ids = (*where.datacenter_ids, *where.guests)
        names = {site.id: site.name for site in self._server.membership.datacenters().values()}
        missing = [dc for dc in datacenter_ids if answers[dc].status >= 500]
        for datacenter_id in datacenter_ids:
            if 400 <= answers[datacenter_id].status < 500:
                return answers[datacenter_id]  # the caller's mistake is the same everywhere
        needed = [dc for dc in missing if dc not in where.guests]
        if needed and (not query.stale or len(missing) == len(datacenter_ids)):
            named = "; ".join(f"{names.get(dc, dc)}: {answers[dc].error}" for dc in needed)
            return Answer(status=500, error=f"datacenters did not answer: {named}")
        given = [answers[dc] for dc in datacenter_ids if dc not in missing]
        answer = Answer(
            body=_joined_bodies([one.body for one in given], query),
            known_leader=all(one.known_leader for one in given),
            last_contact_ms=max(one.last_contact_ms for one in given),
        )
        if missing:
            shown = ",".join(names.get(dc, dc) for dc in missing)
            answer.headers["X-Serai-Missing-Datacenters"] = shown
        return answer

    def _index_of(self, vector: Vector) -> int:
        """Return the virtual index of a vector; the same one while nothing changed."""
        newest = next(reversed(self._vectors), 0)
        if newest and self._vectors[newest] == vector:
            return newest
        self._last_ms = max(self._last_ms + 1, self._server.now.wall_us // 1000 - _EPOCH_MS)
        index = self._last_ms << _TAG_BITS | self._tag
        self._vectors[index] = vector
        if len(self._vectors) > _KEPT:
            del self._vectors[next(iter(self._vectors))]
        return index


def _vector(answers: dict[str, Answer]) -> Vector:
    return tuple(sorted((dc, answer.index) for dc, answer in answers.items()))


def _joined_bodies(bodies: list[Any], query: Query) -> Any:
    """Join lists by concatenation, and maps of lists (searches) key by key."""
    if all(isinstance(body, dict) for body in bodies):
        return _joined_maps(bodies)
    rows: list[Any] = [row for body in bodies for row in (body or [])]
    if query.method == "Service.List":
        return _joined_services(rows)
    if query.method == "NodePool.List":
        return list({_field(row, "Name"): row for row in rows}.values())
    return sorted(rows, key=lambda row: str(_field(row, "ID")))


def _field(row: Any, name: str) -> Any:
    if isinstance(row, dict):
        return row.get(name)
    return getattr(row, name.lower(), "")


def _joined_maps(bodies: list[Any]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for body in bodies:
        for key, value in body.items():
            known = joined.get(key)
            if isinstance(value, dict) and isinstance(known, dict):
                joined[key] = _joined_maps([known, value])
            elif isinstance(value, list) and isinstance(known, list):
                joined[key] = known + [row for row in value if row not in known]
            elif isinstance(value, bool) and isinstance(known, bool):
                joined[key] = known or value
            else:
                joined[key] = value
    return joined


def _joined_services(rows: list[Any]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        names = found.setdefault(row["Namespace"], {})
        for service in row["Services"]:
            names.setdefault(service["ServiceName"], {}).update(dict.fromkeys(service["Tags"]))
    return [
        {
            "Namespace": namespace,
            "Services": [
                {"ServiceName": name, "Tags": sorted(tags)} for name, tags in sorted(names.items())
            ],
        }
        for namespace, names in sorted(found.items())
    ]
