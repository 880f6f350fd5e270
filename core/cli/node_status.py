"""`serai node status`: all nodes, or one with its resources and allocations."""

from typing import Any

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import NONE, Output, clock, duration, mebibytes, parse_time_ns, short
from core.cli.resolve import NODE, resolve, self_node_id
from core.cli.session import Session, api_command
from core.cli.several import ANY_REGION, read_list, several_flags
from core.cli.views import alloc_table

Record = dict[str, Any]
_ENDED = {"complete", "failed", "lost"}


@api_command()
@click.argument("node", required=False)
@option("-allocs", "count_allocs", is_flag=True, help="Count the running allocations of each")
@option("-filter", "expression", metavar="expression", help="List only matching nodes")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-os", "with_os", is_flag=True, help="Show the operating system of each")
@option("-per-page", type=int, help="List so many at most")
@option("-page-token", help="Go on where the page before ended")
@option("-quiet", is_flag=True, help="Only the ids")
@option("-self", "is_self", is_flag=True, help="The node of the agent we speak to")
@option("-short", "is_short", is_flag=True, help="Only the head and the allocations")
@option("-stats", is_flag=True, help="Show what the host uses now")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids, and the attributes")
@several_flags
def status(
    session: Session,
    *,
    node: str | None,
    count_allocs: bool,
    expression: str | None,
    as_json: bool,
    with_os: bool,
    per_page: int | None,
    page_token: str | None,
    quiet: bool,
    is_self: bool,
    is_short: bool,
    stats: bool,
    template: str | None,
    verbose: bool,
    datacenter: str | None,
    stale: bool,
) -> int:
    """Show all nodes, or the one that NODE (an id or its beginning) names."""
    if is_self:
        node = self_node_id(session)
    if node is None:
        reply = read_list(
            session, "/v1/nodes", datacenter=datacenter, stale=stale, filter=expression,
            per_page=per_page, next_token=page_token, os=with_os,
        )  # fmt: skip
        nodes = reply.body or []
        if session.out.render(nodes, as_json=as_json, template=template):
            return 0
        if quiet:
            for one in nodes:
                session.out.line(one["ID"])
            return 0
        _list(session, nodes, count_allocs=count_allocs, with_os=with_os, verbose=verbose)
        if token := reply.headers.get("x-nomad-nexttoken"):
            session.out.note(f"More nodes: -page-token={token}")
        return 0
    if datacenter is not None:
        raise CliError("-datacenter chooses among the nodes of a list: leave the node out")
    record = resolve(session, NODE, node)
    if not session.out.render(record, as_json=as_json, template=template):
        show_node(session, record, is_short=is_short, stats=stats, verbose=verbose)
    return 0


def _list(
    session: Session, nodes: list[Record], *, count_allocs: bool, with_os: bool, verbose: bool
) -> None:
    if not nodes:
        session.out.line("No nodes registered")
        return
    header = ["ID", "Node Pool", "DC", "Name", "Class"]
    if with_region := session.region == ANY_REGION:
        header.insert(2, "Region")
    header += ["Address", "Version"] * verbose + ["OS"] * with_os
    header += ["Drain", "Eligibility", "Status"] + ["Running Allocs"] * count_allocs
    rows = []
    for node in sorted(nodes, key=lambda n: (n.get("Region", ""), n["Datacenter"], n["Name"])):
        row = [
            short(node["ID"], verbose=verbose),
            node.get("NodePool", ""),
            *([node.get("Region", NONE)] * with_region),
            node["Datacenter"],
            node["Name"],
            node.get("NodeClass") or NONE,
        ]
        if verbose:
            row += [node.get("Address", ""), node.get("Version", "")]
        if with_os:
            row.append((node.get("Attributes") or {}).get("os.name", ""))
        row += [bool(node.get("Drain")), node["SchedulingEligibility"], node["Status"]]
        if count_allocs:
            allocs = session.api.get(f"/v1/node/{node['ID']}/allocations") or []
            row.append(sum(alloc["ClientStatus"] == "running" for alloc in allocs))
        rows.append(row)
    session.out.table(header, rows)


def show_node(
    session: Session, node: Record, *, is_short: bool, stats: bool, verbose: bool
) -> None:
    """Write one node as `node status` does."""
    out = session.out
    host = _host_stats(session, node["ID"]) if node["Status"] == "ready" else {}
    _head(out, node, host, verbose=verbose)
    allocs = session.api.get(f"/v1/node/{node['ID']}/allocations") or []
    if not is_short:
        _events(out, node)
        out.heading("Allocated Resources")
        out.table(("CPU", "Memory", "Disk"), [_allocated(node, allocs)])
        if host:
            out.heading("Host Resource Utilization")
            out.table(("CPU", "Memory", "Disk"), [_host_usage(node, host)])
        elif stats:
            out.note("The node did not answer what it uses.")
    out.heading("Allocations")
    alloc_table(out, allocs, verbose=verbose)
    if verbose:
        out.heading("Attributes")
        out.pairs(sorted((node.get("Attributes") or {}).items()))
        out.heading("Meta")
        out.pairs(sorted((node.get("Meta") or {}).items()))


def _head(out: Output, node: Record, host: Record, *, verbose: bool) -> None:
    drivers = node.get("Drivers") or {}
    healthy = sorted(name for name, driver in drivers.items() if driver.get("Healthy"))
    ill = sorted(
        f"{name} (unhealthy)"
        for name, driver in drivers.items()
        if driver.get("Detected") and not driver.get("Healthy")
    )
    rows: list[tuple[str, Any]] = [
        ("ID", node["ID"] if verbose else short(node["ID"])),
        ("Name", node["Name"]),
        ("Node Pool", node.get("NodePool", "")),
        ("Class", node.get("NodeClass", "")),
        ("DC", node["Datacenter"]),
        ("Drain", bool(node.get("Drain") or node.get("DrainStrategy"))),
        ("Eligibility", node["SchedulingEligibility"]),
        ("Status", node["Status"]),
    ]
    if node.get("StatusDescription"):
        rows.append(("Status Description", node["StatusDescription"]))
    if host.get("Uptime"):
        rows.append(("Uptime", duration(int(host["Uptime"]))))
    rows += [
        ("Host Volumes", ",".join(sorted(node.get("HostVolumes") or {}))),
        ("Driver Status", ",".join([*healthy, *ill])),
    ]
    devices = (node.get("NodeResources") or {}).get("Devices") or []
    if devices:
        rows.append(("Devices", ", ".join(map(_device, devices))))
    out.pairs(rows)


def _device(device: Record) -> str:
    """Return a device group as `nvidia/gpu/t4 (2)`, and how many of it are ill."""
    name = "/".join(str(device.get(key) or "") for key in ("Vendor", "Type", "Name"))
    instances = device.get("Instances") or []
    ill = sum(not one.get("Healthy") for one in instances)
    return f"{name} ({len(instances)}{f', {ill} unhealthy' if ill else ''})"


def _events(out: Output, node: Record) -> None:
    events = node.get("Events") or []
    if not events:
        return
    out.heading("Node Events")
    rows = [
        [clock(parse_time_ns(e.get("Timestamp"))), e.get("Subsystem", ""), e.get("Message", "")]
        for e in reversed(events)
    ]
    out.table(("Time", "Subsystem", "Message"), rows)


def _allocated(node: Record, allocs: list[Record]) -> list[str]:
    """Return CPU, memory and disk as "granted/usable"."""
    cpu = memory = disk = 0
    for alloc in allocs:
        if alloc["ClientStatus"] in _ENDED:
            continue
        resources = alloc.get("AllocatedResources") or {}
        for task in (resources.get("Tasks") or {}).values():
            cpu += (task.get("Cpu") or {}).get("CpuShares", 0)
            memory += (task.get("Memory") or {}).get("MemoryMB", 0)
        disk += (resources.get("Shared") or {}).get("DiskMB", 0)
    total_cpu, total_memory, total_disk = _usable(node)
    return [
        f"{cpu}/{total_cpu} MHz",
        f"{mebibytes(memory)}/{mebibytes(total_memory)}",
        f"{mebibytes(disk)}/{mebibytes(total_disk)}",
    ]


def _usable(node: Record) -> tuple[int, int, int]:
    """Return MHz, MiB and MiB of disk that work may use: all less what is reserved."""
    resources, reserved = node.get("NodeResources") or {}, node.get("ReservedResources") or {}

    def usable(part: str, key: str) -> int:
        total = (resources.get(part) or {}).get(key, 0)
        return int(total) - int((reserved.get(part) or {}).get(key, 0))

    return usable("Cpu", "CpuShares"), usable("Memory", "MemoryMB"), usable("Disk", "DiskMB")


def _host_usage(node: Record, host: Record) -> list[str]:
    total_cpu, _, _ = _usable(node)
    memory = host.get("Memory") or {}
    disk: Record = host.get("AllocDirStats") or next(iter(host.get("DiskStats") or []), {})
    return [
        f"{host.get('CPUTicksConsumed') or 0:.0f}/{total_cpu} MHz",
        f"{mebibytes(memory.get('Used', 0) >> 20)}/{mebibytes(memory.get('Total', 0) >> 20)}",
        f"{mebibytes(disk.get('Used', 0) >> 20)}/{mebibytes(disk.get('Size', 0) >> 20)}",
    ]


def _host_stats(session: Session, node_id: str) -> Record:
    """Ask the node what it uses; {} when it can't say (it is only an extra)."""
    try:
        return session.api.get("/v1/client/stats", node_id=node_id) or {}
    except ApiError:
        return {}
