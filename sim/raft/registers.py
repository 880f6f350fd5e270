"""The workload's commands: registers in the replicated state that ships.

The state is `core.state.State`, so its dropping of repeated calls, its snapshots and its
hash are the shipped ones. Registers stand among the tokens: the one table whose records are
open. A register that nobody wrote reads as "".
"""

from typing import Any, Final

from core.state.commands import Command, Entry, RecordCall
from core.state.context import Context
from core.state.entry import encode_entry, register_handler
from core.state.result import Applied, CommandResult
from core.state.state import State

VALUE: Final = "Value"


class SetRegister(Command):
    """Write a register; with `is_swap` only when it holds `expected`."""

    key: str
    value: str
    is_swap: bool = False
    expected: str = ""


def read(state: State, key: str) -> str:
    """Return what a register holds."""
    record = state.tokens.get(key)
    return "" if record is None else str(record[VALUE])


def encode(command: SetRegister, call_id: str, *, issued_us: int, wall_us: int) -> bytes:
    """Return the log entry of a client's write, marked with its call."""
    call = RecordCall(call_id, issued_us)
    return encode_entry(Entry(wall_us=wall_us, commands=[command], call=call))


def found(applied: Applied) -> str:
    """Return what the register held just before, as the client is told."""
    return str(applied.results[0].value)


def _set_register(state: State, command: SetRegister, context: Context) -> CommandResult:
    held = read(state, command.key)
    if not command.is_swap or held == command.expected:
        record: dict[str, Any] = {"SecretID": command.key, VALUE: command.value}
        state.tokens.put(command.key, {**record, "ModifyIndex": context.index})
    return CommandResult(value=held)


register_handler(SetRegister, _set_register)
