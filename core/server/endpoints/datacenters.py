"""Datacenter.Leave, .Off, .Adopt and .Adoptions: a datacenter goes, empty or lost.

Of a lost one others take over the jobs.
"""

from typing import Any

from core.federation.adoption import Adoption, BeginAdoption, adoptions_of
from core.federation.leaving import BeginLeave
from core.federation.lifecycle import takes_nothing
from core.federation.roster import is_off, roster_of
from core.federation.roster_log import DeclareOff
from core.federation.succession import AddLost, succession_of
from core.model.instant import rfc3339_of_ns
from core.model.query import Answer
from core.server.endpoints.shared import checked
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.result import Applied


def datacenter_off(request: Request) -> Proposal:
    """Declare a datacenter of the region off: body {Datacenter: name or id, Force}.

    One that answers is not off: it is refused unless the caller insists.
    """
    dc, name = _named(request, is_gone=False)
    instead = "empty it and let it leave (datacenter drain, datacenter leave)"
    refuse_if_alive(request, dc, name, instead)

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {"ID": dc, "Datacenter": name, "Index": applied.index}
        return Answer(body=body, index=applied.index)

    under_way = succession_of(request.state)
    if under_way is not None and under_way.is_under_way:
        return Proposal([AddLost(datacenter_id=dc, name=name)], answer)
    return Proposal([DeclareOff(datacenter_id=dc)], answer)


def refuse_if_alive(request: Request, dc: str, name: str, instead: str) -> None:
    """Refuse to take a datacenter for lost whose servers answer, unless the caller insists."""
    alive = request.server.membership.servers_of_datacenter(dc)
    if alive and not is_off(request.state, dc) and request.body().get("Force") is not True:
        raise QueryError(
            409,
            f"datacenter {name} is alive: gossip hears {len(alive)} of its servers, which takes a"
            f" while to change after a death; {instead}, or say that you mean it (-force)",
        )


def datacenter_adopt(request: Request) -> Proposal:
    """Make this datacenter the home of a lost one's jobs: body {Datacenter: name or id}."""
    state = request.state
    dc, name = _named(request, is_gone=True)
    if takes_nothing(state):
        raise QueryError(409, f"datacenter {state.datacenter} is being emptied: let another adopt")
    if dc == state.datacenter_id:
        raise QueryError(400, f"datacenter {name} can't adopt its own jobs")

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"ID": dc, "Index": applied.index}, index=applied.index)

    return Proposal([BeginAdoption(source=dc)], answer)


def datacenter_adoptions(request: Request) -> Answer:
    """List the adoptions of this datacenter, with whom each waits for."""
    state = request.state
    rows = [_shown(request, one) for one in adoptions_of(state).values()]
    return Answer(body=rows, index=max(1, state.table_index("adoptions")))


def _shown(request: Request, adoption: Adoption) -> dict[str, Any]:
    known = request.server.membership.datacenters()
    waits = request.server.federation.adoption_waits(adoption.source)
    return {
        "ID": adoption.source,
        "Datacenter": adoption.name,
        "Region": adoption.region,
        "By": request.state.datacenter,
        "Since": rfc3339_of_ns(adoption.since_us * 1000),
        "Stage": adoption.stage,
        "Jobs": len(adoption.jobs),
        "Adopted": adoption.adopted,
        "Lost": list(adoption.lost),
        "Refused": adoption.refused,
        "Waiting": {
            f"{known[who].region}/{known[who].name}" if who in known else who: error
            for who, error in waits.items()
        },
    }


def _named(request: Request, *, is_gone: bool) -> tuple[str, str]:
    """Return id and name of the datacenter that the body names, by this region's roster."""
    wanted = request.body().get("Datacenter")
    if not isinstance(wanted, str) or not wanted:
        raise QueryError(400, "Datacenter is missing: a name or an id")
    roster = roster_of(request.state)
    found = [dc for dc in roster.find(wanted) if not is_gone or dc in roster.gone]
    if len(found) > 1:  # a name that a newer datacenter has again
        found = [dc for dc in found if is_gone or dc in roster.members][-1:]
    if not found:
        if is_gone and roster.find(wanted):
            here = request.state.datacenter
            raise QueryError(
                503,
                f"datacenter {wanted} was not declared off, as far as {here} knows: datacenter"
                " off goes first, and its word takes a moment to go round",
            )
        names = ", ".join(sorted(roster.names.values())) or "none yet"
        raise QueryError(
            404, f"region {roster.region} has no datacenter {wanted!r}; it has {names}"
        )
    return found[0], roster.names[found[0]]


def datacenter_leave(request: Request) -> Proposal:
    """Let this datacenter, which is drained, leave the federation."""

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"IsLeaving": True, "Index": applied.index}, index=applied.index)

    return Proposal([BeginLeave()], answer)


ENDPOINTS = {
    "Datacenter.Leave": Endpoint(Kind.WRITE, datacenter_leave),
    "Datacenter.Off": Endpoint(Kind.WRITE, datacenter_off),
    "Datacenter.Adopt": Endpoint(Kind.WRITE, datacenter_adopt),
    "Datacenter.Adoptions": Endpoint(Kind.READ, datacenter_adoptions),
}
