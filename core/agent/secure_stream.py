"""TLS over a TCP connection, in large pieces.

`trio.SSLStream` hands over one record, 16 KiB, a turn of the event loop; a frame of a
megabyte costs 64 turns. This stream moves all that the socket has at once, through the
same OpenSSL objects in memory, and encrypts a large frame piece by piece, so that the
other side decrypts one while the next is encrypted.

Frames have lengths of their own, so an end without TLS's farewell is an end like any other
(what trio calls `https_compatible`).
"""

import ssl
from typing import Any, Final

import trio

RECEIVE_BYTES: Final = 1 << 18
_PIECE_BYTES: Final = 1 << 18
_RECORD_BYTES: Final = 1 << 14


class SecureStream(trio.abc.Stream):
    """One TLS connection. One task may send and one receive at the same time.

    `do_handshake` comes first. What OpenSSL refuses, or the other side's does, is raised as
    `trio.BrokenResourceError` with the `ssl.SSLError` as its cause.
    """

    def __init__(
        self,
        tcp: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        is_server: bool = False,
    ) -> None:
        self._tcp = tcp
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=is_server,
            server_hostname=None if is_server else server_hostname,
        )
        self._sending = trio.Lock()

    def getpeercert(self) -> Any:
        """Return the other side's certificate as `ssl.SSLSocket.getpeercert` does."""
        return self._tls.getpeercert()

    async def do_handshake(self) -> None:
        """Agree on keys and check certificates.

        Raises:
            trio.BrokenResourceError: A certificate was refused, or the connection ended.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._tcp.receive_some(RECEIVE_BYTES)
                if not data:
                    raise trio.BrokenResourceError("closed during the TLS handshake") from None
                self._incoming.write(data)
                continue
            except ssl.SSLError as error:
                await self._flush()  # tells the other side why
                raise trio.BrokenResourceError from error
            await self._flush()
            return

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; returns once the kernel took it.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: The connection ended.
        """
        view = memoryview(data)
        async with self._sending:
            for start in range(0, len(view), _PIECE_BYTES):
                try:
                    self._tls.write(view[start : start + _PIECE_BYTES])
                except ssl.SSLError as error:
                    raise trio.BrokenResourceError from error
                await self._tcp.send_all(self._outgoing.read())

    async def wait_send_all_might_not_block(self) -> None:
        await self._tcp.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, b"" at the end.

        Raises:
            trio.BrokenResourceError: The other side refused us, or the bytes are no TLS.
            trio.ClosedResourceError: We closed it.
        """
        limit = max_bytes or RECEIVE_BYTES
        data, is_ended = self._decrypt(limit)
        if data or is_ended:
            await trio.lowlevel.checkpoint()
            return data
        while True:
            if self._outgoing.pending:
                await self._flush()
            arrived = await self._tcp.receive_some(RECEIVE_BYTES)
            if not arrived:
                return b""
            self._incoming.write(arrived)
            data, is_ended = self._decrypt(limit)
            if data or is_ended:
                return data

    async def aclose(self) -> None:
        await self._tcp.aclose()

    def _decrypt(self, limit: int) -> tuple[bytes, bool]:
        """Return up to about `limit` bytes that are whole by now, and whether the end came."""
        pieces: list[bytes] = []
        size = 0
        is_ended = False
        while size < limit:
            try:
                piece = self._tls.read(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                piece = b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            if not piece:
                is_ended = True
                break
            pieces.append(piece)
            size += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), is_ended and not pieces

    async def _flush(self) -> None:
        async with self._sending:
            if self._outgoing.pending:
                await self._tcp.send_all(self._outgoing.read())
