"""Logs and files as streams: repeated bounded reads, framed as Nomad frames them.

A follower asks for what comes after the offset it has, and the node answers when there
is more or after a short wait. So a stream needs no connection of its own through the
federation, survives a change of leader, and works from any agent of any region.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import msgspec

from core.model.query import Answer, Query

CHUNK_BYTES: Final = 64 * 1024
FOLLOW_WAIT_US: Final = 5_000_000
HEARTBEAT: Final = b"{}"


class Backend(Protocol):
    async def request(self, query: Query) -> Answer: ...


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def _with(query: Query, method: str, **params: Any) -> Query:
    return msgspec.structs.replace(query, method=method, params={**query.params, **params})


async def log_stream(backend: Backend, query: Query) -> AsyncIterator[bytes | Answer]:
    """Yield a task's log; the first item is an `Answer` when it can't be read."""
    async for item in _read_on(backend, query, "Client.Logs"):
        yield item


async def file_stream(backend: Backend, query: Query) -> AsyncIterator[bytes | Answer]:
    """Yield a file of an allocation, following it unless `follow=false`."""
    params = {"follow": "true", **query.params}
    query = msgspec.structs.replace(query, params=params)
    async for item in _read_on(backend, query, "Client.FS.Stream"):
        yield item


async def _read_on(backend: Backend, query: Query, method: str) -> AsyncIterator[bytes | Answer]:
    params = query.params
    plain = _is_true(params.get("plain", ""))
    follow = _is_true(params.get("follow", ""))
    try:
        offset = _count(params, "offset", 0)
    except ValueError as error:
        yield Answer(status=400, error=str(error))
        return
    origin = str(params.get("origin") or "start")
    frame = ""
    is_first = True
    while True:
        answer = await backend.request(
            _with(
                query,
                method,
                offset=offset,
                origin=origin,
                frame=frame,
                limit=CHUNK_BYTES,
                wait_us=FOLLOW_WAIT_US if follow and not is_first else 0,
            )
        )
        if answer.is_error:
            if is_first:
                yield answer
            return
        body = answer.body
        data: bytes = body["data"]
        offset, origin, frame = body["offset"], "start", body.get("frame", "")
        if data:
            yield data if plain else _frame(data, offset, frame)
        elif follow:
            yield b"" if plain else HEARTBEAT
        if not data and body.get("eof", True) and not follow:
            if is_first:
                yield b""
            return
        is_first = False


def _count(params: dict[str, Any], name: str, default: int) -> int:
    """Return a parameter that counts bytes.

    Raises:
        ValueError: It is no such number; the text names it.
    """
    text = str(params.get(name) or default)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} is not a number: {text!r}") from None


def _frame(data: bytes, offset: int, name: str) -> bytes:
    return msgspec.json.encode({"Offset": offset, "Data": data, "File": name})


async def file_bytes(backend: Backend, query: Query) -> Answer:
    """Return a whole file (`cat`), or the part of it that `readat` asks for, as the body."""
    data = bytearray()
    try:
        offset = _count(query.params, "offset", 0)
        wanted = _count(query.params, "limit", -1)
    except ValueError as error:
        return Answer(status=400, error=str(error))
    while wanted < 0 or len(data) < wanted:
        limit = CHUNK_BYTES if wanted < 0 else min(CHUNK_BYTES, wanted - len(data))
        answer = await backend.request(
            _with(query, "Client.FS.ReadAt", offset=offset, limit=limit, origin="start")
        )
        if answer.is_error:
            return answer
        chunk: bytes = answer.body["data"]
        data += chunk
        offset = answer.body["offset"]
        if not chunk:
            break
    return Answer(body=bytes(data))
