"""`serai alloc status`: one allocation, its tasks, and what happened to them."""

import time
from typing import Any

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import NONE, Output, ago, clock, mebibytes, parse_time_ns, short
from core.cli.placement import failure_lines, looked_at, score_rows
from core.cli.resolve import ALLOCATION, resolve
from core.cli.session import Session, api_command
from core.cli.views import event_description

Record = dict[str, Any]
_SHOWN_EVENTS = 10
_HEALTH = {True: "healthy", False: "unhealthy", None: "unset"}


@api_command()
@click.argument("allocation", required=False)
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-short", "is_short", is_flag=True, help="Only the head and the tasks' last events")
@option("-stats", "with_stats", is_flag=True, help="Show what the tasks use now")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Whole ids and times, and the placement's scores")
def status(
    session: Session,
    *,
    allocation: str | None,
    as_json: bool,
    is_short: bool,
    with_stats: bool,
    template: str | None,
    verbose: bool,
) -> int:
    """Show the allocation that ALLOCATION (an id or its beginning) names."""
    if allocation is None:
        if not (as_json or template is not None):
            raise CliError("name an allocation, or list all with -json or -t")
        session.out.render(session.api.get("/v1/allocations"), as_json=as_json, template=template)
        return 0
    alloc = resolve(session, ALLOCATION, allocation)
    if not session.out.render(alloc, as_json=as_json, template=template):
        usage = _usage(session, alloc) if alloc["ClientStatus"] == "running" else {}
        show_allocation(session.out, alloc, usage, is_short=is_short, verbose=verbose)
        if with_stats and not usage:
            session.out.note("The node did not answer what the tasks use.")
    return 0


def show_allocation(
    out: Output, alloc: Record, usage: Record, *, is_short: bool, verbose: bool
) -> None:
    """Write one allocation as `alloc status` does.

    Args:
        usage: `AllocResourceUsage` of the API, {} when the node gave none.
    """
    _head(out, alloc, verbose=verbose)
    if is_short:
        _short_tasks(out, alloc)
        return
    _addresses(out, alloc)
    for name, state in sorted((alloc.get("TaskStates") or {}).items()):
        _task(out, alloc, name, state, (usage.get("Tasks") or {}).get(name) or {})
    _replacement(out, alloc, verbose=verbose)
    if verbose or alloc["ClientStatus"] == "failed":
        _metrics(out, alloc.get("Metrics") or {})


def _head(out: Output, alloc: Record, *, verbose: bool) -> None:
    now_ns = time.time_ns()
    created, modified = alloc.get("CreateTime") or 0, alloc.get("ModifyTime") or 0
    when = clock if verbose else (lambda time_ns: ago(time_ns, now_ns))
    version = (alloc.get("Job") or {}).get("Version", alloc.get("JobVersion", 0))
    rows: list[tuple[str, Any]] = [
        ("ID", alloc["ID"] if verbose else short(alloc["ID"])),
        ("Eval ID", short(alloc["EvalID"], verbose=verbose)),
        ("Name", alloc["Name"]),
        ("Node ID", short(alloc["NodeID"], verbose=verbose)),
        ("Node Name", alloc.get("NodeName", "")),
        ("Job ID", alloc["JobID"]),
        ("Job Version", version),
        ("Client Status", alloc["ClientStatus"]),
        ("Client Description", alloc.get("ClientDescription", "")),
        ("Desired Status", alloc["DesiredStatus"]),
        ("Desired Description", alloc.get("DesiredDescription", "")),
        ("Created", when(created)),
        ("Modified", when(modified)),
    ]
    if alloc.get("DeploymentID"):
        health: bool | None = (alloc.get("DeploymentStatus") or {}).get("Healthy")
        rows.append(("Deployment ID", short(alloc["DeploymentID"], verbose=verbose)))
        rows.append(("Deployment Health", _HEALTH[health]))
        if (alloc.get("DeploymentStatus") or {}).get("Canary"):
            rows.append(("Canary", True))
    for title, key in (
        ("Replacement Alloc ID", "NextAllocation"),
        ("Previous Alloc ID", "PreviousAllocation"),
        ("Followup Eval ID", "FollowupEvalID"),
    ):
        if alloc.get(key):
            rows.append((title, short(alloc[key], verbose=verbose)))
    out.pairs(rows)


def _short_tasks(out: Output, alloc: Record) -> None:
    out.heading("Tasks")
    rows = []
    for name, state in sorted((alloc.get("TaskStates") or {}).items()):
        events = state.get("Events") or []
        last = events[-1] if events else {}
        rows.append(
            [
                name,
                state["State"],
                last.get("Type", ""),
                clock(last.get("Time") or 0),
                event_description(last),
            ]
        )
    out.table(("Name", "State", "Last Event", "Time", "Description"), rows)


def _addresses(out: Output, alloc: Record) -> None:
    shared = (alloc.get("AllocatedResources") or {}).get("Shared") or {}
    ports = shared.get("Ports") or []
    if not ports:
        return
    groups = (alloc.get("Job") or {}).get("TaskGroups") or []
    asked: Record = next((group for group in groups if group["Name"] == alloc["TaskGroup"]), {})
    dynamic = {
        port["Label"]
        for network in asked.get("Networks") or []
        for port in network.get("DynamicPorts") or []
    }
    rows = []
    for port in ports:
        address = f"{port.get('HostIP', '')}:{port['Value']}"
        if port.get("To") and port["To"] != port["Value"]:
            address += f" -> {port['To']}"
        rows.append([f"*{port['Label']}", "yes" if port["Label"] in dynamic else "no", address])
    out.heading("Allocation Addresses:")
    out.table(("Label", "Dynamic", "Address"), rows)


def _task(out: Output, alloc: Record, name: str, state: Record, usage: Record) -> None:
    lifecycle = _lifecycle(alloc, name)
    out.heading(f'Task "{name}"{lifecycle} is "{state["State"]}"')
    _task_resources(out, alloc, name, usage)
    out.line()
    out.line("Task Events:")
    out.pairs(
        [
            ("Started At", clock(parse_time_ns(state.get("StartedAt")))),
            ("Finished At", clock(parse_time_ns(state.get("FinishedAt")))),
            ("Total Restarts", state.get("Restarts", 0)),
            ("Last Restart", clock(parse_time_ns(state.get("LastRestart")))),
        ]
    )
    events = list(reversed(state.get("Events") or []))[:_SHOWN_EVENTS]
    if events:
        out.line()
        out.line("Recent Events:")
        out.table(
            ("Time", "Type", "Description"),
            [[clock(e.get("Time") or 0), e.get("Type", ""), event_description(e)] for e in events],
        )


def _task_resources(out: Output, alloc: Record, name: str, usage: Record) -> None:
    granted = ((alloc.get("AllocatedResources") or {}).get("Tasks") or {}).get(name)
    if not granted:
        return
    cpu = (granted.get("Cpu") or {}).get("CpuShares", 0)
    memory = granted.get("Memory") or {}
    disk = ((alloc.get("AllocatedResources") or {}).get("Shared") or {}).get("DiskMB", 0)
    used = usage.get("ResourceUsage") or {}
    ticks = (used.get("CpuStats") or {}).get("TotalTicks")
    stats = used.get("MemoryStats") or {}
    in_use = stats.get("RSS") or stats.get("Usage")
    cpu_cell = f"{cpu} MHz" if ticks is None else f"{ticks:.0f}/{cpu} MHz"
    memory_cell = mebibytes(memory.get("MemoryMB", 0))
    if in_use:
        memory_cell = f"{mebibytes(in_use >> 20)}/{memory_cell}"
    if memory.get("MemoryMaxMB"):
        memory_cell += f" Max: {mebibytes(memory['MemoryMaxMB'])}"
    out.line("Task Resources:")
    out.table(("CPU", "Memory", "Disk"), [[cpu_cell, memory_cell, mebibytes(disk)]])
    cores = (granted.get("Cpu") or {}).get("ReservedCores") or []
    if cores:
        out.line(f"Cores: {', '.join(map(str, cores))}")
    for device in granted.get("Devices") or []:
        name = "/".join(device[key] for key in ("Vendor", "Type", "Name"))
        out.line(f"Device: {name} {', '.join(device['DeviceIDs'])}")


def _lifecycle(alloc: Record, name: str) -> str:
    """Return ` (prestart)`, ` (poststart sidecar)`, ... for a task that is not a main one."""
    for group in (alloc.get("Job") or {}).get("TaskGroups") or []:
        if group["Name"] != alloc["TaskGroup"]:
            continue
        for task in group.get("Tasks") or []:
            hook = task.get("Lifecycle")
            if task["Name"] == name and hook:
                return f" ({hook.get('Hook', '')}{' sidecar' * bool(hook.get('Sidecar'))})"
    return ""


def _replacement(out: Output, alloc: Record, *, verbose: bool) -> None:
    events = (alloc.get("RescheduleTracker") or {}).get("Events") or []
    if events:
        out.line()
        out.line(f"Reschedule Attempts = {len(events)}")
    if alloc.get("PreemptedByAllocation"):
        out.line(f"Preempted By = {short(alloc['PreemptedByAllocation'], verbose=verbose)}")


def _metrics(out: Output, metric: Record) -> None:
    out.heading("Placement Metrics")
    reasons = [line for line in failure_lines(metric) if metric.get("NodesEvaluated") is not None]
    if reasons or metric.get("NodesEvaluated"):
        out.line(looked_at(metric))
    for line in reasons:
        out.line(line)
    header, rows = score_rows(metric)
    if rows:
        out.table(header, rows)
    elif not reasons:
        out.line(NONE)


def _usage(session: Session, alloc: Record) -> Record:
    """Ask the node what the tasks use; {} when it can't say (it is only an extra)."""
    try:
        return session.api.get(f"/v1/client/allocation/{alloc['ID']}/stats") or {}
    except ApiError:
        return {}
