"""Emptying nodes, on the leader: what has to go is asked to, at the pace its job allows.

    service   `migrate.max_parallel` instances of a group are away at a time: the next one
              is asked to move when enough of the group are healthy elsewhere
    batch     may finish; what still runs at the deadline is stopped
    system    goes last, when nothing else is left; or stays where the drain says so

A drain without a deadline waits as long as it takes; a forced one asks everything at
once. When nothing is left that had to go the drain ends, and the node stays ineligible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from core.model.allocation import ClientStatus, DesiredTransition
from core.model.evaluation import EvalTrigger
from core.model.instant import ZERO_TIME, ns_of_rfc3339
from core.model.job import TaskGroup
from core.model.node import Node
from core.server import evaluations, lookups
from core.server.evaluations import SYSTEM_TYPES
from core.server.outbox import Timer
from core.state.commands import SetDesiredTransition, SetNodeDrain
from core.state.jobs import JobRecord
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server

_GATHER_US: Final = 250_000
_DEFAULT_PARALLEL: Final = 1  # of a group without a migrate block, as Nomad's default
_TABLES: Final = frozenset({"nodes", "allocs"})


class DrainWatch:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._draining: dict[str, None] = {}  # node ids; empty unless leading
        self._is_active = False
        self._look_timer: Timer | None = None
        self._deadline_timer: Timer | None = None

    def on_leadership(self, is_leader: bool) -> None:
        self._is_active = is_leader
        self._draining.clear()
        for timer in (self._look_timer, self._deadline_timer):
            if timer is not None:
                timer.cancel()
        self._look_timer = self._deadline_timer = None
        if is_leader:
            for node in self._server.state.nodes:
                if node.drain_strategy is not None:
                    self._draining[node.id] = None
            self._look_soon()

    def on_applied(self, changes: list[Change]) -> None:
        if not self._is_active:
            return
        nodes = self._server.state.nodes
        for change in changes:
            if change.table == "nodes":
                node = nodes.get(change.key)
                if node is not None and node.drain_strategy is not None:
                    self._draining[node.id] = None
                else:
                    self._draining.pop(change.key, None)
        if any(change.table in _TABLES for change in changes):
            self._look_soon()

    def _look_soon(self) -> None:
        if self._draining and self._look_timer is None:
            self._look_timer = self._server.outbox.after(_GATHER_US, self._look)

    def _look(self) -> None:
        self._look_timer = None
        if not self._is_active:
            return
        to_move: dict[int, None] = {}  # rows
        paced: dict[int, list[int]] = {}  # by row of the group: rows that wait for their turn
        next_us = 0
        for node_id in [*self._draining]:
            node = self._server.state.nodes.get(node_id)
            if node is None or node.drain_strategy is None:
                continue
            rows = self._rows_to_empty(node)
            if not rows:
                del self._draining[node_id]
                self._end(node_id)
                continue
            due_us = _force_us(node)
            if due_us is not None and due_us <= self._server.now.wall_us:
                to_move |= dict.fromkeys(rows)
                continue
            if due_us is not None:
                next_us = min(next_us or due_us, due_us)
            self._sort(rows, to_move, paced)
        for group_row, waiting in paced.items():
            to_move |= dict.fromkeys(waiting[: self._room_to_move(group_row, waiting)])
        self._ask_to_move([row for row in to_move if not self._is_asked(row)])
        self._set_deadline(next_us)

    def _sort(self, rows: list[int], to_move: dict[int, None], paced: dict[int, list[int]]) -> None:
        # System instances serve what still runs beside them: they go when all else is gone.
        state = self._server.state
        others = [row for row in rows if not self._is_system(row)]
        if not others:
            to_move |= dict.fromkeys(rows)
            return
        for row in others:
            if (state.allocs.job_record(row).job.type or "service") == "service":
                paced.setdefault(int(state.allocs.columns.group_row[row]), []).append(row)

    def _rows_to_empty(self, node: Node) -> list[int]:
        """Return what still has to leave a node, by row."""
        state = self._server.state
        ignores_system = node.drain_strategy is not None and node.drain_strategy.ignore_system_jobs
        rows = lookups.rows_of_node(state, node.id)
        return [
            row
            for row in rows[state.allocs.is_live(rows)].tolist()
            if not (ignores_system and self._is_system(row))
        ]

    def _room_to_move(self, group_row: int, waiting: list[int]) -> int:
        """Return how many of a group's instances may leave now.

        Those asked already count as away until their replacements are healthy.
        """
        allocs = self._server.state.allocs
        record = allocs.job_record(waiting[0])
        name = record.groups[allocs.key_of(waiting[0]).group]
        group = next((one for one in record.job.task_groups or [] if one.name == name), None)
        if group is None:
            return len(waiting)
        rows = allocs.rows_of_job(record.ordinal, name)
        rows = rows[allocs.is_live(rows)]
        staying = [row for row in rows.tolist() if not self._is_asked(row)]
        healthy = sum(self._is_healthy(row) for row in staying)
        # Waiting ones that are not healthy are no loss: they may go beyond the limit.
        sick = [row for row in waiting if not self._is_asked(row) and not self._is_healthy(row)]
        room = healthy - (_wanted(record, group) - _parallel(group))
        waiting.sort(key=lambda row: (not self._is_asked(row), row not in sick, row))
        asked = sum(self._is_asked(row) for row in waiting)
        return asked + len(sick) + max(0, room)

    def _is_healthy(self, row: int) -> bool:
        allocs = self._server.state.allocs
        if allocs.columns.client[row] != ClientStatus.RUNNING:
            return False
        extras = allocs.extras.get(row)
        status = extras.deployment_status if extras is not None else None
        return status is not None and status.healthy is True

    def _is_asked(self, row: int) -> bool:
        extras = self._server.state.allocs.extras.get(row)
        transition = extras.transition if extras is not None else None
        return transition is not None and bool(transition.migrate)

    def _is_system(self, row: int) -> bool:
        return self._server.state.allocs.job_record(row).job.type in SYSTEM_TYPES

    def _ask_to_move(self, rows: list[int]) -> None:
        if not rows:
            return
        server = self._server
        allocs = server.state.allocs
        ids = [allocs.id_of(row) for row in sorted(rows)]
        records = {record.ordinal: record for record in map(allocs.job_record, sorted(rows))}
        due = [
            evaluations.for_job(server, record, EvalTrigger.NODE_DRAIN)
            for _, record in sorted(records.items())
        ]
        transitions = {alloc_id: DesiredTransition(migrate=True) for alloc_id in ids}
        server.consensus.propose(
            [SetDesiredTransition(transitions=transitions, evaluations=due)], lambda outcome: None
        )

    def _end(self, node_id: str) -> None:
        self._server.consensus.propose(
            [SetNodeDrain(node_id=node_id, drain=None)], lambda outcome: None
        )

    def _set_deadline(self, due_us: int) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None
        if due_us:
            delay_us = max(0, due_us - self._server.now.wall_us)
            self._deadline_timer = self._server.outbox.after(delay_us, self._look_soon)


def _force_us(node: Node) -> int | None:
    """Return when everything on the node has to go (UTC microseconds), None = never."""
    drain = node.drain_strategy
    assert drain is not None
    if drain.deadline_ns < 0:
        return 0
    if drain.force_deadline in ("", ZERO_TIME):
        return None
    return ns_of_rfc3339(drain.force_deadline) // 1000


def _parallel(group: TaskGroup) -> int:
    migrate = group.migrate
    if migrate is None or migrate.max_parallel is None:
        return _DEFAULT_PARALLEL
    return max(1, migrate.max_parallel)


def _wanted(record: JobRecord, group: TaskGroup) -> int:
    count = 1 if group.count is None else group.count
    ranges = record.share().get(group.name, [])
    return int(np.sum([max(0, min(high, count) - low) for low, high in ranges], dtype=np.int64))
