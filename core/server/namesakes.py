"""Another agent that goes by our name: gossip keeps the one that was there first.

The later one is alone then: nobody takes it in, and nothing it does says why. So both write
it into their logs, as soon as either hears of the other. An earlier life of this server, at
another address, has its id; a copy of its data folder has, too (core.server.autopilot).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gossip.messages import DEAD, Packet

if TYPE_CHECKING:
    from core.server.context import Server

_TOLD_MAX: Final = 64


class Namesakes:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._told: set[tuple[str, str]] = set()  # (pool, address)

    def look(self, pool: str, name: str, packet: Packet) -> None:
        """Look through a whole exchange for somebody else of our name in that pool."""
        own_id = self._server.config.server_id
        for update in packet.updates:
            who = update.identity
            if update.name != name or who is None or update.status >= DEAD:
                continue
            if who.meta.get("id") == own_id or (pool, who.address) in self._told:
                continue
            if len(self._told) < _TOLD_MAX:
                self._told.add((pool, who.address))
                self._server.outbox.log(
                    "error", f"another {pool} member has our name: one is heeded by nobody",
                    name=name, at=who.address, id=who.meta.get("id", ""),
                    remedy="start the one that came later with another name (-node)",
                )  # fmt: skip
