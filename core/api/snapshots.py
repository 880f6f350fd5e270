"""`/v1/operator/snapshot`: the state of a datacenter out as a stream, and in as one.

Both move some hundred KiB at a time, so neither this agent nor the server ever holds a
whole snapshot of the stream at once.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import msgspec

from core.model.query import Answer, Query
from core.state.snapshot import MAGIC

STAGE_BYTES: Final = 512 << 10


class Backend(Protocol):
    async def request(self, query: Query) -> Answer: ...


async def save(backend: Backend, query: Query) -> tuple[Answer, AsyncIterator[bytes]]:
    """Open a snapshot and return its first answer and its bytes.

    Stop at an answer that is an error: then there are no bytes.
    """
    opened = await backend.request(
        msgspec.structs.replace(query, method="Operator.SnapshotOpen", body=None)
    )
    handle: dict[str, Any] = {} if opened.is_error else dict(opened.body)
    if opened.is_error:
        return opened, _read_on(backend, query, handle, b"", is_last=True)
    first = await _chunk(backend, query, handle, 0)
    if first.is_error:
        return first, _read_on(backend, query, handle, b"", is_last=True)
    data, is_last = first.body["data"], first.body["is_last"]
    return opened, _read_on(backend, query, handle, data, is_last=is_last)


async def _read_on(
    backend: Backend, query: Query, handle: dict[str, Any], data: bytes, *, is_last: bool
) -> AsyncIterator[bytes]:
    offset = len(data)
    yield data
    while not is_last:
        answer = await _chunk(backend, query, handle, offset)
        if answer.is_error:
            # Too late for a status: the stream breaks off, and the file's end is missing.
            raise SnapshotBroken(answer.error)
        data, is_last = answer.body["data"], answer.body["is_last"]
        offset += len(data)
        yield data


class SnapshotBroken(Exception):
    """A snapshot that was begun can't be finished."""


async def _chunk(backend: Backend, query: Query, handle: dict[str, Any], offset: int) -> Answer:
    return await backend.request(
        Query(
            method="Operator.SnapshotChunk",
            params={
                "server_id": handle["ServerID"],
                "export_id": handle["ExportID"],
                "offset": offset,
            },
            region=query.region,
            datacenter=query.datacenter,
            token=query.token,
        )
    )


async def restore(backend: Backend, query: Query, chunks: AsyncIterator[bytes]) -> Answer:
    """Stage the bytes of a snapshot and have them take the state's place."""
    restore_id = secrets.token_hex(16)
    digest = hashlib.sha256()
    offset = 0
    buffer = bytearray()

    async def stage(data: bytes) -> Answer:
        nonlocal offset
        digest.update(data)
        answer = await backend.request(
            _write(query, "Operator.SnapshotStage", {"data": data}, restore_id, offset=offset)
        )
        offset += len(data)
        return answer

    async for chunk in chunks:
        buffer += chunk
        if offset == 0 and len(buffer) >= len(MAGIC) and not buffer.startswith(MAGIC):
            return _not_ours()
        while len(buffer) >= STAGE_BYTES:
            answer = await stage(bytes(buffer[:STAGE_BYTES]))
            del buffer[:STAGE_BYTES]
            if answer.is_error:
                return answer
    if offset == 0 and not buffer.startswith(MAGIC):
        return _not_ours()
    if buffer:
        answer = await stage(bytes(buffer))
        if answer.is_error:
            return answer
    force = query.params.get("force", "false")
    return await backend.request(
        _write(
            query, "Operator.SnapshotRestore", None, restore_id,
            digest=digest.hexdigest(), force=force,
        )
    )  # fmt: skip


def _not_ours() -> Answer:
    return Answer(
        status=400,
        error="nothing was restored: these bytes are no Serai snapshot (serai operator snapshot "
        "save makes them)",
    )


def _write(query: Query, method: str, body: Any, restore_id: str, **params: Any) -> Query:
    return Query(
        method=method,
        params={"restore_id": restore_id, **params},
        body=body,
        region=query.region,
        datacenter=query.datacenter,
        token=query.token,
    )
