"""Real sockets on loopback."""

import random
import socket
from contextlib import AsyncExitStack

import pytest
import trio

from gossip.addresses import format_address, parse_address
from gossip.endpoint import Pool, open_endpoint
from gossip.inbound import Inbound
from gossip.keyring import Keyring
from gossip.machine import GossipMachine
from gossip.messages import (
    ACK,
    GOSSIP,
    PING,
    SYNC_TABLE,
    Identity,
    Packet,
    make_update,
)
from gossip.settings import Settings
from gossip.wire import STREAM_BYTES_MAX, encode

KEY = bytes(32)
NOWHERE = "127.0.0.1:1"
WAIT_S = 5


async def until(condition):
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.lowlevel.checkpoint()


def alive(number: int):
    name = f"m{number}"
    return make_update(name, 4, name, Identity(name, f"{name}:1", {"role": "x" * 100}))


@pytest.mark.parametrize("keyring", [None, Keyring([KEY])], ids=["clear", "encrypted"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_datagrams_and_streams_arrive_in_their_pool(host, keyring):
    heard = []

    async def on_exchange(pool, source, packet):
        return Packet(SYNC_TABLE, packet.sequence + 1, sender=pool)

    pools = {"lan": Pool("lan", keyring), "wan": Pool("wan")}
    async with (
        open_endpoint(
            host, 0, pools=pools, on_packet=lambda *a: heard.append(a), on_exchange=on_exchange
        ) as one,
        open_endpoint(host, 0, pools=pools) as two,
    ):
        for pool in pools:
            two.send(pool, one.address, Packet(PING, 5, "b", "a"))
        await until(lambda: len(heard) == 2)
        assert {(pool, source, p.sequence) for pool, source, p in heard} == {
            ("lan", two.address, 5),
            ("wan", two.address, 5),
        }
        reply = await two.exchange("wan", one.address, Packet(SYNC_TABLE, 8), WAIT_S)
        assert (reply.sequence, reply.sender) == (9, "wan")
        assert not one.drops and not two.drops


async def test_why_nobody_answered_is_told():
    keys = (Keyring([b"a" * 16]), Keyring([b"b" * 16]))
    async with (
        open_endpoint("127.0.0.1", 0, pools={"lan": Pool("lan", keys[0])}) as ours,
        open_endpoint("127.0.0.1", 0, pools={"lan": Pool("lan", keys[1])}) as foreign,
    ):
        for address in (NOWHERE, "no.such.invalid:1", foreign.address):
            assert await ours.exchange("lan", address, Packet(PING), WAIT_S) is None
        assert "refused" in ours.unreached[NOWHERE]
        assert "no address" in ours.unreached["no.such.invalid:1"]
        assert "other encrypt keys" in ours.unreached[foreign.address]


async def test_a_table_of_thousands_passes_a_stream():
    rows = tuple(alive(n) for n in range(10_000))

    async def on_exchange(pool, source, packet):
        return packet

    pools = {"lan": Pool("lan", Keyring([KEY]))}
    async with open_endpoint("127.0.0.1", 0, pools=pools, on_exchange=on_exchange) as one:
        reply = await one.exchange("lan", one.address, Packet(SYNC_TABLE, updates=rows), WAIT_S)
        assert len(reply.updates) == 10_000


async def test_names_are_looked_up_beside_the_loop():
    heard = []
    pools = {"lan": Pool("lan")}
    async with open_endpoint(
        "127.0.0.1", 0, pools=pools, on_packet=lambda *a: heard.append(a)
    ) as one:
        one.send("lan", f"localhost:{one.port}", Packet(PING))
        await until(lambda: heard)
        one.send("lan", f"localhost:{one.port}", Packet(PING))
        await until(lambda: len(heard) == 2)


async def test_what_cannot_be_sent_is_counted():
    pools = {"lan": Pool("lan")}
    async with open_endpoint("127.0.0.1", 0, pools=pools) as one:
        for address in ("nonsense", "[::1]:4648", "127.0.0.1:99999", "::1:5"):
            one.send("lan", address, Packet(PING))
        assert one.drops["unresolved_address"] == 4
        one.send("lan", "no-such-host.invalid:1", Packet(PING))
        await until(lambda: one.drops["unresolved_address"] == 5)
        one.send("lan", NOWHERE, Packet(GOSSIP, updates=tuple(alive(n) for n in range(40))))
        assert one.drops["too_large_to_send"] == 1
        one.send("lan", NOWHERE, Packet(GOSSIP, updates=tuple(alive(n) for n in range(300))))
        assert one.drops["unsendable"] == 1
        one.send("lan", NOWHERE, Packet(PING, sender="\ud800"))
        assert one.drops["unsendable"] == 2
        assert await one.exchange("lan", NOWHERE, Packet(PING), WAIT_S) is None
        assert one.drops["stream_failed"] == 1
        assert await one.exchange("lan", "nonsense", Packet(PING), WAIT_S) is None
        one.send("lan", "255.255.255.255:9", Packet(PING))
        assert one.drops["unreachable"] == 1


async def test_garbage_is_counted_by_reason_and_harms_nothing():
    heard = []
    pools = {"lan": Pool("lan")}
    async with open_endpoint(
        "127.0.0.1", 0, pools=pools, on_packet=lambda *a: heard.append(a)
    ) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            chance = random.Random(1)
            for data in (
                b"",
                b"x",
                b"GET / HTTP/1.1\r\n\r\n",
                chance.randbytes(1_000),
                chance.randbytes(9_000),
                encode(Packet(PING), label="other"),
                encode(Packet(PING), label="lan")[:-2],
                encode(Packet(PING), label="lan", keyring=Keyring([KEY])),
                encode(Packet(PING, 42), label="lan"),
            ):
                sender.sendto(data, ("127.0.0.1", one.port))
        await until(lambda: heard)
        assert [p.sequence for _, _, p in heard] == [42]
        assert one.drops == {
            "too_short": 2,
            "magic": 2,
            "too_large": 1,
            "label": 1,
            "checksum": 1,
            "no_key": 1,
        }


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("too_large", (STREAM_BYTES_MAX + 1).to_bytes(4, "big")),
        ("too_short", (100).to_bytes(4, "big") + b"few"),
        ("too_short", b"\x00"),
        ("magic", (9).to_bytes(4, "big") + b"?" * 9),
    ],
)
async def test_garbage_on_a_stream_is_counted_and_closed(reason, data):
    async with open_endpoint("127.0.0.1", 0, pools={"lan": Pool("lan")}) as one:
        stream = await trio.open_tcp_stream("127.0.0.1", one.port)
        await stream.send_all(data)
        await stream.send_eof()
        with trio.fail_after(WAIT_S):
            assert await stream.receive_some() == b""
        await until(lambda: one.drops[reason] == 1)


async def test_a_silent_peer_does_not_hold_an_exchange(autojump_clock):
    """The timeout is the caller's; a listener that never answers is enough to show it."""
    async with open_endpoint("127.0.0.1", 0, pools={"lan": Pool("lan")}) as one:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = format_address(*silent.getsockname())
            assert await one.exchange("lan", address, Packet(PING), 3) is None
        assert one.drops["stream_timeout"] == 1


async def test_a_taken_port_is_an_os_error():
    async with open_endpoint("127.0.0.1", 0, pools={}) as one:
        with pytest.raises(OSError):
            async with open_endpoint("127.0.0.1", one.port, pools={}):
                pass


async def test_udp_and_tcp_share_the_port_and_it_is_free_afterwards():
    async with open_endpoint("127.0.0.1", 0, pools={}) as one:
        port = one.port
    async with open_endpoint("127.0.0.1", port, pools={}) as again:
        assert again.port == port


async def test_equal_labels_are_refused():
    with pytest.raises(ValueError, match="same label"):
        async with open_endpoint("127.0.0.1", 0, pools={"a": Pool("x"), "b": Pool("x")}):
            pass


def test_a_full_queue_drops_the_oldest_and_serves_the_newest_and_the_living_first():
    inbound = Inbound(limit=4)
    speaks_for_the_living = Packet(GOSSIP, 100, updates=(alive(1),))
    assert inbound.put("lan", "x:1", speaks_for_the_living)
    assert [inbound.put("lan", "x:1", Packet(PING, n)) for n in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert inbound.put("lan", "x:1", Packet(ACK, 200)) is False
    assert [inbound.pop()[2].sequence for _ in range(4)] == [200, 100, 4, 3]
    assert not inbound


@pytest.mark.parametrize("text", ["", ":1", "a", "a:", "a:x", "a:70000", "a:-1", "::1:80", "a:²"])
def test_bad_addresses_are_refused(text):
    with pytest.raises(ValueError):
        parse_address(text)


def test_addresses_round_trip():
    for text in ("10.0.0.1:4648", "[::1]:4648", "host.example:1"):
        assert format_address(*parse_address(text)) == text
    assert format_address("::ffff:10.0.0.1", 5) == "10.0.0.1:5"


class Agent:
    """A machine on a real endpoint, as small as a host can be."""

    def __init__(self, endpoint, name, nursery, settings):
        self.endpoint, self.nursery = endpoint, nursery
        self.replies = {}
        self.machine = GossipMachine(
            name=name,
            address=endpoint.address,
            meta={},
            settings=settings,
            rng=random.Random(name),
            now_us=now_us(),
        )

    def call(self, verb, *arguments):
        getattr(self.machine, verb)(*arguments, now_us())
        output = self.machine.take_output()
        for address, packet in output.packets:
            self.endpoint.send("lan", address, packet)
        self.replies.update(output.replies)
        for exchange_id, address, packet, timeout_us in output.exchanges:
            self.nursery.start_soon(self._exchange, exchange_id, address, packet, timeout_us)

    async def _exchange(self, exchange_id, address, packet, timeout_us):
        reply = await self.endpoint.exchange("lan", address, packet, timeout_us / 1e6)
        self.call("on_exchanged", exchange_id, reply)

    async def on_exchange(self, packet):
        self.call("on_exchange_request", 1, "", packet)
        return self.replies.pop(1)

    async def run(self):
        while True:
            await trio.sleep(0.01)
            self.call("tick")


def now_us() -> int:
    return int(trio.current_time() * 1e6)


async def test_real_members_find_each_other_and_miss_the_killed():
    settings = Settings(
        probe_interval_us=100_000,
        probe_timeout_us=50_000,
        gossip_interval_us=20_000,
        exchange_interval_us=1_000_000,
    )
    agents: dict[str, Agent] = {}
    pools = {"lan": Pool("lan", Keyring([KEY]))}

    async def open_agent(name, nursery, stack):
        def on_packet(pool, source, packet):
            if name in agents:
                agents[name].call("on_packet", source, packet)

        async def on_exchange(pool, source, packet):
            return await agents[name].on_exchange(packet) if name in agents else None

        endpoint = await stack.enter_async_context(
            open_endpoint("127.0.0.1", 0, pools=pools, on_packet=on_packet, on_exchange=on_exchange)
        )
        agents[name] = Agent(endpoint, name, nursery, settings)
        nursery.start_soon(agents[name].run)
        agents[name].call("join", [agents["m0"].endpoint.address])

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        for number in range(6):
            await open_agent(f"m{number}", nursery, stack)
        living = list(agents.values())
        await until(lambda: all(len(a.machine.members()) == 6 for a in living))
        killed = agents.pop("m5")
        living.remove(killed)
        killed.call = lambda *arguments: None
        with trio.fail_after(10):
            while {a.machine.member("m5").status for a in living} != {"dead"}:
                await trio.lowlevel.checkpoint()
        assert all(
            view.status == "alive"
            for a in living
            for view in a.machine.members()
            if view.name != "m5"
        )
        nursery.cancel_scope.cancel()
