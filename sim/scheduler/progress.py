"""Whether a rollout that fails for lack of progress had all the time that it may have.

failed too early    `progress_deadline` begins anew with each healthy instance, and with the
                    promotion
"""

from typing import Final

from core.model.evaluation import Deployment, DeploymentStatus
from core.model.instant import ns_of_rfc3339
from core.state.result import Change
from core.state.state import State
from sim.scheduler.ledger import Ledger
from sim.seeds import Violation

_SLACK_US: Final = 1_000_000  # a promotion counts from when it was asked for
_TEXT: Final = "progress deadline"


class Progress:
    """Follows the deployments of a datacenter."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._promoted_us: dict[tuple[str, str], int] = {}  # deployment, group
        self._ended: dict[str, None] = {}

    def on_entry(self, state: State, changes: list[Change], wall_us: int) -> None:
        """Judge the deployments that an entry changed.

        Raises:
            Violation: One failed before its time.
        """
        for change in changes:
            deployment = None
            if change.table == "deployment":
                deployment = state.deployments.get(change.key)
            if deployment is None:
                continue
            for name, group in (deployment.task_groups or {}).items():
                if group.promoted:
                    self._promoted_us.setdefault((deployment.id, name), wall_us)
            is_new = deployment.id not in self._ended
            if is_new and deployment.status == DeploymentStatus.FAILED:
                self._ended[deployment.id] = None
                if _TEXT in deployment.status_description:
                    self._check(deployment, wall_us)

    def _check(self, deployment: Deployment, wall_us: int) -> None:
        due_us = [
            self._last_us(deployment.id, name) + group.progress_deadline_ns // 1000
            for name, group in (deployment.task_groups or {}).items()
            if group.progress_deadline_ns
        ]
        if due_us and wall_us < min(due_us) - _SLACK_US:
            text = f"{deployment.job_id}: at {wall_us}, it had until {min(due_us)}"
            raise Violation("failed too early", text)

    def _last_us(self, deployment_id: str, group: str) -> int:
        last_us = self._promoted_us.get((deployment_id, group), 0)
        for known in self._ledger.known.values():
            alloc = known.alloc
            if alloc.deployment_id != deployment_id or alloc.task_group != group:
                continue
            status = alloc.deployment_status
            if status is not None and status.healthy:
                last_us = max(last_us, ns_of_rfc3339(status.timestamp) // 1000)
        return last_us
