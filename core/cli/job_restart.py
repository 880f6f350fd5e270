"""`serai job restart`: restart or replace a job's allocations, a batch at a time."""

import time
from typing import Any

import click

from core.cli.client import ApiError, segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import short
from core.cli.resolve import resolve_job
from core.cli.session import Session, api_command
from core.model.durations import parse_length_ns

_POLL_S = 0.5
_REPLACED_WITHIN_S = 600.0


@api_command()
@click.argument("job")
@option("-all-tasks", is_flag=True, help="Also tasks that ended, such as prestart hooks")
@option("-batch-size", default="1", metavar="n|n%", help="So many at a time (1)")
@option("-batch-wait", default="0s", metavar="duration|ask", help="Pause between batches")
@option("-group", "groups", multiple=True, help="Only this group (repeat)")
@option("-on-error", default="ask", metavar="ask|fail", help="What to do when one fails")
@option("-reschedule", is_flag=True, help="Stop each and place it anew instead")
@option("-task", "tasks", multiple=True, help="Only this task (repeat)")
@option("-verbose", is_flag=True, help="Whole ids")
@option("-yes", is_flag=True, help="Do not ask")
def restart(
    session: Session,
    *,
    job: str,
    all_tasks: bool,
    batch_size: str,
    batch_wait: str,
    groups: tuple[str, ...],
    on_error: str,
    reschedule: bool,
    tasks: tuple[str, ...],
    verbose: bool,
    yes: bool,
) -> int:
    """Restart the running allocations of the job that JOB names, a batch after the other."""
    if all_tasks and tasks:
        raise CliError("-all-tasks and -task exclude each other")
    if reschedule and (all_tasks or tasks):
        raise CliError("-reschedule replaces whole allocations: leave out -task and -all-tasks")
    if on_error not in ("ask", "fail"):
        raise CliError("-on-error is ask or fail")
    wait_s = _wait_s(batch_wait)
    ref = resolve_job(session, job)
    found = [
        alloc
        for alloc in session.api.get(f"{ref.route}/allocations", **ref.query) or []
        if alloc["ClientStatus"] == "running"
        and alloc["DesiredStatus"] == "run"
        and (not groups or alloc["TaskGroup"] in groups)
    ]
    if not found:
        session.out.line("No allocations to restart")
        return 0
    size = _batch(batch_size, len(found))
    found.sort(key=lambda alloc: str(alloc["Name"]))
    failed = 0
    for start in range(0, len(found), size):
        if start and not _goes_on(session, wait_s, yes=yes):
            return 1
        for alloc in found[start : start + size]:
            try:
                if reschedule:
                    _replace(session, alloc, verbose=verbose)
                else:
                    _restart(session, alloc, tasks, all_tasks=all_tasks, verbose=verbose)
            except (ApiError, CliError) as error:
                failed += 1
                session.out.error(f"{short(alloc['ID'], verbose=verbose)}: {error}")
                if on_error == "fail" or not (yes or _confirmed(session, "Go on?")):
                    return 1
    session.out.line(f"{len(found) - failed} of {len(found)} allocations restarted")
    return 1 if failed else 0


def _restart(
    session: Session,
    alloc: dict[str, Any],
    tasks: tuple[str, ...],
    *,
    all_tasks: bool,
    verbose: bool,
) -> None:
    route = f"/v1/client/allocation/{segment(alloc['ID'])}/restart"
    for task in tasks or ("",):
        session.api.put(route, {"TaskName": task, "AllTasks": all_tasks})
    session.out.line(f'Allocation "{short(alloc["ID"], verbose=verbose)}" restarted')


def _replace(session: Session, alloc: dict[str, Any], *, verbose: bool) -> None:
    session.api.put(f"/v1/allocation/{segment(alloc['ID'])}/stop", {})
    until = time.monotonic() + _REPLACED_WITHIN_S
    while time.monotonic() < until:
        now = session.api.get(f"/v1/allocation/{segment(alloc['ID'])}")
        following = now.get("NextAllocation")
        if following:
            status = session.api.get(f"/v1/allocation/{segment(following)}")["ClientStatus"]
            if status == "running":
                old, new = (short(one, verbose=verbose) for one in (alloc["ID"], following))
                session.out.line(f'Allocation "{old}" replaced by "{new}"')
                return
            if status in ("failed", "lost"):
                raise CliError(f"its replacement {short(following)} is {status}")
        time.sleep(_POLL_S)
    raise CliError(f"not replaced within {_REPLACED_WITHIN_S:.0f} s")


def _batch(text: str, count: int) -> int:
    number = text.removesuffix("%")
    if not number.isdigit() or not int(number):
        raise CliError(f"-batch-size {text}: a number or a percentage above 0 is wanted")
    if text.endswith("%"):
        return max(1, count * min(int(number), 100) // 100)
    return int(number)


def _wait_s(text: str) -> float | None:
    # None: ask before each batch.
    if text == "ask":
        return None
    try:
        return parse_length_ns(text) / 1e9
    except ValueError as error:
        raise CliError(f"-batch-wait: {error}") from None


def _goes_on(session: Session, wait_s: float | None, *, yes: bool) -> bool:
    if wait_s is None:
        return yes or _confirmed(session, "Restart the next batch?")
    time.sleep(wait_s)
    return True


def _confirmed(session: Session, question: str) -> bool:
    return session.out.is_terminal and click.confirm(question)
