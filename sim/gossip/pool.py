"""A pool under observation: the world, the truth about its members, and old packets.

The truth is what no member can know: who runs where, since when, and who is in trouble. All
that befalls the pool goes through the methods here, so the checkers' idea of it is right.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from gossip.messages import PING, Identity, Packet
from gossip.settings import Settings
from gossip.views import Counters, MemberEvent
from sim.gossip_member import Member, OnEvent
from sim.gossip_world import GossipWorld
from sim.network import LinkModel, Station

OnArrival = Callable[[Any], None]

KEPT_FLIGHTS: Final = 256
STRANGER: Final = "stranger"  # name and role of one that nobody admits


def admit(identity: Identity) -> str:
    """Refuse strangers, as the members' owners do."""
    return "a stranger" if identity.meta.get("role") == STRANGER else ""


class Flight(NamedTuple):
    """A packet that arrived."""

    source: Member
    target: Member
    body: Any  # Packet, or its bytes


@dataclass(slots=True)
class Fate:
    """What is true of one member."""

    name: str
    address: str
    since_us: int  # of its present state
    state: str = "up"  # up, dead, left


class Pool(GossipWorld):
    """Invariant: `hardships` > 0 while anybody is slow, stopped or out of anybody's reach."""

    def __init__(self, *, seed: int, settings: Settings, link: LinkModel, wire: bool) -> None:
        super().__init__(
            seed=seed,
            settings=settings,
            link=link,
            wire=wire,
            loss=link.loss,
            on_event=self._tell,
        )
        self.on_event: OnEvent = lambda now_us, observer, event: None
        # packets that pass as objects, when they arrive; and streams, by their addresses
        self.on_packet: Callable[[Station, Station, Packet], None] = lambda *packet: None
        self.on_stream: Callable[[str, str], None] = lambda *stream: None
        self.fates: dict[str, Fate] = {}
        self.may_leave: set[str] = set()  # who said farewell, or was forced to leave
        self.faults: Counter[str] = Counter()
        self.hardships = 0
        self.hardship_end_us = 0
        self.is_age_blurred = False  # somebody slept on packets: ages lack that time
        self.observe(self._on_arrival)
        self._stream = self.network.stream
        self.network.stream = self._observe_stream  # type: ignore[method-assign]
        self.flights: deque[Flight] = deque(maxlen=KEPT_FLIGHTS)
        # counted where packets arrive, and pass as objects:
        self.pinged_us: dict[tuple[str, str], int] = {}  # (asker, target) by name -> last
        self.rumours = 0
        self.counters: list[Counters] = []  # of every life that ended
        self._addresses = 0

    def _tell(self, now_us: int, observer: str, event: MemberEvent) -> None:
        self.on_event(now_us, observer, event)

    # -- packets --------------------------------------------------------------------

    @property
    def is_perfect(self) -> bool:
        """Whether each packet arrives exactly once, and as an object."""
        link = self.network.lan
        return not link.loss and not link.duplication and not self.is_wire

    @property
    def is_wire(self) -> bool:
        return self._around.is_wire

    def name_at(self, address: str) -> str:
        """Return who runs at an address, or ""."""
        member = self._around.by_address.get(address)
        return "" if member is None else member.host

    def _on_arrival(self, flight: tuple[Member, Member, Any]) -> None:
        body = flight[2]
        self.flights.append(Flight(*flight))
        if isinstance(body, Packet):
            self.rumours += len(body.updates)
            if body.kind == PING:
                self.pinged_us[body.sender, body.target] = self.now_us
            self.on_packet(flight[0], flight[1], body)

    def _observe_stream(
        self, source: str, target: str, deliver: OnArrival, refused: OnArrival, body: Any
    ) -> None:
        self.on_stream(source, target)
        self._stream(source, target, deliver, refused, body)

    def repeat(self, flight: "Flight") -> None:
        """Let a packet arrive once more, however old it is."""
        self.faults["packet repeated"] += 1
        self._around.deliver(flight)

    # -- members --------------------------------------------------------------------

    def begin(self, name: str, *, joins: str = "", **options: Any) -> None:
        """Start a member and let it join another."""
        self.add(name, admit=admit, **options)
        self.fates[name] = Fate(name, self.address(name), self.now_us)
        if joins:
            self.join(name, joins)

    def end(self, name: str) -> list[tuple[str, str]]:
        """Kill a member; return what its disk remembers."""
        self.counters.append(self.machine(name).counters)
        fate = self.fates[name]
        if fate.state == "up":
            fate.state, fate.since_us = "dead", self.now_us
        return self.kill(name)

    def again(self, name: str, *, address: str = "", known: list[tuple[str, str]]) -> None:
        """Start a member that had ended, as the same name."""
        address = address or self.fates[name].address
        self.add(name, address=address, known=known, meta={"role": "client"}, admit=admit)
        self.fates[name] = Fate(name, address, self.now_us)

    def new_address(self) -> str:
        self._addresses += 1
        return f"moved{self._addresses}:4648"

    def change_meta(self, name: str, value: str) -> None:
        meta = {"role": "client", "n": value}
        self.do(name, lambda machine, now_us: machine.set_meta(meta, now_us))

    def hear(self, hearer: str, sender: str, packet: Packet) -> None:
        """Let a member get a packet that its sender never sent."""
        source = self.address(sender)
        self.do(hearer, lambda machine, now_us: machine.on_packet(source, packet, now_us))

    def farewell(self, name: str) -> None:
        """Let a member leave; it ends when it has told its farewell."""
        fate = self.fates[name]
        fate.state, fate.since_us = "left", self.now_us
        self.faults["left"] += 1
        self.may_leave.add(name)
        self.do(name, lambda machine, now_us: machine.leave(now_us))

    def up(self) -> list[str]:
        return [name for name, fate in self.fates.items() if fate.state == "up"]

    # -- hardship -------------------------------------------------------------------

    def suffer(self, fault: str, begin: Callable[[], Any], end: Callable[[Any], None]) -> "Plight":
        """Begin something under which promises are suspended; `end()` of it ends it."""
        self.faults[fault] += 1
        self.hardships += 1
        return Plight(self, begin(), end)

    def isolated(self, names: list[str], fault: str = "isolated") -> "Plight":
        return self.suffer(fault, lambda: self.isolate(*names), self.network.heal)

    def paused(self, name: str) -> "Plight":
        self.is_age_blurred = True

        def end(_: Any) -> None:
            if name in self.members:
                self.resume(name)

        return self.suffer("paused", lambda: self.pause(name), end)

    def slowed(self, name: str, lag_us: int) -> "Plight":
        self.is_age_blurred = True

        def end(_: Any) -> None:
            if name in self.members:
                self.slow(name, 0)

        return self.suffer("slow", lambda: self.slow(name, lag_us), end)

    def calm_for_us(self) -> int:
        """Return how long nobody has been slow, stopped or out of reach."""
        return 0 if self.hardships else self.now_us - self.hardship_end_us


class Plight:
    """A hardship that lasts until `end` is called."""

    def __init__(self, pool: Pool, token: Any, end: Callable[[Any], Any]) -> None:
        self._pool = pool
        self._token = token
        self._end: Callable[[Any], Any] | None = end

    def end(self) -> None:
        if self._end is None:
            return
        self._end(self._token)
        self._end = None
        self._pool.hardships -= 1
        self._pool.hardship_end_us = self._pool.now_us


def draw_link(rng: random.Random) -> LinkModel:
    """Return a network: often clean, sometimes lossy, jittery, repeating itself."""
    link = LinkModel(latency_us=1_024, jitter_us=rng.choice((4_000, 4_000, 20_000, 100_000)))
    if rng.random() < 0.5:
        link = msgspec.structs.replace(link, loss=rng.choice((0.01, 0.05, 0.1, 0.2, 0.3)))
    if rng.random() < 0.3:
        link = msgspec.structs.replace(link, duplication=rng.choice((0.01, 0.1)))
    return link
