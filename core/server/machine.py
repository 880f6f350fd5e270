"""The machine of a server: composes its parts and hands them what happened.

    machine = ServerMachine(config=..., boot=..., rng=random.Random(seed), now=now)
    effects = machine.handle(event, now)

Where things live:

    config, effects   what the host gives, carries out and reports
    context, outbox   what the parts share: timers, questions to other agents, effects
    membership        LAN and WAN gossip; who is there
    origin            two regions that share a name only refuse each other
    keyring           gossip's keys changed while the federation runs
    bootstrap         the birth of a datacenter's log
    consensus         Raft and the state; proposals, barriers, snapshots
    autopilot         who takes part in the quorum: taken in, promoted, demoted, removed
    planning          evaluations to plans
    deployments       rollouts watched
    nodes, liveness   the calls of clients; when a node is down
    draining          when a drain is complete
    launching         periodic jobs are launched; children: jobs made from jobs
    routing           where a query is answered; gathering: over several datacenters
    blocking          parked queries
    endpoints/        what each query does
    federation_port   the seam to core.federation
    measuring         how fast the log is, on request
    measures          numbers for metrics

One `handle()` runs: the event's handler, timers that are due, then the parts' pumps until
nobody has anything left to do. So proposals made by continuations of this very call still
leave with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from core.federation.seal import is_sealed
from core.model.host import (
    CallDone,
    Effect,
    Event,
    GossipExchanged,
    GossipExchangeRequested,
    GossipReceived,
    MessageReceived,
    Now,
    Requested,
    RequestedTogether,
    Tick,
)
from core.model.node import NodeStatus
from core.model.query import Answer
from core.server.autopilot import Autopilot
from core.server.bootstrap import PLEDGE, Birth
from core.server.collection import Collection
from core.server.config import ServerBoot, ServerConfig
from core.server.consensus import CHANNEL, Consensus, Decode
from core.server.context import Server
from core.server.effects import (
    Computed,
    KeysAsked,
    LogPersisted,
    LogPersistFailed,
    ShutdownRequested,
    SnapshotFailed,
    SnapshotRead,
    SnapshotSaved,
    SnapshotStaged,
)
from core.server.exports import Exports
from core.server.federation_host import FederatedDatacenter
from core.server.hashes import STATE_HASH, Hashes
from core.server.keyring import Keyring
from core.server.launching import CLOCK, LaunchWatch
from core.server.liveness import LAN_VIEW
from core.server.measures import Measures, count
from core.server.measuring import Measuring
from core.server.membership import FORCE_LEAVE, Membership
from core.server.origin import Origin
from core.server.parts import add_parts
from core.server.routing import AT_LEADER, NOT_LEADER, Router, as_query
from core.server.strangers import REFUSED
from core.state.entry import decode_entry

_DISK_EVENTS = (
    LogPersisted, LogPersistFailed, SnapshotSaved, SnapshotFailed, SnapshotRead, SnapshotStaged,
)  # fmt: skip
_GOSSIP_EVENTS = (GossipReceived, GossipExchangeRequested, GossipExchanged)
_PUMP_LIMIT = 10_000  # rounds of one handle(); more means that two parts feed each other


class ServerMachine:
    """See the module's page. `measures`, `state` and `datacenter_id` are for the host to read."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        boot: ServerBoot,
        rng: random.Random,
        now: Now,
        decode: Decode = decode_entry,
    ) -> None:
        server = self.server = Server(config, rng, now)
        server.hashes = Hashes(server)
        server.exports = Exports(server)
        server.consensus = Consensus(server, boot, rng, decode)
        server.keyring = Keyring(server)
        server.origin = Origin(server)
        server.membership = Membership(server, boot, rng)
        add_parts(server, rng)
        server.router = Router(server)
        server.federation = FederatedDatacenter(server)
        server.autopilot = Autopilot(server)
        server.leading = [
            server.system_jobs, server.planning, server.deployments, server.liveness,
            LaunchWatch(server),
            server.draining, Collection(server), server.autopilot, server.federation,
            server.origin,
        ]  # fmt: skip
        server.measuring = Measuring(server)
        server.leading = [*server.leading, server.measuring]
        self._birth = Birth(server)
        self._is_leaving = False
        self._nodes_index = -1  # of the node table, when its nodes were last counted
        if server.datacenter_id:
            server.membership.set_bootstrapped()
        server.outbox.after(config.digest_interval_us, self._publish_digest)
        self._settle()

    @property
    def deadline_us(self) -> int:
        server = self.server
        if server.outbox.has_effects:
            return server.now.mono_us
        return min(
            server.outbox.deadline_us,
            server.consensus.deadline_us,
            server.membership.deadline_us,
        )

    @property
    def datacenter_id(self) -> str:
        return self.server.datacenter_id

    @property
    def state(self) -> Any:
        return self.server.state

    @property
    def measures(self) -> Measures:
        """Return the counters, with the gauges brought up to date."""
        server = self.server
        server.consensus.refresh_measures()
        server.membership.refresh_measures()
        server.measures.is_sealed = int(is_sealed(server.state))
        index = server.state.table_index("nodes")
        if index != self._nodes_index:  # not at each scrape: there may be thousands
            self._nodes_index = index
            nodes = {status.value: 0 for status in NodeStatus}  # nobody: 0, not no series
            for node in server.state.nodes:
                count(nodes, node.status.value)
            server.measures.nodes = nodes
        return server.measures

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event and return the effects, to be carried out in order."""
        server = self.server
        server.outbox.now = now
        match event:
            case Tick():
                pass
            case Requested():
                self._on_requested(event)
            case RequestedTogether():
                for one in event.requests:
                    self._on_requested(one)
            case CallDone():
                server.outbox.on_call_done(event)
            case MessageReceived():
                if event.channel == CHANNEL:
                    server.consensus.on_message(event)
            case Computed():
                if not server.outbox.on_computed(event):
                    server.planning.on_computed(event)
            case KeysAsked():
                server.keyring.on_asked(event)
            case ShutdownRequested():
                self._on_shutdown()
            case _ if isinstance(event, _DISK_EVENTS):
                if not server.exports.on_disk(event):
                    server.consensus.on_disk(event)
            case _ if isinstance(event, _GOSSIP_EVENTS):
                server.membership.on_event(event)
            case _:
                server.outbox.log(
                    "warning", "an event is not for a server", event=repr(event)[:200]
                )
        self._settle(is_tick=isinstance(event, Tick))
        return server.outbox.take()

    def _settle(self, *, is_tick: bool = True) -> None:
        server = self.server
        server.consensus.tick(is_host_ready=is_tick)
        server.membership.tick()
        for _ in range(_PUMP_LIMIT):
            server.outbox.run_due()
            is_busy = server.membership.pump()
            is_busy = server.consensus.pump() or is_busy
            is_busy = server.planning.pump() or is_busy
            if not is_busy:
                return
        raise AssertionError("the parts of the server keep each other busy without end")

    # --- calls ------------------------------------------------------------------------

    def _on_requested(self, event: Requested) -> None:
        server = self.server
        count(server.measures.rpc, event.method)

        def reply(body: Any, error: str = "") -> None:
            server.outbox.reply(event.request_id, body, error)

        method, body = event.method, event.body
        if method in ("Query", AT_LEADER):
            self._on_query(method, body, reply)
        elif method == PLEDGE:
            reply(*self._birth.on_pledge(body))
        elif method == FORCE_LEAVE:
            reply(*server.membership.on_force_leave(body))
        elif method == REFUSED:
            reply(*server.consensus.strangers.on_told(body, event.source))
        elif method == CLOCK:
            reply({"wall_us": server.now.wall_us})
        elif method == STATE_HASH:
            server.hashes.on_call(body, reply)
        elif method == LAN_VIEW:
            reply(*server.liveness.on_lan_view(body))
        elif not (
            server.nodes.on_call(method, body, reply)
            or server.nodes.on_call_at_leader(method, body, reply)
            or server.federation.on_call(method, body, event.source, reply)
        ):
            reply(None, f"a server has no method {method!r}")

    def _on_query(self, method: str, body: Any, reply: Callable[..., None]) -> None:
        try:
            query = as_query(body)
        except msgspec.ValidationError as error:
            reply(Answer(status=400, error=f"the query is not valid: {error}"))
            return
        if method == "Query":
            self.server.router.on_query(query, reply)
        else:
            self.server.router.on_query_at_leader(query, reply, lambda: reply(None, NOT_LEADER))

    # --- its own rhythm ---------------------------------------------------------------

    def _publish_digest(self) -> None:
        server = self.server
        if server.consensus.is_serving:
            data = server.federation.digest()
            if data is not None:
                server.membership.publish_digest(data)
        server.outbox.after(server.config.digest_interval_us, self._publish_digest)

    def _on_shutdown(self) -> None:
        """Hand leadership over and say farewell; the host waits a moment, then closes."""
        if self._is_leaving:
            return
        self._is_leaving = True
        if self.server.consensus.is_leader and len(self.server.consensus.voters()) > 1:
            self.server.consensus.transfer_leadership("")
        self.server.membership.leave()
