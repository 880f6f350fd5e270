"""What gossip tells a simulated server of the others: who there is, who is alive, their digests."""

from typing import TYPE_CHECKING

from core.server.sites import Datacenter as KnownDatacenter
from core.server.sites import ServerSite
from gossip.views import DigestView
from sim.federation.world import SILENT_US

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter, ServerHost


class _Wan:
    def __init__(self, host: "ServerHost") -> None:
        self._host = host

    def digests(self, mono_us: int) -> list[DigestView]:
        now_us = self._host.world.now_us
        heard = self._host.datacenter.heard
        return [
            DigestView(origin, term, sequence, data, now_us - at_us)
            for origin, (term, sequence, data, at_us) in heard.items()
        ]


class Neighbours:
    """What gossip tells a server of the others."""

    def __init__(self, host: "ServerHost") -> None:
        self._host = host
        self.wan = _Wan(host)
        self._known: dict[str, KnownDatacenter] = {}

    def _is_alive(self, other: "Datacenter") -> bool:
        own = self._host.datacenter
        if other is own:
            return True
        known = own.heard.get(other.id)
        return known is not None and self._host.world.now_us - known[3] < SILENT_US

    def _sites_of(self, other: "Datacenter") -> list[ServerSite]:
        is_alive = self._is_alive(other)
        return [
            ServerSite(
                name=f"s{host.number}-{other.name}.{other.region}", id=host.address,
                region=other.region, datacenter=other.name, datacenter_id=other.id,
                rpc=host.address, http=host.address, lan=host.address, gossip=host.address,
                expect=len(other.servers), is_bootstrapped=True, is_alive=is_alive, build="",
                is_authority=other.state.is_authority,
            )
            for host in other.servers
        ]  # fmt: skip

    def sites(self) -> dict[str, ServerSite]:
        all_of_them = self._host.world.datacenters.values()
        return {site.name: site for other in all_of_them for site in self._sites_of(other)}

    def own_servers(self) -> list[ServerSite]:
        return self._sites_of(self._host.datacenter)

    def servers_of_region(self, region: str) -> list[ServerSite]:
        return [
            site
            for other in self._host.world.region(region)
            if self._is_alive(other)
            for site in self._sites_of(other)
        ]

    def servers_of_datacenter(self, datacenter: str) -> list[ServerSite]:
        world, own = self._host.world, self._host.datacenter
        other = world.datacenters.get(datacenter)
        if other is None:
            named = (one for one in world.region(own.region) if one.name == datacenter)
            other = next(named, None)
        return self._sites_of(other) if other is not None and self._is_alive(other) else []

    def datacenters(self) -> dict[str, KnownDatacenter]:
        everybody = self._host.world.datacenters
        if len(self._known) < len(everybody):
            for one in everybody.values():
                self._known[one.id] = KnownDatacenter(one.id, one.name, one.region)
        return self._known

    def regions(self) -> list[str]:
        return sorted({one.region for one in self._host.world.datacenters.values()})

    def lan_addresses(self) -> list[str]:
        return []

    def lan_dead(self) -> list[str]:
        return []
