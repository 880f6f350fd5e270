"""Packets as bytes.

    packet  = magic "Sg" | format | flags | label length | label | body
    body    = crc32 of all the rest (4 bytes) | payload         (flags 0)
            | nonce (12 bytes) | AES-GCM of payload, tag        (flags ENCRYPTED)
    payload = schema | number of parts | part...
    part    = type | length (LEB128) | bytes

Everything before the body is the associated data of the encryption, so a packet of one
pool can't be replayed into another one. A part of an unknown type is skipped by its
length, and more elements than known at the end of a part are ignored: so newer members
may say more. `format` rises only when older members could not even do that; `schema` is
told for the record.

On a stream, a packet follows its length in 4 bytes, big-endian.

`decode` raises nothing but `WireError`, whatever it is given, and builds nothing larger
than a small multiple of its input.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import msgpack

from gossip.keyring import Keyring
from gossip.messages import (
    ADDRESS_BYTES_MAX,
    ALIVE,
    DIGEST_BYTES_MAX,
    INCARNATION_MAX,
    LABEL_BYTES_MAX,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    STATUS_BITS,
    STATUS_MASK,
    Digest,
    Identity,
    Packet,
    Update,
    make_update,
    meta_bytes,
    utf8_bytes,
)

MAGIC: Final = b"Sg"
FORMAT: Final = 1
SCHEMA: Final = 1
ENCRYPTED: Final = 1

DATAGRAM_BYTES_MAX: Final = 65_507
STREAM_BYTES_MAX: Final = 4 << 20
STREAM_LENGTH_BYTES: Final = 4

PART_ENVELOPE: Final = 1  # [kind, sequence, sender, target]
PART_UPDATE: Final = 2  # [name, key, by, address?, meta?]; by "" = the member itself
PART_DIGEST: Final = 3  # [origin, term, sequence, age_us, data]
PART_SUMMARY: Final = 4  # raw
PART_BUCKETS: Final = 5  # raw
PART_UPDATES: Final = 6  # many, each (length, PART_UPDATE): streams only
PART_DIGESTS: Final = 7  # many, each (length, PART_DIGEST): streams only
PART_DATA: Final = 8  # raw

# Rumours whose bytes and objects are kept: more than are told at any time in a pool of 10,000
# of which 1% died at once, and 2 MB at most.
RUMOURS_KEPT: Final = 1_024

_UINT_MAX: Final = 1 << 63
_KEY_MIN: Final = 1 << STATUS_BITS
_KEY_MAX: Final = INCARNATION_MAX << STATUS_BITS
_PARTS_MAX: Final = 255


class WireError(Exception):
    """Bytes that are no packet for us. `reason` is one word, for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


# -- encoding ---------------------------------------------------------------------------


def encode(
    packet: Packet, *, label: str, keyring: Keyring | None = None, is_stream: bool = False
) -> bytes:
    """Return the bytes of `packet` for the pool `label`.

    Args:
        keyring: Encrypts the payload; None leaves it readable, with a checksum.
        is_stream: Rows and digests share one part each, so there may be any number.

    Raises:
        ValueError: the label is too long, or a datagram would have more than 255 parts.
    """
    payload = _encode_payload(packet, is_stream)
    label_bytes = label.encode()
    if len(label_bytes) > LABEL_BYTES_MAX:
        raise ValueError(f"pool label {label!r} has more than {LABEL_BYTES_MAX} bytes")
    flags = 0 if keyring is None else ENCRYPTED
    header = MAGIC + bytes((FORMAT, flags, len(label_bytes))) + label_bytes
    if keyring is not None:
        return header + keyring.seal(payload, header)
    return header + crc32(payload, crc32(header)).to_bytes(4, "big") + payload


def _encode_payload(packet: Packet, is_stream: bool) -> bytes:
    envelope = [packet.kind, packet.sequence, packet.sender, packet.target]
    parts = [_part(PART_ENVELOPE, _pack(envelope))]
    digests = [_pack([d.origin, d.term, d.sequence, d.age_us, d.data]) for d in packet.digests]
    if is_stream:
        rows = [_pack(_update_fields(update)) for update in packet.updates]
        parts.append(_part(PART_UPDATES, b"".join(_varint(len(row)) + row for row in rows)))
        parts.append(_part(PART_DIGESTS, b"".join(_varint(len(d)) + d for d in digests)))
    else:
        parts += map(_rumour_part, packet.updates)
        parts += (_part(PART_DIGEST, digest) for digest in digests)
    if packet.summary:
        parts.append(_part(PART_SUMMARY, packet.summary))
    if packet.buckets:
        parts.append(_part(PART_BUCKETS, packet.buckets))
    if packet.data:
        parts.append(_part(PART_DATA, packet.data))
    if len(parts) > _PARTS_MAX:
        raise ValueError(f"a packet has at most {_PARTS_MAX} parts, not {len(parts)}")
    return bytes((SCHEMA, len(parts))) + b"".join(parts)


def _part(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _varint(len(body)) + body


@lru_cache(RUMOURS_KEPT)
def _rumour_part(update: Update) -> bytes:
    """Return the part of one rumour, which goes out as many times as the limit says."""
    return _part(PART_UPDATE, _pack(_update_fields(update)))


def _update_fields(update: Update) -> list[object]:
    by = "" if update.by == update.name else update.by
    if update.identity is None:
        return [update.name, update.key, by]
    return [update.name, update.key, by, update.identity.address, update.identity.meta]


def _pack(fields: list[object]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# -- decoding ---------------------------------------------------------------------------


def peek_label(data: bytes) -> str:
    """Return the label of the pool that a packet claims to be of.

    Raises:
        WireError: too_short, magic, version, label.
    """
    if len(data) < len(MAGIC) + 3:
        raise WireError("too_short", f"{len(data)} bytes")
    if data[:2] != MAGIC:
        raise WireError("magic", "this is no gossip packet")
    if data[2] != FORMAT:
        raise WireError("version", f"format {data[2]}, we speak {FORMAT}")
    label = data[5 : 5 + data[4]]
    if len(label) != data[4] or len(label) > LABEL_BYTES_MAX:
        raise WireError("label", "cut off or too long")
    try:
        return label.decode()
    except UnicodeDecodeError:
        raise WireError("label", "not UTF-8") from None


def decode(data: bytes, *, label: str, keyring: Keyring | None = None) -> Packet:
    """Return the packet that `data` holds.

    Args:
        label: The pool's; a packet of another one is refused.
        keyring: The pool's; with one, a packet in clear is refused, and vice versa.

    Raises:
        WireError: and nothing else; `reason` is one of too_short, magic, version, label,
            not_encrypted, no_key, wrong_key, checksum, malformed.
    """
    if peek_label(data) != label:
        raise WireError("label", "of another pool")
    start = 5 + data[4]
    header, body = data[:start], data[start:]
    if data[3] & ENCRYPTED:
        if keyring is None:
            raise WireError("no_key", "encrypted, but this pool has no key")
        payload = keyring.open(body, header)
        if payload is None:
            raise WireError("wrong_key", "no key opens it, or it was changed")
    else:
        if keyring is not None:
            raise WireError("not_encrypted", "this pool is encrypted")
        payload = body[4:]
        if len(body) < 4 or crc32(payload, crc32(header)) != int.from_bytes(body[:4], "big"):
            raise WireError("checksum")
    return _decode_payload(payload)


def _decode_payload(payload: bytes) -> Packet:
    if len(payload) < 2:
        raise WireError("malformed", "no parts")
    position = 2
    envelope: tuple[int, int, str, str] | None = None
    updates: list[Update] = []
    digests: list[Digest] = []
    summary = buckets = data = b""
    for _ in range(payload[1]):
        if position >= len(payload):
            raise WireError("malformed", "fewer parts than announced")
        kind = payload[position]
        body, position = _take(payload, position + 1)
        if kind == PART_ENVELOPE:
            envelope = _envelope(_unpack(body))
        elif kind == PART_UPDATE:
            updates.append(_rumour(body))
        elif kind == PART_DIGEST:
            digests.append(_digest(_unpack(body)))
        elif kind == PART_UPDATES:
            updates += (_update(_unpack(row)) for row in _rows(body))
        elif kind == PART_DIGESTS:
            digests += (_digest(_unpack(row)) for row in _rows(body))
        elif kind == PART_SUMMARY:
            summary = body
        elif kind == PART_BUCKETS:
            buckets = body
        elif kind == PART_DATA:
            data = body
    if envelope is None:
        raise WireError("malformed", "no envelope")
    return Packet(*envelope, tuple(updates), tuple(digests), summary, buckets, data)


def _rows(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        row, position = _take(body, position)
        yield row


def _take(data: bytes, position: int) -> tuple[bytes, int]:
    """Return a length-prefixed run of bytes and the position behind it."""
    length = shift = 0
    while True:
        if position >= len(data) or shift > 28:
            raise WireError("malformed", "a length is cut off")
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    end = position + length
    if end > len(data):
        raise WireError("malformed", f"a part of {length} bytes is cut off")
    return data[position:end], end


def _unpack(body: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise WireError("malformed", f"not msgpack: {error}") from None
    if not isinstance(fields, list):
        raise WireError("malformed", "a part is no array")
    return fields


def _envelope(fields: list[Any]) -> tuple[int, int, str, str]:
    kind, sequence, sender, target = _first(fields, 4)
    return (
        _uint(kind, 256),
        _uint(sequence),
        _text(sender, NAME_BYTES_MAX),
        _text(target, NAME_BYTES_MAX),
    )


def _update(fields: list[Any]) -> Update:
    name, key, by = _first(fields, 3)
    name = _text(name, NAME_BYTES_MAX)
    if not name:
        raise WireError("malformed", "a member without a name")
    key = _uint(key, _KEY_MAX)
    if key < _KEY_MIN:
        raise WireError("malformed", "incarnations begin at 1")
    identity = None
    if len(fields) >= 5:
        identity = Identity(name, _text(fields[3], ADDRESS_BYTES_MAX), _meta(fields[4]))
    elif key & STATUS_MASK == ALIVE:
        raise WireError("malformed", "alive, but where?")
    return make_update(name, key, _text(by, NAME_BYTES_MAX) or name, identity)


@lru_cache(RUMOURS_KEPT)
def _rumour(body: bytes) -> Update:
    """Return the update of a part. Others tell it over and over: to each, the same object."""
    return _update(_unpack(body))


def _digest(fields: list[Any]) -> Digest:
    origin, term, sequence, age_us, data = _first(fields, 5)
    if type(data) is not bytes or len(data) > DIGEST_BYTES_MAX:
        raise WireError("malformed", f"a digest's data is at most {DIGEST_BYTES_MAX} bytes")
    return Digest(
        _text(origin, ADDRESS_BYTES_MAX), _uint(term), _uint(sequence), _uint(age_us), data
    )


def _first(fields: list[Any], count: int) -> list[Any]:
    if len(fields) < count:
        raise WireError("malformed", f"a part has {len(fields)} elements, not {count}")
    return fields[:count]


def _uint(value: Any, limit: int = _UINT_MAX) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise WireError("malformed", "a number is none, or out of range")
    return value


def _text(value: Any, bytes_max: int) -> str:
    if type(value) is not str or utf8_bytes(value) > bytes_max:
        raise WireError("malformed", f"a text is none, or longer than {bytes_max} bytes")
    return value


def _meta(value: Any) -> dict[str, str]:
    if type(value) is not dict or not all(
        type(k) is str and type(v) is str for k, v in value.items()
    ):
        raise WireError("malformed", "metadata maps texts to texts")
    if meta_bytes(value) > META_BYTES_MAX:
        raise WireError("malformed", f"metadata has more than {META_BYTES_MAX} bytes")
    return value
