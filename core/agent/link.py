"""One outgoing connection of core.agent.rpc, and the queue of frames in front of it."""

from __future__ import annotations

import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from core.agent.frames import Frame, FrameError, FrameKind, FrameReader
from core.model.host import Address

if TYPE_CHECKING:
    from core.agent.rpc import RpcEndpoint

RECEIVE_BYTES: Final = 1 << 18
QUEUE_LIMIT_BYTES: Final = 64 << 20
DIAL_TIMEOUT_S: Final = 3.0
IDLE_S: Final = 180.0
BACKOFF_MAX_S: Final = 0.5
BACKOFF_FIRST_S: Final = 0.05
# A peer that vanished without a word (power, partition) is noticed after this long, not
# after the kernel's quarter of an hour: calls would wait in its connection meanwhile.
SILENCE_TIMEOUT_S: Final = 15

DIAL_ERRORS: Final = (
    OSError,
    ValueError,
    ssl.SSLError,
    trio.TooSlowError,
    trio.BrokenResourceError,
)


class Waiter:
    """Somebody waits for the answer to a call."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.body: Any = None
        self.error = ""

    def fail(self, error: str) -> None:
        self.error = error
        self.done.set()


class Outgoing:
    """Frames on their way out of one connection: everything queued goes in one write."""

    def __init__(self, stream: trio.abc.Stream | None) -> None:
        self.stream = stream
        self.queue: deque[bytes | bytearray] = deque()
        self.queued_bytes = 0
        self.owed = 0  # calls taken and not answered yet
        self.wake = trio.Event()

    def enqueue(self, data: bytes | bytearray) -> bool:
        if self.queued_bytes + len(data) > QUEUE_LIMIT_BYTES and self.queue:
            return False
        self.queue.append(data)
        self.queued_bytes += len(data)
        self.wake.set()
        return True

    async def run(self) -> None:
        assert self.stream is not None
        while True:
            await self.wake.wait()
            self.wake = trio.Event()
            while self.queue:
                data = self.queue[0] if len(self.queue) == 1 else b"".join(self.queue)
                self.queue.clear()
                self.queued_bytes = 0
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return


class Link:
    """One outgoing connection: dialled when needed, dialled again when it broke."""

    def __init__(self, endpoint: RpcEndpoint, address: Address, *, needs_server: bool) -> None:
        self.endpoint = endpoint
        self.address = address
        self._needs_server = needs_server
        self._breach = ""  # how the last connection ended
        self.waiters: dict[int, Waiter] = {}
        self._outgoing = Outgoing(None)

    def enqueue(self, data: bytes | bytearray) -> bool:
        self.endpoint.counters.bytes_sent += len(data)
        return self._outgoing.enqueue(data)

    async def run(self) -> None:
        """Serve until nothing was wanted for `IDLE_S`."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            with trio.move_on_after(IDLE_S):
                await self._outgoing.wake.wait()
            if not self._outgoing.queue and not self.waiters:
                return
            try:
                stream = await self.endpoint.dial(self.address, needs_server=self._needs_server)
            except DIAL_ERRORS as error:
                self._fail_waiters(f"unreachable: {self.address}: {reason_of(error)}")
                if isinstance(error.__cause__ or error, ssl.SSLError):
                    self.endpoint.tell_refusal("outgoing", self.address, error)
                self._drop_queue()
                await trio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
                continue
            backoff_s = BACKOFF_FIRST_S
            try:
                await self._carry(stream)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
            self._forget_failed_calls()

    async def _carry(self, stream: trio.abc.Stream) -> None:
        self._breach = "the connection broke"
        self._outgoing.stream = stream
        self._outgoing.wake.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            reader = FrameReader(expects_preface=False)
            try:
                while True:
                    with trio.move_on_after(IDLE_S) as idle:
                        data = await stream.receive_some(RECEIVE_BYTES)
                    if idle.cancelled_caught:
                        if self.waiters or self._outgoing.queue:
                            continue
                        break
                    if not data:
                        break
                    self.endpoint.counters.bytes_received += len(data)
                    for frame in reader.feed(bytes(data)):
                        self._on_frame(frame)
            except (trio.BrokenResourceError, trio.ClosedResourceError, FrameError) as error:
                # Who waits for an answer is told so; TLS 1.3 refuses a certificate only now.
                if isinstance(error.__cause__, ssl.SSLError):
                    self._breach = reason_of(error)
                    self.endpoint.tell_refusal("outgoing", self.address, error)
            nursery.cancel_scope.cancel()

    async def _write(self, scope: trio.CancelScope) -> None:
        await self._outgoing.run()
        scope.cancel()

    def _on_frame(self, frame: Frame) -> None:
        waiter = self.waiters.pop(frame.id, None)
        if frame.kind is FrameKind.REPLY and waiter is not None:
            waiter.body = frame.body
            waiter.fail(frame.name)

    def _fail_waiters(self, error: str) -> None:
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters.values():
            waiter.fail(error)

    def _drop_queue(self) -> None:
        if self._outgoing.queue:
            self.endpoint.counters.drop("unreachable")
        self._outgoing = Outgoing(None)

    def _forget_failed_calls(self) -> None:
        """Keep one-way messages that were queued and not sent yet; calls fail, all of them.

        Whoever was told that his call failed may ask another: it must not be made after all.
        """
        fresh = Outgoing(None)
        if self.waiters:
            self._fail_waiters(f"unreachable: {self.address}: {self._breach}")
        else:
            for data in self._outgoing.queue:
                fresh.enqueue(data)
        self._outgoing = fresh


def notice_silence(stream: trio.SocketStream) -> None:
    """Have the kernel give up a connection whose other end says nothing any more."""
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
    options = {  # Linux's names; elsewhere the kernel's defaults stay
        "TCP_KEEPIDLE": SILENCE_TIMEOUT_S,
        "TCP_KEEPINTVL": SILENCE_TIMEOUT_S // 3,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": SILENCE_TIMEOUT_S * 1000,
    }
    for name, value in options.items():
        option = getattr(trio.socket, name, None)
        if option is not None:
            stream.setsockopt(trio.socket.IPPROTO_TCP, option, value)


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in words."""
    if isinstance(error, trio.TooSlowError):
        return f"no connection within {DIAL_TIMEOUT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error.__cause__, ssl.SSLError):  # trio wraps what went wrong in TLS
        error = error.__cause__
    if isinstance(error, ssl.SSLError) and len(error.args) == 1:  # ours: it has no number
        return str(error.args[0])
    return str(error) or type(error).__name__
