"""A pool of gossip machines on virtual time: what a host does, without sockets.

Time advances in whole milliseconds. Each slot is run in the order in which its events
were made, so equal seeds give equal runs.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush

from gossip.directory import Directory
from gossip.machine import GossipMachine
from gossip.messages import Packet
from gossip.settings import LAN, Settings
from gossip.timers import FOREVER_US
from gossip.views import MemberEvent, Status

MS = 1_000
S = 1_000_000


class Pool:
    """Machines by address; `is_cut(source, destination)` decides who hears whom."""

    def __init__(self, *, seed: int = 1, settings: Settings = LAN, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.settings = settings
        self.loss = loss
        self.directory = Directory()
        self.machines: dict[str, GossipMachine] = {}  # by address; only those that run
        self.paused: set[str] = set()
        self.now_us = 0
        self.events: list[tuple[int, str, MemberEvent]] = []  # time, observer, event
        self.digest_changes: list[tuple[int, str, str]] = []
        self.packets = 0
        self.streams = 0
        self.is_cut: Callable[[str, str], bool] | None = None
        self._slots: dict[int, list[tuple[Callable[..., None], tuple[object, ...]]]] = {}
        self._order: list[int] = []
        self._ticks: dict[str, int] = {}
        self._backlog: dict[str, list[tuple[Callable[..., None], tuple[object, ...]]]] = {}

    # -- members --------------------------------------------------------------------

    def add(self, name: str, address: str = "", **options: object) -> GossipMachine:
        address = address or f"{name}:4648"
        machine = GossipMachine(
            name=name,
            address=address,
            meta=options.pop("meta", {"role": "client"}),
            settings=options.pop("settings", self.settings),
            rng=random.Random(self.rng.getrandbits(64)),
            now_us=self.now_us,
            directory=options.pop("directory", self.directory),
            **options,
        )
        self.machines[address] = machine
        self._ticks.pop(address, None)
        self.do(address)
        return machine

    def start(self, count: int, settle_s: float = 10) -> list[str]:
        """Add `count` members that all join the first; return their names once they agree."""
        names = [f"m{i:04}" for i in range(count)]
        for name in names:
            self.add(name)
            if name != names[0]:
                self.do(f"{name}:4648", "join", [f"{names[0]}:4648"])
        self.run(settle_s)
        self.run_until(self.is_agreed, 60)
        return names

    def kill(self, name: str) -> None:
        del self.machines[f"{name}:4648"]

    def machine(self, name: str) -> GossipMachine:
        return self.machines[f"{name}:4648"]

    def do(self, address: str, verb: str = "", *arguments: object) -> object:
        """Call a verb of one machine now and carry out its output."""
        machine = self.machines[address]
        result = getattr(machine, verb)(*arguments, self.now_us) if verb else None
        self._carry_out(address, machine)
        return result

    # -- time -----------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now_us // MS + int(seconds * 1_000)
        order, slots = self._order, self._slots
        while order and order[0] <= end:
            slot = heappop(order)
            self.now_us = slot * MS
            for action, arguments in slots.pop(slot):
                action(*arguments)
        self.now_us = end * MS

    def run_until(self, condition: Callable[[], bool], within_s: float) -> float:
        """Run until `condition` holds; return the seconds it took."""
        start_us = self.now_us
        while not condition():
            elapsed_s = (self.now_us - start_us) / S
            assert elapsed_s < within_s, f"not within {within_s} s\n{self.story()}"
            self.run(0.1)
        return (self.now_us - start_us) / S

    def _at(self, slot: int, action: Callable[..., None], *arguments: object) -> None:
        events = self._slots.get(slot)
        if events is None:
            self._slots[slot] = [(action, arguments)]
            heappush(self._order, slot)
        else:
            events.append((action, arguments))

    # -- the host -------------------------------------------------------------------

    def _carry_out(self, address: str, machine: GossipMachine) -> None:
        output = machine.take_output()
        for destination, packet in output.packets:
            self._send(address, destination, packet)
        for exchange_id, destination, packet, timeout_us in output.exchanges:
            self._exchange(address, machine, exchange_id, destination, packet, timeout_us)
        for event in output.events:
            self.events.append((self.now_us, address, event))
        for origin in output.digest_changes:
            self.digest_changes.append((self.now_us, address, origin))
        due_us = machine.deadline_us
        if due_us < self._ticks.get(address, FOREVER_US):
            self._ticks[address] = due_us
            slot = max(-(-due_us // MS), self.now_us // MS + 1)
            self._at(slot, self._tick, address, machine, due_us)

    def _tick(self, address: str, machine: GossipMachine, due_us: int) -> None:
        if self.machines.get(address) is not machine or self._ticks[address] != due_us:
            return
        if address in self.paused:
            self._backlog.setdefault(address, []).append((self._tick, (address, machine, due_us)))
            return
        self._ticks[address] = FOREVER_US
        machine.tick(self.now_us)
        self._carry_out(address, machine)

    def _send(self, source: str, destination: str, packet: Packet) -> None:
        self.packets += 1
        draw = self.rng.random()
        if draw < self.loss or (self.is_cut is not None and self.is_cut(source, destination)):
            return
        # what is left of the draw gives the delay, 1 to 5 ms
        slot = self.now_us // MS + 1 + int(draw * 4_999) % 5
        self._at(slot, self._deliver, source, destination, packet)

    def _deliver(self, source: str, destination: str, packet: Packet) -> None:
        machine = self.machines.get(destination)
        if machine is None:
            return
        if destination in self.paused:
            self._backlog.setdefault(destination, []).append(
                (self._deliver, (source, destination, packet))
            )
            return
        machine.on_packet(source, packet, self.now_us)
        self._carry_out(destination, machine)

    def _exchange(
        self,
        source: str,
        machine: GossipMachine,
        exchange_id: int,
        destination: str,
        packet: Packet,
        timeout_us: int,
    ) -> None:
        self.streams += 1
        peer = self.machines.get(destination)
        if peer is None or destination in self.paused or self._is_stream_cut(source, destination):
            wait = timeout_us // MS if peer is not None else 3
            self._at(self.now_us // MS + wait, self._exchanged, source, machine, exchange_id, None)
            return
        self._at(
            self.now_us // MS + 6, self._request, source, machine, exchange_id, destination, packet
        )

    def _is_stream_cut(self, source: str, destination: str) -> bool:
        cut = self.is_cut
        return cut is not None and (cut(source, destination) or cut(destination, source))

    def _request(
        self,
        source: str,
        machine: GossipMachine,
        exchange_id: int,
        destination: str,
        packet: Packet,
    ) -> None:
        reply = None
        peer = self.machines.get(destination)
        if peer is not None:
            peer.on_exchange_request(exchange_id, source, packet, self.now_us)
            replies = peer._local.output.replies
            reply = replies[0][1] if replies else None
            self._carry_out(destination, peer)
        self._at(self.now_us // MS + 6, self._exchanged, source, machine, exchange_id, reply)

    def _exchanged(
        self, address: str, machine: GossipMachine, exchange_id: int, packet: Packet | None
    ) -> None:
        if self.machines.get(address) is machine:
            machine.on_exchanged(exchange_id, packet, self.now_us)
            self._carry_out(address, machine)

    def resume(self, name: str) -> None:
        """Wake a paused member: its timers first, then what lay in its socket."""
        address = f"{name}:4648"
        self.paused.discard(address)
        for action, arguments in self._backlog.pop(address, []):
            action(*arguments)

    # -- looking --------------------------------------------------------------------

    def statuses(self, name: str) -> set[str]:
        """What all running members believe of `name`."""
        views = (machine.member(name) for machine in self.machines.values())
        return {view.status if view else "unknown" for view in views}

    def is_agreed(self) -> bool:
        """Whether every running member believes exactly the running ones alive."""
        alive = sorted((m._local.name, a) for a, m in self.machines.items())
        tables = [
            [(v.name, v.address, v.incarnation) for v in m.members() if v.status == Status.ALIVE]
            for m in self.machines.values()
        ]
        return all(t == tables[0] for t in tables) and [t[:2] for t in tables[0]] == alive

    def story(self, last: int = 30) -> str:
        return "\n".join(
            f"{time / S:9.3f} {observer:14} {event.kind:10} {event.member.name} "
            f"{event.member.status}@{event.member.incarnation}"
            for time, observer, event in self.events[-last:]
        )
