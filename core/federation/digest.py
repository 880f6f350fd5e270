"""The digest: what a datacenter tells all others about its room, in about 500 bytes.

Sums mislead: ten nodes with one free core each do not hold a ten-core task. So beside
totals a digest carries a 5x5 grid: cell (c, m) says how many instances of CPU_STEPS[c]
MHz with MEMORY_STEPS[m] MiB would fit now, node by node, as log2. An ask is estimated by
the smallest cell that holds it (a lower bound) and the largest cell within it (an upper
bound); the largest slot says what can't fit at all.

A digest only guides choice; it never changes who owns what.
"""

from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT: Final = 1
CPU_STEPS: Final = (100, 500, 2_000, 8_000, 32_000)  # MHz
MEMORY_STEPS: Final = (128, 512, 2_048, 8_192, 32_768)  # MiB
BLOOM_BITS: Final = 1024
BLOOM_HASHES: Final = 3
_LOG_SCALE: Final = 8  # a cell is round(log2(1 + fits) * 8), so one byte reaches 2^31

Column = npt.NDArray[np.int64]


class Room(msgspec.Struct, array_like=True):
    """CPU in MHz, memory and disk in MiB."""

    cpu: int = 0
    memory: int = 0
    disk: int = 0


class Digest(msgspec.Struct, array_like=True, kw_only=True):
    """One datacenter at one moment. Field order is the wire's: append, never reorder."""

    format: int = FORMAT
    region: str = ""
    datacenter: str = ""
    datacenter_id: str = ""
    is_authority: bool = False
    authority_generation: int = 0
    has_quorum: bool = True
    is_draining: bool = False
    nodes_ready: int = 0
    total: Room = msgspec.field(default_factory=Room)  # of ready nodes, reserved taken off
    free: Room = msgspec.field(default_factory=Room)
    slot_free: Room = msgspec.field(default_factory=Room)  # largest free of any node, each alone
    slot_empty: Room = msgspec.field(default_factory=Room)  # the same, were all empty
    grid_free: bytes = b""
    grid_empty: bytes = b""
    queue_depth: int = 0
    blocked: int = 0
    refused: int = 0  # registrations refused in the last minute
    drivers: bytes = b""  # Bloom filter of "driver.NAME", "class.NAME", "pool.NAME"


class Nodes(msgspec.Struct):
    """The columns of ready nodes that a digest is made of; equal length."""

    cpu_capacity: Column
    memory_capacity: Column
    disk_capacity: Column
    cpu_used: Column
    memory_used: Column
    disk_used: Column
    words: list[str] = []  # of the Bloom filter


def room_of(nodes: Nodes) -> dict[str, object]:
    """Return the capacity fields of a `Digest` for these nodes, vectorised."""
    free_cpu = np.maximum(nodes.cpu_capacity - nodes.cpu_used, 0)
    free_memory = np.maximum(nodes.memory_capacity - nodes.memory_used, 0)
    free_disk = np.maximum(nodes.disk_capacity - nodes.disk_used, 0)

    def total(*columns: Column) -> Room:
        return Room(*(int(column.sum()) for column in columns))

    def largest(*columns: Column) -> Room:
        return Room(*(int(column.max(initial=0)) for column in columns))

    return {
        "nodes_ready": len(nodes.cpu_capacity),
        "total": total(nodes.cpu_capacity, nodes.memory_capacity, nodes.disk_capacity),
        "free": total(free_cpu, free_memory, free_disk),
        "slot_free": largest(free_cpu, free_memory, free_disk),
        "slot_empty": largest(nodes.cpu_capacity, nodes.memory_capacity, nodes.disk_capacity),
        "grid_free": _grid(free_cpu, free_memory),
        "grid_empty": _grid(nodes.cpu_capacity, nodes.memory_capacity),
        "drivers": bloom(nodes.words),
    }


def _grid(cpu: Column, memory: Column) -> bytes:
    cells = bytearray()
    for cpu_step in CPU_STEPS:
        by_cpu = cpu // cpu_step
        for memory_step in MEMORY_STEPS:
            fits = int(np.minimum(by_cpu, memory // memory_step).sum())
            cells.append(min(255, round(np.log2(1 + fits) * _LOG_SCALE)))
    return bytes(cells)


def fits_at_least(grid: bytes, cpu: int, memory: int) -> int:
    """Return how many instances of (cpu MHz, memory MiB) surely fit, by the grid."""
    row = next((i for i, step in enumerate(CPU_STEPS) if step >= cpu), None)
    column = next((i for i, step in enumerate(MEMORY_STEPS) if step >= memory), None)
    if row is None or column is None:
        return 0
    # Rounding a logarithm may say too much: take half a step off.
    return _count(grid, row, column, -0.5)


def fits_at_most(grid: bytes, cpu: int, memory: int) -> int:
    """Return how many instances of (cpu MHz, memory MiB) might fit, by the grid."""
    row = max((i for i, step in enumerate(CPU_STEPS) if step <= cpu), default=0)
    column = max((i for i, step in enumerate(MEMORY_STEPS) if step <= memory), default=0)
    if cpu < CPU_STEPS[0] or memory < MEMORY_STEPS[0]:
        shrink = max(CPU_STEPS[0] / max(cpu, 1), 1) * max(MEMORY_STEPS[0] / max(memory, 1), 1)
        return int(_count(grid, row, column, 0.5) * shrink + shrink)
    return _count(grid, row, column, 0.5)


def _count(grid: bytes, row: int, column: int, rounding: float) -> int:
    if len(grid) != len(CPU_STEPS) * len(MEMORY_STEPS):
        return 0
    cell = grid[row * len(MEMORY_STEPS) + column]
    if cell == 0:
        return 0
    exact = 2.0 ** ((cell + rounding) / _LOG_SCALE) - 1
    return max(0, int(exact)) if rounding > 0 else max(1, int(exact))


def bloom(words: list[str]) -> bytes:
    """Return a Bloom filter of `BLOOM_BITS` bits that holds these words."""
    bits = 0
    for word in words:
        for position in _positions(word):
            bits |= 1 << position
    return bits.to_bytes(BLOOM_BITS // 8, "little")


def may_have(filter_: bytes, word: str) -> bool:
    """Return whether a filter may hold `word`; a filter that was not sent may hold all."""
    if not filter_:
        return True
    bits = int.from_bytes(filter_, "little")
    return all(bits >> position & 1 for position in _positions(word))


@lru_cache(maxsize=4096)
def _positions(word: str) -> list[int]:
    # FNV-1a, twice: any stable hash will do, Python's own is salted by the process.
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    step = (value >> 32) | 1
    return [(value + i * step) % BLOOM_BITS for i in range(BLOOM_HASHES)]


def encode(digest: Digest) -> bytes:
    return msgspec.msgpack.encode(digest)


def decode(data: bytes) -> Digest | None:
    """Return the digest, or None when it is not one of ours or has a later format."""
    try:
        digest = msgspec.msgpack.decode(data, type=Digest)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return digest if digest.format == FORMAT else None
