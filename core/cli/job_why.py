"""`serai job why`: what happened to a job in all datacenters, in order of cause."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import Output, duration, parse_time_ns
from core.cli.session import Session, api_command

Record = dict[str, Any]
DEEPEST = 8  # steps further in; a long story would leave the page


@api_command()
@click.argument("job")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Also ids, hybrid times and all facts")
def why(session: Session, *, job: str, as_json: bool, template: str | None, verbose: bool) -> int:
    """Tell what happened to JOB, and why.

    Each submission, forward, refusal, share, move and failover, out of the logs of all
    datacenters of all regions; each with the time on its own datacenter's clock, a step
    further in than what led to it. JOB is the whole id; jobs that were purged in the last
    day are told of as well.
    """
    body = session.api.find(f"/v1/job/{segment(job)}/why")
    if body is None:
        raise CliError(f'no datacenter knows of a job "{job}"; give its whole id, see: job status')
    if not session.out.render(body, as_json=as_json, template=template):
        _tell(session.out, body, verbose=verbose)
    return 0 if body["Jobs"] else 1


def _tell(out: Output, body: Record, *, verbose: bool) -> None:
    for number, story in enumerate(body["Jobs"]):
        if number:
            out.line()
        home = f"home {story['Home']}, {story['Status']}" if story["Home"] else _homeless(body)
        of = f" ({story['UID']})" if verbose and story["UID"] else ""
        out.line(out.style(f"{body['JobID']}{of}: {home}", "bold"))
        rows = [_row(event, verbose=verbose) for event in story["Events"]]
        header = ["Time", "Datacenter", "What"]
        out.table([*header, *(["Hybrid Time", "ID"] * verbose)], rows)
    if body["Dropped"]:
        out.note(f"{body['Dropped']} older events are not kept any more")
    for one in body["Missing"]:
        name = f"{one['Region']}/{one['Datacenter']}" if one["Datacenter"] else one["DatacenterID"]
        out.warn(f"{name} could not be asked for its part: {one['Error']}")
    if not body["Jobs"]:
        out.line(f'Nobody who could be asked knows of a job "{body["JobID"]}"')


def _homeless(body: Record) -> str:
    return "its home is gone, or could not be asked" if body["Missing"] else "gone"


def _row(event: Record, *, verbose: bool) -> list[Any]:
    text = "  " * min(event["Depth"], DEEPEST) + event["Text"]
    if off := event["ClockOff"]:
        side = "ahead" if off > 0 else "behind"
        text += f" [its clock: {duration(abs(off))} {side}]"
    row = [_moment(event["Time"]), f"{event['Region']}/{event['Datacenter']}", text]
    return [*row, event["HybridTime"], event["ID"]] if verbose else row


def _moment(text: str) -> str:
    """Return an API time as UTC to the millisecond: datacenters have no hour in common else."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(parse_time_ns(text) / 1e9, tz=UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
