"""Names as small numbers, and identities kept once, for all machines of a process.

A machine keeps one byte per member in a `bytearray`, indexed by these numbers. A real
agent's machine owns its directory; ten thousand simulated machines of one pool share
one, and the identity that nearly all of them believe is stored once instead of ten
thousand times. Sharing leaks nothing: a machine looks a number up only for members it
has heard of itself, and keeps an identity of its own where it believes another one.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b

from gossip.messages import Identity


class Directory:
    """Invariant: an ordinal in use has uses > 0; a free one is in `_free` exactly once."""

    __slots__ = ("_free", "_uses", "hashes", "identities", "identity", "ordinals")

    def __init__(self) -> None:
        self.ordinals: dict[str, int] = {}
        # by ordinal: the first identity anybody believed for that name
        self.identities: list[Identity] = []
        self.identity: Callable[[int], Identity] = self.identities.__getitem__
        # by ordinal: 64 bits of the name, the same in every process
        self.hashes: list[int] = []
        self._uses: list[int] = []
        self._free: list[int] = []

    def acquire(self, identity: Identity) -> int:
        """Return the ordinal of `identity.name`, for a machine that now knows it."""
        ordinal = self.ordinals.get(identity.name)
        if ordinal is None:
            if self._free:
                ordinal = self._free.pop()
                self.identities[ordinal] = identity
                self.hashes[ordinal] = name_hash(identity.name)
            else:
                ordinal = len(self.identities)
                self.identities.append(identity)
                self.hashes.append(name_hash(identity.name))
                self._uses.append(0)
            self.ordinals[identity.name] = ordinal
        self._uses[ordinal] += 1
        return ordinal

    def release(self, ordinal: int) -> None:
        """One machine has forgotten this member; the last one frees the number."""
        self._uses[ordinal] -= 1
        assert self._uses[ordinal] >= 0, f"ordinal {ordinal} released more often than acquired"
        if self._uses[ordinal] == 0:
            del self.ordinals[self.identities[ordinal].name]
            self._free.append(ordinal)

    def share(self, ordinals: Iterable[int], machines: int) -> None:
        """So many machines more know all these members."""
        for ordinal in ordinals:
            self._uses[ordinal] += machines

    def __len__(self) -> int:
        """The numbers ever given out: the length a table must have."""
        return len(self.identities)


def name_hash(name: str) -> int:
    """Return 64 bits that are the same for `name` in every process."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
