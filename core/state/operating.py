"""What operators of a datacenter write into its state: autopilot, removed servers, restores.

A restore travels through the log like everything else. Its bytes come first, in entries of
their own (`StageSnapshot`), and stand in a table until one `RestoreSnapshot` takes their
state in place of the present one, on every replica at the same entry. What belongs to this
datacenter and not to the past stays: its identity, the answers to calls, the removed
servers; and indexes never go back, so that whoever waits for a change hears of it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from core.state.commands import (
    Checkpoint,
    RemoveServer,
    RestoreSnapshot,
    SetAutopilotConfig,
    StageSnapshot,
)
from core.state.result import CommandResult
from core.state.snapshot import HEADER_BYTES, SnapshotError, header_schema

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

AUTOPILOT: Final = "autopilot"  # keys of the operator table
REMOVED: Final = "removed-servers"
RESTORE: Final = "restore"
CHECKPOINT: Final = "checkpoint"  # table of the Change that asks for a hash
REPLACED: Final = "state"  # table of the Change that says: all of it is another
STAGED_BYTES_MAX: Final = 4 << 30


# Asked before a restore; what it returns is called with the entry's context, and with the id of
# the datacenter that the snapshot is of, once the state is the restored one.
Prepare = Callable[["State"], Callable[["Context", str], None]]
_prepared: list[Prepare] = []


def on_restore(prepare: Prepare) -> None:
    """Let a floor above keep what of its tables must not go back in time."""
    if prepare not in _prepared:
        _prepared.append(prepare)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A snapshot as a state, or why it is none."""

    digest: str  # SHA-256 of its bytes, hex
    state: "State | None" = None
    error: str = ""


def decode(kind: type["State"], chunks: Sequence[bytes], schema_max: int) -> Decoded:
    """Read a snapshot. It takes as long as the state is large: rather in a worker."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    try:
        return Decoded(digest.hexdigest(), kind.restore(chunks, schema_max))
    except SnapshotError as error:
        return Decoded(digest.hexdigest(), error=str(error))
    except Exception as error:  # whatever a hostile file does, the server goes on
        text = f"snapshot is damaged: {type(error).__name__}: {error}"
        return Decoded(digest.hexdigest(), error=text)


def set_autopilot_config(
    state: "State", command: SetAutopilotConfig, context: "Context"
) -> CommandResult:
    """Replace the configuration of autopilot. `value`: whether it was done."""
    index = state.table_index(AUTOPILOT)
    if command.check_index is not None and command.check_index != index:
        return CommandResult(value=False)
    state.operator.put(AUTOPILOT, command.config)
    context.changed(AUTOPILOT, "AutopilotConfig")
    return CommandResult(value=True)


def remove_server(state: "State", command: RemoveServer, context: "Context") -> CommandResult:
    """Note that a server is not to be taken into the quorum again."""
    removed = state.operator.get(REMOVED) or {}
    if command.server_id not in removed:
        state.operator.put(REMOVED, {**removed, command.server_id: context.index})
    return CommandResult()


def checkpoint(state: "State", command: Checkpoint, context: "Context") -> CommandResult:
    """Change nothing but say so: whoever drives the state hashes it after this entry."""
    context.changed(CHECKPOINT, "Checkpoint")
    return CommandResult(value=context.index)


def stage_snapshot(state: "State", command: StageSnapshot, context: "Context") -> CommandResult:
    """Keep the next bytes of a snapshot. `value`: how many there are now."""
    found = state.operator.get(RESTORE) or {}
    if command.offset == 0:
        _clear(state)
        found = {"id": command.restore_id, "size": 0}
    size = found.get("size", 0)
    if found.get("id") != command.restore_id:
        return CommandResult(error="another restore was begun meanwhile: try again", status=409)
    if command.offset != size:
        return CommandResult(
            error=f"the restore is at byte {size}, not {command.offset}: begin again", status=409
        )
    if size + len(command.data) > STAGED_BYTES_MAX:
        _clear(state)
        return CommandResult(error=f"the snapshot is over {STAGED_BYTES_MAX} bytes", status=413)
    state.staged.put(command.offset, command.data)
    state.operator.put(RESTORE, {"id": command.restore_id, "size": size + len(command.data)})
    return CommandResult(value=size + len(command.data))


def restore_snapshot(state: "State", command: RestoreSnapshot, context: "Context") -> CommandResult:
    """Take the staged state. `value`: the index that the state goes on from.

    `state.decoded` may hold it already: a host has it read by a worker before this entry.
    """
    found: dict[str, Any] = state.operator.get(RESTORE) or {}
    decoded, state.decoded = state.decoded, None
    if found.get("id") != command.restore_id:
        return CommandResult(error="another restore was begun meanwhile: try again", status=409)
    chunks = list(state.staged.values())
    _clear(state)
    decoded = decoded or decode(type(state), chunks, state.schema_max)
    if decoded.digest != command.digest:
        return CommandResult(error="the staged bytes are not those that were sent", status=409)
    # A replica that knows more schemas must not take what another can't: same log, same state.
    schema = header_schema(b"".join(chunks[:1])[:HEADER_BYTES])
    if schema > state.schema:
        return CommandResult(
            error=f"the snapshot has schema {schema}, this datacenter is at {state.schema}: "
            "upgrade all of its servers first",
            status=400,
        )
    fresh = decoded.state
    if fresh is None:
        return CommandResult(error=decoded.error, status=400)
    if refusal := refuse_stranger(state, fresh.datacenter_id, is_forced=command.is_forced):
        return CommandResult(error=refusal, status=409)
    source = fresh.datacenter_id
    followers = [prepare(state) for prepare in _prepared]
    state.take_over(fresh, context)
    for restored in followers:
        restored(context, source)
    return CommandResult(value=state.index)


def refuse_stranger(state: "State", datacenter_id: str, *, is_forced: bool) -> str:
    """Return why a snapshot of this datacenter id is not restored here, "" when it is."""
    if is_forced or datacenter_id == state.datacenter_id:
        return ""
    return (
        f"the snapshot is of datacenter {datacenter_id or '(none)'}, this is "
        f"{state.datacenter_id}: restore it there, or say -force to take its state over"
    )


def _clear(state: "State") -> None:
    for offset in list(state.staged):
        state.staged.delete(offset)
    state.operator.delete(RESTORE)
