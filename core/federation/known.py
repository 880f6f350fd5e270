"""What one server knows of the other datacenters beyond their digests.

    debits       what it has itself sent there since the digest was made: everybody who sees
                 the same digest would pick the same best one and overrun it
    trust        how often it was refused there lately: who lies in its digest, or is overrun
                 by others, is asked less and less, and forgiven with time
    news         the digest that came with a call or an answer, newer than what gossip brought,
                 and until when the same ask would be refused again
    round trips  measured now and then; until then, what the other side's digest says

Lost with a change of leader, and nothing rests on it but the order of questions.
"""

from typing import Final, NamedTuple

import msgspec

from core.federation import digest as digests
from core.federation.ask import Reading
from core.federation.digest import Digest, Room

# A job that was taken needs a moment until its room is gone from that datacenter's digest.
SETTLE_US: Final = 2_000_000
DEBIT_KEPT_US: Final = 90_000_000
_SLICE_US: Final = 1_000_000  # debits of one second are one
LATER_MAX_US: Final = 30_000_000
TRUST_HALF_LIFE_US: Final = 120_000_000
RATE_HALF_LIFE_US: Final = 41_588_831  # what decays so has a mean age of one minute


class Site(NamedTuple):
    """A datacenter as its newest digest shows it. `age_us` is None for our own: it is live."""

    digest: Digest
    term: int
    sequence: int
    age_us: int | None


class Tally:
    """A count that fades: what happened a half-life ago counts half."""

    __slots__ = ("_at_us", "_half_life_us", "_value")

    def __init__(self, half_life_us: int) -> None:
        self._half_life_us = half_life_us
        self._value = 0.0
        self._at_us = 0

    def add(self, now_us: int, amount: float = 1.0) -> None:
        self._value = self.value(now_us) + amount
        self._at_us = now_us

    def value(self, now_us: int) -> float:
        return float(self._value * 0.5 ** ((now_us - self._at_us) / self._half_life_us))


class Refusal(NamedTuple):
    """A datacenter's last word: not so much room, not before."""

    reason: str
    room: Room
    until_us: int


class _News(NamedTuple):
    digest: Digest
    at_us: int


class Known:
    """One server's own knowledge; one per coordinator. Times are its monotonic clock's."""

    def __init__(self) -> None:
        self._debits: dict[str, dict[int, Room]] = {}  # by datacenter, by slice of time
        self._asked: dict[str, Tally] = {}
        self._refused: dict[str, Tally] = {}
        self._news: dict[str, _News] = {}
        self._refusals: dict[str, Refusal] = {}
        self._trips_us: dict[str, int] = {}
        self._readings: dict[str, Reading] = {}  # by datacenter, of the digest judged last

    # --- what happened ----------------------------------------------------------------------

    def sent(self, datacenter_id: str, room: Room, now_us: int) -> None:
        """Note that work was sent there: it is taken off the digest until that shows it."""
        slices = self._debits.setdefault(datacenter_id, {})
        for old in [one for one in slices if one * _SLICE_US < now_us - DEBIT_KEPT_US]:
            del slices[old]
        at = now_us // _SLICE_US
        slices[at] = slices.get(at, Room()).plus(room)

    def answered(
        self,
        datacenter_id: str,
        *,
        took: bool,
        now_us: int,
        room: Room | None = None,
        digest: bytes = b"",
        reason: str = "",
        later_us: int = 0,
    ) -> None:
        """Note the answer to an ask.

        Args:
            room: What `sent` was told; given back by a refusal, and by a digest that counts it.
            digest: The fresh digest that came with the answer, as bytes; b"" = none.
            reason: Of a refusal.
            later_us: When to come back with an ask as large, from now; 0 = not said.
        """
        self._asked.setdefault(datacenter_id, Tally(TRUST_HALF_LIFE_US)).add(now_us)
        if not took:
            self._refused.setdefault(datacenter_id, Tally(TRUST_HALF_LIFE_US)).add(now_us)
            if room is not None:
                self._give_back(datacenter_id, room)
                if later_us > 0:
                    until_us = now_us + min(later_us, LATER_MAX_US)
                    self._refusals[datacenter_id] = Refusal(reason, room, until_us)
        news = digests.decode(digest) if digest else None
        if news is not None and news.datacenter_id == datacenter_id:
            self._news[datacenter_id] = _News(news, now_us)
            if took and room is not None:  # it was promised there: the digest counts it
                self._give_back(datacenter_id, room)

    def heard(self, digest: Digest, now_us: int) -> None:
        """Note the digest of a datacenter that called: newer than what gossip brought."""
        self._news[digest.datacenter_id] = _News(digest, now_us)

    def _give_back(self, datacenter_id: str, room: Room) -> None:
        slices = self._debits.get(datacenter_id, {})
        for at in sorted(slices, reverse=True):
            left = slices[at].minus(room)
            room = room.minus(slices[at])
            if left == Room():
                del slices[at]
            else:
                slices[at] = left
            if room == Room():
                return

    def measured(self, datacenter_id: str, trip_us: int) -> None:
        """Note a measured round trip: the newest counts a quarter."""
        known = self._trips_us.get(datacenter_id)
        self._trips_us[datacenter_id] = trip_us if known is None else (known * 3 + trip_us) // 4

    # --- what follows from it ---------------------------------------------------------------

    def newest(self, site: Site, now_us: int) -> Site:
        """Return the site with the digest that came with an answer, if that one is newer."""
        news = self._news.get(site.digest.datacenter_id)
        if news is None or site.age_us is None or now_us - news.at_us >= site.age_us:
            return site
        return site._replace(digest=news.digest, age_us=now_us - news.at_us)

    def reading(self, digest: Digest) -> Reading:
        """Return what was found of a digest so far."""
        kept = self._readings.get(digest.datacenter_id)
        if kept is None or kept.digest is not digest:
            kept = self._readings[digest.datacenter_id] = Reading(digest)
        return kept

    def refusal(self, datacenter_id: str, room: Room, now_us: int) -> Refusal | None:
        """Return the word of a datacenter that just refused no more than `room`."""
        said = self._refusals.get(datacenter_id)
        if said is None or said.until_us <= now_us:
            return None
        return said if room.largest(said.room) == room else None

    def taken(self, site: Site, now_us: int) -> Room:
        """Return what was sent to the site that its digest can't show yet."""
        total = Room()
        if site.age_us is None:
            return total
        shown_us = now_us - site.age_us - SETTLE_US
        for at, room in self._debits.get(site.digest.datacenter_id, {}).items():
            if (at + 1) * _SLICE_US > shown_us:
                total = total.plus(room)
        return total

    def trust(self, datacenter_id: str, now_us: int) -> float:
        """Return 1 for a datacenter that takes what it promises, towards 0 for a liar."""
        asked = self._asked.get(datacenter_id)
        refused = self._refused.get(datacenter_id)
        if asked is None or refused is None:
            return 1.0
        no, all_ = refused.value(now_us), asked.value(now_us)
        took = max(0.0, all_ - no)
        return (1 + took) / (1 + took + 3 * no)

    def trip_us(self, datacenter_id: str, digest: Digest, own_id: str) -> int | None:
        """Return the round trip to a datacenter, None while nobody has measured it."""
        if datacenter_id == own_id:
            return 0
        measured = self._trips_us.get(datacenter_id)
        return digests.trip_us(digest.round_trips, own_id) if measured is None else measured

    def trips_us(self) -> dict[str, int]:
        return dict(self._trips_us)


def merged_rate(digest: Digest) -> float:
    """Return which share of the jobs offered to a datacenter it says to have refused."""
    return digest.refused / max(digest.asked, digest.refused, 1)


class OfferCount(msgspec.Struct):
    """How many jobs were offered to this datacenter in the last minute, and refused."""

    asked: Tally = msgspec.field(default_factory=lambda: Tally(RATE_HALF_LIFE_US))
    refused: Tally = msgspec.field(default_factory=lambda: Tally(RATE_HALF_LIFE_US))

    def add(self, now_us: int, *, is_refused: bool) -> None:
        self.asked.add(now_us)
        if is_refused:
            self.refused.add(now_us)
