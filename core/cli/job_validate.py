"""`serai job validate`: which of some job files run here, without what, and why others don't.

A file runs; or it runs without what it asks for and is not carried out yet; or it is
refused. The rules are checked here; for single files an agent that answers is asked too. A
folder of hundreds is judged without one, so that its verdict is quick and the same anywhere.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.job_run import variable_options
from core.cli.jobfile import JobFile, apply_session, read_job
from core.cli.output import Output, layout
from core.cli.session import Session, api_command
from core.cli.textfile import STDIN, files_below, read_text, shown_name

if TYPE_CHECKING:
    from core.jobspec import Diagnostic

SUFFIXES: Final = (".nomad", ".hcl", ".json")
_SHOWN_LINES: Final = 5  # of each feature
_HCL_JOB = re.compile(r'^[ \t]*job[ \t]+"?[\w$]', re.M)
_LIST_HEAD = re.compile(r"\d+ errors? occurred: ?")
_SCENARIO = re.compile(r"^scenario\b", re.M)  # of the simulator; it has jobs of its own kind
_JSON_KEYS: Final = frozenset({"Job", "job", "TaskGroups"})


class Result(StrEnum):
    RUNS = "runs"
    RUNS_WITHOUT = "runs without"
    REFUSED = "refused"


@dataclass(slots=True)
class Verdict:
    """What is known of one file. `features` has the lines of what it runs without."""

    file: str
    job_id: str = ""
    features: dict[str, list[int]] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)  # warnings about anything else
    warnings: list[str] = field(default_factory=list)  # all, with the lines they are about
    errors: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # the errors, a line each

    @property
    def result(self) -> Result:
        if self.errors:
            return Result.REFUSED
        return Result.RUNS_WITHOUT if self.features else Result.RUNS

    def summary(self) -> str:
        """Return it in one line."""
        if self.errors:
            place = self.reasons[0].removeprefix(f"{self.file}:").replace(" error: ", " ", 1)
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            return f"{Result.REFUSED}: {place.strip()}{more}"
        if self.features:
            named = ", ".join(f"{name}{_places(at)}" for name, at in self.features.items())
            return f"{Result.RUNS_WITHOUT} {named}"
        return Result.RUNS

    def to_json(self) -> dict[str, Any]:
        return {
            "File": self.file,
            "Job": self.job_id,
            "Result": self.result,
            "Without": [{"Feature": name, "Lines": at} for name, at in self.features.items()],
            "Warnings": self.advice,
            "Errors": self.reasons,
        }


def _places(lines: Sequence[int]) -> str:
    known = [str(line) for line in lines if line]
    if not known:
        return ""
    rest = ", ..." if len(known) > _SHOWN_LINES else ""
    return f" (line{'s' * (len(known) > 1)} {', '.join(known[:_SHOWN_LINES])}{rest})"


@api_command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@variable_options
@option("-json", "as_json", is_flag=True, help="Write the verdicts as JSON")
@option("-offline", is_flag=True, help="Ask no agent")
@option("-verbose", is_flag=True, help="All warnings and errors, with their lines")
def validate(
    session: Session,
    *,
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    is_strict: bool,
    as_json: bool,
    offline: bool,
    verbose: bool,
) -> int:
    """Check job files: whether each runs here, runs without something, or is refused.

    PATHS are files (HCL or JSON; "-" is stdin) and folders, searched with all folders inside
    for .nomad, .hcl and .json that hold a job. Of single files an agent at hand is asked as
    well; none is needed. Exit code 1: a file is refused.
    """
    has_folders = any(path != STDIN and os.path.isdir(path) for path in paths)
    judge = _Judge(session, variables, var_files, is_offline=offline or has_folders)
    is_alone = len(paths) == 1 and not has_folders
    verdicts: list[Verdict] = []
    left_out = 0
    for path in _files(paths):
        if path is None:
            left_out += 1
            continue
        verdicts.append(judge.verdict(path, is_strict=is_strict and not has_folders))
    if as_json:
        session.out.json(_report(verdicts, left_out))
    else:
        _show(session.out, verdicts, is_full=is_alone or verbose)
        if is_alone and not verdicts[0].errors:
            session.out.line(session.out.style("Job validation successful", "green"))
        elif not is_alone:
            _show_sum(session.out, verdicts, left_out)
    return 1 if any(verdict.errors for verdict in verdicts) or not verdicts else 0


# --- files --------------------------------------------------------------------------------


def _files(paths: Sequence[str]) -> Iterator[str | None]:
    """Yield the files to judge; None for each of a folder that holds no job."""
    for path in paths:
        if path == STDIN or not os.path.isdir(path):
            yield path
            continue
        for inner in files_below(path, SUFFIXES, is_recursive=True):
            yield inner if _may_hold_job(inner) else None


def _may_hold_job(path: str) -> bool:
    """Whether a file of a folder is meant to be a job; what can't be read is judged too."""
    if path.endswith(".nomad"):
        return True
    try:
        text = read_text(path)
    except CliError:
        return not path.endswith(".json")
    if not path.endswith(".json"):
        return _HCL_JOB.search(text) is not None and _SCENARIO.search(text) is None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(_JSON_KEYS & value.keys())


# --- judging ------------------------------------------------------------------------------


class _Judge:
    """Judges file after file; nothing that one holds keeps it from the next."""

    def __init__(
        self,
        session: Session,
        variables: Sequence[str],
        var_files: Sequence[str],
        *,
        is_offline: bool,
    ) -> None:
        self.session = session
        self.variables = variables
        self.var_files = var_files
        self.asks_agent = not is_offline

    def verdict(self, path: str, *, is_strict: bool) -> Verdict:
        verdict = Verdict(shown_name(path))
        try:
            file = read_job(
                path, variables=self.variables, var_files=self.var_files, is_strict=is_strict
            )
        except CliError as error:
            diagnostics = getattr(error.__cause__, "diagnostics", ())
            verdict.errors = [one.render() for one in diagnostics] or [error.message]
            verdict.reasons = [one.summary() for one in diagnostics] or [error.message]
            return verdict
        verdict.job_id = str(file.job.get("ID") or "")
        for finding in file.findings or _findings_of_json(file, verdict.file):
            _add(verdict, finding)
        self._check(verdict, file)
        return verdict

    def _check(self, verdict: Verdict, file: JobFile) -> None:
        answer = self._ask(file) if self.asks_agent else None
        errors, advice = answer if answer is not None else check_here(file.job)
        verdict.errors += errors
        verdict.reasons += [_in_a_line(error) for error in errors]
        verdict.advice += advice
        verdict.warnings += advice

    def _ask(self, file: JobFile) -> tuple[list[str], list[str]] | None:
        """Return the errors and warnings of the agent, None where none answers."""
        job = dict(file.job)
        query = apply_session(self.session, job)
        if not self.session.region:
            query.pop("region", None)  # its rules are the same, and it need not exist yet
        try:
            answer = self.session.api.put("/v1/validate/job", {"Job": job}, **query)
        except ApiError as error:
            if error.status in {401, 403}:
                raise
            return [error.message], []
        except CliError:
            print("No agent answered; checked without one.", file=sys.stderr)
            self.asks_agent = False
            return None
        errors = answer.get("ValidationErrors") or [answer["Error"]] * bool(answer.get("Error"))
        warnings = (answer.get("Warnings") or "").strip()
        return list(errors), [warnings] if warnings else []


def check_here(job: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the errors and warnings of the rules that need no agent."""
    import msgspec

    from core.jobspec import canonicalize, warnings_of
    from core.jobspec import validate as check
    from core.model.job import Job

    try:
        record = canonicalize(msgspec.convert(job, Job), region=job.get("Region") or "global")
    except msgspec.ValidationError as error:
        return [f"this is not a job of Nomad's API: {error}"], []
    return check(record), warnings_of(record)


def _in_a_line(error: str) -> str:
    """Return an error of validation, which Nomad nests in lists, as one line."""
    lines = [line.strip().removeprefix("* ") for line in error.splitlines()]
    return _LIST_HEAD.sub("", " ".join(line for line in lines if line))


def _findings_of_json(file: JobFile, name: str) -> "list[Diagnostic]":
    """Return what a job in the API's JSON runs without: it has no lines to speak of."""
    if not file.submission["Source"].lstrip().startswith("{"):
        return []
    import msgspec

    from core.jobspec.write import features_missing
    from core.model.job import Job

    return features_missing(msgspec.convert(file.job, Job), name)


def _add(verdict: Verdict, finding: "Diagnostic") -> None:
    if finding.feature:
        at = verdict.features.setdefault(finding.feature, [])
        if finding.line not in at:
            at.append(finding.line)
    else:
        verdict.advice.append(finding.summary())
    verdict.warnings.append(finding.render())


# --- showing ------------------------------------------------------------------------------

_COLOURS: Final = {Result.RUNS: "green", Result.RUNS_WITHOUT: "yellow", Result.REFUSED: "red"}


def _show(out: Output, verdicts: Sequence[Verdict], *, is_full: bool) -> None:
    for verdict in verdicts if is_full else ():
        for warning in verdict.warnings:
            out.warn(warning)
        if verdict.errors:
            out.error(_error_text(verdict))
    lines = layout([(verdict.file, verdict.summary()) for verdict in verdicts])
    for verdict, line in zip(verdicts, lines, strict=True):
        out.line(out.style(line, _COLOURS[verdict.result]))


def _error_text(verdict: Verdict) -> str:
    if not verdict.job_id:  # no job was made of it; each error says where it stands
        return "\n".join(verdict.errors)
    listed = "\n".join(f"  * {error}" for error in verdict.errors)
    return f'the job "{verdict.job_id}" of {verdict.file} is not valid:\n{listed}'


def _counts(verdicts: Sequence[Verdict]) -> dict[Result, int]:
    return {result: sum(one.result is result for one in verdicts) for result in Result}


def _show_sum(out: Output, verdicts: Sequence[Verdict], left_out: int) -> None:
    counts = _counts(verdicts)
    parts = [f"{counts[Result.RUNS]} run"]
    parts += [f"{counts[Result.RUNS_WITHOUT]} run without something"]
    parts += [f"{counts[Result.REFUSED]} refused"]
    rest = f"; without a job: {left_out} more" if left_out else ""
    out.line()
    files = "1 job file" if len(verdicts) == 1 else f"{len(verdicts)} job files"
    out.line(f"{files}: {', '.join(parts)}{rest}")


def _report(verdicts: Sequence[Verdict], left_out: int) -> dict[str, Any]:
    counts = _counts(verdicts)
    return {
        "Files": [verdict.to_json() for verdict in verdicts],
        "Sum": {
            "Files": len(verdicts),
            "Runs": counts[Result.RUNS],
            "RunsWithout": counts[Result.RUNS_WITHOUT],
            "Refused": counts[Result.REFUSED],
            "NoJob": left_out,
        },
    }
