"""What a command's handler is given besides the state and the command."""

from typing import TYPE_CHECKING

from core.state.result import Change, CommandResult, Rows

if TYPE_CHECKING:
    from core.state.state import State


class Context:
    """One entry on its way through apply.

    `touched_jobs` are ordinals of jobs whose status is computed anew at the entry's end;
    a dict, for its order is the order of first mention.
    """

    def __init__(self, state: "State", index: int, time_us: int) -> None:
        self._state = state
        self.index = index
        self.time_us = time_us
        self.changes: list[Change] = []
        self.results: list[CommandResult] = []  # of the entry's commands so far
        self.touched_jobs: dict[int, None] = {}

    @property
    def time_ns(self) -> int:
        return self.time_us * 1000

    def changed(
        self, table: str, type_: str, key: str = "", namespace: str = "", rows: Rows | None = None
    ) -> None:
        """Note a change: the table's index moves, and watchers will hear of it."""
        self._state.set_table_index(table, self.index)
        self.changes.append(Change(table, type_, key, namespace, rows))

    def touch_job(self, ordinal: int) -> None:
        self.touched_jobs[ordinal] = None
