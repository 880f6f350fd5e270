"""Failure detection: one member probed each interval (SWIM, sections 3.1 and 4.3)."""

from math import gcd

from gossip import timers
from gossip.local import Local
from gossip.membership import Membership
from gossip.messages import (
    ACK,
    ALIVE,
    DEAD,
    NACK,
    PING,
    PING_REQUEST,
    STATUS_MASK,
    SUSPECT,
    Packet,
)
from gossip.table import ESCAPE
from gossip.timers import FOREVER_US


class Walk:
    """Who is probed next: every member once a round, in random order.

    Section 4.3 shuffles a list; a random stride that shares no factor with the number of
    members visits all of them as well, and needs no list. Who joins during a round is
    met in the next one, so a failure is first probed within two rounds.
    """

    __slots__ = ("_left", "_length", "_local", "_position", "_stride")

    def __init__(self, local: Local) -> None:
        self._local = local
        self._length = 0
        self._left = 0
        self._position = 0
        self._stride = 1

    def next(self) -> int:
        """Return the ordinal of the next member to probe, or -1 when there is none."""
        table = self._local.table
        if table.active <= 1:
            return -1
        keys = table.keys
        steps = self._left + len(keys)  # this round's rest and one whole round meet everybody
        while steps:
            steps -= 1
            if not self._left:
                self._begin_round(len(keys))
            self._left -= 1
            position = self._position + self._stride
            if position >= self._length:
                position -= self._length
            self._position = position
            code = keys[position]
            if code == ESCAPE:
                code = table.key(position)
            if code and code & STATUS_MASK < DEAD and position != self._local.me:
                return position
        return -1

    def _begin_round(self, length: int) -> None:
        draw = self._local.rng.random
        stride = 1 + int(draw() * (length - 1))
        while gcd(stride, length) != 1:
            stride += 1
        self._stride = stride % length
        self._position = int(draw() * length)
        self._length = self._left = length


class Prober:
    """The probe cycle of this member, and the probes it makes for others.

    A cycle is one interval, stretched by local health: PING; at the timeout PING_REQUEST
    through others and a PING over a stream; at the end, without an ACK, suspicion.

    Invariant: at most one probe is open; its end is the next PROBE timer.
    """

    __slots__ = (
        "_awareness",
        "_doubts",
        "_is_acked",
        "_is_doubted",
        "_is_late",
        "_local",
        "_membership",
        "_nacks",
        "_nacks_due",
        "_relays",
        "_sequence",
        "_stream_exchange",
        "_table",
        "_target_name",
        "_timers",
        "_walk",
        "probes",
    )

    def __init__(self, local: Local, membership: Membership) -> None:
        self._local = local
        self._membership = membership
        self._doubts = membership.doubts
        self._table = local.table
        self._timers = local.timers
        self._awareness = local.awareness
        self._walk = Walk(local)
        self.probes = 0  # our own, ever
        self._is_acked = True
        self._is_doubted = False  # the open probe is of a name that another address claimed
        self._is_late = False  # the present interval began late: our own timing is in doubt
        self._sequence = -1
        self._target_name = ""
        self._nacks = 0
        self._nacks_due = 0
        self._stream_exchange = -1
        # sequence of our probe for another -> (its address, its sequence)
        self._relays: dict[int, tuple[str, int]] = {}

    def start(self, now_us: int) -> None:
        phase_us = int(self._local.rng.random() * self._local.settings.probe_interval_us)
        self._local.timers.arm_probe(now_us + phase_us)

    # -- our own probes -------------------------------------------------------------

    def on_interval(self, due_us: int, now_us: int) -> None:
        """Judge the open probe and start the next."""
        local, table = self._local, self._table
        settings = local.settings
        if local.is_leaving:
            self._timers.arm_probe(FOREVER_US)
            return
        awareness = self._awareness
        # Asleep or starved, we may have the answer in a queue unread: then the fault is ours,
        # and nobody is accused. Each such interval makes the next one longer, until a quarter of a
        # timeout is more than we are late: an answer has to pass a helper's process as well.
        late_us = now_us - due_us
        self._is_late = is_late = late_us * 4 > settings.probe_timeout_us * (awareness.score + 1)
        if not self._is_acked:
            self._judge(now_us, is_late=is_late)
        elif is_late:
            awareness.add(1)
        stretch = awareness.score + 1
        end_us = now_us + settings.probe_interval_us * stretch
        target = self._membership.doubtful() if self._doubts else -1
        self._is_doubted = target >= 0
        if target < 0:
            target = self._walk.next()
        if target < 0:
            self._is_acked = True
            self._timers.arm_probe(end_us)
            return
        local.sequence = self._sequence = sequence = local.sequence + 1
        timeout_us = now_us + settings.probe_timeout_us * stretch
        self._timers.arm_probe(end_us, timeout_us, sequence)
        identity = table.identity(target)
        name = self._target_name = identity.name
        self._is_acked = False
        self._nacks_due = 0
        self._stream_exchange = -1
        updates = local.rumours_beside(name, name) if local.gossip_is_armed else ()
        if table.accused and table.key(target) & STATUS_MASK == SUSPECT and settings.buddy:
            # the suspect hears it from its prober at once (Lifeguard, "Buddy System")
            updates = (local.accusation(target), *updates)
        self.probes += 1
        local.packets_sent += 1
        local.post(identity.address, Packet(PING, sequence, local.name, name, updates))

    def on_timeout(self, sequence: int, now_us: int) -> None:
        """No answer in time: ask through others, and over a stream (SWIM, section 3.1)."""
        if self._is_acked or sequence != self._sequence:
            return
        local = self._local
        settings = local.settings
        target = local.table.find(self._target_name)
        if target < 0:
            return
        identity = local.table.identity(target)
        # Whether it lives where *we* believe it, only we can find out: helpers may know
        # the address that it moved to, and would vouch for it for ever.
        helpers = [] if self._is_doubted else local.table.sample(
            local.rng, settings.indirect_probes, skip=(local.me, target), status_max=ALIVE
        )  # fmt: skip
        self._nacks, self._nacks_due = 0, len(helpers)
        for helper in helpers:
            updates = local.rumours_beside(identity.name)
            local.send(
                local.table.identity(helper).address,
                Packet(PING_REQUEST, sequence, local.name, identity.name, updates=updates),
            )
        if settings.stream_fallback:
            rest_us = settings.probe_interval_us - settings.probe_timeout_us
            self._stream_exchange = local.exchange(
                identity.address,
                Packet(PING, sequence, local.name, identity.name),
                rest_us * (local.awareness.score + 1),
            )

    def _judge(self, now_us: int, *, is_late: bool) -> None:
        local = self._local
        local.counters.probes_failed += 1
        # Others who did not even send a nack show that it is our own link that is bad
        # (Lifeguard, "LHA-Probe").
        missing = max(0, self._nacks_due - self._nacks) if self._nacks_due else 1
        local.awareness.add(max(missing, is_late))
        if not is_late:
            self._membership.suspect(self._target_name, now_us)

    def on_ack(self, sequence: int) -> None:
        if sequence == self._sequence:
            if not self._is_acked:
                self._is_acked = True
                self._timers.drop_timeout()
                if self._awareness.score and not self._is_late:
                    self._awareness.add(-1)
            return
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            address, their_sequence = relay
            local = self._local
            local.send(
                address,
                Packet(ACK, their_sequence, local.name, updates=local.rumours_beside()),
            )

    def on_nack(self, sequence: int) -> None:
        if sequence == self._sequence and self._nacks < self._nacks_due:
            self._nacks += 1

    def on_exchanged(self, exchange_id: int, packet: Packet | None) -> bool:
        """Take the end of a stream probe; return whether the exchange was one."""
        if exchange_id != self._stream_exchange or exchange_id < 0:
            return False
        self._stream_exchange = -1
        if packet is not None and packet.kind == ACK and packet.sequence == self._sequence:
            if not self._is_acked:
                self._local.counters.stream_fallbacks += 1
            self.on_ack(packet.sequence)
        return True

    # -- probes for others ----------------------------------------------------------

    def on_request(self, source: str, packet: Packet, now_us: int) -> None:
        """Probe `packet.target` for `source`; a NACK follows if it does not answer."""
        local = self._local
        if len(self._relays) >= local.settings.relays_max:
            local.counters.drop("too_many_relays")
            return
        target = local.table.find(packet.target)
        if target < 0:
            local.counters.drop("unknown_target")
            return
        sequence = local.next_sequence()
        self._relays[sequence] = (source, packet.sequence)
        updates = local.rumours_beside(packet.target)
        local.send(
            # as we know it: nobody may aim our probes at an address that is no member's
            local.table.identity(target).address,
            Packet(PING, sequence, local.name, packet.target, updates=updates),
        )
        # at 80% of what the asker still waits: the nack has to be there in time
        settings = local.settings
        rest_us = min(
            settings.probe_timeout_us, settings.probe_interval_us - settings.probe_timeout_us
        )
        local.timers.arm(now_us + rest_us * 4 // 5, timers.RELAY, sequence)

    def on_relay_timeout(self, sequence: int) -> None:
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            address, their_sequence = relay
            self._local.send(address, Packet(NACK, their_sequence, self._local.name))
