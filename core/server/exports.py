"""Snapshots for operators: the state as a stream of bytes, and a stream of bytes as state.

**Saving.** `open` freezes the state (microseconds, nothing is copied) and returns a handle;
the bytes are made by a worker as they are asked for, so no whole snapshot is ever held. A
handle lives on the server that made it: a chunk that is asked for elsewhere is asked for
there. Chunks come in order; the last one may be asked for again, for its answer may have
been lost.

**Saving at an index.** The state at an earlier index is built anew from the newest Raft
snapshot (or from nothing) and the log after it, by a worker. State is a function of the
log, so every server gives the same bytes for the same index.

**Restoring.** The leader stages what arrives through the log, has a worker read the whole
once, and only then commits the one command that takes it (core.state.operating).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from core.model.host import CallDone, Event
from core.model.query import Answer
from core.server.effects import ReadSnapshot, SnapshotRead
from core.server.outbox import Timer
from core.server.request import Deferred, Proposal, QueryError, Request, Respond
from core.state.commands import RestoreSnapshot, StageSnapshot
from core.state.operating import RESTORE, refuse_stranger
from core.state.snapshot import SnapshotError
from core.state.state import State
from raft.core import Entry as LogEntry
from raft.core import Kind as EntryKind

if TYPE_CHECKING:
    from core.server.context import Server
    from core.state.result import Applied

CHUNK_BYTES: Final = 512 << 10
READ_BYTES: Final = 4 << 20
IDLE_US: Final = 120_000_000
MAX_EXPORTS: Final = 16
CALL_TIMEOUT_US: Final = 300_000_000  # a state at an earlier index is built first


class NextBytes:
    """The next bytes of a snapshot; for a worker. Each is solved once, one after the other."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def solve(self) -> tuple[bytes, bool, str]:
        """Return (bytes, whether they are the last, what went wrong)."""
        data = bytearray()
        try:
            while len(data) < CHUNK_BYTES:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return bytes(data), True, ""
                data += chunk
        except Exception as error:
            # The agent must not end because an operator's export can't be made.
            return b"", True, f"{type(error).__name__}: {error}"
        return bytes(data), False, ""


def chunks_at(
    index: int, base: list[bytes], entries: list[LogEntry], schema_max: int
) -> Iterator[bytes]:
    """Yield the snapshot of the state that a base snapshot and the entries after it make.

    Raises:
        SnapshotError: The base can't be read, or the entries don't lead to `index`.
    """
    state = State.restore(base, schema_max) if base else State(schema_max)
    for entry in entries:
        if entry.kind is EntryKind.COMMAND:
            if entry.index + state.index_offset > index:
                break
            state.apply(entry.index, entry.data)
    yield from state.image().chunks()


class _Export:
    def __init__(self, chunks: Iterator[bytes] | None) -> None:
        self.chunks = chunks  # None: the base snapshot is still being read
        self.offset = 0
        self.last: tuple[int, bytes, bool] | None = None  # (offset, bytes, is last)
        self.asked: list[tuple[int, Respond]] = []
        self.is_busy = False
        self.timer: Timer | None = None
        self.error = ""
        # Of one that is built anew:
        self.base: list[bytes] = []
        self.base_offset = 0
        self.build: Any = None


class Exports:
    """The snapshots that this server is handing out."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: dict[int, _Export] = {}
        self._reading: dict[int, int] = {}  # ticket of a ReadSnapshot -> export

    # --- saving ---------------------------------------------------------------------------

    def open(self, index: int) -> dict[str, Any]:
        """Freeze the state, as it is now or at `index`, and return its handle.

        Raises:
            QueryError: That index isn't there, or too many are open.
        """
        server = self._server
        state = server.state
        if not state.datacenter_id:
            raise QueryError(500, "this server belongs to no datacenter yet")
        if len(self._open) >= MAX_EXPORTS:
            raise QueryError(429, f"{MAX_EXPORTS} snapshots are being saved already")
        export_id = server.outbox.next_id()
        if not index or index == state.index:
            export = _Export(state.image().chunks())
            index = state.index
        else:
            export = self._at(export_id, index)
        self._open[export_id] = export
        self._arm(export_id, export)
        return {
            "ServerID": server.config.server_id,
            "ExportID": export_id,
            "Index": index,
            "DatacenterID": state.datacenter_id,
        }

    def _at(self, export_id: int, index: int) -> _Export:
        server = self._server
        state, consensus = server.state, server.consensus
        log_index = index - state.index_offset
        if index > state.index:
            if log_index <= consensus.applied_index:
                return _Export(state.image().chunks())  # what follows changed nothing
            raise QueryError(
                404, f"index {index} is not applied on this server: it is at {state.index}"
            )
        base = consensus.raft.snapshot
        if log_index < base.index:
            raise QueryError(
                404,
                f"index {index} is compacted on this server: it can go back to "
                f"{base.index + state.index_offset}",
            )
        entries = consensus.raft.entries(base.index + 1, max(base.index + 1, log_index))
        if not entries and log_index > base.index:
            raise QueryError(404, f"the log after {base.index} is not held on this server any more")
        export = _Export(None)
        export.build = (index, entries)
        if base.index:
            self._read_base(export_id, export)
        else:
            self._built(export)
        return export

    def _built(self, export: _Export) -> None:
        index, entries = export.build
        export.chunks = chunks_at(index, export.base, entries, self._server.config.schema_max)

    def _read_base(self, export_id: int, export: _Export) -> None:
        ticket = -self._server.outbox.next_id()  # Raft's own are positive
        self._reading[ticket] = export_id
        snapshot_id = self._server.consensus.raft.snapshot.snapshot_id
        self._server.outbox.emit(ReadSnapshot(ticket, snapshot_id, export.base_offset, READ_BYTES))

    def on_disk(self, event: Event) -> bool:
        """Take a chunk of a base snapshot; False when it is not ours."""
        if not isinstance(event, SnapshotRead) or event.ticket >= 0:
            return False
        export_id = self._reading.pop(event.ticket, 0)
        export = self._open.get(export_id)
        if export is None:
            return True
        if event.error:
            export.error = event.error
            export.chunks = iter(())
        else:
            export.base.append(event.data)
            export.base_offset += len(event.data)
            if not event.is_last:
                self._read_base(export_id, export)
                return True
            self._built(export)
        self._serve(export_id, export)
        return True

    def chunk(self, request: Request) -> Deferred:
        """Answer with the bytes at an offset of an open snapshot, here or where it is open."""
        server = self._server
        owner = request.required("server_id")
        if owner != server.config.server_id:
            address = server.consensus.address_of(owner)
            if not address:
                raise QueryError(404, f"no server {owner!r} in this datacenter")
            return Deferred(lambda respond: self._pass_on(address, request, respond))
        export_id, offset = request.number("export_id"), request.number("offset")
        export = self._open.get(export_id)
        if export is None:
            raise QueryError(404, "this snapshot is not open any more: begin again")
        if export.last is not None and export.last[0] == offset:
            _, data, is_last = export.last
            return Deferred(lambda respond: respond(_chunk_answer(data, is_last)))
        if offset != export.offset:
            raise QueryError(400, f"the snapshot is at byte {export.offset}, not {offset}")

        def start(respond: Respond) -> None:
            export.asked.append((offset, respond))
            self._serve(export_id, export)

        return Deferred(start)

    def _pass_on(self, address: str, request: Request, respond: Respond) -> None:
        from core.federation.verdicts import as_answer

        def done(event: CallDone) -> None:
            respond(
                Answer(status=500, error=f"the server that makes the snapshot: {event.error}")
                if event.error
                else as_answer(event.body)
            )

        self._server.outbox.ask(address, "Query", request.query, CALL_TIMEOUT_US, done)

    def _serve(self, export_id: int, export: _Export) -> None:
        if export.is_busy or not export.asked or export.chunks is None:
            return
        export.is_busy = True
        self._server.outbox.compute(
            NextBytes(export.chunks), lambda found: self._made(export_id, export, found)
        )

    def _made(self, export_id: int, export: _Export, found: tuple[bytes, bool, str]) -> None:
        data, is_last, error = found
        error = export.error or error
        export.is_busy = False
        asked, export.asked = export.asked, []
        if not error:
            export.last = (export.offset, data, is_last)
            export.offset += len(data)
        for _, respond in asked:
            respond(
                Answer(status=500, error=f"the snapshot can't be made: {error}")
                if error
                else _chunk_answer(data, is_last)
            )
        if error:
            self._close(export_id)
        else:
            self._arm(export_id, export)

    def _arm(self, export_id: int, export: _Export) -> None:
        if export.timer is not None:
            export.timer.cancel()
        export.timer = self._server.outbox.after(IDLE_US, lambda: self._close(export_id))

    def _close(self, export_id: int) -> None:
        export = self._open.pop(export_id, None)
        if export is not None and export.timer is not None:
            export.timer.cancel()

    # --- restoring ------------------------------------------------------------------------

    def stage(self, request: Request) -> Proposal:
        """Put the next bytes of a snapshot into the log."""
        data = request.body().get("data")
        if not isinstance(data, bytes | bytearray):
            raise QueryError(400, "a restore needs bytes")
        command = StageSnapshot(
            restore_id=request.required("restore_id"),
            offset=request.number("offset"),
            data=bytes(data),
        )

        def answer(applied: Applied) -> Answer:
            _check(applied)
            return Answer(body={"Size": applied.results[0].value}, index=applied.index)

        return Proposal([command], answer)

    def restore(self, request: Request) -> Deferred:
        """Read what was staged, and commit that it becomes the state."""
        state = self._server.state
        staged = state.operator.get(RESTORE) or {}
        restore_id, digest = request.required("restore_id"), request.required("digest")
        is_forced = request.flag("force")
        if staged.get("id") != restore_id:
            raise QueryError(409, "another restore was begun meanwhile: try again")
        chunks = list(state.staged.values())

        def start(respond: Respond) -> None:
            def checked(found: tuple[str, str]) -> None:
                error, datacenter_id = found
                error = error or refuse_stranger(
                    self._server.state, datacenter_id, is_forced=is_forced
                )
                if error:
                    respond(Answer(status=400, error=f"nothing was restored: {error}"))
                    return
                self._commit(request, RestoreSnapshot(
                    restore_id=restore_id, digest=digest, is_forced=is_forced,
                ), respond)  # fmt: skip

            problem = CheckProblem(chunks, digest, self._server.config.schema_max)
            self._server.outbox.compute(problem, checked)

        return Deferred(start)

    def _commit(self, request: Request, command: RestoreSnapshot, respond: Respond) -> None:
        def answer(applied: Applied) -> Answer:
            _check(applied)
            index = applied.results[0].value
            return Answer(body={"Index": index}, index=index)

        def lost() -> None:
            respond(
                Answer(
                    status=500,
                    error="leadership was lost before the restore was confirmed; it may still "
                    "take effect: look at the state, then try again",
                )
            )

        self._server.consensus.propose_call([command], request.query, answer, respond, lost)


class CheckProblem:
    """Reading a staged snapshot once from end to end; for a worker."""

    def __init__(self, chunks: list[bytes], digest: str, schema_max: int) -> None:
        self._chunks = chunks
        self._digest = digest
        self._schema_max = schema_max

    def solve(self) -> tuple[str, str]:
        """Return (what is wrong, the datacenter id it is of)."""
        digest = hashlib.sha256()
        for chunk in self._chunks:
            digest.update(chunk)
        if digest.hexdigest() != self._digest:
            return "the bytes that arrived are not those that were sent", ""
        try:
            return "", State.restore(self._chunks, self._schema_max).datacenter_id
        except SnapshotError as error:
            return str(error), ""
        except Exception as error:  # whatever a hostile file does, the server goes on
            return f"snapshot is damaged: {type(error).__name__}: {error}", ""


def _chunk_answer(data: bytes, is_last: bool) -> Answer:
    return Answer(body={"data": data, "is_last": is_last}, index=1)


def _check(applied: Applied) -> None:
    result = applied.results[0]
    if result.is_error:
        raise QueryError(result.status, f"nothing was restored: {result.error}")
