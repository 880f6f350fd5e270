"""This server as its federation coordinator sees it: core.federation.host, carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from core.federation import digest as digests
from core.federation.causes import CausalClock
from core.federation.choice import Site
from core.federation.coordinator import Coordinator
from core.federation.digest import Digest, Nodes
from core.federation.host import CALL_TIMEOUT_US, Done
from core.jobspec.canonical import canonicalize
from core.jobspec.validate import validate
from core.model.host import CallDone, Now, Peer
from core.model.job import Job
from core.model.query import Query
from core.scheduler.annotate import fits
from core.server.consensus import Outcome
from core.server.measures import count
from core.server.request import Respond
from core.server.trails import Trails

if TYPE_CHECKING:
    from core.server.context import Server
    from core.state.state import State

CALL_PREFIXES: Final = ("Claim.", "Home.")
HYBRID_TIME: Final = "HybridTime"  # in the bodies of calls between datacenters, and of replies
NO_LEADER: Final = "the datacenter has no leader just now"
WORDS_MAX: Final = 200  # in the digest's filter; more would make it say yes to everything
OWN_DIGEST_KEPT_US: Final = 100_000  # it looks at every node: not for each of many jobs
_TRIES: Final = 3


class FederationHost:
    """Implements core.federation.host.FederationHost for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.region = server.config.region
        self.datacenter = server.config.datacenter
        self.rng = server.rng
        self._known: dict[str, tuple[int, int, Digest]] = {}
        self._own: tuple[int, int, Digest | None] = (0, 0, None)
        self.clock = CausalClock(self)

    @property
    def now(self) -> Now:
        return self._server.now

    @property
    def state(self) -> State:
        return self._server.state

    @property
    def datacenter_id(self) -> str:
        return self._server.datacenter_id

    @property
    def is_serving(self) -> bool:
        return self._server.consensus.is_serving

    # --- digests ----------------------------------------------------------------------------

    def own_digest(self) -> Digest:
        """Return this datacenter's digest, at most `OWN_DIGEST_KEPT_US` old."""
        built_us, nodes_index, digest = self._own
        is_fresh = self.now.mono_us - built_us < OWN_DIGEST_KEPT_US
        if digest is None or not is_fresh or nodes_index != self.state.table_index("nodes"):
            digest = self._build_digest()
            self._own = (self.now.mono_us, self.state.table_index("nodes"), digest)
        return digest

    def _build_digest(self) -> Digest:
        state, server = self.state, self._server
        nodes = state.nodes
        ready = np.flatnonzero(nodes.is_ready)
        words: dict[str, None] = {}
        for class_id in np.unique(nodes.class_id[ready]).tolist():
            ordinal = nodes.class_representative(int(class_id))
            node = nodes.record(ordinal) if ordinal is not None else None
            if node is None:
                continue
            words[f"pool.{node.node_pool}"] = None
            for name, driver in sorted((node.drivers or {}).items()):
                if driver.detected and driver.healthy:
                    words[f"driver.{name}"] = None
        room = digests.room_of(
            Nodes(
                cpu_capacity=nodes.cpu_capacity[ready],
                memory_capacity=nodes.memory_capacity[ready],
                disk_capacity=nodes.disk_capacity[ready],
                cpu_used=nodes.cpu_used[ready],
                memory_used=nodes.memory_used[ready],
                disk_used=nodes.disk_used[ready],
                words=list(words)[:WORDS_MAX],
            )
        )
        return Digest(
            region=self.region,
            datacenter=self.datacenter,
            datacenter_id=self.datacenter_id,
            is_authority=state.is_authority,
            has_quorum=server.consensus.is_serving,
            queue_depth=server.measures.queue_ready,
            blocked=server.measures.queue_blocked,
            refused=server.measures.refusals.get("federation", 0),
            **room,  # type: ignore[arg-type]
        )

    def sites(self) -> list[Site]:
        sites = []
        if self.datacenter_id:
            sites.append(Site(self.own_digest(), 0, 0, None))
        for view in self._server.membership.wan.digests(self.now.mono_us):
            if view.origin == self.datacenter_id:
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
        return sites

    def datacenters(self) -> dict[str, tuple[str, str]]:
        found = self._server.membership.datacenters()
        return {key: (one.region, one.name) for key, one in found.items()}

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

    def answer_here(self, query: Query, respond: Respond) -> None:
        self._server.router.answer_here(query, respond)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._server.outbox.after(delay_us, action)

    # --- jobs -------------------------------------------------------------------------------

    def misfit(self, job: Job) -> str:
        fit = fits(self.state, job, now_us=self.now.wall_us)
        return "" if fit.fits_now else "; ".join(fit.reasons()) or "not all instances fit now"

    def canonical(self, body: Any) -> Job | None:
        job = body.get("Job") if isinstance(body, dict) else None
        if job is None:
            return None
        try:
            canonical = canonicalize(msgspec.convert(job, Job), region=self.region)
        except (msgspec.ValidationError, RecursionError):
            return None
        return None if validate(canonical) else canonical

    def count_refusal(self, reason: str) -> None:
        count(self._server.measures.refusals, reason)

    def log(self, level: str, message: str, **fields: Any) -> None:
        self._server.outbox.log(level, message, **fields)


class FederatedDatacenter(Coordinator):
    """The coordinator of one server, and what the server tells it beside queries."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._own = FederationHost(server)
        self.trails = Trails(server, self._own.clock)
        super().__init__(self._own)

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
        return digests.encode(self._own.own_digest())
