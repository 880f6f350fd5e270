"""The beginning of an id leads to no datacenter: all are asked whose it is.

A full id ends with its datacenter's id. Of a prefix every datacenter is asked which of its
records begin so; if it is one, the query goes on with the full id, to where that leads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.lists import ROUTED_IDS
from core.model.query import Answer, Query
from core.server.endpoints import search
from core.server.request import Respond
from core.server.scatter import Scatter

if TYPE_CHECKING:
    from core.server.context import Server

_CONTEXTS: Final = {
    "alloc_id": "allocs", "eval_id": "evals", "deployment_id": "deployment", "node_id": "nodes",
}  # fmt: skip
_SHORTEST: Final = 2
_FULL: Final = 36
_SHOWN: Final = 5  # of those that a prefix fits


class Prefixes:
    def __init__(self, server: Server, scatter: Scatter) -> None:
        self._server = server
        self._scatter = scatter

    def resolve(self, query: Query, then: Callable[[Query], None], respond: Respond) -> None:
        """Call `then` with a query whose id is full, or `respond` with why there is none.

        A prefix that nobody knows is left as it is: the endpoint says that nothing is found.
        """
        name = next((one for one in ROUTED_IDS if query.params.get(one)), "")
        typed = str(query.params.get(name, ""))
        if not _SHORTEST <= len(typed) < _FULL or query.is_part:
            then(query)
            return
        datacenters = self._server.membership.datacenters()
        region = query.region or self._server.config.region
        ids = [one.id for one in datacenters.values() if region in ("*", one.region)]
        if len(ids) < 2:
            then(query)
            return
        asked = msgspec.structs.replace(
            query, method="Search.Prefix", body={"Prefix": typed, "Context": _CONTEXTS[name]},
            params={}, min_index=0, wait_us=0, trail=[],
        )  # fmt: skip

        def found(answers: dict[str, Answer]) -> None:
            silent = {dc: one for dc, one in answers.items() if one.is_error}
            if silent and not query.stale:
                named = "; ".join(
                    f"{self._scatter.name_of(dc)}: {one.error}" for dc, one in silent.items()
                )
                text = f"whose id {typed!r} begins can't be told, datacenters did not answer"
                respond(Answer(status=500, error=f"{text}: {named}"))
                return
            matches = {
                full: dc
                for dc, one in answers.items()
                if not one.is_error
                for full in _matches(one.body, _CONTEXTS[name])
            }
            if len(matches) > 1:
                respond(Answer(status=400, error=self._ambiguous(name, typed, matches)))
                return
            full = next(iter(matches), typed)
            then(msgspec.structs.replace(query, params={**query.params, name: full}))

        self._scatter.ask(ids, search.ENDPOINTS["Search.Prefix"], lambda _: asked, found)

    def _ambiguous(self, name: str, typed: str, matches: dict[str, str]) -> str:
        what = name.removesuffix("_id")
        shown = [f"{full} ({self._scatter.name_of(dc)})" for full, dc in sorted(matches.items())]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        listed = ", ".join(shown[:_SHOWN])
        return f"{what} id prefix {typed!r} fits {len(shown)} of them: {listed}{more}"


def _matches(body: Any, context: str) -> list[str]:
    found = body.get("Matches") if isinstance(body, dict) else None
    return [str(one) for one in (found or {}).get(context) or []]
