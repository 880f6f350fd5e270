"""Packets of a pool as bytes: nothing is lost, and nothing gets in that should not.

Checker "codec". Takes packets that really flew, so every kind and shape occurs.
"""

import random
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgpack

from gossip.keyring import Keyring
from gossip.messages import Packet
from gossip.wire import WireError, decode, encode
from sim.gossip.pool import Pool
from sim.gossip_world import PORT
from sim.seeds import Violation

SAMPLE = 12
LABEL = "pool-a"


def check_codec(pool: Pool, rng: random.Random) -> None:
    """Judge some packets of the pool.

    Raises:
        Violation: bytes mean something else than the packet did, or were believed wrongly.
    """
    old, new, foreign = (Keyring([rng.randbytes(32)]) for _ in range(3))
    both = Keyring([new.keys[0], old.keys[0]])
    flights = [*pool.flights]
    for flight in rng.sample(flights, min(SAMPLE, len(flights))):
        body = flight.body
        packet = body if isinstance(body, Packet) else decode(body, label="lan")
        for keyring in (None, old):
            is_stream = rng.random() < 0.3
            data = encode(packet, label=LABEL, keyring=keyring, is_stream=is_stream)
            _equal(packet, data, keyring)
            _refused("another label", data, _as("b", keyring))
            _refused("a foreign key", data, _as(LABEL, foreign))
            _refused("a changed label", _relabelled(data), _as("pool-b", keyring))
            at = rng.randrange(len(data))
            broken = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
            _refused(f"bit flipped in byte {at}", broken, _as(LABEL, keyring))
            _refused("cut off", data[: rng.randrange(len(data))], _as(LABEL, keyring))
        sealed = encode(packet, label=LABEL, keyring=old)
        _refused("no key", sealed, _as(LABEL, None))
        _check_secrecy(packet, sealed, old)
        _equal(packet, _from_the_future(packet, rng), None)
        _equal(packet, sealed, both)
        # who sends under a key that another has not yet, is not understood
        _refused("a key not installed", encode(packet, label=LABEL, keyring=both), _as(LABEL, old))
        retired = Keyring([new.keys[0], old.keys[0]])
        retired.remove(old.keys[0])
        _refused("a key that was removed", sealed, _as(LABEL, retired))


def _check_secrecy(packet: Packet, sealed: bytes, keyring: Keyring) -> None:
    """A sealed packet shows no address, and the same packet is never sealed alike."""
    clear = encode(packet, label=LABEL)
    port = str(PORT).encode()
    if port in clear and port in sealed:
        raise Violation("codec", f"{packet!r:.200} can be read without the key")
    if encode(packet, label=LABEL, keyring=keyring)[-len(clear) :] == sealed[-len(clear) :]:
        raise Violation("codec", "one packet is sealed alike twice: the nonce is not new")


def _from_the_future(packet: Packet, rng: random.Random) -> bytes:
    """The packet as a newer member says it: with a part that nobody knows yet, and with one
    element more at the end of the envelope.
    """
    data = encode(packet, label=LABEL)
    header, payload = data[: 5 + len(LABEL)], data[9 + len(LABEL) :]
    envelope: bytes = msgpack.packb(
        [packet.kind, packet.sequence, packet.sender, packet.target, "new"]
    )
    known = payload[4 + payload[3] :]  # its envelope is shorter than 128 bytes here
    novelty = bytes((200, 5)) + rng.randbytes(5)
    payload = bytes((9, payload[1] + 1, 1, len(envelope))) + envelope + novelty + known
    return header + crc32(payload, crc32(header)).to_bytes(4, "big") + payload


def _as(label: str, keyring: Keyring | None) -> Callable[[bytes], Packet]:
    return lambda data: decode(data, label=label, keyring=keyring)


def _relabelled(data: bytes) -> bytes:
    """The packet as one of another pool with a label of the same length."""
    return data.replace(LABEL.encode(), b"pool-b", 1)


def _refused(what: str, data: bytes, read: Callable[[bytes], Packet]) -> None:
    try:
        packet = read(data)
    except WireError:
        return
    raise Violation("codec", f"{what}: {len(data)} bytes were taken for {packet!r:.200}")


def _equal(sent: Packet, data: bytes, keyring: Keyring | None) -> None:
    try:
        got = decode(data, label=LABEL, keyring=keyring)
    except WireError as error:
        raise Violation("codec", f"{sent!r:.200} can't be read again: {error}") from None
    if _plain(sent) != _plain(got):
        raise Violation("codec", f"sent {sent!r:.200}, got {got!r:.200}")


def _plain(packet: Packet) -> tuple[Any, ...]:
    return (
        packet.kind,
        packet.sequence,
        packet.sender,
        packet.target,
        [
            (u.name, u.key, u.by, u.identity and (u.identity.address, u.identity.meta))
            for u in packet.updates
        ],
        [(d.origin, d.term, d.sequence, d.age_us, d.data) for d in packet.digests],
        packet.summary,
        packet.buckets,
        packet.data,
    )
