"""A region's origin: two regions that share no more than a name refuse each other.

A region begins with its first datacenter, and that one's id is the region's origin. It is
committed in each datacenter's log and told in gossip's metadata. Who comes with another
origin for a name we know is not admitted to the pool, and neither is what it brings.

When a datacenter is born (core.server.bootstrap), its origin is

    that of its region, where gossip shows one
    its own id, when it was told of nobody else, or all it was told of have answered
    open, when somebody it was told of is silent: they may be the region it belongs to

An open one is admitted everywhere, for two datacenters started at the same moment are
meant to become one region (core.federation.authority). Its leader settles the origin as
soon as gossip shows one, or all it was told of have answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.server.outbox import Timer
from core.state.commands import SettleOrigin
from core.state.result import Change
from gossip.messages import Identity

if TYPE_CHECKING:
    from core.server.context import Server

_LOOK_US: Final = 5_000_000
_TOLD_AGAIN_US: Final = 600_000_000  # who is refused for ever is logged every ten minutes
_TOLD_MAX: Final = 256


class Origin:
    """Decides who is admitted; `Leading`: settles what was left open at birth."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: Timer | None = None
        self._told_us: dict[str, int] = {}  # member -> when its refusal was logged last

    # --- whom we admit ----------------------------------------------------------------

    def admit_wan(self, identity: Identity) -> str:
        """Return why a server must not be in the WAN pool, or ""."""
        server, meta = self._server, identity.meta
        region, origin = meta.get("region", ""), meta.get("origin", "")
        if region == server.config.region:
            reason = self._admit_label(meta.get("dc", ""), meta.get("dc_id", ""))
            if reason:
                return reason
            ours = server.state.region_origin
        else:
            ours = self.known_of(region, besides=identity.name)
        if not origin or not ours or origin == ours:
            return ""
        return (
            f"its region {region!r} began with datacenter {origin}, the one we know by that name "
            f"with {ours}: they share a name only. Rename one of them"
        )

    def admit_lan(self, identity: Identity) -> str:
        """Return why an agent must not be in the LAN pool of this datacenter, or ""."""
        meta = identity.meta
        return self._admit_label(
            self._server.config.datacenter, meta.get("dc_id") or meta.get("dcid", "")
        )

    def _admit_label(self, datacenter: str, datacenter_id: str) -> str:
        config, own = self._server.config, self._server.datacenter_id
        is_other = bool(own and datacenter_id) and datacenter_id != own
        if not is_other or datacenter != config.datacenter:
            return ""
        return (
            f"it belongs to another datacenter named {config.region}/{datacenter}: "
            f"{datacenter_id}, ours is {own}. Rename one of them, or empty its data_dir"
        )

    def known_of(self, region: str, *, besides: str = "") -> str:
        """Return the origin of a region as live servers tell it, or ""."""
        for site in self._server.membership.sites().values():
            if site.region == region and site.origin and site.is_alive and site.name != besides:
                return site.origin
        return ""

    def on_refused(self, pool: str, identity: Identity, reason: str) -> None:
        """Tell the operator, but not at every packet."""
        now_us = self._server.now.mono_us
        told_us = self._told_us.get(identity.name)
        if told_us is not None and now_us - told_us < _TOLD_AGAIN_US:
            return
        if len(self._told_us) >= _TOLD_MAX:
            self._told_us.clear()
        self._told_us[identity.name] = now_us
        self._server.outbox.log(
            "error", f"{pool} member refused", member=identity.name, at=identity.address,
            reason=reason,
        )  # fmt: skip

    # --- what is ours -----------------------------------------------------------------

    def at_birth(self, datacenter_id: str, *, is_authority: bool) -> str:
        """Return the origin of a datacenter that begins now; "" leaves it open."""
        known = self.known_of(self._server.config.region)
        if known or not is_authority or not self._server.membership.are_joins_answered:
            return known
        return datacenter_id

    def on_leadership(self, is_leader: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_leader:
            self._look()

    def on_applied(self, changes: list[Change]) -> None:
        return

    def _look(self) -> None:
        server = self._server
        state = server.state
        if state.region_origin:
            return
        self._timer = server.outbox.after(_LOOK_US, self._look)
        found = self.known_of(server.config.region)
        if not found and self._may_be_ours():
            found = server.datacenter_id
        if found and server.datacenter_id and server.consensus.is_serving:
            server.consensus.propose([SettleOrigin(origin=found)], lambda outcome: None)

    def _may_be_ours(self) -> bool:
        """Whether we are the region's first datacenter: of two that say so, one will yield."""
        server = self._server
        rivals = any(
            site.is_authority and site.is_alive and site.datacenter_id != server.datacenter_id
            for site in server.membership.sites().values()
            if site.region == server.config.region
        )
        return server.state.is_authority and not rivals and server.membership.are_joins_answered
