"""Garbage collection: on the leader, what ended long enough ago is forgotten, by command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.server.outbox import Timer
from core.state.commands import CollectGarbage
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server


class Collection:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: Timer | None = None

    def on_leadership(self, is_leader: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_leader:
            self._arm()

    def on_applied(self, changes: list[Change]) -> None:
        return

    def _arm(self) -> None:
        interval_us = self._server.config.collection.interval_us
        self._timer = self._server.outbox.after(interval_us, self._collect)

    def _collect(self) -> None:
        ages, wall_us = self._server.config.collection, self._server.now.wall_us
        command = CollectGarbage(
            job_before_us=wall_us - ages.job_us,
            evaluation_before_us=wall_us - ages.evaluation_us,
            deployment_before_us=wall_us - ages.deployment_us,
            node_before_us=wall_us - ages.node_us,
        )
        self._server.consensus.propose([command], lambda outcome: None)
        self._arm()
