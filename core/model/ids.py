"""Ids: UUID-shaped, the last group is the datacenter's id, so a full id can be routed.

An allocation's id is not stored: it is its key, enciphered. 80 bits of key
(job ordinal, group ordinal, index, generation) go through a small Feistel network
keyed by the datacenter id and come back out of it, so looking an id up needs no
table, and ids of neighbours look unrelated. Not a secret, only a disguise: people
type short prefixes, and prefixes of sequential ids would all be the same.
"""

import hashlib
import random
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

JOB_BITS: Final = 28
GROUP_BITS: Final = 8
INDEX_BITS: Final = 28
GENERATION_BITS: Final = 16
_HALF: Final = 40
_MASK: Final = (1 << _HALF) - 1
_ROUNDS: Final = 4


class AllocKey(NamedTuple):
    """Names one allocation inside its datacenter."""

    job: int  # ordinal of the job's uid in this datacenter, never reused
    group: int  # ordinal of the group's name in the job
    index: int  # type: ignore[assignment]  # share index; of a system job, the node's ordinal
    generation: int


def new_datacenter_id(rng: random.Random) -> str:
    """Return 48 random bits as 12 hex digits."""
    return f"{rng.getrandbits(48):012x}"


def new_id(rng: random.Random, datacenter_id: str) -> str:
    """Return a random UUID whose last group is `datacenter_id` (12 hex digits)."""
    return _shape(rng.getrandbits(80), datacenter_id)


def datacenter_of(uuid: str) -> str:
    """Return the datacenter id that a full id carries; "" when it is not a full id."""
    return uuid[24:] if len(uuid) == 36 and uuid[23] == "-" else ""


def alloc_id(key: AllocKey, datacenter_id: str) -> str:
    """Return the allocation's UUID.

    Raises:
        ValueError: A part of the key is out of its range.
    """
    if (
        key.job >> JOB_BITS
        or key.group >> GROUP_BITS
        or key.index >> INDEX_BITS
        or key.generation >> GENERATION_BITS
    ):
        raise ValueError(f"allocation key out of range: {key}")
    packed = (
        (key.job << GROUP_BITS | key.group) << INDEX_BITS | key.index
    ) << GENERATION_BITS | key.generation
    left, right = packed >> _HALF, packed & _MASK
    for salt in _round_keys(datacenter_id):
        left, right = right, left ^ _mix(right, salt)
    return _shape(left << _HALF | right, datacenter_id)


def alloc_key(uuid: str) -> AllocKey | None:
    """Return the key that `alloc_id` enciphered, or None when this is not a full id."""
    datacenter_id = datacenter_of(uuid)
    try:
        packed = int(uuid[:23].replace("-", ""), 16)
        salts = _round_keys(datacenter_id)
    except ValueError:
        return None
    left, right = packed >> _HALF, packed & _MASK
    for salt in reversed(salts):
        left, right = right ^ _mix(left, salt), left
    packed = left << _HALF | right
    generation = packed & ((1 << GENERATION_BITS) - 1)
    packed >>= GENERATION_BITS
    index = packed & ((1 << INDEX_BITS) - 1)
    packed >>= INDEX_BITS
    return AllocKey(packed >> GROUP_BITS, packed & ((1 << GROUP_BITS) - 1), index, generation)


def alloc_keys(uuids: list[str], datacenter_id: str) -> npt.NDArray[np.int64] | None:
    """Return int64[len(uuids), 4], the keys' job, group, index, generation.

    Args:
        uuids: Full ids of one datacenter.
        datacenter_id: That one's.

    Returns:
        None when one of them is no full id of that datacenter.
    """
    tail = f"-{datacenter_id}"
    for uuid in uuids:
        is_shaped = len(uuid) == 36 and uuid[8] == uuid[13] == uuid[18] == "-"
        if not is_shaped or not uuid.endswith(tail):
            return None
    if not uuids:
        return np.zeros((0, 4), np.int64)
    try:
        digits = bytes.fromhex("".join([uuid[:23] for uuid in uuids]).replace("-", ""))
    except ValueError:
        return None
    if len(digits) != 10 * len(uuids):
        return None
    octets = np.frombuffer(digits, np.uint8).reshape(-1, 10).astype(np.uint64)
    u = np.uint64
    shifts = np.array([32, 24, 16, 8, 0], np.uint64)
    left = (octets[:, :5] << shifts).sum(axis=1, dtype=np.uint64)
    right = (octets[:, 5:] << shifts).sum(axis=1, dtype=np.uint64)
    for salt in reversed(_round_keys(datacenter_id)):
        left, right = right ^ _mixed(left, salt), left
    columns = (
        left >> u(12),
        (left >> u(4)) & u(0xFF),
        ((left & u(0xF)) << u(24)) | (right >> u(16)),
        right & u(0xFFFF),
    )
    return np.stack(columns, axis=1).astype(np.int64)


def alloc_prefixes(
    job: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    generation: npt.NDArray[np.int64],
    datacenter_id: str,
) -> npt.NDArray[np.uint64]:
    """Return the first 40 bits of many allocations' ids at once, for prefix searches.

    Args:
        job, group, index, generation: The keys as columns of equal length.

    Returns:
        uint64 per allocation; the id's first 10 hex digits are that number's.
    """
    j, g, i, n = (column.astype(np.uint64) for column in (job, group, index, generation))
    return _enciphered(j, g, i, n, datacenter_id)[0]


def alloc_ids(
    job: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    generation: npt.NDArray[np.int64],
    datacenter_id: str,
) -> list[str]:
    """Return the ids of many allocations, as `alloc_id` does of one, at a fifth of its cost.

    Args:
        job, group, index, generation: The keys as columns of equal length.
    """
    j, g, i, n = (column.astype(np.uint64) for column in (job, group, index, generation))
    left, right = _enciphered(j, g, i, n, datacenter_id)
    texts = [f"{a:010x}{b:010x}" for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:]}-{datacenter_id}" for t in texts]


_Halves = npt.NDArray[np.uint64]


def _enciphered(
    job: _Halves, group: _Halves, index: _Halves, generation: _Halves, datacenter_id: str
) -> tuple[_Halves, _Halves]:
    """Return both halves of many keys as their ids have them."""
    # packed = job:28 group:8 index:28 generation:16; the left half is the upper 40 bits
    u = np.uint64
    left = (job << u(12)) | (group << u(4)) | (index >> u(24))
    right = ((index & u(0xFFFFFF)) << u(16)) | generation
    for salt in _round_keys(datacenter_id):
        left, right = right, left ^ _mixed(right, salt)
    return left, right


def _mixed(half: npt.NDArray[np.uint64], salt: int) -> npt.NDArray[np.uint64]:
    # `_mix` of many.
    u = np.uint64
    with np.errstate(over="ignore"):
        x = (half ^ u(salt)) * u(_MULTIPLIER)
        x ^= x >> u(29)
        x *= u(_MULTIPLIER)
        x ^= x >> u(24)
    return x & u(_MASK)


_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1


def _mix(half: int, salt: int) -> int:
    x = ((half ^ salt) * _MULTIPLIER) & _WORD
    x ^= x >> 29
    x = (x * _MULTIPLIER) & _WORD
    x ^= x >> 24
    return x & _MASK


@lru_cache(maxsize=1024)
def _round_keys(datacenter_id: str) -> tuple[int, ...]:
    seed = int(datacenter_id, 16)
    keys = []
    for number in range(_ROUNDS):
        keys.append(_mix(seed & _MASK, (seed >> 8) + number * 0x1234567))
    return tuple(keys)


def _shape(bits: int, datacenter_id: str) -> str:
    text = f"{bits:020x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:]}-{datacenter_id}"


def derived_id(seed: str, datacenter_id: str) -> str:
    """Return the id of a datacenter that `seed` always gives: written twice, it is the same."""
    digest = hashlib.blake2b(seed.encode(), digest_size=10).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:]}-{datacenter_id}"
