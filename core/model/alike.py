"""What was worked out for one job, kept for jobs that share the very same parts.

Jobs of one form share their records (core.jobspec.forms, core.state.job_forms), and records are
values: what follows from a part is true of whoever has that part. A job is held together with what
was found for it, so no other object can come to have the identity of its parts.
"""

from typing import Generic, TypeVar

from core.model.job import Job

T = TypeVar("T")


class KeptByParts(Generic[T]):
    """A bounded memory; the oldest goes first."""

    def __init__(self, parts: tuple[str, ...], most: int) -> None:
        """Prepare it.

        Args:
            parts: The fields of a job that all of it follows from; `task_groups` among them.
            most: How many are kept.
        """
        self._parts = parts
        self._most = most
        self._kept: dict[int, tuple[Job, T]] = {}  # by identity of the task groups

    def get(self, job: Job) -> T | None:
        """Return what is kept for a job with these very parts, None for no such job."""
        known = self._kept.get(id(job.task_groups))
        if known is None:
            return None
        is_alike = all(getattr(known[0], name) is getattr(job, name) for name in self._parts)
        return known[1] if is_alike else None

    def keep(self, job: Job, found: T) -> T:
        """Keep what was found for a job, and return it."""
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[id(job.task_groups)] = job, found
        return found
