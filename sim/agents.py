"""The simulator's hosts: they build the shipped machines and carry out their effects.

A `SimAgent` is one agent process on one simulated machine. Crashing it drops the
machine object and all that was under way for it; starting it again builds a new machine
from what its disk holds, exactly as core.agent does.
"""

import os
import random
import traceback
from collections.abc import Callable
from typing import Any, Final

from core.client.config import ClientBoot, ClientConfig
from core.client.machine import ClientMachine
from core.model import host as h
from core.model.host import FOREVER_US, LOCAL, Effect, Event, Machine, Now, Peer
from core.model.query import Answer, Query
from core.server import effects as sx
from core.server.config import ServerBoot, ServerConfig
from core.server.machine import ServerMachine
from core.state.state import State
from gossip.key_messages import MemberKeys, apply_question
from raft.messages import SnapshotMeta
from sim.disk import DiskModel, SimDisk
from sim.network import Network, Place
from sim.tasks import SimTasks
from sim.trace import Trace
from sim.wheel import Wheel

EPOCH_US: Final = 1_800_000_000_000_000  # the wall clock at virtual time zero
COMPUTE_US: Final = 2_000  # modelled time of one placement
EVENT_SHOWN: Final = 200  # characters of the event that a machine broke on


class World:
    """What all agents of a run share."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.seed = seed
        self.wheel = Wheel()
        self.network = Network(self.wheel, random.Random(f"{seed}/network"))
        self.trace = trace
        self.agents: dict[str, SimAgent] = {}
        self.logs: list[tuple[int, str, h.Log]] = []
        self.halts: list[tuple[int, str, str]] = []

    def agent_at(self, address: str) -> "SimAgent | None":
        return self.agents.get(address.rpartition(":")[0])


class SimAgent:
    """One agent on one simulated machine."""

    role = ""

    def __init__(self, world: World, place: Place) -> None:
        self.world = world
        self.place = place
        self.name = place.name
        self.machine: Machine | None = None
        self.paused_until_us = 0
        self._life = 0  # counts starts: what belongs to an earlier life is dropped
        self._armed_us = FOREVER_US
        self._next_request = 0
        self._replies: dict[int, Callable[[Any, str], None]] = {}
        self._exchange_replies: dict[tuple[str, int], Callable[[Any], None]] = {}
        self._handlers = self._effect_handlers()
        self.members: dict[str, list[tuple[str, str]]] = {}
        world.agents[self.name] = self
        world.network.add(place)

    @property
    def rpc_addr(self) -> str:
        return f"{self.name}:4647"

    @property
    def gossip_addr(self) -> str:
        return f"{self.name}:4648"

    def rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.world.seed}/{self.name}/{purpose}/{self._life}")

    def now(self) -> Now:
        now_us = self.world.wheel.now_us
        return Now(now_us, EPOCH_US + now_us)

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Build the machine from what the disk holds."""
        assert self.machine is None, f"{self.name} runs already"
        self._life += 1
        self.paused_until_us = 0
        self.world.network.set_up(self.name, True)
        self.machine = self.build()
        self._armed_us = FOREVER_US
        self._arm()

    def crash(self) -> None:
        """As kill -9: the machine is gone, and so is what was under way for it."""
        self.machine = None
        self._life += 1
        self._replies.clear()
        self._exchange_replies.clear()
        self.world.network.set_up(self.name, False)

    def build(self) -> Machine:
        raise NotImplementedError

    # --- events -------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        if self.machine is None:
            return
        now_us = self.world.wheel.now_us
        if now_us < self.paused_until_us:
            self._when_alive(self.paused_until_us - now_us, self.deliver, event)
            return
        self.world.trace.add(now_us, self.name, event)
        try:
            effects = self.machine.handle(event, self.now())
        except Exception as error:
            self._broke(event, error)
            return
        for effect in effects:
            self._carry_out(effect)
        self._arm()

    def _arm(self) -> None:
        if self.machine is not None and self.machine.deadline_us < self._armed_us:
            self._armed_us = self.machine.deadline_us
            life = self._life
            self.world.wheel.at(self._armed_us, lambda _: self._tick(life))

    def _tick(self, life: int) -> None:
        if life != self._life or self.machine is None:
            return
        self._armed_us = FOREVER_US
        if self.machine.deadline_us <= self.world.wheel.now_us:
            self.deliver(h.Tick())
        else:
            self._arm()

    def request(
        self, method: str, body: Any, source: Peer, reply: Callable[[Any, str], None]
    ) -> None:
        """Hand a call to the machine; `reply(body, error)` follows unless the agent dies."""
        self._next_request += 1
        self._replies[self._next_request] = reply
        self.deliver(h.Requested(self._next_request, method, body, source))

    def query(self, query: Query, then: Callable[[Answer], None]) -> None:
        """Ask as a user of this agent's API does."""

        def on_reply(body: Any, error: str) -> None:
            then(body if isinstance(body, Answer) else Answer(status=500, error=error))

        self.request("Query", query, LOCAL, on_reply)

    # --- effects ------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        handler = self._handlers.get(type(effect))
        if handler is None:
            raise AssertionError(f"the simulator can't carry out {type(effect).__name__}")
        handler(effect)

    def _effect_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            h.Call: self._call,
            h.Reply: self._reply,
            h.Send: self._send,
            h.Log: lambda effect: self.world.logs.append(
                (self.world.wheel.now_us, self.name, effect)
            ),
            h.Halt: self._halt,
            h.GossipSend: self._gossip_send,
            h.GossipExchange: self._gossip_exchange,
            h.GossipExchangeReply: self._gossip_reply,
            h.SaveMembers: self._save_members,
            sx.Compute: self._compute,
            sx.AskKeys: self._ask_keys,
        }

    def _when_alive(self, delay_us: int, function: Callable[[Any], None], argument: Any) -> None:
        life = self._life

        def arrive(what: Any) -> None:
            if life == self._life:
                function(what)

        self.world.wheel.after(delay_us, arrive, argument)

    def _halt(self, effect: h.Halt) -> None:
        self.world.halts.append((self.world.wheel.now_us, self.name, effect.reason))
        self.crash()

    def _broke(self, event: Event, error: Exception) -> None:
        """The machine raised: a bug. The agent dies of it, as a real one would."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
        reason = f"seed {self.world.seed}: {type(error).__name__}: {error} ({where})"
        reason += f", handling {repr(event)[:EVENT_SHOWN]}"
        self.world.halts.append((self.world.wheel.now_us, self.name, reason))
        self.crash()

    def _me(self) -> Peer:
        return Peer(name=self.name, role=self.role, address=self.rpc_addr, is_proven=True)

    def _call(self, effect: h.Call) -> None:
        call = _Call(self, effect)
        self._when_alive(effect.timeout_us, call.settle, (None, "timeout"))
        target = self.world.agent_at(effect.address)
        if target is None:
            self._when_alive(1_000, call.settle, (None, f"unreachable: {effect.address}"))
            return
        self.world.network.stream(self.name, target.name, call.arrive, call.refuse, target)

    def _reply(self, effect: h.Reply) -> None:
        reply = self._replies.pop(effect.request_id, None)
        if reply is not None:
            reply(effect.body, effect.error)

    def _send(self, effect: h.Send) -> None:
        target = self.world.agent_at(effect.address)
        if target is not None:
            event = h.MessageReceived(effect.channel, effect.body, self._me())
            self.world.network.datagram(
                self.name, target.name, target.deliver, event, effect.channel
            )

    def _gossip_send(self, effect: h.GossipSend) -> None:
        target = self.world.agent_at(effect.address)
        if target is not None:
            event = h.GossipReceived(effect.pool, self.gossip_addr, effect.packet)
            self.world.network.datagram(self.name, target.name, target.deliver, event, "gossip")

    def _gossip_exchange(self, effect: h.GossipExchange) -> None:
        exchange = _Exchange(self, effect)
        self._when_alive(effect.timeout_us, exchange.settle, None)
        target = self.world.agent_at(effect.address)
        if target is None:
            self._when_alive(1_000, exchange.settle, None)
            return
        self.world.network.stream(
            self.name, target.name, exchange.arrive, exchange.settle_empty, target
        )

    def _gossip_reply(self, effect: h.GossipExchangeReply) -> None:
        reply = self._exchange_replies.pop((effect.pool, effect.exchange_id), None)
        if reply is not None:
            reply(effect.packet)

    def exchange_request(
        self, pool: str, source: str, packet: Any, reply: Callable[[Any], None]
    ) -> None:
        self._next_request += 1
        self._exchange_replies[pool, self._next_request] = reply
        self.deliver(h.GossipExchangeRequested(pool, self._next_request, source, packet))

    def _save_members(self, effect: h.SaveMembers) -> None:
        self.members[effect.pool] = list(effect.members)

    def _ask_keys(self, effect: sx.AskKeys) -> None:
        """Simulated packets pass as objects: there is no key to speak of."""
        refusal = apply_question(None, effect.question)
        answers = [MemberKeys(one.name, refusal, (), one.pool) for one in effect.targets]
        self._when_alive(1_000, self.deliver, sx.KeysAsked(effect.ticket, answers))

    def _compute(self, effect: sx.Compute) -> None:
        solution = effect.problem.solve()
        self._when_alive(COMPUTE_US, self.deliver, sx.Computed(effect.ticket, solution))


class _Call:
    """One call under way: it settles once, with the answer, a refusal or its timeout."""

    def __init__(self, caller: SimAgent, effect: h.Call) -> None:
        self.caller = caller
        self.effect = effect
        self.life = caller._life
        self.is_settled = False

    def arrive(self, target: SimAgent) -> None:
        target.request(
            self.effect.method,
            self.effect.body,
            self.caller._me(),
            lambda body, error: self.caller.world.network.stream(
                target.name, self.caller.name, self.settle, lambda _: None, (body, error)
            ),
        )

    def refuse(self, target: SimAgent) -> None:
        self.settle((None, f"unreachable: {target.rpc_addr}: Connection refused"))

    def settle(self, answer: tuple[Any, str]) -> None:
        if not self.is_settled and self.life == self.caller._life:
            self.is_settled = True
            self.caller.deliver(h.CallDone(self.effect.call_id, answer[1], answer[0]))


class _Exchange:
    """One gossip stream under way."""

    def __init__(self, caller: SimAgent, effect: h.GossipExchange) -> None:
        self.caller = caller
        self.effect = effect
        self.life = caller._life
        self.is_settled = False

    def arrive(self, target: SimAgent) -> None:
        target.exchange_request(
            self.effect.pool,
            self.caller.gossip_addr,
            self.effect.packet,
            lambda packet: self.caller.world.network.stream(
                target.name, self.caller.name, self.settle, lambda _: None, packet
            ),
        )

    def settle_empty(self, _target: SimAgent) -> None:
        self.settle(None)

    def settle(self, packet: Any) -> None:
        if not self.is_settled and self.life == self.caller._life:
            self.is_settled = True
            self.caller.deliver(
                h.GossipExchanged(self.effect.pool, self.effect.exchange_id, packet)
            )


class SimServer(SimAgent):
    """A server agent with its disk."""

    role = "server"

    def __init__(self, world: World, place: Place, config: ServerConfig, disk: DiskModel) -> None:
        super().__init__(world, place)
        self.config = config
        self.disk = SimDisk(disk, random.Random(f"{world.seed}/{self.name}/disk"))
        self._writing: list[Any] = []
        self._staged = b""  # of a snapshot that arrives in chunks

    @property
    def server(self) -> ServerMachine | None:
        machine = self.machine
        return machine if isinstance(machine, ServerMachine) else None

    @property
    def is_leader(self) -> bool:
        return self.server is not None and self.server.server.consensus.is_leader

    @property
    def term(self) -> int:
        return 0 if self.server is None else self.server.server.consensus.term

    @property
    def state(self) -> State | None:
        return None if self.server is None else self.server.server.state

    def build(self) -> Machine:
        raft_boot, image = self.disk.boot()
        boot = ServerBoot(
            raft=raft_boot,
            snapshot=image,
            lan_members=tuple(self.members.get("lan", ())),
            wan_members=tuple(self.members.get("wan", ())),
        )
        return ServerMachine(config=self.config, boot=boot, rng=self.rng("machine"), now=self.now())

    def crash(self) -> None:
        for batch in self._writing[:1]:
            self.disk.apply(batch, torn=True)
        self._writing.clear()
        super().crash()

    def _effect_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            **super()._effect_handlers(),
            sx.PersistLog: self._persist,
            sx.SaveSnapshot: self._save_snapshot,
            sx.ReadSnapshot: self._read_snapshot,
            sx.StageSnapshot: self._stage_snapshot,
        }

    def _persist(self, effect: sx.PersistLog) -> None:
        batch = effect.batch
        if self.disk.is_full and batch.entries:
            full = sx.LogPersistFailed(effect.ticket, "No space left on device", True)
            self._when_alive(500, self.deliver, full)
            return
        self._writing.append(batch)
        size = sum(len(entry.data) for entry in batch.entries)

        def done(_: Any) -> None:
            self._writing.remove(batch)
            self.disk.apply(batch)
            self.deliver(sx.LogPersisted(effect.ticket))

        delay_us = self.disk.duration_us(size, self.world.wheel.now_us)
        self._when_alive(delay_us, done, None)

    def _save_snapshot(self, effect: sx.SaveSnapshot) -> None:
        image = b"".join(effect.image.chunks())
        meta = finished_meta(effect.meta, image)

        def done(_: Any) -> None:
            self.disk.save_snapshot(meta, image)
            self.deliver(sx.SnapshotSaved(effect.ticket, meta))

        self._when_alive(self.disk.duration_us(len(image), self.world.wheel.now_us), done, None)

    def _read_snapshot(self, effect: sx.ReadSnapshot) -> None:
        data = self.disk.read_snapshot(effect.snapshot_id, effect.offset, effect.size)
        event = sx.SnapshotRead(
            effect.ticket,
            effect.snapshot_id,
            effect.offset,
            data or b"",
            effect.offset + len(data or b"") >= self.disk.snapshot_size,
            "" if data is not None else "this snapshot is gone: a newer one took its place",
        )
        self._when_alive(500, self.deliver, event)

    def _stage_snapshot(self, effect: sx.StageSnapshot) -> None:
        self._staged = self._staged[: effect.offset] + effect.data
        image = None
        if effect.is_last:
            image = self._staged
            self.disk.save_snapshot(effect.meta, image)
        event = sx.SnapshotStaged(effect.ticket, effect.offset, image)
        self._when_alive(1_000, self.deliver, event)


def finished_meta(meta: SnapshotMeta, image: bytes) -> SnapshotMeta:
    """Return the meta with size and digest of the written image."""
    import hashlib

    import msgspec

    return msgspec.structs.replace(meta, size=len(image), digest=hashlib.sha256(image).hexdigest())


class SimClient(SimAgent):
    """A client agent on its node."""

    role = "client"

    def __init__(self, world: World, place: Place, config: ClientConfig) -> None:
        super().__init__(world, place)
        self.config = config
        self.tasks = SimTasks(world.wheel, random.Random(f"{world.seed}/{self.name}/tasks"))

    def build(self) -> Machine:
        self.tasks.attach(self.deliver)
        boot = ClientBoot(
            saved=dict(self.tasks.saved), lan_members=tuple(self.members.get("lan", ()))
        )
        return ClientMachine(config=self.config, boot=boot, rng=self.rng("machine"), now=self.now())

    def crash(self) -> None:
        self.tasks.attach(None)
        super().crash()

    def power_off(self) -> None:
        """The machine itself goes: the processes too."""
        self.crash()
        self.tasks.power_off()

    def _carry_out(self, effect: Effect) -> None:
        if not self.tasks.carry_out(effect):
            super()._carry_out(effect)
