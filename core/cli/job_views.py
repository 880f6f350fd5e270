"""`serai job inspect`, `history`, `allocs` and `deployments`."""

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.job_diff import diff_lines
from core.cli.output import clock, short
from core.cli.resolve import resolve_job
from core.cli.session import Session, api_command
from core.cli.views import alloc_table


@api_command()
@click.argument("job")
@option("-json", "as_json", is_flag=True, help="Accepted: JSON is what it writes")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-version", "version", type=int, help="An earlier version")
def inspect(
    session: Session, job: str, as_json: bool, template: str | None, version: int | None
) -> int:
    """Show the job that JOB names as the servers keep it, as JSON."""
    ref = resolve_job(session, job)
    if version is None:
        record = session.api.get(ref.route, **ref.query)
    else:
        versions = session.api.get(f"{ref.route}/versions", **ref.query).get("Versions") or []
        found = [one for one in versions if one.get("Version") == version]
        if not found:
            raise CliError(f'the job "{ref.id}" has no version {version}')
        record = found[0]
    if template is not None:
        session.out.render(record, as_json=False, template=template)
    else:
        session.out.json({"Job": record})
    return 0


@api_command()
@click.argument("job")
@option("-full", is_flag=True, help="The whole job of each version")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-p", "with_diff", is_flag=True, help="Show the difference to the version before")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-version", "version", type=int, help="Only this version")
def history(
    session: Session,
    *,
    job: str,
    full: bool,
    as_json: bool,
    with_diff: bool,
    template: str | None,
    version: int | None,
) -> int:
    """Show the versions of the job that JOB names, the newest first."""
    ref = resolve_job(session, job)
    answer = session.api.get(f"{ref.route}/versions", diffs=with_diff, **ref.query)
    versions = answer.get("Versions") or []
    diffs = answer.get("Diffs") or []
    # Diffs[i] leads from Versions[i + 1] to Versions[i]; the oldest has none.
    paired = [(one, diffs[i] if i < len(diffs) else None) for i, one in enumerate(versions)]
    if version is not None:
        paired = [pair for pair in paired if pair[0].get("Version") == version]
        if not paired:
            raise CliError(f'the job "{ref.id}" has no version {version}')
    out = session.out
    records = [one for one, _ in paired]
    if out.render(records, as_json=as_json or full, template=template):
        return 0
    for number, (one, diff) in enumerate(paired):
        if number:
            out.line()
        rows = [
            ("Version", one.get("Version", 0)),
            ("Stable", bool(one.get("Stable"))),
            ("Submit Date", clock(one.get("SubmitTime") or 0)),
        ]
        if tag := one.get("VersionTag"):
            rows.append(("Tag Name", tag.get("Name", "")))
        out.pairs(rows)
        if diff:
            out.line("Diff:")
            for line in diff_lines(out, diff):
                out.line(f"  {line}")
    return 0


@api_command()
@click.argument("job")
@option("-all", "all_", is_flag=True, help="Also those of an earlier job of that name")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids and times")
def allocs(
    session: Session, *, job: str, all_: bool, as_json: bool, template: str | None, verbose: bool
) -> int:
    """List the allocations of the job that JOB names."""
    ref = resolve_job(session, job)
    found = session.api.get(f"{ref.route}/allocations", all=all_, **ref.query) or []
    if not session.out.render(found, as_json=as_json, template=template):
        alloc_table(session.out, found, verbose=verbose)
    return 0


@api_command()
@click.argument("job")
@option("-all", "all_", is_flag=True, help="Also those of an earlier job of that name")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-latest", is_flag=True, help="Only the latest")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids")
def deployments(
    session: Session,
    *,
    job: str,
    all_: bool,
    as_json: bool,
    latest: bool,
    template: str | None,
    verbose: bool,
) -> int:
    """List the deployments of the job that JOB names."""
    ref = resolve_job(session, job)
    if latest:
        one = session.api.find(f"{ref.route}/deployment", **ref.query)
        found = [one] if one else []
    else:
        found = session.api.get(f"{ref.route}/deployments", all=all_, **ref.query) or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No deployments found")
        return 0
    rows = [
        [
            short(one["ID"], verbose=verbose),
            one["JobID"],
            one.get("JobVersion", 0),
            one["Status"],
            one.get("StatusDescription", ""),
        ]
        for one in found
    ]
    session.out.table(("ID", "Job ID", "Job Version", "Status", "Description"), rows)
    return 0
