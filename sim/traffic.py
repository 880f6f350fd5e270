"""How many bytes travel between whom, by encoding a part of all that is sent.

Simulated agents hand each other objects. Encoding each to know its size would cost as much
as all else together, so one in `STRIDE_MAX` on average (more in a small world) is encoded,
as the real host would send it, and counts for all. The gaps are drawn, so that no rhythm of
the machines hides behind them; the generator is of its own, so that looking changes nothing.
"""

import random
from typing import Any, Final

import msgspec

from core.agent.frames import FrameKind, encode_frame
from core.model import host as h
from gossip.messages import Packet
from gossip.wire import encode
from sim.network import Station

STRIDE_MAX: Final = 64
AGENTS_A_STRIDE: Final = 16  # in a small world, all is looked at
DATAGRAM_HEAD: Final = 28  # bytes of IPv4 and UDP
STREAM_HEAD: Final = 52  # bytes of IPv4 and TCP

KINDS: Final = ("gossip", "raft", "calls")


class Traffic:
    """Estimates of what was sent since the start, bytes."""

    def __init__(self, seed: int, agents: int) -> None:
        self._stride = min(STRIDE_MAX, 1 + agents // AGENTS_A_STRIDE)
        self.bytes_by_kind = dict.fromkeys(KINDS, 0)
        self.flows: dict[tuple[str, str], int] = {}  # (from region, to region)
        self.sampled = 0
        self._rng = random.Random(f"{seed}/traffic")

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes_by_kind.values())

    def take(self, here: Station, there: Station, body: Any) -> int:
        """Count what is sent; return how many more pass until the next is looked at."""
        kind, size = _measure(body)
        self.sampled += 1
        weighed = size * self._stride
        self.bytes_by_kind[kind] += weighed
        key = (here.place.region, there.place.region)
        self.flows[key] = self.flows.get(key, 0) + weighed
        return self._rng.randrange(1, 2 * self._stride)


def _measure(body: Any) -> tuple[str, int]:
    """Return what kind of traffic this is, and its bytes with the network's heads."""
    if isinstance(body, h.GossipSend):
        packet = body.packet
        size = len(packet) if isinstance(packet, bytes) else len(encode(packet, label="lan"))
        return "gossip", size + DATAGRAM_HEAD
    if isinstance(body, Packet):
        return "gossip", len(encode(body, label="lan", is_stream=True)) + STREAM_HEAD
    if isinstance(body, h.Send):
        content = body.body
        if isinstance(content, bytes):
            return "raft", len(content) + STREAM_HEAD
        return "raft", len(encode_frame(FrameKind.SEND, 0, body.channel, content)) + STREAM_HEAD
    if isinstance(body, bytes):
        return "calls", len(body) + STREAM_HEAD
    try:
        frame = encode_frame(FrameKind.CALL, 0, "", body)
    except (TypeError, msgspec.EncodeError):  # an answer may hold what is read in place
        return "calls", STREAM_HEAD
    return "calls", len(frame) + STREAM_HEAD
