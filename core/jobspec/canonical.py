"""Nomad's defaults, filled into a job: what the server stores and the API shows."""

from core.model.job import Job


def canonicalize(job: Job, *, region: str) -> Job:
    """Return a copy of `job` with every default filled in; `region` is the agent's."""
    raise NotImplementedError
