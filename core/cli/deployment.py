"""`serai deployment list`, `status`, `fail`, `pause`, `resume`, `promote` and `unblock`."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.monitor import Monitor
from core.cli.output import short
from core.cli.regions import job_of_deployment, regions_table
from core.cli.resolve import DEPLOYMENT, resolve, resolve_id, resolve_job
from core.cli.session import Session, api_command
from core.cli.several import newest_first, places, read_list, several_flags
from core.cli.views import deployed_table, deployment_pairs


@api_command()
@option("-filter", "expression", metavar="expression", help="List only matching ones")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids")
@several_flags
def list_(
    session: Session,
    *,
    expression: str | None,
    as_json: bool,
    template: str | None,
    verbose: bool,
    datacenter: str | None,
    stale: bool,
) -> int:
    """List deployments."""
    reply = read_list(
        session, "/v1/deployments", datacenter=datacenter, stale=stale, filter=expression
    )
    found = reply.body or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No deployments found")
        return 0
    columns, cells = places(session, found)
    rows = [
        [
            short(one["ID"], verbose=verbose),
            *cells(one),
            one.get("Namespace", ""),
            one["JobID"],
            one.get("JobVersion", 0),
            one["Status"],
            one.get("StatusDescription", ""),
        ]
        for one in sorted(found, key=newest_first)
    ]
    header = ("ID", *columns, "Namespace", "Job ID", "Job Version", "Status", "Description")
    session.out.table(header, rows)
    return 0


@api_command()
@click.argument("deployment", required=False)
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-monitor", is_flag=True, help="Follow it to its end")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids")
def status(
    session: Session,
    *,
    deployment: str | None,
    as_json: bool,
    monitor: bool,
    template: str | None,
    verbose: bool,
) -> int:
    """Show the deployment that DEPLOYMENT (an id or its beginning) names."""
    if deployment is None:
        raise CliError("name a deployment; list them with: serai deployment list")
    if monitor:
        full = resolve_id(session, DEPLOYMENT, deployment)
        return Monitor(session, verbose=verbose).follow_deployment(full)
    record = resolve(session, DEPLOYMENT, deployment)
    if not session.out.render(record, as_json=as_json, template=template):
        deployment_pairs(session.out, record, verbose=verbose)
        if record.get("IsMultiregion"):
            job = job_of_deployment(session.api, record)
            regions_table(session.api, session.out, job, verbose=verbose)
        deployed_table(session.out, record)
    return 0


@api_command()
@click.argument("deployment")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def fail(session: Session, deployment: str, detach: bool, verbose: bool) -> int:
    """Give up the deployment that DEPLOYMENT names."""
    full, answer = _act(session, "fail", deployment, {})
    session.out.line(f'Deployment "{short(full, verbose=verbose)}" failed')
    if version := answer.get("RevertedJobVersion"):
        session.out.line(f"The job goes back to version {version}")
    _follow(session, answer, detach=detach, verbose=verbose)
    return 0  # that it failed is what was asked for


@api_command()
@click.argument("deployment")
@option("-verbose", is_flag=True, help="Whole ids")
def pause(session: Session, deployment: str, verbose: bool) -> int:
    """Pause the deployment that DEPLOYMENT names."""
    full, _ = _act(session, "pause", deployment, {"Pause": True})
    session.out.line(f'Deployment "{short(full, verbose=verbose)}" paused')
    return 0


@api_command()
@click.argument("deployment")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def resume(session: Session, deployment: str, detach: bool, verbose: bool) -> int:
    """Resume the paused deployment that DEPLOYMENT names."""
    full, answer = _act(session, "pause", deployment, {"Pause": False})
    session.out.line(f'Deployment "{short(full, verbose=verbose)}" resumed')
    return _follow(session, answer, detach=detach, verbose=verbose)


@api_command()
@click.argument("deployment")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-group", "groups", multiple=True, help="Only this group (repeat for more)")
@option("-verbose", is_flag=True, help="Whole ids")
def promote(
    session: Session, deployment: str, detach: bool, groups: tuple[str, ...], verbose: bool
) -> int:
    """Promote the canaries of the deployment that DEPLOYMENT names."""
    return _promote(session, deployment, groups, detach=detach, verbose=verbose)


@api_command()
@click.argument("job")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-group", "groups", multiple=True, help="Only this group (repeat for more)")
@option("-verbose", is_flag=True, help="Whole ids")
def promote_job(
    session: Session, job: str, detach: bool, groups: tuple[str, ...], verbose: bool
) -> int:
    """Promote the canaries of the newest deployment of the job that JOB names."""
    ref = resolve_job(session, job)
    newest = session.api.get(f"{ref.route}/deployment", **ref.query)
    if not newest:
        raise CliError(f'the job "{ref.id}" has no deployment')
    return _promote(session, newest["ID"], groups, detach=detach, verbose=verbose)


@api_command()
@click.argument("deployment")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def unblock(session: Session, deployment: str, detach: bool, verbose: bool) -> int:
    """Let the blocked deployment that DEPLOYMENT names be successful, in its region alone."""
    full, answer = _act(session, "unblock", deployment, {})
    session.out.line(f'Deployment "{short(full, verbose=verbose)}" unblocked')
    return _follow(session, answer, detach=detach, verbose=verbose)


def _promote(
    session: Session, deployment: str, groups: tuple[str, ...], *, detach: bool, verbose: bool
) -> int:
    body: dict[str, Any] = {"Groups": list(groups)} if groups else {"All": True}
    _, answer = _act(session, "promote", deployment, body)
    return _follow(session, answer, detach=detach, verbose=verbose)


def _act(
    session: Session, verb: str, typed: str, body: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    full = resolve_id(session, DEPLOYMENT, typed)
    body = {"DeploymentID": full, **body}
    return full, session.api.put(f"/v1/deployment/{verb}/{segment(full)}", body) or {}


def _follow(session: Session, answer: dict[str, Any], *, detach: bool, verbose: bool) -> int:
    eval_id = answer.get("EvalID") or ""
    if not eval_id:
        return 0
    if detach:
        session.out.line(f"Evaluation ID: {eval_id}")
        return 0
    return Monitor(session, verbose=verbose).follow(eval_id)
