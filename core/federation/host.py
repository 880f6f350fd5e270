"""What the coordinator needs of the server it is part of."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from core.federation.causes import CausalClock
from core.federation.known import Site
from core.model.host import Now, Peer
from core.model.job import Job
from core.model.query import Answer, Query
from core.scheduler import Fit, Held
from core.state.state import State

CALL_TIMEOUT_US: Final = 8_000_000  # of a call between datacenters

Respond = Callable[[Answer], None]
Done = Callable[[Any, str], None]  # (body, error text); "" = answered


def is_not_from(source: Peer, sender: str) -> str:
    """Return why a call is not the word of the datacenter it names, "" when it may be."""
    if source.is_proven and source.datacenter_id not in ("", sender):
        return f"datacenter {source.datacenter_id} can't speak for datacenter {sender}"
    return ""


class FederationHost(Protocol):
    """One server, as its coordinator sees it."""

    region: str
    datacenter: str
    rng: random.Random

    @property
    def now(self) -> Now: ...

    @property
    def state(self) -> State: ...

    @property
    def datacenter_id(self) -> str: ...

    @property
    def is_serving(self) -> bool:
        """Whether this server leads its datacenter and holds all acknowledged writes."""

    def sites(self) -> list[Site]:
        """Return every datacenter that a digest is known of, the own one live."""

    def datacenters(self) -> dict[str, tuple[str, str]]:
        """Return datacenter id -> (region, name) of all that gossip knows."""

    def ask(self, datacenter_id: str, method: str, body: Any, timeout_us: int, done: Done) -> None:
        """Call the leader of a datacenter (any server of it passes the call on)."""

    def propose(self, commands: list[Any], done: Done) -> None:
        """Commit commands here; `done` gets the first result's value, or its error."""

    def prove_leadership(self, then: Callable[[bool], None]) -> None:
        """Call `then` with whether this server leads still: what it does not know is not so."""

    def answer_here(self, query: Query, respond: Respond) -> None:
        """Have the endpoint of this server answer, no matter where the query belongs."""

    def after(self, delay_us: int, action: Callable[[], None]) -> None: ...

    def fit(
        self, job: Job, indices: dict[str, list[tuple[int, int]]] | None, held: Sequence[Held]
    ) -> Fit:
        """Return what of a job (of a share of it) fits now on the nodes beside what is held."""

    def refusal(self, query: Query) -> Answer | None:
        """Return why a query's caller may not do what it asks, None when he may."""

    def canonical(self, body: Any) -> Job | None:
        """Return the canonical job of a register or plan body; None when it is not valid."""

    def count_refusal(self, reason: str) -> None: ...

    def count_bounce(self) -> None: ...

    def count_moves(self, reason: str, instances: int) -> None:
        """Count what a home gave or took: placed, queued, spilled, reclaimed, copied."""

    def measure_shares(self, unsettled: int, abroad: int) -> None:
        """Show how many shares are out of step, and how many instances left their region."""

    def note_heal(self, took_us: int) -> None:
        """A datacenter that was silent holds again what it should, so long after it answered."""

    def log(self, level: str, message: str, **fields: Any) -> None: ...

    @property
    def clock(self) -> CausalClock: ...
