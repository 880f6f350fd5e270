"""What one machine believes of all members: a byte each.

The byte is the member's key where that is below 255 (incarnations up to 62), 255 where
the key lies in a side table, and 0 for a member never heard of: incarnations begin at 1,
so no key is 0. A pool of 10,000 machines in one process is 100 million such bytes.
"""

import random
import sys
from array import array
from collections.abc import Callable
from typing import Final

from gossip.directory import Directory
from gossip.messages import ALIVE, DEAD, LEFT, STATUS_BITS, STATUS_MASK, SUSPECT, Identity
from gossip.views import STATUSES, MemberView

UNKNOWN: Final = 0
ESCAPE: Final = 255

BUCKETS: Final = 256
_MASK_64: Final = (1 << 64) - 1

_IS_ACCUSED: Final = (0, 1, 1, 0)  # by status

# byte -> 1 where a live member of at most that status stands behind it for certain
_PLAIN: Final = tuple(
    bytes(STATUS_MASK < b < ESCAPE and b & STATUS_MASK <= min(status, SUSPECT) for b in range(256))
    for status in (ALIVE, SUSPECT, DEAD, LEFT)
)

# byte -> 1 where a member of at most that status may stand behind it
_ELIGIBLE: Final = tuple(
    bytes(b == ESCAPE or (b > STATUS_MASK and b & STATUS_MASK <= status) for b in range(256))
    for status in (ALIVE, SUSPECT, DEAD, LEFT)
)


class Table:
    """Keys, identities and departure times by ordinal.

    Invariants: `active` counts the members ALIVE or SUSPECT, this one included; `dead`
    counts the DEAD; `accused` the SUSPECT and the DEAD; `gone_us` holds exactly the
    DEAD and LEFT, the longest gone first; while `is_whole` is true, every ordinal up to the length
    of `keys` is a member ALIVE or SUSPECT.
    """

    __slots__ = (
        "_hashes",
        "_identities",
        "_large",
        "_summary",
        "accused",
        "active",
        "dead",
        "directory",
        "gone_us",
        "identity",
        "is_whole",
        "keys",
        "size",
    )

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.keys = bytearray(len(directory))  # grows, but is this one object for ever
        self._large: dict[int, int] = {}
        # only where this machine believes another identity than the directory's
        self._identities: dict[int, Identity] = {}
        # the identity behind an ordinal: straight from the directory, where we differ from nobody
        self.identity: Callable[[int], Identity] = directory.identity
        self._summary = array("Q", bytes(8 * BUCKETS))
        self.gone_us: dict[int, int] = {}
        self.size = 0
        self.active = 0
        self.dead = 0
        self.accused = 0
        self.is_whole = False

    # -- reading --------------------------------------------------------------------

    def find(self, name: str) -> int:
        """Return the ordinal of a member this machine knows, or -1."""
        ordinal = self.directory.ordinals.get(name)
        if ordinal is None or ordinal >= len(self.keys) or self.keys[ordinal] == UNKNOWN:
            return -1
        return ordinal

    def key(self, ordinal: int) -> int:
        code = self.keys[ordinal]
        return code if code != ESCAPE else self._large[ordinal]

    def _own_identity(self, ordinal: int) -> Identity:
        own = self._identities.get(ordinal)
        return self.directory.identity(ordinal) if own is None else own

    def _choose_identity(self) -> None:
        self.identity = self._own_identity if self._identities else self.directory.identity

    def view(self, ordinal: int) -> MemberView:
        identity, key = self.identity(ordinal), self.key(ordinal)
        return MemberView(
            identity.name,
            identity.address,
            identity.meta,
            STATUSES[key & STATUS_MASK],
            key >> STATUS_BITS,
        )

    def ordinals(self) -> list[int]:
        """Return all known members, in the order of their numbers."""
        return [ordinal for ordinal, code in enumerate(self.keys) if code]

    # -- changing -------------------------------------------------------------------

    def add(self, identity: Identity, key: int, now_us: int) -> int:
        """Enter a member that was unknown; return its ordinal."""
        ordinal = self.directory.acquire(identity)
        if ordinal >= len(self.keys):
            # to the directory's length at once: machines that share it grow together
            self.keys.extend(bytes(len(self.directory) - len(self.keys)))
        assert self.keys[ordinal] == UNKNOWN, f"{identity.name} is known already"
        self.size += 1
        self.set_identity(ordinal, identity)
        self.put(ordinal, key, now_us)
        return ordinal

    def adopt(self, other: "Table") -> None:
        """Believe all that `other` believes, and nothing else; it must know all whom we know.

        The caller keeps the directory's count of uses of what is adopted.
        """
        assert self.directory is other.directory, "ordinals mean something in one directory"
        for ordinal in self.ordinals():
            assert ordinal < len(other.keys) and other.keys[ordinal], "a member would be lost"
            self.directory.release(ordinal)
        self.keys[:] = other.keys
        self._large = dict(other._large)
        self._identities = dict(other._identities)
        self._choose_identity()
        self._summary = other._summary[:]
        self.gone_us = dict(other.gone_us)
        self.size, self.active = other.size, other.active
        self.dead, self.accused, self.is_whole = other.dead, other.accused, other.is_whole

    def put(self, ordinal: int, key: int, now_us: int) -> None:
        """Set a member's key; counts, times and summary follow."""
        old = self.key(ordinal)
        was = old & STATUS_MASK if old else LEFT
        status = key & STATUS_MASK
        name_hash = self.directory.hashes[ordinal]
        mixed = 0
        if was < DEAD:
            self.active -= 1
            mixed = _mix(name_hash, old)
        elif was == DEAD:
            self.dead -= 1
        if status < DEAD:
            self.active += 1
            mixed ^= _mix(name_hash, key)
            if was >= DEAD:
                self.gone_us.pop(ordinal, None)
        else:
            self.dead += status == DEAD
            if was < DEAD or ordinal not in self.gone_us:
                self.gone_us[ordinal] = now_us
        self._summary[name_hash % BUCKETS] ^= mixed
        self.accused += _IS_ACCUSED[status] - _IS_ACCUSED[was]
        if key < ESCAPE:
            self.keys[ordinal] = key
            if old >= ESCAPE:
                del self._large[ordinal]
        else:
            self.keys[ordinal] = ESCAPE
            self._large[ordinal] = key
        self.is_whole = self.active == len(self.keys)

    def set_identity(self, ordinal: int, identity: Identity) -> None:
        if identity == self.directory.identities[ordinal]:
            self._identities.pop(ordinal, None)
        else:
            self._identities[ordinal] = identity
        self._choose_identity()

    def forget(self, ordinal: int) -> None:
        """Drop a member that is DEAD or LEFT."""
        key = self.key(ordinal)
        assert key & STATUS_MASK >= DEAD, "only the departed are forgotten"
        self.dead -= key & STATUS_MASK == DEAD
        self.accused -= key & STATUS_MASK == DEAD
        self.size -= 1
        self.keys[ordinal] = UNKNOWN
        self._large.pop(ordinal, None)
        self._identities.pop(ordinal, None)
        self._choose_identity()
        del self.gone_us[ordinal]
        self.directory.release(ordinal)

    # -- choosing -------------------------------------------------------------------

    def sample(
        self,
        rng: random.Random,
        count: int,
        *,
        skip: tuple[int, ...],
        status_max: int,
        gone_after_us: int | None = None,
    ) -> list[int]:
        """Return up to `count` distinct random members.

        Args:
            skip: Ordinals that must not be drawn.
            status_max: The worst status that may be drawn.
            gone_after_us: Of the departed, draw only those who left after that time.
        """
        chosen: list[int] = []
        keys, is_plain = self.keys, _PLAIN[status_max]
        draw, length = rng.random, len(keys)
        for _ in range(3 * count + 10):
            ordinal = int(draw() * length)
            if ordinal in skip or ordinal in chosen:
                continue
            if not is_plain[keys[ordinal]]:
                key = self.key(ordinal)
                status = key & STATUS_MASK
                if key == UNKNOWN or status > status_max:
                    continue
                if status >= DEAD and gone_after_us is not None:
                    if self.gone_us[ordinal] < gone_after_us:
                        continue
            chosen.append(ordinal)
            if len(chosen) == count:
                return chosen
        if len(chosen) < self.active - 1:
            self._scan(chosen, count, skip, min(status_max, SUSPECT), int(draw() * length))
        return chosen

    def _scan(
        self, chosen: list[int], count: int, skip: tuple[int, ...], status_max: int, start: int
    ) -> None:
        """Fill `chosen` in order from a random start: most draws met the departed."""
        marks = self.keys.translate(_ELIGIBLE[status_max])
        length = len(marks)
        for low, high in ((start, length), (0, start)):
            at = marks.find(1, low, high)
            while at >= 0 and len(chosen) < count:
                if self.key(at) & STATUS_MASK <= status_max and at not in skip and at not in chosen:
                    chosen.append(at)
                at = marks.find(1, at + 1, high)

    # -- summaries ------------------------------------------------------------------

    def summary(self) -> bytes:
        """Return 8 bytes a bucket: equal where the members ALIVE or SUSPECT are equal.

        The departed don't count: one machine forgets them earlier than another.
        """
        return _little_endian(self._summary).tobytes()

    def bucket(self, ordinal: int) -> int:
        return self.directory.hashes[ordinal] % BUCKETS


SUMMARY_BYTES: Final = 8 * BUCKETS


def differing_buckets(ours: bytes, theirs: bytes) -> bytes:
    """Return the numbers of the buckets in which two summaries differ, a byte each."""
    if ours == theirs:
        return b""
    return bytes(
        bucket
        for bucket in range(BUCKETS)
        if ours[8 * bucket : 8 * bucket + 8] != theirs[8 * bucket : 8 * bucket + 8]
    )


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers


def _mix(name_hash: int, key: int) -> int:
    """Return 64 well-spread bits of a member's name and key, to be combined by xor."""
    # the hash is random already; an odd factor loses none of it, and no two keys of one
    # member are alike
    return name_hash * (2 * key + 1) & _MASK_64
