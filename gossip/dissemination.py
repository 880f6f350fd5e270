"""The queue of rumours (SWIM, section 4.1): each is sent a bounded number of times.

Rumours lie in tiers by how often they were sent; the least sent go first, the newest of
a tier before the older. One rumour per subject is current. A superseded one stays in its
tier and is skipped when it comes up.
"""

import math
from operator import attrgetter
from typing import Final

import msgspec

from gossip.messages import UPDATE_BYTES_MIN, Update

_SIZE_BYTES: Final = attrgetter("size_bytes")


def retransmit_limit(multiplier: int, members: int) -> int:
    """Return how often one rumour is sent in a pool of `members` (SWIM, section 4.1)."""
    return multiplier * max(1, math.ceil(math.log10(members + 1)))


class Rumours:
    """Invariants: `current[name]` is in exactly one tier, once; `_stale` counts all others;
    no current one is larger than `_largest_bytes`.
    """

    __slots__ = (
        "_largest_bytes",
        "_limit",
        "_multiplier",
        "_stale",
        "_superseded",
        "_tiers",
        "current",
    )

    def __init__(self, retransmit_multiplier: int) -> None:
        self._multiplier = retransmit_multiplier
        self._limit = retransmit_multiplier
        self._tiers: list[list[Update]] = [[]]
        self._stale = 0
        self._superseded: set[str] = set()  # of whom a tier may hold what is not current
        self._largest_bytes = UPDATE_BYTES_MIN
        self.current: dict[str, Update] = {}

    def resize(self, members: int) -> None:
        """Set how often a rumour is sent in a pool of `members`."""
        self._limit = retransmit_limit(self._multiplier, members)

    def add(self, update: Update) -> None:
        """Queue `update` as unsent, in place of any other about the same member."""
        previous = self.current.get(update.name)
        if previous is update:
            return
        if not self._stale:
            self._superseded.clear()
        elif update.name in self._superseded:
            # Believed once, outbid, and believed again after the member was forgotten: the
            # very same object may still lie in a tier, where it must stay superseded.
            update = msgspec.structs.replace(update)
        if previous is not None:
            self._superseded.add(update.name)
            self._stale += 1
        elif not self.current:
            self._largest_bytes = UPDATE_BYTES_MIN
        self._largest_bytes = max(self._largest_bytes, update.size_bytes)
        self.current[update.name] = update
        self._tiers[0].append(update)
        if self._stale > len(self.current) + 64:
            self._compact()

    def take(self, room_bytes: int, parts: int) -> tuple[Update, ...]:
        """Return what one packet shall carry, and count it as sent once more.

        Args:
            room_bytes: Bytes left in the packet.
            parts: Parts left in the packet.
        """
        return self.take_copies(1, room_bytes, parts)[0]

    def take_copies(self, copies: int, room_bytes: int, parts: int) -> list[tuple[Update, ...]]:
        """Return what each of some packets to different members shall carry.

        That is the same for all, but for a rumour whose limit ends with an earlier one.
        """
        current = self.current
        if not current:
            return [()] * copies
        queued = len(current)
        if queued <= parts and queued * self._largest_bytes <= room_bytes:
            return self._take_all(copies)
        taken: list[tuple[int, list[Update]]] = []  # (how often it was sent, rumours)
        for sent, tier in enumerate(self._tiers):
            while tier and parts and room_bytes >= UPDATE_BYTES_MIN:
                # so many fit for sure; a large one may keep others from that
                count = min(len(tier), parts, room_bytes // self._largest_bytes) or 1
                chosen = tier[: -count - 1 : -1]
                if self._stale:
                    chosen = [update for update in chosen if current.get(update.name) is update]
                used_bytes = sum(map(_SIZE_BYTES, chosen))
                if used_bytes > room_bytes:
                    break
                self._stale -= count - len(chosen)  # not before they are gone from the tier
                del tier[-count:]
                room_bytes -= used_bytes
                parts -= len(chosen)
                taken.append((sent, chosen))
        for sent, chosen in taken:
            self._put_back(sent + copies, chosen)
        if not taken or taken[-1][0] + copies <= self._limit:
            return [tuple(update for _, chosen in taken for update in chosen)] * copies
        return [
            tuple(u for sent, chosen in taken if sent + copy < self._limit for u in chosen)
            for copy in range(copies)
        ]

    def _take_all(self, copies: int) -> list[tuple[Update, ...]]:
        """As `take_copies`, when all that is queued fits into one packet."""
        current, tiers, limit = self.current, self._tiers, self._limit
        chosen: list[Update] = []
        packets: list[tuple[Update, ...]] = []
        for sent, tier in enumerate(tiers):
            if not tier:
                continue
            if self._stale:
                tier[:] = [update for update in tier if current.get(update.name) is update]
            tier.reverse()
            if sent + copies > limit:
                # these end with an earlier packet than the last
                packets = packets or [tuple(chosen)] * copies
                for copy in range(limit - sent):
                    packets[copy] += tuple(tier)
            chosen += tier
        self._stale = 0
        for tier in tiers[max(0, limit - copies) :]:
            for update in tier:
                del current[update.name]
        del tiers[max(0, limit - copies) :]
        tiers[:0] = [[] for _ in range(copies)]
        return packets or [tuple(chosen)] * copies

    def _put_back(self, sent: int, updates: list[Update]) -> None:
        if sent >= self._limit:
            for update in updates:
                del self.current[update.name]
            return
        while len(self._tiers) <= sent:
            self._tiers.append([])
        self._tiers[sent] += updates

    def _compact(self) -> None:
        """Drop superseded rumours, so that a member with nobody to tell stays small."""
        for tier in self._tiers:
            tier[:] = [u for u in tier if self.current.get(u.name) is u]
        self._stale = 0
