"""The gossip keys of an agent on disk, once they were changed while it ran.

`serf.keyring` in the data folder, as Nomad's: a JSON array of keys in base64, the one in
use first, readable by the agent's user alone.
"""

import json
import os
from pathlib import Path
from typing import Final

from gossip.keyring import Keyring, decode_key, encode_key

NAME: Final = "serf.keyring"


class KeyringFile:
    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / NAME

    def load(self) -> list[bytes]:
        """Return the keys kept, the one in use first; [] when none ever were.

        Raises:
            ValueError: the file holds no keyring; says which file and what to do.
        """
        try:
            texts = json.loads(self.path.read_bytes())
            return Keyring([decode_key(text) for text in texts]).keys
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} holds no gossip keyring ({error}): put back what another agent of "
                "the pool has there, or remove it to begin with server.encrypt"
            ) from None

    def save(self, keys: list[bytes]) -> str:
        """Write the keys durably; return why that failed, or ""."""
        spare = self.path.with_suffix(".new")
        try:
            descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump([encode_key(key) for key in keys], file)
                file.flush()
                os.fsync(file.fileno())
            spare.rename(self.path)
        except OSError as error:
            return f"{self.path} can't be written: {error.strerror or error}"
        return ""
