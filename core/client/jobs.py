"""The jobs of the allocations that are here: each is kept once, in memory and on disk.

A server sends a job once for all allocations of an answer, and a job changes hardly ever,
so two hundred allocations of one job share one record. It is saved before the first
allocation that names it, and goes after the last.
"""

from sys import intern

from core.client.effects import SaveState
from core.client.outbox import Outbox
from core.client.saved import SavedAlloc, encode, job_key
from core.model.allocation import Allocation
from core.model.job import Job, TaskGroup


class KeptJobs:
    """Invariant: a job is kept, and saved, as long as any allocation holds its key."""

    def __init__(self, box: Outbox) -> None:
        self._box = box
        self._jobs: dict[str, Job] = {}
        self._uses: dict[str, int] = {}

    def hold(self, saved: SavedAlloc) -> None:
        """Let an allocation that is about to be saved share the job that is kept.

        It may have held another version until now.
        """
        before, job = saved.job_key, saved.alloc.job
        key = job_key(saved.alloc)
        if job is not None:
            if key not in self._jobs:
                self._jobs[key] = job
                self._uses[key] = 0
                self._box.emit(SaveState(key, encode(job)))
            saved.alloc.job = self._jobs[key]
        saved.job_key = intern(key)  # one text for all that hold it
        if key != before:
            if key:
                self._uses[key] += 1
            self.release(before)

    def release(self, key: str) -> None:
        """An allocation that held this job is forgotten; "" is none."""
        if not key:
            return
        self._uses[key] -= 1
        if not self._uses[key]:
            del self._jobs[key], self._uses[key]
            self._box.emit(SaveState(key, None))

    def restore(self, jobs: dict[str, Job], allocs: list[SavedAlloc]) -> None:
        """Take over what was saved; a job that no allocation holds any more is dropped."""
        self._jobs = dict(jobs)
        self._uses = dict.fromkeys(jobs, 0)
        for saved in allocs:
            if saved.job_key in self._uses:
                self._uses[saved.job_key] += 1
            else:
                saved.job_key = ""
                self.hold(saved)  # of a version that saved the job with each allocation
        for key in [key for key, uses in self._uses.items() if not uses]:
            del self._jobs[key], self._uses[key]
            self._box.emit(SaveState(key, None))


def group_of(alloc: Allocation) -> TaskGroup:
    groups = (alloc.job.task_groups if alloc.job else None) or ()
    return next((group for group in groups if group.name == alloc.task_group), TaskGroup())


def version_of(alloc: Allocation) -> tuple[int, int]:
    job = alloc.job or Job()
    return job.version or 0, job.job_modify_index or 0


def payload_files(alloc: Allocation, group: TaskGroup) -> dict[str, dict[str, bytes]]:
    """Return what a dispatched job was given, for the tasks that ask for it: by task and path."""
    payload = alloc.job.payload if alloc.job is not None else None
    if not payload:
        return {}
    asked = {task.name: (task.dispatch_payload or {}).get("File") for task in group.tasks or ()}
    return {name: {str(path): payload} for name, path in asked.items() if path}
