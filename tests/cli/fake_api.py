"""An HTTP server on a real socket that answers from a table and remembers what was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


Answer = Any  # JSON; bytes as they are; (status, text); or a function of Asked


class FakeApi:
    """`answers` maps "METHOD /path" to an answer; a list is used up item by item."""

    def __init__(self, address: str, answers: dict[str, Answer]) -> None:
        self.address = address
        self.answers = answers
        self.asked: list[Asked] = []
        self.index = 0
        self.headers: dict[str, str] = {}  # sent with every answer

    def find(self, method: str, path: str) -> Asked:
        """Return the last such request."""
        found = [one for one in self.asked if (one.method, one.path) == (method, path)]
        assert found, f"{method} {path} was not asked, but {[a[:2] for a in self.asked]}"
        return found[-1]

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        key = f"{asked.method} {asked.path}"
        if key not in self.answers:
            return 404, f"no answer for {key}".encode()
        answer = self.answers[key]
        if isinstance(answer, Sequence):
            answer = answer.take()
        if callable(answer):
            answer = answer(asked)
        if isinstance(answer, tuple):
            return answer[0], answer[1].encode()
        return 200, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class Sequence:
    """Answers one after the other; the last one stays."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def take(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serve(answers: dict[str, Answer]) -> Iterator[FakeApi]:
    """Serve on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            parts = urlsplit(self.path)
            body = json.loads(data) if data else None
            asked = Asked(
                self.command, parts.path, dict(parse_qsl(parts.query)), body, dict(self.headers)
            )
            status, content = api.answer(asked)
            api.index += 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Nomad-Index", str(api.index))
            for name, value in api.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = _do

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = FakeApi(f"http://127.0.0.1:{server.server_address[1]}", answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Serve = Callable[[dict[str, Answer]], FakeApi]
