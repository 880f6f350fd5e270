"""What replicas say to each other, and what a log is made of.

On a wire a message is `encode(message)`: one byte format, one byte schema, msgpack. A
schema only ever appends fields, with defaults, at the end of a struct: an older reader
skips what it does not know, a newer one fills in the default. A changed meaning needs a
new format. Inside one process (the simulator) the frozen structs travel as they are.

Terms and indexes are whole numbers from 1; 0 means "none yet". Rounds count heartbeats.
"""

import zlib
from enum import IntEnum
from typing import Annotated, Any, Final

import msgspec

FORMAT: Final = 1  # first byte of every encoded message
SCHEMA: Final = 1  # second byte; for the record, readers accept any
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class MessageError(ValueError):
    """Bytes that are no message of ours: the text names what is wrong and the remedy."""


class Kind(IntEnum):
    """What an entry's data is."""

    COMMAND = 0  # the host's bytes
    NOOP = 1  # a new leader's first entry (dissertation section 6.4); no data
    CONFIGURATION = 2  # an encoded `Configuration`


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One place in the log. (index, term) names its content in the whole cluster."""

    index: Count
    term: Count
    kind: Kind = Kind.COMMAND
    data: bytes = b""


class Configuration(msgspec.Struct, array_like=True, frozen=True):
    """Who takes part: replica id -> address. Ids are sorted, so equal sets are equal bytes."""

    voters: dict[str, str] = {}
    learners: dict[str, str] = {}  # receive the log, neither vote nor count

    @classmethod
    def of(cls, voters: dict[str, str], learners: dict[str, str] | None = None) -> "Configuration":
        return cls(dict(sorted(voters.items())), dict(sorted((learners or {}).items())))

    @property
    def addresses(self) -> dict[str, str]:
        """Voters and learners together."""
        return {**self.voters, **self.learners}

    @property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return len(self.voters) // 2 + 1

    def encode(self) -> bytes:
        """Return the data of a configuration entry."""
        return bytes([FORMAT, SCHEMA]) + msgspec.msgpack.encode(self, order="deterministic")

    @classmethod
    def decode(cls, data: bytes) -> "Configuration":
        """Read a configuration entry.

        Raises:
            MessageError: The data is of another format or damaged.
        """
        if len(data) < 2 or data[0] != FORMAT:
            raise MessageError(
                f"configuration entry has format {data[:1].hex() or 'none'}, this program "
                f"reads {FORMAT}: run the version that wrote it"
            )
        try:
            found = msgspec.msgpack.decode(memoryview(data)[2:], type=Configuration)
        except msgspec.DecodeError as error:
            raise MessageError(f"configuration entry is damaged: {error}") from error
        return cls.of(found.voters, found.learners)


class SnapshotMeta(msgspec.Struct, array_like=True, frozen=True):
    """Names a snapshot: the state after applying the log up to (index, term).

    State is a function of the log, so two replicas' snapshots at one index are the same
    bytes, and a transfer begun by one leader can be resumed by the next.
    """

    index: Count = 0
    term: Count = 0
    configuration: Configuration = Configuration()
    configuration_index: Count = 0
    size: Count = 0  # bytes of the body; 0 until it was saved
    digest: str = ""  # SHA-256 of the body, hex; "" until it was saved
    cluster_id: str = ""  # the host's name of the cluster; "" = it did not say

    @property
    def snapshot_id(self) -> str:
        return f"{self.index:020d}-{self.term:020d}"


class Message(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """Any message. `term` is the sender's, except where a pre-vote says otherwise."""

    term: Count


class VoteRequest(Message, frozen=True):
    """Ask for a vote; a pre-vote asks "would you?" and binds nobody (section 9.6)."""

    last_index: Count
    last_term: Count
    is_pre_vote: bool = False  # then `term` is the one that the sender would campaign in
    is_transfer: bool = False  # the leader asked for it: voters need not wait (section 4.2.3)


class VoteAnswer(Message, frozen=True):
    """`term` is the request's when granted, else the answerer's own."""

    is_granted: bool
    is_pre_vote: bool = False


class Append(Message, frozen=True):
    """Entries that follow (prev_index, prev_term), none to ask whether that place matches."""

    prev_index: Count
    prev_term: Count
    commit_index: Count
    entries: list[Entry] = []


class AppendAnswer(Message, frozen=True):
    """Accepted: the sender's log is durable and equal up to `index`.

    Refused: `index` is the prev_index that did not match, and (hint_index, hint_term) the
    newest place of the follower's log that may.
    """

    is_accepted: bool
    index: Count
    hint_index: Count = 0
    hint_term: Count = 0
    is_disk_full: bool = False


class Heartbeat(Message, frozen=True):
    """Says who leads. `round` 0 wants no answer and only brings the commit index."""

    round: Count
    commit_index: Count


class HeartbeatAnswer(Message, frozen=True):
    round: Count


class TimeoutNow(Message, frozen=True):
    """The leader hands over: campaign at once (section 3.10)."""


class SnapshotChunk(Message, frozen=True):
    """Bytes [offset, offset + len(data)) of the snapshot `meta`."""

    meta: SnapshotMeta
    offset: Count
    data: bytes
    is_last: bool
    checksum: Count  # crc32 of `data`


class SnapshotAnswer(Message, frozen=True):
    """Which byte the follower wants next. `is_done`: it needs this snapshot no more."""

    snapshot_id: str
    next_offset: Count
    is_done: bool = False


AnyMessage = (
    VoteRequest
    | VoteAnswer
    | Append
    | AppendAnswer
    | Heartbeat
    | HeartbeatAnswer
    | TimeoutNow
    | SnapshotChunk
    | SnapshotAnswer
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AnyMessage)
_VERSION: Final = bytes([FORMAT, SCHEMA])


def encode(message: Message) -> bytes:
    """Return format, schema and the message as msgpack."""
    return _VERSION + _encoder.encode(message)


def decode(data: bytes | memoryview) -> Message:
    """Read what `encode` wrote.

    Raises:
        MessageError: Too long, of another format, or not a message.
    """
    return decode_as(_decoder, data)


def decode_as(decoder: msgspec.msgpack.Decoder[Any], data: bytes | memoryview) -> Message:
    """Read what `encode` wrote of another engine's messages; see `decode`."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"raft message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
    if len(data) < 3:
        raise MessageError(f"raft message of {len(data)} bytes is cut short")
    if data[0] != FORMAT:
        raise MessageError(
            f"raft message has format {data[0]}, this program reads {FORMAT}: "
            "upgrade the older of the two servers"
        )
    try:
        message: Message = decoder.decode(memoryview(data)[2:])
    except msgspec.DecodeError as error:
        raise MessageError(f"not a raft message: {error}") from error
    return message


def read(data: Any) -> Message:
    """Return a message from what a host got: its bytes, plain values, or the struct itself.

    Raises:
        MessageError: It is none.
    """
    if isinstance(data, Message):
        return data
    return read_as(_decoder, AnyMessage, data)


def read_as(decoder: msgspec.msgpack.Decoder[Any], types: Any, data: Any) -> Message:
    """Read another engine's message; see `read`.

    `Raw` is msgpack of the struct alone, as inside a frame; bytes are what `encode` wrote.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return decode_as(decoder, memoryview(data))
    try:
        if isinstance(data, msgspec.Raw):
            message: Message = decoder.decode(data)
        else:
            message = msgspec.convert(data, types)
    except msgspec.MsgspecError as error:
        raise MessageError(f"not a raft message: {error}") from error
    return message


def checksum(data: bytes) -> int:
    """Return the crc32 that a `SnapshotChunk` carries."""
    return zlib.crc32(data)
