"""`serai service list` and `serai service info`."""

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import short
from core.cli.session import Session, api_command
from core.cli.several import read_list, several_flags


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@several_flags
def list_(
    session: Session, *, as_json: bool, template: str | None, datacenter: str | None, stale: bool
) -> int:
    """List the services and their tags."""
    reply = read_list(session, "/v1/services", datacenter=datacenter, stale=stale)
    found = reply.body or []
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    rows = []
    with_namespace = session.namespace == "*"
    with_places = any("Datacenters" in one for space in found for one in space["Services"])
    for space in found:
        for service in space["Services"]:
            tags = ",".join(service.get("Tags") or [])
            head = [service["ServiceName"], *([space["Namespace"]] * with_namespace)]
            where = [",".join(service.get("Datacenters") or [])] * with_places
            rows.append([*head, *where, f"[{tags}]"])
    if not rows:
        out.line("No service registrations found")
        return 0
    header = ["Service Name", *(["Namespace"] * with_namespace), *(["Datacenters"] * with_places)]
    out.table([*header, "Tags"], sorted(rows))
    return 0


@api_command()
@click.argument("name")
@option("-filter", "expression", metavar="expression", help="List only matching ones")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-per-page", type=int, help="List so many at most")
@option("-page-token", help="Go on where the page before ended")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids, and more of each")
def info(
    session: Session,
    *,
    name: str,
    expression: str | None,
    as_json: bool,
    per_page: int | None,
    page_token: str | None,
    template: str | None,
    verbose: bool,
) -> int:
    """Show where the service NAME runs."""
    found = session.api.get(
        f"/v1/service/{segment(name)}", filter=expression, per_page=per_page, next_token=page_token
    )
    out = session.out
    if not found:
        raise CliError(f'no service "{name}" is registered')
    if out.render(found, as_json=as_json, template=template):
        return 0
    if not verbose:
        rows = [
            [
                one["JobID"],
                f"{one['Address']}:{one['Port']}",
                f"[{','.join(one.get('Tags') or [])}]",
                short(one["NodeID"]),
                short(one["AllocID"]),
            ]
            for one in found
        ]
        out.table(("Job ID", "Address", "Tags", "Node ID", "Alloc ID"), rows)
        return 0
    for number, one in enumerate(found):
        if number:
            out.line()
        out.pairs(
            [
                ("ID", one["ID"]),
                ("Service Name", one["ServiceName"]),
                ("Namespace", one.get("Namespace", "")),
                ("Job ID", one["JobID"]),
                ("Alloc ID", one["AllocID"]),
                ("Node ID", one["NodeID"]),
                ("Datacenter", one.get("Datacenter", "")),
                ("Address", f"{one['Address']}:{one['Port']}"),
                ("Tags", f"[{','.join(one.get('Tags') or [])}]"),
            ]
        )
    return 0
