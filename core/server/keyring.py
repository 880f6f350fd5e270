"""Gossip keys of the whole federation, changed while it runs (gossip.rotation).

One server is asked, by API or command line. It asks every live agent of its own LAN pool,
and of every other datacenter one server, which asks its own LAN pool in turn: so each
agent is asked by somebody who can reach it, and all of it travels in gossip's own sealed
streams. Keys never pass through Raft or RPC.

A change that would cut members off is refused before anybody is asked for it: `use` where
a member lacks the key, `remove` where one still uses it. Members that do not answer are
reported, and do not hold the others up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.model.host import GossipExchangeReply
from core.server.effects import AskKeys, KeysAsked
from gossip.key_messages import (
    KeyOperation,
    KeyQuestion,
    KeyTarget,
    MemberKeys,
    decode_question,
    encode_answers,
    objection,
)
from gossip.messages import NACK, Packet
from gossip.views import Status

if TYPE_CHECKING:
    from core.server.context import Server

RELAYS_TRIED = 3  # servers of another datacenter, until one answers
Then = Callable[[Sequence[MemberKeys], str], None]  # answers, why nothing was changed


class Keyring:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._asked: dict[int, Callable[[Sequence[MemberKeys]], None]] = {}

    def ask(self, question: KeyQuestion, then: Then) -> None:
        """Put a question to every agent of the federation."""
        targets = [*self._lan(), *self._elsewhere()]
        if question.operation in (KeyOperation.LIST, KeyOperation.INSTALL):
            self._put(targets, question, lambda answers: then(answers, ""))
            return

        def on_listed(listed: Sequence[MemberKeys]) -> None:
            reason = objection(question, listed)
            if reason:
                then(listed, reason)
            else:
                self._put(targets, question, lambda answers: then(answers, ""))

        self._put(targets, KeyQuestion(KeyOperation.LIST), on_listed)

    def on_request(self, pool: str, exchange_id: int, packet: Packet) -> None:
        """A server of another datacenter asks on behalf of its operator: ask our LAN pool."""
        question = decode_question(packet)
        outbox = self._server.outbox
        if question is None or not question.is_relayed:
            outbox.emit(GossipExchangeReply(pool, exchange_id, Packet(NACK)))
            return
        own = KeyQuestion(question.operation, question.key)

        def on_answers(answers: Sequence[MemberKeys]) -> None:
            reply = encode_answers(self._server.config.name, answers)
            outbox.emit(GossipExchangeReply(pool, exchange_id, reply))

        self._put(self._lan(), own, on_answers)

    def on_asked(self, event: KeysAsked) -> None:
        then = self._asked.pop(event.ticket, None)
        if then is not None:
            then(event.answers)

    def _put(
        self,
        targets: list[KeyTarget],
        question: KeyQuestion,
        then: Callable[[Sequence[MemberKeys]], None],
    ) -> None:
        ticket = self._server.outbox.next_id()
        self._asked[ticket] = then
        self._server.outbox.emit(AskKeys(ticket, targets, question))

    def _lan(self) -> list[KeyTarget]:
        """Everybody of this datacenter, this server included."""
        config = self._server.config
        return [
            KeyTarget(
                "lan",
                f"{member.name}.{config.region}/{config.datacenter}",
                # nobody else can be asked without a socket
                () if member.name == config.name else (member.address,),
            )
            for member in self._server.membership.lan.members()
            if member.status in (Status.ALIVE, Status.SUSPECT)
        ]

    def _elsewhere(self) -> list[KeyTarget]:
        """One relay for each other datacenter; servers that found none yet, each by itself."""
        membership, own = self._server.membership, self._server.datacenter_id
        known = {member.address for member in membership.lan.members()}
        relays: dict[str, list[str]] = {}
        targets: list[KeyTarget] = []
        for site in membership.sites().values():
            address = site.gossip
            if not site.is_alive or site.id == self._server.config.server_id:
                continue
            if site.datacenter_id and site.datacenter_id != own:
                relays.setdefault(f"{site.region}/{site.datacenter}", []).append(address)
            elif address not in known:
                targets.append(KeyTarget("wan", site.name, (address,)))
        targets += [
            KeyTarget("wan", label, tuple(addresses[:RELAYS_TRIED]), is_relay=True)
            for label, addresses in sorted(relays.items())
        ]
        return targets
