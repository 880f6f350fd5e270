"""The HTTP API: every route of the table becomes a `Query`, every `Answer` a response.

An ASGI application. What needs no server (parsing a job file, metrics) is answered
here; log and file streams are repeated reads (core.api.streams); all else goes to
the agent, which knows who can answer.
"""

import gzip
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from core.api import monitor, snapshots
from core.api.parameters import BadParameter, read_query
from core.api.routes import ENTERPRISE, NoRoute, Route, match
from core.api.streams import file_bytes, file_stream, log_stream
from core.jobspec.canonical import canonicalize
from core.jobspec.diagnostics import JobFileError
from core.jobspec.parse import parse_job
from core.model.query import Answer, Query

MAX_BODY_BYTES: Final = 16 << 20
GZIP_FROM_BYTES: Final = 1024  # below it the saving is not worth the work
GZIP_INLINE_BYTES: Final = 64 * 1024  # beyond it a worker packs: 1 ms on the loop at most
TEXT: Final = "text/plain; charset=utf-8"
_PRETTY_INDENT: Final = 4

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Backend(Protocol):
    """What the API needs of its agent."""

    region: str

    async def request(self, query: Query) -> Answer: ...

    async def read_log(
        self, key: str, level: str, *, as_json: bool, address: str
    ) -> tuple[bytes, str]: ...

    def metrics_text(self, accept: str) -> tuple[bytes, str]: ...

    def metrics_json(self) -> Any: ...

    def count_request(self, method: str, status: int, seconds: float) -> None: ...


class Api:
    """The ASGI application of one agent."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        started = trio.current_time()
        label = "unknown"
        status = 500
        try:
            response, label = await self._respond(request)
            if not isinstance(response, StreamingResponse):
                await _pack(response, request.headers.get("accept-encoding", ""))
            status = response.status_code
            await response(scope, receive, send)
        except ClientDisconnect:
            status = 499
        finally:
            self._backend.count_request(label, status, trio.current_time() - started)

    async def _respond(self, request: Request) -> tuple[Response, str]:
        path = unquote(request.scope["raw_path"].decode("latin-1").split("?")[0])
        if not path.startswith("/v1/"):
            if path == "/":
                return _text(200, "This is Serai's HTTP API; it lives under /v1/"), "root"
            return _text(404, f"there is nothing at {path}; the API lives under /v1/"), "unknown"
        path = path[4:].rstrip("/")
        if ENTERPRISE.match(path):
            return _text(501, "Nomad Enterprise only endpoint"), "enterprise"
        try:
            route, path_params = match(request.method, path)
        except NoRoute as error:
            refusal = _text(405 if error.allowed else 404, str(error))
            if error.allowed:
                refusal.headers["Allow"] = ", ".join(sorted(error.allowed))
            return refusal, "unknown"
        try:
            is_stream = route.query == "@restore-snapshot"
            body = None if is_stream else await self._body(request)
            query = read_query(
                route.query,
                path_params,
                parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True),
                request.headers,
                body,
            )
            if route.query.startswith("@"):
                return await self._own(route, query, request), route.query[1:]
            answer = await self._backend.request(query)
        except (BadParameter, BodyError) as error:
            status = error.status if isinstance(error, BodyError) else 400
            return _text(status, str(error)), route.query
        return self._answer(answer, pretty="pretty" in request.query_params), route.query

    async def _body(self, request: Request) -> Any:
        if request.method in ("GET", "HEAD"):
            return None
        data = await _read_body(request)
        if not data.strip():
            return None
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BodyError(400, f"failed to decode request body as JSON: {error}") from None

    async def _own(self, route: Route, query: Query, request: Request) -> Response:
        name = route.query
        if name == "@parse":
            return await self._parse(query, pretty="pretty" in request.query_params)
        if name == "@metrics":
            return self._metrics(query, request.headers)
        if name == "@logs":
            return await _streamed(log_stream(self._backend, query), query)
        if name == "@stream":
            return await _streamed(file_stream(self._backend, query), query)
        if name == "@monitor":
            return await _streamed(monitor.log_of_agent(self._backend, query), query)
        if name == "@save-snapshot":
            return await self._save_snapshot(query)
        if name == "@restore-snapshot":
            answer = await snapshots.restore(self._backend, query, request.stream())
            return self._answer(answer, pretty="pretty" in request.query_params)
        answer = await file_bytes(self._backend, query)
        if answer.is_error:
            return _text(answer.status, answer.error)
        return Response(answer.body, media_type="application/octet-stream")

    async def _save_snapshot(self, query: Query) -> Response:
        answer, chunks = await snapshots.save(self._backend, query)
        if answer.is_error:
            return _text(answer.status, answer.error)
        headers = {
            **_standing(answer),
            "Content-Disposition": f'attachment; filename="serai-{answer.index}.snap"',
        }
        return StreamingResponse(chunks, 200, headers, "application/octet-stream")

    async def _parse(self, query: Query, *, pretty: bool) -> Response:
        body = query.body if isinstance(query.body, dict) else {}
        text = body.get("JobHCL")
        if not isinstance(text, str) or not text:
            return _text(400, "Job spec is empty")
        variables = str(body.get("Variables") or "")
        var_files = [("variables", variables)] if variables else []
        try:
            # Parsing is CPU work of up to some 100 ms: not on the loop.
            parsed = await trio.to_thread.run_sync(
                lambda: parse_job(
                    text,
                    filename="job.hcl",
                    var_files=var_files,
                    entropy=os.urandom,
                    is_strict=False,  # as Nomad's: its UI sends one text of variables for all
                )
            )
        except JobFileError as error:
            return _text(400, f"Failed to parse job: {error}")
        job = parsed.job
        if body.get("Canonicalize"):
            job = canonicalize(job, region=self._backend.region)
        return Response(_json(job, pretty=pretty), media_type="application/json")

    def _metrics(self, query: Query, headers: Headers) -> Response:
        wanted = query.params.get("format", "")
        if wanted == "prometheus":
            data, content_type = self._backend.metrics_text(headers.get("accept", ""))
            return Response(data, headers={"content-type": content_type})
        if wanted:
            return _text(400, f"unknown metrics format {wanted!r}: prometheus, or leave it out")
        return Response(
            msgspec.json.encode(self._backend.metrics_json()), media_type="application/json"
        )

    def _answer(self, answer: Answer, *, pretty: bool) -> Response:
        headers = {**_standing(answer), **answer.headers}
        if answer.next_token:
            headers["X-Nomad-NextToken"] = answer.next_token
        if answer.is_error and answer.body is None:
            return PlainTextResponse(answer.error, answer.status, headers)
        if answer.status == 204:
            return Response(None, 204, headers)
        data = _json(answer.body, pretty=pretty)
        return Response(data, answer.status, headers, "application/json")


def _standing(answer: Answer) -> dict[str, str]:
    """Return the headers that say how new an answer is."""
    return {
        "X-Nomad-Index": str(answer.index),
        "X-Nomad-LastContact": str(answer.last_contact_ms),
        "X-Nomad-KnownLeader": "true" if answer.known_leader else "false",
    }


def _json(value: Any, *, pretty: bool) -> bytes:
    data = msgspec.json.encode(value)
    return msgspec.json.format(data, indent=_PRETTY_INDENT) if pretty else data


async def _pack(response: Response, accepted: str) -> None:
    """Compress an answer in place when its caller asked for that and it is worth it."""
    data = bytes(response.body)
    if len(data) < GZIP_FROM_BYTES or not _accepts_gzip(accepted):
        return
    if len(data) <= GZIP_INLINE_BYTES:
        packed = gzip.compress(data, 1, mtime=0)
    else:
        packed = await trio.to_thread.run_sync(lambda: gzip.compress(data, 1, mtime=0))
    response.body = packed
    response.headers["Content-Length"] = str(len(packed))
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"


def _accepts_gzip(accepted: str) -> bool:
    for choice in accepted.lower().split(","):
        name, _, quality = choice.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class BodyError(Exception):
    """A request body that can't be taken; the text is the answer's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def _read_body(request: Request) -> bytes:
    limit = f"request body is too large: the limit is {MAX_BODY_BYTES >> 20} MiB"
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise BodyError(413, limit)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise BodyError(413, limit)
    return bytes(data)


async def _streamed(stream: Any, query: Query) -> Response:
    """Start a stream: an error before the first byte is still a plain error answer."""
    first = await anext(stream, b"")
    if isinstance(first, Answer):
        return _text(first.status, first.error)

    async def body() -> Any:
        yield first
        async for chunk in stream:
            yield chunk

    plain = str(query.params.get("plain", "")).lower() == "true"
    return StreamingResponse(body(), media_type=TEXT if plain else "application/json")


def _text(status: int, text: str) -> Response:
    return PlainTextResponse(text, status, media_type="text/plain")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
