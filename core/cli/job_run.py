"""`serai job run`, and the flags of every command that reads a job file."""

from typing import Any, Final

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.jobfile import apply_session, read_job, show_warnings
from core.cli.output import Output
from core.cli.session import Session, api_command

# Nomad's flags for what is not carried out: scripts that pass them go on working.
_WITHOUT_EFFECT: Final = (
    "-consul-namespace", "-consul-token", "-vault-namespace", "-vault-token",
)  # fmt: skip


def _warn_of_no_effect(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value and not ctx.resilient_parsing:
        Output().warn(f"{param.opts[0]} has no effect: Consul and Vault are not carried out")


def variable_options(function: Any) -> Any:
    """The flags that give a job file's variables their values."""
    for decorate in (
        option(
            "-hcl2-strict/-no-hcl2-strict",
            "is_strict",
            default=True,
            help="Refuse values for variables the file lacks (default true)",
        ),
        option(
            "-var-file",
            "var_files",
            multiple=True,
            metavar="file",
            type=click.Path(),
            help="Variables' values",
        ),
        option("-var", "variables", multiple=True, metavar="name=value", help="A variable"),
        *(
            option(name, hidden=True, expose_value=False, callback=_warn_of_no_effect)
            for name in _WITHOUT_EFFECT
        ),
    ):
        function = decorate(function)
    return function


def file_options(function: Any) -> Any:
    """The flags of every command that takes one job file to the servers."""
    as_json = option("-json", "as_json", is_flag=True, help="The file is the API's JSON")
    return as_json(variable_options(function))


@api_command()
@click.argument("path", type=click.Path())
@file_options
@option("-check-index", type=int, help="Register only if the job's modify index is this")
@option("-detach", is_flag=True, help="Return once registered, without following")
@option("-eval-priority", type=int, help="Priority of the evaluation, 1 to 100")
@option("-output", is_flag=True, help="Write the job as JSON, and do nothing")
@option("-policy-override", is_flag=True, hidden=True)
@option("-preserve-counts", is_flag=True, help="Keep the counts of a job that runs")
@option("-verbose", is_flag=True, help="Whole ids")
def run(
    session: Session,
    *,
    path: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    as_json: bool,
    is_strict: bool,
    check_index: int | None,
    detach: bool,
    eval_priority: int | None,
    output: bool,
    policy_override: bool,
    preserve_counts: bool,
    verbose: bool,
) -> int:
    """Run a new job, or update a running one, from the job file PATH ("-" is stdin).

    Follows the evaluation and then the deployment. Exit code 0: all placed; 2: something
    could not be placed; 1: an error or a failed deployment.
    """
    file = read_job(
        path, variables=variables, var_files=var_files, as_json=as_json, is_strict=is_strict
    )
    if output:
        session.out.json({"Job": file.job})
        return 0
    show_warnings(session.out, file.warnings)
    query = apply_session(session, file.job)
    request: dict[str, Any] = {"Job": file.job, "Submission": file.submission}
    if check_index is not None:
        request |= {"EnforceIndex": True, "JobModifyIndex": check_index}
    if preserve_counts:
        request["PreserveCounts"] = True
    if eval_priority is not None:
        request["EvalPriority"] = eval_priority
    answer = _register(session, request, query, check_index)
    _show_server_warnings(session, answer)
    eval_id = answer.get("EvalID") or ""
    if not eval_id:
        session.out.line("Job registration successful")
        return 0
    if detach:
        session.out.line("Job registration successful")
        session.out.line(f"Evaluation ID: {eval_id}")
        return 0
    from core.cli.monitor import Monitor

    session.api.defaults.update(query)
    return Monitor(session, verbose=verbose, namespace=query.get("namespace", "")).follow(eval_id)


def _register(
    session: Session, request: dict[str, Any], query: dict[str, str], check_index: int | None
) -> dict[str, Any]:
    try:
        answer = session.api.put("/v1/jobs", request, **query)
    except ApiError as error:
        if check_index is not None and "modify index" in error.body.lower():
            raise CliError(
                f"the job changed since index {check_index}, nothing was done: {error.body}"
            ) from error
        raise CliError(f"the job was not accepted: {error.message}") from error
    assert isinstance(answer, dict)
    return answer


def _show_server_warnings(session: Session, answer: dict[str, Any]) -> None:
    if text := (answer.get("Warnings") or "").strip():
        show_warnings(session.out, [text])
