"""When a drain is complete: nothing is left on the node that had to go.

The allocations of a draining node were asked to migrate when the drain began; the
scheduler moves them at each group's `migrate` pace. Here the leader waits for the last
one and then ends the drain, which leaves the node ineligible. At the deadline the jobs are
evaluated once more; what still runs then is left to the operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.model.node import Node
from core.server import lookups
from core.server.evaluations import SYSTEM_TYPES
from core.state.commands import SetNodeDrain
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server


class DrainWatch:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._draining: dict[str, None] = {}  # node ids; empty unless leading
        self._is_active = False

    def on_leadership(self, is_leader: bool) -> None:
        self._is_active = is_leader
        self._draining.clear()
        if is_leader:
            for node in self._server.state.nodes:
                if node.drain_strategy is not None:
                    self._draining[node.id] = None
            self._check()

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
        if self._draining:
            self._check()

    def _check(self) -> None:
        for node_id in [*self._draining]:
            node = self._server.state.nodes.get(node_id)
            if node is not None and self._is_empty(node):
                del self._draining[node_id]
                self._server.consensus.propose(
                    [SetNodeDrain(node_id=node_id, drain=None)], lambda outcome: None
                )

    def _is_empty(self, node: Node) -> bool:
        state = self._server.state
        rows = lookups.rows_of_node(state, node.id)
        ignores_system = node.drain_strategy is not None and node.drain_strategy.ignore_system_jobs
        for row in rows[state.allocs.is_live(rows)].tolist():
            is_system = state.allocs.job_record(row).job.type in SYSTEM_TYPES
            if not (is_system and ignores_system):
                return False
        return True
