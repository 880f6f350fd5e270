"""What the servers of the federation say of themselves in gossip, as records.

A member's metadata are short strings that each may lack: an older build says less, and a
foreign member may say anything. What can't be read counts as not said.
"""

from __future__ import annotations

from typing import NamedTuple

from core.model.host import Address
from gossip.views import MemberView, Status


class ServerSite(NamedTuple):
    """One server of the federation, as the WAN pool knows it."""

    name: str  # "name.region"
    id: str
    region: str
    datacenter: str
    datacenter_id: str  # "" until its datacenter is bootstrapped
    rpc: Address
    http: Address
    lan: Address  # its address in its datacenter's LAN pool
    gossip: Address  # in the WAN pool
    expect: int
    is_bootstrapped: bool
    is_alive: bool
    build: str
    is_authority: bool = False  # its datacenter is the authority of its region
    is_non_voter: bool = False
    schema: int = 1  # the newest that it understands
    has_left: bool = False
    origin: str = ""  # of its region (core.server.origin); "" = not settled


class Datacenter(NamedTuple):
    id: str
    name: str
    region: str


def read_site(member: MemberView) -> ServerSite:
    """Read a member's metadata; missing keys are empty, a member without `id` is no server."""
    meta = member.meta
    expect = meta.get("expect", "0")
    schema = meta.get("schema", "1")
    return ServerSite(
        name=member.name,
        id=meta.get("id", ""),
        region=meta.get("region", ""),
        datacenter=meta.get("dc", ""),
        datacenter_id=meta.get("dc_id", ""),
        rpc=meta.get("rpc", ""),
        http=meta.get("http", ""),
        lan=meta.get("lan", ""),
        gossip=member.address,
        expect=int(expect) if expect.isdigit() else 0,
        is_bootstrapped=meta.get("bootstrapped") == "1",
        is_alive=member.status in (Status.ALIVE, Status.SUSPECT),
        build=meta.get("build", ""),
        is_authority=meta.get("authority") == "1",
        is_non_voter=meta.get("nonvoter") == "1",
        schema=int(schema) if schema.isdigit() else 1,
        has_left=member.status is Status.LEFT,
        origin=meta.get("origin", ""),
    )
