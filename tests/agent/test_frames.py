"""Frames: whatever the network does to the bytes, frames come out whole or not at all."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import decode

from core.agent.frames import (
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    PREFACE,
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    encode_frame,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
frames = st.builds(
    Frame,
    st.sampled_from(FrameKind),
    st.integers(0, (1 << 63) - 1),
    st.text(max_size=12),
    plain,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=120, deadline=None)
@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 1 << 20), max_size=8), st.booleans())
def test_frames_survive_any_cut_of_the_stream(
    sent: list[Frame], places: list[int], has_preface: bool
) -> None:
    data = b"".join(encode_frame(*frame) for frame in sent)
    if has_preface:
        data = PREFACE + data
    reader = FrameReader(expects_preface=has_preface)
    got = [frame for piece in cut(data, places) for frame in reader.feed(piece)]
    assert [decoded(frame) for frame in got] == sent


def decoded(frame: Frame) -> Frame:
    """The body of a SEND comes as bytes, for who knows its type."""
    return frame._replace(body=decode(frame.body)) if frame.kind is FrameKind.SEND else frame


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_garbage_is_refused_in_words_or_waits_for_more(data: bytes, expects_preface: bool) -> None:
    reader = FrameReader(expects_preface=expects_preface)
    try:
        reader.feed(data)
    except FrameError as error:
        assert str(error)


@settings(max_examples=150, deadline=None)
@given(frames, st.integers(0, 1 << 16), st.integers(1, 255))
def test_a_flipped_byte_never_raises_anything_else(frame: Frame, place: int, flip: int) -> None:
    data = bytearray(encode_frame(*frame))
    data[place % len(data)] ^= flip
    try:
        FrameReader(expects_preface=False).feed(bytes(data))
    except FrameError as error:
        assert str(error)


def test_every_prefix_of_the_preface_waits_and_any_other_byte_is_refused() -> None:
    for size in range(len(PREFACE)):
        reader = FrameReader(expects_preface=True)
        assert reader.feed(PREFACE[:size]) == []
        with pytest.raises(FrameError, match="not a Serai RPC connection"):
            reader.feed(b"\xff")


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(FrameError, match=f"{MAX_FRAME_BYTES} is the limit"):
        FrameReader(expects_preface=False).feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_stranger_may_not_announce_a_large_first_frame() -> None:
    reader = FrameReader(expects_preface=True)
    with pytest.raises(FrameError, match=f"{MAX_HELLO_BYTES} is the limit"):
        reader.feed(PREFACE + (MAX_HELLO_BYTES + 1).to_bytes(4, "big"))


def test_after_the_first_frame_large_ones_are_taken() -> None:
    reader = FrameReader(expects_preface=True)
    hello = encode_frame(FrameKind.HELLO, 1, "", {})
    large = encode_frame(FrameKind.CALL, 2, "Query", b"x" * (2 * MAX_HELLO_BYTES))
    assert [frame.id for frame in reader.feed(PREFACE + hello + large)] == [1, 2]


def test_what_is_too_large_to_send_is_not_sent() -> None:
    with pytest.raises(FrameError, match="is the limit"):
        encode_frame(FrameKind.CALL, 1, "Query", bytes(MAX_FRAME_BYTES))


def test_an_integer_beyond_64_bits_is_an_error_of_the_frame() -> None:
    body = msgspec.json.decode(b'{"Priority": 123456789012345678901234567890}')
    with pytest.raises(FrameError, match="'Query' can't be encoded"):
        encode_frame(FrameKind.CALL, 1, "Query", body)


@pytest.mark.parametrize("body", [(9, 0, "", None), (0, 0, 7, None), (0, "", "", None), (0,), {}])
def test_a_frame_of_another_shape_is_refused(body: object) -> None:
    payload = msgspec.msgpack.encode(body)
    with pytest.raises(FrameError, match="undecodable frame"):
        FrameReader(expects_preface=False).feed(len(payload).to_bytes(4, "big") + payload)


def test_long_bodies_are_decoded_into_their_type() -> None:
    """A body that is not of the type comes as plain values: who takes the call refuses it."""

    class Report(msgspec.Struct):
        updates: list[int]

    bodies = {"Node.Update": msgspec.msgpack.Decoder(Report)}

    def read(method: str, body: Any) -> Any:
        data = encode_frame(FrameKind.CALL, 1, method, body)
        (frame,) = FrameReader(expects_preface=False, bodies=bodies).feed(bytes(data))
        return frame.body

    assert read("Node.Update", {"updates": [1, 2]}) == Report([1, 2])
    assert read("Node.Update", {"updates": "many"}) == {"updates": "many"}
    assert read("Node.Hello", {"updates": [1, 2]}) == {"updates": [1, 2]}
