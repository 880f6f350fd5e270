"""RPC between agents: calls with an answer, and one-way messages, over pooled TCP or TLS.

Theory of operation. To each address an agent keeps at most two outgoing links: one
for one-way messages (raft), one for calls, so a large answer never holds up a
heartbeat. A link dials when it is first used, again with back-off when it broke, and
closes after a quiet time. Frames wait in a queue bounded in bytes: a message that
does not fit is dropped (raft repeats it), a call fails at once with the reason.

Outgoing connections are bound to the agent's own address: what lies between two
agents (a firewall, the relay of `serai dev`) can tell by it who is calling.

With TLS both sides present certificates of one authority; the caller's role and
datacenter id come from its certificate (core.agent.tls).
"""

import itertools
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio

from core.agent import link as links
from core.agent.frames import (
    PREFACE,
    PROTOCOL_VERSION,
    Bodies,
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    encode_frame,
)
from core.agent.link import (
    DIAL_TIMEOUT_S,
    Link,
    Outgoing,
    Waiter,
    notice_silence,
    reason_of,
)
from core.agent.quiet import Quiet
from core.agent.secure_stream import SecureStream
from core.agent.tls import TLSError, peer_of_certificate, proven_names
from core.model.host import Address, Peer

HELLO_TIMEOUT_S: Final = 10.0
MAX_INCOMING: Final = 4096
_INCOMING_BYTES: Final = 1 << 16  # read in one go: some hundred small calls

OnRequest = Callable[[str, Any, Peer], Awaitable[tuple[Any, str]]]
OnMessage = Callable[[str, Any, Peer], None]
OnCall = Callable[[str, Any, Peer, Callable[[Any, str], None]], bool]


class CallFailed(Exception):
    """No answer came: "timeout", "unreachable: ...", or the other side's error text.

    `body` is what a refusal carried beside its text.
    """

    def __init__(self, error: str, body: Any = None) -> None:
        super().__init__(error)
        self.body = body


class Identity:
    """How this agent introduces itself; the datacenter id may become known later."""

    def __init__(
        self, name: str, role: str, address: Address, datacenter_id: Callable[[], str]
    ) -> None:
        self.name = name
        self.role = role
        self.address = address
        self._datacenter_id = datacenter_id

    @property
    def datacenter_id(self) -> str:
        return self._datacenter_id()


class RpcCounters:
    """Plain numbers for the metrics."""

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self.dropped: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


class RpcEndpoint:
    """Both sides of an agent's RPC port."""

    def __init__(
        self,
        identity: Identity,
        *,
        nursery: trio.Nursery,
        source_host: str,
        on_request: OnRequest,
        on_message: OnMessage,
        log: Any,
        client_tls: ssl.SSLContext | None = None,
        server_tls: ssl.SSLContext | None = None,
        verifies_server: bool = False,
        bodies: Bodies | None = None,
        on_call: OnCall | None = None,
        until_taken: Callable[[], Awaitable[None]] | None = None,
        is_long: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare both sides.

        Args:
            source_host: The address that outgoing connections are bound to.
            verifies_server: Whoever a client calls must hold a server's certificate.
            bodies: Types of calls' bodies, see core.agent.frames.
            on_call: Takes a call and its answer's way back, or says False: then `on_request`
                is asked, in a thread of its own, which costs more.
            until_taken: Returns when calls that were brought are taken: a connection that
                brings some is read on only then, so who asks too much waits at his own end.
            is_long: Whether this turn of the event loop should end: then messages that were
                read wait for the next one.
        """
        self._is_long = is_long
        self.identity = identity
        self.counters = RpcCounters()
        self._bodies = bodies
        self._nursery = nursery
        self._source_host = source_host
        self._on_request = on_request
        self._on_call, self._until_taken = on_call, until_taken
        self._on_message = on_message
        self._log = log
        self._client_tls = client_tls
        self._server_tls = server_tls
        self._verifies_server = verifies_server
        self._links: dict[tuple[Address, str], Link] = {}
        self._call_ids = itertools.count(1)
        self._incoming = 0
        self._refusals = Quiet()
        self._last_sent: tuple[Any, bytearray] | None = None  # a body often goes to several

    async def call(self, address: Address, method: str, body: Any, timeout_s: float) -> Any:
        """Ask the agent at `address` and return its answer.

        Raises:
            CallFailed: It refused, or no answer came in time.
        """
        link = self._link(address, "call")
        number = next(self._call_ids)
        try:
            data = encode_frame(FrameKind.CALL, number, method, body)
        except FrameError as error:
            raise CallFailed(str(error)) from None
        waiter = Waiter()
        link.waiters[number] = waiter
        try:
            if not link.enqueue(data):
                raise CallFailed(f"unreachable: the queue to {address} is full")
            with trio.move_on_after(timeout_s):
                await waiter.done.wait()
        finally:
            link.waiters.pop(number, None)
        if not waiter.done.is_set():
            raise CallFailed("timeout")
        if waiter.error:
            raise CallFailed(waiter.error, waiter.body)
        return waiter.body

    def send(self, address: Address, channel: str, body: Any) -> None:
        """Queue a one-way message; it may be lost."""
        if self._last_sent is None or body is not self._last_sent[0]:
            try:
                self._last_sent = (body, encode_frame(FrameKind.SEND, 0, channel, body))
            except FrameError as error:
                self.counters.drop("too-large")
                self._log.warning("message not sent", channel=channel, reason=str(error))
                return
        data = self._last_sent[1]
        if not self._link(address, "send").enqueue(data):
            self.counters.drop("queue-full")

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Take connections until cancelled."""
        await trio.serve_listeners(self._serve_connection, listeners)

    def _link(self, address: Address, purpose: str) -> "Link":
        link = self._links.get((address, purpose))
        if link is None:
            # Only servers get one-way messages; a client calls nobody but servers.
            needs_server = purpose == "send" or (
                self._verifies_server and self.identity.role == "client"
            )
            link = Link(self, address, needs_server=needs_server)
            self._links[address, purpose] = link
            self._nursery.start_soon(self._run_link, (address, purpose), link)
        return link

    async def _run_link(self, key: tuple[Address, str], link: "Link") -> None:
        try:
            await link.run()
        finally:
            if self._links.get(key) is link:
                del self._links[key]

    async def dial(self, address: Address, *, needs_server: bool = False) -> trio.abc.Stream:
        """Open a connection and introduce ourselves.

        With TLS and `needs_server` the other side must hold a server's certificate.

        Raises:
            OSError, ValueError, ssl.SSLError, trio.TooSlowError: It did not come about.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValueError("not an address of the form host:port")
        with trio.fail_after(DIAL_TIMEOUT_S):
            tcp = await trio.open_tcp_stream(host, int(port), local_address=self._source())
            try:
                notice_silence(tcp)
                return await self._introduce_ourselves(tcp, host, needs_server=needs_server)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(tcp)
                raise

    def _source(self) -> str | None:
        """Return what outgoing connections are bound to; a wildcard leaves it to the kernel."""
        return None if self._source_host in ("", "0.0.0.0", "::") else self._source_host

    async def _introduce_ourselves(
        self, tcp: trio.SocketStream, host: str, *, needs_server: bool
    ) -> trio.abc.Stream:
        stream: trio.abc.Stream = tcp
        if self._client_tls is not None:
            tls_stream = SecureStream(tcp, self._client_tls, server_hostname=host)
            await tls_stream.do_handshake()
            role = proven_names(tls_stream.getpeercert()).role
            if needs_server and role != "server":
                raise ssl.SSLError(f"its certificate is a {role or 'nameless'} one, no server's")
            stream = tls_stream
        me = self.identity
        said = {
            "name": me.name,
            "role": me.role,
            "datacenter_id": me.datacenter_id,
            "address": me.address,
        }
        hello = encode_frame(FrameKind.HELLO, PROTOCOL_VERSION, "", said)
        await stream.send_all(PREFACE + hello)
        return stream

    async def _serve_connection(self, raw: trio.SocketStream) -> None:
        if self._incoming >= MAX_INCOMING:
            self.counters.refuse("too-many-connections")
            await raw.aclose()
            return
        self._incoming += 1
        stream: trio.abc.Stream = raw
        try:
            notice_silence(raw)
            if self._server_tls is not None:
                tls_stream = SecureStream(raw, self._server_tls, is_server=True)
                with trio.fail_after(HELLO_TIMEOUT_S):
                    await tls_stream.do_handshake()
                stream = tls_stream
            await self._read_connection(stream)
        except FrameError as error:
            self.counters.refuse("garbage")
            self._log.warning("rpc connection refused", reason=str(error), peer=_peer_name(raw))
        except (trio.TooSlowError, ssl.SSLError, trio.BrokenResourceError, OSError) as error:
            self.counters.refuse("broken")
            self._log.debug("rpc connection ended", reason=reason_of(error), peer=_peer_name(raw))
            if isinstance(error.__cause__, ssl.SSLError):
                self.tell_refusal("incoming", _peer_name(raw).rpartition(":")[0], error)
        finally:
            self._incoming -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _read_connection(self, stream: trio.abc.Stream) -> None:
        reader = FrameReader(expects_preface=True, bodies=self._bodies)
        outgoing = Outgoing(stream)
        peer: Peer | None = None
        deadline = trio.current_time() + HELLO_TIMEOUT_S
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outgoing.run)
            # Caught here and raised outside: a nursery would wrap it in a group.
            try:
                while True:
                    scope_deadline = (
                        deadline if peer is None else trio.current_time() + 2 * links.IDLE_S
                    )
                    with trio.move_on_at(scope_deadline) as scope:
                        data = await stream.receive_some(_INCOMING_BYTES)
                    if scope.cancelled_caught and outgoing.owed:
                        continue  # a blocking query may wait longer than a quiet peer
                    if scope.cancelled_caught or not data:
                        break
                    self.counters.bytes_received += len(data)
                    has_calls = False
                    for frame in reader.feed(bytes(data)):
                        if peer is None:
                            peer = self._introduce(frame, stream)
                        elif frame.kind is FrameKind.CALL:
                            outgoing.owed += 1
                            has_calls = True
                            answer = partial(self._answered, outgoing, frame.id)
                            if self._on_call is None or not self._on_call(
                                frame.name, frame.body, peer, answer
                            ):
                                nursery.start_soon(self._answer, outgoing, frame, peer)
                        elif frame.kind is FrameKind.SEND:
                            if self._is_long():
                                await trio.lowlevel.checkpoint()
                            self._on_message(frame.name, frame.body, peer)
                        else:
                            raise FrameError(f"unexpected {frame.kind.name} frame from the caller")
                    if has_calls and self._until_taken is not None:
                        await self._until_taken()
            except (FrameError, trio.BrokenResourceError, ssl.SSLError, OSError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def tell_refusal(self, way: str, peer: str, error: BaseException) -> None:
        """Log what certificates or TLS forbid; what goes on is told of once a minute."""
        reason = reason_of(error)
        if self._refusals.is_due(way, peer, reason):
            self._log.warning(
                "rpc connection refused",
                way=way,
                peer=peer,
                reason=reason,
                remedy="both agents need tls { rpc = true }, certificates of one authority that "
                "are valid now, and a server's where a server is meant: serai tls cert info",
            )

    def _introduce(self, frame: Frame, stream: trio.abc.Stream) -> Peer:
        if frame.kind is not FrameKind.HELLO or not isinstance(frame.body, dict):
            raise FrameError("the first frame is not HELLO")
        if frame.id != PROTOCOL_VERSION:
            raise FrameError(
                f"the caller speaks RPC version {frame.id}, this agent {PROTOCOL_VERSION}"
            )
        said = {key: str(frame.body.get(key, "")) for key in _HELLO_FIELDS}
        if isinstance(stream, SecureStream):
            try:
                return peer_of_certificate(stream.getpeercert(), said)
            except TLSError as error:
                raise FrameError(str(error)) from None
        return Peer(**said, is_proven=False)

    async def _answer(self, outgoing: "Outgoing", frame: Frame, peer: Peer) -> None:
        body, error = await self._on_request(frame.name, frame.body, peer)
        self._answered(outgoing, frame.id, body, error)

    def _answered(self, outgoing: "Outgoing", number: int, body: Any, error: str) -> None:
        outgoing.owed -= 1
        try:
            data = encode_frame(FrameKind.REPLY, number, error, body)
        except FrameError as too_large:
            data = encode_frame(FrameKind.REPLY, number, str(too_large), None)
        self.counters.bytes_sent += len(data)
        if not outgoing.enqueue(data):
            self.counters.drop("queue-full")  # a caller that does not read: it times out


_HELLO_FIELDS: Final = ("name", "role", "datacenter_id", "address")


def _peer_name(stream: trio.SocketStream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return "unknown"
    return f"{host}:{port}"
