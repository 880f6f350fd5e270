"""`serai federation status`: every datacenter at a glance."""

from typing import Any

from core.cli.flags import option
from core.cli.output import NONE, Output
from core.cli.session import Session, api_command


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Also ids, clocks and the largest free slot")
def status(session: Session, *, as_json: bool, template: str | None, verbose: bool) -> int:
    """Show each datacenter: quorum, age of its digest, free room, queue, round trip."""
    found: list[dict[str, Any]] = session.api.get("/v1/federation/status") or []
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return 0
    header = ["Region", "Datacenter", "Servers", "Quorum", "Digest Age", "Nodes", "Free CPU",
              "Free Memory", "Queue", "Blocked", "Round Trip"]  # fmt: skip
    if verbose:
        header += ["Clock", "Largest Slot", "ID"]
    out.table(header, [_row(one, verbose=verbose) for one in found])
    for one in found:
        if one.get("Error") and not one.get("IsOff"):
            out.warn(f"{one['Region']}/{one['Datacenter']}: {one['Error']}")
        if one.get("Seal"):
            _explain(out, one)
    return 0


def _explain(out: Output, one: dict[str, Any]) -> None:
    """Say what the agent's own datacenter, sealed, waits for."""
    seal = one["Seal"]
    place = f"{one['Region']}/{one['Datacenter']}"
    out.warn(f"{place} is sealed since {seal['Since']}: {seal['Reason']}")
    for who, why in seal["Waiting"].items():
        out.warn(f"  waiting for {who or place}: {why}")


def _row(one: dict[str, Any], *, verbose: bool) -> list[Any]:
    mark = " (authority)" if one.get("IsAuthority") else ""
    quorum = {True: "yes", False: "no", None: "unknown"}[one.get("HasQuorum")]
    row = [
        one["Region"] + ("*" if one.get("IsOwn") else ""),
        one["Datacenter"] + mark + _standing(one),
        f"{one['ServersAlive']}/{one['Servers']}",
        quorum,
        _seconds(one.get("DigestAgeSeconds")),
        one.get("NodesReady", NONE),
        _share(one, "FreeCPU", "TotalCPU", "MHz"),
        _share(one, "FreeMemoryMB", "TotalMemoryMB", "MiB"),
        one.get("Queue", NONE),
        one.get("Blocked", NONE),
        _milliseconds(one.get("RoundTripMilliseconds")),
    ]
    if verbose:
        slot = NONE
        if "LargestSlotCPU" in one:
            slot = f"{one['LargestSlotCPU']} MHz, {one['LargestSlotMemoryMB']} MiB"
        row += [_milliseconds(one.get("ClockOffsetMilliseconds"), signed=True), slot, one["ID"]]
    return row


def _standing(one: dict[str, Any]) -> str:
    if one.get("IsOff"):
        return " (off)"
    if one.get("IsSealed"):
        return " (sealed)"
    return " (draining)" if one.get("IsDraining") else ""


def _share(one: dict[str, Any], free: str, total: str, unit: str) -> str:
    if free not in one:
        return NONE
    whole = one[total]
    percent = f" ({100 * one[free] // whole}%)" if whole else ""
    return f"{one[free]} {unit}{percent}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "none yet"
    return "live" if value == 0 else f"{value:.1f} s"


def _milliseconds(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return NONE
    return f"{value:+.1f} ms" if signed else f"{value:.1f} ms"
