"""The way of a job file: text -> evaluated body -> Nomad's API JSON -> `Job`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from core.jobspec.decode import Decoder
from core.jobspec.diagnostics import (
    Diagnostic,
    JobFileError,
    Severity,
    Source,
    SourceError,
    did_you_mean,
)
from core.jobspec.hcl import tree
from core.jobspec.hcl.body import Block
from core.jobspec.hcl.evaluate import Evaluator
from core.jobspec.hcl.expand import evaluate_body
from core.jobspec.hcl.functions import (
    FUNCTIONS,
    Entropy,
    FileReader,
    Function,
    file_functions,
    random_functions,
)
from core.jobspec.hcl.json_form import parse_any
from core.jobspec.hcl.parser import check_text, is_json_text
from core.jobspec.nomad_schema import FILE, JOB
from core.jobspec.variables import Declarations, Secrets, check_validations, roots_of
from core.model.job import Job

__all__ = ["FileReader", "Parsed", "parse_job"]

_DECLARING: Final = ("variable", "variables", "locals")
_API_KEYS: Final = frozenset({"Job", "ID", "TaskGroups", "Datacenters"})


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
    entropy: Entropy | None = None,
    is_strict: bool = True,
) -> Parsed:
    """Return the job that a text describes.

    Args:
        text: HCL, HCL in JSON, or Nomad's API JSON (`{"Job": {...}}` or the job alone).
        filename: For messages only.
        variables: What `-var name=value` gave; the strongest source.
        var_files: (name, text) of each `-var-file`, in order.
        env: The environment; `NOMAD_VAR_name` and `SERAI_VAR_name` count, weakest.
        allow_files: Serves `file()` and its kin; None makes them an error.
        entropy: Gives random bytes to `uuidv4()` and `bcrypt()`; None makes them an error.
        is_strict: A value for a variable the file doesn't know is an error, else a warning.

    Raises:
        JobFileError: with every finding that could be collected.
    """
    try:
        if is_json_text(text):
            checked = check_text(text, filename)
            api = _api_json(checked)
            if api is not None:
                return Parsed(_job_of_api(api, filename))
        given = _Given(variables or {}, var_files, env or {}, is_strict)
        functions = dict(FUNCTIONS)
        if allow_files is not None:
            functions |= file_functions(allow_files)
        if entropy is not None:
            functions |= random_functions(entropy)
        return _parse_hcl(text, filename, given, functions)
    except JobFileError:
        raise
    except SourceError as error:
        raise JobFileError(error.diagnostics) from None
    except RecursionError:
        message = "values of this file refer to each other too deeply"
        raise JobFileError([Diagnostic(Severity.ERROR, message, filename=filename)]) from None


def _api_json(text: str) -> dict[str, Any] | None:
    """Return the job of an API JSON text, None when it is something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # parsed again as HCL's JSON form, which knows the place of the mistake
    if not isinstance(value, dict) or not _API_KEYS & value.keys():
        return None
    inner = value.get("Job", value)
    return inner if isinstance(inner, dict) else value


def _job_of_api(value: dict[str, Any], filename: str) -> Job:
    try:
        return msgspec.convert(value, Job)
    except msgspec.ValidationError as error:
        raise SourceError.of_file(filename, f"this is not a job of Nomad's API: {error}") from None


@dataclass(frozen=True, slots=True)
class _Given:
    """Where variables may get their values from, see `parse_job`."""

    options: Mapping[str, str]
    files: Sequence[tuple[str, str]]
    env: Mapping[str, str]
    is_strict: bool


def _parse_hcl(
    text: str, filename: str, given: _Given, functions: Mapping[str, Function]
) -> Parsed:
    source, root = parse_any(text, filename, FILE)
    constant = Evaluator(source, {}, functions=functions)
    declarations, job_node = _outline(source, root, constant)
    roots = roots_of(
        source,
        declarations,
        options=given.options,
        files=given.files,
        env=given.env,
        is_strict=given.is_strict,
    )
    evaluator = Evaluator(source, roots.scope(), functions=functions, budget=constant.budget)
    secrets = Secrets(declarations.variables, roots.var)
    try:
        roots.local.evaluator = evaluator
        check_validations(evaluator, declarations.variables)
        roots.local.evaluate_all()
        body = evaluate_body(evaluator, job_node.body)
        labels = [label for label, _ in job_node.labels]
        spans = [span for _, span in job_node.labels]
        parsed = _decode(Block("job", labels, body, job_node.type_span, spans), filename)
    except SourceError as error:
        raise JobFileError(secrets.hidden(error.diagnostics)) from None
    parsed.warnings[:0] = roots.warnings
    return parsed


def _outline(
    source: Source, root: tree.BodyNode, constant: Evaluator
) -> tuple[Declarations, tree.BlockNode]:
    """Return what the file declares, and its job."""
    declarations = Declarations()
    job_node: tree.BlockNode | None = None
    for item in root.items:
        if isinstance(item, tree.AttributeNode):
            raise source.error(
                item.name_span,
                f'"{item.name}" stands outside of the job',
                hint='a job file holds job "name" { ... }, variable and locals blocks',
            )
        if item.type in _DECLARING:
            declarations.add(constant, item)
        elif item.type != "job":
            hint = did_you_mean(item.type, [*_DECLARING, "job"])
            hint = hint or _hint_outside(item.type)
            raise source.error(item.type_span, f'there is no block "{item.type}" here', hint=hint)
        elif job_node is not None:
            line = source.line_of(job_node.type_span.start)
            raise source.error(
                item.type_span, f"a file holds one job; the first stands on line {line}"
            )
        else:
            job_node = item
    if job_node is None:
        raise SourceError.of_file(source.filename, 'the file holds no job: job "name" { ... }')
    return declarations, job_node


def _hint_outside(type_: str) -> str:
    if type_ in JOB.blocks:
        return f'"{type_}" belongs inside job "name" {{ ... }}'
    if type_ in {"resource", "provider", "module", "data", "output", "terraform"}:
        return "this looks like a file of Terraform, not like a job"
    if type_ in {"server", "client", "plugin", "ports"}:
        return "this looks like the configuration of an agent, not like a job"
    return ""


def _decode(block: Block, filename: str) -> Parsed:
    decoder = Decoder()
    wire = decoder.block(block, JOB)
    if decoder.errors:
        raise JobFileError(decoder.errors)
    wire.setdefault("Name", wire.get("ID"))
    try:
        job = msgspec.convert(wire, Job)
    except msgspec.ValidationError as error:
        raise SourceError.of_file(filename, f"the job can't be represented: {error}") from None
    return Parsed(job, decoder.warnings)
