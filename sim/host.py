"""The simulator's host of one machine: hands it events, carries out its effects.

A `SimAgent` is one agent process on one simulated machine. Crashing it drops the
machine object and all that was under way for it; starting it again builds a new machine
from what its disk holds, exactly as core.agent does. What is a server's or a client's
alone is in sim.agents.

Nothing is copied on its way: a packet, a raft message and a call's body arrive as the
object that was sent, unless the world is `is_wire`: then each makes the way through the
bytes that the real host would send (sim.wire), and the trace is the same.
"""

import os
import random
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from core.model import host as h
from core.model.host import FOREVER_US, LOCAL, Effect, Event, Machine, Now, Peer
from core.model.query import Answer, Query
from core.server import effects as sx
from core.server.consensus import Decode
from core.state.entry import decode_entry
from gossip.directory import Directory
from gossip.key_messages import MemberKeys, apply_question
from sim import wire
from sim.calls import Call, Exchange
from sim.forming import Forming
from sim.network import Network, Place, Station
from sim.node_disk import REST_US, Dictionary
from sim.raft.clock import Clock
from sim.sharing import Decoded, Images, trim
from sim.trace import Trace
from sim.wheel import Wheel

if TYPE_CHECKING:
    from sim.agents import SimClient, SimServer

EPOCH_US: Final = 1_800_000_000_000_000  # the wall clock at virtual time zero, unless told
ARM_US: Final = 50_000  # far deadlines are put into the wheel together, so often
COMPUTE_US: Final = 2_000  # modelled time of one placement
REFUSED_US: Final = 1_000  # until a call to an address that nobody has fails
EVENT_SHOWN: Final = 200  # characters of the event that a machine broke on

Handler = Callable[[Any, Any], None]  # agent, effect
_TICK: Final = h.Tick()
_now: Final = tuple.__new__  # a third of the price of Now(...), paid at each event


class World:
    """What all agents of a run share."""

    def __init__(self, seed: int, trace: Trace, *, is_wire: bool = False) -> None:
        self.seed = seed
        self.is_wire = is_wire
        self.epoch_us = EPOCH_US  # the wall clock at virtual time zero
        self.wheel = Wheel()
        self.network = Network(self.wheel, random.Random(f"{seed}/network"))
        self.trace = trace
        self.agents: dict[str, SimAgent] = {}
        self.servers: list[SimServer] = []  # these two in the order in which they were built
        self.clients: list[SimClient] = []
        self.by_address: dict[str, SimAgent] = {}  # of RPC and of gossip
        self.logs: list[tuple[int, str, h.Log]] = []
        self.halts: list[tuple[int, str, str]] = []
        self.dictionary = Dictionary()  # of all nodes' disks
        self.forming: Forming | None = None  # where LAN pools begin formed
        self._directories: dict[tuple[str, str], Directory] = {}
        self._decoded: dict[tuple[str, str], Decoded] = {}
        self._images: dict[tuple[str, str], Images] = {}
        self._rests_at_us = REST_US
        self.arms_at_us = 0  # when those that wait for it are armed next
        self._unarmed: list[SimAgent] = []
        self._arm_all(None)

    def rest(self) -> None:
        """Make what was not used for a while small. What happens is the same without it."""
        if self.wheel.now_us >= self._rests_at_us:
            self._rests_at_us = self.wheel.now_us + REST_US
            for client in self.clients:
                client.disk.rest()
            trim()

    def arm_later(self, agent: "SimAgent") -> None:
        """Arm an agent whose deadline lies beyond `arms_at_us`, then."""
        self._unarmed.append(agent)

    def _arm_all(self, _: object) -> None:
        self.arms_at_us = self.wheel.now_us + ARM_US
        self.wheel.at(self.arms_at_us, self._arm_all)
        unarmed, self._unarmed = self._unarmed, []
        for agent in unarmed:
            agent.arm_now()

    def agent_at(self, address: str) -> "SimAgent | None":
        return self.by_address.get(address)

    def directory(self, place: Place) -> Directory:
        """Return the names of a datacenter's LAN pool: one table for all its members."""
        if self.forming is not None:
            return self.forming.of(place).directory
        return self._directories.setdefault((place.region, place.datacenter), Directory())

    def images(self, place: Place) -> Images:
        """Return the snapshots that a datacenter's disks share."""
        return self._images.setdefault((place.region, place.datacenter), Images())

    def decoder(self, place: Place) -> Decode:
        """Return how a datacenter's replicas decode their log: once for all of them."""
        if self.is_wire:
            return decode_entry
        site = (place.region, place.datacenter)
        if site not in self._decoded:
            self._decoded[site] = Decoded(sum(server.site == site for server in self.servers))
        return self._decoded[site].decode


class SimAgent(Station):
    """One agent on one simulated machine."""

    role = ""
    HANDLERS: ClassVar[dict[type[Effect], Handler]]  # filled in below, and by subclasses

    def __init__(self, world: World, place: Place) -> None:
        super().__init__(place)
        self.world = world
        self.wheel = world.wheel
        self.machine: Machine | None = None
        self.paused_until_us = 0
        self.is_left_off = False  # it is not started with the others
        self.clock: Clock | None = None  # one whose rate is, or was, wrong
        self.rpc_addr = f"{self.name}:4647"
        self.gossip_addr = f"{self.name}:4648"
        self.peer = Peer(name=self.name, role=self.role, address=self.rpc_addr, is_proven=True)
        self.pools = {"lan": f"lan:{place.region}:{place.datacenter}", "wan": "wan"}  # labels
        self.life = 0  # counts starts: what belongs to an earlier life is dropped
        self.members: dict[str, list[tuple[str, str]]] = {}
        self._armed_us = FOREVER_US
        self._is_unarmed = False  # waits to be armed with the others
        self._next_request = 0
        self._replies: dict[int, Callable[[Any, str], None]] = {}
        self._exchange_replies: dict[tuple[str, int], Callable[[Any], None]] = {}
        world.agents[self.name] = self
        world.by_address[self.rpc_addr] = world.by_address[self.gossip_addr] = self
        world.network.connect(self)

    def rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.world.seed}/{self.name}/{purpose}/{self.life}")

    def now(self) -> Now:
        now_us = self.wheel.now_us if self.clock is None else self.clock.at(self.wheel.now_us)
        return _now(Now, (now_us, self.world.epoch_us + now_us))

    def set_clock(self, ppm: int) -> None:
        """Let the machine's clock run this many millionths fast, from now on."""
        self.clock = self.clock or Clock()
        self.clock.set_rate(ppm, self.wheel.now_us)
        self._armed_us = FOREVER_US
        self._arm()

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Build the machine from what the disk holds."""
        assert self.machine is None, f"{self.name} runs already"
        self.life += 1
        self.paused_until_us = 0
        self.is_up = True
        self.machine = self.build()
        self._armed_us = FOREVER_US
        self._arm()

    def crash(self) -> None:
        """As kill -9: the machine is gone, and so is what was under way for it."""
        self.machine = None
        self.life += 1
        self._replies.clear()
        self._exchange_replies.clear()
        self.is_up = False

    def build(self) -> Machine:
        raise NotImplementedError

    # --- events -------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        machine = self.machine
        if machine is None:
            return
        now_us = self.wheel.now_us
        if now_us < self.paused_until_us:
            self.when_alive(self.paused_until_us - now_us, self.deliver, event)
            return
        self.world.trace.add(now_us, self.name, event)
        if self.clock is not None:
            now_us = self.clock.at(now_us)
        try:
            effects = machine.handle(event, _now(Now, (now_us, self.world.epoch_us + now_us)))
        except Exception as error:
            self._broke(event, error)
            return
        if effects:
            handlers = self.HANDLERS
            for effect in effects:
                handler = handlers.get(effect.__class__)
                if handler is None:
                    raise AssertionError(f"the simulator can't carry out {type(effect).__name__}")
                handler(self, effect)
        if machine.deadline_us < self._armed_us or self.clock is not None:
            self._arm()

    def _arm(self) -> None:
        if self.machine is None:
            return
        deadline_us = self._deadline_us(self.machine)
        if deadline_us >= self._armed_us:
            return
        world = self.world
        if deadline_us >= world.arms_at_us:
            # It may well move: most answers that a timeout waits for come before.
            if not self._is_unarmed:
                self._is_unarmed = True
                world.arm_later(self)
            return
        self._armed_us = max(deadline_us, self.wheel.now_us)
        self.wheel.at(self._armed_us, self._tick, self.life)

    def arm_now(self) -> None:
        """Put the machine's deadline into the wheel, however far it is."""
        self._is_unarmed = False
        if self.machine is not None:
            deadline_us = self._deadline_us(self.machine)
            if deadline_us < self._armed_us:
                self._armed_us = max(deadline_us, self.wheel.now_us)
                self.wheel.at(self._armed_us, self._tick, self.life)

    def _deadline_us(self, machine: Machine) -> int:
        """Return when the machine's deadline is, by the world's time."""
        deadline_us = machine.deadline_us
        if self.clock is not None and deadline_us < FOREVER_US:
            now_us = self.wheel.now_us
            deadline_us = now_us + self.clock.wait_us(deadline_us - self.clock.at(now_us))
        return deadline_us

    def _tick(self, life: int) -> None:
        machine = self.machine
        # One that was armed before an earlier one, or by an earlier life, means nothing.
        if machine is None or life != self.life or self._armed_us != self.wheel.now_us:
            return
        self._armed_us = FOREVER_US
        if machine.deadline_us <= self.now().mono_us:
            self.deliver(_TICK)
        else:
            self._arm()

    def kind_of(self, body: Any) -> str:
        return "gossip" if isinstance(body, h.GossipSend) else str(body.channel)

    def receive(self, here: Station, body: Any) -> None:
        """Take a datagram or a one-way message: the effect that sent it."""
        assert isinstance(here, SimAgent)
        if self.world.is_wire:
            body = wire.received(self.pools, body)
        if body.__class__ is h.GossipSend:
            self.deliver(h.GossipReceived(body.pool, here.gossip_addr, body.packet))
        else:
            self.deliver(h.MessageReceived(body.channel, body.body, here.peer))

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

    def exchange_request(
        self, pool: str, source: str, packet: Any, reply: Callable[[Any], None]
    ) -> None:
        """Hand a gossip stream's request to the machine; `reply(packet)` follows."""
        self._next_request += 1
        self._exchange_replies[pool, self._next_request] = reply
        self.deliver(h.GossipExchangeRequested(pool, self._next_request, source, packet))

    # --- effects ------------------------------------------------------------------------

    def when_alive(self, delay_us: int, function: Callable[[Any], None], argument: Any) -> None:
        """Call `function(argument)` after a delay, if the agent has not died meanwhile."""
        self.wheel.after(delay_us, _call_if_alive, (self, self.life, function, argument))

    def _log(self, effect: h.Log) -> None:
        self.world.logs.append((self.wheel.now_us, self.name, effect))

    def _halt(self, effect: h.Halt) -> None:
        self.world.halts.append((self.wheel.now_us, self.name, effect.reason))
        self.crash()

    def _broke(self, event: Event, error: Exception) -> None:
        """The machine raised: a bug. The agent dies of it, as a real one would."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
        reason = f"seed {self.world.seed}: {type(error).__name__}: {error} ({where})"
        reason += f", handling {repr(event)[:EVENT_SHOWN]}"
        self.world.halts.append((self.wheel.now_us, self.name, reason))
        self.crash()

    def _call(self, effect: h.Call) -> None:
        call = Call(self, effect)
        self.wheel.after(effect.timeout_us, call.settle, (None, "timeout"))
        target = self.world.by_address.get(effect.address)
        if target is None:
            self.wheel.after(REFUSED_US, call.settle, (None, f"unreachable: {effect.address}"))
            return
        call.begin(target)

    def _reply(self, effect: h.Reply) -> None:
        reply = self._replies.pop(effect.request_id, None)
        if reply is not None:
            reply(effect.body, effect.error)

    def _send(self, effect: h.Send) -> None:
        target = self.world.by_address.get(effect.address)
        if target is not None:
            self.post_to(target, wire.sent(self.pools, effect) if self.world.is_wire else effect)

    def _gossip_exchange(self, effect: h.GossipExchange) -> None:
        exchange = Exchange(self, effect)
        self.wheel.after(effect.timeout_us, exchange.settle, None)
        target = self.world.by_address.get(effect.address)
        if target is None:
            self.wheel.after(REFUSED_US, exchange.settle, None)
            return
        exchange.begin(target)

    def _gossip_reply(self, effect: h.GossipExchangeReply) -> None:
        reply = self._exchange_replies.pop((effect.pool, effect.exchange_id), None)
        if reply is not None:
            reply(effect.packet)

    def _save_members(self, effect: h.SaveMembers) -> None:
        self.members[effect.pool] = list(effect.members)

    def _ask_keys(self, effect: sx.AskKeys) -> None:
        """Simulated packets are not encrypted: there is no key to speak of."""
        refusal = apply_question(None, effect.question)
        answers = [MemberKeys(one.name, refusal, (), one.pool) for one in effect.targets]
        self.when_alive(REFUSED_US, self.deliver, sx.KeysAsked(effect.ticket, answers))

    def _compute(self, effect: sx.Compute) -> None:
        solution = effect.problem.solve()
        self.when_alive(COMPUTE_US, self.deliver, sx.Computed(effect.ticket, solution))


SimAgent.HANDLERS = {
    h.Call: SimAgent._call,
    h.Reply: SimAgent._reply,
    h.Send: SimAgent._send,
    h.Log: SimAgent._log,
    h.Halt: SimAgent._halt,
    h.GossipSend: SimAgent._send,
    h.GossipExchange: SimAgent._gossip_exchange,
    h.GossipExchangeReply: SimAgent._gossip_reply,
    h.SaveMembers: SimAgent._save_members,
    sx.Compute: SimAgent._compute,
    sx.AskKeys: SimAgent._ask_keys,
}


def _call_if_alive(what: tuple[SimAgent, int, Callable[[Any], None], Any]) -> None:
    agent, life, function, argument = what
    if agent.life == life:
        function(argument)
