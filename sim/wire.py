"""`-wire`: what travels between simulated agents as the bytes that real agents send.

Datagrams are packets of gossip.wire under the label of their pool; raft messages and calls
are frames of core.agent.frames. Sender and receiver share no object then, so what only a
shared object would make work fails, and a record that its bytes can't carry shows.
"""

from typing import Any

import msgspec

from core.agent.frames import Frame, FrameKind, FrameReader, encode_frame
from core.model import host as h
from gossip.messages import Packet
from gossip.wire import decode, encode

# A message is (sender, what it says, more): the machine knows the type of what it says.
_BODIES = msgspec.msgpack.Decoder(list[msgspec.Raw])


def sent(pools: dict[str, str], effect: Any) -> Any:
    """Return a datagram's or a message's effect with bytes in place of its content."""
    if isinstance(effect, h.GossipSend):
        data = encode(effect.packet, label=pools[effect.pool])
        return h.GossipSend(effect.pool, effect.address, data)
    frame = encode_frame(FrameKind.SEND, 0, effect.channel, effect.body)
    return h.Send(effect.channel, effect.address, bytes(frame))


def received(pools: dict[str, str], effect: Any) -> Any:
    """Undo `sent`, as the real host reads what arrives."""
    if isinstance(effect, h.GossipSend):
        return h.GossipSend(effect.pool, effect.address, packet(pools[effect.pool], effect.packet))
    sender, content, *more = _BODIES.decode(opened(effect.body).body)
    read = msgspec.msgpack.decode
    return h.Send(effect.channel, effect.address, (read(sender), content, *map(read, more)))


def stream(label: str, content: Packet) -> bytes:
    """Return a packet's bytes on a gossip stream."""
    return encode(content, label=label, is_stream=True)


def packet(label: str, data: bytes) -> Packet:
    return decode(data, label=label)


def call(number: int, method: str, body: Any) -> bytes:
    return bytes(encode_frame(FrameKind.CALL, number, method, body))


def reply(number: int, body: Any, error: str) -> bytes:
    return bytes(encode_frame(FrameKind.REPLY, number, error, body))


def opened(data: bytes) -> Frame:
    """Return the one frame of these bytes; its name is a reply's error."""
    (frame,) = FrameReader(expects_preface=False).feed(data)
    return frame
