"""What changed between two jobs: Nomad's `JobDiff`, for `job plan` and `job history -p`."""

from typing import Any

from core.model.job import Job


def diff_jobs(old: Job | None, new: Job | None) -> dict[str, Any]:
    """Return the JobDiff of two canonical jobs as JSON: Type, ID, Fields, Objects, TaskGroups."""
    raise NotImplementedError
