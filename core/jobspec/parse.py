"""The way of a job file: text -> evaluated body -> Nomad's API JSON -> `Job`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.jobspec.diagnostics import Diagnostic
from core.model.job import Job


class FileReader(Protocol):
    """What the file functions of HCL may ask of the host; absent, they are errors."""

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...

    def glob(self, folder: str, pattern: str) -> list[str]: ...

    def absolute(self, path: str) -> str: ...

    def expand_home(self, path: str) -> str: ...


@dataclass(slots=True)
class Parsed:
    job: Job  # as written, not canonical
    warnings: list[Diagnostic] = field(default_factory=list)


def parse_job(
    text: str,
    *,
    filename: str,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[tuple[str, str]] = (),
    env: Mapping[str, str] | None = None,
    allow_files: FileReader | None = None,
) -> Parsed:
    """Return the job that a text describes.

    Args:
        text: HCL, HCL in JSON, or Nomad's API JSON (`{"Job": {...}}` or the job alone).
        filename: For messages only.
        variables: What `-var name=value` gave; the strongest source.
        var_files: (name, text) of each `-var-file`, in order.
        env: The environment; `NOMAD_VAR_name` and `SERAI_VAR_name` count, weakest.
        allow_files: Serves `file()` and its kin; None makes them an error.

    Raises:
        JobFileError: with every finding that could be collected.
    """
    raise NotImplementedError
