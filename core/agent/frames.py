"""Frames between agents: what one RPC connection carries.

A connection begins with a preface, so a stranger is recognised by his first bytes.
Then frames follow in both directions:

    length: u32, big endian, of what follows; at most `MAX_FRAME_BYTES`
    body:   msgpack array [kind, id, name, payload]

    HELLO  [0, version, "",      {name, role, datacenter_id, address}]   first frame of the caller,
                                                                         `MAX_HELLO_BYTES` at most
    CALL   [1, id,      method,  body]
    REPLY  [2, id,      error,   body]          error "" = answered
    SEND   [3, 0,       channel, body]          no answer

The bodies are msgpack of records and plain values; a receiver converts them to the
types it expects, and what does not convert is refused with the place. The body of a SEND is
handed on as bytes (`msgspec.Raw`): whoever knows its type decodes it once.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

PREFACE: Final = b"SERAI\x00\x01\n"  # name, format 1
PROTOCOL_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
MAX_HELLO_BYTES: Final = 16 * 1024  # a stranger makes us hold no more than this
LENGTH_BYTES: Final = 4


class FrameKind(IntEnum):
    HELLO = 0
    CALL = 1
    REPLY = 2
    SEND = 3


# By method: what decodes a call's body. One that is not of its type comes as plain values,
# so that whoever takes the call says what is wrong.
Bodies = Mapping[str, msgspec.msgpack.Decoder[Any]]


class Frame(NamedTuple):
    kind: FrameKind
    id: int
    name: str
    body: Any


class FrameError(Exception):
    """The bytes are not ours, or are larger than allowed. The connection is closed."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, int, str, msgspec.Raw])


def encode_frame(kind: FrameKind, number: int, name: str, body: Any) -> bytearray:
    """Return the frame's bytes with its length in front.

    Raises:
        FrameError: It would be longer than the receiver accepts, or holds what msgpack
            can't say: JSON knows integers beyond 64 bits, and a user may send one.
    """
    frame = bytearray(LENGTH_BYTES)
    try:
        _encoder.encode_into((int(kind), number, name, body), frame, LENGTH_BYTES)
    except (OverflowError, ValueError, TypeError, RecursionError) as error:
        raise FrameError(f"frame {name!r} can't be encoded: {error}") from None
    length = len(frame) - LENGTH_BYTES
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"frame {name!r} has {length} bytes, {MAX_FRAME_BYTES} is the limit")
    frame[:LENGTH_BYTES] = length.to_bytes(LENGTH_BYTES, "big")
    return frame


class FrameReader:
    """Cuts a byte stream into frames. Holds at most one incomplete frame.

    After a `FrameError` the stream has lost its place: the reader can't be used further.
    """

    def __init__(self, *, expects_preface: bool, bodies: Bodies | None = None) -> None:
        self._buffer = bytearray()
        self._bodies = bodies or {}
        self._expects_preface = expects_preface
        self._limit_bytes = MAX_HELLO_BYTES if expects_preface else MAX_FRAME_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they came, return the frames that are now whole.

        Raises:
            FrameError: Not our protocol, too long, or not decodable.
        """
        self._buffer += data
        if self._expects_preface:
            head = bytes(self._buffer[: len(PREFACE)])
            if not PREFACE.startswith(head):
                raise FrameError(f"not a Serai RPC connection: it begins with {head[:8]!r}")
            if len(head) < len(PREFACE):
                return []
            del self._buffer[: len(PREFACE)]
            self._expects_preface = False
        frames: list[Frame] = []
        start = 0
        with memoryview(self._buffer) as view:
            while len(view) - start >= LENGTH_BYTES:
                length = int.from_bytes(view[start : start + LENGTH_BYTES], "big")
                if length > self._limit_bytes:
                    raise FrameError(
                        f"announced frame of {length} bytes, {self._limit_bytes} is the limit"
                    )
                end = start + LENGTH_BYTES + length
                if len(view) < end:
                    break
                frames.append(_decode(bytes(view[start + LENGTH_BYTES : end]), self._bodies))
                self._limit_bytes = MAX_FRAME_BYTES
                start = end
        del self._buffer[:start]
        return frames


def _decode(payload: bytes, bodies: Bodies) -> Frame:
    try:
        kind, number, name, raw = _decoder.decode(payload)
        body = raw if kind == FrameKind.SEND else _decode_body(kind, name, raw, bodies)
        return Frame(FrameKind(kind), number, name, body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"undecodable frame: {error}") from None


def _decode_body(kind: int, name: str, raw: msgspec.Raw, bodies: Bodies) -> Any:
    typed = bodies.get(name) if kind == FrameKind.CALL else None
    if typed is not None:
        try:
            return typed.decode(raw)
        except msgspec.ValidationError:
            pass
    return msgspec.msgpack.decode(raw)
