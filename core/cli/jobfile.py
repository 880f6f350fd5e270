"""Reads a job file: from disk, stdin or JSON, with its variables, through core.jobspec."""

import glob
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.cli.errors import CliError
from core.cli.output import Output
from core.cli.session import Session
from core.cli.textfile import read_text, shown_name

if TYPE_CHECKING:
    from core.jobspec import Diagnostic


class JobFile(NamedTuple):
    """A job as the API takes it, and the text it came from."""

    job: dict[str, Any]
    submission: dict[str, Any]  # Nomad's JobSubmission
    warnings: list[str]  # each with file and line
    findings: "list[Diagnostic]"  # the same, apart


class LocalFiles:
    """Serves HCL's file functions from this machine; paths are relative to where we are."""

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def exists(self, path: str) -> bool:
        return Path(path).is_file()

    def glob(self, folder: str, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern, root_dir=folder, recursive=True))

    def absolute(self, path: str) -> str:
        return os.path.abspath(path)

    def expand_home(self, path: str) -> str:
        return os.path.expanduser(path)


def read_job(
    path: str,
    *,
    variables: Sequence[str] = (),
    var_files: Sequence[str] = (),
    as_json: bool = False,
    is_strict: bool = True,
) -> JobFile:
    """Parse the file at `path` ("-" is stdin).

    Args:
        variables: `name=value` each.
        var_files: Paths of files with variables.
        as_json: The text is Nomad's API JSON rather than HCL.
        is_strict: A value for a variable that the file lacks is an error, else a warning.

    Raises:
        CliError: The file can't be read or parsed; the message names the place.
    """
    text = read_text(path)
    name = shown_name(path)
    if as_json:
        return _read_api_json(text, name)
    import msgspec

    from core.jobspec import JobFileError, SourceError, parse_job

    values = dict(split_variable(item) for item in variables)
    texts = [(file, read_text(file)) for file in var_files]
    try:
        parsed = parse_job(
            text,
            filename=name,
            variables=values,
            var_files=texts,
            env=dict(os.environ),
            allow_files=LocalFiles(),
            entropy=os.urandom,
            is_strict=is_strict,
        )
    except (JobFileError, SourceError) as error:
        raise CliError(f"the job file cannot be used:\n{error}") from error
    job = msgspec.to_builtins(parsed.job)
    submission = {
        "Source": text,
        "Format": "hcl2",
        "VariableFlags": values,
        "Variables": "\n".join(content for _, content in texts),
    }
    warnings = [warning.render() for warning in parsed.warnings]
    return JobFile(job, submission, warnings, parsed.warnings)


def apply_session(session: Session, job: dict[str, Any]) -> dict[str, str]:
    """Let -region and -namespace win over the job file; return the call's own parameters.

    A job for one region is sent to that region; `region = "*"` and "global" stay with the
    agent asked, which chooses.
    """
    if session.region:
        job["Region"] = session.region
    if session.namespace:
        job["Namespace"] = session.namespace
    query = {}
    if job.get("Namespace"):
        query["namespace"] = job["Namespace"]
    region = job.get("Region") or ""
    if region not in {"", "*", "global"}:
        query["region"] = region
    return query


def show_warnings(out: Output, warnings: Sequence[str]) -> None:
    for warning in warnings:
        out.warn(warning)


def split_variable(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise CliError(f'-var takes name=value, not "{item}"')
    return name.strip(), value


def _read_api_json(text: str, name: str) -> JobFile:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CliError(f"{name} is not JSON: {error}") from error
    job = data.get("Job", data) if isinstance(data, dict) else None
    if not isinstance(job, dict) or not job.get("ID"):
        raise CliError(f'{name} holds no job: a JSON object with an "ID", or {{"Job": ...}}')
    return JobFile(job, {"Source": text, "Format": "json"}, [], [])
