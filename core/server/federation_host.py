"""This server as its federation coordinator sees it: core.federation.host, carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from core.federation import digest as digests
from core.federation.causes import CausalClock
from core.federation.coordinator import Coordinator
from core.federation.digest import Digest
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.known import Site
from core.federation.roster import off_ones
from core.jobspec.forms import JobForms
from core.model.host import CallDone, Now, Peer
from core.model.job import Job
from core.model.query import Answer, Query
from core.scheduler import Fit, Held, fits
from core.server import acl
from core.server.digesting import Digesting
from core.server.endpoints.shared import check_registrations
from core.server.endpoints.table import ENDPOINTS
from core.server.measures import count
from core.server.proposal import Outcome
from core.server.request import QueryError, Request, Respond
from core.server.trails import Trails

if TYPE_CHECKING:
    from core.server.context import Server
    from core.state.state import State

CALL_PREFIXES: Final = (
    "Adopt.", "Authority.", "Backup.", "Claim.", "Home.", "Multiregion.", "Roster.",
    "Seal.", "Share.",
)  # fmt: skip
HYBRID_TIME: Final = "HybridTime"  # in the bodies of calls between datacenters, and of replies
NO_LEADER: Final = "the datacenter has no leader just now"
_TRIES: Final = 3


class FederationHost:
    """Implements core.federation.host.FederationHost for one server."""

    digesting: Digesting  # put here by FederatedDatacenter: it asks the coordinator

    def __init__(self, server: Server) -> None:
        self._server = server
        self.region = server.config.region
        self.datacenter = server.config.datacenter
        self.rng = server.rng
        self._known: dict[str, tuple[int, int, Digest]] = {}
        # Several parts ask for the sites in one moment: made when, at which index, with our own.
        self._sites_at: tuple[int, int, Digest | None] | None = None
        self._sites: list[Site] = []
        self._forms = JobForms(self.region)
        self.clock = CausalClock(self)

    @property
    def now(self) -> Now:
        return self._server.now

    @property
    def state(self) -> State:
        return self._server.consensus.state

    @property
    def datacenter_id(self) -> str:
        return self._server.consensus.state.datacenter_id  # asked a dozen times a job

    @property
    def is_serving(self) -> bool:
        return self._server.consensus.is_serving

    # --- digests ----------------------------------------------------------------------------

    def sites(self) -> list[Site]:
        state, own_id = self.state, self.datacenter_id
        own = self.digesting.own() if own_id else None
        moment = self.now.mono_us, state.index, own
        if moment == self._sites_at:
            return self._sites
        sites = [Site(own, 0, 0, None)] if own is not None else []
        off = off_ones(state)
        for view in self._server.membership.wan.digests(self.now.mono_us):
            if view.origin == own_id or view.origin in off:
                continue
            known = self._known.get(view.origin)
            if known is None or known[:2] != (view.term, view.sequence):
                digest = digests.decode(view.data)
                if digest is None:
                    count(self._server.measures.refusals, "digest of another format")
                    continue
                known = (view.term, view.sequence, digest)
                self._known[view.origin] = known
            sites.append(Site(known[2], view.term, view.sequence, view.age_us))
        self._sites_at, self._sites = moment, sites
        return sites

    def datacenters(self) -> dict[str, tuple[str, str]]:
        found, off = self._server.membership.datacenters(), off_ones(self.state)
        return {key: (one.region, one.name) for key, one in found.items() if key not in off}

    # --- calls and commands -----------------------------------------------------------------

    def ask(self, datacenter_id: str, method: str, body: Any, timeout_us: int, done: Done) -> None:
        """Call a datacenter's leader through any of its servers, trying up to three."""
        if datacenter_id == self.datacenter_id and method != "Query":
            coordinator = self._server.federation
            if not coordinator.on_call(method, body, self._server.me(), done):
                done(None, f"unknown call {method}")
            return
        servers = self._server.membership.servers_of_datacenter(datacenter_id)
        if not servers:
            done(None, "unreachable: gossip knows no live server of it")
            return
        count(self._server.measures.forwards, "datacenter")
        start = self.rng.randrange(len(servers))
        addresses = [site.rpc for site in servers[start:] + servers[:start]][:_TRIES]
        if isinstance(body, dict):
            body = {**body, HYBRID_TIME: self.clock.read()}

        def attempt(position: int) -> None:
            def on_done(event: CallDone) -> None:
                if event.error.startswith("unreachable") and position + 1 < len(addresses):
                    attempt(position + 1)
                else:
                    if isinstance(event.body, dict):
                        self.clock.merge(event.body.get(HYBRID_TIME))
                    done(event.body, event.error)

            self._server.outbox.ask(addresses[position], method, body, timeout_us, on_done)

        attempt(0)

    def propose(self, commands: list[Any], done: Done) -> None:
        def then(outcome: Outcome) -> None:
            if outcome.applied is None:
                done(None, outcome.reason)
            else:
                result = outcome.applied.results[0]
                done(result.value, result.error)

        self._server.consensus.propose([self.clock.seen(one) for one in commands], then)

    def prove_leadership(self, then: Callable[[bool], None]) -> None:
        self._server.consensus.read_barrier(then)

    def answer_here(self, query: Query, respond: Respond) -> None:
        self._server.router.answer_here(query, respond)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._server.outbox.after(delay_us, action)

    # --- jobs -------------------------------------------------------------------------------

    def fit(
        self, job: Job, indices: dict[str, list[tuple[int, int]]] | None, held: Sequence[Held]
    ) -> Fit:
        return fits(self.state, job, now_us=self.now.wall_us, indices=indices, held=held)

    def refusal(self, query: Query) -> Answer | None:
        try:
            if self._server.config.acl_enabled:
                acl.check(self.state, query, ENDPOINTS[query.method])
            check_registrations(Request(query, self._server))
        except QueryError as error:
            return error.answer()
        return None

    def canonical(self, body: Any) -> Job | None:
        job = body.get("Job") if isinstance(body, dict) else None
        if job is None:
            return None
        return self._forms.read(job)

    def count_refusal(self, reason: str) -> None:
        count(self._server.measures.refusals, reason)

    def count_bounce(self) -> None:
        self._server.measures.bounces += 1

    def count_moves(self, reason: str, instances: int) -> None:
        count(self._server.measures.share_moves, reason, instances)

    def measure_shares(self, unsettled: int, abroad: int) -> None:
        self._server.measures.shares_unsettled = unsettled
        self._server.measures.instances_abroad = abroad

    def note_heal(self, took_us: int) -> None:
        self._server.measures.heal_time.add(took_us)

    def log(self, level: str, message: str, **fields: Any) -> None:
        self._server.outbox.log(level, message, **fields)


class FederatedDatacenter(Coordinator):
    """The coordinator of one server, and what the server tells it beside queries."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._own = FederationHost(server)
        self.trails = Trails(server, self._own.clock)
        super().__init__(self._own)
        self._own.digesting = Digesting(server, self)

    def on_leadership(self, is_leader: bool) -> None:
        super().on_leadership(is_leader)
        self._own.digesting.on_leadership(is_leader)

    def on_call(
        self, method: str, body: Any, source: Peer, reply: Callable[[Any, str], None]
    ) -> bool:
        """Take a call of another datacenter, or pass it to this one's leader."""
        server = self._server
        if not method.startswith(CALL_PREFIXES):
            return False
        if server.consensus.is_serving:
            if not isinstance(body, dict):
                return super().on_call(method, body, source, reply)
            self._own.clock.merge(body.get(HYBRID_TIME))
            return super().on_call(method, body, source, self._timed(reply))
        leader = server.consensus.leader_address()
        if not leader or server.consensus.is_leader or source.datacenter_id == self._own_id():
            reply(None, NO_LEADER)
            return True
        count(server.measures.forwards, "leader")
        server.outbox.ask(
            leader, method, body, CALL_TIMEOUT_US, lambda event: reply(event.body, event.error)
        )
        return True

    def _timed(self, reply: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
        """Return a way to reply that sends our hybrid time along."""

        def timed(body: Any, error: str) -> None:
            if isinstance(body, dict):
                body = {**body, HYBRID_TIME: self._own.clock.read()}
            reply(body, error)

        return timed

    def _own_id(self) -> str:
        return self._server.datacenter_id or "-"

    def digest(self) -> bytes | None:
        """Return this datacenter's digest for the WAN pool. Leader only."""
        return digests.encode(self._own.digesting.own())
