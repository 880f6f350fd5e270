"""Who takes part in the quorum: the leader takes servers in, promotes, demotes, removes.

Every two seconds the leader looks at the servers of its datacenter and takes at most one
step, so that one change is committed before the next is thought of:

    dead for the stabilisation time     removed, if enough voters are left (below)
    a voter that shall not vote         made a learner
    a learner, healthy for that time    made a voter (RAFT.md: "learner first, then voter")
    alive and not in the configuration  taken in as a learner

**Healthy** is a server that gossip shows alive, that answered within
`last_contact_threshold` and whose log ends at most `max_trailing_logs` behind.

**Never below quorum.** A dead voter is removed only while at least `min_quorum` voters
remain, and only by a leader that a majority answers; a server that an operator removed is
never taken in again under its id. With the default of 3 a datacenter of three keeps a dead
voter until its replacement votes: removing it first would make the next loss fatal.

The committed schema rises here too: once every server of the configuration says by gossip
that it understands a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from core.model.host import Halt
from core.server.config import AutopilotConfig
from core.server.outbox import Timer
from core.server.sites import ServerSite
from core.state.commands import RaiseSchema
from core.state.operating import AUTOPILOT, REMOVED
from core.state.result import Change
from raft.core import ChangeKind

if TYPE_CHECKING:
    from core.server.context import Server
    from core.server.proposal import Outcome

INTERVAL_US: Final = 2_000_000
MAX_VOTERS: Final = 7


@dataclass(frozen=True, slots=True)
class Standing:
    """One server of the configuration, or one that gossip shows."""

    id: str
    site: ServerSite | None  # None: gossip knows nobody of this id
    address: str
    is_voter: bool
    is_leader: bool
    is_healthy: bool
    last_contact_ms: int
    last_index: int
    since_us: int  # wall clock: when it became healthy, or ceased to be

    @property
    def is_alive(self) -> bool:
        return self.is_leader or (self.site is not None and self.site.is_alive)


class Autopilot:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: Timer | None = None
        self._health: dict[str, tuple[bool, int, int]] = {}  # healthy?, since mono, since wall
        self._dead_since: dict[str, int] = {}
        self._told: dict[str, str] = {}  # what was last said of a server that is not taken in
        self._is_raising = False
        self._is_halting = False
        self._seen: dict[str, None] = {}  # servers that wait to be taken in, since a look ago
        server.membership.on_change.append(self._look_for_twin)

    # --- what others ask ------------------------------------------------------------------

    def config(self) -> AutopilotConfig:
        """Return what an operator set, else what the agent was configured with."""
        kept = self._server.state.operator.get(AUTOPILOT)
        return (
            self._server.config.autopilot
            if kept is None
            else msgspec.convert(kept, AutopilotConfig)
        )

    def standings(self) -> list[Standing]:
        """Return every server of the configuration as this leader sees it, by id."""
        server = self._server
        raft = server.consensus.raft
        configuration = raft.configuration
        sites = {site.id: site for site in server.membership.own_servers()}
        followers = raft.followers()
        now = server.now
        config = self.config()
        found = []
        for replica_id in configuration.addresses:
            site = sites.get(replica_id)
            is_own = replica_id == server.config.server_id
            matched, heard_us = followers.get(replica_id, (0, 0))
            contact_us = 0 if is_own else max(0, now.mono_us - heard_us)
            last_index = raft.last_index if is_own else matched
            is_healthy = is_own or (
                site is not None
                and site.is_alive
                and contact_us <= config.last_contact_threshold_us
                and raft.last_index - last_index <= config.max_trailing_logs
            )
            _, _, since_us = self._health.get(replica_id, (is_healthy, now.mono_us, now.wall_us))
            found.append(
                Standing(
                    id=replica_id,
                    site=site,
                    address=server.consensus.address_of(replica_id),
                    is_voter=replica_id in configuration.voters,
                    is_leader=is_own,
                    is_healthy=is_healthy,
                    last_contact_ms=contact_us // 1000,
                    last_index=last_index,
                    since_us=since_us,
                )
            )
        return found

    def refuse_removal(self, server_id: str) -> str:
        """Return why removing this server would lose the quorum, "" when it would not."""
        left = [one for one in self.standings() if one.is_voter and one.id != server_id]
        answering = set(self._server.consensus.raft.reachable_voters(self._server.now.mono_us))
        alive = sum(one.id in answering for one in left)
        if not left:
            return "it is the last voter"
        if alive < len(left) // 2 + 1:
            return (
                f"of the {len(left)} voters left only {alive} answer now, so the quorum would be "
                "lost: bring another server up first"
            )
        return ""

    # --- the leader's rhythm --------------------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._health.clear()
        self._dead_since.clear()
        self._is_raising = False
        if is_leader:
            self._arm()

    def on_applied(self, changes: list[Change]) -> None:
        return

    def _look_for_twin(self) -> None:
        """Stop where another process has our id: one data folder is a copy of the other.

        A replica that exists twice may vote twice. Of the two the one goes that is not at
        the address that the log has for the id.
        """
        server = self._server
        config = server.config
        twin = next(
            (
                site
                for site in server.membership.own_servers()
                if site.id == config.server_id and site.is_alive
                and site.name != server.membership.wan_name and site.rpc != config.rpc_addr
            ),
            None,
        )  # fmt: skip
        if twin is None:
            return
        known = server.consensus.raft.configuration.addresses.get(config.server_id, "")
        is_copy = known == twin.rpc or (known != config.rpc_addr and twin.name < config.name)
        if is_copy and not self._is_halting:
            self._is_halting = True
            server.outbox.emit(
                Halt(
                    f"server id {config.server_id} is taken by {twin.name} at {twin.rpc}: this "
                    "data folder is a copy of that server's. Start with an empty data_dir"
                )
            )
        elif not is_copy:
            server.outbox.log(
                "error", "another server has our id: its data folder is a copy of ours",
                server=twin.name, at=twin.rpc, remedy="stop it; start it with an empty data_dir",
            )  # fmt: skip

    def _arm(self) -> None:
        self._timer = self._server.outbox.after(INTERVAL_US, self._look)

    def _look(self) -> None:
        self._arm()
        self._server.membership.join_lan()
        standings = self.standings()
        self._note(standings)
        self._raise_schema(standings)
        for step in (self._expel, self._remove_dead, self._demote, self._promote):
            if step(standings):
                return
        if not self._is_raising:
            self._take_in()

    def _note(self, standings: list[Standing]) -> None:
        """Remember since when each server is healthy or not, and since when dead."""
        now = self._server.now
        known = {one.id for one in standings}
        self._health = {key: seen for key, seen in self._health.items() if key in known}
        self._dead_since = {key: us for key, us in self._dead_since.items() if key in known}
        for one in standings:
            seen = self._health.get(one.id)
            if seen is None or seen[0] != one.is_healthy:
                self._health[one.id] = (one.is_healthy, now.mono_us, now.wall_us)
            if one.is_alive:
                self._dead_since.pop(one.id, None)
            else:
                self._dead_since.setdefault(one.id, now.mono_us)

    def _lasted(self, since_us: int) -> bool:
        age_us = self._server.now.mono_us - since_us
        return age_us >= self.config().server_stabilization_time_us

    # --- one step -------------------------------------------------------------------------

    def _expel(self, standings: list[Standing]) -> bool:
        """Remove a learner that turned out to belong to another datacenter."""
        for one in standings:
            if one.site is None or one.is_voter or not self._belongs_elsewhere(one.site):
                continue
            if self._change(ChangeKind.REMOVE, one.id, "a stranger is removed", one.site):
                return True
        return False

    def _belongs_elsewhere(self, site: ServerSite) -> bool:
        return site.is_bootstrapped and site.datacenter_id != self._server.datacenter_id

    def _remove_dead(self, standings: list[Standing]) -> bool:
        config = self.config()
        if not config.cleanup_dead_servers:
            return False
        voters = sum(one.is_voter for one in standings)
        for one in standings:
            since_us = self._dead_since.get(one.id)
            if since_us is None or not self._lasted(since_us):
                continue
            if one.is_voter and (
                voters - 1 < max(1, config.min_quorum) or self.refuse_removal(one.id)
            ):
                continue
            if self._change(ChangeKind.REMOVE, one.id, "a dead server is removed", one.site):
                return True
        return False

    def _demote(self, standings: list[Standing]) -> bool:
        for one in standings:
            wants_vote = one.site is None or not one.site.is_non_voter
            if not one.is_voter or wants_vote or self.refuse_removal(one.id):
                continue
            if one.is_leader:
                self._server.consensus.transfer_leadership("")
                return True
            if self._change(ChangeKind.DEMOTE, one.id, "a server votes no more", one.site):
                return True
        return False

    def _promote(self, standings: list[Standing]) -> bool:
        if sum(one.is_voter for one in standings) >= MAX_VOTERS:
            return False
        for one in standings:
            is_healthy, since_us, _ = self._health[one.id]
            may_vote = not one.is_voter and one.site is not None and not one.site.is_non_voter
            if not (may_vote and is_healthy and one.is_healthy and self._lasted(since_us)):
                continue
            # Refused while it is behind, and asked again at the next look.
            if self._change(ChangeKind.PROMOTE, one.id, "a server is now a voter", one.site):
                return True
        return False

    def _take_in(self) -> None:
        server = self._server
        known = server.consensus.raft.configuration.addresses
        for site in server.membership.own_servers():
            if not site.is_alive or site.id in known:
                continue
            if site.id not in self._seen:  # it may be about to say whose it is
                self._seen[site.id] = None
                continue
            if reason := self._refusal(site):
                if self._told.get(site.id) != reason:
                    self._told[site.id] = reason
                    server.outbox.log(
                        "warning", "a server is not taken into the quorum", server=site.name,
                        at=site.rpc, id=site.id, reason=reason,
                    )  # fmt: skip
                    server.consensus.strangers.tell(site.rpc, reason)
                continue
            if self._change(
                ChangeKind.ADD_LEARNER, site.id, "a server joins the quorum", site, site.rpc
            ):
                return

    def _refusal(self, site: ServerSite) -> str:
        """Return why a server that gossip shows may not take part, with the remedy."""
        state = self._server.state
        if self._belongs_elsewhere(site):
            return (
                f"it belongs to datacenter {site.datacenter_id}, this is {state.datacenter_id}: "
                "give one of the two another datacenter name, or start it with an empty data_dir"
            )
        if site.id in (state.operator.get(REMOVED) or {}):
            return (
                "an operator removed this server: stop it, or start it with an empty data_dir to "
                "take it in anew"
            )
        if site.schema < state.schema:
            return (
                f"it understands schema {site.schema}, this datacenter is at {state.schema}: "
                "upgrade it"
            )
        return ""

    def _change(
        self,
        kind: ChangeKind,
        server_id: str,
        text: str,
        site: ServerSite | None,
        address: str = "",
    ) -> bool:
        reason = self._server.consensus.change_membership(kind, server_id, address)
        if reason:
            return False
        self._server.outbox.log(
            "info", text, server=site.name if site else "(unknown)", id=server_id,
            at=address or self._server.consensus.address_of(server_id),
        )  # fmt: skip
        return True

    def _raise_schema(self, standings: list[Standing]) -> None:
        """Commit a newer schema once every server of the configuration understands it."""
        server = self._server
        if self._is_raising or any(one.site is None for one in standings):
            return
        schema = min(one.site.schema for one in standings if one.site is not None)
        schema = min(schema, server.config.schema_max)
        if schema <= server.state.schema:
            return
        self._is_raising = True

        def then(outcome: Outcome) -> None:
            self._is_raising = False
            if outcome.applied is not None:
                server.outbox.log("info", "the schema of the log rises", schema=schema)

        server.consensus.propose([RaiseSchema(schema=schema)], then)
