"""Time, and what lies between the datacenters of one simulated federation.

Time is in microseconds of nobody's clock; each datacenter has a wall clock and a rate of
its own. A call between datacenters is encoded as the agents encode it, and may be lost,
doubled, held up for a minute, or overtaken; so may its answer. Inside a datacenter calls
between its servers always arrive. All randomness comes from the seed.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import digest as digests
from core.model.host import Call, Peer

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter, ServerHost
    from sim.federation.watch import Watch

S: Final = 1_000_000
BEGIN_US: Final = 1_800_000_000 * S  # the wall clock at time zero
SILENT_US: Final = 25 * S  # gossip counts whom it has not heard for so long as dead
RARE: Final = 5  # calls about claims are few: so many times as often they are late and doubled
EVENTS_MAX: Final = 600_000  # of a seed; many times what one needs

Reply = Callable[[Any, str], None]


class World:
    """Datacenters by id, and the network."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"federation/{seed}/network")
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.faults: Counter[str] = Counter()
        self.situations: Counter[str] = Counter()
        self.datacenters: dict[str, Datacenter] = {}
        self.watch: Watch
        self.is_quiet = False  # everything is healed, for good
        self.loss = self.duplication = 0.0
        self.straggling = 0.0  # share of messages that are held up for long
        self.delay_us = (1_000, 60_000)
        self.extra_delay_us: dict[tuple[str, str], int] = {}
        self.cut: dict[tuple[str, str], None] = {}
        self.alone: dict[str, None] = {}  # datacenters that are cut off for long
        self.resting: dict[str, None] = {}  # names of jobs whose users wait
        self.read: dict[str, None] = {}  # regions whose lists somebody reads
        self.lying: dict[str, None] = {}  # datacenters whose digests say nonsense
        self._newest: dict[tuple[str, str], int] = {}  # number of the last message that came
        self._sent = 0

    # --- time -------------------------------------------------------------------------

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_us + delay_us, action, *arguments)

    def at(self, moment_us: int, action: Callable[..., None], *arguments: Any) -> None:
        self.events += 1
        heapq.heappush(self._queue, (moment_us, self.events, action, arguments))

    def run_for(self, duration_us: int) -> None:
        end_us = self.now_us + duration_us
        queue = self._queue
        while queue and queue[0][0] <= end_us:
            moment_us, _, action, arguments = heapq.heappop(queue)
            self.now_us = max(self.now_us, moment_us)
            action(*arguments)
            if self.events > EVENTS_MAX:
                self.watch.fail("never settled", f"{EVENTS_MAX} events: it runs in circles")
        self.now_us = end_us

    # --- who is there -------------------------------------------------------------------

    def region(self, name: str) -> Iterator["Datacenter"]:
        return (one for one in self.datacenters.values() if one.region == name)

    def is_cut(self, sender: str, to: str) -> bool:
        return (sender, to) in self.cut or sender in self.alone or to in self.alone

    # --- calls ------------------------------------------------------------------------------

    def call(self, caller: "ServerHost", effect: Call) -> None:
        """Carry a call to the server that its address names, and the answer back."""
        source = caller.datacenter
        to_id, _, number = effect.address.partition("/")
        to = self.datacenters[to_id]
        life = caller.life
        wire = msgspec.msgpack.encode(effect.body)
        is_over = False

        def done(body: Any, error: str) -> None:
            nonlocal is_over
            if not is_over and caller.life == life:
                is_over = True
                caller.on_call_done(effect.call_id, body, error)

        def arrive() -> None:
            host = to.servers[int(number)]
            if not host.is_up:
                self._transmit(to, source, lambda: done(None, "unreachable: refused"))
                return
            host.on_request(effect.method, msgspec.msgpack.decode(wire), peer, answer)

        def answer(body: Any, error: str) -> None:
            packed = msgspec.msgpack.encode(body)
            self._transmit(to, source, lambda: done(msgspec.msgpack.decode(packed), error))

        rarity = RARE if effect.method.startswith("Claim.") else 1
        peer = Peer(
            name=f"{source.name}.{source.region}", role="server",
            datacenter_id=source.id, address=caller.address, is_proven=True,
        )  # fmt: skip
        self.after(effect.timeout_us, lambda: done(None, "timeout"))
        self._transmit(source, to, arrive, rarity)

    def _transmit(
        self, sender: "Datacenter", to: "Datacenter", arrive: Callable[[], None], rarity: int = 1
    ) -> None:
        """Bring one message over: late, twice, out of order, or not at all."""
        rng = self.rng
        if sender is to:
            self.after(rng.randint(200, 2_000), arrive)
            return
        copies = 1
        if self.duplication and rng.random() < min(0.5, self.duplication * rarity):
            copies = 2
            self.faults["message duplicated"] += 1
        for _ in range(copies):
            if self.loss and rng.random() < self.loss:
                self.faults["message lost"] += 1
                continue
            delay_us = rng.randint(*self.delay_us)
            extra_us = self.extra_delay_us.get((sender.id, to.id), 0)
            if extra_us:
                delay_us += rng.randrange(extra_us)
                self.faults["message delayed"] += 1
            if self.straggling and rng.random() < min(0.5, self.straggling * rarity):
                delay_us += rng.randrange(40 * S)
                self.faults["message held up for long"] += 1
            self._sent += 1
            self._deliver(sender.id, to.id, delay_us, self._sent, arrive)

    def _deliver(
        self, sender: str, to: str, delay_us: int, number: int, arrive: Callable[[], None]
    ) -> None:
        def land() -> None:
            # A cut stops what is on its way as well: the connection is gone.
            if self.is_cut(sender, to):
                self.faults["message cut off"] += 1
                return
            newest = self._newest.get((sender, to), 0)
            if number < newest:
                self.faults["message reordered"] += 1
            self._newest[sender, to] = max(newest, number)
            arrive()

        self.after(delay_us, land)

    # --- gossip -----------------------------------------------------------------------------

    def publish(self, origin: "Datacenter", term: int, sequence: int, data: bytes) -> None:
        """Let the others hear a digest, those that are not cut off."""
        if origin.id in self.lying:
            data = self._lie(data)
            self.faults["lying digest"] += 1
        for other in self.datacenters.values():
            if other is not origin and other.is_up and not self.is_cut(origin.id, other.id):
                other.heard[origin.id] = (term, sequence, data, self.now_us)

    def _lie(self, data: bytes) -> bytes:
        told = digests.decode(data)
        assert told is not None
        rng = self.rng
        room = digests.Room() if rng.random() < 0.5 else digests.Room(1 << 20, 1 << 20, 1 << 20)
        classes = [
            msgspec.structs.replace(
                one,
                free=room,
                slot_free=room,
                grid=bytes(rng.randrange(256) for _ in one.grid),
                nodes=rng.choice((0, 1, 10_000)),
            )
            for one in told.classes
        ]
        return digests.encode(
            msgspec.structs.replace(
                told,
                classes=classes,
                queue_depth=rng.randrange(1_000),
                oldest_s=rng.randrange(1_000),
                is_draining=rng.random() < 0.1,
            )
        )

    # --- healing ------------------------------------------------------------------------------

    def heal_network(self) -> None:
        self.cut.clear()
        self.extra_delay_us.clear()

    def mend(self) -> None:
        """End every fault, for good."""
        self.is_quiet = True
        self.loss = self.duplication = self.straggling = 0.0
        self.delay_us = (1_000, 20_000)
        self.lying.clear()
        self.alone.clear()
        self.heal_network()
        for one in self.datacenters.values():
            one.mend()
