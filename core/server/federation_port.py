"""The seam between a server and the federation: where a query belongs, and who may say.

The router asks `locate` for each query that this region shall answer, and the leader asks
it again for what a follower passed on; the answer may come at once or after calls to
other datacenters. `core.server.federation_host` puts core.federation's coordinator here.

Hooks run in this order within one `handle()`: `on_applied` after each batch of applied
entries, before blocked queries wake; `on_leadership` when this server becomes or ceases
to be leader (and has applied its own first entry).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from core.federation.choice import Site
from core.federation.where import Where
from core.model.host import Peer
from core.model.job import Job
from core.model.query import Query
from core.server.trails import Trails
from core.state.commands import Command
from core.state.result import Change


class Federation(Protocol):
    """What the server asks and tells its federation coordinator."""

    trails: Trails

    def locate(self, query: Query, then: Callable[[Where], None]) -> None:
        """Say where `query` belongs: the home of a known job, the choice for a new one."""

    def sites(self) -> list[Site]:
        """Return every datacenter as its newest digest shows it, our own live."""

    def division(self, job: Job) -> list[Command]:
        """Return what commits a new job's parts in other datacenters with its registration."""

    def authority_destination(self, name: str) -> tuple[str, str]:
        """Return (datacenter id, why it can't be its region's authority), by name or id."""

    def adoption_waits(self, source: str) -> dict[str, str]:
        """Return whom the adoption of a datacenter waits for, and what they said. Leader only."""

    def succession_waits(self) -> dict[str, str]:
        """Return whom a succession to the authority waits for. Leader only."""

    def seal_waits(self) -> dict[str, str]:
        """Return whom a sealed datacenter waits for. Leader only."""

    def digest(self) -> bytes | None:
        """Return this datacenter's digest for the WAN pool; None = not now. Leader only."""

    def on_call(
        self, method: str, body: Any, source: Peer, reply: Callable[[Any, str], None]
    ) -> bool:
        """Take a call of another server (Claim.*, Share.*, Home.*); False = not known."""

    def on_applied(self, changes: list[Change]) -> None: ...

    def on_leadership(self, is_leader: bool) -> None: ...
