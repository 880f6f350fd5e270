"""`serai eval list`, `eval status` and `eval delete`."""

from typing import Any

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.monitor import Monitor
from core.cli.output import clock, short
from core.cli.placement import group_failures, show_placements
from core.cli.resolve import EVALUATION, resolve, resolve_id
from core.cli.session import Session, api_command
from core.cli.several import newest_first, places, read_list, several_flags
from core.cli.views import alloc_table

Record = dict[str, Any]
_LIST_HEADER = (
    "Priority", "Triggered By", "Job ID", "Namespace", "Node ID", "Status",
    "Placement Failures",
)  # fmt: skip


@api_command()
@option("-filter", "expression", metavar="expression", help="List only matching ones")
@option("-job", help="Only of this job")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-per-page", type=int, help="List so many at most")
@option("-page-token", help="Go on where the page before ended")
@option("-status", "status_", help="Only in this status")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids")
@several_flags
def list_(
    session: Session,
    *,
    expression: str | None,
    job: str | None,
    as_json: bool,
    per_page: int | None,
    page_token: str | None,
    status_: str | None,
    template: str | None,
    verbose: bool,
    datacenter: str | None,
    stale: bool,
) -> int:
    """List evaluations."""
    reply = read_list(
        session,
        "/v1/evaluations",
        datacenter=datacenter,
        stale=stale,
        filter=expression,
        job=job,
        status=status_,
        per_page=per_page,
        next_token=page_token,
    )
    found = reply.body or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No evals found")
        return 0
    columns, cells = places(session, found)
    rows = [
        [
            short(one["ID"], verbose=verbose),
            *cells(one),
            one["Priority"],
            one["TriggeredBy"],
            one["JobID"],
            one.get("Namespace", ""),
            short(one.get("NodeID") or "", verbose=verbose) or "<none>",
            one["Status"],
            _failures(one),
        ]
        for one in sorted(found, key=newest_first)
    ]
    session.out.table(("ID", *columns, *_LIST_HEADER), rows)
    if token := reply.headers.get("x-nomad-nexttoken"):
        session.out.note(f"More evaluations: -page-token={token}")
    return 0


@api_command()
@click.argument("evaluation")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-monitor", is_flag=True, help="Follow it to its end")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids and times")
def status(
    session: Session,
    *,
    evaluation: str,
    as_json: bool,
    monitor: bool,
    template: str | None,
    verbose: bool,
) -> int:
    """Show the evaluation that EVALUATION (an id or its beginning) names."""
    if monitor:
        return Monitor(session, verbose=verbose).follow(resolve_id(session, EVALUATION, evaluation))
    record = resolve(session, EVALUATION, evaluation)
    if session.out.render(record, as_json=as_json, template=template):
        return 0
    show_evaluation(session, record, verbose=verbose)
    return 0


@api_command()
@click.argument("evaluations", nargs=-1)
@option("-filter", "expression", metavar="expression", help="Delete all that match")
@option("-yes", is_flag=True, help="Do not ask")
def delete(
    session: Session, *, evaluations: tuple[str, ...], expression: str | None, yes: bool
) -> int:
    """Delete the EVALUATIONS, or all that match a filter, while the broker is paused."""
    if bool(evaluations) == bool(expression):
        raise CliError("eval delete takes either evaluations or a -filter")
    ids = [resolve_id(session, EVALUATION, one) for one in evaluations]
    count = len(ids)
    if expression:
        answer = session.api.get("/v1/evaluations/count", filter=expression)
        count = (answer or {}).get("Count") or 0
    if not count:
        session.out.line("No evaluations to delete")
        return 0
    if not yes:
        if not session.out.is_terminal:
            raise CliError(f"{count} evaluation(s) would be deleted: say -yes")
        if not click.confirm(f"Delete {count} evaluation(s)?"):
            raise CliError("nothing was done")
    body = {"EvalIDs": ids} if ids else {}
    answer = session.api.delete("/v1/evaluations", body, filter=expression)
    session.out.line(f"Deleted {answer['Count']} evaluation(s)")
    if expression and answer["Count"] < count:
        left = count - answer["Count"]
        session.out.line(f"{left} stay: allocations that they placed still run")
    return 0


def show_evaluation(session: Session, record: Record, *, verbose: bool) -> None:
    """Write one evaluation as `eval status` does."""
    out = session.out
    rows: list[tuple[str, Any]] = [
        ("ID", short(record["ID"], verbose=verbose)),
        ("Create Time", clock(record.get("CreateTime") or 0)),
        ("Modify Time", clock(record.get("ModifyTime") or 0)),
        ("Status", record["Status"]),
        ("Status Description", record.get("StatusDescription") or record["Status"]),
        ("Type", record["Type"]),
        ("TriggeredBy", record["TriggeredBy"]),
        ("Job ID", record["JobID"]),
        ("Namespace", record.get("Namespace", "")),
    ]
    if record.get("NodeID"):
        rows.append(("Node ID", short(record["NodeID"], verbose=verbose)))
    rows += [("Priority", record["Priority"]), ("Placement Failures", _failures(record))]
    for title, key in (
        ("Previous Eval", "PreviousEval"),
        ("Next Eval", "NextEval"),
        ("Blocked Eval", "BlockedEval"),
        ("Deployment ID", "DeploymentID"),
    ):
        if record.get(key):
            rows.append((title, short(record[key], verbose=verbose)))
    out.pairs(rows)
    if record.get("FailedTGAllocs"):
        out.heading("Failed Placements")
        for line in group_failures(record["FailedTGAllocs"]):
            out.line(line)
    allocs = session.api.get(f"/v1/evaluation/{record['ID']}/allocations") or []
    if allocs:
        out.heading("Allocations")
        alloc_table(out, allocs, verbose=verbose)
        out.heading("Placement Metrics")
        show_placements(out, _metrics_of(session, allocs))


def _metrics_of(session: Session, allocs: list[Record]) -> dict[str, Record]:
    # All instances that an evaluation places for a group share their metrics.
    one_each = {one["TaskGroup"]: one["ID"] for one in reversed(allocs)}
    found = {group: session.api.find(f"/v1/allocation/{key}") for group, key in one_each.items()}
    return {group: alloc["Metrics"] for group, alloc in found.items() if alloc and alloc["Metrics"]}


def _failures(record: Record) -> str:
    if record["Status"] == "blocked":
        return "N/A - In Progress"
    return "true" if record.get("FailedTGAllocs") else "false"
