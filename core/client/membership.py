"""The client's place in its datacenter's LAN pool: gossip finds it when it dies.

It watches nobody itself; what it learns in passing is who the servers are.
"""

import random

from core.client.config import ClientConfig
from core.client.outbox import Outbox
from core.model.host import (
    FOREVER_US,
    Address,
    GossipExchange,
    GossipExchanged,
    GossipExchangeReply,
    GossipExchangeRequested,
    GossipReceived,
    GossipSend,
    SaveMembers,
)
from gossip.directory import Directory
from gossip.forming import Formation
from gossip.machine import GossipMachine
from gossip.messages import Packet
from gossip.settings import Settings
from gossip.views import NOTHING, EventKind, Status

POOL = "lan"
SAVE_INTERVAL_US = 60_000_000


class LanMembership:
    """Silent until `join`: before it, the node has no id to show."""

    def __init__(
        self,
        box: Outbox,
        config: ClientConfig,
        known: tuple[tuple[str, Address], ...],
        directory: Directory | None,
        formation: Formation | None,
    ) -> None:
        self._box = box
        self._config = config
        self._known = known
        self._directory = directory
        self._formation = formation
        self._machine: GossipMachine | None = None
        self.server_addresses: list[Address] = []  # RPC, learnt since last taken

    @property
    def deadline_us(self) -> int:
        return FOREVER_US if self._machine is None else self._machine.deadline_us

    @property
    def pools(self) -> dict[str, GossipMachine]:
        """The machine by its pool's name, for metrics; empty before `join`."""
        return {POOL: self._machine} if self._machine is not None else {}

    def join(self, node_id: str, datacenter_id: str, members: list[Address]) -> None:
        config = self._config
        if not config.gossip_addr:
            return
        now_us = self._box.now.mono_us
        meta = {
            "role": "client",
            "node": node_id,
            "dcid": datacenter_id,
            "region": config.region,
            "dc": config.datacenter,
            "rpc": config.rpc_addr,
        }
        if self._machine is None:
            self._machine = GossipMachine(
                name=config.name,
                address=config.gossip_addr,
                meta=meta,
                settings=config.gossip or Settings(),
                rng=random.Random(self._box.rng.getrandbits(64)),
                now_us=now_us,
                known=self._known,
                directory=self._directory,
                post=self._send,
            )
            if self._formation is not None:
                self._formation.enter(self._machine, now_us)
            self._box.after(SAVE_INTERVAL_US, self._save)
        else:
            self._machine.set_meta(meta, now_us)
        self._machine.join([address for address in members if address], now_us)
        self._carry_out()

    def rejoin(self) -> None:
        """Show ourselves to a server again.

        One that restarted may have forgotten the pool. It can't suspect whom it does not
        know, so nobody would find us when we die.
        """
        if self._machine is None:
            return
        servers = [
            member.address
            for member in self._machine.members()
            if member.meta.get("role") == "server" and member.status is not Status.LEFT
        ]
        if servers:
            self._machine.join([self._box.rng.choice(servers)], self._box.now.mono_us)
            self._carry_out()

    def leave(self) -> None:
        if self._machine is not None:
            self._machine.leave(self._box.now.mono_us)
            self._carry_out()

    def tick(self) -> None:
        machine = self._machine
        if machine is not None and machine.deadline_us <= self._box.now.mono_us:
            machine.tick(self._box.now.mono_us)
            self._carry_out()

    def on_packet(self, event: GossipReceived) -> None:
        machine = self._machine
        if machine is None or event.pool != POOL:
            return
        machine.on_packet(event.source, event.packet, self._box.now.mono_us)
        if machine.output is not NOTHING:
            self._carry_out()

    def on_exchange(self, event: GossipExchangeRequested | GossipExchanged) -> None:
        machine, now_us = self._machine, self._box.now.mono_us
        if machine is None or event.pool != POOL:
            return
        if isinstance(event, GossipExchangeRequested):
            machine.on_exchange_request(event.exchange_id, event.source, event.packet, now_us)
        else:
            machine.on_exchanged(event.exchange_id, event.packet, now_us)
        self._carry_out()

    def _send(self, address: Address, packet: Packet) -> None:
        self._box.emit(GossipSend(POOL, address, packet))

    def _save(self) -> None:
        assert self._machine is not None
        self._box.emit(SaveMembers(POOL, self._machine.snapshot()))
        self._box.after(SAVE_INTERVAL_US, self._save)

    def _carry_out(self) -> None:
        assert self._machine is not None
        output = self._machine.take_output()
        if output is NOTHING:
            return
        for exchange_id, address, packet, timeout_us in output.exchanges:
            self._box.emit(GossipExchange(POOL, exchange_id, address, packet, timeout_us))
        for exchange_id, packet in output.replies:
            self._box.emit(GossipExchangeReply(POOL, exchange_id, packet))
        for event in output.events:
            member = event.member
            is_here = event.kind in (EventKind.JOINED, EventKind.UPDATED)
            if is_here and member.status is Status.ALIVE and member.meta.get("role") == "server":
                self.server_addresses.append(member.meta.get("rpc", ""))
