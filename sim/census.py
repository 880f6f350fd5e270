"""What really runs: every simulated process, counted as it starts and ends.

The census sees the nodes, not the agents: it is the truth that goals and checkers compare
the states with. Counting happens at each start and end, so that asking costs nothing at
two million processes. An instance is an index of a group, or of a system job a node, for its
indices begin anew in each datacenter; it runs while any process of it does, however many tasks
the group has.
"""

from array import array
from typing import Final

import numpy as np
import numpy.typing as npt

from sim.tasks import SimTask

_NOBODY: Final = 0


class JobCount:
    """One job. `wanted` is None where nobody can say: a system job, one never registered."""

    __slots__ = (
        "groups", "has_failed", "is_service", "is_system", "regions", "running", "submitted_us",
        "wanted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.wanted: int | None = None
        self.is_service = False
        self.is_system = False
        self.has_failed = False  # a process of it ended with a code or a signal
        self.submitted_us = -1
        self.running = 0
        self.regions: dict[str, int] = {}  # processes, by where they run
        self.groups: dict[str, _Group] = {}

    @property
    def is_short(self) -> bool:
        return self.is_service and self.wanted is not None and self.running != self.wanted


class _Group:
    """Processes by index, of a system job by node.

    `holders` by task: the node (its number + 1) that runs it.
    """

    __slots__ = ("holders", "processes", "seen")

    def __init__(self) -> None:
        self.processes = array("H")
        self.seen = bytearray()  # 1 where the index ran at any time
        self.holders: dict[str, array[int]] = {}

    def reach(self, index: int) -> None:
        more = index + 1 - len(self.processes)
        if more > 0:
            self.processes.extend([0] * more)
            self.seen.extend(bytes(more))

    def holder(self, task: str, index: int) -> "array[int]":
        held = self.holders.get(task)
        if held is None:
            held = self.holders[task] = array("i")
        if index >= len(held):
            held.extend([_NOBODY] * (index + 1 - len(held)))
        return held


Instance = tuple[str, str, str, int]  # job, group, task, index (of a system job: node)


class Census:
    def __init__(self) -> None:
        self.jobs: dict[str, JobCount] = {}
        self.running = 0  # instances
        self.wanted = 0  # of service jobs
        self.starts = 0  # processes
        self.failures = 0  # that ended with a code or a signal of their own
        self.short: dict[str, None] = {}  # service jobs that don't run as many as they should
        self.doubled: dict[Instance, list[int]] = {}  # what runs more than once: on which nodes
        self._waits_us = array("q")

    # --- what is wanted -------------------------------------------------------------------

    def submit(self, job: str, now_us: int) -> None:
        """A user hands in a job, for the first time or again."""
        count = self._job(job)
        if count.submitted_us < 0:
            count.submitted_us = now_us

    def tell_kind(self, job: str, *, is_system: bool) -> None:
        """Say how instances of a job are told apart; what runs already is counted as before."""
        count = self._job(job)
        if not count.running:
            count.is_system = is_system

    def want(self, job: str, instances: int | None, *, is_service: bool) -> None:
        """A register or a stop of a job was acknowledged."""
        count = self._job(job)
        if count.is_service:
            self.wanted -= count.wanted or 0
        count.wanted, count.is_service = instances, is_service
        if is_service:
            self.wanted += instances or 0
        self._settle(job, count)

    # --- what happens ---------------------------------------------------------------------

    def started(self, task: SimTask, node: int, region: str, now_us: int) -> None:
        count = self._job(task.job)
        group = count.groups.get(task.group)
        if group is None:
            group = count.groups[task.group] = _Group()
        index = node if count.is_system else task.index
        group.reach(index)
        self.starts += 1
        group.processes[index] += 1
        count.regions[region] = count.regions.get(region, 0) + 1
        if group.processes[index] == 1:
            count.running += 1
            self.running += 1
            if count.is_service:
                self._settle(task.job, count)
        if not group.seen[index]:
            group.seen[index] = 1
            if count.submitted_us >= 0:
                self._waits_us.append(now_us - count.submitted_us)
        held = group.holder(task.task, index)
        if held[index] == _NOBODY:
            held[index] = node + 1
        else:
            key = (task.job, task.group, task.task, index)
            self.doubled.setdefault(key, [held[index] - 1]).append(node)

    def ended(self, task: SimTask, node: int, region: str) -> None:
        count = self._job(task.job)
        group = count.groups[task.group]
        index = node if count.is_system else task.index
        group.processes[index] -= 1
        count.regions[region] -= 1
        if not count.regions[region]:
            del count.regions[region]
        if group.processes[index] == 0:
            count.running -= 1
            self.running -= 1
            if count.is_service:
                self._settle(task.job, count)
        if task.exit_code or task.signal:
            self.failures += 1
            count.has_failed = True
        self._release(group, (task.job, task.group, task.task, index), node)

    def _release(self, group: _Group, key: Instance, node: int) -> None:
        held = group.holder(key[2], key[3])
        nodes = self.doubled.get(key)
        if nodes is None:
            held[key[3]] = _NOBODY
            return
        nodes.remove(node)
        held[key[3]] = nodes[0] + 1
        if len(nodes) == 1:
            del self.doubled[key]

    def _job(self, job: str) -> JobCount:
        count = self.jobs.get(job)
        if count is None:
            count = self.jobs[job] = JobCount()
        return count

    def _settle(self, job: str, count: JobCount) -> None:
        if count.is_short:
            self.short[job] = None
        else:
            self.short.pop(job, None)

    # --- asking ---------------------------------------------------------------------------

    def running_by_region(self, job: str) -> dict[str, int]:
        """Return how many processes of a job run, by the region of their nodes."""
        count = self.jobs.get(job)
        return {} if count is None else dict(count.regions)

    def waits_us(self) -> npt.NDArray[np.int64]:
        """Return how long each instance waited from its job's submission to its first start."""
        return np.array(self._waits_us, dtype=np.int64)
