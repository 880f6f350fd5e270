"""Servers and clients of a federation on virtual time, in one process, without trio.

`World` is the host: it carries out every effect of every machine, with a delay of 1 ms on
the network and 0.1 ms on disk, and loses nothing unless told to. Time only moves while
somebody waits: `world.run(seconds)`, `world.until(condition)`, `world.ask(server, query)`.
"""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.model.host import (
    LOCAL,
    Call,
    CallDone,
    GossipExchange,
    GossipExchanged,
    GossipExchangeReply,
    GossipExchangeRequested,
    GossipReceived,
    GossipSend,
    Halt,
    Log,
    MessageReceived,
    Now,
    Peer,
    Reply,
    Requested,
    SaveMembers,
    Send,
    Tick,
)
from core.model.query import Answer, Query
from core.server.config import LivenessConfig, ServerBoot, ServerConfig
from core.server.effects import (
    AskKeys,
    Compute,
    Computed,
    KeysAsked,
    LogPersisted,
    PersistLog,
    ReadSnapshot,
    SaveSnapshot,
    SnapshotRead,
    SnapshotSaved,
    SnapshotStaged,
    StageSnapshot,
)
from core.server.machine import ServerMachine
from gossip.key_messages import MemberKeys, apply_question, decode_answers, encode_question
from gossip.keyring import Keyring
from raft.core import Boot, SnapshotMeta

NETWORK_US = 1_000
DISK_US = 100
WALL_START_US = 1_800_000_000_000_000
LIMIT_S = 60.0


@dataclass
class Disk:
    """What of a server survives its death."""

    term: int = 0
    voted_for: str = ""
    entries: list[Any] = field(default_factory=list)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    image: bytes | None = None
    staging: bytearray = field(default_factory=bytearray)

    def write(self, batch: Any) -> None:
        if batch.hard_state is not None:
            self.term, self.voted_for = batch.hard_state.term, batch.hard_state.voted_for
        if batch.reset_to is not None:
            self.entries = []
        if batch.truncate_from:
            self.entries = [one for one in self.entries if one.index < batch.truncate_from]
        self.entries += batch.entries

    def boot(self) -> ServerBoot:
        entries = [one for one in self.entries if one.index > self.snapshot.index]
        raft = Boot(self.term, self.voted_for, entries, self.snapshot)
        return ServerBoot(raft=raft, snapshot=self.image)


class World:
    def __init__(self, seed: int = 1) -> None:
        self.now_us = 0
        self.rng = random.Random(seed)
        self.agents: dict[str, Any] = {}  # by rpc address
        self.by_gossip: dict[tuple[str, str], Any] = {}
        self.configs: dict[str, ServerConfig] = {}
        self.disks: dict[str, Disk] = {}
        self.answers: dict[int, Answer] = {}
        self.logs: list[tuple[str, Log]] = []
        self.cut: set[tuple[str, str]] = set()  # (from, to) by agent name: nothing passes
        self.mute: set[tuple[str, str]] = set()  # the same for gossip alone
        self.is_encoding = False  # bodies travel as bytes, as between real agents
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._calls: dict[int, tuple[Any, int, Any]] = {}  # request id -> caller, call id, called
        self._streams: dict[int, tuple[Any, int]] = {}
        self.keyrings: dict[str, Keyring] = {}  # by agent; the others are not encrypted
        self._relays: dict[int, Callable[[Any], None]] = {}

    # --- time -------------------------------------------------------------------------

    @property
    def now(self) -> Now:
        return Now(self.now_us, WALL_START_US + self.now_us)

    def next_id(self) -> int:
        self._sequence += 1
        return self._sequence

    def at(self, delay_us: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_us + delay_us, self.next_id(), action))

    def _step(self, limit_us: int) -> bool:
        """Do the next thing before `limit_us`; False when there is none."""
        due_us, agent = limit_us, None
        for candidate in self.agents.values():
            if candidate.deadline_us < due_us:
                due_us, agent = candidate.deadline_us, candidate
        if self._heap and self._heap[0][0] <= due_us:
            self.now_us, _, action = heapq.heappop(self._heap)
            action()
            return True
        if agent is None:
            self.now_us = limit_us
            return False
        self.now_us = max(self.now_us, due_us)
        self.deliver(agent, Tick())
        return True

    def run(self, seconds: float) -> None:
        limit_us = self.now_us + int(seconds * 1e6)
        while self._step(limit_us):
            pass

    def until(self, condition: Callable[[], Any], seconds: float = LIMIT_S) -> Any:
        limit_us = self.now_us + int(seconds * 1e6)
        while not (found := condition()):
            assert self._step(limit_us), f"not within {seconds} s: {self.story()}"
        return found

    def story(self) -> str:
        return "\n".join(f"{name}: {log.message} {log.fields}" for name, log in self.logs[-30:])

    # --- agents -----------------------------------------------------------------------

    def add_server(self, name: str, number: int, **changes: Any) -> ServerMachine:
        host = f"10.0.0.{number}"
        config = ServerConfig(
            name=name,
            server_id=f"00000000-0000-0000-0000-{number:012d}",
            rpc_addr=f"{host}:4647",
            gossip_addr=f"{host}:4648",
            http_addr=f"{host}:4646",
            retry_interval_us=1_000_000,
            liveness=LivenessConfig(grace_us=2_000_000, renew_us=90_000_000),
        )
        self.configs[name] = msgspec.structs.replace(config, **changes)
        self.disks[name] = Disk()
        return self.start(name)

    def start(self, name: str) -> ServerMachine:
        config = self.configs[name]
        machine = ServerMachine(
            config=config,
            boot=self.disks[name].boot(),
            rng=random.Random(self.rng.getrandbits(64)),
            now=self.now,
        )
        machine.name = name  # type: ignore[attr-defined]
        machine.rpc_addr = config.rpc_addr  # type: ignore[attr-defined]
        self.add(machine, config.rpc_addr, config.gossip_addr)
        return machine

    def add(self, agent: Any, rpc_addr: str, gossip_addr: str) -> None:
        self.agents[rpc_addr] = agent
        for pool in ("lan", "wan"):
            self.by_gossip[pool, gossip_addr] = agent
        self.deliver(agent, Tick())

    def kill(self, agent: Any) -> None:
        self.agents = {key: one for key, one in self.agents.items() if one is not agent}
        self.by_gossip = {key: one for key, one in self.by_gossip.items() if one is not agent}
        for request_id, (caller, call_id, called) in [*self._calls.items()]:
            if called is agent:  # the connection is reset
                del self._calls[request_id]
                self._later(caller, CallDone(call_id, "unreachable: connection reset"))

    def servers(self) -> list[ServerMachine]:
        return [one for one in self.agents.values() if isinstance(one, ServerMachine)]

    def leader(self, datacenter: str = "dc1") -> ServerMachine | None:
        for one in self.servers():
            if one.server.consensus.is_serving and one.server.config.datacenter == datacenter:
                return one
        return None

    def is_alive(self, agent: Any) -> bool:
        return any(one is agent for one in self.agents.values())

    # --- the network ------------------------------------------------------------------

    def deliver(self, agent: Any, event: Any) -> None:
        if self.is_alive(agent):
            for effect in agent.handle(event, self.now):
                self._carry_out(agent, effect)

    def _later(self, agent: Any, event: Any, delay_us: int = NETWORK_US) -> None:
        self.at(delay_us, lambda: self.deliver(agent, event))

    def _reaches(self, source: Any, target: Any) -> bool:
        return target is not None and (source.name, target.name) not in self.cut

    def _hears(self, source: Any, target: Any) -> bool:
        return self._reaches(source, target) and (source.name, target.name) not in self.mute

    def _body(self, body: Any) -> Any:
        """Return what the other side gets of a body."""
        if not self.is_encoding:
            return body
        return msgspec.msgpack.decode(msgspec.msgpack.encode(body))

    def _carry_out(self, agent: Any, effect: Any) -> None:
        match effect:
            case Call():
                self._call(agent, effect)
            case Reply():
                self._reply(effect)
            case Send(channel, address, body):
                target = self.agents.get(address)
                if self._reaches(agent, target):
                    source = Peer(name=agent.name, role="server", address=agent.rpc_addr)
                    self._later(target, MessageReceived(channel, self._body(body), source))
            case GossipSend(pool, address, packet):
                target = self.by_gossip.get((pool, address))
                if self._hears(agent, target):
                    self._later(target, GossipReceived(pool, self._gossip_addr(agent), packet))
            case GossipExchange(pool, exchange_id, address, packet):
                self._exchange(agent, pool, exchange_id, address, packet)
            case GossipExchangeReply(_, exchange_id, packet) if exchange_id in self._relays:
                self._relays.pop(exchange_id)(decode_answers(packet))
            case AskKeys():
                self._ask_keys(agent, effect)
            case GossipExchangeReply(pool, exchange_id, packet):
                asker, own_id = self._streams.pop(exchange_id)
                self._later(asker, GossipExchanged(pool, own_id, packet))
            case Log():
                self.logs.append((agent.name, effect))
            case SaveMembers():
                pass
            case Halt(reason):
                raise AssertionError(f"{agent.name} halted: {reason}")
            case _:
                self._work(agent, effect)

    def _work(self, agent: Any, effect: Any) -> None:
        disk = self.disks[agent.name]
        match effect:
            case PersistLog(ticket, batch):
                disk.write(batch)
                self._later(agent, LogPersisted(ticket), DISK_US)
            case Compute(ticket, problem):
                self._later(agent, Computed(ticket, problem.solve()), 2_000)
            case SaveSnapshot(ticket, meta, image):
                disk.image = b"".join(image.chunks())
                digest = hashlib.sha256(disk.image).hexdigest()
                disk.snapshot = msgspec.structs.replace(meta, size=len(disk.image), digest=digest)
                self._later(agent, SnapshotSaved(ticket, disk.snapshot), DISK_US)
            case ReadSnapshot(ticket, snapshot_id, offset, size):
                assert disk.image is not None
                data = disk.image[offset : offset + size]
                is_last = offset + size >= len(disk.image)
                self._later(
                    agent, SnapshotRead(ticket, snapshot_id, offset, data, is_last), DISK_US
                )
            case StageSnapshot(ticket, meta, offset, data, is_last):
                disk.staging[offset:] = data
                image = bytes(disk.staging) if is_last else None
                if image is not None:
                    disk.snapshot, disk.image, disk.staging = meta, image, bytearray()
                self._later(agent, SnapshotStaged(ticket, offset, image), DISK_US)
            case _:
                raise AssertionError(f"unknown effect {effect!r}")

    def _ask_keys(self, agent: Any, effect: AskKeys) -> None:
        """Ask the keyring of each target's host; a relay's machine asks its own."""
        answers: list[MemberKeys] = []
        waiting = len(effect.targets)

        def add(found: list[MemberKeys]) -> None:
            nonlocal waiting
            answers.extend(found)
            waiting -= 1
            if not waiting:
                self._later(agent, KeysAsked(effect.ticket, answers))

        for target in effect.targets:
            address = target.addresses[0] if target.addresses else ""
            asked = self.by_gossip.get((target.pool, address)) if address else agent
            if asked is None or (asked is not agent and not self._hears(agent, asked)):
                add([MemberKeys(target.name, "no answer", (), target.pool)])
            elif target.is_relay:
                number = self.next_id()
                self._relays[number] = add
                question = msgspec.structs.replace(effect.question, is_relayed=True)
                packet = encode_question(question)
                event = GossipExchangeRequested(target.pool, number, "", packet)
                self._later(asked, event)
            else:
                keyring = self.keyrings.get(asked.name)
                error = apply_question(keyring, effect.question)
                keys = tuple(keyring.keys) if keyring is not None else ()
                add([MemberKeys(target.name, error, keys, target.pool)])

    def _call(self, agent: Any, effect: Call) -> None:
        target = self.agents.get(effect.address)
        if not self._reaches(agent, target):
            self._later(agent, CallDone(effect.call_id, "unreachable: connection refused"))
            return
        request_id = self.next_id()
        self._calls[request_id] = (agent, effect.call_id, target)
        source = Peer(name=agent.name, role="server", address=agent.rpc_addr)
        body = self._body(effect.body)
        self._later(target, Requested(request_id, effect.method, body, source))

        def time_out() -> None:
            if self._calls.pop(request_id, None) is not None:
                self.deliver(agent, CallDone(effect.call_id, "timeout"))

        self.at(effect.timeout_us, time_out)

    def _reply(self, effect: Reply) -> None:
        found = self._calls.pop(effect.request_id, None)
        if found is None:
            if effect.request_id < 0:
                assert not effect.error, effect.error
                self.answers[effect.request_id] = effect.body
            return
        caller, call_id, _ = found
        self._later(caller, CallDone(call_id, effect.error, self._body(effect.body)))

    def _exchange(self, agent: Any, pool: str, exchange_id: int, address: str, packet: Any) -> None:
        target = self.by_gossip.get((pool, address))
        if not self._hears(agent, target):
            self._later(agent, GossipExchanged(pool, exchange_id, None))
            return
        number = self.next_id()
        self._streams[number] = (agent, exchange_id)
        self._later(target, GossipExchangeRequested(pool, number, self._gossip_addr(agent), packet))

        def time_out() -> None:
            if self._streams.pop(number, None) is not None:
                self.deliver(agent, GossipExchanged(pool, exchange_id, None))

        self.at(5_000_000, time_out)

    def _gossip_addr(self, agent: Any) -> str:
        return next(address for (_, address), one in self.by_gossip.items() if one is agent)

    # --- users ------------------------------------------------------------------------

    def begin(self, server: Any, query: Query) -> int:
        """Hand a query to a server's API; its number is where the answer will be."""
        number = -self.next_id()
        self.deliver(server, Requested(number, "Query", query, LOCAL))
        return number

    def ask(self, server: Any, method: str, seconds: float = LIMIT_S, **query: Any) -> Answer:
        number = self.begin(server, Query(method=method, **query))
        answer: Answer = self.until(lambda: self.answers.get(number), seconds)
        return answer
