"""RPC over real sockets: answers, refusals, broken connections, strangers, certificates."""

import datetime
import io
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Raw
from msgspec.msgpack import decode, encode

from core.agent import link as link_module
from core.agent.frames import PREFACE, PROTOCOL_VERSION, FrameKind, FrameReader, encode_frame
from core.agent.host import AgentHost
from core.agent.rpc import CallFailed, Identity, RpcEndpoint
from core.agent.tls import TLSError, client_context, server_context
from core.model.host import Peer

WAIT_S = 5.0
LOG = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()))
HELLO = encode_frame(FrameKind.HELLO, PROTOCOL_VERSION, "", {"name": "raw", "role": "client"})


class Agent:
    """An endpoint that answers by method and keeps what it is told."""

    def __init__(self, nursery: trio.Nursery, name: str, source: str = "127.0.0.1", **tls: Any):
        self.messages: list[tuple[str, Any, Peer]] = []
        self.callers: list[Peer] = []
        self.heard = trio.Event()
        self.may_answer = trio.Event()
        self.identity = Identity(name, "server", "", lambda: "0123456789ab")
        self.rpc = RpcEndpoint(
            self.identity,
            nursery=nursery,
            source_host=source,
            on_request=self.on_request,
            on_message=self.on_message,
            log=LOG,
            **tls,
        )

    async def on_request(self, method: str, body: Any, peer: Peer) -> tuple[Any, str]:
        self.callers.append(peer)
        self.heard.set()
        if method == "Refuse":
            return {"status": 404}, "no such thing"
        if method == "Wait":
            await self.may_answer.wait()
        if method == "Huge":
            return bytes(65 << 20), ""
        return body, ""

    def on_message(self, channel: str, body: Any, peer: Peer) -> None:
        self.messages.append((channel, body, peer))
        self.heard.set()


async def listen(nursery: trio.Nursery, agent: Agent, port: int = 0) -> trio.CancelScope:
    """Serve until the returned scope is cancelled; the address is in the identity then."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    bound = listeners[0].socket.getsockname()[1]
    agent.identity.address = f"127.0.0.1:{bound}"
    scope = trio.CancelScope()

    async def serve() -> None:
        with scope:
            await agent.rpc.serve(listeners)

    nursery.start_soon(serve)
    return scope


@asynccontextmanager
async def pair(**tls: Any) -> AsyncIterator[tuple[Agent, Agent, trio.Nursery, trio.CancelScope]]:
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            caller = Agent(nursery, "caller")
            server = Agent(nursery, "server", **tls)
            scope = await listen(nursery, server)
            yield caller, server, nursery, scope
            nursery.cancel_scope.cancel()


async def connect(server: Agent) -> trio.SocketStream:
    host, port = server.identity.address.split(":")
    return await trio.open_tcp_stream(host, int(port))


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_a_call_is_answered_and_the_caller_is_known() -> None:
    async with pair() as (caller, server, _, _):
        caller.identity.address = "127.0.0.1:4647"
        assert await caller.rpc.call(server.identity.address, "Echo", {"a": b"\0"}, 1) == {
            "a": b"\0"
        }
        assert server.callers == [
            Peer("caller", "server", "0123456789ab", "127.0.0.1:4647", is_proven=False)
        ]


async def test_a_refusal_brings_its_text_and_its_body() -> None:
    async with pair() as (caller, server, _, _):
        with pytest.raises(CallFailed, match=r"^no such thing$") as failed:
            await caller.rpc.call(server.identity.address, "Refuse", None, 1)
        assert failed.value.body == {"status": 404}


async def test_a_late_answer_is_a_timeout_and_disturbs_nobody() -> None:
    async with pair() as (caller, server, _, _):
        with pytest.raises(CallFailed, match=r"^timeout$"):
            await caller.rpc.call(server.identity.address, "Wait", 1, 0.02)
        server.may_answer.set()
        assert await caller.rpc.call(server.identity.address, "Echo", 2, 1) == 2


async def test_many_calls_share_one_connection_and_none_waits_for_another() -> None:
    async with pair() as (caller, server, nursery, _):
        got: list[int] = []

        async def ask(number: int) -> None:
            got.append(await caller.rpc.call(server.identity.address, "Echo", number, 4))

        nursery.start_soon(caller.rpc.call, server.identity.address, "Wait", 0, 4)
        for number in range(300):
            nursery.start_soon(ask, number)
        await until(lambda: len(got) == 300)
        assert sorted(got) == list(range(300))
        assert server.rpc._incoming == 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "unreachable: 127.0.0.1:1: "),
        ("127.0.0.1:99999", "not an address of the form host:port"),
        ("127.0.0.1", "not an address"),
        ("", "not an address"),
        ("127.0.0.1:-4", "not an address"),
        ("a..b:4647", "unreachable: a..b:4647: "),
    ],
)
async def test_who_cannot_be_reached_is_named_with_the_reason(address: str, reason: str) -> None:
    async with pair() as (caller, _, _, _):
        with pytest.raises(CallFailed, match=r"^unreachable: ") as failed:
            await caller.rpc.call(address, "Echo", None, 4)
        assert reason in str(failed.value)


async def test_a_broken_connection_fails_its_calls_and_is_made_anew() -> None:
    async with pair() as (caller, server, nursery, scope):
        failures: list[str] = []

        async def ask() -> None:
            try:
                await caller.rpc.call(server.identity.address, "Wait", None, 4)
            except CallFailed as failed:
                failures.append(str(failed))

        for _ in range(3):
            nursery.start_soon(ask)
        await until(lambda: len(server.callers) == 3)
        scope.cancel()
        await until(lambda: len(failures) == 3)
        address = server.identity.address
        assert set(failures) == {f"unreachable: {address}: the connection broke"}
        await listen(nursery, server, int(address.rpartition(":")[2]))
        assert await caller.rpc.call(address, "Echo", 7, 2) == 7


async def test_messages_arrive_in_order() -> None:
    async with pair() as (caller, server, _, _):
        for number in range(50):
            caller.rpc.send(server.identity.address, "raft", number)
        await until(lambda: len(server.messages) == 50)
        assert [decode(body) for _, body, _ in server.messages] == list(range(50))


async def test_what_cannot_be_encoded_is_refused_where_it_is_sent() -> None:
    async with pair() as (caller, server, _, _):
        with pytest.raises(CallFailed, match="can't be encoded"):
            await caller.rpc.call(server.identity.address, "Echo", 1 << 70, 1)
        caller.rpc.send(server.identity.address, "raft", 1 << 70)
        assert caller.rpc.counters.dropped == {"too-large": 1}


async def test_an_answer_too_large_becomes_an_error() -> None:
    async with pair() as (caller, server, _, _):
        with pytest.raises(CallFailed, match="is the limit"):
            await caller.rpc.call(server.identity.address, "Huge", None, 4)


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "QUEUE_LIMIT_BYTES", 1000)
    async with pair() as (caller, server, nursery, _):
        address = server.identity.address
        for _ in range(10):  # nothing runs between: all of it waits
            caller.rpc.send(address, "raft", bytes(400))
        assert caller.rpc.counters.dropped == {"queue-full": 8}
        failures: list[str] = []

        async def ask() -> None:
            try:
                await caller.rpc.call(address, "Echo", bytes(600), 2)
            except CallFailed as failed:
                failures.append(str(failed))

        for _ in range(2):
            nursery.start_soon(ask)
        await until(lambda: failures)
        assert failures == [f"unreachable: the queue to {address} is full"]


async def test_calls_come_from_the_agents_own_address() -> None:
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            seen: list[str] = []
            caller = Agent(nursery, "caller", source="127.0.0.9")

            async def serve(stream: trio.SocketStream) -> None:
                seen.append(stream.socket.getpeername()[0])

            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            with pytest.raises(CallFailed, match="connection broke"):
                await caller.rpc.call(address, "Echo", None, 2)
            assert seen[0] == "127.0.0.9"
            nursery.cancel_scope.cancel()


async def test_a_wildcard_is_no_source_address() -> None:
    async with pair() as (_, server, nursery, _):
        caller = Agent(nursery, "any", source="::")
        assert await caller.rpc.call(server.identity.address, "Echo", 1, 2) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + b"\xff\xff\xff\xff",
        PREFACE + encode_frame(FrameKind.CALL, 1, "Echo", None),
        PREFACE + encode_frame(FrameKind.HELLO, 99, "", {}),
        PREFACE + encode_frame(FrameKind.HELLO, PROTOCOL_VERSION, "", [1]),
        PREFACE + HELLO + HELLO,
        PREFACE + HELLO + encode_frame(FrameKind.REPLY, 1, "", None),
    ],
    ids=["http", "bomb", "no-hello", "version", "hello-shape", "hello-twice", "reply"],
)
async def test_a_stranger_is_cut_off_and_others_are_served(said: bytes) -> None:
    async with pair() as (caller, server, _, _):
        stream = await connect(server)
        await stream.send_all(said)
        with trio.move_on_after(WAIT_S) as scope:
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
        assert not scope.cancelled_caught
        await until(lambda: server.rpc.counters.refused == {"garbage": 1})
        await stream.aclose()
        assert await caller.rpc.call(server.identity.address, "Echo", 1, 2) == 1


async def test_a_blocking_answer_outlives_the_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "IDLE_S", 0.01)
    async with pair() as (_, server, _, _):
        stream = await connect(server)
        await stream.send_all(PREFACE + HELLO + encode_frame(FrameKind.CALL, 5, "Wait", "x"))
        await server.heard.wait()
        with trio.move_on_after(0.08):
            assert await stream.receive_some(), "cut while an answer was owed"
        server.may_answer.set()
        (answer,) = FrameReader(expects_preface=False).feed(bytes(await stream.receive_some()))
        assert (answer.id, answer.body) == (5, "x")
        assert await stream.receive_some() == b"", "a quiet connection is closed"
        await stream.aclose()


# --- certificates -----------------------------------------------------------------------------


class Authority:
    """Makes certificates for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.ca = self._write("ca.pem", self._sign(self._name, self._key.public_key(), []))

    def _sign(self, name: x509.Name, key: Any, names: list[str]) -> bytes:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            entries = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
            builder = builder.add_extension(entries, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def _write(self, file: str, data: bytes) -> str:
        path = self.folder / file
        path.write_bytes(data)
        return str(path)

    def files(self, label: str, names: list[str]) -> tuple[str, str, str]:
        """Return authority, certificate and key file of a holder with these DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, label)])
        plain = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = self._write(f"{label}.pem", self._sign(subject, key.public_key(), names))
        return self.ca, certificate, self._write(f"{label}.key", plain)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def guarded(authority: Authority) -> dict[str, Any]:
    files = authority.files("server", ["server.global.serai", "00aabbccddee.datacenter.serai"])
    return {"server_tls": server_context(*files, requires_client_certificate=True)}


async def test_role_and_datacenter_come_from_the_certificate(authority: Authority) -> None:
    async with pair(**guarded(authority)) as (_, server, nursery, _):
        files = authority.files("c", ["client.global.serai", "0123456789ab.datacenter.serai"])
        caller = Agent(nursery, "liar", client_tls=client_context(*files))
        assert await caller.rpc.call(server.identity.address, "Echo", 1, 3) == 1
        (peer,) = server.callers
        assert (peer.role, peer.datacenter_id, peer.is_proven) == ("client", "0123456789ab", True)


async def test_who_says_to_be_another_than_its_certificate_is_refused(
    authority: Authority,
) -> None:
    names = {
        "elsewhere": ["server.global.serai", "001122334455.datacenter.serai"],
        "another": ["server.global.serai", "s7.agent.serai"],
    }
    async with pair(**guarded(authority)) as (_, server, nursery, _):
        for label, said in names.items():
            files = authority.files(label, said)
            liar = Agent(nursery, "liar", client_tls=client_context(*files))
            with pytest.raises(CallFailed, match="unreachable"):
                await liar.rpc.call(server.identity.address, "Echo", 1, 1)
        assert server.callers == []
        assert server.rpc.counters.refused == {"garbage": 2}


async def test_a_message_is_sent_to_a_servers_certificate_alone(authority: Authority) -> None:
    """What listens there may be a client that took over the address of a server."""
    files = authority.files("node", ["client.global.serai"])
    impostor = {"server_tls": server_context(*files, requires_client_certificate=True)}
    own = authority.files("own", ["server.global.serai"])
    async with pair(**impostor) as (_, server, nursery, _):
        caller = Agent(nursery, "caller", client_tls=client_context(*own))
        caller.rpc.send(server.identity.address, "raft", b"secret")
        await until(lambda: caller.rpc.counters.dropped)
        assert caller.rpc.counters.dropped == {"unreachable": 1}
        assert server.messages == []


async def test_without_a_certificate_nobody_is_heard(authority: Authority) -> None:
    async with pair(**guarded(authority)) as (caller, server, nursery, _):
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname = False
        bare.load_verify_locations(authority.ca)
        stranger = Agent(nursery, "stranger", client_tls=bare)
        for each in (caller, stranger):
            with pytest.raises(CallFailed):
                await each.rpc.call(server.identity.address, "Echo", 1, 0.3)
        assert server.callers == []


async def test_another_authoritys_certificate_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Authority(folder)
    async with pair(**guarded(authority)) as (_, server, nursery, _):
        context = client_context(*other.files("evil", ["server.global.serai"]))
        evil = Agent(nursery, "evil", client_tls=context)
        with pytest.raises(CallFailed, match=r"unreachable: .*certificate"):
            await evil.rpc.call(server.identity.address, "Echo", 1, 3)
        assert server.callers == []


@pytest.mark.parametrize("names", [["client.global.serai"], ["www.example.org"]])
async def test_only_a_servers_certificate_sends_raft_messages(
    authority: Authority, names: list[str]
) -> None:
    async with pair(**guarded(authority)) as (_, server, nursery, _):
        caller = Agent(nursery, "c", client_tls=client_context(*authority.files("c", names)))
        caller.rpc.send(server.identity.address, "raft", "vote")
        await server.heard.wait()
        (message,) = server.messages

        heard: list[Any] = []
        host = AgentHost(nursery=nursery, log=LOG)
        host.server = type("Loop", (), {"role": "server", "deliver": heard.append})()  # type: ignore[assignment]
        host.on_message(*message)
        assert heard == []
        _, error = await host.on_request("Claim.Create", {}, message[2])
        assert "certificate may not call Claim.Create" in error


async def test_only_the_own_datacenters_servers_speak_raft(authority: Authority) -> None:
    async with trio.open_nursery() as nursery:
        lines: list[dict[str, Any]] = []

        class Journal:
            def warning(self, event: str, **fields: Any) -> None:
                lines.append({"event": event, **fields})

        heard: list[Any] = []
        host = AgentHost(nursery=nursery, log=Journal())
        host.server = type("Loop", (), {"role": "server", "deliver": heard.append})()  # type: ignore[assignment]
        host.rpc = Agent(nursery, "s1").rpc  # of 0123456789ab
        body = Raw(encode(("s2", ["Heartbeat", 1, 0, 0])))
        for datacenter_id in ("0123456789ab", "", "bbbbbbbbbbbb", "bbbbbbbbbbbb"):
            peer = Peer("s2", "server", datacenter_id, "127.0.0.1:1", is_proven=True)
            host.on_message("raft", body, peer)
        assert len(heard) == 2 and heard[0].body[0] == "s2"
        (line,) = lines  # who goes on is told of once a minute
        assert "bbbbbbbbbbbb" in line["reason"] and "empty data_dir" in line["remedy"]
        host.on_message("raft", Raw(b"\xc1"), Peer("s3", "server", "", "127.0.0.1:2"))
        assert "not readable" in lines[-1]["reason"]


async def test_two_gigabytes_announced_end_the_connection_before_they_come() -> None:
    async with pair() as (caller, server, _, _):
        host, port = server.identity.address.split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(PREFACE + HELLO + (2 << 30).to_bytes(4, "big") + bytes(100))
        with trio.fail_after(WAIT_S):
            assert await stream.receive_some() == b""
        await until(lambda: server.rpc.counters.refused == {"garbage": 1})
        assert await caller.rpc.call(server.identity.address, "Echo", 7, WAIT_S) == 7


async def test_large_frames_cross_tls_whole_in_both_directions(authority: Authority) -> None:
    async with pair(**guarded(authority)) as (_, server, nursery, _):
        files = authority.files("c", ["client.global.serai"])
        caller = Agent(nursery, "c", client_tls=client_context(*files))
        bodies = [random.Random(number).randbytes(1_500_000 + number) for number in range(4)]
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await caller.rpc.call(
                server.identity.address, "Echo", bodies[number], WAIT_S
            )

        async with trio.open_nursery() as calls:
            for number in range(4):
                calls.start_soon(ask, number)
        assert [answers[number] for number in range(4)] == bodies


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TLSError, match=r"tls\.cert_file .*gone\.pem"):
        client_context("", str(tmp_path / "gone.pem"), str(tmp_path / "gone.key"))
