"""The texts that `job init` writes."""


def example_job(*, short: bool = False) -> str:
    """Return a job file that runs anywhere; the long one explains its blocks."""
    raise NotImplementedError
