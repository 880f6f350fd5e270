"""Packets, and what travels in them.

Inside a process packets pass as these objects; gossip.wire makes bytes of them at the
edge. All are immutable, so one object may sit in many queues and simulated networks, and
none is ever part of a cycle that the garbage collector had to find.

Sizes are worst-case encoded bytes, computed when the record is made. So a machine fills
a packet up to its limit without encoding anything.
"""

from typing import Final

import msgspec

NAME_BYTES_MAX: Final = 128
ADDRESS_BYTES_MAX: Final = 255
META_BYTES_MAX: Final = 512
DIGEST_BYTES_MAX: Final = 1_000
LABEL_BYTES_MAX: Final = 64
UPDATE_BYTES_MIN: Final = 25  # of one about a member whose name is a letter
INCARNATION_MAX: Final = 1 << 40

STATUS_BITS: Final = 2
STATUS_MASK: Final = 3

# The two lowest bits of a key. Their order is the order of precedence at equal
# incarnation (SWIM, section 4.2); `left` is final for its incarnation.
ALIVE: Final = 0
SUSPECT: Final = 1
DEAD: Final = 2
LEFT: Final = 3

# What a packet asks or answers. Plain numbers: an enum's members cost 100 ns a look.
PING: Final = 0  # datagram, or a stream's request: the fallback of a failed probe
ACK: Final = 1
PING_REQUEST: Final = 2  # "probe `target` for me"
NACK: Final = 3  # "I am well, but `target` does not answer me"
GOSSIP: Final = 4  # nothing but rumours
SYNC_TABLE: Final = 5  # stream: all I know; the answer is all you know
SYNC_SUMMARY: Final = 6  # stream: hashes of what I know, a bucket each
SYNC_DIFFERENCE: Final = 7  # answer to a summary: my rows of the buckets that differ
SYNC_ROWS: Final = 8  # stream: rows you lack; answered by SYNC_DONE
SYNC_DONE: Final = 9
KEYS: Final = 10  # stream: a question about the keyring, or its answer; gossip.rotation


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a member says it is. `meta` is never changed after construction."""

    name: str
    address: str  # "host:port"
    meta: dict[str, str]
    size_bytes: int = 0  # worst-case encoded size, set by the constructor

    def __post_init__(self) -> None:
        size = utf8_bytes(self.name) + utf8_bytes(self.address) + meta_bytes(self.meta) + 12
        msgspec.structs.force_setattr(self, "size_bytes", size)


class Update(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One claim about one member.

    Invariant: `identity` is given if and only if the status is ALIVE or the row belongs
    to a push-pull, where the other side may not know the member.
    """

    name: str
    key: int  # incarnation << 2 | status
    by: str  # who claims it: the accuser of a SUSPECT or DEAD; the member itself else
    identity: Identity | None
    size_bytes: int

    @property
    def incarnation(self) -> int:
        return self.key >> STATUS_BITS

    @property
    def status(self) -> int:
        return self.key & STATUS_MASK


class Digest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One opaque record of one origin, as it travels. The newest (term, sequence) wins."""

    origin: str
    term: int
    sequence: int
    age_us: int  # age when it was sent, by the sender's monotonic clock
    data: bytes

    @property
    def size_bytes(self) -> int:
        """Worst-case encoded size, bytes."""
        return utf8_bytes(self.origin) + len(self.data) + 40


class Packet(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One datagram, or one request or answer on a stream."""

    kind: int  # PING .. KEYS
    sequence: int = 0  # pairs an ACK or NACK with its PING
    sender: str = ""  # the sender's name
    target: str = ""  # name: who shall answer a PING; whom to probe for a PING_REQUEST
    updates: tuple[Update, ...] = ()
    digests: tuple[Digest, ...] = ()
    summary: bytes = b""  # SYNC_SUMMARY: 8 bytes a bucket
    buckets: bytes = b""  # SYNC_DIFFERENCE: the numbers of the buckets that differ
    data: bytes = b""  # KEYS: what gossip.rotation makes of it


def utf8_bytes(text: str) -> int:
    """Return the encoded length of `text`, bytes.

    Raises:
        UnicodeEncodeError: (a ValueError) `text` holds half a surrogate pair.
    """
    return len(text) if text.isascii() else len(text.encode())


def meta_bytes(meta: dict[str, str]) -> int:
    """Return an upper bound of the encoded size of metadata, bytes."""
    return 3 + sum(utf8_bytes(k) + utf8_bytes(v) + 6 for k, v in meta.items())


def make_update(name: str, key: int, by: str, identity: Identity | None = None) -> Update:
    """Build an update together with its worst-case encoded size."""
    size = 24 + (utf8_bytes(name) if identity is None else identity.size_bytes)
    if by != name:
        size += utf8_bytes(by)
    return Update(name, key, by, identity, size)
