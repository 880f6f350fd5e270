"""Names of jobs that were made from other jobs: launched by a schedule, or dispatched."""

from typing import Final

# What stands between the names of a job and of one that was made from it.
PERIODIC: Final = "/periodic-"
DISPATCH: Final = "/dispatch-"


def parent_name(job_id: str) -> str:
    """Return the name of the job that a child's name says it was made from, "" for none."""
    ends = [end for mark in (PERIODIC, DISPATCH) if (end := job_id.find(mark)) > 0]
    return job_id[: min(ends)] if ends else ""
