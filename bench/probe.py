"""Calls a server over RPC on a timetable, to see how long its event loop keeps others waiting."""

import itertools
import threading
from functools import partial
from typing import NamedTuple

import trio

from bench.calls import client_of
from bench.quorum import Server
from core.model.query import Query

INTERVAL_S = 0.002
ANSWER_LIMIT_S = 30.0


class Wait(NamedTuple):
    """How long a call took from the moment it was due, milliseconds.

    `own_ms` leaves out how long the server's main thread stood ready in the kernel's queue
    because other programs held the processors, or the caller did, whichever was longer.
    """

    ms: float
    own_ms: float


def probe(server: Server, *, seconds: float, stop: threading.Event | None = None) -> list[Wait]:
    """Call `server` every 2 ms for `seconds`, or until `stop` is set.

    A call is made when it is due even if earlier ones wait, so one stall is seen whole.
    """
    return trio.run(partial(_probe, server, seconds, stop or threading.Event()))


async def _probe(server: Server, seconds: float, stop: threading.Event) -> list[Wait]:
    assert server.process is not None
    queues = [_RunQueue(server.process.pid), _RunQueue(threading.get_native_id())]
    waits: list[Wait] = []
    async with trio.open_nursery() as nursery:
        endpoint = client_of(server, nursery)
        query = Query(method="Status.Leader", stale=True)
        await endpoint.call(server.rpc, "Query", query, ANSWER_LIMIT_S)  # the connection stands
        began = trio.current_time()

        async def ask(asked: float) -> None:
            before_ms = [queue.waited_ms() for queue in queues]
            await endpoint.call(server.rpc, "Query", query, ANSWER_LIMIT_S)
            took_ms = (trio.current_time() - asked) * 1e3
            queued_ms = [queue.waited_ms() - ms for queue, ms in zip(queues, before_ms)]
            waits.append(Wait(took_ms, max(0.0, took_ms - max(queued_ms))))

        async with trio.open_nursery() as calls:
            for number in itertools.count():
                due = began + number * INTERVAL_S
                if stop.is_set() or due > began + seconds:
                    break
                await trio.sleep_until(due)
                # Our own lateness is not the server's.
                calls.start_soon(ask, trio.current_time())
        nursery.cancel_scope.cancel()
    return waits


class _RunQueue:
    """How long a thread has stood ready without a processor, by the kernel's count."""

    def __init__(self, thread_id: int) -> None:
        self._file = open(f"/proc/{thread_id}/schedstat", "rb", buffering=0)  # noqa: SIM115

    def waited_ms(self) -> float:
        self._file.seek(0)
        return int(self._file.read().split()[1]) / 1e6
