"""`serai job scaling-events`, `scaling policy list` and `scaling policy info`."""

import json
from typing import Any

import click

from core.cli.client import segment
from core.cli.flags import option
from core.cli.output import clock, short
from core.cli.resolve import resolve_job
from core.cli.session import Session, api_command

_JSON = option("-json", "as_json", is_flag=True, help="Write the API's JSON")
_TEMPLATE = option("-t", "template", metavar="template", help="Write through a Go template")
_VERBOSE = option("-verbose", is_flag=True, help="Whole ids")


@api_command()
@click.argument("job")
@_VERBOSE
def events(session: Session, job: str, verbose: bool) -> int:
    """Show who changed the counts of the job that JOB names."""
    ref = resolve_job(session, job)
    scale = session.api.get(f"{ref.route}/scale", **ref.query)
    rows = []
    for name, group in sorted((scale.get("TaskGroups") or {}).items()):
        for event in group.get("Events") or []:
            rows.append(
                (
                    -(event.get("Time") or 0),
                    [
                        name,
                        "<nil>" if event.get("Count") is None else event["Count"],
                        event.get("PreviousCount", 0),
                        bool(event.get("Error")),
                        event.get("Message", ""),
                        short(event.get("EvalID") or "", verbose=verbose),
                        clock(event.get("Time") or 0),
                    ],
                )
            )
    if not rows:
        session.out.line("No events found")
        return 0
    header = ["Task Group", "Count", "PrevCount", "Error", "Message", "Eval ID", "Date"]
    session.out.table(header, [row for _, row in sorted(rows, key=lambda one: one[0])])
    return 0


@api_command()
@option("-job", "job", metavar="id", help="Only policies of this job")
@option("-type", "kind", metavar="name", help="Only policies of this type, or its beginning")
@_VERBOSE
@_JSON
@_TEMPLATE
def list_(
    session: Session,
    *,
    job: str | None,
    kind: str | None,
    verbose: bool,
    as_json: bool,
    template: str | None,
) -> int:
    """List the scaling policies of the jobs."""
    found = session.api.get("/v1/scaling/policies", job=job, type=kind) or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No policies found")
        return 0
    rows = [
        [
            short(policy["ID"], verbose=verbose),
            policy["Enabled"],
            policy["Type"],
            _target(policy),
        ]
        for policy in found
    ]
    session.out.table(["ID", "Enabled", "Type", "Target"], rows)
    return 0


@api_command()
@click.argument("policy")
@_JSON
@_TEMPLATE
def info(session: Session, policy: str, as_json: bool, template: str | None) -> int:
    """Show the scaling policy that POLICY (an id or its beginning) names."""
    known = session.api.get("/v1/scaling/policies") or []
    full = [one["ID"] for one in known if one["ID"].startswith(policy)]
    found = session.api.get(f"/v1/scaling/policy/{segment(full[0] if len(full) == 1 else policy)}")
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    out.pairs(
        [
            ("ID", found["ID"]),
            ("Enabled", found["Enabled"]),
            ("Type", found["Type"]),
            ("Target", _target(found)),
            ("Min", found.get("Min")),
            ("Max", found.get("Max")),
        ]
    )
    out.heading("Policy")
    out.line(json.dumps(found.get("Policy") or {}, indent=2, sort_keys=True))
    return 0


def _target(policy: dict[str, Any]) -> str:
    return ", ".join(f"{name}:{value}" for name, value in sorted(policy["Target"].items()))
