"""How long to wait for an agent far away: one that was just waited for in vain, shortly.

Gossip may hold a server for alive over others while the direct way to it is cut. Each read
that needs it would then wait out the whole limit: of a list over ten datacenters, ten
seconds each time. So who let a call run out is waited for two seconds only, until it
answers again or half a minute went by. Writes and waiting queries keep their time.
"""

from typing import Final

from core.model.host import Address

SHORT_US: Final = 2_000_000
REMEMBERED_US: Final = 30_000_000


class Patience:
    def __init__(self) -> None:
        self._silent: dict[Address, int] = {}  # since when

    def timeout_us(self, address: Address, wanted_us: int, now_us: int) -> int:
        """Return how long to wait for an answer that is not expected to be held back."""
        since_us = self._silent.get(address)
        if since_us is None or now_us - since_us > REMEMBERED_US:
            return wanted_us
        return min(wanted_us, SHORT_US)

    def ended(self, address: Address, error: str, now_us: int) -> None:
        """Take in how a call ended."""
        if error != "timeout":
            self._silent.pop(address, None)
            return
        since_us = self._silent.get(address)
        if since_us is None or now_us - since_us > REMEMBERED_US:
            self._silent[address] = now_us
