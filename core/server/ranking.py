"""Rendezvous hashing: an order of things for a key that hardly changes as things come and go.

Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def rendezvous_order(things: Iterable[T], key: str, name_of: Callable[[T], str]) -> list[T]:
    """Return `things`, the one that suits `key` best first; ties by name."""

    def weight(thing: T) -> tuple[bytes, str]:
        name = name_of(thing)
        return hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest(), name

    return sorted(things, key=weight)
