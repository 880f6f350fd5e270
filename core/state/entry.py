"""Log entries as bytes: `format byte, schema byte, msgpack of Entry`.

The first byte is how the entry is written, the second which commands it may hold. A
replica that meets either beyond its own, or a command it has no handler for, raises
`UnknownCommand`; the host halts with that message, for guessing would let replicas
diverge.

Floors above may own commands of their own (`core.federation` does): they subclass
`Command` and call `register_handler` when their module is imported. Who replays a log
must have imported them before.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, Union

import msgspec

from core.state.commands import Command, Entry, RecordCall
from core.state.job_forms import MARK, read_registration

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.result import CommandResult
    from core.state.state import State

FORMAT: Final = 1
SCHEMA: Final = 1  # the newest schema that this code understands

C = TypeVar("C", bound=Command)
Handler = Callable[["State", Any, "Context"], "CommandResult"]

HANDLERS: Final[dict[type[Command], Handler]] = {}
_SCHEMAS: Final[dict[type[Command], int]] = {}  # of commands that came after schema 1


class UnknownCommand(Exception):
    """This replica can't understand a committed entry and must stop."""


class _Envelope(msgspec.Struct, omit_defaults=True):
    wall_us: int
    commands: list[msgspec.Raw]
    call: RecordCall | None = None


class _Tag(msgspec.Struct):
    name: str = msgspec.field(name="@", default="")


_ENCODER: Final = msgspec.msgpack.Encoder()
_ENVELOPES: Final = msgspec.msgpack.Decoder(_Envelope)
_TAGS: Final = msgspec.msgpack.Decoder(_Tag)
_command_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {}


def register_handler(
    command_type: type[C],
    handler: Callable[["State", C, "Context"], "CommandResult"],
    schema: int = 1,
) -> None:
    """Make `command_type` part of the log, carried out by `handler`.

    Args:
        schema: The first that has this command. It is not written before all servers of a
            datacenter know that schema and say so (core.server.autopilot).

    Raises:
        ValueError: Another command of this name is registered.
    """
    for known in HANDLERS:
        if known.__name__ == command_type.__name__ and known is not command_type:
            raise ValueError(f"a command named {command_type.__name__} is registered already")
    HANDLERS[command_type] = handler
    if schema > 1:
        _SCHEMAS[command_type] = schema
    _command_decoders.clear()


def schema_of(command: Any) -> int:
    """Return the first schema that has this command."""
    return _SCHEMAS.get(type(command), 1)


def encode_entry(entry: Entry, schema: int = SCHEMA) -> bytes:
    """Return the bytes of a log entry, marked with the schema that its readers need."""
    return bytes((FORMAT, schema)) + _ENCODER.encode(entry)


def decode_entry(data: bytes, schema_max: int = SCHEMA) -> Entry:
    """Return the entry that `encode_entry` wrote, its commands as records.

    Args:
        schema_max: The newest schema that this replica understands.

    Raises:
        UnknownCommand: Format, schema or a command is not known here, or the bytes are
            not an entry at all.
    """
    if len(data) < 2:
        raise UnknownCommand(f"log entry of {len(data)} bytes is no entry: the log is damaged")
    if data[0] != FORMAT:
        raise UnknownCommand(f"log entry has format {data[0]}, this version reads {FORMAT}")
    if data[1] > schema_max:
        raise UnknownCommand(
            f"log entry has schema {data[1]}, this version knows up to {schema_max}: upgrade it"
        )
    try:
        envelope = _ENVELOPES.decode(memoryview(data)[2:])
    except msgspec.MsgspecError as error:
        raise UnknownCommand(f"log entry can't be read: {error}") from error
    commands = [_decode_command(raw) for raw in envelope.commands]
    for command in commands:
        if schema_of(command) > schema_max:
            raise UnknownCommand(_unknown(type(command).__name__))
    return Entry(wall_us=envelope.wall_us, commands=commands, call=envelope.call)


def _decode_command(raw: msgspec.Raw) -> Command:
    decoder = _command_decoders.get(0)
    if decoder is None:
        decoder = msgspec.msgpack.Decoder(Union[tuple(HANDLERS)])  # noqa: UP007
        _command_decoders[0] = decoder
    try:
        if bytes(memoryview(raw)[1 : 1 + len(MARK)]) == MARK:
            return read_registration(raw)
        command: Command = decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise UnknownCommand(_explain(raw, error)) from error
    return command


def _explain(raw: msgspec.Raw, error: Exception) -> str:
    try:
        name = _TAGS.decode(raw).name
    except msgspec.MsgspecError:
        name = ""
    if name and name not in {known.__name__ for known in HANDLERS}:
        return _unknown(name)
    return f"command {name!r} in the log can't be read: {error}"


def _unknown(name: str) -> str:
    return f"unknown command {name!r} in the log: a newer version wrote it, upgrade this one"
