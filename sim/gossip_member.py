"""A host of one gossip machine on virtual time: what gossip.host is on trio."""

import itertools
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gossip.inbound import Inbound
from gossip.local import Post
from gossip.machine import GossipMachine
from gossip.messages import Packet
from gossip.settings import Settings
from gossip.timers import FOREVER_US
from gossip.views import NOTHING, MemberEvent, Output
from gossip.wire import decode, encode
from sim.network import Network, Place, Station
from sim.wheel import HORIZON_US, Wheel

REGION: Final = "sim"
FATES_MAX: Final = 16_384
PATIENCE: Final = 48  # nearly all probes are answered within a 48th of their timeout
SOON_US: Final = 1_024  # no slot is longer
NEAR_US: Final = HORIZON_US // 2
NEVER_US: Final = -1  # a tick armed for then is not due ever

OnEvent = Callable[[int, str, MemberEvent], None]  # time, host of the observer, event
OnDigest = Callable[[int, str, str], None]  # time, host of the observer, origin


Flight = tuple["Member", "Member", Any]  # from, to, a packet or its bytes


def draw_fates(network: Network) -> Iterator[Iterable[int]]:
    """Yield, in batches, what befalls one datagram after another: its delay in microseconds, or
    -1 if it is lost. From the 16,385th on they come again in the same order: to draw costs more
    than all else that is done to a datagram.
    """
    drawn: list[int] = []
    while len(drawn) < FATES_MAX:
        fates_us = network.draw_fates()[:]
        drawn += fates_us
        yield fates_us
    again = array("i", drawn)
    yield from itertools.repeat(again)


class Surroundings:
    """What all members of a world share."""

    __slots__ = (
        "_timeouts",
        "arrive",
        "by_address",
        "bytes",
        "fates_us",
        "hand_over",
        "is_once",
        "is_wire",
        "largest_bytes",
        "network",
        "on_digest",
        "on_event",
        "sender",
        "stations",
        "timeout_us",
        "wheel",
    )

    def __init__(
        self,
        wheel: Wheel,
        network: Network,
        on_event: OnEvent,
        on_digest: OnDigest,
        *,
        timeout_us: int,
        is_wire: bool,
    ) -> None:
        """`timeout_us` is how long most probes of most members wait."""
        self.wheel = wheel
        self.network = network
        self.stations = network.stations
        self.timeout_us = timeout_us
        self.on_event = on_event
        self.on_digest = on_digest
        self.is_wire = is_wire
        self.by_address: dict[str, Member] = {}  # those that run
        # called with each datagram's flight; `GossipWorld.observe` puts itself before it
        self.arrive: Callable[[Flight], None] = self.deliver
        self.hand_over = network.hand_over
        self.fates_us = itertools.chain.from_iterable(draw_fates(network))
        # the last probes whose timeout is the usual one, in the order of their timeouts
        self._timeouts: deque[tuple[int, Member]] = deque()
        # whether a datagram that is not lost arrives once
        self.is_once = not network.lan.duplication
        # of the packet that came last: most go back to where one came from
        self.sender: Member | None = None
        self.bytes = 0  # of datagrams and streams; counted with `is_wire` only
        self.largest_bytes = 0  # of a datagram

    def deliver(self, flight: Flight) -> None:
        """End the flight of a datagram between two members: as `Network.hand_over` and
        `Member.receive` do together, without the calls between where nothing is out of order.
        """
        here, there, packet = flight
        if not there.is_plain or self.network.is_broken:
            self.hand_over(flight)
            return
        self.sender = here
        machine = there.machine
        machine.on_packet(here.name, packet, self.wheel.now_us)
        if machine.output is not NOTHING or machine.deadline_us < there.armed_us:
            there.carry_out()

    def expect(self, timeout_us: int, member: "Member") -> None:
        """Let a member look at its probe at the timeout, `self.timeout_us` from now, if it is
        still open then.

        Nearly all are answered long before. So they wait in a queue of their own for a moment,
        and only those that are open then get a place on the wheel.
        """
        if not self._timeouts:
            self.wheel.after(self.timeout_us // PATIENCE, self._look_at_timeouts)
        self._timeouts.append((timeout_us, member))

    def _look_at_timeouts(self, _: Any) -> None:
        timeouts, patience_us = self._timeouts, self.timeout_us // PATIENCE
        until_us = self.wheel.now_us + self.timeout_us - patience_us
        while timeouts:
            timeout_us, member = timeouts[0]
            if timeout_us > until_us:
                self.wheel.after(patience_us, self._look_at_timeouts)
                return
            timeouts.popleft()
            if member.machine.timeout_us == timeout_us and member.armed_us != NEVER_US:
                member.carry_out()  # arms it


class Touched(Station):
    """What each packet and each tick of a member touches, side by side, as gossip.local has it."""

    __slots__ = ("_lag_us", "armed_us", "around", "is_plain", "machine", "wheel")


class Member(Touched):
    """One life of one member: a machine, and what its host keeps for it.

    Invariant: the wheel holds a tick of it at `armed_us`, unless that is FOREVER_US, or
    NEVER_US because it is paused or was killed; ticks at other times mean nothing.
    """

    __slots__ = (
        "_backlog",
        "_exchanges",
        "_missed",
        "host",
        "is_running",
        "member_name",
        "pool",
        "settings",
    )

    def __init__(
        self,
        around: Surroundings,
        host: str,
        name: str,
        address: str,
        pool: str,
        settings: Settings,
    ) -> None:
        super().__init__(Place(REGION, pool, address))
        self.host = host
        self.member_name = name
        self.pool = pool
        self.settings = settings
        self.machine: GossipMachine  # set by `begin`
        self.armed_us = FOREVER_US
        self.is_running = True
        self.around = around
        self.wheel = around.wheel
        self.is_plain = not around.is_wire  # and neither slow nor paused nor stopped
        self._lag_us = 0
        self._backlog: Inbound | None = None  # only of one that is paused
        self._exchanges: set[int] = set()  # ids that await their one answer
        # ends of exchanges that fell into a pause
        self._missed: list[tuple[int, Packet | None]] = []

    def begin(self, machine: GossipMachine) -> None:
        """Run a machine that sends by `poster()`."""
        self.machine = machine
        self.around.network.connect(self)
        self.around.by_address[self.address] = self
        self.carry_out()

    def poster(self) -> Post:
        if self.around.is_wire:
            return self._post_bytes
        return self.post if self.around.is_once else super().post

    @property
    def address(self) -> str:
        return self.name  # as a station

    @property
    def is_paused(self) -> bool:
        return self._backlog is not None

    # -- what befalls it ------------------------------------------------------------

    def stop(self) -> None:
        """End without a word."""
        self.is_running = self.is_plain = False
        self.armed_us = NEVER_US
        self.is_up = False
        del self.around.by_address[self.address]

    def pause(self) -> None:
        """Handle nothing; packets wait, as many as the inbound queue holds."""
        if self._backlog is None:
            self.armed_us = NEVER_US
            self._backlog = Inbound()
            self.is_plain = False

    def resume(self) -> None:
        """Go on: timers first, then what lay in the queue."""
        backlog, self._backlog = self._backlog, None
        self._set_plain()
        self.armed_us = FOREVER_US
        self.machine.tick(self.around.wheel.now_us)
        self.carry_out()
        missed, self._missed = self._missed, []
        for exchange_id, packet in missed:
            self._end_exchange(exchange_id, packet)
        while backlog:
            _, source, packet = backlog.pop()
            self._handle(source, packet)

    def slow(self, lag_us: int) -> None:
        """Handle all packets and timers so much too late."""
        self._lag_us = lag_us
        self._set_plain()

    def _set_plain(self) -> None:
        around = self.around
        self.is_plain = self.is_running and not (
            around.is_wire or self._lag_us or self._backlog is not None
        )

    # -- timers ---------------------------------------------------------------------

    def carry_out(self) -> None:
        """Do what the machine wants, and arm its next tick."""
        machine = self.machine
        if machine.output is not NOTHING:
            self._carry_out(machine.take_output())
        if machine.deadline_us < self.armed_us:
            self._arm(machine.deadline_us)

    def _arm(self, due_us: int) -> None:
        at_us = due_us + self._lag_us
        if at_us < self.armed_us:
            self.armed_us = at_us = max(at_us, self.wheel.now_us)
            self.wheel.at(at_us, _tick, self)

    def tick(self) -> None:
        """Do what is due, unless this tick is of a life that ended, or of a time that was
        armed before an earlier one.
        """
        wheel = self.wheel
        now_us = wheel.now_us
        if self.armed_us != now_us:
            return
        machine, lag_us = self.machine, self._lag_us
        if machine.deadline_us <= now_us - lag_us:
            machine.tick(now_us)
            if machine.output is not NOTHING:
                self._carry_out(machine.take_output())
        # else the timer was dropped since; the next one
        due_us = machine.deadline_us
        if lag_us:
            due_us += lag_us
        around = self.around
        if due_us == machine.timeout_us and due_us - now_us == around.timeout_us:
            around.expect(due_us, self)
            due_us = machine.after_timeout_us()
        if self.armed_us == now_us:  # neither stopped nor paused by what it said
            self.armed_us = due_us
            if SOON_US <= due_us - now_us <= NEAR_US:
                wheel.soon(due_us - now_us, _tick, self)
            else:
                wheel.at(due_us, _tick, self)

    def _carry_out(self, output: Output) -> None:
        around = self.around
        now_us = around.wheel.now_us
        for event in output.events:
            around.on_event(now_us, self.host, event)
        for origin in output.digest_changes:
            around.on_digest(now_us, self.host, origin)
        for exchange_id, address, packet, timeout_us in output.exchanges:
            self._begin_exchange(exchange_id, address, packet, timeout_us)

    # -- datagrams ------------------------------------------------------------------

    def _post_bytes(self, address: str, packet: Packet) -> None:
        around = self.around
        data = encode(packet, label=self.pool)
        around.bytes += len(data)
        around.largest_bytes = max(around.largest_bytes, len(data))
        self.post(address, data)

    def post(self, target: str, body: Any) -> None:
        """Send a datagram: as `Station.post` does, without the calls between where nothing is
        out of order.
        """
        around, network = self.around, self.network
        sender = around.sender
        if sender is not None and target is sender.name and sender.is_up:
            there: Station | None = sender
        else:
            there = around.stations.get(target)
        if there is None or network.is_broken:
            super().post(target, body)
            return
        delay_us = next(around.fates_us)
        if delay_us < 0:
            network.lose_one("post/loss")
        else:
            around.wheel.soon(delay_us, around.arrive, (self, there, body))

    def receive(self, here: Station, body: Any) -> None:
        packet = decode(body, label=self.pool) if self.around.is_wire else body
        if self._backlog is not None or self._lag_us:
            self._receive_late(here.name, packet)
        else:
            self._handle(here.name, packet)

    def _receive_late(self, source: str, packet: Packet) -> None:
        if self._backlog is not None:
            self._backlog.put(self.pool, source, packet)
        else:
            self._later(lambda _: self._handle(source, packet))

    def _handle(self, source: str, packet: Packet) -> None:
        if self._backlog is not None:
            self._backlog.put(self.pool, source, packet)
        elif self.is_running:
            self.machine.on_packet(source, packet, self.around.wheel.now_us)
            self.carry_out()

    def _later(self, function: Callable[[Any], None]) -> None:
        self.around.wheel.after(self._lag_us, function)

    # -- streams --------------------------------------------------------------------

    def _begin_exchange(
        self, exchange_id: int, address: str, packet: Packet, timeout_us: int
    ) -> None:
        around = self.around
        self._exchanges.add(exchange_id)
        around.wheel.after(timeout_us, lambda _: self._end_exchange(exchange_id, None))
        request = self._through_wire(packet)

        def refused(_: Any) -> None:
            self._end_exchange(exchange_id, None)

        def arrived(_: Any) -> None:
            member = around.by_address.get(address)
            # stopped, it lets the stream hang until the asker gives up
            if member is not None and not member.is_paused:
                member.answer(self, exchange_id, request)

        around.network.stream(self.address, address, arrived, refused, None)

    def answer(self, asker: "Member", exchange_id: int, request: Packet) -> None:
        """A request came on a stream."""
        if self._lag_us:
            self._later(lambda _: self._answer(asker, exchange_id, request))
        else:
            self._answer(asker, exchange_id, request)

    def _answer(self, asker: "Member", exchange_id: int, request: Packet) -> None:
        if not self.is_running or self.is_paused:
            return
        around = self.around
        self.machine.on_exchange_request(exchange_id, asker.address, request, around.wheel.now_us)
        output = self.machine.take_output()
        (_, reply), *others = output.replies
        assert not others, "one request has one reply"
        reply = self._through_wire(reply)
        around.network.stream(
            self.address,
            asker.address,
            lambda _: asker._end_exchange(exchange_id, reply),
            lambda _: None,
            None,
        )
        self._carry_out(output)
        self.carry_out()

    def _end_exchange(self, exchange_id: int, reply: Packet | None) -> None:
        if not self.is_running or exchange_id not in self._exchanges:
            return
        if self.is_paused:
            # who was stopped that long has its own timeouts behind it when it goes on
            self._missed.append((exchange_id, reply))
            return
        self._exchanges.remove(exchange_id)
        self.machine.on_exchanged(exchange_id, reply, self.around.wheel.now_us)
        self.carry_out()

    def _through_wire(self, packet: Packet) -> Packet:
        around = self.around
        if not around.is_wire:
            return packet
        data = encode(packet, label=self.pool, is_stream=True)
        around.bytes += len(data)
        return decode(data, label=self.pool)


_tick: Final = Member.tick  # looked up at each of ten thousand ticks a second
