"""What waits for a machine: a bounded queue, newest first, the living before all.

When a process was too slow, the newest packets are worth most: they go first, and the
oldest are dropped. Before all others go those that speak for the living (an ALIVE, an
ACK, a NACK), for to lose them costs a false suspicion.

Refused: a queue in front of the machine that keeps order. Order means nothing to the
lattice of gossip, and a backlog of old probes helps nobody.
"""

from collections import deque
from typing import Final

from gossip.messages import ACK, ALIVE, NACK, Packet

INBOUND_MAX: Final = 1_024


class Inbound:
    """Packets with their pool and source. Invariant: never more than `limit`."""

    def __init__(self, limit: int = INBOUND_MAX) -> None:
        self._limit = limit
        self._urgent: deque[tuple[str, str, Packet]] = deque()
        self._other: deque[tuple[str, str, Packet]] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._other)

    def put(self, pool: str, source: str, packet: Packet) -> bool:
        """Queue a packet; return False if an older one had to go for it."""
        is_urgent = packet.kind in (ACK, NACK) or any(
            update.status == ALIVE for update in packet.updates
        )
        (self._urgent if is_urgent else self._other).append((pool, source, packet))
        if len(self) <= self._limit:
            return True
        (self._other or self._urgent).popleft()
        return False

    def pop(self) -> tuple[str, str, Packet]:
        return (self._urgent or self._other).pop()
