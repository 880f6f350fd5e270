"""`serai job stop`, `start`, `eval`, `revert` and `scale`."""

from typing import Any

import click

from core.cli.asking import confirm
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.job_tag import version_of_tag
from core.cli.monitor import Monitor
from core.cli.resolve import JobRef, resolve_job
from core.cli.session import Session, api_command


@api_command()
@click.argument("jobs", nargs=-1, required=True)
@option("-datacenter", help="Only there, until `job start`; works while the home is cut off")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-eval-priority", type=int, help="Priority of the evaluation, 1 to 100")
@option("-global", "is_global", is_flag=True, help="Stop it in every region it runs in")
@option("-no-shutdown-delay", is_flag=True, help="Skip the groups' shutdown delay")
@option("-purge", is_flag=True, help="Forget the job as well")
@option("-verbose", is_flag=True, help="Whole ids")
@option("-yes", is_flag=True, help="Do not ask when only the beginning of an id was given")
def stop(
    session: Session,
    *,
    jobs: tuple[str, ...],
    datacenter: str | None,
    detach: bool,
    eval_priority: int | None,
    is_global: bool,
    no_shutdown_delay: bool,
    purge: bool,
    verbose: bool,
    yes: bool,
) -> int:
    """Stop the JOBS: their allocations end, the record stays unless -purge."""
    if datacenter is not None and (purge or is_global):
        raise CliError("-datacenter stops a part of a job: it goes with neither -purge nor -global")
    code = 0
    for typed in jobs:
        # Whose home is cut off can't be searched for: then the whole id has to be given.
        ref = resolve_job(session, typed) if datacenter is None else _named(session, typed)
        if ref.id != typed and not yes:
            question = f'Stop the job "{ref.id}"?'
            confirm(question, unasked=f"{question} Give the whole id, or -yes.")
        params: dict[str, Any] = {
            "datacenter": datacenter,
            "purge": purge,
            "global": is_global,
            "eval_priority": eval_priority,
            "no_shutdown_delay": no_shutdown_delay,
        }
        answer = session.api.delete(ref.route, **params, **ref.query)
        if text := (answer or {}).get("Warnings"):
            session.out.warn(text)
        code = max(code, _follow(session, ref, answer, detach=detach, verbose=verbose))
    return code


@api_command()
@click.argument("job")
@option("-datacenter", help="Only the part that was stopped in this datacenter")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def start(session: Session, job: str, datacenter: str | None, detach: bool, verbose: bool) -> int:
    """Start the stopped job that JOB names, in its last version that ran."""
    if datacenter is not None:
        ref = _named(session, job)
        answer = session.api.put(f"{ref.route}/start", {}, datacenter=datacenter, **ref.query)
        return _follow(session, ref, answer, detach=detach, verbose=verbose)
    ref = resolve_job(session, job)
    if not session.api.get(ref.route, **ref.query).get("Stop"):
        raise CliError(f'the job "{ref.id}" is not stopped')
    versions = session.api.get(f"{ref.route}/versions", **ref.query).get("Versions") or []
    ran = next((one["Version"] for one in versions if not one.get("Stop")), None)
    if ran is None:
        raise CliError(f'no version of the job "{ref.id}" that ran is kept: run its file again')
    body = {"JobID": ref.id, "JobVersion": ran}
    answer = session.api.put(f"{ref.route}/revert", body, **ref.query)
    return _follow(session, ref, answer, detach=detach, verbose=verbose)


@api_command()
@click.argument("job")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-force-reschedule", is_flag=True, help="Replace failed allocations now")
@option("-verbose", is_flag=True, help="Whole ids")
def evaluate(
    session: Session, job: str, detach: bool, force_reschedule: bool, verbose: bool
) -> int:
    """Evaluate the job that JOB names again."""
    ref = resolve_job(session, job)
    body = {"JobID": ref.id, "EvalOptions": {"ForceReschedule": force_reschedule}}
    answer = session.api.put(f"{ref.route}/evaluate", body, **ref.query)
    return _follow(session, ref, answer, detach=detach, verbose=verbose)


@api_command()
@click.argument("job")
@click.argument("version", metavar="VERSION|TAG")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def revert(session: Session, job: str, version: str, detach: bool, verbose: bool) -> int:
    """Bring the job that JOB names back to VERSION, a number or a tag."""
    ref = resolve_job(session, job)
    number = int(version) if version.isdigit() else version_of_tag(session, ref, version)
    body = {"JobID": ref.id, "JobVersion": number, "EnforcePriorVersion": None}
    answer = session.api.put(f"{ref.route}/revert", body, **ref.query)
    return _follow(session, ref, answer, detach=detach, verbose=verbose)


@api_command()
@click.argument("job")
@click.argument("words", nargs=-1, metavar="[GROUP] COUNT")
@option("-check-index", type=int, help="Scale only if the job's modify index is this")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def scale(
    session: Session,
    *,
    job: str,
    words: tuple[str, ...],
    check_index: int | None,
    detach: bool,
    verbose: bool,
) -> int:
    """Set the count of GROUP of the job that JOB names; GROUP may be left out if it is one."""
    if len(words) not in (1, 2) or not words[-1].isdigit():
        raise CliError("job scale takes: JOB [GROUP] COUNT, with a COUNT of 0 or more")
    ref = resolve_job(session, job)
    group = words[0] if len(words) == 2 else _only_group(session, ref)
    body: dict[str, Any] = {
        "Count": int(words[-1]),
        "Target": {"Job": ref.id, "Group": group, "Namespace": ref.namespace},
        "Message": "set by hand: serai job scale",
    }
    if check_index is not None:
        body["JobModifyIndex"] = check_index
    answer = session.api.put(f"{ref.route}/scale", body, **ref.query)
    return _follow(session, ref, answer, detach=detach, verbose=verbose)


def _follow(
    session: Session, ref: JobRef, answer: dict[str, Any], *, detach: bool, verbose: bool
) -> int:
    eval_id = (answer or {}).get("EvalID") or ""
    if detach or not eval_id:
        session.out.line(eval_id or "Done; nothing had to be evaluated")
        return 0
    session.api.defaults.update(ref.query)
    return Monitor(session, verbose=verbose, namespace=ref.namespace).follow(eval_id)


def _named(session: Session, job_id: str) -> JobRef:
    """Return the job of exactly this id, without asking anybody whether it exists."""
    return JobRef(job_id, "default" if session.namespace == "*" else session.namespace)


def _only_group(session: Session, ref: JobRef) -> str:
    groups = session.api.get(ref.route, **ref.query).get("TaskGroups") or []
    if len(groups) != 1:
        names = ", ".join(group["Name"] for group in groups)
        raise CliError(f'the job "{ref.id}" has several groups, name one of: {names}')
    return str(groups[0]["Name"])
