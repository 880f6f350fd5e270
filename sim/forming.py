"""LAN pools that begin formed (`pools = "formed"`): what joined long ago need not be played.

The clients of a datacenter enter a `gossip.forming.Formation` as their machines are built;
once all have, every member knows all. The servers, which share no directory with them, are
told by one push of the whole table, an event like any other.
"""

from typing import TYPE_CHECKING, Final

from core.client.machine import ClientMachine
from core.model.host import GossipExchangeRequested
from gossip.forming import Formation, hush
from gossip.machine import GossipMachine
from gossip.messages import SYNC_TABLE, Packet, Update, make_update
from sim.network import Place

if TYPE_CHECKING:
    from sim.agents import SimClient, SimServer
    from sim.host import World

LOOK_US: Final = 500_000
PATIENCE_US: Final = 300_000_000  # from then on who is missing joins as any member does

_Site = tuple[str, str]


class Forming:
    """Waits for each datacenter's clients, and completes its pool."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._formations: dict[_Site, Formation] = {}

    def start(self) -> None:
        """Begin to look; all agents are in the world."""
        self._world.wheel.after(LOOK_US, self._look)

    def of(self, place: Place) -> Formation:
        return self._formations.setdefault((place.region, place.datacenter), Formation())

    def _look(self, _: object) -> None:
        clients: dict[_Site, list[SimClient]] = {}
        for client in self._world.clients:
            site = (client.place.region, client.place.datacenter)
            clients.setdefault(site, []).append(client)
        is_late = self._world.wheel.now_us >= PATIENCE_US
        waiting = False
        for site, formation in self._formations.items():
            if formation.is_complete:
                continue
            if is_late or len(formation) == len(clients[site]):
                self._complete(site, formation, clients[site])
            else:
                waiting = True
                for machine in self._machines(site, clients[site]):
                    hush(machine)  # nobody need be told: at the end all know all
        if waiting:
            self._world.wheel.after(LOOK_US, self._look)

    def _complete(self, site: _Site, formation: Formation, clients: "list[SimClient]") -> None:
        now_us = self._world.wheel.now_us
        servers = self._servers(site)
        rows = [
            _own_row(server.server.server.membership.lan) for server in servers if server.server
        ]
        formation.complete([m for c in clients for m in _lan_of(c)], rows, now_us)
        if not len(formation):
            return
        table = Packet(SYNC_TABLE, sender=clients[0].name, updates=formation.rows())
        for server in servers:
            server.deliver(GossipExchangeRequested("lan", 0, clients[0].gossip_addr, table))
        for machine in self._machines(site, clients):
            hush(machine)

    def _servers(self, site: _Site) -> "list[SimServer]":
        return [
            server
            for server in self._world.servers
            if (server.place.region, server.place.datacenter) == site and server.server is not None
        ]

    def _machines(self, site: _Site, clients: "list[SimClient]") -> list[GossipMachine]:
        """Return the pool's machines that run, the servers' last."""
        lans = [s.server.server.membership.lan for s in self._servers(site) if s.server is not None]
        return [*(machine for client in clients for machine in _lan_of(client)), *lans]


def _lan_of(client: "SimClient") -> list[GossipMachine]:
    machine = client.machine
    return list(machine.lan.pools.values()) if isinstance(machine, ClientMachine) else []


def _own_row(machine: GossipMachine) -> Update:
    identity = machine.table.identity(machine.me)
    return make_update(identity.name, machine.table.key(machine.me), identity.name, identity)
