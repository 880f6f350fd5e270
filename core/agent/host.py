"""The trio host of an agent: carries out what its machines ask, tells them what happened.

One agent is a `ServerMachine`, a `ClientMachine`, or both behind one RPC port. The host
decides nothing: each effect of core.model.host, core.server.effects and
core.client.effects has one handler here or in `Disk` and `Executor`.
"""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import trio

from core.agent.loop import MachineLoop, Recorder, place_of
from core.agent.quiet import Quiet
from core.agent.rpc import CallFailed, RpcEndpoint
from core.agent.solving import Solver
from core.model import host as h
from core.model.host import LOCAL, Effect, Event, Machine, Peer
from core.model.query import Answer, Query
from core.server import effects as server_effects
from gossip.endpoint import Endpoint
from gossip.rotation import ask_all

REQUEST_GRACE_S: Final = 30.0
CLIENT_METHODS: Final = ("Client.", "Agent.Ping")
SERVER_METHODS: Final = ("Raft.", "Server.", "Claim.", "Share.", "Home.")  # from servers alone
Handler = Callable[[Any], None]
Answering = Callable[[Any, str], None]  # body, error text
# A message is (sender, what it says, more): the machine knows the type of what it says.
_BODIES: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_decode: Final = msgspec.msgpack.decode


class Halted(Exception):
    """A machine can't go on; the text says why and what to do."""


class EffectSink(Protocol):
    """Carries out a family of effects and delivers their events later."""

    def handles(self, effect: Effect) -> bool: ...

    def submit(self, effect: Any) -> None: ...


class AgentHost:
    """Wires the machines of one agent to the world."""

    def __init__(self, *, nursery: trio.Nursery, log: Any, recorder: Recorder | None = None):
        self.log = log
        self.server: MachineLoop | None = None
        self.client: MachineLoop | None = None
        self.rpc: RpcEndpoint | None = None
        self.gossip: Endpoint | None = None
        self.on_members: Callable[[str, str, Any], None] = lambda role, pool, members: None
        self.on_halt: Callable[[str], None] = lambda reason: None
        self.own_methods: dict[str, Callable[[Any], Awaitable[tuple[Any, str]]]] = {}
        self._nursery = nursery
        self.recorder = recorder
        self._refusals = Quiet()
        self._solver = Solver(nursery, log)
        self._request_ids = itertools.count(1)
        self._exchange_ids = itertools.count(1)
        self._waiting: dict[tuple[str, int], _Pending | _Called] = {}
        self._exchanges: dict[tuple[str, int], _Pending] = {}
        self._sinks: dict[str, list[EffectSink]] = {"server": [], "client": []}

    def add_machine(self, role: str, machine: Machine, sinks: list[EffectSink]) -> MachineLoop:
        """Install the machine of a role ("server" or "client") and what carries out its own."""
        handlers = self._handlers(role)
        self._sinks[role] = sinks

        def carry_out(effect: Effect) -> None:
            handler = handlers.get(type(effect))
            if handler is not None:
                handler(effect)
                return
            for sink in sinks:
                if sink.handles(effect):
                    sink.submit(effect)
                    return
            raise AssertionError(f"no handler for {type(effect).__name__} of the {role} machine")

        def on_failure(event: str, error: Exception) -> None:
            self._on_failure(f"the {role} machine failed at {event}", error)

        loop = MachineLoop(role, machine, carry_out, self.recorder, on_failure=on_failure)
        if role == "server":
            self.server = loop
        else:
            self.client = loop
        return loop

    def _handlers(self, role: str) -> dict[type[Effect], Handler]:
        return {
            h.Call: lambda effect: self._nursery.start_soon(self._call, role, effect),
            h.Reply: lambda effect: self._reply(role, effect),
            h.Send: self._send,
            h.Log: self._log,
            h.Halt: lambda effect: self._halt(role, effect),
            h.GossipSend: self._gossip_send,
            h.GossipExchange: lambda e: self._nursery.start_soon(self._gossip_exchange, role, e),
            h.GossipExchangeReply: self._gossip_reply,
            h.SaveMembers: lambda effect: self.on_members(role, effect.pool, effect.members),
            server_effects.AskKeys: lambda e: self._nursery.start_soon(self._ask_keys, role, e),
            server_effects.Compute: lambda e: self._nursery.start_soon(self._compute, role, e),
        }

    def _halt(self, role: str, effect: h.Halt) -> None:
        loop = self.loop_of(role)
        if loop is not None:
            loop.stop()
        self.on_halt(effect.reason)

    def _on_failure(self, what: str, error: Exception) -> None:
        """A bug: log where it is, and end the agent in one line as a machine's Halt does."""
        problem = f"{type(error).__name__}: {error}"
        self.log.error(what, error=problem, at=place_of(error))
        self.on_halt(f"{what}: {problem}. This is a bug of Serai; state on disk is whole")

    def loop_of(self, role: str) -> MachineLoop | None:
        return self.server if role == "server" else self.client

    # --- requests: from our own HTTP API, and from other agents -----------------------

    async def request(self, query: Query) -> Answer:
        """Have a query answered by this agent's server, or by one its client knows."""
        loop = self.server or self.client
        assert loop is not None
        timeout_s = query.wait_us / 1e6 * 1.1 + REQUEST_GRACE_S + 300.0 * (query.min_index > 0)
        body, error = await self._ask(loop, "Query", query, LOCAL, timeout_s)
        if error:
            return Answer(status=500, error=error)
        try:
            return msgspec.convert(body, Answer)
        except msgspec.ValidationError as invalid:
            return Answer(status=500, error=f"unreadable answer of another agent: {invalid}")

    async def on_request(self, method: str, body: Any, peer: Peer) -> tuple[Any, str]:
        """Answer a call that came over RPC: (body, error text)."""
        if refusal := _refusal_of_call(method, peer):
            return None, refusal
        if method in self.own_methods:  # of the host itself, no machine knows of it
            return await self.own_methods[method](body)
        wants_client = method.startswith(CLIENT_METHODS)
        loop = (self.client if wants_client else self.server) or self.server or self.client
        if loop is None:
            return None, "the agent is starting"
        return await self._ask(loop, method, body, peer, timeout_s=3600.0)

    def on_call(self, method: str, body: Any, peer: Peer, answer: Answering) -> bool:
        """Take a call for the server, which is most of them; False: `on_request` shall be asked."""
        loop = self.server
        if loop is None or method in self.own_methods or method.startswith(CLIENT_METHODS):
            return False
        if refusal := _refusal_of_call(method, peer):
            answer(None, refusal)
            return True
        number = next(self._request_ids)
        self._waiting[loop.role, number] = _Called(answer)
        loop.gather(h.Requested(number, method, body, peer))
        return True

    async def until_taken(self) -> None:
        """Wait until the server has taken most of the calls that were brought."""
        if self.server is not None:
            await self.server.until_taken()

    def on_message(self, channel: str, body: Any, peer: Peer) -> None:
        """Take a one-way message, if its sender may send it; `body` is `Raw`."""
        if self.server is None:
            return
        if refusal := self._refusal_of(peer):
            self._refuse_message(peer, *refusal)
            return
        try:
            sender, content, *more = _BODIES.decode(body)
            body = (_decode(sender), content, *map(_decode, more))
        except (msgspec.MsgspecError, ValueError) as error:
            self._refuse_message(
                peer, f"not readable: {error}", "run the same version on all servers"
            )
            return
        self.server.deliver(h.MessageReceived(channel, body, peer))

    def _refusal_of(self, peer: Peer) -> tuple[str, str] | None:
        """Return why nothing of this peer is heard and the remedy, None when it may speak."""
        if peer.is_proven and peer.role != "server":
            return (
                f"a {peer.role or 'nameless'} certificate is no server's",
                "give that agent one of: serai tls cert create -server",
            )
        own = self.rpc.identity.datacenter_id if self.rpc is not None else ""
        if own and peer.datacenter_id and peer.datacenter_id != own:
            return (
                f"it belongs to datacenter {peer.datacenter_id}, this server to {own}",
                "a server of another datacenter joins this one with an empty data_dir only",
            )
        return None

    def _refuse_message(self, peer: Peer, reason: str, remedy: str) -> None:
        """Log a refusal; a peer that goes on is told of once a minute."""
        if self._refusals.is_due(peer.address, reason):
            self.log.warning(
                "message refused",
                peer=peer.name,
                address=peer.address,
                reason=reason,
                remedy=remedy,
            )

    async def _ask(
        self, loop: MachineLoop, method: str, body: Any, peer: Peer, timeout_s: float
    ) -> tuple[Any, str]:
        number = next(self._request_ids)
        pending = _Pending()
        self._waiting[loop.role, number] = pending
        try:
            request = h.Requested(number, method, body, peer)
            if loop is self.server:
                loop.gather(request)
            else:  # a client takes few calls, and none that waits for a disk
                loop.deliver(request)
            with trio.move_on_after(timeout_s):
                await pending.done.wait()
        finally:
            self._waiting.pop((loop.role, number), None)
        if not pending.done.is_set():
            return None, "timeout"
        return pending.body, pending.error

    def _reply(self, role: str, effect: h.Reply) -> None:
        pending = self._waiting.pop((role, effect.request_id), None)
        if pending is not None:
            pending.settle(effect.body, effect.error)

    # --- calls to other agents ----------------------------------------------------------

    async def _call(self, role: str, effect: h.Call) -> None:
        assert self.rpc is not None
        body: Any = None
        error = ""
        try:
            if effect.address == self.rpc.identity.address:
                # An agent that is both roles asks itself without a socket.
                with trio.move_on_after(effect.timeout_us / 1e6) as scope:
                    me = Peer(
                        name=self.rpc.identity.name, role=role, address=effect.address,
                        datacenter_id=self.rpc.identity.datacenter_id, is_proven=True,
                    )  # fmt: skip
                    body, error = await self.on_request(effect.method, effect.body, me)
                if scope.cancelled_caught:
                    error = "timeout"
            else:
                body = await self.rpc.call(
                    effect.address, effect.method, effect.body, effect.timeout_us / 1e6
                )
        except CallFailed as failed:
            error, body = str(failed), failed.body
        loop = self.loop_of(role)
        if loop is not None:
            loop.deliver(h.CallDone(effect.call_id, error, body))

    def _send(self, effect: h.Send) -> None:
        assert self.rpc is not None
        self.rpc.send(effect.address, effect.channel, effect.body)

    def _log(self, effect: h.Log) -> None:
        getattr(self.log, effect.level, self.log.info)(effect.message, **effect.fields)

    async def _compute(self, role: str, effect: server_effects.Compute) -> None:
        try:
            solution = await self._solver.solve(effect.problem)
        except Exception as error:
            self._on_failure(f"a computation of the {role} machine failed", error)
            return
        loop = self.loop_of(role)
        if loop is not None:
            loop.deliver(server_effects.Computed(effect.ticket, solution))

    # --- gossip ---------------------------------------------------------------------------

    def _gossip_send(self, effect: h.GossipSend) -> None:
        if self.gossip is not None:
            self.gossip.send(effect.pool, effect.address, effect.packet)

    async def _gossip_exchange(self, role: str, effect: h.GossipExchange) -> None:
        packet, address = None, effect.address
        if self.gossip is not None:
            unreached = self.gossip.unreached
            known = unreached.get(address)
            packet = await self.gossip.exchange(
                effect.pool, address, effect.packet, effect.timeout_us / 1e6
            )
            if packet is None and unreached.get(address) != known:
                # once, not each time it is tried again
                self.log.warning(
                    "gossip member not reached", pool=effect.pool, at=address,
                    reason=unreached.get(address),
                )  # fmt: skip
        loop = self.loop_of(role)
        if loop is not None:
            loop.deliver(h.GossipExchanged(effect.pool, effect.exchange_id, packet))

    async def _ask_keys(self, role: str, effect: server_effects.AskKeys) -> None:
        answers = []
        if self.gossip is not None:
            answers = await ask_all(self.gossip, effect.targets, effect.question)
        loop = self.loop_of(role)
        if loop is not None:
            loop.deliver(server_effects.KeysAsked(effect.ticket, answers))

    def gossip_member(self) -> MachineLoop | None:
        """Return the machine that is this agent's member of the pools."""
        return self.server or self.client

    def on_gossip_packet(self, pool: str, source: str, packet: Any) -> None:
        member = self.gossip_member()
        if member is not None:
            member.deliver(h.GossipReceived(pool, source, packet))

    async def on_gossip_exchange(self, pool: str, source: str, packet: Any) -> Any:
        member = self.gossip_member()
        if member is None:
            return None
        number = next(self._exchange_ids)
        pending = _Pending()
        self._exchanges[pool, number] = pending
        try:
            member.deliver(h.GossipExchangeRequested(pool, number, source, packet))
            with trio.move_on_after(REQUEST_GRACE_S):
                await pending.done.wait()
        finally:
            self._exchanges.pop((pool, number), None)
        return pending.body

    def _gossip_reply(self, effect: h.GossipExchangeReply) -> None:
        pending = self._exchanges.get((effect.pool, effect.exchange_id))
        if pending is not None:
            pending.settle(effect.packet, "")


class _Pending:
    """Somebody waits for this."""

    __slots__ = ("body", "done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.body: Any = None
        self.error = ""

    def settle(self, body: Any, error: str) -> None:
        self.body = body
        self.error = error
        self.done.set()


class _Called:
    """A call whose answer goes straight to the connection that it came by."""

    __slots__ = ("settle",)

    def __init__(self, answer: Answering) -> None:
        self.settle = answer


def _refusal_of_call(method: str, peer: Peer) -> str:
    """Return why this peer may not make this call, "" when it may."""
    if peer.is_proven and peer.role == "cli":
        return "a cli certificate is for the HTTP API"
    if peer.is_proven and peer.role != "server" and method.startswith(SERVER_METHODS):
        return f"a {peer.role or 'nameless'} certificate may not call {method}"
    return ""


def deliver_to(loop: Callable[[], MachineLoop | None]) -> Callable[[Event], None]:
    """Return a callback that hands events to a machine that may not exist yet."""

    def deliver(event: Event) -> None:
        found = loop()
        if found is not None:
            found.deliver(event)

    return deliver
