"""`serai status`: whatever an id or its beginning names; alone, the list of jobs."""

from typing import Any

import click

from core.cli import job_status
from core.cli.alloc_status import show_allocation
from core.cli.errors import CliError
from core.cli.evaluation import show_evaluation
from core.cli.flags import option
from core.cli.node_status import show_node
from core.cli.output import layout
from core.cli.resolve import ALLOCATION, DEPLOYMENT, EVALUATION, NODE, JobRef, fetch
from core.cli.session import Session, api_command
from core.cli.views import deployed_table, deployment_pairs

_KINDS = {"allocs": ALLOCATION, "deployment": DEPLOYMENT, "evals": EVALUATION, "nodes": NODE}


@api_command()
@click.argument("identifier", required=False)
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids and times")
def status(
    session: Session,
    *,
    identifier: str | None,
    as_json: bool,
    template: str | None,
    verbose: bool,
) -> int:
    """Show the job, allocation, node, evaluation or deployment that IDENTIFIER names."""
    if identifier is None:
        jobs = session.api.get("/v1/jobs") or []
        if session.out.render(jobs, as_json=as_json, template=template):
            return 0
        if not jobs:
            session.out.line("No running jobs")
            return 0
        job_status.job_table(session, jobs)
        return 0
    context, full = _search(session, identifier)
    if context == "jobs":
        ref = JobRef(full, session.namespace)
        record = session.api.get(ref.route, **ref.query)
    else:
        record = fetch(session, _KINDS[context], full)
    if not session.out.render(record, as_json=as_json, template=template):
        _show(session, context, record, verbose=verbose)
    return 0


def _search(session: Session, typed: str) -> tuple[str, str]:
    """Return (context, full id) of the one thing that `typed` begins or names.

    Raises:
        CliError: None matches, or several; then the message lists them.
    """
    answer = session.api.post("/v1/search", {"Prefix": typed, "Context": "all"}) or {}
    matches: dict[str, list[str]] = answer.get("Matches") or {}
    known = [*_KINDS, "jobs"]
    found = [(context, one) for context in known for one in matches.get(context) or []]
    exact = [pair for pair in found if pair[1] == typed]
    found = exact or found
    if not found:
        raise CliError(f'nothing has the id or prefix "{typed}"')
    if len(found) > 1:
        table = "\n".join(layout([["Kind", "ID"], *[[kind, one] for kind, one in found]]))
        raise CliError(f'"{typed}" is the beginning of several ids:\n\n{table}')
    return found[0]


def _show(session: Session, context: str, record: dict[str, Any], *, verbose: bool) -> None:
    if context == "jobs":
        ref = JobRef(record["ID"], record.get("Namespace") or session.namespace)
        job_status.show_job(
            session, ref, record, is_short=False, evals=False, all_allocs=False, verbose=verbose
        )
    elif context == "allocs":
        show_allocation(session.out, record, {}, is_short=False, verbose=verbose)
    elif context == "nodes":
        show_node(session, record, is_short=False, stats=False, verbose=verbose)
    elif context == "evals":
        show_evaluation(session, record, verbose=verbose)
    else:
        deployment_pairs(session.out, record, verbose=verbose)
        deployed_table(session.out, record)
