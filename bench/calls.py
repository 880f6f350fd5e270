"""Many calls over few connections, pipelined: the load of bench.scheduler.

A `Caller` is one connection in the product's own frames, with its certificate. Calls are
written without waiting for the answers of earlier ones; thousands share a connection, as
the clients behind one server do. `drive` sends a series of them, either as fast as a window
of unanswered calls allows, or by a timetable (open loop): then a call's latency counts from
when it was due, so a server that falls behind can't hide it by taking calls in late.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import structlog
import trio

from bench.quorum import Server
from core.agent.frames import Frame, FrameKind, FrameReader, encode_frame
from core.agent.link import RECEIVE_BYTES
from core.agent.rpc import Identity, RpcEndpoint
from core.agent.tls import client_context

CONNECTIONS: Final = 4
TICK_S: Final = 0.002
REPEAT_S: Final = 0.2
ANSWER_LIMIT_S: Final = 1800.0  # without any answer at all

OnAnswer = Callable[[Any], None]


class CallsFailed(Exception):
    """A call was refused, or the connection ended; the text says by whom and why."""


class Call(NamedTuple):
    """One call to make; `then` gets its answer's body.

    With `is_repeated` a refusal is not the end: it is made again, as clients make theirs.
    """

    method: str
    body: Any
    then: OnAnswer | None = None
    is_repeated: bool = False


class Drive(NamedTuple):
    """What `drive` saw: each call's latency in ms, how long it all took, calls made again."""

    latencies_ms: list[float]
    took_s: float
    repeated: int


class Caller:
    """One connection. Answers come in any order and are told apart by number."""

    def __init__(self, stream: trio.abc.Stream, name: str) -> None:
        self._stream, self._name = stream, name
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Callable[[Any, str], None]] = {}
        self._queue: list[bytes | bytearray] = []
        self._wake = trio.Event()

    def post(self, method: str, body: Any, then: Callable[[Any, str], None]) -> None:
        """Send a call; `then` gets (body, error text)."""
        number = next(self._numbers)
        self._waiting[number] = then
        self._queue.append(encode_frame(FrameKind.CALL, number, method, body))
        self._wake.set()

    async def write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._queue = b"".join(self._queue), []
            await self._stream.send_all(data)

    async def read(self) -> None:
        reader = FrameReader(expects_preface=False)
        while True:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise CallsFailed(f"{self._name} closed the connection")
            for frame in reader.feed(bytes(data)):
                self._on_frame(frame)

    def _on_frame(self, frame: Frame) -> None:
        then = self._waiting.pop(frame.id, None)
        if then is not None:
            then(frame.body, frame.name)


class Callers:
    """Several connections to one server; calls go over them in turn."""

    def __init__(self, callers: list[Caller], nursery: trio.Nursery) -> None:
        self._turn = itertools.cycle(callers)
        self._nursery = nursery

    def post(self, method: str, body: Any, then: Callable[[Any, str], None]) -> None:
        next(self._turn).post(method, body, then)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a while."""

        async def wait() -> None:
            await trio.sleep(delay_s)
            action()

        self._nursery.start_soon(wait)

    async def ask(self, method: str, body: Any) -> Any:
        """Make one call and return its answer.

        Raises:
            CallsFailed: It was refused.
        """
        answers: list[Any] = []
        await drive(self, [Call(method, body, answers.append)], window=1)
        return answers[0]


def client_of(server: Server, nursery: trio.Nursery) -> RpcEndpoint:
    """Return an endpoint that calls a server with the certificate of a client's agent."""
    files = [str(server.folder / name) for name in ("ca.pem", "client.pem", "client-key.pem")]
    return RpcEndpoint(
        Identity("bench", "client", "127.0.0.1:0", lambda: ""),
        nursery=nursery,
        source_host="127.0.0.1",
        on_request=_refuse,
        on_message=lambda channel, body, peer: None,
        log=structlog.get_logger(),
        client_tls=client_context(*files),
    )


@asynccontextmanager
async def connect(server: Server, connections: int = CONNECTIONS) -> AsyncIterator[Callers]:
    """Open connections to a server, as a client's agent would.

    Raises:
        CallsFailed: A connection ended while it was in use.
    """
    async with trio.open_nursery() as nursery:
        endpoint = client_of(server, nursery)
        callers = []
        for _ in range(connections):
            caller = Caller(await endpoint.dial(server.rpc), server.name)
            nursery.start_soon(caller.write)
            nursery.start_soon(caller.read)
            callers.append(caller)
        yield Callers(callers, nursery)
        nursery.cancel_scope.cancel()


async def drive(
    callers: Callers, calls: Iterable[Call], *, window: int, rate: float = 0.0
) -> Drive:
    """Make all calls and wait for their answers.

    Args:
        window: Unanswered calls at most; of no account in an open loop.
        rate: Calls a second, by a timetable; 0 = as fast as the window allows.

    Raises:
        CallsFailed: One of them was refused.
    """
    work = _Work(callers, iter(calls), window, rate)
    await work.run()
    return Drive(work.latencies_ms, work.ended - work.began, work.repeated)


class _Work:
    def __init__(self, callers: Callers, calls: Iterable[Call], window: int, rate: float) -> None:
        self._callers, self._calls = callers, iter(calls)
        self._window, self._rate = window, rate
        self._under_way = 0
        self._is_exhausted = False
        self._problem = ""
        self._changed = trio.Event()
        self.latencies_ms: list[float] = []
        self.repeated = 0
        self.began = self.ended = trio.current_time()

    async def run(self) -> None:
        self.began = trio.current_time()
        if self._rate:
            await self._by_timetable()
        else:
            self._fill()
        while (self._under_way or not self._is_exhausted) and not self._problem:
            self._changed = trio.Event()
            with trio.move_on_after(ANSWER_LIMIT_S) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                self._problem = f"no answer for {ANSWER_LIMIT_S:g} s"
        if self._problem:
            raise CallsFailed(self._problem)
        self.ended = trio.current_time()

    async def _by_timetable(self) -> None:
        for number in itertools.count():
            due = self.began + number / self._rate
            if due > trio.current_time():
                await trio.sleep_until(max(due, trio.current_time() + TICK_S))
            elif number % 64 == 0:
                await trio.lowlevel.checkpoint()  # behind: still take answers in
            if self._problem or not self._send_next(due):
                return

    def _fill(self) -> None:
        while self._under_way < self._window and self._send_next(trio.current_time()):
            pass

    def _send_next(self, due: float) -> bool:
        call = next(self._calls, None)
        if call is None:
            self._is_exhausted = True
            self._changed.set()
            return False
        self._under_way += 1
        self._post(call, due)
        return True

    def _post(self, call: Call, due: float) -> None:
        self._callers.post(
            call.method, call.body, lambda body, error: self._answered(call, due, body, error)
        )

    def _answered(self, call: Call, due: float, body: Any, error: str) -> None:
        if error and call.is_repeated:
            self.repeated += 1
            self._callers.later(REPEAT_S, lambda: self._post(call, due))
            return
        self._under_way -= 1
        self.latencies_ms.append((trio.current_time() - due) * 1e3)
        if call.method == "Query" and not error and body.get("status", 200) >= 400:
            error = f"{body['status']}: {body.get('error', '')}"
        if error:
            self._problem = self._problem or f"{call.method}: {error}"
        elif call.then is not None:
            call.then(body)
        if not self._rate and not self._problem:
            self._fill()
        self._changed.set()


async def _refuse(method: str, body: Any, peer: Any) -> tuple[Any, str]:
    return None, "a benchmark answers nothing"
