"""A queue of its own for one opaque record per origin; the newest (term, sequence) wins.

Records are large (hundreds of bytes) and soon outdated, so they don't compete with
rumours about members. A record's age travels with it: what a reader sees is the time it
lay in each member it passed, without any agreement of clocks.
"""

from gossip import timers
from gossip.dissemination import retransmit_limit
from gossip.local import ENVELOPE_BYTES, Local
from gossip.messages import (
    ADDRESS_BYTES_MAX,
    DIGEST_BYTES_MAX,
    GOSSIP,
    SUSPECT,
    Digest,
    Packet,
    utf8_bytes,
)
from gossip.views import DigestView


class _Entry:
    """Invariant: age at `now_us` is `now_us - born_us`; born_us may lie before our start."""

    __slots__ = ("born_us", "data", "sent", "sequence", "term")

    def __init__(self, term: int, sequence: int, data: bytes, born_us: int) -> None:
        self.term = term
        self.sequence = sequence
        self.data = data
        self.born_us = born_us
        self.sent = 0


class Digests:
    __slots__ = ("_entries", "_is_armed", "_local", "_queue")

    def __init__(self, local: Local) -> None:
        self._local = local
        self._entries: dict[str, _Entry] = {}
        self._queue: dict[str, None] = {}  # origins to be told further, in order of arrival
        self._is_armed = False

    def publish(self, origin: str, term: int, sequence: int, data: bytes, now_us: int) -> None:
        """Tell a record of our own.

        Raises:
            ValueError: it is too large for a packet; nothing was changed.
        """
        if len(data) > DIGEST_BYTES_MAX or utf8_bytes(origin) > ADDRESS_BYTES_MAX:
            raise ValueError(
                f"digest of {origin[:40]!r} has {len(data)} bytes; at most {DIGEST_BYTES_MAX} "
                f"fit into a packet, and {ADDRESS_BYTES_MAX} of its origin's name"
            )
        self._learn(Digest(origin, term, sequence, 0, data), now_us)

    def absorb(self, digests: tuple[Digest, ...], now_us: int) -> None:
        for digest in digests:
            self._learn(digest, now_us)

    def _learn(self, digest: Digest, now_us: int) -> None:
        local = self._local
        known = self._entries.get(digest.origin)
        if known is not None and (digest.term, digest.sequence) <= (known.term, known.sequence):
            return
        if digest.age_us > local.settings.digest_keep_us:
            local.tally.drop("digest_outdated")
            return
        if known is None and len(self._entries) >= local.settings.digest_origins_max:
            self._expire(now_us)
            if len(self._entries) >= local.settings.digest_origins_max:
                local.tally.drop("too_many_origins")
                return
        self._entries[digest.origin] = _Entry(
            digest.term, digest.sequence, digest.data, now_us - digest.age_us
        )
        self._queue.pop(digest.origin, None)
        self._queue[digest.origin] = None
        local.opened().digest_changes.append(digest.origin)
        if not self._is_armed:
            self._is_armed = True
            # a fresh record's first step is quick; the budget counts from the second on
            phase_us = int(local.rng.random() * local.settings.gossip_interval_us)
            local.arm(now_us + phase_us, timers.DIGEST)

    def on_interval(self, now_us: int) -> None:
        """Send the least told records to a few members; sleep when all are told."""
        local = self._local
        settings = local.settings
        self._is_armed = bool(self._queue)
        if not self._queue:
            return
        local.arm(now_us + settings.digest_interval_us, timers.DIGEST)
        targets = local.table.sample(
            local.rng, settings.gossip_fanout, skip=(local.me,), status_max=SUSPECT
        )
        for target in targets:
            address = local.table.identity(target).address
            for _ in range(settings.digest_packets):
                digests = self._take(now_us)
                if digests:
                    local.send(address, Packet(GOSSIP, sender=local.name, digests=digests))

    def _take(self, now_us: int) -> tuple[Digest, ...]:
        local = self._local
        room_bytes = local.settings.packet_bytes_max - ENVELOPE_BYTES - utf8_bytes(local.name)
        limit = retransmit_limit(local.settings.retransmit_multiplier, local.table.active)
        taken: list[Digest] = []
        for origin in sorted(self._queue, key=lambda o: self._entries[o].sent):
            entry = self._entries[origin]
            digest = _digest(origin, entry, now_us)
            if digest.size_bytes > room_bytes:
                break
            room_bytes -= digest.size_bytes
            taken.append(digest)
            entry.sent += 1
            if entry.sent >= limit:
                del self._queue[origin]
        return tuple(taken)

    def all(self, now_us: int) -> tuple[Digest, ...]:
        """Return all records, as they travel in a push-pull."""
        return tuple(_digest(o, e, now_us) for o, e in self._entries.items())

    def views(self, now_us: int) -> list[DigestView]:
        """Return all records, ordered by origin."""
        return [
            DigestView(origin, e.term, e.sequence, e.data, now_us - e.born_us)
            for origin, e in sorted(self._entries.items())
        ]

    def on_reap(self, now_us: int) -> None:
        self._expire(now_us)

    def _expire(self, now_us: int) -> None:
        horizon_us = now_us - self._local.settings.digest_keep_us
        for origin in [o for o, e in self._entries.items() if e.born_us < horizon_us]:
            del self._entries[origin]
            self._queue.pop(origin, None)
            self._local.opened().digest_changes.append(origin)


def _digest(origin: str, entry: _Entry, now_us: int) -> Digest:
    return Digest(origin, entry.term, entry.sequence, now_us - entry.born_us, entry.data)
