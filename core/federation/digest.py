"""The digest: what a datacenter tells all others about itself, in about 700 bytes.

    who       region, name, id; authority and its generation
    how       quorum, drain; queue, oldest evaluation, registrations refused of those asked
    room      by class of nodes (pool and node class): totals, what is free, the largest free
              slot, and a grid of how many instances of a size fit (core.federation.grid)
    what      devices; a filter of drivers, attributes, volumes, data sets; what every node has
    where     cost of a unit of work, round trips to the other datacenters

Term, sequence and age travel beside it (gossip.digests). It is made from columns of nodes
(core.federation.survey), so its cost does not depend on how much runs.

A digest only guides choice; it never changes who owns what. One that lies costs its readers
a refused call, and them less and less: see core.federation.known.

**Versions.** Fields are appended, never reordered, and readers skip what they don't know.
`FORMAT` is the writer's; a change that older readers would misunderstand raises
`READABLE_FROM`, and those drop the digest.
"""

import hashlib
from typing import Final

import msgspec

FORMAT: Final = 2
READABLE_FROM: Final = 2  # the oldest readers that may read what is written here
BUDGET_BYTES: Final = 700
PRICE_UNIT: Final = 100  # `cost` of a datacenter that is neither cheap nor dear
REST: Final = "*"  # pool of a class that stands for several
_TRIP_BYTES: Final = 3


class Room(msgspec.Struct, array_like=True, frozen=True):
    """CPU in MHz, memory and disk in MiB."""

    cpu: int = 0
    memory: int = 0
    disk: int = 0

    def plus(self, other: "Room", times: int = 1) -> "Room":
        return Room(
            self.cpu + other.cpu * times,
            self.memory + other.memory * times,
            self.disk + other.disk * times,
        )

    def minus(self, other: "Room") -> "Room":
        """Return what is left, never less than nothing."""
        return Room(
            max(0, self.cpu - other.cpu),
            max(0, self.memory - other.memory),
            max(0, self.disk - other.disk),
        )

    def largest(self, other: "Room") -> "Room":
        return Room(
            max(self.cpu, other.cpu), max(self.memory, other.memory), max(self.disk, other.disk)
        )


class ClassRoom(msgspec.Struct, array_like=True, kw_only=True):
    """The ready nodes of one pool and node class; reserved room is taken off everywhere."""

    pool: str = "default"  # REST: several classes that found no place of their own
    node_class: str = ""
    nodes: int = 0
    total: Room = Room()
    free: Room = Room()
    slot_free: Room = Room()  # the most that a node has free, of each alone
    slot_empty: Room = Room()  # the largest node, of each alone
    disk_least: int = 0  # MiB that every node has free
    grid: bytes = b""
    blocked: int = 0  # evaluations that wait for room on this class


class Digest(msgspec.Struct, array_like=True, kw_only=True):
    """One datacenter at one moment. Field order is the wire's: append, never reorder."""

    format: int = FORMAT
    readable_from: int = READABLE_FROM
    region: str = ""
    datacenter: str = ""
    datacenter_id: str = ""
    is_authority: bool = False
    authority_generation: int = 0
    has_quorum: bool = True
    is_draining: bool = False
    classes: list[ClassRoom] = []
    queue_depth: int = 0
    blocked: int = 0
    oldest_s: int = 0  # how long the evaluation waits that waits longest
    asked: int = 0  # about as many jobs were offered in the last minute,
    refused: int = 0  # and so many of them refused
    cost: int = PRICE_UNIT  # of a unit of work
    devices: list[tuple[str, int]] = []  # name, how many
    words: bytes = b""  # Bloom filter: core.federation.words
    missing_kinds: int = 0  # kinds of words that are not all in it
    common: bytes = b""  # hashes of what every ready node has
    round_trips: bytes = b""
    is_sealed: bool = False  # core.federation.seal: then has_quorum is false, too

    @property
    def nodes_ready(self) -> int:
        return sum(one.nodes for one in self.classes)

    @property
    def total(self) -> Room:
        return _sum([one.total for one in self.classes])

    @property
    def free(self) -> Room:
        return _sum([one.free for one in self.classes])

    @property
    def slot_free(self) -> Room:
        """The most that any node has free, of each alone."""
        return _largest([one.slot_free for one in self.classes])

    @property
    def slot_empty(self) -> Room:
        return _largest([one.slot_empty for one in self.classes])


def _sum(rooms: list[Room]) -> Room:
    total = Room()
    for room in rooms:
        total = total.plus(room)
    return total


def _largest(rooms: list[Room]) -> Room:
    largest = Room()
    for room in rooms:
        largest = largest.largest(room)
    return largest


# --- the wire ---------------------------------------------------------------------------------


def encode(digest: Digest) -> bytes:
    return msgspec.msgpack.encode(digest)


def decode(data: bytes) -> Digest | None:
    """Return the digest, or None when it is not one of ours or not for readers so old."""
    try:
        digest = msgspec.msgpack.decode(data, type=Digest)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if digest.format < READABLE_FROM or digest.readable_from > FORMAT:
        return None
    return digest


def within_budget(digest: Digest) -> Digest:
    """Return the digest with as much of its details left out as the budget demands.

    Round trips go first (everybody can measure his own), then the list of devices is cut,
    and last the smallest classes are told together.
    """
    if len(encode(digest)) <= BUDGET_BYTES:
        return digest
    trips = digest.round_trips
    spare = BUDGET_BYTES - len(encode(digest)) + len(trips)
    kept = max(0, spare) // _TRIP_BYTES * _TRIP_BYTES
    digest = msgspec.structs.replace(digest, round_trips=trips[:kept], devices=digest.devices[:8])
    while len(encode(digest)) > BUDGET_BYTES and len(digest.classes) > 1:
        digest = msgspec.structs.replace(digest, classes=_merged(digest.classes))
    return digest


def _merged(classes: list[ClassRoom]) -> list[ClassRoom]:
    """Tell the two smallest classes as one, without a grid: sums and slots remain."""
    *kept, one, other = sorted(classes, key=lambda c: (c.pool == REST, -c.nodes, c.node_class))
    rest = ClassRoom(
        pool=REST,
        nodes=one.nodes + other.nodes,
        total=one.total.plus(other.total),
        free=one.free.plus(other.free),
        slot_free=one.slot_free.largest(other.slot_free),
        slot_empty=one.slot_empty.largest(other.slot_empty),
        disk_least=min(one.disk_least, other.disk_least),
        blocked=max(one.blocked, other.blocked),
    )
    return [*kept, rest]


# --- round trips --------------------------------------------------------------------------------


def pack_trips(trips_us: dict[str, int]) -> bytes:
    """Return round trips by datacenter id in three bytes each: who (hashed), and how long."""
    return b"".join(
        _mark(datacenter_id) + bytes([min(255, (max(us, 1)).bit_length() * 8 + _eighths(us))])
        for datacenter_id, us in sorted(trips_us.items())
    )


def trip_us(trips: bytes, datacenter_id: str) -> int | None:
    """Return the round trip to a datacenter, within an eighth; None when it was not told."""
    mark = _mark(datacenter_id)
    for i in range(0, len(trips) - _TRIP_BYTES + 1, _TRIP_BYTES):
        if trips[i : i + 2] == mark:
            length, eighths = divmod(trips[i + 2], 8)
            return (1 << (length - 1)) * (8 + eighths) // 8 if length else 0
    return None


def _mark(datacenter_id: str) -> bytes:
    return hashlib.blake2b(datacenter_id.encode(), digest_size=2).digest()


def _eighths(us: int) -> int:
    us = max(us, 1)
    return (us * 8 >> (us.bit_length() - 1)) - 8
