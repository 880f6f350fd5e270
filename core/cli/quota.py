"""`serai quota ...` and `serai namespace ...`: how much the jobs of a namespace may hold."""

from typing import Any

import click

from core.cli.client import ApiError, segment
from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.session import Session, api_command
from core.cli.specfile import check_keys, read_hcl, read_record, write_example

_EXAMPLE = """\
name        = "default-quota"
description = "Limit what the shared namespace may hold"

# A limit for each region. 0 is no limit, a negative amount allows nothing.
limit {
  region = "global"

  region_limit {
    cpu    = 2500
    memory = 1000
  }
}
"""
_JSON = option("-json", "as_json", is_flag=True, help="Write the API's JSON")
_TEMPLATE = option("-t", "template", metavar="template", help="Write through a Go template")
_AMOUNTS = (("CPU", "CPU"), ("Memory", "MemoryMB"))


@api_command()
@click.argument("source", metavar="FILE|-")
@option("-json", "as_json", is_flag=True, help="The file is JSON")
def apply(session: Session, source: str, as_json: bool) -> int:
    """Create or change the quota that FILE describes."""
    quota = read_record(source, as_json=as_json, from_hcl=quota_from_hcl)
    session.api.put("/v1/quota", quota)
    session.out.line(f'Successfully applied quota specification "{quota["Name"]}"!')
    return 0


@api_command()
@click.argument("name")
def delete(session: Session, name: str) -> int:
    """Delete the quota NAME; no namespace may have it."""
    session.api.delete(f"/v1/quota/{segment(name)}")
    session.out.line(f'Successfully deleted quota "{name}"!')
    return 0


@command()
@click.argument("file", required=False, default="spec.hcl")
def init(*, file: str) -> int:
    """Write an example of a quota into FILE (spec.hcl)."""
    write_example(file, _EXAMPLE, "quota")
    return 0


@api_command()
@click.argument("name")
@_TEMPLATE
def inspect(session: Session, name: str, template: str | None) -> int:
    """Show the quota NAME and its usage as JSON."""
    spec = session.api.get(f"/v1/quota/{segment(name)}")
    usage = session.api.get(f"/v1/quota/usage/{segment(name)}")
    session.out.render({"Spec": spec, "Usages": usage["Used"]}, as_json=True, template=template)
    return 0


@api_command()
@_JSON
@_TEMPLATE
def list_(session: Session, as_json: bool, template: str | None) -> int:
    """List the quotas."""
    found = session.api.get("/v1/quotas") or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No quotas")
        return 0
    session.out.table(["Name", "Description"], [[q["Name"], q["Description"]] for q in found])
    return 0


@api_command()
@click.argument("name")
@_JSON
@_TEMPLATE
def status(session: Session, name: str, as_json: bool, template: str | None) -> int:
    """Show what the quota NAME allows, and what of it is held."""
    quota = session.api.get(f"/v1/quota/{segment(name)}")
    used = session.api.get(f"/v1/quota/usage/{segment(name)}")["Used"]
    out = session.out
    if out.render(quota, as_json=as_json, template=template):
        return 0
    regions = [limit["Region"] for limit in quota["Limits"]]
    out.pairs(
        [
            ("Name", quota["Name"]),
            ("Description", quota["Description"] or "<none>"),
            ("Limits", str(len(regions))),
        ]
    )
    out.heading("Quota Limits")
    rows = []
    for limit in quota["Limits"]:
        held = (used.get(limit["Region"]) or {}).get("RegionLimit")
        rows.append(
            [limit["Region"], *(_share(held, limit["RegionLimit"], key) for _, key in _AMOUNTS)]
        )
    out.table(["Region", "CPU Usage", "Memory Usage"], rows)
    return 0


def _share(held: dict[str, int] | None, limit: dict[str, int], key: str) -> str:
    # Of another region this datacenter can't tell what is held.
    most = limit.get(key) or 0
    allowed = "inf" if most == 0 else str(max(most, 0))
    return f"{'-' if held is None else held[key]} / {allowed}"


@api_command()
@click.argument("name")
@option("-description", "description", metavar="text", help="What the namespace is for")
@option("-quota", "quota", metavar="name", help="The quota to attach; empty takes it off")
def namespace_apply(session: Session, name: str, description: str | None, quota: str | None) -> int:
    """Change the namespace NAME: its description, its quota."""
    try:
        record = session.api.get(f"/v1/namespace/{segment(name)}")
    except ApiError as error:
        if error.status != 404:
            raise
        record = {"Name": name}
    if description is not None:
        record["Description"] = description
    if quota is not None:
        record["Quota"] = quota
    session.api.put("/v1/namespace", record)
    session.out.line(f'Successfully applied namespace "{name}"!')
    return 0


@api_command()
@click.argument("name")
@_JSON
@_TEMPLATE
def namespace_status(session: Session, name: str, as_json: bool, template: str | None) -> int:
    """Show the namespace NAME and what its quota allows."""
    record = session.api.get(f"/v1/namespace/{segment(name)}")
    out = session.out
    if out.render(record, as_json=as_json, template=template):
        return 0
    out.pairs(
        [
            ("Name", record["Name"]),
            ("Description", record.get("Description") or "<none>"),
            ("Quota", record.get("Quota") or "<none>"),
        ]
    )
    return 0


@api_command()
@click.argument("name")
@_TEMPLATE
def namespace_inspect(session: Session, name: str, template: str | None) -> int:
    """Show the namespace NAME as JSON."""
    record = session.api.get(f"/v1/namespace/{segment(name)}")
    session.out.render(record, as_json=True, template=template)
    return 0


def quota_from_hcl(source: str) -> dict[str, Any]:
    data = read_hcl(source)
    check_keys(source, data, "a quota", ("name", "description", "limit"))
    if not isinstance(data.get("name"), str):
        raise CliError(f'{source}: a quota has a name: name = "..."')
    limits = []
    for limit in _blocks(data.get("limit")):
        check_keys(source, limit, "limit", ("region", "region_limit"))
        blocks = _blocks(limit.get("region_limit"))
        if len(blocks) != 1:
            raise CliError(f"{source}: a limit has one block region_limit {{ ... }}")
        check_keys(source, blocks[0], "region_limit", ("cpu", "memory"))
        amounts = {key: blocks[0].get(name.lower(), 0) for name, key in _AMOUNTS}
        limits.append({"Region": limit.get("region"), "RegionLimit": amounts})
    return {"Name": data["name"], "Description": data.get("description", ""), "Limits": limits}


def _blocks(said: Any) -> list[dict[str, Any]]:
    found = said if isinstance(said, list) else [] if said is None else [said]
    return [one for one in found if isinstance(one, dict)]
