"""What nodes have, as words: in a filter of some (Bloom), and in a short list of all.

    driver.NAME   pool.NAME   class.NAME   datacenter.NAME   volume.NAME   volume.NAME.write
    device.NAME   attr.KEY=VALUE   meta.KEY=VALUE

The filter answers "may any node have it"; the list, "has every node got it". A filter of
1,024 bits takes some 200 words before it says yes to too much. Kinds of words that did not
all go in are named, so that their absence proves nothing. A data set is a node's `meta`.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

BLOOM_BITS: Final = 1024
BLOOM_HASHES: Final = 3
BLOOM_WORDS: Final = 220
COMMON_WORDS: Final = 16
_COMMON_BYTES: Final = 4  # of one hash: two different words share one once in 4 billion

# In this order they go in, and the first ones go into the list of what all nodes have.
_FIRST: Final = (
    "driver.", "pool.", "class.", "datacenter.", "volume.", "device.",
    "attr.kernel.name=", "attr.cpu.arch=", "attr.os.name=", "attr.driver.",
)  # fmt: skip
KINDS: Final = ("driver", "pool", "class", "datacenter", "volume", "device", "attr", "meta")


def by_weight(words: Iterable[str]) -> list[str]:
    """Return the words in the order of their use to a reader, each once."""

    def rank(word: str) -> tuple[int, str]:
        place = next((i for i, prefix in enumerate(_FIRST) if word.startswith(prefix)), None)
        return (len(_FIRST) if place is None else place, word)

    return sorted(set(words), key=rank)


def partial_kinds(words: list[str]) -> tuple[list[str], int]:
    """Return the words that go into a filter and, as bits by `KINDS`, which kinds lack some."""
    kept, missing = words[:BLOOM_WORDS], 0
    for word in words[BLOOM_WORDS:]:
        missing |= 1 << KINDS.index(_kind(word))
    return kept, missing


def is_kind_whole(missing: int, word: str) -> bool:
    """Return whether all words of this one's kind went into the filter."""
    kind = _kind(word)
    return kind in KINDS and not missing >> KINDS.index(kind) & 1


def _kind(word: str) -> str:
    return word.partition(".")[0]


def bloom(words: Iterable[str]) -> bytes:
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


def common(words: Iterable[str]) -> bytes:
    """Return the list of what every node has: the first words, as hashes."""
    first = list(words)[:COMMON_WORDS]
    return b"".join(_hash(word).to_bytes(8, "little")[:_COMMON_BYTES] for word in first)


def all_have(hashes: bytes, word: str) -> bool:
    """Return whether every node has `word`; a word that found no place in the list: no."""
    mark = _hash(word).to_bytes(8, "little")[:_COMMON_BYTES]
    size = _COMMON_BYTES
    return any(hashes[i : i + size] == mark for i in range(0, len(hashes), size))


@lru_cache(maxsize=4096)
def _positions(word: str) -> list[int]:
    value = _hash(word)
    step = (value >> 32) | 1
    return [(value + i * step) % BLOOM_BITS for i in range(BLOOM_HASHES)]


@lru_cache(maxsize=4096)
def _hash(word: str) -> int:
    # FNV-1a: any stable hash will do, Python's own is salted by the process.
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
