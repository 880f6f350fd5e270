"""Failure detection: one member probed each interval (SWIM, sections 3.1 and 4.3)."""

import random
from math import gcd
from typing import Final

from gossip.local import Local, Post
from gossip.membership import Admit, Membership
from gossip.messages import (
    ACK,
    ALIVE,
    DEAD,
    NACK,
    PING,
    PING_REQUEST,
    STATUS_MASK,
    SUSPECT,
    Identity,
    Packet,
)
from gossip.settings import Settings
from gossip.table import ESCAPE, Table
from gossip.timers import FOREVER_US, RELAY

ANSWERED: Final = -1  # no probe's sequence


class Walk(Local):
    """Who is probed next: every member once a round, in random order.

    Section 4.3 shuffles a list; a random stride that shares no factor with the number of
    members visits all of them as well, and needs no list. Who joins during a round is
    met in the next one, so a failure is first probed within two rounds.
    """

    __slots__ = ()  # its fields are among those of `Touched`

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        rng: random.Random,
        table: Table,
        post: Post | None,
        now_us: int,
    ) -> None:
        super().__init__(identity, settings, rng, table, post, now_us)
        self._keys = table.keys
        self._length = 1
        self._end = 0  # the position at which the round ends
        self._position = 0
        self._stride = 1

    def next_target(self) -> int:
        """Return the ordinal of the next member to probe, or -1 when there is none."""
        position = self._position
        if position != self._end:
            # the usual step, to one who lives; LEFT has the bit of DEAD
            self._position = position = (position + self._stride) % self._length
            if self.table.is_whole and position != self.me:
                return position
            key = self._keys[position]
            if key == ESCAPE:
                key = self.table.key(position)
            if key and not key & DEAD and position != self.me:
                return position
        return self._seek()

    def _seek(self) -> int:
        """As `next_target`, when one step does not do."""
        table = self.table
        if table.active <= 1:
            return -1
        # what is left of this round and one whole round meet everybody
        for _ in range(2 * len(self._keys)):
            if self._position == self._end:
                self._begin_round(len(self._keys))
            self._position = position = (self._position + self._stride) % self._length
            key = table.key(position)
            if key and not key & DEAD and position != self.me:
                return position
        return -1

    def _begin_round(self, length: int) -> None:
        draw = self.rng.random
        stride = 1 + int(draw() * (length - 1))
        while gcd(stride, length) != 1:
            stride += 1
        self._stride = stride % length
        self._end = int(draw() * length)
        self._position = self._end - length  # before it, by a whole round
        self._length = length


class Prober(Walk):
    """The probe cycle of this member, and the probes it makes for others.

    A cycle is one interval, stretched by local health: PING; at the timeout PING_REQUEST
    through others and a PING over a stream; at the end, without an ACK, suspicion.

    Invariant: at most one probe is open, that of `_open`; it ends with the period, at `probe_us`.
    """

    __slots__ = (
        "_doubted",
        "_membership",
        "_nacks",
        "_nacks_due",
        "_relayed",
        "_relays",
        "_stream_exchange",
    )

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        rng: random.Random,
        table: Table,
        post: Post | None,
        admit: Admit | None,
        now_us: int,
    ) -> None:
        super().__init__(identity, settings, rng, table, post, now_us)
        self._membership = Membership(self, admit, now_us)
        self._open = ANSWERED  # sequence of the open probe
        self._doubted = -1  # sequence of the last probe of a name that another address claimed
        self._is_late = False  # the present interval began late: our own timing is in doubt
        self._target_name = ""
        self._nacks = 0
        self._nacks_due = 0
        self._stream_exchange = -1
        # sequence of our probe for another -> (its address, its sequence)
        self._relays: dict[int, tuple[str, int]] = {}
        self._relayed = self.sequence  # plus the probes for others, ever
        self.arm_period(now_us + int(rng.random() * settings.probe_interval_us))

    # -- our own probes -------------------------------------------------------------

    def on_probe_due(self, due_us: int, now_us: int) -> None:
        """Judge the open probe and start the next."""
        if self.is_leaving:
            self.arm_period(FOREVER_US)
            return
        settings = self.settings
        # Asleep or starved, we may have the answer in a queue unread: then the fault is ours,
        # and nobody is accused. Each such interval makes the next one longer, until a quarter of a
        # timeout is more than we are late: an answer has to pass a helper's process as well.
        self._is_late = is_late = (
            now_us > due_us and (now_us - due_us) * 4 > settings.probe_timeout_us * self.stretch
        )
        if self._open != ANSWERED:
            self._judge(now_us, is_late=is_late)
        elif is_late:
            self.doubt_timing(1)
        stretch = self.stretch
        end_us = now_us + settings.probe_interval_us * stretch
        if self.has_doubts and (target := self._membership.doubtful()) >= 0:
            self._doubted = self.sequence + 1
        else:
            target = self.next_target()
        if target < 0:
            self._open = ANSWERED
            self.arm_period(end_us)
            return
        self.sequence = self._open = sequence = self.sequence + 1
        timeout_us = now_us + settings.probe_timeout_us * stretch
        self.arm_probe(end_us, timeout_us)
        table = self.table
        identity = table.identity(target)
        name = self._target_name = identity.name
        updates = self.rumours_beside(name, name) if self.gossip_is_armed else ()
        if self.is_accusing and table.key(target) & STATUS_MASK == SUSPECT and settings.buddy:
            # the suspect hears it from its prober at once (Lifeguard, "Buddy System")
            updates = (self.accusation(target), *updates)
        self.post(identity.address, Packet(PING, sequence, self.name, name, updates))

    def on_probe_timeout(self) -> None:
        """No answer in time: ask through others, and over a stream (SWIM, section 3.1)."""
        sequence, settings, table = self._open, self.settings, self.table
        self._nacks = self._nacks_due = 0
        target = table.find(self._target_name)
        if target < 0:
            return
        identity = table.identity(target)
        # Whether it lives where *we* believe it, only we can find out: helpers may know
        # the address that it moved to, and would vouch for it for ever.
        helpers = [] if sequence == self._doubted else table.sample(
            self.rng, settings.indirect_probes, skip=(self.me, target), status_max=ALIVE
        )  # fmt: skip
        self._nacks_due = len(helpers)
        for helper in helpers:
            updates = self.rumours_beside(identity.name)
            self.send(
                table.identity(helper).address,
                Packet(PING_REQUEST, sequence, self.name, identity.name, updates=updates),
            )
        if settings.stream_fallback:
            rest_us = settings.probe_interval_us - settings.probe_timeout_us
            # whom no datagram reaches can refute over the stream alone
            is_accused = table.key(target) & STATUS_MASK == SUSPECT and settings.buddy
            told = (self.accusation(target),) if is_accused else ()
            self._stream_exchange = self.exchange(
                identity.address,
                Packet(PING, sequence, self.name, identity.name, updates=told),
                rest_us * self.stretch,
            )

    def _judge(self, now_us: int, *, is_late: bool) -> None:
        self.tally.probes_failed += 1
        # Others who did not even send a nack show that it is our own link that is bad
        # (Lifeguard, "LHA-Probe").
        missing = max(0, self._nacks_due - self._nacks) if self._nacks_due else 1
        self.doubt_timing(max(missing, is_late))
        if not is_late:
            self._membership.suspect(self._target_name, now_us)

    def on_ack(self, sequence: int) -> None:
        if sequence == self._open:
            self._on_answer()
            return
        self.others_received += 1
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            address, their_sequence = relay
            self.send(
                address,
                Packet(ACK, their_sequence, self.name, updates=self.rumours_beside()),
            )

    def _on_answer(self) -> None:
        """The target of the open probe lives."""
        self._open = ANSWERED
        self.drop_timeout()
        if self.stretch > 1 and not self._is_late:
            self.doubt_timing(-1)

    def on_nack(self, sequence: int) -> None:
        if sequence == self._open and self._nacks < self._nacks_due:
            self._nacks += 1

    def on_probe_exchanged(self, exchange_id: int, packet: Packet | None) -> bool:
        """Take the end of a stream probe; return whether the exchange was one."""
        if exchange_id != self._stream_exchange or exchange_id < 0:
            return False
        self._stream_exchange = -1
        if packet is not None and packet.kind == ACK and packet.sequence == self._open:
            self.tally.stream_fallbacks += 1
            self._on_answer()
        return True

    # -- counting -------------------------------------------------------------------

    @property
    def probes(self) -> int:
        """Our own probes, ever."""
        return self.sequence - self._relayed

    @property
    def packets_sent(self) -> int:
        return self.probes + self.pings_answered + self.others_sent

    @property
    def packets_received(self) -> int:
        """All datagrams, ever: of the probes, all but those that failed or are open, and those
        that a stream answered first, had an ACK.
        """
        without_ack = self.tally.probes_failed + self.tally.stream_fallbacks
        without_ack += self._open != ANSWERED
        return self.probes - without_ack + self.pings_answered + self.others_received

    # -- probes for others ----------------------------------------------------------

    def on_ping_request(self, source: str, packet: Packet, now_us: int) -> None:
        """Probe `packet.target` for `source`; a NACK follows if it does not answer."""
        if len(self._relays) >= self.settings.relays_max:
            self.tally.drop("too_many_relays")
            return
        target = self.table.find(packet.target)
        if target < 0:
            self.tally.drop("unknown_target")
            return
        self._relayed += 1
        self.sequence = sequence = self.sequence + 1
        self._relays[sequence] = (source, packet.sequence)
        updates = self.rumours_beside(packet.target)
        self.send(
            # as we know it: nobody may aim our probes at an address that is no member's
            self.table.identity(target).address,
            Packet(PING, sequence, self.name, packet.target, updates=updates),
        )
        # at 80% of what the asker still waits: the nack has to be there in time
        settings = self.settings
        rest_us = min(
            settings.probe_timeout_us, settings.probe_interval_us - settings.probe_timeout_us
        )
        self.arm(now_us + rest_us * 4 // 5, RELAY, sequence)

    def on_relay_timeout(self, sequence: int) -> None:
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            address, their_sequence = relay
            self.send(address, Packet(NACK, their_sequence, self.name))
