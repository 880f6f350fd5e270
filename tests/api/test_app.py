"""The HTTP application, driven as a server would drive it, with a backend the test writes."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from core.api.app import MAX_BODY_BYTES, Api
from core.model.query import Answer, Query


class Backend:
    region = "global"

    def __init__(self, answer: Callable[[Query], Answer]) -> None:
        self.answer = answer
        self.queries: list[Query] = []
        self.counted: list[tuple[str, int]] = []

    async def request(self, query: Query) -> Answer:
        await trio.lowlevel.checkpoint()
        self.queries.append(query)
        return self.answer(query)

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        return b"serai_up 1\n", "text/plain; version=0.0.4"

    def metrics_json(self) -> Any:
        return {"Gauges": []}

    def count_request(self, method: str, status: int, seconds: float) -> None:
        self.counted.append((method, status))


class Response:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def ok(query: Query) -> Answer:
    return Answer(body={"Method": query.method, "Data": "x" * 2000}, index=42)


async def ask(
    method: str,
    target: str,
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | None = None,
    answer: Callable[[Query], Answer] = ok,
    until: Callable[[Response], bool] = lambda response: False,
) -> tuple[Response, Backend]:
    """Return the whole response; a stream is left once `until` says so."""
    backend = Backend(answer)
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    pieces = [body] if isinstance(body, bytes) else list(body)
    response = Response()

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            response.status = message["status"]
            response.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            response.chunks.append(message.get("body", b""))
        if until(response):
            scope_of_call.cancel()

    with trio.fail_after(5), trio.CancelScope() as scope_of_call:
        await Api(backend)(scope, receive, send)
    return response, backend


@pytest.mark.parametrize(
    ("method", "target", "query", "params"),
    [
        ("GET", "/v1/jobs?prefix=a", "Job.List", {"prefix": "a"}),
        ("GET", "/v1/jobs/", "Job.List", {}),
        ("PUT", "/v1/jobs", "Job.Register", {}),
        ("GET", "/v1/job/web", "Job.Get", {"job_id": "web"}),
        ("GET", "/v1/job/a/periodic-1/summary", "Job.Summary", {"job_id": "a/periodic-1"}),
        ("GET", "/v1/job/a%2Fb%20c", "Job.Get", {"job_id": "a/b c"}),
        ("DELETE", "/v1/job/a/b", "Job.Deregister", {"job_id": "a/b"}),
        ("HEAD", "/v1/allocation/1234", "Alloc.Get", {"alloc_id": "1234"}),
    ],
)
async def test_a_route_becomes_a_query(
    method: str, target: str, query: str, params: dict[str, str]
) -> None:
    response, backend = await ask(method, target, b"{}" if method == "PUT" else b"")
    assert response.status == 200
    assert (backend.queries[0].method, backend.queries[0].params) == (query, params)
    assert backend.counted == [(query, 200)]
    assert response.headers["x-nomad-index"] == "42"
    assert response.headers["x-nomad-knownleader"] == "true"
    assert response.headers["x-nomad-lastcontact"] == "0"


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/v1/nonsense", 404, "there is no route /v1/nonsense"),
        ("GET", "/v2/jobs", 404, "the API lives under /v1/"),
        ("GET", "/v1/jobs%0A", 404, "there is no route"),
        ("DELETE", "/v1/jobs", 405, "Invalid method"),
        ("GET", "/v1/recommendations", 501, "Nomad Enterprise only endpoint"),
        ("GET", "/v1/jobs?index=-1", 400, "Invalid index"),
        ("GET", "/v1/jobs?index=x", 400, "Invalid index"),
        ("GET", "/v1/jobs?wait=5", 400, "Invalid wait time"),
        ("GET", "/v1/jobs?stale=maybe", 400, "invalid value for stale"),
        ("GET", "/v1/jobs?per_page=x", 400, "per_page"),
        ("GET", "/v1/client/fs/logs/1?offset=x", 400, "offset is not a number"),
        ("GET", "/v1/client/fs/readat/1?limit=x", 400, "limit is not a number"),
        ("GET", "/v1/metrics?format=xml", 400, "unknown metrics format"),
    ],
)
async def test_what_is_wrong_is_said_in_plain_text(
    method: str, target: str, status: int, text: str
) -> None:
    response, backend = await ask(method, target)
    assert response.status == status
    assert text in response.body.decode()
    assert response.headers["content-type"].startswith("text/plain")
    assert backend.queries == []


async def test_a_wrong_method_names_the_right_ones() -> None:
    response, _ = await ask("DELETE", "/v1/jobs")
    assert response.headers["allow"] == "GET, HEAD, POST, PUT"


async def test_an_error_answer_is_its_text_with_the_headers() -> None:
    response, backend = await ask(
        "GET", "/v1/job/x", answer=lambda q: Answer(status=404, error="job not found", index=7)
    )
    assert (response.status, response.body) == (404, b"job not found")
    assert response.headers["x-nomad-index"] == "7"
    assert backend.counted == [("Job.Get", 404)]


async def test_parameters_and_headers_reach_the_query() -> None:
    _, backend = await ask(
        "GET",
        "/v1/jobs?index=5&wait=1m30s&stale&region=eu&namespace=*&next_token=t&per_page=3",
        headers={"X-Nomad-Token": "secret"},
    )
    query = backend.queries[0]
    assert (query.min_index, query.wait_us, query.stale) == (5, 90_000_000, True)
    assert (query.region, query.namespace, query.token) == ("eu", "*", "secret")
    assert query.params == {"next_token": "t", "per_page": "3"}


async def test_a_bearer_is_a_token() -> None:
    _, backend = await ask("GET", "/v1/jobs", headers={"Authorization": "Bearer secret"})
    assert backend.queries[0].token == "secret"


async def test_a_body_that_is_not_json_is_refused() -> None:
    response, backend = await ask("PUT", "/v1/jobs", b"{nope")
    assert response.status == 400
    assert b"failed to decode request body as JSON" in response.body
    assert backend.queries == []


@pytest.mark.parametrize("announces", [True, False])
async def test_a_body_too_large_is_refused(announces: bool) -> None:
    piece = bytes(MAX_BODY_BYTES // 4)
    headers = {"Content-Length": str(MAX_BODY_BYTES + 1)} if announces else {}
    response, backend = await ask("PUT", "/v1/jobs", [piece] * 5, headers)
    assert (response.status, backend.queries) == (413, [])
    assert b"16 MiB" in response.body


async def test_pretty_is_indented() -> None:
    response, _ = await ask("GET", "/v1/jobs?pretty")
    assert b'\n    "Method": "Job.List"' in response.body


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [("gzip, deflate", True), ("br;q=1, gzip;q=0.5", True), ("gzip;q=0", False), ("", False)],
)
async def test_a_large_answer_is_packed_for_who_asks(accepted: str, is_packed: bool) -> None:
    response, _ = await ask("GET", "/v1/jobs", headers={"Accept-Encoding": accepted})
    assert (response.headers.get("content-encoding") == "gzip") is is_packed
    assert int(response.headers["content-length"]) == len(response.body)
    body = gzip.decompress(response.body) if is_packed else response.body
    assert json.loads(body)["Method"] == "Job.List"


class Log:
    """A task's log that grows by one chunk a read, then is quiet."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.offset = 0
        self.asked: list[dict[str, Any]] = []

    def __call__(self, query: Query) -> Answer:
        self.asked.append(query.params)
        assert query.method == "Client.Logs"
        data = self.chunks.pop(0) if self.chunks else b""
        self.offset += len(data)
        return Answer(
            body={"data": data, "offset": self.offset, "frame": "a.stdout.0", "eof": not data}
        )


async def test_a_log_is_framed() -> None:
    log = Log([b"one\n", b"two\n"])
    response, backend = await ask(
        "GET",
        "/v1/client/fs/logs/1?task=web&type=stdout",
        headers={"Accept-Encoding": "gzip"},
        answer=log,
    )
    assert response.body == (
        b'{"Offset":4,"Data":"b25lCg==","File":"a.stdout.0"}'
        b'{"Offset":8,"Data":"dHdvCg==","File":"a.stdout.0"}'
    )
    assert "content-encoding" not in response.headers
    assert [asked["offset"] for asked in log.asked] == [0, 4, 8]
    assert all(asked["alloc_id"] == "1" and asked["task"] == "web" for asked in log.asked)
    assert backend.counted == [("logs", 200)]


async def test_a_plain_follower_gets_each_chunk_as_it_comes() -> None:
    log = Log([b"one\n", b"two\n"])
    response, _ = await ask(
        "GET",
        "/v1/client/fs/logs/1?follow=true&plain=true",
        answer=log,
        until=lambda r: r.body == b"one\ntwo\n" and len(log.asked) > 4,
    )
    assert [chunk for chunk in response.chunks if chunk] == [b"one\n", b"two\n"]
    assert response.headers["content-type"].startswith("text/plain")
    assert [asked["wait_us"] > 0 for asked in log.asked[:3]] == [False, True, True]


async def test_a_quiet_framed_follower_gets_heartbeats() -> None:
    response, _ = await ask(
        "GET",
        "/v1/client/fs/logs/1?follow=true",
        answer=Log([]),
        until=lambda r: r.body.count(b"{}") >= 2,
    )
    assert set(response.chunks) == {b"{}"}


async def test_a_log_that_cannot_be_read_is_a_plain_error() -> None:
    response, _ = await ask(
        "GET",
        "/v1/client/fs/logs/1",
        answer=lambda q: Answer(status=404, error="Unknown allocation"),
    )
    assert (response.status, response.body) == (404, b"Unknown allocation")


async def test_a_job_file_is_parsed_here() -> None:
    hcl = 'job "web" {\ngroup "g" {\ntask "t" { driver = "raw_exec" }\n}\n}'
    response, backend = await ask(
        "POST", "/v1/jobs/parse", json.dumps({"JobHCL": hcl, "Canonicalize": True}).encode()
    )
    assert response.status == 200, response.body
    assert json.loads(response.body)["ID"] == "web"
    assert backend.queries == []
    for body, text in ((b"{}", b"Job spec is empty"), (b'{"JobHCL": "job {"}', b"job.hcl")):
        refused, _ = await ask("POST", "/v1/jobs/parse", body)
        assert refused.status == 400
        assert text in refused.body


async def test_metrics_come_in_two_forms() -> None:
    text, _ = await ask("GET", "/v1/metrics?format=prometheus")
    assert (text.body, text.headers["content-type"]) == (
        b"serai_up 1\n",
        "text/plain; version=0.0.4",
    )
    plain, _ = await ask("GET", "/v1/metrics")
    assert json.loads(plain.body) == {"Gauges": []}
