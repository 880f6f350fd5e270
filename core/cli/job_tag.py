"""`serai job tag apply` and `job tag unset`: names for versions, which are then kept."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.resolve import JobRef, resolve_job
from core.cli.session import Session, api_command


@api_command()
@click.argument("job")
@option("-description", default="", help="What is special about it")
@option("-name", required=True, help="The tag")
@option("-version", "version", type=int, help="The version to tag (the newest)")
def apply(session: Session, job: str, description: str, name: str, version: int | None) -> int:
    """Tag a version of the job that JOB names; a tagged version is kept."""
    ref = resolve_job(session, job)
    body: dict[str, Any] = {"Description": description}
    if version is not None:
        body["Version"] = version
    session.api.put(f"{ref.route}/versions/{segment(name)}/tag", body, **ref.query)
    which = "The newest version" if version is None else f"Version {version}"
    session.out.line(f'{which} of the job "{ref.id}" has the tag "{name}"')
    return 0


@api_command()
@click.argument("job")
@option("-name", required=True, help="The tag")
def unset(session: Session, job: str, name: str) -> int:
    """Take a tag off the job that JOB names."""
    ref = resolve_job(session, job)
    session.api.delete(f"{ref.route}/versions/{segment(name)}/tag", **ref.query)
    session.out.line(f'The job "{ref.id}" has no tag "{name}" any more')
    return 0


def version_of_tag(session: Session, ref: JobRef, name: str) -> int:
    """Return the version that bears a tag.

    Raises:
        CliError: None does.
    """
    for one in session.api.get(f"{ref.route}/versions", **ref.query).get("Versions") or []:
        if (one.get("VersionTag") or {}).get("Name") == name:
            return int(one.get("Version") or 0)
    raise CliError(f'the job "{ref.id}" has no version with the tag "{name}": see job history')
