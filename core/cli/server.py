"""The `server`, `region` and `namespace` commands, and what else asks one agent."""

import sys
from typing import Any

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import NONE
from core.cli.session import Session, api_command

Record = dict[str, Any]
_HEADER = (
    "Name", "Address", "Port", "Status", "Leader", "Raft Version", "Build", "Datacenter",
    "Region",
)  # fmt: skip


@api_command()
@option("-detailed", is_flag=True, help="Show the tags")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="As -detailed")
def members(
    session: Session, *, detailed: bool, as_json: bool, template: str | None, verbose: bool
) -> int:
    """List the servers of all regions as the agent's gossip sees them."""
    found = (session.api.get("/v1/agent/members") or {}).get("Members") or []
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        out.line("No servers known")
        return 0
    found = sorted(found, key=lambda m: (m["Tags"].get("region", ""), m["Name"]))
    if detailed or verbose:
        rows = [
            [
                m["Name"],
                m["Addr"],
                m["Port"],
                ",".join(f"{k}={v}" for k, v in sorted(m["Tags"].items())),
            ]
            for m in found
        ]
        out.table(("Name", "Address", "Port", "Tags"), rows)
        return 0
    leaders, problems = _leaders(session, found)
    out.table(_HEADER, [_member_row(member, leaders) for member in found])
    for problem in problems:
        out.warn(problem)
    return 0


def _member_row(member: Record, leaders: set[str]) -> list[Any]:
    tags = member["Tags"]
    return [
        member["Name"],
        member["Addr"],
        member["Port"],
        member["Status"],
        _rpc_address(member) in leaders,
        tags.get("raft_vsn", "3"),
        tags.get("build", ""),
        tags.get("dc", ""),
        tags.get("region", ""),
    ]


def _rpc_address(member: Record) -> str:
    """Return a server's RPC address: Serai's servers tag it whole, Nomad's its port."""
    tags = member["Tags"]
    return tags.get("rpc") or f"{member['Addr']}:{tags.get('port', '')}"


def _leaders(session: Session, found: list[Record]) -> tuple[set[str], list[str]]:
    """Return every datacenter's leader as an RPC address, and who could not be asked."""
    leaders, problems = set(), []
    places = {(m["Tags"].get("region", ""), m["Tags"].get("dc", "")) for m in found}
    for region, datacenter in sorted(places):
        try:
            leader = session.api.get("/v1/status/leader", region=region, datacenter=datacenter)
            leaders.add(leader)
        except ApiError as error:
            problems.append(f"no leader known of {region}/{datacenter}: {error.body}")
    return leaders, problems


@api_command()
@click.argument("addresses", nargs=-1, required=True)
def join(session: Session, *, addresses: tuple[str, ...]) -> int:
    """Join the servers at ADDRESSES (gossip, HOST:PORT)."""
    answer = session.api.put("/v1/agent/join", address=list(addresses)) or {}
    count = answer.get("num_joined", 0)
    if answer.get("error") or not count:
        raise CliError(f"could not join: {answer.get('error') or 'no server answered'}")
    session.out.line(f"Joined {count} servers successfully")
    return 0


@api_command()
@click.argument("node")
@option("-prune", is_flag=True, help="Remove it from the member list at once")
def force_leave(session: Session, *, node: str, prune: bool) -> int:
    """Make the dead server NODE (its name in `server members`) leave."""
    answer = session.api.put("/v1/agent/force-leave", node=node, prune=prune) or {}
    if answer.get("error"):
        raise CliError(f"could not make it leave: {answer['error']}")
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def regions(session: Session, *, as_json: bool, template: str | None) -> int:
    """List the regions of the federation that the agent knows."""
    found = session.api.get("/v1/regions") or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    servers = (session.api.get("/v1/agent/members") or {}).get("Members") or []
    rows = []
    for region in found:
        ours = [m for m in servers if m["Tags"].get("region") == region]
        names = sorted({m["Tags"].get("dc", "") for m in ours})
        alive = sum(m["Status"] == "alive" for m in ours)
        rows.append([region, ",".join(names) or NONE, f"{alive}/{len(ours)}"])
    session.out.table(("Region", "Datacenters", "Servers Alive"), rows)
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def namespaces(session: Session, *, as_json: bool, template: str | None) -> int:
    """List the namespaces."""
    found = session.api.get("/v1/namespaces") or []
    if not session.out.render(found, as_json=as_json, template=template):
        rows = [[one["Name"], one.get("Description", "")] for one in found]
        session.out.table(("Name", "Description"), rows)
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def agent_info(session: Session, *, as_json: bool, template: str | None) -> int:
    """Show the agent's own view of itself."""
    found = session.api.get("/v1/agent/self") or {}
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    for section, values in sorted((found.get("stats") or {}).items()):
        out.line(out.style(section, "bold"))
        for key, value in sorted(values.items()):
            out.line(f"  {key} = {value}")
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Lines as JSON")
@option("-log-level", default="info", metavar="level", help="Least level to show (info)")
@option("-node-id", metavar="node", help="Of this client")
@option("-server-id", metavar="server", help="Of this server")
def monitor(
    session: Session, *, as_json: bool, log_level: str, node_id: str | None, server_id: str | None
) -> int:
    """Follow an agent's log."""
    chunks = session.api.stream(
        "/v1/agent/monitor",
        log_level=log_level,
        log_json=as_json,
        node_id=node_id,
        server_id=server_id,
        plain=True,
    )
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return 0


@api_command()
def collect_garbage(session: Session) -> int:
    """Forget jobs, evaluations and allocations that have ended."""
    session.api.put("/v1/system/gc")
    return 0


@api_command()
def reconcile_summaries(session: Session) -> int:
    """Count the jobs' summaries anew from their allocations."""
    session.api.put("/v1/system/reconcile/summaries")
    return 0


@command()
def version() -> int:
    """Show the version."""
    click.echo(version_text())
    return 0


def version_text() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"Serai v{installed('serai')}"
    except PackageNotFoundError:
        return "Serai (not installed)"
