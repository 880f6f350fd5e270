"""Whether a canonical job may be registered, in Nomad's words."""

from core.model.job import Job


def validate(job: Job) -> list[str]:
    """Return what is wrong with a canonical job, [] when it may be registered."""
    raise NotImplementedError


def warnings_of(job: Job) -> list[str]:
    """Return what is allowed but probably not meant."""
    raise NotImplementedError


def error_text(errors: list[str]) -> str:
    """Return the text the API answers with: `N error(s) occurred:` and a list."""
    raise NotImplementedError
