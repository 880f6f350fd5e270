"""Federation.Status and Datacenter.Drain: every datacenter as this server sees it; emptying one.

What a datacenter says of itself is as old as its digest, and the age is shown. The round
trip is measured now, by a call to one live server there; the same call brings its clock.
"""

from typing import Any, Final

from core.federation import lifecycle
from core.federation.choice import Site
from core.federation.lifecycle import SetDatacenterDrain
from core.federation.roster import is_off, is_own_off
from core.federation.seal import seal_of
from core.model.host import CallDone, Now
from core.model.instant import rfc3339_of_ns
from core.model.query import Answer
from core.server.context import Server
from core.server.endpoints.shared import checked
from core.server.launching import CLOCK
from core.server.request import (
    Deferred,
    Endpoint,
    Kind,
    Proposal,
    QueryError,
    Request,
    Respond,
)
from core.server.sites import ServerSite
from core.state.result import Applied

_TIMEOUT_US: Final = 2_000_000


def federation_status(request: Request) -> Deferred:
    """Ask one server of every datacenter and answer when all did, or after two seconds."""
    server = request.server

    def start(respond: Respond) -> None:
        rows = _rows(server)
        asked = {
            row["ID"]: alive[0].rpc
            for row in rows
            if row["ID"] != server.datacenter_id
            and (alive := server.membership.servers_of_datacenter(row["ID"]))
        }
        waiting = len(asked)

        def done(row: dict[str, Any], sent: Now, event: CallDone) -> None:
            nonlocal waiting
            waiting -= 1
            took_us = server.now.mono_us - sent.mono_us
            body = event.body if isinstance(event.body, dict) else {}
            theirs = body.get("wall_us")
            if event.error or not isinstance(theirs, int):
                row["Error"] = event.error or "its answer is not understood"
            else:
                row["RoundTripMilliseconds"] = round(took_us / 1000, 1)
                row["ClockOffsetMilliseconds"] = round(
                    (theirs - sent.wall_us - took_us // 2) / 1000, 1
                )
            if not waiting:
                respond(_answer(rows))

        if not asked:
            respond(_answer(rows))
        for row in rows:
            address = asked.get(row["ID"])
            if address is None:
                if row["ID"] != server.datacenter_id:
                    row["Error"] = "no live server is known"
                continue
            server.outbox.ask(
                address, CLOCK, None, _TIMEOUT_US,
                lambda event, row=row, sent=server.now: done(row, sent, event),  # type: ignore[misc]
            )  # fmt: skip

    return Deferred(start)


def _answer(rows: list[dict[str, Any]]) -> Answer:
    return Answer(body=rows, index=1)


def _rows(server: Server) -> list[dict[str, Any]]:
    sites: dict[str, list[ServerSite]] = {}
    for one in server.membership.sites().values():
        if one.datacenter_id:
            sites.setdefault(one.datacenter_id, []).append(one)
    digests = {site.digest.datacenter_id: site for site in server.federation.sites()}
    rows = [
        _row(server, datacenter_id, found, digests.get(datacenter_id))
        for datacenter_id, found in sites.items()
    ]
    return sorted(rows, key=lambda row: (row["Region"], row["Datacenter"], row["ID"]))


def _row(
    server: Server, datacenter_id: str, sites: list[ServerSite], site: Site | None
) -> dict[str, Any]:
    is_own = datacenter_id == server.datacenter_id
    row: dict[str, Any] = {
        "Region": sites[0].region,
        "Datacenter": sites[0].datacenter,
        "ID": datacenter_id,
        "IsOwn": is_own,
        "ServersAlive": sum(one.is_alive for one in sites),
        "Servers": len(sites),
        "RoundTripMilliseconds": 0.0 if is_own else None,
        "ClockOffsetMilliseconds": 0.0 if is_own else None,
        "IsOff": is_off(server.state, datacenter_id),
        "IsSealed": False,
        "Error": "",
        "DigestAgeSeconds": None,
        "HasQuorum": None,
    }
    if site is not None:
        digest = site.digest
        row |= {
            "IsAuthority": digest.is_authority,
            "IsDraining": digest.is_draining,
            "IsSealed": digest.is_sealed,
            "HasQuorum": digest.has_quorum or digest.is_sealed,
            "DigestAgeSeconds": 0.0 if site.age_us is None else round(site.age_us / 1e6, 1),
            "NodesReady": digest.nodes_ready,
            "TotalCPU": digest.total.cpu,
            "FreeCPU": digest.free.cpu,
            "TotalMemoryMB": digest.total.memory,
            "FreeMemoryMB": digest.free.memory,
            "FreeDiskMB": digest.free.disk,
            "LargestSlotCPU": digest.slot_free.cpu,
            "LargestSlotMemoryMB": digest.slot_free.memory,
            "Queue": digest.queue_depth,
            "Blocked": digest.blocked,
            "Refused": digest.refused,
        }
    if is_own:
        # A follower's digest says nothing of the quorum; that a leader is heard does.
        row["HasQuorum"] = server.consensus.leader_address() != ""
        row["Seal"] = _seal(server)
        row["IsSealed"] = row["Seal"] is not None
    return row


def _seal(server: Server) -> dict[str, Any] | None:
    """Return why this datacenter is sealed, since when, and for whom its leader waits."""
    seal = seal_of(server.state)
    if seal is None:
        return None
    known = server.membership.datacenters()
    waits = server.federation.seal_waits()
    return {
        "Reason": seal.reason,
        "Since": rfc3339_of_ns(seal.since_us * 1000),
        "Waiting": {
            f"{known[who].region}/{known[who].name}" if who in known else who: why
            for who, why in waits.items()
        },
    }


def datacenter_drain(request: Request) -> Answer:
    """Tell whether this datacenter is drained, since when, and what is left."""
    state = request.state
    found, left = lifecycle.lifecycle_of(state), lifecycle.remaining(state)
    body = {
        "Region": state.region,
        "Datacenter": state.datacenter,
        "ID": state.datacenter_id,
        "IsDraining": found.is_draining,
        "Since": rfc3339_of_ns(found.since_us * 1000) if found.is_draining else None,
        "IsLeaving": found.is_leaving,
        "IsOff": is_own_off(state),
        "Instances": left.instances,
        "Homes": left.homes,
        "Shares": left.shares,
    }
    return Answer(body=body, index=max(1, state.table_index("allocs"), found.index))


def datacenter_set_drain(request: Request) -> Proposal:
    """Begin to empty this datacenter, or take that back: body {IsDraining}."""
    wanted = request.body().get("IsDraining")
    if not isinstance(wanted, bool):
        raise QueryError(400, "IsDraining is missing: true empties the datacenter")

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"IsDraining": wanted, "Index": applied.index}, index=applied.index)

    return Proposal([SetDatacenterDrain(is_draining=wanted)], answer)


ENDPOINTS = {
    "Federation.Status": Endpoint(Kind.AGENT, federation_status),
    "Datacenter.Drain": Endpoint(Kind.READ, datacenter_drain),
    "Datacenter.SetDrain": Endpoint(Kind.WRITE, datacenter_set_drain),
}
