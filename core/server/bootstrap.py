"""The birth of a datacenter: which empty server begins the log, and that only one does.

Servers of one (region, datacenter) see each other in the WAN pool. Once `bootstrap_expect`
of them are there and none says it is bootstrapped, the one with the lowest server id asks
the others for a pledge: "I am empty too, and for a while I shall follow nobody else". Only
with every pledge it draws the datacenter's id and bootstraps Raft with these servers as
voters. The others stay empty and take the leader's messages.

The pledge closes the gap in which a late server with a lower id has not heard yet that
the others have begun: they are no longer empty, so it gets none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.model.host import CallDone
from core.model.ids import new_datacenter_id
from core.server.sites import ServerSite
from core.state.commands import Bootstrap

if TYPE_CHECKING:
    from core.server.context import Server

PLEDGE: Final = "Server.Pledge"
_PLEDGE_US: Final = 10_000_000
_CALL_TIMEOUT_US: Final = 3_000_000
_RETRY_US: Final = 1_000_000


class Birth:
    """Watches for the moment to bootstrap; does nothing once the log has begun."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_asking = False
        self._pledged_to = ""
        self._pledged_until_us = 0
        server.membership.on_change.append(self.consider)
        server.outbox.after(0, self.consider)

    def consider(self) -> None:
        """Begin the datacenter if this server is the one to do it."""
        server = self._server
        if self._is_asking or not server.consensus.is_empty or self._is_pledged_to_another():
            return
        if not server.membership.has_tried_joins:
            return  # whoever answers may say that all has begun already
        founders = self._founders()
        if not founders or founders[0].id != server.config.server_id:
            return
        self._ask(founders)

    def on_pledge(self, body: Any) -> tuple[Any, str]:
        """Answer another server's question for our pledge."""
        asker = body.get("server_id") if isinstance(body, dict) else None
        if not isinstance(asker, str) or not asker:
            return None, "Server.Pledge needs a server_id"
        label = (body.get("region"), body.get("datacenter"))
        config = self._server.config
        is_ours = label == (config.region, config.datacenter)
        is_free = self._server.consensus.is_empty and not self._is_asking
        if not is_ours or not is_free or self._is_pledged_to_another(asker):
            return {"granted": False}, ""
        self._pledged_to = asker
        self._pledged_until_us = self._server.now.mono_us + _PLEDGE_US
        self._server.outbox.after(_PLEDGE_US, self.consider)
        return {"granted": True}, ""

    def _is_pledged_to_another(self, asker: str = "") -> bool:
        return (
            self._pledged_to not in ("", asker)
            and self._server.now.mono_us < self._pledged_until_us
        )

    def _founders(self) -> list[ServerSite]:
        """Return those who would form the quorum, lowest id first; [] while it is too early."""
        expect = self._server.config.bootstrap_expect
        if expect < 1:
            return []
        peers = [site for site in self._server.membership.own_servers() if site.is_alive]
        if any(site.is_bootstrapped for site in peers):
            return []
        alike = [site for site in peers if site.expect == expect and not site.is_non_voter]
        alike = sorted(alike, key=lambda s: s.id)
        return alike[:expect] if len(alike) >= expect else []

    def _ask(self, founders: list[ServerSite]) -> None:
        config = self._server.config
        waiting = {site.id for site in founders[1:]}
        if not waiting:
            self._begin(founders)
            return
        self._is_asking = True
        has_failed = False

        def answered(site: ServerSite) -> Callable[[CallDone], None]:
            def on_done(event: CallDone) -> None:
                nonlocal has_failed
                waiting.discard(site.id)
                granted = isinstance(event.body, dict) and event.body.get("granted") is True
                has_failed = has_failed or bool(event.error) or not granted
                if waiting:
                    return
                self._is_asking = False
                if has_failed:
                    self._server.outbox.after(_RETRY_US, self.consider)
                elif self._server.consensus.is_empty:
                    self._begin(founders)

            return on_done

        body = {
            "server_id": config.server_id,
            "region": config.region,
            "datacenter": config.datacenter,
        }
        for site in founders[1:]:
            self._server.outbox.ask(site.rpc, PLEDGE, body, _CALL_TIMEOUT_US, answered(site))

    def _begin(self, founders: list[ServerSite]) -> None:
        server = self._server
        config = server.config
        datacenter_id = new_datacenter_id(server.rng)
        is_authority = self._takes_authority()
        server.outbox.log(
            "info",
            "bootstrapping the datacenter",
            region=config.region,
            datacenter=config.datacenter,
            id=datacenter_id,
            servers=[site.name for site in founders],
        )
        server.consensus.bootstrap(
            {site.id: site.rpc for site in founders},
            Bootstrap(
                datacenter_id=datacenter_id,
                region=config.region,
                datacenter=config.datacenter,
                is_authority=is_authority,
                region_origin=server.origin.at_birth(datacenter_id, is_authority=is_authority),
            ),
        )

    def _takes_authority(self) -> bool:
        """Whether the new datacenter is its region's authority: nobody else has it.

        Of several about to be born, the one with the smallest name takes it. Where even so
        two do, for they had not heard of each other, core.federation.authority makes them one.
        """
        config = self._server.config
        unborn: dict[str, list[ServerSite]] = {}
        for site in self._server.membership.sites().values():
            if site.region != config.region:
                continue
            if site.is_authority or site.origin:
                # Only an authority gives a region its origin. Should it be lost, it is an
                # operator who names the next one (core.federation.succession). One that is born
                # without an origin left the authority to another: to us, it may be.
                return False
            if site.datacenter < config.datacenter and site.is_alive:
                unborn.setdefault(site.datacenter, []).append(site)
        return not any(
            len(sites) >= max(site.expect for site in sites) > 0
            and not any(site.is_bootstrapped for site in sites)
            for sites in unborn.values()
        )
