"""Calls a server over RPC on a timetable, to see how long its event loop keeps others waiting."""

import itertools
import threading
from functools import partial
from typing import Any

import structlog
import trio

from bench.quorum import Quorum, Server
from core.agent.rpc import Identity, RpcEndpoint
from core.agent.tls import client_context
from core.model.query import Query

INTERVAL_S = 0.002
ANSWER_LIMIT_S = 30.0


class Waits:
    """How long each call took, from the moment it was due; milliseconds, sorted."""

    def __init__(self, waits_ms: list[float]) -> None:
        self._waits_ms = sorted(waits_ms)

    @property
    def longest_ms(self) -> float:
        return self._waits_ms[-1]

    def at(self, share: float) -> float:
        return self._waits_ms[min(len(self._waits_ms) - 1, int(share * len(self._waits_ms)))]


def probe(
    quorum: Quorum, server: Server, *, seconds: float, stop: threading.Event | None = None
) -> Waits:
    """Call `server` every 2 ms for `seconds`, or until `stop` is set.

    A call is made when it is due even if earlier ones wait, so one stall is seen whole.
    """
    return trio.run(partial(_probe, server, seconds, stop or threading.Event()))


async def _probe(server: Server, seconds: float, stop: threading.Event) -> Waits:
    files = [str(server.folder / name) for name in ("ca.pem", "cli.pem", "cli-key.pem")]
    waits_ms: list[float] = []
    async with trio.open_nursery() as nursery:
        endpoint = RpcEndpoint(
            Identity("probe", "cli", "127.0.0.1:0", lambda: ""),
            nursery=nursery,
            source_host="127.0.0.1",
            on_request=_refuse,
            on_message=lambda channel, body, peer: None,
            log=structlog.get_logger(),
            client_tls=client_context(*files),
        )
        query = Query(method="Status.Leader", stale=True)
        await endpoint.call(server.rpc, "Query", query, ANSWER_LIMIT_S)  # the connection stands
        began = trio.current_time()

        async def ask(due: float) -> None:
            await endpoint.call(server.rpc, "Query", query, ANSWER_LIMIT_S)
            waits_ms.append((trio.current_time() - due) * 1e3)

        async with trio.open_nursery() as calls:
            for number in itertools.count():
                due = began + number * INTERVAL_S
                if stop.is_set() or due > began + seconds:
                    break
                await trio.sleep_until(due)
                # Our own lateness is not the server's.
                calls.start_soon(ask, trio.current_time())
        nursery.cancel_scope.cancel()
    return Waits(waits_ms)


async def _refuse(method: str, body: Any, peer: Any) -> tuple[Any, str]:
    return None, "a probe answers nothing"
