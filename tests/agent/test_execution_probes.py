"""Service checks against real sockets on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from core.agent.execution.probes import run_check
from core.client.effects import RunCheck


@asynccontextmanager
async def serving(answer: bytes | None, heard: list[bytes]) -> AsyncIterator[int]:
    """Answer each connection with fixed bytes; None never answers."""

    async def serve(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some(65_536)))
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def check(port: int, **fields: Any) -> RunCheck:
    return RunCheck(check_id="c", address="127.0.0.1", port=port, **{"probe": "http", **fields})


@pytest.mark.parametrize(
    ("status", "passes"), [(200, True), (204, True), (301, False), (503, False)]
)
async def test_an_http_check_goes_by_the_status(status: int, passes: bool) -> None:
    body = b"" if status == 204 else b"body"
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    heard: list[bytes] = []
    async with serving(head + body, heard) as port:
        result = await run_check(
            check(port, path="/health?x=1", method="post", body="b", headers={"Host": ["web"]})
        )
    assert (result.is_passing, result.status_code) == (passes, status)
    assert heard[0].startswith(b"POST /health?x=1 HTTP/1.1\r\n")
    assert heard[0].count(b"ost: ") == 1
    assert heard[0].endswith(b"\r\n\r\nb")


async def test_a_long_answer_is_cut() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with serving(answer, []) as port:
        result = await run_check(check(port))
    assert result.is_passing
    assert len(result.output) < 3_500


@pytest.mark.parametrize(
    ("answer", "words"), [(b"\x00garbage\r\n\r\n", "not an HTTP answer"), (None, "timed out")]
)
async def test_what_is_no_answer_fails_in_words(answer: bytes | None, words: str) -> None:
    async with serving(answer, []) as port:
        result = await run_check(check(port, timeout_us=200_000))
    assert not result.is_passing
    assert words in result.output


async def test_a_closed_port_is_critical() -> None:
    async with serving(b"", []) as port:
        assert (await run_check(check(port, probe="tcp"))).is_passing
    for probe in ("tcp", "http"):
        result = await run_check(check(port, probe=probe))
        assert not result.is_passing
        assert "refused" in result.output


async def test_a_request_that_cannot_be_sent_is_told() -> None:
    async with serving(b"", []) as port:
        result = await run_check(check(port, headers={"Bad Name": ["x"]}))
    assert "not valid HTTP" in result.output


async def test_https_needs_tls_on_the_other_side() -> None:
    async with serving(b"plain text, no TLS\r\n", []) as port:
        result = await run_check(check(port, protocol="https", tls_skip_verify=True))
    assert not result.is_passing
    assert "TLS" in result.output
