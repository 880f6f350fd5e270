"""Who is there: the LAN pool (agents of this datacenter) and the WAN pool (all servers).

A server is a member of both. What it says of itself travels as metadata, the keys below.
The WAN pool tells servers of each other: where to pass a query, who could form a quorum
(core.server.bootstrap), which addresses Raft shall use. The LAN pool tells which agents
have died; it decides nothing alone (core.server.liveness).

Names in the WAN pool are `name.region`, as Nomad shows them; in the LAN pool `name`, the
same that the agent's node has.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.model.host import (
    Address,
    Event,
    GossipExchange,
    GossipExchanged,
    GossipExchangeReply,
    GossipExchangeRequested,
    GossipReceived,
    GossipSend,
    SaveMembers,
)
from core.server.namesakes import Namesakes
from core.server.sites import Datacenter, ServerSite, read_site
from gossip.machine import GossipMachine
from gossip.messages import KEYS, Packet
from gossip.settings import LAN, WAN
from gossip.views import EventKind, MemberEvent, Status

if TYPE_CHECKING:
    from core.server.config import ServerBoot
    from core.server.context import Server

SAVE_INTERVAL_US: Final = 10_000_000
_JOIN_OTHERS: Final = 2  # members that a newcomer is told of beside the server it asked
_JOIN_CHECK_US: Final = 100_000
_MEET_CHECK_US: Final = 500_000
_MEET_TRIES: Final = 16
_PRUNE_TIMEOUT_US: Final = 5_000_000
FORCE_LEAVE: Final = "Server.ForceLeave"


class Membership:
    def __init__(self, server: Server, boot: ServerBoot, rng: random.Random) -> None:
        config = server.config
        self._server = server
        # of our datacenter: whether it is an authority, its region's origin; None: not born
        self._told: tuple[bool, str] | None = None
        self.lan = GossipMachine(
            name=config.name,
            address=config.gossip_addr,
            meta=self._tags(),
            settings=config.lan_gossip or LAN,
            rng=random.Random(rng.getrandbits(64)),
            now_us=server.now.mono_us,
            known=boot.lan_members,
            admit=server.origin.admit_lan,
        )
        self.wan = GossipMachine(
            name=self.wan_name,
            address=config.wan_addr,
            meta=self._tags(),
            settings=config.wan_gossip or WAN,
            rng=random.Random(rng.getrandbits(64)),
            now_us=server.now.mono_us,
            known=boot.wan_members,
            admit=server.origin.admit_wan,
        )
        self._pools: dict[str, GossipMachine] = {"lan": self.lan, "wan": self.wan}
        self._namesakes = Namesakes(server)
        self._saved: dict[str, list[tuple[str, Address]]] = {}
        self._sites: dict[str, ServerSite] | None = None
        self._digest_sequence = 0
        self.on_change: list[Callable[[], None]] = []  # called when a server came or went
        # who we were told of has answered or failed to: a newborn waits for it
        self.has_tried_joins = False
        self._first_tries: set[int] = set()  # exchanges under way, until then
        self._met_self = 0  # answers of our own to our own joins
        self._joiners: list[list[str]] = []  # reasons of refusals, for each `join` under way
        server.outbox.after(0, self._retry_join)
        server.outbox.after(SAVE_INTERVAL_US, self._save)

    @property
    def wan_name(self) -> str:
        return f"{self._server.config.name}.{self._server.config.region}"

    def _name_in(self, pool: str) -> str:
        return self.wan_name if pool == "wan" else self._server.config.name

    @property
    def deadline_us(self) -> int:
        return min(self.lan.deadline_us, self.wan.deadline_us)

    # --- events -----------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Take one of the gossip events. A pool that does not exist is ignored."""
        now_us = self._server.now.mono_us
        match event:
            case GossipReceived(pool, source, packet):
                if pool in self._pools and isinstance(packet, Packet):
                    self._pools[pool].on_packet(source, packet, now_us)
            case GossipExchangeRequested(pool, exchange_id, source, packet):
                if isinstance(packet, Packet) and packet.kind == KEYS:
                    self._server.keyring.on_request(pool, exchange_id, packet)
                elif pool in self._pools and isinstance(packet, Packet):
                    self._namesakes.look(pool, self._name_in(pool), packet)
                    self._pools[pool].on_exchange_request(exchange_id, source, packet, now_us)
            case GossipExchanged(pool, exchange_id, packet):
                if pool in self._pools:
                    answer = packet if isinstance(packet, Packet) else None
                    if answer is not None:
                        self._namesakes.look(pool, self._name_in(pool), answer)
                    self._pools[pool].on_exchanged(exchange_id, answer, now_us)
                if pool == "wan" and not self.has_tried_joins:
                    self._first_tries.discard(exchange_id)
                    # who answers knows what all others would say
                    if not self._first_tries or self.wan.member_count > 1:
                        self._end_first_joins()

    def tick(self) -> None:
        now_us = self._server.now.mono_us
        for machine in self._pools.values():
            if machine.deadline_us <= now_us:
                machine.tick(now_us)

    def pump(self) -> bool:
        """Carry the machines' output into effects; whether any member changed."""
        has_changed = False
        for pool, machine in self._pools.items():
            output = machine.take_output()
            emit = self._server.outbox.emit
            for address, packet in output.packets:
                emit(GossipSend(pool, address, packet))
            for exchange_id, address, packet, timeout_us in output.exchanges:
                emit(GossipExchange(pool, exchange_id, address, packet, timeout_us))
                if pool == "wan" and not self.has_tried_joins:
                    self._first_tries.add(exchange_id)
            for exchange_id, packet in output.replies:
                emit(GossipExchangeReply(pool, exchange_id, packet))
            for identity, reason in output.refusals:
                self._server.origin.on_refused(pool, identity, reason)
                for reasons in self._joiners:
                    reasons.append(f"{identity.name} is refused: {reason}")
            for event in output.events:
                has_changed = True
                self._on_member(pool, event)
        if has_changed:
            for action in self.on_change:
                action()
        return has_changed

    def _on_member(self, pool: str, event: MemberEvent) -> None:
        member = event.member
        if pool == "wan":
            self._sites = None
            self._server.consensus.on_addresses({s.id: s.rpc for s in self.own_servers()})
        elif event.kind is EventKind.FAILED:
            self._server.liveness.on_failed(member.name)
        elif event.kind in (EventKind.JOINED, EventKind.UPDATED):
            self._server.liveness.on_alive(member.name)
        if event.kind in (EventKind.JOINED, EventKind.FAILED, EventKind.LEFT):
            level = "warning" if event.kind is EventKind.FAILED else "info"
            self._server.outbox.log(
                level, f"{pool} member {event.kind.value}", member=member.name, at=member.address
            )

    # --- what is said of this server ----------------------------------------------------

    def set_bootstrapped(self) -> None:
        """Tell the pools that this server's datacenter exists, its id and its authority."""
        is_authority = self._server.state.is_authority
        told = (is_authority, self._server.state.region_origin)
        if self._told == told:
            return
        self._told = told
        self._sites = None
        for machine in self._pools.values():
            machine.set_meta(self._tags(), self._server.now.mono_us)

    def _tags(self) -> dict[str, str]:
        config = self._server.config
        tags = {
            "role": "server",
            "region": config.region,
            "dc": config.datacenter,
            "id": config.server_id,
            "rpc": config.rpc_addr,
            "http": config.http_addr,
            "lan": config.gossip_addr,
            "expect": str(config.bootstrap_expect),
            "build": config.version,
            "schema": str(config.schema_max),
        }
        if config.is_non_voter:
            tags["nonvoter"] = "1"
        if self._told is not None:
            tags["bootstrapped"] = "1"
            tags["dc_id"] = self._server.datacenter_id
            tags["origin"] = self._server.state.region_origin
            if self._server.state.is_authority:
                tags["authority"] = "1"
        return tags

    # --- what is known of others --------------------------------------------------------

    def sites(self) -> dict[str, ServerSite]:
        """Return every server of the federation by WAN name, this one included, sorted."""
        if self._sites is None:
            found = [read_site(member) for member in self.wan.members()]
            self._sites = {s.name: s for s in sorted(found, key=lambda s: s.name) if s.id}
        return self._sites

    def own_servers(self) -> list[ServerSite]:
        """Return the servers of this datacenter by label, dead ones too, this one included."""
        config = self._server.config
        return [
            site
            for site in self.sites().values()
            if (site.region, site.datacenter) == (config.region, config.datacenter)
        ]

    def servers_of_region(self, region: str) -> list[ServerSite]:
        """Return the live servers of another region whose datacenter is bootstrapped."""
        return [
            site
            for site in self.sites().values()
            if site.region == region and site.is_alive and site.datacenter_id
        ]

    def servers_of_datacenter(self, datacenter: str) -> list[ServerSite]:
        """Return live servers of a datacenter: its id, or its name in the own region."""
        region = self._server.config.region
        return [
            site
            for site in self.sites().values()
            if site.is_alive
            and site.datacenter_id
            and (
                site.datacenter_id == datacenter
                or (site.datacenter == datacenter and site.region == region)
            )
        ]

    def datacenters(self) -> dict[str, Datacenter]:
        """Return the bootstrapped datacenters known, by id in order, this one included."""
        found: dict[str, Datacenter] = {}
        for site in self.sites().values():
            if site.datacenter_id:
                found[site.datacenter_id] = Datacenter(
                    site.datacenter_id, site.datacenter, site.region
                )
        return dict(sorted(found.items()))

    def regions(self) -> list[str]:
        """Return the names of all regions known, sorted; the own one is always there."""
        names = {site.region: None for site in self.sites().values()}
        names[self._server.config.region] = None
        return sorted(names)

    def is_lan_alive(self, name: str) -> bool | None:
        """Return what LAN gossip says of an agent; None when it knows none of that name."""
        member = self.lan.member(name)
        return None if member is None else member.status in (Status.ALIVE, Status.SUSPECT)

    def lan_dead(self) -> list[str]:
        """Return the names of agents that LAN gossip holds for dead."""
        return [m.name for m in self.lan.members() if m.status is Status.DEAD]

    def lan_addresses(self) -> list[Address]:
        """Return addresses for a newcomer to join: ours, and those of a few others.

        Not the same for all: ten thousand that begin together would ask the same few. One
        answer is enough; who is dead meanwhile does not answer.
        """
        others = [address for _, address in self.lan.snapshot()]
        chosen = self._server.rng.sample(others, min(len(others), _JOIN_OTHERS))
        return [self._server.config.gossip_addr, *chosen]

    # --- joining ------------------------------------------------------------------------

    def join(
        self, addresses: list[Address], timeout_us: int, then: Callable[[int, list[str]], None]
    ) -> None:
        """Join the WAN pool through `addresses`.

        `then` gets how many of them answered, and why any was refused.
        """
        outbox = self._server.outbox
        give_up_us = outbox.now.mono_us + timeout_us
        refusals: list[str] = []
        self._joiners.append(refusals)
        self.wan.join(addresses, outbox.now.mono_us)

        def check() -> None:
            joined = sum(self._is_answered(address) for address in addresses)
            if joined + len(refusals) >= len(addresses) or outbox.now.mono_us >= give_up_us:
                self._joiners.remove(refusals)
                then(joined, refusals)
            else:
                outbox.after(_JOIN_CHECK_US, check)

        check()

    def _is_answered(self, address: Address) -> bool:
        """Whether somebody answered at an address we joined by, and is in the pool."""
        name = self.wan.answered_by(address)
        member = self.wan.member(name) if name else None
        return member is not None and member.status in (Status.ALIVE, Status.SUSPECT)

    def join_lan(self) -> None:
        """Bring the servers of this datacenter together in the LAN pool."""
        known = {member.address for member in self.lan.members()}
        missing = [
            site.lan
            for site in self.own_servers()
            if site.is_alive and site.lan not in known and site.id != self._server.config.server_id
        ]
        if missing:
            self.lan.join(missing, self._server.now.mono_us)

    def _retry_join(self) -> None:
        """Join by each address that leads to nobody in the pool now, for ever."""
        config = self._server.config
        missing = [
            address
            for address in config.retry_join
            if address != config.wan_addr and not self._is_answered(address)
        ]
        if missing:
            self.wan.join(missing, self._server.now.mono_us)
        if config.retry_join:
            self._server.outbox.after(config.retry_interval_us, self._retry_join)
            self._server.outbox.after(_MEET_CHECK_US, self._look_past_self)
        if not self.has_tried_joins and not missing:
            self._end_first_joins()

    def _look_past_self(self) -> None:
        """Join soon again by a name that lists many servers, of which we met ourselves.

        It may as well be another spelling of our own address, which leads nowhere else.
        """
        joins = self._server.config.retry_join
        met = [address for address in joins if self.wan.answered_by(address) == self.wan_name]
        if met and self._met_self < _MEET_TRIES:
            self._met_self += 1
            self.wan.join(met, self._server.now.mono_us)
            self._server.outbox.after(_MEET_CHECK_US, self._look_past_self)

    @property
    def are_joins_answered(self) -> bool:
        """Whether everybody this server was told of has answered once in its life."""
        config = self._server.config
        return all(
            address == config.wan_addr or self.wan.answered_by(address)
            for address in config.retry_join
        )

    def _end_first_joins(self) -> None:
        self.has_tried_joins = True
        for action in self.on_change:
            action()

    def force_leave(self, name: str, *, is_pruned: bool) -> str:
        """Declare a failed member left in both pools; forget it, here and at every server.

        Args:
            name: As the WAN pool shows it, or without its region if that is ours.
            is_pruned: Forget it, too: as gossip has no word for that, each is told by a call.

        Returns:
            Why nothing was done, or "".
        """
        views = [
            view
            for pool, machine in self._pools.items()
            for known in _known_as(pool, name, self._server.config.region)
            if (view := machine.member(known)) is not None
        ]
        if not views:
            return f"no member is called {name}: serai server members lists the servers"
        if all(view.status in (Status.ALIVE, Status.SUSPECT) for view in views):
            return f"{name} is {views[0].status}: only a failed member can be made to leave"
        self.forget(name, is_pruned=is_pruned)
        if is_pruned:
            body = {"name": name, "region": self._server.config.region}
            for site in self.sites().values():
                if site.is_alive and site.id != self._server.config.server_id:
                    self._server.outbox.ask(
                        site.rpc, FORCE_LEAVE, body, _PRUNE_TIMEOUT_US, lambda done: None
                    )
        return ""

    def forget(self, name: str, *, is_pruned: bool, region: str = "") -> None:
        """Do it in our own tables; `region` is the asker's, "" = our own."""
        now_us = self._server.now.mono_us
        own = self._server.config.region
        region = region or own
        for pool, machine in self._pools.items():
            if pool == "lan" and region != own:
                continue
            for known in _known_as(pool, name, region):
                machine.force_leave(known, now_us)
                if is_pruned and machine.prune(known):
                    self._sites = None

    def on_force_leave(self, body: Any) -> tuple[Any, str]:
        """Another server was asked to prune a member: forget it here too."""
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            return None, f"{FORCE_LEAVE} needs a name"
        self.forget(body["name"], is_pruned=True, region=str(body.get("region", "")))
        return {}, ""

    def leave(self) -> None:
        for machine in self._pools.values():
            machine.leave(self._server.now.mono_us)

    @property
    def is_left(self) -> bool:
        return all(machine.is_left for machine in self._pools.values())

    # --- digests, keeping ----------------------------------------------------------------

    def publish_digest(self, data: bytes) -> None:
        """Tell the WAN pool this datacenter's digest. Newest (term, sequence) wins."""
        self._digest_sequence += 1
        self.wan.publish_digest(
            self._server.datacenter_id,
            self._server.consensus.term,
            self._digest_sequence,
            data,
            self._server.now.mono_us,
        )
        self._server.measures.digests_published += 1

    def _save(self) -> None:
        for pool, machine in self._pools.items():
            members = machine.snapshot()
            if members != self._saved.get(pool):
                self._saved[pool] = members
                self._server.outbox.emit(SaveMembers(pool, members))
        self._server.outbox.after(SAVE_INTERVAL_US, self._save)

    def refresh_measures(self) -> None:
        """Bring the gauges of core.server.measures up to date."""
        measures = self._server.measures
        measures.read_gossip(self._pools)
        names = self.datacenters()
        measures.digest_age_us = {
            _label(names.get(view.origin), view.origin): view.age_us
            for view in self.wan.digests(self._server.now.mono_us)
        }


def _label(datacenter: Datacenter | None, origin: str) -> str:
    return f"{datacenter.region}/{datacenter.name}" if datacenter is not None else f"/{origin}"


def _known_as(pool: str, name: str, region: str) -> tuple[str, str]:
    """Return under which names a pool may know a member of a region: the WAN's bear it."""
    bare = name.removesuffix(f".{region}")
    return name, bare if pool == "lan" else f"{bare}.{region}"
