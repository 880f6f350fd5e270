"""Bytes: what goes in comes out, and garbage is refused with a reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.keyring import Keyring, encode_key
from gossip.local import ENVELOPE_BYTES
from gossip.messages import (
    ADDRESS_BYTES_MAX,
    DIGEST_BYTES_MAX,
    GOSSIP,
    INCARNATION_MAX,
    LABEL_BYTES_MAX,
    NAME_BYTES_MAX,
    PING,
    Digest,
    Identity,
    Packet,
    make_update,
    meta_bytes,
    utf8_bytes,
)
from gossip.wire import SCHEMA, WireError, decode, encode, peek_label

KEY, OTHER_KEY = bytes(range(32)), bytes(16)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
metas = st.dictionaries(names, names, max_size=4).filter(lambda m: meta_bytes(m) <= 512)
uints = st.integers(0, (1 << 63) - 1)


@st.composite
def updates(draw):
    name = draw(names)
    key = draw(st.integers(4, (INCARNATION_MAX << 2) - 1))
    needs_identity = key & 3 == 0 or draw(st.booleans())
    identity = Identity(name, draw(names), draw(metas)) if needs_identity else None
    return make_update(name, key, draw(names), identity)


digests = st.builds(Digest, names, uints, uints, uints, st.binary(max_size=DIGEST_BYTES_MAX))
packets = st.builds(
    Packet,
    st.integers(0, 255),
    uints,
    names,
    names,
    st.lists(updates(), max_size=5).map(tuple),
    st.lists(digests, max_size=3).map(tuple),
    st.binary(max_size=64),
    st.binary(max_size=64),
)


def as_plain(packet: Packet) -> object:
    return (
        packet.kind,
        packet.sequence,
        packet.sender,
        packet.target,
        [(u.name, u.key, u.by, u.identity, u.size_bytes) for u in packet.updates],
        [(d.origin, d.term, d.sequence, d.age_us, d.data) for d in packet.digests],
        packet.summary,
        packet.buckets,
    )


@pytest.mark.parametrize("keyring", [None, Keyring([KEY])], ids=["clear", "encrypted"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["datagram", "stream"])
@settings(max_examples=60)
@given(packet=packets)
def test_what_goes_in_comes_out(keyring, is_stream, packet):
    data = encode(packet, label="lan", keyring=keyring, is_stream=is_stream)
    assert peek_label(data) == "lan"
    assert as_plain(decode(data, label="lan", keyring=keyring)) == as_plain(packet)


@settings(max_examples=100)
@given(update=updates(), label=st.sampled_from(["", "x" * LABEL_BYTES_MAX]))
def test_announced_sizes_are_never_exceeded(update, label):
    """A machine fills packets by `size_bytes` alone; so it must be an upper bound."""
    sender = "s" * NAME_BYTES_MAX
    empty = Packet(GOSSIP, (1 << 63) - 1, sender, "t" * NAME_BYTES_MAX)
    full = Packet(GOSSIP, (1 << 63) - 1, sender, "t" * NAME_BYTES_MAX, (update,))
    keyring = Keyring([KEY])
    base = len(encode(empty, label=label, keyring=keyring))
    assert base <= ENVELOPE_BYTES + 2 * NAME_BYTES_MAX
    assert len(encode(full, label=label, keyring=keyring)) - base <= update.size_bytes


def test_the_largest_member_fits_into_a_packet():
    meta = {"k": "v" * (512 - 3 - 6 - 1)}
    assert meta_bytes(meta) == 512
    identity = Identity("n" * NAME_BYTES_MAX, "a" * ADDRESS_BYTES_MAX, meta)
    update = make_update(identity.name, 4, "b" * NAME_BYTES_MAX, identity)
    packet = Packet(GOSSIP, sender="s" * NAME_BYTES_MAX, updates=(update,))
    data = encode(packet, label="l" * LABEL_BYTES_MAX, keyring=Keyring([KEY]))
    assert len(data) <= 1_400


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    with pytest.raises(WireError):
        decode(data, label="lan")


@settings(max_examples=300)
@given(packet=packets, at=st.integers(0), bit=st.integers(0, 7), cut=st.integers(0))
def test_a_changed_or_cut_packet_is_refused(packet, at, bit, cut):
    data = bytearray(encode(packet, label="lan"))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(WireError):
        decode(bytes(data), label="lan")
    with pytest.raises(WireError):
        decode(encode(packet, label="lan")[: cut % len(data)], label="lan")


@settings(max_examples=400)
@given(payload=st.binary(max_size=120), count=st.integers(0, 255))
def test_a_well_sealed_payload_of_garbage_is_refused_or_read(payload, count):
    """Past the checksum too nothing but WireError comes out."""
    from gossip.wire import _decode_payload

    for body in (payload, bytes((SCHEMA, count)) + payload):
        try:
            _decode_payload(body)
        except WireError as error:
            assert error.reason == "malformed"


@settings(max_examples=300)
@given(
    kind=st.integers(1, 7),
    fields=st.lists(
        st.one_of(
            uints, names, st.binary(max_size=20), st.none(), st.floats(), metas, st.just([[]])
        ),
        max_size=6,
    ),
)
def test_parts_of_wrong_types_are_refused_or_read(kind, fields):
    import msgpack

    from gossip.wire import _decode_payload, _varint

    body = msgpack.packb(fields)
    if kind >= 6:
        body = _varint(len(body)) + body
    envelope = msgpack.packb([0, 0, "", ""])
    payload = bytes((SCHEMA, 2, 1)) + _varint(len(envelope)) + envelope
    try:
        _decode_payload(payload + bytes((kind,)) + _varint(len(body)) + body)
    except WireError as error:
        assert error.reason == "malformed"


def test_newer_parts_and_elements_are_skipped():
    import msgpack

    from gossip.wire import _decode_payload, _varint

    envelope = msgpack.packb([PING, 5, "b", "a", "an element of schema 2", {"x": 1}])
    payload = b"".join(
        (
            bytes((SCHEMA + 1, 2)),
            bytes((200,)) + _varint(300) + b"?" * 300,
            bytes((1,)) + _varint(len(envelope)) + envelope,
        )
    )
    packet = _decode_payload(payload)
    assert (packet.kind, packet.sequence, packet.sender, packet.target) == (PING, 5, "b", "a")


@pytest.mark.parametrize(
    ("reason", "data", "keyring"),
    [
        ("too_short", b"", None),
        ("magic", b"GET / HTTP/1.1\r\n\r\n", None),
        ("version", b"Sg\x09\x00\x00", None),
        ("label", encode(Packet(PING), label="wan"), None),
        ("label", b"Sg\x01\x00\xff", None),
        ("label", b"Sg\x01\x00\x01\xff", None),
        ("checksum", encode(Packet(PING), label="lan")[:-1], None),
        ("not_encrypted", encode(Packet(PING), label="lan"), Keyring([KEY])),
        ("no_key", encode(Packet(PING), label="lan", keyring=Keyring([KEY])), None),
        (
            "wrong_key",
            encode(Packet(PING), label="lan", keyring=Keyring([OTHER_KEY])),
            Keyring([KEY]),
        ),
    ],
    ids=range(10),  # not by content: a sealed packet differs at each run
)
def test_each_refusal_has_its_reason(reason, data, keyring):
    with pytest.raises(WireError) as caught:
        decode(data, label="lan", keyring=keyring)
    assert caught.value.reason == reason


def test_the_label_is_bound_to_the_encryption():
    keyring = Keyring([KEY])
    data = encode(Packet(PING), label="lan", keyring=keyring)
    with pytest.raises(WireError) as caught:
        decode(data.replace(b"lan", b"wan", 1), label="wan", keyring=keyring)
    assert caught.value.reason == "wrong_key"


def test_a_key_is_changed_without_a_gap():
    ours, theirs = Keyring([OTHER_KEY]), Keyring([OTHER_KEY])

    def is_heard() -> bool:
        data = encode(Packet(PING, 3), label="lan", keyring=ours)
        reply = encode(Packet(PING, 4), label="lan", keyring=theirs)
        decode(reply, label="lan", keyring=ours)
        return decode(data, label="lan", keyring=theirs).sequence == 3

    for step in (
        lambda ring: ring.install(KEY),
        lambda ring: ring.use(KEY),
        lambda ring: ring.remove(OTHER_KEY),
    ):
        for ring in (ours, theirs):
            step(ring)
            assert is_heard()
    assert ours.keys == [KEY]


def test_keys_are_checked():
    with pytest.raises(ValueError, match="16, 24 or 32"):
        Keyring([b"short"])
    with pytest.raises(ValueError, match="at least one"):
        Keyring([])
    with pytest.raises(ValueError, match="base64"):
        Keyring.from_base64("not base64!")
    ring = Keyring.from_base64(encode_key(KEY))
    with pytest.raises(KeyError, match="install it first"):
        ring.use(OTHER_KEY)
    with pytest.raises(ValueError, match="in use"):
        ring.remove(KEY)


def test_utf8_sizes():
    assert utf8_bytes("abc") == 3 and utf8_bytes("äöü") == 6
