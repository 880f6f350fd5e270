"""What is under way between two agents: a call, a gossip stream. Each settles once.

A call that arrived is answered when its callee's machine replies; the answer, a refusal
or the timeout reaches the caller, whichever is first, unless it died meanwhile.
"""

from typing import TYPE_CHECKING, Any

from core.model import host as h
from sim import wire

if TYPE_CHECKING:
    from sim.host import SimAgent


class Call:
    """One call under way: it settles with (body, error)."""

    __slots__ = ("_body", "_caller", "_id", "_is_settled", "_life", "_method", "_target")

    def __init__(self, caller: "SimAgent", effect: h.Call) -> None:
        self._caller = caller
        self._life = caller.life
        self._id = effect.call_id
        self._method = effect.method
        self._body = effect.body
        self._is_settled = False
        self._target: SimAgent

    def begin(self, target: "SimAgent") -> None:
        self._target = target
        world, body = target.world, self._body
        self._body = None  # the timeout holds on to us long after
        if world.is_wire:
            body = wire.call(self._id, self._method, body)
        world.network.stream_to(self._caller, target, self._arrive, self._refuse, body)

    def _arrive(self, body: Any) -> None:
        target = self._target
        if target.world.is_wire:
            body = wire.opened(body).body
        target.request(self._method, body, self._caller.peer, self._answer)

    def _answer(self, body: Any, error: str) -> None:
        caller, target = self._caller, self._target
        network = caller.world.network
        if caller.world.is_wire:
            data = wire.reply(self._id, body, error)
            network.stream_to(target, caller, self._take_bytes, _drop, data)
        else:
            network.stream_to(target, caller, self.settle, _drop, (body, error))

    def _take_bytes(self, data: bytes) -> None:
        frame = wire.opened(data)
        self.settle((frame.body, frame.name))

    def _refuse(self, _body: Any) -> None:
        self.settle((None, f"unreachable: {self._target.rpc_addr}: Connection refused"))

    def settle(self, answer: tuple[Any, str]) -> None:
        if not self._is_settled:
            self._is_settled = True
            if self._life == self._caller.life:
                self._caller.deliver(h.CallDone(self._id, answer[1], answer[0]))


class Exchange:
    """One gossip stream under way: it settles with the other's packet, or None."""

    __slots__ = ("_caller", "_id", "_is_settled", "_life", "_packet", "_pool", "_target")

    def __init__(self, caller: "SimAgent", effect: h.GossipExchange) -> None:
        self._caller = caller
        self._life = caller.life
        self._id = effect.exchange_id
        self._pool = effect.pool
        self._packet = effect.packet
        self._is_settled = False
        self._target: SimAgent

    def begin(self, target: "SimAgent") -> None:
        self._target = target
        caller, packet = self._caller, self._packet
        self._packet = None  # the timeout holds on to us long after
        if target.world.is_wire:
            packet = wire.stream(caller.pools[self._pool], packet)
        target.world.network.stream_to(caller, target, self._arrive, self._refuse, packet)

    def _arrive(self, packet: Any) -> None:
        target = self._target
        if target.world.is_wire:
            packet = wire.packet(target.pools[self._pool], packet)
        target.exchange_request(self._pool, self._caller.gossip_addr, packet, self._answer)

    def _answer(self, packet: Any) -> None:
        caller, target = self._caller, self._target
        network = caller.world.network
        if caller.world.is_wire:
            data = wire.stream(target.pools[self._pool], packet)
            network.stream_to(target, caller, self._take_bytes, _drop, data)
        else:
            network.stream_to(target, caller, self.settle, _drop, packet)

    def _take_bytes(self, data: bytes) -> None:
        self.settle(wire.packet(self._caller.pools[self._pool], data))

    def _refuse(self, _packet: Any) -> None:
        self.settle(None)

    def settle(self, packet: Any) -> None:
        if not self._is_settled:
            self._is_settled = True
            if self._life == self._caller.life:
                self._caller.deliver(h.GossipExchanged(self._pool, self._id, packet))


def _drop(_what: Any) -> None:
    """The caller is down: nobody hears the answer."""
