"""`serai datacenter drain | leave`: emptying a datacenter, and taking it away."""

import time
from typing import Any

from core.cli.asking import confirm
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.session import Session, api_command

_LOOK_S = 1.0
_ROUTE = "/v1/datacenter/drain"


@api_command()
@option("-datacenter", help="Which one of the region (the agent's own)")
@option("-enable", is_flag=True, help="Begin to empty the datacenter")
@option("-disable", is_flag=True, help="Take new work again; what left does not come back")
@option("-detach", is_flag=True, help="Return at once, do not wait until it is empty")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-yes", "-y", is_flag=True, help="Do not ask")
def drain(
    session: Session,
    *,
    datacenter: str | None,
    enable: bool,
    disable: bool,
    detach: bool,
    as_json: bool,
    yes: bool,
) -> int:
    """Move all work out of a datacenter, or show how far that is.

    It takes nothing new; what it runs
    goes to datacenters that have room, a tenth of a job at a time, and the next when those
    run; then the jobs themselves are at home there. What finds no room elsewhere runs on
    here. System jobs stay on their nodes.
    """
    if enable and disable:
        raise CliError("-enable and -disable exclude each other")
    place = {"datacenter": datacenter} if datacenter is not None else {}
    if enable and not yes:
        left = session.api.get(_ROUTE, **place)
        work = f"{left['Instances']} instances out of {left['Region']}/{left['Datacenter']}"
        confirm(f"Move {work}?", unasked=f"say -yes to move {work}")
    if enable or disable:
        session.api.put(_ROUTE, {"IsDraining": enable}, **place)
    found: dict[str, Any] = session.api.get(_ROUTE, **place)
    if session.out.render(found, as_json=as_json, template=None):
        return 0
    _show(session, found)
    if not enable or detach:
        return 0
    return _follow(session, found, place)


def _show(session: Session, found: dict[str, Any]) -> None:
    session.out.pairs(
        [
            ("Datacenter", f"{found['Region']}/{found['Datacenter']}"),
            ("Draining", f"since {found['Since']}" if found["IsDraining"] else "no"),
            ("Leaving", "gone" if found["IsOff"] else "yes" if found["IsLeaving"] else "no"),
            ("Instances left", found["Instances"]),
            ("Jobs at home here", found["Homes"]),
            ("Shares of others", found["Shares"]),
        ]
    )


def _follow(session: Session, found: dict[str, Any], place: dict[str, str]) -> int:
    """Say whenever less is left, until nothing is."""
    left = found["Instances"], found["Homes"]
    try:
        while any(left) and found["IsDraining"]:
            time.sleep(_LOOK_S)
            found = session.api.get(_ROUTE, **place)
            if (found["Instances"], found["Homes"]) != left:
                left = found["Instances"], found["Homes"]
                session.out.line(f"{left[0]} instances and {left[1]} jobs at home here left")
    except KeyboardInterrupt:
        session.out.line("The drain goes on; look with: serai datacenter drain")
        return 130
    if not found["IsDraining"]:
        session.out.line("The drain was taken back")
        return 1
    session.out.line("The datacenter runs nothing but system jobs, and no job is at home there")
    return 0


@api_command()
@option("-datacenter", help="Which one of the region (the agent's own)")
@option("-detach", is_flag=True, help="Return at once, do not wait until the roster says so")
@option("-yes", "-y", is_flag=True, help="Do not ask")
def leave(session: Session, *, datacenter: str | None, detach: bool, yes: bool) -> int:
    """Take a datacenter that was emptied out of the federation, for good.

    Drain it first. It takes nothing any more from then on, its region's roster loses it, and
    system jobs that ran there to the last stop. Its servers can be stopped then; with an empty
    data_dir they are a new datacenter.
    """
    place = {"datacenter": datacenter} if datacenter is not None else {}
    found: dict[str, Any] = session.api.get(_ROUTE, **place)
    name = f"{found['Region']}/{found['Datacenter']}"
    if not yes:
        confirm(f"Take {name} away for good?", unasked=f"say -yes to take {name} away")
    session.api.put("/v1/datacenter/leave", {}, **place)
    if detach:
        session.out.line("It is leaving; look with: serai federation status")
        return 0
    try:
        while not found["IsOff"]:
            time.sleep(_LOOK_S)
            found = session.api.get(_ROUTE, **place)
    except KeyboardInterrupt:
        session.out.line("It is leaving; look with: serai federation status")
        return 130
    session.out.line(f"{name} has left the federation: its servers can be stopped")
    return 0
