"""What is known of one allocation, and of what a job did once and for all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from core.model.allocation import Allocation
from sim.scheduler.reference import Try
from sim.seeds import Violation

HOLDING: Final = frozenset({"pending", "running", "unknown"})


@dataclass(slots=True)
class Known:
    """One allocation, and what was seen of it."""

    alloc: Allocation
    job_uid: str
    created: int  # entry
    stopped: int = 0  # entry, 0 = wanted
    was_unknown: bool = False
    was_canary: bool = False
    canary_of: str = ""  # the deployment that it was a canary of
    tries: list[Try] = field(default_factory=list)  # reschedules of its index so far

    @property
    def holds(self) -> bool:
        return self.alloc.client_status in HOLDING

    @property
    def is_live(self) -> bool:
        return self.holds and self.alloc.desired_status == "run"

    @property
    def is_canary(self) -> bool:
        status = self.alloc.deployment_status
        return status is not None and status.canary


@dataclass(slots=True)
class Count:
    """What one group of a deployment was seen to do."""

    placed: int = 0
    canaries: list[str] = field(default_factory=list)
    health: dict[str, bool] = field(default_factory=dict)


class DoneOnce:
    """Follows which indices of batch jobs are done."""

    def __init__(self) -> None:
        self._done: dict[tuple[str, str, str, int], str] = {}

    def look(self, changed: Iterable[Known]) -> None:
        """Judge allocations that came or changed.

        Raises:
            Violation: One is of an index that was done already.
        """
        for known in changed:
            alloc = known.alloc
            if alloc.job is None or alloc.job.type not in ("batch", "sysbatch"):
                continue
            # Of a job on every node the index is the node's, which may come back as another.
            is_everywhere = alloc.job.type == "sysbatch"
            place = alloc.node_id if is_everywhere else str(alloc.index)
            key = known.job_uid, alloc.task_group, place, alloc.job_version
            first = self._done.get(key)
            if first is not None and first != alloc.id and known.holds:
                raise Violation("done twice", f"{alloc.name} was done, and runs as {alloc.id}")
            if alloc.client_status == "complete" and alloc.desired_status == "run":
                self._done.setdefault(key, alloc.id)


def failed_at_us(alloc: Allocation) -> int:
    """Return when a failed instance failed, as its client says."""
    times = [
        event.time_ns
        for state in (alloc.task_states or {}).values()
        for event in state.events or []
    ]
    return max(times, default=alloc.modify_time_ns) // 1000
