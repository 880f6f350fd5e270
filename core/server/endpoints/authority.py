"""Authority.*: who owns the names of the region, and who shall.

It moves while both are up (`Authority.Transfer`), or is succeeded once its datacenter is lost
(`Authority.Adopt`: core.federation.succession). `Authority.Status` is answered by the authority,
`Authority.Own` by the datacenter that is asked.
"""

from typing import Any

from core.federation.authority import best_authority
from core.federation.claims import authority_of, open_claims
from core.federation.lifecycle import takes_nothing
from core.federation.roster import is_enrolled, roster_of, rosters_of
from core.federation.succeeding import newest_generation
from core.federation.succession import BeginSuccession, Succession, succession_of
from core.federation.transfer import PlanTransfer
from core.model.instant import rfc3339_of_ns
from core.model.query import Answer
from core.server.endpoints.datacenters import refuse_if_alive
from core.server.endpoints.shared import checked
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.result import Applied


def authority_status(request: Request) -> Answer:
    """Tell whether this datacenter is its region's authority, and where that goes."""
    state = request.state
    known = authority_of(state)
    body = {
        "Region": state.region,
        "Datacenter": state.datacenter,
        "ID": state.datacenter_id,
        "IsAuthority": state.is_authority,
        "Generation": known.generation,
        "To": known.to,
        "Claims": sum(1 for _ in open_claims(state)),
        "Succession": _shown(request, succession_of(state)),
    }
    return Answer(body=body, index=max(1, state.table_index("authority")))


def authority_transfer(request: Request) -> Proposal:
    """Give the authority of the region to another datacenter: body {To: its name or id}."""
    wanted = request.body().get("To")
    if not isinstance(wanted, str) or not wanted:
        raise QueryError(400, "To is missing: the datacenter that is to be the authority")
    to, wrong = request.server.federation.authority_destination(wanted)
    if wrong:
        raise QueryError(400, wrong)

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"To": to, "Index": applied.index}, index=applied.index)

    return Proposal([PlanTransfer(to=to)], answer)


def authority_adopt(request: Request) -> Proposal:
    """Make this datacenter the authority in place of a lost one.

    Body {Datacenter: name or id of the lost one, Force}. It is declared off by this.
    """
    state = request.state
    dc, name = _lost(request)
    refuse_if_alive(request, dc, name, "let it give the authority away (authority transfer)")
    if takes_nothing(state):
        raise QueryError(409, f"datacenter {state.datacenter} is being emptied: let another do it")
    if not is_enrolled(state):
        raise QueryError(409, f"datacenter {state.datacenter} is not on the region's roster yet")
    members = {one: None for roster in rosters_of(state).values() for one in roster.members}
    members |= dict.fromkeys(request.server.membership.datacenters())
    generation = newest_generation(state, request.server.federation.sites()) + 1
    command = BeginSuccession(lost=dc, name=name, generation=generation, members=list(members))

    def answer(applied: Applied) -> Answer:
        value = checked(applied).results[0].value
        body = {"ID": dc, "Generation": value["Generation"], "Index": applied.index}
        return Answer(body=body, index=applied.index)

    return Proposal([command], answer)


def _lost(request: Request) -> tuple[str, str]:
    """Return id and name of the lost authority that the body names."""
    wanted = request.body().get("Datacenter")
    if not isinstance(wanted, str) or not wanted:
        raise QueryError(400, "Datacenter is missing: that of the lost authority, a name or an id")
    state = request.state
    roster, under_way = roster_of(state), succession_of(state)
    if state.is_authority:
        text = f"datacenter {state.datacenter} is the authority of region {state.region} already"
        raise QueryError(409, text)
    digests = [site.digest for site in request.server.federation.sites()]
    best = best_authority(digests, state.region)
    authorities = {best.datacenter_id if best is not None else roster.authority: None}
    if under_way is not None and under_way.is_under_way:
        authorities |= dict.fromkeys(under_way.lost)
    found = [dc for dc in roster.find(wanted) if dc in authorities]
    if not found:
        names = ", ".join(roster.names.get(dc, dc) for dc in authorities if dc) or "not known"
        raise QueryError(
            400, f"the authority of region {state.region} is {names}, not {wanted}: another lost"
            " datacenter is declared off (datacenter off)",
        )  # fmt: skip
    return found[0], roster.names[found[0]]


def _shown(request: Request, succession: Succession | None) -> dict[str, Any] | None:
    if succession is None:
        return None
    known = request.server.membership.datacenters()
    waits = request.server.federation.succession_waits()
    return {
        "Generation": succession.generation,
        "Since": rfc3339_of_ns(succession.since_us * 1000),
        "Stage": succession.stage,
        "Lost": succession.lost,
        "Members": len(succession.members),
        "Pledged": sum(succession.members.values()),
        "SupersededBy": succession.superseded_by,
        "Waiting": {
            f"{known[who].region}/{known[who].name}" if who in known else who: error
            for who, error in waits.items()
        },
    }


ENDPOINTS = {
    "Authority.Status": Endpoint(Kind.READ, authority_status),
    "Authority.Transfer": Endpoint(Kind.WRITE, authority_transfer),
    "Authority.Adopt": Endpoint(Kind.WRITE, authority_adopt),
    "Authority.Own": Endpoint(Kind.READ, authority_status),
}
