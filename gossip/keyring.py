"""AES-GCM keys of a pool: several may open a packet, one closes it.

To change the key of a running pool: `install` the new one everywhere, `use` it
everywhere, `remove` the old one everywhere. Nobody is cut off in between. That is done
over the pool itself: gossip.rotation.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_BYTES: Final = (16, 24, 32)


class Keyring:
    """Invariant: the first key is the one in use; keys are distinct."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Args: `keys` of 16, 24 or 32 bytes each; the first is used for sending.

        Raises:
            ValueError: no key, or one of another length.
        """
        if not keys:
            raise ValueError("a keyring needs at least one key")
        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            self.install(key)

    @classmethod
    def from_base64(cls, *texts: str) -> "Keyring":
        """Build a keyring of keys in base64, as operators write them."""
        return cls([decode_key(text) for text in texts])

    @property
    def keys(self) -> list[bytes]:
        """All keys, the one in use first."""
        return list(self._ciphers)

    def install(self, key: bytes) -> None:
        """Accept packets under `key` too.

        Raises:
            ValueError: the key has a wrong length.
        """
        if len(key) not in KEY_BYTES:
            raise ValueError(f"a gossip key has 16, 24 or 32 bytes, this one has {len(key)}")
        self._ciphers.setdefault(key, AESGCM(key))

    def use(self, key: bytes) -> None:
        """Send under `key` from now on.

        Raises:
            KeyError: it was not installed.
        """
        if key not in self._ciphers:
            raise KeyError("this gossip key is not installed; install it first")
        self._ciphers = {key: self._ciphers.pop(key), **self._ciphers}

    def remove(self, key: bytes) -> None:
        """Refuse packets under `key` from now on.

        Raises:
            ValueError: it is the key in use.
        """
        if key == next(iter(self._ciphers)):
            raise ValueError("the gossip key in use can't be removed; use another one first")
        self._ciphers.pop(key, None)

    def replace(self, keys: Sequence[bytes]) -> None:
        """Hold exactly these keys, the first in use.

        Raises:
            ValueError: no key, or one of a wrong length; nothing was changed.
        """
        self._ciphers = Keyring(keys)._ciphers

    def seal(self, data: bytes, associated: bytes) -> bytes:
        """Return nonce and ciphertext; `associated` is bound to it but not contained."""
        nonce = os.urandom(NONCE_BYTES)
        cipher = next(iter(self._ciphers.values()))
        return nonce + cipher.encrypt(nonce, data, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes | None:
        """Return what was sealed, or None if no key fits or a bit was changed."""
        nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        if len(body) < TAG_BYTES:
            return None
        for cipher in self._ciphers.values():
            try:
                return cipher.decrypt(nonce, body, associated)
            except InvalidTag:
                continue
        return None


def decode_key(text: str) -> bytes:
    """Return the key that `text` holds in base64.

    Raises:
        ValueError: it is not base64, or of a wrong length.
    """
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        raise ValueError("a gossip key must be base64") from None
    if len(key) not in KEY_BYTES:
        raise ValueError(f"a gossip key has 16, 24 or 32 bytes, this one has {len(key)}")
    return key


def encode_key(key: bytes) -> str:
    return b64encode(key).decode()
