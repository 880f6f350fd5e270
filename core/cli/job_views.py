"""`serai job inspect`, `history`, `allocs` and `deployments`."""

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.job_diff import diff_lines
from core.cli.output import clock, short
from core.cli.resolve import JobRef, Record, resolve_job
from core.cli.session import Session, api_command
from core.cli.views import alloc_table


@api_command()
@click.argument("job")
@option("-hcl", "as_hcl", is_flag=True, help="Write a job file, without what is default")
@option("-json", "as_json", is_flag=True, help="Write JSON, as without flags")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-version", "version", type=int, help="An earlier version")
@option("-with-vars", is_flag=True, help="With -hcl: the file as submitted, and its variables")
def inspect(
    session: Session,
    *,
    job: str,
    as_hcl: bool,
    as_json: bool,
    template: str | None,
    version: int | None,
    with_vars: bool,
) -> int:
    """Show the job that JOB names as the servers keep it, as JSON or as a job file."""
    if as_hcl and (as_json or template is not None):
        raise CliError("-hcl, -json and -t exclude each other")
    if with_vars and not as_hcl:
        raise CliError("-with-vars belongs to -hcl")
    ref = resolve_job(session, job)
    record = _version_of(session, ref, version)
    if with_vars:
        return _show_submission(session, ref, record)
    if as_hcl:
        session.out.line(_hcl_of(record).rstrip("\n"))
    elif template is not None:
        session.out.render(record, as_json=False, template=template)
    else:
        session.out.json({"Job": record})
    return 0


def _version_of(session: Session, ref: JobRef, version: int | None) -> Record:
    if version is None:
        current: Record = session.api.get(ref.route, **ref.query)
        return current
    versions = session.api.get(f"{ref.route}/versions", **ref.query).get("Versions") or []
    found: list[Record] = [one for one in versions if one.get("Version") == version]
    if not found:
        raise CliError(f'the job "{ref.id}" has no version {version}')
    return found[0]


def _hcl_of(record: Record) -> str:
    import msgspec

    from core.jobspec.write import essential, write_job
    from core.model.job import Job

    try:
        return write_job(essential(msgspec.convert(record, Job)))
    except (msgspec.ValidationError, ValueError) as error:
        raise CliError(f"this job can't be written as HCL: {error}") from error


def _show_submission(session: Session, ref: JobRef, record: Record) -> int:
    version = str(record.get("Version") or 0)
    found = session.api.find(f"{ref.route}/submission", version=version, **ref.query)
    if not isinstance(found, dict):
        raise CliError(f'the servers have no source of the job "{ref.id}"; try -hcl alone')
    values = found.get("VariableFlags") or {}
    for name, value in sorted(values.items()):
        session.out.line(f"# -var {name}={value}")
    for line in (found.get("Variables") or "").splitlines():
        session.out.line(f"# -var-file: {line}")
    session.out.line((found.get("Source") or "").rstrip("\n"))
    return 0


@api_command()
@click.argument("job")
@option("-diff-tag", "diff_tag", help="With -p: compare all with the version of this tag")
@option("-diff-version", "diff_version", type=int, help="With -p: compare all with this version")
@option("-full", is_flag=True, help="The whole job of each version")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-p", "with_diff", is_flag=True, help="Show the difference to the version before")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-version", "version", type=int, help="Only this version")
def history(
    session: Session,
    *,
    job: str,
    diff_tag: str | None,
    diff_version: int | None,
    full: bool,
    as_json: bool,
    with_diff: bool,
    template: str | None,
    version: int | None,
) -> int:
    """Show the versions of the job that JOB names, the newest first."""
    if not with_diff and (diff_tag or diff_version is not None):
        raise CliError("-diff-tag and -diff-version go with -p")
    ref = resolve_job(session, job)
    answer = session.api.get(
        f"{ref.route}/versions",
        diffs=with_diff,
        diff_tag=diff_tag,
        diff_version=diff_version,
        **ref.query,
    )
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
            if tag.get("Description"):
                rows.append(("Tag Description", tag["Description"]))
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
