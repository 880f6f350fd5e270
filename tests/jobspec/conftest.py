"""Shared by the tests of job files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.jobspec import JobFileError, SourceError, parse_body, parse_job


@pytest.fixture
def failure_of() -> Callable[[str], str]:
    """Return the error text of a job file that must not parse."""

    def failure(text: str) -> str:
        with pytest.raises(JobFileError) as caught:
            parse_job(text, filename="f.hcl")
        return str(caught.value)

    return failure


@pytest.fixture
def syntax_error_of() -> Callable[[str], str]:
    """Return the error text of an HCL body that must not parse."""

    def failure(text: str) -> str:
        with pytest.raises(SourceError) as caught:
            parse_body(text, "f.hcl")
        return str(caught.value)

    return failure


@pytest.fixture
def examples() -> Path:
    return Path(__file__).resolve().parents[2] / "examples"
