"""`GossipMachine`: one member of one pool; the verbs that a host calls.

The host's contract
-------------------
* Call one verb at a time with the monotonic time in microseconds. After each call take
  `take_output()` and carry it out in order, unless `output` is NOTHING. Call `tick` when
  `deadline_us` is reached; an early or second tick is harmless.
* `output.packets`: send as datagrams; they may be lost.
* `output.exchanges`: open a stream, send the packet, and answer with exactly one
  `on_exchanged(exchange_id, reply or None)`, None on any failure or after `timeout_us`.
* A request that arrives on a stream goes to `on_exchange_request` under an id of the
  host's choice; the output of that very call carries exactly one reply under that id.
* Keep `snapshot()` on disk now and then, and hand it back as `known` after a restart.

Nothing here knows a clock, a socket or a thread. `rng` is the only source of chance.
"""

import itertools
import random
from collections.abc import Sequence
from typing import Final

from gossip import timers
from gossip.digests import Digests
from gossip.directory import Directory
from gossip.exchange import Exchanger
from gossip.local import Post
from gossip.membership import Admit
from gossip.messages import (
    ACK,
    ADDRESS_BYTES_MAX,
    ALIVE,
    DEAD,
    GOSSIP,
    META_BYTES_MAX,
    NACK,
    NAME_BYTES_MAX,
    PING,
    PING_REQUEST,
    STATUS_MASK,
    SUSPECT,
    SYNC_TABLE,
    Identity,
    Packet,
    meta_bytes,
    utf8_bytes,
)
from gossip.probe import Prober
from gossip.settings import Settings
from gossip.table import Table
from gossip.timers import FOREVER_US
from gossip.views import NOTHING, Counters, DigestView, MemberView, Output

REAP_INTERVAL_US: Final = 60_000_000
SNAPSHOT_MEMBERS_MAX: Final = 64


class GossipMachine(Prober):
    """One member of a pool. What it inherits is for its own parts; gossip.local says why.

    Args:
        name: Unique in the pool, at most 128 bytes.
        address: "host:port" under which others reach this member, by packet and stream.
        meta: What others shall know of it, at most 512 bytes encoded.
        settings: The pool's profile.
        rng: The only source of chance; nobody else may draw from it.
        now_us: Monotonic time, microseconds.
        known: (name, address) pairs of an earlier life, tried until somebody answers.
        admit: Asked about every member that is new or says something new of itself;
            returns "" or the reason why it is refused. Must be pure.
        directory: Shared by the machines of one pool in one process, to save memory.
        post: Called with each datagram at once, instead of laying it into the output; it
            must not call this machine. For hosts of thousands of machines.

    Raises:
        ValueError: name, address or meta is too long or the name is empty.
    """

    __slots__ = ("_digests", "_exchanger")

    def __init__(
        self,
        *,
        name: str,
        address: str,
        meta: dict[str, str],
        settings: Settings,
        rng: random.Random,
        now_us: int,
        known: Sequence[tuple[str, str]] = (),
        admit: Admit | None = None,
        directory: Directory | None = None,
        post: Post | None = None,
    ) -> None:
        identity = _checked_identity(name, address, meta)
        table = Table(Directory() if directory is None else directory)
        super().__init__(identity, settings, rng, table, post, admit, now_us)
        self._digests = Digests(self)
        self._exchanger = Exchanger(self, self._membership, self._digests, known)
        self._exchanger.start(now_us)
        self.arm(now_us + REAP_INTERVAL_US, timers.REAP)

    # -- what the owner asks for ----------------------------------------------------

    def join(self, addresses: Sequence[str], now_us: int) -> None:
        """Exchange tables with each address; the caller asks again if none answered."""
        self._exchanger.join(addresses, now_us)

    def leave(self, now_us: int) -> None:
        """Say farewell. Go on ticking until `is_left`, then stop."""
        if not self.is_leaving:
            self._membership.refutation.leave(now_us)

    def set_meta(self, meta: dict[str, str], now_us: int) -> None:
        """Tell the pool other metadata.

        Raises:
            ValueError: it is too long; nothing was changed.
        """
        mine = self.table.identity(self.me)
        if meta != mine.meta and not self.is_leaving:
            identity = _checked_identity(mine.name, mine.address, meta)
            self._membership.refutation.change_identity(identity, now_us)

    def force_leave(self, name: str, now_us: int) -> bool:
        """Make a dead member one that left: nobody tries to reach it any more.

        Returns:
            False when `name` is not known as dead; nothing was changed.
        """
        return self._membership.force_leave(name, now_us)

    def prune(self, name: str) -> bool:
        """Forget a member that is dead or left, before its tombstone's time.

        Returns:
            False when `name` is not known as such; nothing was changed.
        """
        return self._membership.prune(name)

    def publish_digest(
        self, origin: str, term: int, sequence: int, data: bytes, now_us: int
    ) -> None:
        """Spread an opaque record of `origin`; the newest (term, sequence) wins.

        Raises:
            ValueError: `data` has more than 1,000 bytes.
        """
        self._digests.publish(origin, term, sequence, data, now_us)

    # -- what happened --------------------------------------------------------------

    def on_packet(self, source: str, packet: Packet, now_us: int) -> None:
        """A datagram came from `source`, an address that an answer would reach."""
        if packet.updates:
            self._membership.absorb(packet.updates, now_us)
        kind = packet.kind
        if kind == PING:
            self._on_ping(source, packet)
        elif kind == ACK:
            self.on_ack(packet.sequence)
        else:
            self.others_received += 1
            if kind != GOSSIP:
                self._on_other(source, packet, now_us)
            elif packet.digests:
                self._digests.absorb(packet.digests, now_us)

    def _on_other(self, source: str, packet: Packet, now_us: int) -> None:
        kind = packet.kind
        if kind == PING_REQUEST:
            if not self.is_leaving:
                self.on_ping_request(source, packet, now_us)
        elif kind == NACK:
            self.on_nack(packet.sequence)
        else:
            self.tally.drop("unknown_kind")

    def _on_ping(self, source: str, packet: Packet) -> None:
        name = self.name
        if packet.target != name:
            # meant for somebody who had this address before us
            self.others_received += 1
            self.tally.drop("wrong_target")
            return
        updates = self.rumours_beside(packet.sender) if self.gossip_is_armed else ()
        if self.is_accusing:
            table = self.table
            sender = table.find(packet.sender)
            if sender >= 0 and table.key(sender) & STATUS_MASK in (SUSPECT, DEAD):
                # evidently it lives: let it hear what we hold against it, and refute
                updates = (self.accusation(sender), *updates)
        self.pings_answered += 1
        self.post(source, Packet(ACK, packet.sequence, name, "", updates))

    def on_exchange_request(
        self, exchange_id: int, source: str, packet: Packet, now_us: int
    ) -> None:
        """A request came on a stream; the output carries the reply."""
        if packet.kind != PING:
            reply = self._exchanger.answer(packet, now_us)
        elif packet.target == self.name:
            if packet.updates:
                self._membership.absorb(packet.updates, now_us)
            ours = (self._exchanger.own_row(),) if packet.updates else ()
            reply = Packet(ACK, packet.sequence, self.name, updates=ours)
        else:
            self.tally.drop("wrong_target")
            reply = Packet(NACK, packet.sequence, self.name)
        self.opened().replies.append((exchange_id, reply))

    def on_exchanged(self, exchange_id: int, packet: Packet | None, now_us: int) -> None:
        """Our own exchange ended, with the reply or None."""
        if self.on_probe_exchanged(exchange_id, packet):
            if packet is not None and packet.updates:
                self._membership.absorb(packet.updates, now_us)
        else:
            self._exchanger.on_exchanged(exchange_id, packet, now_us)

    def tick(self, now_us: int) -> None:
        """Do all that is due."""
        while (next_us := self.deadline_us) <= now_us:
            if next_us == self.probe_us:
                self.on_probe_due(next_us, now_us)
                continue
            if next_us == self.gossip_us:
                self._gossip(now_us)
                continue
            due_us, timer, argument = self.pop_timer()
            if timer == timers.PROBE_TIMEOUT:
                self.on_probe_timeout()
            elif timer == timers.SUSPICION:
                self._membership.on_suspicion_due(argument, due_us, now_us)
            elif timer == timers.RELAY:
                self.on_relay_timeout(argument)
            elif timer == timers.DIGEST:
                self._digests.on_interval(now_us)
            else:
                self._on_slow_timer(timer, due_us, now_us)

    def _on_slow_timer(self, timer: int, due_us: int, now_us: int) -> None:
        if self.is_leaving:
            return
        if timer == timers.EXCHANGE:
            self._exchanger.on_interval(due_us, now_us)
        elif timer == timers.RECONNECT:
            self._exchanger.on_reconnect(due_us, now_us)
        elif timer == timers.REAP:
            self._exchanger.remember(self._membership.reap(now_us))
            self._digests.on_reap(now_us)
            self.arm(now_us + REAP_INTERVAL_US, timers.REAP)

    def _gossip(self, now_us: int) -> None:
        """Tell rumours to a few members, the recently dead among them."""
        rumours, settings, table = self.rumours, self.settings, self.table
        if not rumours.current:
            self.gossip_is_armed = False
            self.arm_gossip(FOREVER_US)
            self._membership.rest()
            return
        targets = table.sample(
            self.rng,
            settings.gossip_fanout,
            skip=(self.me,),
            status_max=DEAD,
            gone_after_us=now_us - settings.gossip_to_dead_us,
        )
        packet: Packet | None = None
        identity, post = table.identity, self.post
        for target, updates in zip(targets, self.rumours_for(len(targets)), strict=True):
            carried = updates
            if table.dead and table.keys[target] & DEAD and table.key(target) & STATUS_MASK == DEAD:
                carried = (self.accusation(target), *updates)
            if packet is None or carried is not packet.updates:
                packet = Packet(GOSSIP, 0, self.name, "", carried)
            if carried:
                self.others_sent += 1
                post(identity(target).address, packet)
        self.arm_gossip(now_us + settings.gossip_interval_us)

    # -- reading --------------------------------------------------------------------

    def members(self) -> list[MemberView]:
        """Return all known members, this one included, ordered by name."""
        table = self.table
        return sorted((table.view(o) for o in table.ordinals()), key=lambda m: m.name)

    @property
    def member_count(self) -> int:
        """How many members are believed alive or suspect, this one included."""
        return self.table.active

    def member(self, name: str) -> MemberView | None:
        """Return one member, or None if it was never heard of or is forgotten."""
        ordinal = self.table.find(name)
        return None if ordinal < 0 else self.table.view(ordinal)

    def answered_by(self, address: str) -> str:
        """Return the name of who answered at an address given to `join`, "" while nobody did.

        The address may be a DNS name, and the name our own.
        """
        return self._exchanger.answered_by(address)

    def digests(self, now_us: int) -> list[DigestView]:
        """Return the newest record of every origin, ordered by origin."""
        return self._digests.views(now_us)

    def snapshot(self) -> list[tuple[str, str]]:
        """Return (name, address) of up to 64 members, for `known` of the next life.

        The live first; then those who died, the last one first, and those who are forgotten
        otherwise. To a member cut off from everybody all the others are dead, and if it
        restarts then, they are all it has.
        """
        table = self.table
        alive = (o for o in table.ordinals() if table.key(o) & STATUS_MASK == ALIVE)
        dead = (o for o in reversed(table.gone_us) if table.key(o) & STATUS_MASK == DEAD)
        found: dict[str, str] = {}
        for ordinal in itertools.islice(itertools.chain(alive, dead), SNAPSHOT_MEMBERS_MAX + 1):
            if ordinal != self.me:
                identity = table.identity(ordinal)
                found[identity.address] = identity.name
        for address, name in self._exchanger.remembered():
            found.setdefault(address, name)
        return [(name, address) for address, name in found.items()][:SNAPSHOT_MEMBERS_MAX]

    def take_output(self) -> Output:
        """Return what the host shall do since the last call; the host does not change it."""
        output, self.output = self.output, NOTHING
        return output

    @property
    def counters(self) -> Counters:
        tally = self.tally
        tally.probes = self.probes
        tally.packets_sent = self.packets_sent
        tally.packets_received = self.packets_received
        tally.updates_received = self.updates_received
        return tally

    @property
    def health_score(self) -> int:
        """0 is healthy; each point stretches our own probes by one more interval."""
        return self.stretch - 1

    @property
    def rumours_queued(self) -> int:
        return len(self.rumours.current)

    @property
    def is_left(self) -> bool:
        """Whether `leave` was called and the farewell was told often enough."""
        is_told = self.name not in self.rumours.current
        return self.is_leaving and (is_told or self.table.active == 0)


def settle(machines: Sequence[GossipMachine], now_us: int) -> None:
    """Make machines that were just built know each other, as if they had joined long ago.

    For hosts of whole pools: ten thousand joins are a hundred million rows to compare.
    The machines must share one directory and know nobody yet.
    """
    first, *others = machines
    rows = tuple(machine._exchanger.own_row() for machine in machines)
    first._exchanger.answer(Packet(SYNC_TABLE, updates=rows), now_us)
    table = first.table
    for machine in others:
        machine.table.adopt(table)
        machine.rumours.resize(table.active)
    table.directory.share(table.ordinals(), len(others))
    for machine in machines:
        machine._exchanger.spread_round(now_us)
        machine.take_output()


def _checked_identity(name: str, address: str, meta: dict[str, str]) -> Identity:
    if not name or utf8_bytes(name) > NAME_BYTES_MAX:
        raise ValueError(f"a member's name has 1 to {NAME_BYTES_MAX} bytes, not {name[:80]!r}")
    if not address or utf8_bytes(address) > ADDRESS_BYTES_MAX:
        raise ValueError(
            f"address of {name!r} must be host:port of at most {ADDRESS_BYTES_MAX} bytes, "
            f"not {address[:80]!r}"
        )
    if meta_bytes(meta) > META_BYTES_MAX:
        raise ValueError(
            f"metadata of {name!r} needs {meta_bytes(meta)} bytes; at most {META_BYTES_MAX} "
            "travel with every rumour: shorten it"
        )
    return Identity(name, address, dict(meta))
