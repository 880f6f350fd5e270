"""Deployment health: is this allocation of a rollout good enough to go on with?

Healthy: all main tasks run and all checks pass for `min_healthy_time` without a break.
Unhealthy: a task failed for good, or `healthy_deadline` came first. Said once, never taken
back: the deployment decides about replacements, not this watch.
"""

from collections.abc import Callable
from typing import NamedTuple

from core.client.outbox import Outbox, Timer
from core.client.task_events import duration_text
from core.model.job import MigrateStrategy, UpdateStrategy

DEFAULT_MIN_HEALTHY_US = 10_000_000
DEFAULT_DEADLINE_US = 300_000_000


class HealthRule(NamedTuple):
    uses_checks: bool
    min_healthy_us: int
    deadline_us: int

    @classmethod
    def of(cls, strategy: UpdateStrategy | MigrateStrategy) -> "HealthRule | None":
        """Read the job's rule; None when an operator says what is healthy ("manual")."""
        if strategy.health_check == "manual":
            return None
        healthy_ns, deadline_ns = strategy.min_healthy_time_ns, strategy.healthy_deadline_ns
        return cls(
            strategy.health_check != "task_states",
            DEFAULT_MIN_HEALTHY_US if healthy_ns is None else healthy_ns // 1000,
            DEFAULT_DEADLINE_US if deadline_ns is None else deadline_ns // 1000,
        )


class HealthWatch:
    """Told of every change through `observe`; says its verdict through `decided`, once."""

    def __init__(
        self,
        box: Outbox,
        rule: HealthRule,
        spent_us: int,
        decided: Callable[[bool, str], None],
    ) -> None:
        self._box = box
        self._rule = rule
        self._decided: Callable[[bool, str], None] | None = decided
        self._good_timer: Timer | None = None
        self._was_running = False
        self._deadline = box.after(max(rule.deadline_us - spent_us, 0), self._too_late)

    def observe(self, *, is_running: bool, has_failed: bool, checks_pass: bool) -> None:
        if self._decided is None:
            return
        if has_failed:
            self._decide(False, "Unhealthy because of failed task")
            return
        self._was_running = is_running
        is_good = is_running and (checks_pass or not self._rule.uses_checks)
        if not is_good:
            if self._good_timer is not None:
                self._good_timer.cancel()
                self._good_timer = None
        elif self._good_timer is None:
            self._good_timer = self._box.after(
                self._rule.min_healthy_us, lambda: self._decide(True, "")
            )

    def end(self) -> None:
        self._decided = None
        self._deadline.cancel()
        if self._good_timer is not None:
            self._good_timer.cancel()

    def _too_late(self) -> None:
        within = f"by healthy_deadline of {duration_text(self._rule.deadline_us)}"
        least = f"min_healthy_time of {duration_text(self._rule.min_healthy_us)}"
        if self._was_running:
            self._decide(False, f"Checks not passing for {least} {within}")
        else:
            self._decide(False, f"Task not running for {least} {within}")

    def _decide(self, is_healthy: bool, reason: str) -> None:
        decided = self._decided
        self.end()
        if decided is not None:
            decided(is_healthy, reason)
