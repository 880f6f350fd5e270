"""Snapshots become states in a worker: to read 500 MB takes seconds, a heartbeat can't wait.

Two come in: the image that a leader sends to who is far behind, and the snapshot that an
operator restores, whose bytes came through the log. For the first one Raft hears that it
arrived once its state is built. Before the entry that takes the second one, applying stops:
the log goes on, votes and heartbeats are answered, and what is committed meanwhile waits.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from core.state.commands import RestoreSnapshot
from core.state.entry import UnknownCommand, decode_entry
from core.state.operating import RESTORE, Decoded, decode
from core.state.snapshot import cut
from core.state.state import SnapshotError, State
from raft.core import Entry as LogEntry
from raft.core import Kind as EntryKind

if TYPE_CHECKING:
    from core.server.context import Server


class ImageProblem:
    """Building the state of an image that arrived; for a worker."""

    def __init__(self, image: bytes | memoryview, schema_max: int) -> None:
        self._image = image
        self._schema_max = schema_max

    def solve(self) -> State | SnapshotError:
        try:
            with _without_collector():
                return State.restore(cut(self._image), self._schema_max)
        except SnapshotError as error:
            return error


class StagedProblem:
    """Building the state of a snapshot that came through the log; for a worker."""

    def __init__(self, chunks: Sequence[bytes], schema_max: int) -> None:
        self._chunks = chunks
        self._schema_max = schema_max

    def solve(self) -> Decoded:
        with _without_collector():
            return decode(State, self._chunks, self._schema_max)


class Restoring:
    """Keeps an entry that restores a snapshot back until its state is built."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._entry: LogEntry | None = None  # its snapshot is being read, or was

    def waits_with(self, entry: LogEntry) -> bool:
        """Whether an entry is kept back for its snapshot, which a worker reads."""
        return self._entry is entry and self._server.state.decoded is None

    def keeps_back(self, entry: LogEntry, state: State) -> bool:
        """Return whether an entry, the next to be applied, has to wait."""
        if state.decoded is not None:
            if self._entry is entry:
                return False
            state.decoded = None  # a repeated call did not take it
        if RESTORE not in state.operator or not _is_restore(entry):
            return False
        if self._entry is not entry:
            self._entry = entry
            problem = StagedProblem(list(state.staged.values()), state.schema_max)
            self._server.outbox.compute(problem, partial(self._on_decoded, entry, state))
        return True

    def _on_decoded(self, entry: LogEntry, state: State, found: Decoded) -> None:
        if self._entry is entry:
            state.decoded = found

    def forget(self) -> None:
        """A snapshot of a later time replaced the state: what was begun is void."""
        self._entry = None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Build without the search for cycles: records have none, and it would hold the loop up.

    It goes through all that was built so far, again and again, and nobody runs meanwhile. So
    what was built is set aside for good, as at the start of the agent; it goes when it is
    replaced, for that needs no search.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def _is_restore(entry: LogEntry) -> bool:
    if entry.kind is not EntryKind.COMMAND:
        return False
    try:
        commands = decode_entry(entry.data).commands
    except UnknownCommand:
        return False  # to apply it halts
    return any(isinstance(command, RestoreSnapshot) for command in commands)
