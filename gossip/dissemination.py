"""The queue of rumours (SWIM, section 4.1): each is sent a bounded number of times.

Those sent least often go first, and of these the newest. One rumour per subject is current.

As long as all of them fit into one packet, which is nearly always, every packet carries the same:
they stand in a line, and how often one was sent is how many packets went out since it joined. When
there are too many they lie in tiers by how often they were sent; a superseded one stays in its
tier and is skipped when it comes up.

Refused: tiers alone. A storm at its usual size then moves each rumour of each member from list to
list for every packet, and a tenth of all its time goes there.
"""

import math
from bisect import bisect_right
from operator import attrgetter
from typing import Final

import msgspec

from gossip.messages import UPDATE_BYTES_MIN, Update

LINE_MAX: Final = 256  # a packet holds no more

_SIZE_BYTES: Final = attrgetter("size_bytes")


def retransmit_limit(multiplier: int, members: int) -> int:
    """Return how often one rumour is sent in a pool of `members` (SWIM, section 4.1)."""
    return multiplier * max(1, math.ceil(math.log10(members + 1)))


class Rumours:
    """Invariants: `current[name]` is in the line, and then there are no tiers, or in exactly one
    tier, once; `_stale` counts all others that lie in tiers; `_joined` ascends, one entry for each
    of `_line`; no current rumour is larger than `_largest_bytes`.
    """

    __slots__ = (
        "_joined",
        "_largest_bytes",
        "_limit",
        "_line",
        "_multiplier",
        "_packed",
        "_sent",
        "_stale",
        "_superseded",
        "_tiers",
        "current",
    )

    def __init__(self, retransmit_multiplier: int) -> None:
        self._multiplier = retransmit_multiplier
        self._limit = retransmit_multiplier
        self._line: list[Update] = []  # the oldest first
        self._joined: list[int] = []  # `_sent` when each of them had not been sent yet
        self._sent = 0  # packets that carried the line, ever
        self._packed: tuple[Update, ...] | None = None  # the line as a packet carries it
        self._tiers: list[list[Update]] = []
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
        if not self.current:
            self._largest_bytes = UPDATE_BYTES_MIN
        if len(self._line) >= LINE_MAX:
            self._sort_into_tiers()
        if self._tiers:
            update = self._add_to_tiers(update, previous)
        else:
            if previous is not None:
                place = self._line.index(previous)
                del self._line[place], self._joined[place]
            self._line.append(update)
            self._joined.append(self._sent)
            self._packed = None
        self.current[update.name] = update
        if update.size_bytes > self._largest_bytes:  # noqa: PLR1730 -- as cheap as it gets
            self._largest_bytes = update.size_bytes

    def _add_to_tiers(self, update: Update, previous: Update | None) -> Update:
        """Return the object that is current from now on."""
        if not self._stale:
            self._superseded.clear()
        elif update.name in self._superseded:
            # Believed once, outbid, and believed again after the member was forgotten: the
            # very same object may still lie in a tier, where it must stay superseded.
            update = msgspec.structs.replace(update)
        if previous is not None:
            self._superseded.add(update.name)
            self._stale += 1
        self._tiers[0].append(update)
        if self._stale > len(self.current) + 64:
            self._compact()
        return update

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
        queued = len(self.current)
        if not queued:
            return [()] * copies
        if queued <= parts and queued * self._largest_bytes <= room_bytes:
            if self._tiers:
                self._line_up()
            return self._take_line(copies)
        if not self._tiers:
            self._sort_into_tiers()
        return self._take_from_tiers(copies, room_bytes, parts)

    # -- all fit into a packet ------------------------------------------------------

    def _take_line(self, copies: int) -> list[tuple[Update, ...]]:
        packed = self._packed
        if packed is None:
            packed = self._packed = tuple(self._line[::-1])
        before, joined = self._sent, self._joined
        self._sent = sent = before + copies
        if sent - joined[0] < self._limit:
            return [packed] * copies
        # the oldest end with one of these packets, which need not be the last
        count = len(packed)
        packets = [
            packed[: count - bisect_right(joined, before + copy - self._limit)]
            for copy in range(copies)
        ]
        ended = bisect_right(joined, sent - self._limit)
        for update in self._line[:ended]:
            del self.current[update.name]
        del self._line[:ended], joined[:ended]
        self._packed = packed[: count - ended]
        return packets

    def _line_up(self) -> None:
        """All fit into a packet again: from tiers into the line."""
        for sent, tier in reversed([*enumerate(self._tiers)]):
            ready = [update for update in tier if self.current.get(update.name) is update]
            self._line += ready
            self._joined += [self._sent - sent] * len(ready)
        self._tiers = []
        self._stale = 0
        self._packed = None

    def _sort_into_tiers(self) -> None:
        """They are too many for a packet: from the line into tiers."""
        self._tiers = [[]]
        for update, joined in zip(self._line, self._joined, strict=True):
            self._append(self._sent - joined, [update])
        self._line, self._joined, self._packed = [], [], None

    # -- more than a packet holds ---------------------------------------------------

    def _take_from_tiers(
        self, copies: int, room_bytes: int, parts: int
    ) -> list[tuple[Update, ...]]:
        current = self.current
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

    def _put_back(self, sent: int, updates: list[Update]) -> None:
        if sent >= self._limit:
            for update in updates:
                del self.current[update.name]
        else:
            self._append(sent, updates)

    def _append(self, sent: int, updates: list[Update]) -> None:
        while len(self._tiers) <= sent:
            self._tiers.append([])
        self._tiers[sent] += updates

    def _compact(self) -> None:
        """Drop superseded rumours, so that a member with nobody to tell stays small."""
        for tier in self._tiers:
            tier[:] = [u for u in tier if self.current.get(u.name) is u]
        self._stale = 0
