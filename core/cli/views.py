"""Tables that several commands show: allocations, a deployment's groups, task events."""

import time
from typing import Any

from core.cli.output import Output, ago, clock, parse_time_ns, short

Record = dict[str, Any]
BRIEF_ALLOC_HEADER = (
    "ID", "Node ID", "Task Group", "Version", "Desired", "Status", "Created", "Modified",
)  # fmt: skip
FULL_ALLOC_HEADER = (
    "ID", "Eval ID", "Node ID", "Node Name", "Task Group", "Version", "Desired", "Status",
    "Created", "Modified",
)  # fmt: skip


def alloc_table(out: Output, allocs: list[Record], *, verbose: bool = False) -> None:
    """Write allocations, the newest first."""
    if not allocs:
        out.line("No allocations placed")
        return
    allocs = sorted(allocs, key=lambda a: (-a.get("CreateIndex", 0), a["Name"]))
    rows = [alloc_row(alloc, verbose=verbose) for alloc in allocs]
    out.table(FULL_ALLOC_HEADER if verbose else BRIEF_ALLOC_HEADER, rows)


def alloc_row(alloc: Record, *, verbose: bool) -> list[Any]:
    """Return an allocation's cells, in the order of the headers above."""
    now_ns = time.time_ns()
    created, modified = alloc.get("CreateTime", 0), alloc.get("ModifyTime", 0)
    version = alloc.get("JobVersion")
    if version is None:
        version = (alloc.get("Job") or {}).get("Version", 0)
    head = [short(alloc["ID"], verbose=verbose)]
    if verbose:
        head += [alloc["EvalID"], alloc["NodeID"], alloc.get("NodeName", "")]
    else:
        head += [short(alloc["NodeID"])]
    times = [clock(t) if verbose else ago(t, now_ns) for t in (created, modified)]
    return [
        *head,
        alloc["TaskGroup"],
        version,
        alloc["DesiredStatus"],
        alloc["ClientStatus"],
        *times,
    ]


def deployment_pairs(out: Output, deployment: Record, *, verbose: bool = False) -> None:
    out.pairs(
        [
            ("ID", short(deployment["ID"], verbose=verbose)),
            ("Job ID", deployment["JobID"]),
            ("Job Version", deployment.get("JobVersion", 0)),
            ("Status", deployment["Status"]),
            ("Description", deployment.get("StatusDescription", "")),
        ]
    )


def deployed_rows(deployment: Record) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of a deployment's groups; columns appear as they matter."""
    groups: dict[str, Record] = deployment.get("TaskGroups") or {}
    has_revert = any(group.get("AutoRevert") for group in groups.values())
    has_canaries = any(group.get("DesiredCanaries") for group in groups.values())
    header = ["Task Group"]
    header += ["Auto Revert"] * has_revert + ["Promoted"] * has_canaries + ["Desired"]
    header += ["Canaries"] * has_canaries
    header += ["Placed", "Healthy", "Unhealthy", "Progress Deadline"]
    rows = []
    for name, group in sorted(groups.items()):
        row: list[Any] = [name]
        if has_revert:
            row.append(bool(group.get("AutoRevert")))
        if has_canaries:
            needed = group.get("DesiredCanaries", 0)
            row.append(bool(group.get("Promoted")) if needed else "N/A")
        row.append(group.get("DesiredTotal", 0))
        if has_canaries:
            row.append(group.get("DesiredCanaries") or "N/A")
        row += [group.get(key, 0) for key in ("PlacedAllocs", "HealthyAllocs", "UnhealthyAllocs")]
        row.append(clock(parse_time_ns(group.get("RequireProgressBy"))))
        rows.append(row)
    return header, rows


def deployed_table(out: Output, deployment: Record) -> None:
    header, rows = deployed_rows(deployment)
    if rows:
        out.heading("Deployed")
        out.table(header, rows)


def event_description(event: Record) -> str:
    """Return what happened to a task, in the client's own words."""
    return str(event.get("DisplayMessage") or event.get("Message") or event.get("DriverError", ""))
