"""Servers that come after the bootstrap: the leader takes them into the quorum, one by one.

A server of this datacenter that gossip shows alive, empty and not in the configuration
becomes a learner; a learner that has caught up becomes a voter (RAFT.md: "learner first,
then voter, one change at a time"). Nobody is removed here: a dead server may come back,
and only an operator knows that it will not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.server.membership import ServerSite
from core.server.outbox import Timer
from core.state.result import Change
from raft.core import ChangeKind

if TYPE_CHECKING:
    from core.server.context import Server

_INTERVAL_US: Final = 2_000_000
_MAX_VOTERS: Final = 7


class Quorum:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: Timer | None = None

    def on_leadership(self, is_leader: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_leader:
            self._arm()

    def on_applied(self, changes: list[Change]) -> None:
        return

    def _arm(self) -> None:
        self._timer = self._server.outbox.after(_INTERVAL_US, self._look)

    def _look(self) -> None:
        self._arm()
        server = self._server
        server.membership.join_lan()
        configuration = server.consensus.raft.configuration
        for site in server.membership.own_servers():
            if not site.is_alive or site.id == server.config.server_id:
                continue
            if site.id in configuration.learners and len(configuration.voters) < _MAX_VOTERS:
                # Refused while it is behind, and asked again at the next look.
                if not server.consensus.change_membership(ChangeKind.PROMOTE, site.id):
                    self._tell("a server is now a voter", site)
                    return
            elif site.id not in configuration.addresses and not self._belongs_elsewhere(site):
                if not server.consensus.change_membership(
                    ChangeKind.ADD_LEARNER, site.id, site.rpc
                ):
                    self._tell("a server joins the quorum", site)
                    return

    def _belongs_elsewhere(self, site: ServerSite) -> bool:
        """Whether a server of our label was bootstrapped as another datacenter."""
        return site.is_bootstrapped and site.datacenter_id != self._server.datacenter_id

    def _tell(self, text: str, site: ServerSite) -> None:
        self._server.outbox.log("info", text, server=site.name, at=site.rpc)
