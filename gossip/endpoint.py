"""A trio host's edge: one UDP and one TCP socket on the same port, for several pools.

    async with open_endpoint(
        "127.0.0.1", 0, pools={"lan": Pool("lan")}, on_packet=..., on_exchange=...
    ) as endpoint:
        endpoint.send("lan", "127.0.0.1:4648", packet)
        reply = await endpoint.exchange("lan", "127.0.0.1:4648", request, timeout_s=10)

Pools are told apart by the label in each packet. What can't be sent, read or believed is
counted in `endpoint.drops` by reason; nothing that a peer or the network does raises.

Inbound datagrams wait in a bounded queue (gossip.inbound).
"""

import errno
import ipaddress
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from gossip.addresses import format_address, parse_address
from gossip.inbound import INBOUND_MAX, Inbound
from gossip.key_messages import (
    KeyQuestion,
    MemberKeys,
    apply_question,
    decode_question,
    encode_answers,
)
from gossip.keyring import Keyring
from gossip.messages import KEYS, Packet
from gossip.wire import (
    DATAGRAM_BYTES_MAX,
    STREAM_BYTES_MAX,
    STREAM_LENGTH_BYTES,
    WireError,
    decode,
    encode,
    peek_label,
)

OnPacket = Callable[[str, str, Packet], None]  # pool, source, packet
OnExchange = Callable[[str, str, Packet], Awaitable[Packet | None]]
KeepKeys = Callable[[str, list[bytes]], Awaitable[str]]  # pool, keys; returns why not, or ""
SocketAddress = tuple[str, int] | tuple[str, int, int, int]

PROCESS_BATCH: Final = 64  # packets handled before other threads of trio get a turn
STREAMS_MAX: Final = 128
STREAM_TIMEOUT_S: Final = 10.0
RESOLVING_MAX: Final = 256
UNREACHED_MAX: Final = 256
HUNG_UP: Final = (
    "it hung up without an answer: it has other encrypt keys than we, or is no Serai gossip"
)
RESOLVED_KEEP_S: Final = 30.0
PACKET_BYTES_MAX: Final = 1_400
RECEIVE_BUFFER_BYTES: Final = 4 << 20
BIND_TRIES: Final = 16


@dataclass(frozen=True)
class Pool:
    """How packets of one pool look on the wire."""

    label: str
    keyring: Keyring | None = None  # None: in clear, with a checksum


class UnresolvedError(OSError):
    """Neither an address nor a name that leads to one."""


class Endpoint:
    """Made by `open_endpoint`."""

    def __init__(
        self,
        *,
        datagrams: socket.socket,
        nursery: trio.Nursery,
        pools: Mapping[str, Pool],
        on_packet: OnPacket | None,
        on_exchange: OnExchange | None,
        keep_keys: KeepKeys | None = None,
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.unreached: dict[str, str] = {}  # address -> why its latest exchange failed
        self.sent = 0
        self.received = 0
        self._socket = datagrams
        self._nursery = nursery
        self._pools = dict(pools)
        self._by_label = {pool.label: name for name, pool in pools.items()}
        self._on_packet = on_packet
        self._on_exchange = on_exchange
        self._keep_keys = keep_keys
        self._changing_keys = trio.Lock()
        self._inbound = Inbound()
        self._resolving = 0
        self._streams = 0
        # text -> (socket addresses, none if it does not resolve; trio time of that)
        self._resolved: dict[str, tuple[list[SocketAddress], float]] = {}
        host, port = datagrams.getsockname()[:2]
        self.port: int = port
        self.address = format_address(host, port)
        self._source_host = "" if ipaddress.ip_address(host).is_unspecified else host

    # -- datagrams ------------------------------------------------------------------

    def send(self, pool: str, address: str, packet: Packet) -> None:
        """Send a datagram, or count why not. A name is looked up beside the loop."""
        entry = self._pools[pool]
        try:
            data = encode(packet, label=entry.label, keyring=entry.keyring)
        except ValueError:
            self.drops["unsendable"] += 1
            return
        if len(data) > PACKET_BYTES_MAX:
            self.drops["too_large_to_send"] += 1
            return
        destinations = self._look_up(address)
        if destinations is not None:
            self._send_bytes(data, destinations)
        elif self._resolving >= RESOLVING_MAX:
            self.drops["too_many_lookups"] += 1
        else:
            self._nursery.start_soon(self._resolve_and_send, address, data)

    async def _resolve_and_send(self, address: str, data: bytes) -> None:
        self._send_bytes(data, await self._resolve(address))

    def _send_bytes(self, data: bytes, destinations: list[SocketAddress]) -> None:
        if not destinations:
            self.drops["unresolved_address"] += 1
            return
        try:
            self._socket.sendto(data, destinations[0])
            self.sent += 1
        except BlockingIOError:
            self.drops["send_buffer_full"] += 1
        except (OSError, OverflowError):
            self.drops["unreachable"] += 1

    async def receive_datagrams(self) -> None:
        """Read and deliver for ever."""
        while True:
            if self._inbound:
                await trio.lowlevel.checkpoint()
            else:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                except (OSError, trio.ClosedResourceError):
                    return
            self._drain_socket()
            for _ in range(min(PROCESS_BATCH, len(self._inbound))):
                pool, source, packet = self._inbound.pop()
                if self._on_packet is not None:
                    self._on_packet(pool, source, packet)

    def _drain_socket(self) -> None:
        for _ in range(INBOUND_MAX):
            try:
                data, origin = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                # an earlier datagram of ours met a closed port; says nothing of this one
                self.drops["socket_error"] += 1
                return
            self.received += 1
            if len(data) > PACKET_BYTES_MAX:
                self.drops["too_large"] += 1
                continue
            decoded = self._decode(data)
            if decoded is not None:
                pool, packet = decoded
                source = format_address(origin[0], origin[1])
                if not self._inbound.put(pool, source, packet):
                    self.drops["queue_full"] += 1

    def _decode(self, data: bytes) -> tuple[str, Packet] | None:
        try:
            name = self._by_label.get(peek_label(data))
            if name is None:
                self.drops["label"] += 1
                return None
            pool = self._pools[name]
            return name, decode(data, label=pool.label, keyring=pool.keyring)
        except WireError as error:
            self.drops[error.reason] += 1
            return None

    # -- streams --------------------------------------------------------------------

    async def exchange(
        self, pool: str, address: str, packet: Packet, timeout_s: float
    ) -> Packet | None:
        """Ask over a stream; return the reply, or None on any failure or at the timeout.

        Why nobody answered stands in `unreached` then, until somebody does.
        """
        drop, why = "stream_timeout", f"no answer in {timeout_s:.0f} s"
        with trio.move_on_after(timeout_s):
            try:
                reply = await self._ask(pool, address, packet)
                self.unreached.pop(address, None)
                return reply
            except UnresolvedError as error:
                drop, why = "unresolved_address", str(error)
            except (
                OSError,
                OverflowError,
                trio.BrokenResourceError,
                trio.ClosedResourceError,
            ) as e:
                drop, why = "stream_failed", str(e) or "the connection broke"
            except WireError as error:
                drop, why = error.reason, HUNG_UP if error.reason == "too_short" else str(error)
            except ValueError as error:
                drop, why = "unsendable", str(error)
        self.drops[drop] += 1
        self.unreached.pop(address, None)
        while len(self.unreached) >= UNREACHED_MAX:
            del self.unreached[next(iter(self.unreached))]
        self.unreached[address] = why
        return None

    async def _ask(self, pool: str, address: str, packet: Packet) -> Packet:
        entry = self._pools[pool]
        data = encode(packet, label=entry.label, keyring=entry.keyring, is_stream=True)
        destinations = self._look_up(address)
        if destinations is None:
            destinations = await self._resolve(address)
        if not destinations:
            raise UnresolvedError(f"{address} is no address that can be reached from ours")
        stream = await self._connect(destinations)
        async with stream:
            await _write_frame(stream, data)
            reply = await _read_frame(stream)
            return decode(reply, label=entry.label, keyring=entry.keyring)

    async def _connect(self, destinations: list[SocketAddress]) -> trio.SocketStream:
        """Return a stream to the first address that takes it; a name may have many.

        In random order: a name that lists all servers lists ourselves too.

        Raises:
            OSError: none of them does.
        """
        order = random.sample(destinations, len(destinations))
        for number, destination in enumerate(order):
            connection = trio.socket.socket(self._socket.family, socket.SOCK_STREAM)
            try:
                if self._source_host:
                    await connection.bind((self._source_host, 0))
                await connection.connect(destination)
                return trio.SocketStream(connection)
            except BaseException as error:
                connection.close()
                if not isinstance(error, OSError) or number == len(order) - 1:
                    raise
        raise OSError(errno.EADDRNOTAVAIL, "no address")

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Answer the one request of an incoming stream."""
        if self._streams >= STREAMS_MAX:
            self.drops["too_many_streams"] += 1
            await trio.aclose_forcefully(stream)
            return
        self._streams += 1
        try:
            with trio.move_on_after(STREAM_TIMEOUT_S) as scope:
                async with stream:
                    await self._answer(stream)
            if scope.cancelled_caught:
                self.drops["stream_timeout"] += 1
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.drops["stream_failed"] += 1
        except WireError as error:
            self.drops[error.reason] += 1
        finally:
            self._streams -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        peer = stream.socket.getpeername()
        decoded = self._decode(await _read_frame(stream))
        if decoded is None:
            return
        name, packet = decoded
        question = decode_question(packet) if packet.kind == KEYS else None
        if question is not None and not question.is_relayed:
            reply: Packet | None = encode_answers("", [await self.change_keys(name, question)])
        elif self._on_exchange is None:
            return
        else:
            reply = await self._on_exchange(name, format_address(peer[0], peer[1]), packet)
        if reply is None:
            return
        pool = self._pools[name]
        await _write_frame(
            stream, encode(reply, label=pool.label, keyring=pool.keyring, is_stream=True)
        )

    # -- keys -----------------------------------------------------------------------

    async def change_keys(self, pool: str, question: KeyQuestion) -> MemberKeys:
        """Do to our own keyring what a question asks, and keep the result durably.

        Only what is kept takes effect: who lost power in between must not come back with
        a keyring that nobody understands.
        """
        keyring = self._pools[pool].keyring
        if keyring is None:
            return MemberKeys("", apply_question(None, question), (), pool)
        async with self._changing_keys:
            changed = Keyring(keyring.keys)
            error = apply_question(changed, question)
            if not error and changed.keys != keyring.keys and self._keep_keys is not None:
                error = await self._keep_keys(pool, changed.keys)
            if not error:
                keyring.replace(changed.keys)
            return MemberKeys("", error, tuple(keyring.keys), pool)

    # -- addresses ------------------------------------------------------------------

    def _look_up(self, address: str) -> list[SocketAddress] | None:
        """Return where it is, [] for nowhere; None when somebody has to be asked."""
        entry = self._resolved.get(address)
        if entry is not None and trio.current_time() - entry[1] < RESOLVED_KEEP_S:
            return entry[0]
        try:
            host, port = parse_address(address)
        except ValueError:
            return []
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return None
        destination = self._as_destination(literal, port)
        return [] if destination is None else [destination]

    def _as_destination(
        self, literal: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
    ) -> SocketAddress | None:
        if self._socket.family == socket.AF_INET6:
            mapped = f"::ffff:{literal}" if literal.version == 4 else str(literal)
            return (mapped, port, 0, 0)
        return (str(literal), port) if literal.version == 4 else None

    async def _resolve(self, address: str) -> list[SocketAddress]:
        """Look up a name in a worker thread; remember the answer for half a minute."""
        host, port = parse_address(address)
        self._resolving += 1
        destinations: list[SocketAddress] = []
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            for _, _, _, _, sockaddr in found:
                destination = self._as_destination(ipaddress.ip_address(sockaddr[0]), port)
                if destination is not None and destination not in destinations:
                    destinations.append(destination)
        except (OSError, UnicodeError):
            pass
        finally:
            self._resolving -= 1
        while len(self._resolved) >= 4 * RESOLVING_MAX:
            del self._resolved[next(iter(self._resolved))]
        self._resolved.pop(address, None)
        self._resolved[address] = (destinations, trio.current_time())
        return destinations


@asynccontextmanager
async def open_endpoint(
    host: str,
    port: int,
    *,
    pools: Mapping[str, Pool],
    on_packet: OnPacket | None = None,
    on_exchange: OnExchange | None = None,
    keep_keys: KeepKeys | None = None,
) -> AsyncIterator[Endpoint]:
    """Open UDP and TCP on one port and serve until the block ends.

    Args:
        host: An address or name of this machine; "" or "::" listens on all of them.
        port: 0 chooses a free one; `endpoint.port` tells which.
        pools: By the name under which the host knows them; labels must differ.
        on_packet: Called for each datagram; must not block.
        on_exchange: Awaited for each request on a stream; returns the reply.
        keep_keys: Awaited with a pool's keys after they were changed over the pool
            (gossip.rotation); returns why they could not be kept, or "".

    Raises:
        OSError: the address can't be bound.
        ValueError: two pools have the same label.
    """
    if len({pool.label for pool in pools.values()}) != len(pools):
        raise ValueError("two pools with the same label could not be told apart")
    found = await trio.socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, sockaddr = found[0]
    datagrams, listener = _bind_pair(family, str(sockaddr[0]), port)
    with datagrams:
        async with trio.open_nursery() as nursery:
            endpoint = Endpoint(
                datagrams=datagrams,
                nursery=nursery,
                pools=pools,
                on_packet=on_packet,
                on_exchange=on_exchange,
                keep_keys=keep_keys,
            )
            streams = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            nursery.start_soon(endpoint.receive_datagrams)
            nursery.start_soon(trio.serve_listeners, endpoint.serve_stream, [streams])
            try:
                yield endpoint
            finally:
                nursery.cancel_scope.cancel()


def _bind_pair(
    family: socket.AddressFamily, host: str, port: int
) -> tuple[socket.socket, socket.socket]:
    """Return a bound UDP and a listening TCP socket with the same port number."""
    for attempt in range(BIND_TRIES):
        listener = socket.socket(family, socket.SOCK_STREAM)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            for each in (listener, datagrams):
                each.setblocking(False)
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            listener.bind((host, port))
            datagrams.bind((host, listener.getsockname()[1]))
            listener.listen(STREAMS_MAX)
            return datagrams, listener
        except OSError as error:
            listener.close()
            datagrams.close()
            # a chosen TCP port whose UDP twin is taken: choose again
            is_last = attempt == BIND_TRIES - 1
            if port != 0 or error.errno != errno.EADDRINUSE or is_last:
                raise
    raise AssertionError("the last try returns or raises")


async def _write_frame(stream: trio.SocketStream, data: bytes) -> None:
    await stream.send_all(len(data).to_bytes(STREAM_LENGTH_BYTES, "big") + data)


async def _read_frame(stream: trio.SocketStream) -> bytes:
    """Return one length-prefixed packet.

    Raises:
        WireError: too_large, too_short.
    """
    length = int.from_bytes(await _read_exactly(stream, STREAM_LENGTH_BYTES), "big")
    if length > STREAM_BYTES_MAX:
        raise WireError("too_large", f"{length} bytes announced")
    return await _read_exactly(stream, length)


async def _read_exactly(stream: trio.SocketStream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = await stream.receive_some(min(count - len(received), 65_536))
        if not chunk:
            raise WireError("too_short", f"{len(received)} of {count} bytes")
        received += chunk
    return bytes(received)
