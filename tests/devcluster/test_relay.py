"""The relay between real sockets on loopback."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from core.devcluster.links import Endpoint, Links
from core.devcluster.relay import AddressTaken, Relay

BOUND_S = 5.0  # nothing here takes that long


class Agent:
    """What an agent binds: a TCP port and the UDP port of the same number."""

    def __init__(self, endpoint: Endpoint, tcp: trio.SocketListener, udp: trio.socket.SocketType):
        self.endpoint, self.tcp, self.udp = endpoint, tcp, udp
        self.port = endpoint.tcp_ports[0]

    async def dial(self, other: "Agent") -> trio.SocketStream:
        plug = trio.socket.socket()
        await plug.bind((self.endpoint.host, 0))
        await plug.connect((other.endpoint.face, other.port))
        return trio.SocketStream(plug)

    async def send(self, other: "Agent", data: bytes) -> None:
        await self.udp.sendto(data, (other.endpoint.face, other.port))


def free_net() -> tuple[int, int]:
    """Return a second octet and a port that nobody listens on now."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    return 1 + port % 18, port


@asynccontextmanager
async def federation() -> AsyncIterator[tuple[Links, Agent, Agent]]:
    """Two agents, eu and us, and the relay between them."""
    net, port = free_net()
    agents = []
    for number, region in enumerate(("eu", "us"), 1):
        host = f"127.{net}.{number}.1"
        face = f"127.{net}.{number + 100}.1"
        endpoint = Endpoint(region, region, "dc1", host, face, (port,), (port,))
        udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await udp.bind((host, port))
        listeners = await trio.open_tcp_listeners(port, host=host)
        agents.append(Agent(endpoint, listeners[0], udp))
    links = Links(agent.endpoint for agent in agents)
    async with Relay(links).open() as relay, trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        with trio.fail_after(BOUND_S):
            yield links, agents[0], agents[1]
        nursery.cancel_scope.cancel()
    for agent in agents:
        agent.udp.close()
        await agent.tcp.aclose()


async def test_a_stream_crosses_and_shows_the_callers_face() -> None:
    async with federation() as (_, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        assert called.socket.getpeername()[0] == eu.endpoint.face
        await caller.send_all(b"question")
        assert await called.receive_some() == b"question"
        await called.send_all(b"answer")
        assert await caller.receive_some() == b"answer"


async def test_the_end_of_a_stream_crosses_while_the_other_way_stays_open() -> None:
    async with federation() as (_, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        await caller.send_eof()
        assert await called.receive_some() == b""
        await called.send_all(b"late")
        await called.send_eof()
        assert await caller.receive_some() == b"late"
        assert await caller.receive_some() == b""


async def test_much_data_arrives_whole_and_in_order() -> None:
    data = bytes(range(256)) * 8192
    async with federation() as (_, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.send_all, data)
            while len(received) < len(data):
                received += await called.receive_some()
        assert received == data


async def test_packets_come_from_the_face_and_answers_find_back() -> None:
    async with federation() as (_, eu, us):
        await eu.send(us, b"ping")
        data, source = await us.udp.recvfrom(100)
        assert (data, source) == (b"ping", (eu.endpoint.face, eu.port))
        await us.udp.sendto(b"pong", source)
        assert await eu.udp.recvfrom(100) == (b"pong", (us.endpoint.face, us.port))


async def test_a_cut_drops_packets_and_healing_lets_new_ones_pass() -> None:
    async with federation() as (links, eu, us):
        links.cut("eu", "us")
        link = links.between(eu.endpoint, us.endpoint)
        await eu.send(us, b"lost")
        while not link.dropped:
            await trio.sleep(0.001)
        links.heal()
        await eu.send(us, b"found")
        assert (await us.udp.recvfrom(100))[0] == b"found"


async def test_an_open_stream_stalls_in_a_cut_and_goes_on_after() -> None:
    async with federation() as (links, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        links.cut("eu", "us")
        await caller.send_all(b"held")
        with trio.move_on_after(0.1) as waited:
            await called.receive_some()
        assert waited.cancelled_caught
        links.heal()
        assert await called.receive_some() == b"held"


async def test_a_stream_opened_in_a_cut_gets_no_answer_and_is_reset_on_healing() -> None:
    async with federation() as (links, eu, us):
        links.cut("eu", "us")
        caller = await eu.dial(us)
        await caller.send_all(b"into the void")
        with trio.move_on_after(0.1) as waited:
            await caller.receive_some()
        assert waited.cancelled_caught
        links.heal()
        with pytest.raises(trio.BrokenResourceError):
            await caller.receive_some()
        with trio.move_on_after(0.05) as waited:
            await us.tcp.accept()
        assert waited.cancelled_caught


async def test_a_slow_link_delays_each_direction_and_keeps_order() -> None:
    async with federation() as (links, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        links.slow("eu", "us", 0.15)
        begun = trio.current_time()
        for number in range(5):
            await caller.send_all(bytes([number]))
            await trio.sleep(0.01)
        received = b""
        while len(received) < 5:
            received += await called.receive_some()
        took = trio.current_time() - begun
        assert received == bytes(range(5))
        assert 0.15 <= took < 0.6, "chunks wait side by side, not one after the other"
        await eu.send(us, b"slow")
        begun = trio.current_time()
        await us.udp.recvfrom(100)
        assert trio.current_time() - begun >= 0.14


async def test_an_agent_that_is_down_resets_the_caller() -> None:
    async with federation() as (_, eu, us):
        await us.tcp.aclose()
        caller = await eu.dial(us)
        with pytest.raises(trio.BrokenResourceError):
            await caller.receive_some()


async def test_one_end_that_vanishes_ends_the_other() -> None:
    async with federation() as (_, eu, us):
        caller = await eu.dial(us)
        called = await us.tcp.accept()
        await called.send_all(b"x")
        await caller.receive_some()
        await trio.aclose_forcefully(called)
        with pytest.raises(trio.BrokenResourceError):
            while True:  # what is written to it comes back as a reset
                await caller.send_all(b"y")
                await trio.sleep(0.001)


async def test_a_stranger_is_let_through_to_an_agent_that_is_cut_off() -> None:
    async with federation() as (links, _eu, us):
        links.cut("us")
        stranger = await trio.open_tcp_stream(us.endpoint.face, us.port)
        called = await us.tcp.accept()
        await stranger.send_all(b"hello")
        assert await called.receive_some() == b"hello"


async def test_taken_addresses_are_named_and_nothing_stays_bound() -> None:
    async with federation() as (links, _, _):
        with pytest.raises(AddressTaken, match="in use"):
            async with Relay(links).open():
                pass
