"""`serai alloc stop`, `restart`, `signal` and `checks`."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.monitor import Monitor
from core.cli.resolve import ALLOCATION, resolve, resolve_id
from core.cli.session import Session, api_command


@api_command()
@click.argument("allocation")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-no-shutdown-delay", is_flag=True, help="Skip the group's shutdown delay")
@option("-verbose", is_flag=True, help="Whole ids")
def stop(
    session: Session, *, allocation: str, detach: bool, no_shutdown_delay: bool, verbose: bool
) -> int:
    """Stop the allocation that ALLOCATION names; its job gets a new one elsewhere."""
    full = resolve_id(session, ALLOCATION, allocation)
    answer = session.api.put(
        f"/v1/allocation/{segment(full)}/stop", no_shutdown_delay=no_shutdown_delay
    )
    eval_id = (answer or {}).get("EvalID") or ""
    if detach or not eval_id:
        session.out.line(eval_id)
        return 0
    return Monitor(session, verbose=verbose).follow(eval_id)


@api_command()
@click.argument("allocation")
@click.argument("task", required=False)
@option("-all-tasks", is_flag=True, help="Also tasks that have ended")
@option("-task", "named", metavar="task", help="Only this task")
@option("-verbose", is_flag=True, hidden=True)
def restart(
    session: Session,
    *,
    allocation: str,
    task: str | None,
    all_tasks: bool,
    named: str | None,
    verbose: bool,
) -> int:
    """Restart the tasks of the allocation that ALLOCATION names, in place."""
    task = named or task or ""
    if task and all_tasks:
        raise CliError("-all-tasks and a task exclude each other")
    alloc = resolve(session, ALLOCATION, allocation)
    _check_task(alloc, task)
    body = {"TaskName": task, "AllTasks": all_tasks}
    session.api.put(f"/v1/client/allocation/{segment(alloc['ID'])}/restart", body)
    return 0


@api_command()
@click.argument("allocation")
@click.argument("task", required=False)
@option("-s", "signal_", metavar="signal", default="SIGKILL", help="Default SIGKILL")
@option("-task", "named", metavar="task", help="Only this task")
@option("-verbose", is_flag=True, hidden=True)
def signal(
    session: Session,
    *,
    allocation: str,
    task: str | None,
    signal_: str,
    named: str | None,
    verbose: bool,
) -> int:
    """Send a signal to the tasks of the allocation that ALLOCATION names."""
    task = named or task or ""
    alloc = resolve(session, ALLOCATION, allocation)
    _check_task(alloc, task)
    body = {"Signal": signal_, "Task": task}
    session.api.put(f"/v1/client/allocation/{segment(alloc['ID'])}/signal", body)
    return 0


@api_command()
@click.argument("allocation")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids")
def checks(
    session: Session, *, allocation: str, as_json: bool, template: str | None, verbose: bool
) -> int:
    """Show the newest result of each health check of an allocation."""
    full = resolve_id(session, ALLOCATION, allocation)
    found: dict[str, Any] = session.api.get(f"/v1/client/allocation/{segment(full)}/checks") or {}
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    out.line(f"Status of {len(found)} service checks")
    for check_id, check in sorted(found.items(), key=lambda item: item[1].get("Check", "")):
        out.line()
        out.pairs(
            [
                ("ID", check_id if verbose else check_id[:8]),
                ("Name", check.get("Check")),
                ("Group", check.get("Group")),
                ("Task", check.get("Task") or "(group)"),
                ("Service", check.get("Service")),
                ("Status", check.get("Status")),
                ("Status Code", check.get("StatusCode") or None),
                ("Mode", check.get("Mode")),
                ("Timestamp", check.get("Timestamp")),
                ("Output", str(check.get("Output") or "").strip()),
            ]
        )
    return 0


def _check_task(alloc: dict[str, Any], task: str) -> None:
    names = sorted(alloc.get("TaskStates") or {})
    if task and names and task not in names:
        raise CliError(f'the allocation has no task "{task}"; it has: {", ".join(names)}')
