"""The relay: a user-space network between agents on loopback.

It listens on every agent's face and passes on to the agent's own address, sending from
the face of whoever sent (see the package's docstring). What a cut does is what a cut does
in a network, not what a crash does:

* a packet is dropped;
* an open stream stalls; held bytes arrive when the link is healed, as TCP would send them
  again;
* a new stream gets no answer. It is reset once the link is healed (the caller dials
  again) or dropped when the caller gives up.

Slow links keep order and throughput: each chunk is due `delay` after it came in.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator

import trio

from core.devcluster.links import Endpoint, Link, Links

CHUNK = 64 * 1024
PACKET = 64 * 1024
QUEUE = 64  # chunks on their way through a slow link, a stream and direction
DELAYED_PACKETS = 4096  # packets on their way through slow links; more are dropped
_CONNECT_TIMEOUT_S = 5.0
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


class AddressTaken(OSError):
    """A face or port is in use; another federation may run on these addresses."""


class Relay:
    """Bind with `open`, then `run` until cancelled. `links` may change at any time."""

    def __init__(self, links: Links) -> None:
        self.links = links
        self._by_host = {endpoint.host: endpoint for endpoint in links.endpoints}
        self._listeners: list[tuple[Endpoint, int, trio.SocketListener]] = []
        self._packets: dict[tuple[str, int], trio.socket.SocketType] = {}
        self._anonymous: trio.socket.SocketType | None = None
        self._delayed = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Relay"]:
        """Bind all faces; they are free again afterwards.

        Raises:
            AddressTaken: One of them is in use.
            OSError: This machine has no such loopback addresses.
        """
        try:
            for endpoint in self.links.endpoints:
                for port in endpoint.tcp_ports:
                    listener = trio.SocketListener(_bound(endpoint.face, port, listens=True))
                    self._listeners.append((endpoint, port, listener))
                for port in endpoint.udp_ports:
                    self._packets[endpoint.name, port] = _bound(endpoint.face, port)
            self._anonymous = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            yield self
        finally:
            for _, _, listener in self._listeners:
                listener.socket.close()
            for packets in self._packets.values():
                packets.close()
            if self._anonymous is not None:
                self._anonymous.close()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for endpoint, port, listener in self._listeners:
                nursery.start_soon(self._accept, nursery, endpoint, port, listener)
            for (name, port), packets in self._packets.items():
                receiver = next(e for e in self.links.endpoints if e.name == name)
                nursery.start_soon(self._forward_packets, nursery, receiver, port, packets)

    # --- packets ----------------------------------------------------------------------

    async def _forward_packets(
        self,
        nursery: trio.Nursery,
        receiver: Endpoint,
        port: int,
        packets: trio.socket.SocketType,
    ) -> None:
        while True:
            try:
                data, (host, _) = await packets.recvfrom(PACKET)
            except ConnectionError:
                continue  # ICMP: an agent that is down refused an earlier packet
            sender = self._by_host.get(host)
            if sender is receiver:
                continue
            link = self.links.between(sender, receiver)
            if link.is_cut:
                link.dropped += 1
                continue
            link.passed += 1
            if link.delay_s == 0:
                await self._emit(sender, receiver, port, data)
            elif self._delayed < DELAYED_PACKETS:
                self._delayed += 1
                nursery.start_soon(self._emit_later, sender, receiver, port, data, link)
            else:
                link.dropped += 1

    async def _emit_later(
        self, sender: Endpoint | None, receiver: Endpoint, port: int, data: bytes, link: Link
    ) -> None:
        try:
            await trio.sleep(link.delay_s)
            if link.is_cut:
                link.dropped += 1
            else:
                await self._emit(sender, receiver, port, data)
        finally:
            self._delayed -= 1

    async def _emit(
        self, sender: Endpoint | None, receiver: Endpoint, port: int, data: bytes
    ) -> None:
        outlet = self._packets[sender.name, port] if sender is not None else self._anonymous
        assert outlet is not None
        with contextlib.suppress(OSError):  # UDP: what can't be sent is lost
            await outlet.sendto(data, (receiver.host, port))

    # --- streams ----------------------------------------------------------------------

    async def _accept(
        self, nursery: trio.Nursery, receiver: Endpoint, port: int, listener: trio.SocketListener
    ) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE}:
                    await trio.sleep(0.1)
                    continue
                raise
            nursery.start_soon(self._carry, stream, receiver, port)

    async def _carry(self, caller: trio.SocketStream, receiver: Endpoint, port: int) -> None:
        """Carry one stream until both directions have ended."""
        try:
            host = caller.socket.getpeername()[0]
        except OSError:
            await caller.aclose()  # gone before we looked
            return
        sender = self._by_host.get(host)
        there = self.links.between(sender, receiver)
        back = self.links.between(receiver, sender) if sender is not None else Link()
        try:
            if there.is_cut or back.is_cut:
                await _hold(caller, there, back)
                return
            await trio.sleep(there.delay_s + back.delay_s)  # the handshake's round trip
            called = await _dial(sender, receiver, port)
        except OSError:
            _reset(caller)
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, caller, called, there)
                    nursery.start_soon(_pump, called, caller, back)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                # One end reset its connection: so does the other side's.
                _reset(caller)
                _reset(called)
        await trio.aclose_forcefully(caller)
        await trio.aclose_forcefully(called)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, link: Link) -> None:
    """Copy bytes until the source ends, then end the sink."""
    send, receive = trio.open_memory_channel[tuple[float, bytes]](QUEUE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_deliver, receive, sink, link)
        async with send:
            while chunk := await source.receive_some(CHUNK):
                await send.send((trio.current_time(), chunk))


async def _deliver(
    receive: "trio.MemoryReceiveChannel[tuple[float, bytes]]",
    sink: trio.SocketStream,
    link: Link,
) -> None:
    async for arrived, chunk in receive:
        await _wait_for(link, arrived)
        link.passed += 1
        await sink.send_all(chunk)
    await link.wait_until_clear()  # the end of a stream crosses the link as well
    await sink.send_eof()


async def _wait_for(link: Link, arrived: float) -> None:
    """Return when what came in at `arrived` has crossed the link."""
    while True:
        await link.wait_until_clear()
        due = arrived + link.delay_s
        if due <= trio.current_time():
            return
        await trio.sleep_until(due)


async def _hold(caller: trio.SocketStream, there: Link, back: Link) -> None:
    """Keep a stream unanswered until the caller gives up or the link is clear again."""

    async def until_clear(scope: trio.CancelScope) -> None:
        while there.is_cut or back.is_cut:
            await there.wait_until_clear()
            await back.wait_until_clear()
        scope.cancel()

    with contextlib.suppress(trio.BrokenResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_clear, nursery.cancel_scope)
            with contextlib.suppress(trio.BrokenResourceError):
                while await caller.receive_some(CHUNK):
                    pass
            nursery.cancel_scope.cancel()
    _reset(caller)


async def _dial(sender: Endpoint | None, receiver: Endpoint, port: int) -> trio.SocketStream:
    """Connect to an agent from the face of the caller."""
    plug = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sender is not None:
            await plug.bind((sender.face, 0))
        with trio.move_on_after(_CONNECT_TIMEOUT_S) as scope:
            await plug.connect((receiver.host, port))
        if scope.cancelled_caught:
            raise TimeoutError(errno.ETIMEDOUT, "no answer")
        return trio.SocketStream(plug)
    except BaseException:
        plug.close()
        raise


def _bound(host: str, port: int, *, listens: bool = False) -> trio.socket.SocketType:
    kind = socket.SOCK_STREAM if listens else socket.SOCK_DGRAM
    plug = socket.socket(socket.AF_INET, kind)
    try:
        plug.setblocking(False)
        if listens:
            # Only for faces that a federation before us has just left (TIME_WAIT).
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.bind((host, port))
        if listens:
            plug.listen(128)
    except OSError as error:
        plug.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(error.errno, f"{host}:{port} is in use") from error
        raise
    return trio.socket.from_stdlib_socket(plug)


def _reset(stream: trio.SocketStream) -> None:
    with contextlib.suppress(OSError, trio.ClosedResourceError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    stream.socket.close()
