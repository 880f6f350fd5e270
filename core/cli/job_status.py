"""`serai job status`: all jobs, or one with its summary, deployment and allocations."""

import time
from typing import Any

import click

from core.cli.client import Reply
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import Output, clock, duration, short
from core.cli.placement import group_failures
from core.cli.regions import regions_table
from core.cli.resolve import JobRef, resolve_job
from core.cli.session import Session, api_command
from core.cli.several import find_parts, places, read_list, several_flags
from core.cli.views import alloc_table, deployed_table
from core.model.child import DISPATCH, PERIODIC

Record = dict[str, Any]
_SUMMARY = ("Queued", "Starting", "Running", "Failed", "Complete", "Lost", "Unknown")


@api_command()
@click.argument("job", required=False)
@option("-all-allocs", is_flag=True, help="Also allocations of an earlier job of that name")
@option("-evals", is_flag=True, help="Show the evaluations")
@option("-filter", "expression", metavar="expression", help="List only matching jobs")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-per-page", type=int, help="List so many at most")
@option("-page-token", help="Go on where the page before ended")
@option("-short", "is_short", is_flag=True, help="Only the head")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids and times, and the evaluations")
@several_flags
def status(
    session: Session,
    *,
    job: str | None,
    all_allocs: bool,
    evals: bool,
    expression: str | None,
    as_json: bool,
    per_page: int | None,
    page_token: str | None,
    is_short: bool,
    template: str | None,
    verbose: bool,
    datacenter: str | None,
    stale: bool,
) -> int:
    """Show all jobs, or the one that JOB (an id or its beginning) names."""
    if job is None:
        reply = read_list(
            session, "/v1/jobs", datacenter=datacenter, stale=stale, filter=expression,
            per_page=per_page, next_token=page_token,
        )  # fmt: skip
        _list(session, reply, as_json=as_json, template=template)
        return 0
    if datacenter is not None:
        raise CliError("-datacenter chooses among the jobs of a list: leave the job out")
    ref = resolve_job(session, job)
    record = session.api.get(ref.route, **ref.query)
    if as_json or template is not None:
        session.out.render(
            _details(session, ref, record, all_allocs), as_json=as_json, template=template
        )
        return 0
    show_job(
        session, ref, record, is_short=is_short, evals=evals, all_allocs=all_allocs, verbose=verbose
    )
    return 0


def _list(session: Session, reply: Reply, *, as_json: bool, template: str | None) -> None:
    jobs = reply.body or []
    out = session.out
    if out.render(jobs, as_json=as_json, template=template):
        return
    if not jobs:
        out.line("No running jobs")
        return
    job_table(session, jobs)
    if token := reply.headers.get("x-nomad-nexttoken"):
        out.note(f"More jobs: -page-token={token}")


def job_table(session: Session, jobs: list[Record]) -> None:
    """Write jobs by id."""
    with_namespace = session.namespace == "*"
    columns, cells = places(session, jobs)
    header = ["ID", *(["Namespace"] * with_namespace), *columns]
    header += ["Type", "Priority", "Status", "Submit Date"]
    rows = []
    for job in sorted(jobs, key=lambda j: (j["ID"], j.get("Namespace", ""), cells(j))):
        kind = job["Type"]
        kind += "/periodic" * bool(job.get("Periodic"))
        kind += "/parameterized" * bool(job.get("ParameterizedJob"))
        rows.append(
            [
                job["ID"],
                *([job.get("Namespace", "")] * with_namespace),
                *cells(job),
                kind,
                job["Priority"],
                job["Status"] + " (stopped)" * bool(job.get("Stop")),
                clock(job.get("SubmitTime") or 0),
            ]
        )
    session.out.table(header, rows)


def show_job(
    session: Session,
    ref: JobRef,
    record: Record,
    *,
    is_short: bool,
    evals: bool,
    all_allocs: bool,
    verbose: bool,
) -> None:
    """Write one job as `job status` does."""
    out = session.out
    _head(out, record)
    if is_short:
        return
    summary = find_parts(session, f"{ref.route}/summary", **ref.query) or {}
    if _makes_children(record):
        _children(session, ref, record, summary)
        return
    _summary(out, summary)
    _shares(session, ref)
    evaluations = find_parts(session, f"{ref.route}/evaluations", **ref.query) or []
    if evals or verbose:
        _evaluations(out, evaluations, verbose=verbose)
    _placement_failure(out, evaluations)
    deployment = find_parts(session, f"{ref.route}/deployment", **ref.query)
    if deployment:
        out.heading("Latest Deployment")
        out.pairs(
            [
                ("ID", short(deployment["ID"], verbose=verbose)),
                ("Status", deployment["Status"]),
                ("Description", deployment.get("StatusDescription", "")),
            ]
        )
        regions_table(session.api, out, record, verbose=verbose)
        deployed_table(out, deployment)
    allocs = find_parts(session, f"{ref.route}/allocations", all=all_allocs, **ref.query) or []
    out.heading("Allocations")
    alloc_table(out, allocs, verbose=verbose)


def _head(out: Output, job: Record) -> None:
    status_text = job.get("Status") or ""
    rows: list[tuple[str, Any]] = [
        ("ID", job["ID"]),
        ("Name", job.get("Name") or job["ID"]),
        ("Submit Date", clock(job.get("SubmitTime") or 0)),
        ("Type", job.get("Type")),
        ("Priority", job.get("Priority")),
        ("Region", job.get("Region")),
        ("Datacenters", ",".join(job.get("Datacenters") or [])),
        ("Namespace", job.get("Namespace")),
        ("Node Pool", job.get("NodePool")),
        ("Status", status_text + " (stopped)" * bool(job.get("Stop"))),
        ("Periodic", bool(job.get("Periodic"))),
        ("Parameterized", _is_parameterized(job)),
    ]
    if job.get("Periodic") and not job.get("Stop"):
        rows.append(("Next Periodic Launch", _next_launch(job)))
    if job.get("StatusDescription"):
        rows.append(("Description", job["StatusDescription"]))
    out.pairs(rows)


def _is_parameterized(job: Record) -> bool:
    return bool(job.get("ParameterizedJob")) and not job.get("Dispatched")


def _makes_children(job: Record) -> bool:
    return bool(job.get("Periodic")) or _is_parameterized(job)


def _next_launch(job: Record) -> str:
    from core.jobspec.cron import CronError, next_of_us

    periodic = job["Periodic"]
    if periodic.get("Enabled") is False:
        return "none (disabled)"
    if _is_parameterized(job):
        return "none (it is launched once it is dispatched)"
    specs = list(periodic.get("Specs") or []) or [periodic.get("Spec") or ""]
    now_ns = time.time_ns()
    try:
        due_us = next_of_us(specs, now_ns // 1000, periodic.get("TimeZone") or "UTC")
    except CronError as error:
        return f"never: {error}"
    if due_us is None:
        return "never again"
    return (
        f"{clock(due_us * 1000)} ({duration((due_us * 1000 - now_ns) // 1_000_000_000)} from now)"
    )


def _children(session: Session, ref: JobRef, record: Record, summary: Record) -> None:
    """Write what a periodic or parameterized job asks for, and the jobs made from it."""
    out = session.out
    if _is_parameterized(record):
        config = record["ParameterizedJob"]
        out.heading("Parameterized Job")
        out.pairs(
            [
                ("Payload", config.get("Payload") or "optional"),
                ("Required Metadata", ", ".join(config.get("MetaRequired") or []) or "<none>"),
                ("Optional Metadata", ", ".join(config.get("MetaOptional") or []) or "<none>"),
            ]
        )
    counts = summary.get("Children") or {}
    out.heading("Children Job Summary")
    names = ("Pending", "Running", "Dead")
    out.table(names, [[counts.get(name, 0) for name in names]])
    mark = DISPATCH if _is_parameterized(record) else PERIODIC
    found = session.api.get("/v1/jobs", prefix=ref.id + mark, **ref.query) or []
    if found:
        out.heading("Dispatched Jobs" if mark == DISPATCH else "Previously Launched Jobs")
        newest = sorted(found, key=lambda job: (job.get("SubmitTime") or 0, job["ID"]))
        out.table(("ID", "Status"), [[job["ID"], job["Status"]] for job in newest])


def _summary(out: Output, summary: Record) -> None:
    groups: dict[str, Record] = summary.get("Summary") or {}
    out.heading("Summary")
    rows = [
        [name, *[group.get(column, 0) for column in _SUMMARY]]
        for name, group in sorted(groups.items())
    ]
    out.table(("Task Group", *_SUMMARY), rows)


def _shares(session: Session, ref: JobRef) -> None:
    """Write which datacenter runs what, of a job that runs in several."""
    told = session.api.find(f"{ref.route}/shares", **ref.query) or {}
    shares = told.get("Shares") or []
    if len(shares) < 2:
        return
    out = session.out
    out.heading("Datacenters")
    rows = [
        [
            f"{one['Region']}/{one['Datacenter']}" + " (home)" * one["IsHome"],
            one["Wanted"],
            one["Running"],
            one["Held"],
            one["State"],
            one.get("Reason") or "",
        ]
        for one in shares
    ]
    if missing := told.get("Unassigned"):
        rows.append(["nobody has room", missing, 0, 0, "waiting", ""])
    out.table(["Datacenter", "Wanted", "Running", "Held", "State", "Reason"], rows)


def _evaluations(out: Output, evaluations: list[Record], *, verbose: bool) -> None:
    out.heading("Evaluations")
    rows = [
        [
            short(one["ID"], verbose=verbose),
            one["Priority"],
            one["TriggeredBy"],
            one["Status"],
            _has_failures(one),
        ]
        for one in sorted(evaluations, key=lambda e: -e.get("CreateIndex", 0))
    ]
    out.table(("ID", "Priority", "Triggered By", "Status", "Placement Failures"), rows)


def _placement_failure(out: Output, evaluations: list[Record]) -> None:
    """Say why the newest evaluation could not place everything, if it waits for room."""
    if not any(one["Status"] == "blocked" for one in evaluations):
        return
    failed = [one for one in evaluations if one.get("FailedTGAllocs")]
    if failed:
        newest = max(failed, key=lambda e: e.get("CreateIndex", 0))
        out.heading("Placement Failure")
        for line in group_failures(newest["FailedTGAllocs"]):
            out.line(line)


def _has_failures(evaluation: Record) -> str:
    if evaluation["Status"] == "blocked":
        return "N/A - In Progress"
    return "true" if evaluation.get("FailedTGAllocs") else "false"


def _details(session: Session, ref: JobRef, record: Record, all_allocs: bool) -> list[Record]:
    """Return what -json and -t show: a list of one, as in Nomad."""
    return [
        {
            "Job": record,
            "Summary": session.api.find(f"{ref.route}/summary", **ref.query),
            "Allocations": session.api.get(f"{ref.route}/allocations", all=all_allocs, **ref.query),
            "LatestDeployment": session.api.find(f"{ref.route}/deployment", **ref.query),
            "Evaluations": session.api.get(f"{ref.route}/evaluations", **ref.query),
        }
    ]
