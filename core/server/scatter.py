"""One query put to several datacenters, and all their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from core.model.host import Address
from core.model.query import Answer, Query
from core.server.measures import count
from core.server.request import Endpoint, Respond

if TYPE_CHECKING:
    from core.server.context import Server
    from core.server.sites import Datacenter

PassOn = Callable[[list[Address], Query, Respond], None]
Local = Callable[[Endpoint, Query, Respond], None]
NO_SERVER = "no live server is known"


class Scatter:
    """Hands queries to datacenters by id; the own one is answered without a call."""

    def __init__(self, server: Server, pass_on: PassOn, here: Local) -> None:
        self._server = server
        self._pass_on = pass_on
        self._here = here

    def ask_one(
        self, datacenter_id: str, endpoint: Endpoint, query: Query, respond: Respond
    ) -> None:
        """Have one datacenter answer for itself, as one part of several."""
        part = msgspec.structs.replace(query, region="", datacenter=datacenter_id, is_part=True)
        if datacenter_id == self._server.datacenter_id:
            self._here(endpoint, part, respond)
            return
        servers = self._server.membership.servers_of_datacenter(datacenter_id)
        if servers:
            self._pass_on([site.rpc for site in servers], part, respond)
        else:
            respond(Answer(status=500, error=NO_SERVER))

    def ask(
        self,
        datacenter_ids: Iterable[str],
        endpoint: Endpoint,
        query_for: Callable[[str], Query],
        then: Callable[[dict[str, Answer]], None],
    ) -> None:
        """Ask each and call `then` with all answers, in the order of the ids."""
        wanted = list(dict.fromkeys(datacenter_ids))
        answers: dict[str, Answer] = {}

        def collect(datacenter_id: str) -> Respond:
            def respond(answer: Answer) -> None:
                answers[datacenter_id] = answer
                if len(answers) == len(wanted):
                    then({one: answers[one] for one in wanted})

            return respond

        if not wanted:
            then({})
        for datacenter_id in wanted:
            self.ask_one(datacenter_id, endpoint, query_for(datacenter_id), collect(datacenter_id))

    def datacenters(self) -> dict[str, Datacenter]:
        """Return all that gossip knows, by id."""
        return self._server.membership.datacenters()

    def count_missing(self, datacenter_ids: Iterable[str]) -> None:
        """Note that these datacenters did not give their part of an answer."""
        known = self._server.membership.datacenters()
        for datacenter_id in datacenter_ids:
            if datacenter_id in known:
                found = known[datacenter_id]
                count(self._server.measures.missing, f"{found.region}/{found.name}")

    def place_of(self, datacenter_id: str) -> dict[str, str]:
        """Return what names a datacenter in an answer."""
        found = self._server.membership.datacenters().get(datacenter_id)
        return {
            "Region": found.region if found is not None else "",
            "Datacenter": found.name if found is not None else "",
            "DatacenterID": datacenter_id,
        }

    def name_of(self, datacenter_id: str) -> str:
        """Return a datacenter as people name it: "region/datacenter" in another region."""
        found = self._server.membership.datacenters().get(datacenter_id)
        if found is None:
            return datacenter_id
        own = self._server.config.region
        return found.name if found.region == own else f"{found.region}/{found.name}"
