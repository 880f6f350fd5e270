"""`serai node pool ...` and `node purge`."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.job_status import job_table
from core.cli.output import short
from core.cli.resolve import NODE, resolve_id
from core.cli.session import Session, api_command
from core.cli.specfile import check_keys, read_hcl, read_record, write_example

_EXAMPLE = """\
node_pool "example" {
  description = "Example node pool"

  meta {
    environment = "test"
    owner       = "sre"
  }
}
"""
_JSON = option("-json", "as_json", is_flag=True, help="Write the API's JSON")
_TEMPLATE = option("-t", "template", metavar="template", help="Write through a Go template")


@api_command()
@click.argument("source", metavar="FILE|-")
@option("-json", "as_json", is_flag=True, help="The file is JSON")
def apply(session: Session, source: str, as_json: bool) -> int:
    """Create or change the node pool that FILE describes."""
    pool = read_record(source, as_json=as_json, from_hcl=_from_hcl, inside="NodePool")
    session.api.put("/v1/node/pools", pool)
    session.out.line(f'Successfully applied node pool "{pool["Name"]}"!')
    return 0


@api_command()
@click.argument("name")
def delete(session: Session, name: str) -> int:
    """Delete the node pool NAME; it must have neither nodes nor jobs."""
    session.api.delete(f"/v1/node/pool/{segment(name)}")
    session.out.line(f'Successfully deleted node pool "{name}"!')
    return 0


@api_command()
@click.argument("name")
@_JSON
@_TEMPLATE
def info(session: Session, name: str, as_json: bool, template: str | None) -> int:
    """Show the node pool NAME."""
    pool = session.api.get(f"/v1/node/pool/{segment(name)}")
    out = session.out
    if out.render(pool, as_json=as_json, template=template):
        return 0
    out.pairs([("Name", pool["Name"]), ("Description", pool.get("Description") or "<none>")])
    out.heading("Metadata")
    meta = pool.get("Meta") or {}
    if meta:
        out.pairs(sorted(meta.items()))
    else:
        out.line("No metadata")
    return 0


@command()
@click.argument("file", required=False, default="pool.nomad.hcl")
def init(*, file: str) -> int:
    """Write an example of a node pool into FILE (pool.nomad.hcl)."""
    write_example(file, _EXAMPLE, "node pool")
    return 0


@api_command()
@click.argument("name")
@_JSON
@_TEMPLATE
def jobs(session: Session, name: str, as_json: bool, template: str | None) -> int:
    """List the jobs in the node pool NAME."""
    found = session.api.get(f"/v1/node/pool/{segment(name)}/jobs") or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No jobs")
        return 0
    job_table(session, found)
    return 0


@api_command()
@option("-filter", "expression", metavar="expression", help="List only matching pools")
@_JSON
@_TEMPLATE
def list_(session: Session, expression: str | None, as_json: bool, template: str | None) -> int:
    """List the node pools."""
    found = session.api.get("/v1/node/pools", filter=expression) or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    session.out.table(
        ["Name", "Description"], [[pool["Name"], pool.get("Description", "")] for pool in found]
    )
    return 0


@api_command()
@click.argument("name")
@option("-verbose", is_flag=True, help="Whole ids")
@_JSON
@_TEMPLATE
def nodes(session: Session, name: str, verbose: bool, as_json: bool, template: str | None) -> int:
    """List the nodes in the node pool NAME."""
    found = session.api.get(f"/v1/node/pool/{segment(name)}/nodes") or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No nodes")
        return 0
    rows = [
        [
            short(node["ID"], verbose=verbose),
            node.get("NodePool", ""),
            node.get("Datacenter", ""),
            node["Name"],
            node.get("SchedulingEligibility", ""),
            node["Status"],
        ]
        for node in found
    ]
    session.out.table(["ID", "Node Pool", "DC", "Name", "Eligibility", "Status"], rows)
    return 0


@api_command()
@click.argument("node")
def purge(session: Session, node: str) -> int:
    """Forget NODE (an id or its beginning) and replace what ran there."""
    full = resolve_id(session, NODE, node)
    session.api.put(f"/v1/node/{full}/purge", {})
    session.out.line(f'Node "{short(full)}" purged')
    return 0


def _from_hcl(source: str) -> dict[str, Any]:
    data = read_hcl(source)
    pools = data.get("node_pool") if isinstance(data, dict) else None
    if not isinstance(pools, dict) or len(pools) != 1:
        raise CliError(f'{source}: one block node_pool "NAME" {{ ... }} is wanted')
    [(name, body)] = pools.items()
    known = {"description": "Description", "meta": "Meta", "node_identity_ttl": "NodeIdentityTTL"}
    if not isinstance(body, dict):
        raise CliError(f"{source}: node_pool {name!r} comes twice")
    check_keys(source, body, "node_pool", sorted(known))
    return {"Name": name, **{known[key]: value for key, value in body.items()}}
