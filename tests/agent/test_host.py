"""The host: who answers a request, and what becomes of a machine that can't go on."""

import io
from typing import Any

import pytest
import structlog
import trio

from core.agent.host import AgentHost
from core.agent.rpc import CallFailed
from core.model import host as h
from core.model.query import Answer, Query
from core.server import effects as fx


class Machine:
    """Answers as the test says."""

    def __init__(self, answer: Any) -> None:
        self.deadline_us = h.FOREVER_US
        self.answer = answer
        self.seen: list[h.Event] = []

    def handle(self, event: h.Event, now: h.Now) -> list[h.Effect]:
        self.seen.append(event)
        return list(self.answer(event))


class FakeRpc:
    """A server at the other end, as far as the host sees it."""

    def __init__(self, answer: Any) -> None:
        self.identity = type("Identity", (), {"address": "127.0.0.1:1", "datacenter_id": ""})()
        self.answer = answer

    async def call(self, address: str, method: str, body: Any, timeout_s: float) -> Any:
        await trio.lowlevel.checkpoint()
        return self.answer(address, method, body)


class Stage:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.lines = io.StringIO()
        log = structlog.wrap_logger(
            structlog.PrintLogger(self.lines), processors=[structlog.processors.JSONRenderer()]
        )
        self.host = AgentHost(nursery=nursery, log=log)
        self.halted: list[str] = []
        self.host.on_halt = self.halted.append


def pass_on(event: h.Event) -> Any:
    """A client machine in small: what it is asked, it asks a server."""
    match event:
        case h.Requested(number, method, body):
            yield h.Call(number, "server:4647", method, body, 1_000_000)
        case h.CallDone(number, error, body):
            yield h.Reply(number, body, error)


async def test_a_client_alone_has_a_server_answer() -> None:
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)
        stage.host.add_machine("client", Machine(pass_on), [])

        def server(address: str, method: str, query: Query) -> Any:
            assert (address, method) == ("server:4647", "Query")
            if query.method == "Job.Get":
                raise CallFailed("timeout")
            return {"status": 200, "body": {"data": b"\x00log", "offset": 4}, "index": 9}

        stage.host.rpc = FakeRpc(server)  # type: ignore[assignment]
        answer = await stage.host.request(Query(method="Client.Logs"))
        assert answer == Answer(body={"data": b"\x00log", "offset": 4}, index=9)
        answer = await stage.host.request(Query(method="Job.Get"))
        assert (answer.status, answer.error) == (500, "timeout")


async def test_a_refusal_of_another_agent_keeps_its_body() -> None:
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)
        stage.host.add_machine("client", Machine(pass_on), [])

        def server(address: str, method: str, query: Query) -> Any:
            raise CallFailed("no such task", {"status": 404})

        stage.host.rpc = FakeRpc(server)  # type: ignore[assignment]
        assert await stage.host.on_request("Client.ReadFile", {}, h.LOCAL) == (
            {"status": 404},
            "no such task",
        )


@pytest.mark.parametrize("fails_in", ["machine", "computation", "unknown effect"])
async def test_a_bug_stops_the_agent_in_one_line(fails_in: str) -> None:
    class Problem:
        def solve(self) -> None:
            raise KeyError("node-1")

    def answer(event: h.Event) -> list[h.Effect]:
        if fails_in == "machine":
            raise KeyError("node-1")
        if fails_in == "computation":
            return [fx.Compute(1, Problem())]
        return [h.Effect()]

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            stage = Stage(nursery)
            loop = stage.host.add_machine("server", Machine(answer), [])
            loop.deliver(h.Tick())
    (reason,) = stage.halted
    assert "server machine" in reason
    assert "\n" not in reason
    assert '"at":' in stage.lines.getvalue()
    assert "Traceback" not in stage.lines.getvalue()


async def test_a_halted_machine_hears_of_nothing_more() -> None:
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)
        machine = Machine(lambda event: [h.Halt("the disk can't be trusted")])
        loop = stage.host.add_machine("server", machine, [])
        loop.deliver(h.Tick())
        loop.deliver(h.Tick())
        assert stage.halted == ["the disk can't be trusted"]
        assert len(machine.seen) == 1
