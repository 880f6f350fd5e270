"""The digest of this datacenter, and how far the others are.

The leader makes the digest when gossip wants it, and whenever it judges a job itself: then
at most every `KEPT_US`, for a pass over 10,000 nodes is not for each of many jobs, and while
nothing was applied to the state only every `UNCHANGED_KEPT_US`. Round
trips are measured by a small call to one server of each datacenter, every half minute.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import digest as digests
from core.federation import lifecycle
from core.federation.claims import authority_of
from core.federation.digest import ClassRoom, Digest
from core.federation.seal import is_sealed
from core.federation.survey import Survey
from core.server.launching import CLOCK

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.model.host import CallDone
    from core.scheduler import Held
    from core.server.context import Server
    from core.state.state import State

KEPT_US: Final = 100_000
UNCHANGED_KEPT_US: Final = 4_000_000  # queue and rates move without an entry
BLOCKED_KEPT_US: Final = 5_000_000  # looking at thousands of blocked evaluations takes longer
BLOCKED_LOOKED_AT: Final = 2_000
TRIPS_US: Final = 30_000_000
_FIRST_TRIPS_US: Final = 2_000_000
_TRIP_TIMEOUT_US: Final = 5_000_000


class Digesting:
    """One per server."""

    def __init__(self, server: Server, coordinator: Coordinator) -> None:
        self._server = server
        self._coordinator = coordinator
        self._survey = Survey()
        self._own: tuple[int, int, int, Digest] | None = None  # made when, of which indexes
        self._fields: tuple[State, int, dict[str, Any]] | None = None  # of which index
        self._blocked: tuple[int, list[int]] = (0, [])
        self._is_measuring = False

    # --- our own ----------------------------------------------------------------------------

    def own(self) -> Digest:
        """Return this datacenter's digest, at most `KEPT_US` old if anything was applied since."""
        now_us, state = self._server.now.mono_us, self._server.state
        nodes_index = state.table_index("nodes")
        if self._own is not None:
            made_us, made_of, index, digest = self._own
            kept_us = UNCHANGED_KEPT_US if index == state.index else KEPT_US
            if nodes_index == made_of and now_us - made_us < kept_us:
                return digest
        digest = self._make(now_us)
        self._own = (now_us, nodes_index, state.index, digest)
        return digest

    def forget(self) -> None:
        """Something was promised or given back: the next reader gets a new one."""
        self._own = None

    def _make(self, now_us: int) -> Digest:
        server, offers = self._server, self._coordinator.offers
        fields = self._surveyed(offers.reservations.held())
        fields = {**fields, "classes": self._with_blocked(fields["classes"], now_us)}
        oldest_us = server.planning.broker.oldest_us
        waited_s = (server.now.wall_us - oldest_us) // 1_000_000 if oldest_us else 0
        return digests.within_budget(
            Digest(
                region=server.config.region,
                datacenter=server.config.datacenter,
                datacenter_id=server.datacenter_id,
                is_authority=server.state.is_authority,
                authority_generation=authority_of(server.state).generation,
                is_draining=lifecycle.takes_nothing(server.state),
                has_quorum=server.consensus.is_serving and not is_sealed(server.state),
                is_sealed=is_sealed(server.state),
                queue_depth=server.measures.queue_ready,
                blocked=server.measures.queue_blocked,
                oldest_s=max(0, waited_s),
                asked=round(offers.count.asked.value(now_us)),
                refused=round(offers.count.refused.value(now_us)),
                cost=server.config.cost,
                round_trips=digests.pack_trips(self._coordinator.known.trips_us()),
                **fields,
            )
        )

    def _surveyed(self, held: list[Held]) -> dict[str, Any]:
        """Return what the nodes have; the same as long as nothing was applied or promised."""
        state = self._server.state
        if held:
            return self._survey.fields(state, held)
        if self._fields is None or self._fields[:2] != (state, state.index):
            self._fields = state, state.index, self._survey.fields(state)
        return self._fields[2]

    def _with_blocked(self, classes: list[ClassRoom], now_us: int) -> list[ClassRoom]:
        """Return each class with how many blocked evaluations wait for it."""
        at_us, counts = self._blocked
        if now_us - at_us >= BLOCKED_KEPT_US or len(counts) != len(classes):
            counts = self._count_blocked(classes)
            self._blocked = (now_us, counts)
        return [
            one if one.blocked == count else msgspec.structs.replace(one, blocked=count)
            for one, count in zip(classes, counts, strict=True)
        ]

    def _count_blocked(self, classes: list[ClassRoom]) -> list[int]:
        state = self._server.state
        counts = [0] * len(classes)
        keys = self._survey.computed_classes(state)
        for evaluation in islice(self._server.planning.blocked.waiting(), BLOCKED_LOOKED_AT):
            record = state.jobs.get(evaluation.namespace, evaluation.job_id)
            pool = (record.job.node_pool if record is not None else None) or "default"
            eligible = evaluation.class_eligibility or {}
            for place, one in enumerate(classes):
                may_hold = any(eligible.get(key, True) for key in keys[place])
                counts[place] += pool in ("all", one.pool) and may_hold
        return counts

    # --- the others -------------------------------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        if is_leader and not self._is_measuring:
            self._is_measuring = True
            self._server.outbox.after(_FIRST_TRIPS_US, self._measure_trips)

    def _measure_trips(self) -> None:
        server = self._server
        if not server.consensus.is_serving:
            self._is_measuring = False
            return
        server.outbox.after(TRIPS_US, self._measure_trips)
        for datacenter_id in server.membership.datacenters():
            alive = server.membership.servers_of_datacenter(datacenter_id)
            if datacenter_id != server.datacenter_id and alive:
                self._measure_trip(datacenter_id, alive[0].rpc)

    def _measure_trip(self, datacenter_id: str, address: str) -> None:
        sent_us = self._server.now.mono_us

        def done(event: CallDone) -> None:
            if not event.error:
                took_us = self._server.now.mono_us - sent_us
                self._coordinator.known.measured(datacenter_id, took_us)

        self._server.outbox.ask(address, CLOCK, None, _TRIP_TIMEOUT_US, done)
