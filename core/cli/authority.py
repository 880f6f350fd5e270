"""`serai authority ...`: which datacenter owns the names of a region, and which one shall."""

import time
from typing import Any

import click

from core.cli.asking import confirm
from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.session import Session, api_command

_LOOK_S = 1.0
_ROUTE = "/v1/authority"


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
def status(session: Session, *, as_json: bool) -> int:
    """Show which datacenter is the region's authority, in which generation."""
    try:
        found: dict[str, Any] = session.api.get(_ROUTE)
    except ApiError as error:
        if error.status < 500:
            raise
        found = session.api.get(f"{_ROUTE}/own")  # what the agent's own datacenter knows
        session.out.warn(f"the authority of region {found['Region']} can't be asked: {error}")
    if not session.out.render(found, as_json=as_json, template=None):
        _show(session, found)
    return 0


@api_command()
@click.argument("datacenter")
@option("-detach", is_flag=True, help="Return at once, do not wait until it is done")
def transfer(session: Session, *, datacenter: str, detach: bool) -> int:
    """Make another datacenter of the region the owner of its names.

    For some seconds new names are refused; what is known works on. The old authority never
    resumes by itself: transfer back if you want it back.
    """
    answer: dict[str, Any] = session.api.put(f"{_ROUTE}/transfer", {"To": datacenter})
    if detach:
        session.out.line(f"The authority goes to {datacenter}; look with: serai authority status")
        return 0
    found: dict[str, Any] = {}
    try:
        while not (found.get("IsAuthority") and found.get("ID") == answer["To"]):
            time.sleep(_LOOK_S)
            found = _look(session)
    except KeyboardInterrupt:
        session.out.line("The transfer goes on; look with: serai authority status")
        return 130
    _show(session, found)
    return 0


@api_command()
@click.argument("datacenter")
@option("-by", metavar="datacenter", help="Which one of the region succeeds it (the agent's own)")
@option("-detach", is_flag=True, help="Return at once, do not wait until it is done")
@option("-force", is_flag=True, help="Although some of its servers answer")
@option("-yes", "-y", is_flag=True, help="Do not ask")
def adopt(
    session: Session, *, datacenter: str, by: str | None, detach: bool, force: bool, yes: bool
) -> int:
    """Succeed an authority whose datacenter is lost for good.

    This is your word that it is off, as of datacenter off, and it is final. Every datacenter
    first pledges to take nothing of it any more; then each says which names it holds. So one that
    does not answer keeps the succession waiting: bring it back, or declare it off as well. New
    names are refused meanwhile; what is known works on. The jobs that were at home in the lost
    one come with datacenter adopt, afterwards.
    """
    place = {"datacenter": by} if by is not None else {}
    if not yes:
        confirm(
            f"Does {datacenter} run nothing any more, for good?",
            unasked=f"say -yes to declare {datacenter} off and succeed it",
        )
    body = {"Datacenter": datacenter, "Force": force}
    begun: dict[str, Any] = session.api.put(f"{_ROUTE}/adopt", body, **place)
    if detach:
        session.out.line("The succession is under way; look with: serai authority status")
        return 0
    found: dict[str, Any] = {}
    said: tuple[Any, ...] = ()
    try:
        while (found.get("Succession") or {}).get("Stage") != "done":
            found = session.api.get(f"{_ROUTE}/own", **place)
            mine = found.get("Succession") or {}
            if mine.get("Stage") == "superseded":
                raise CliError(f"datacenter {mine['SupersededBy']} succeeds it instead")
            now = mine.get("Stage"), mine.get("Waiting")
            if now != said:
                said = now
                _tell(session, mine)
            time.sleep(_LOOK_S / 4)
    except KeyboardInterrupt:
        session.out.line("The succession goes on; look with: serai authority status")
        return 130
    _show(session, found)
    session.out.line(f"Its jobs get another home with: serai datacenter adopt {begun['ID']}")
    return 0


_STAGES = {
    "pledges": "First round: every datacenter is to take nothing of it any more",
    "claims": "Second round: who holds which names",
}


def _tell(session: Session, mine: dict[str, Any]) -> None:
    stage = mine.get("Stage", "")
    if stage in _STAGES:
        session.out.line(f"{_STAGES[stage]} ({mine['Pledged']} of {mine['Members']} have pledged)")
    for who, error in mine.get("Waiting", {}).items():
        session.out.warn(f"waiting for {who}: {error}")


def _look(session: Session) -> dict[str, Any]:
    try:
        found: dict[str, Any] = session.api.get(_ROUTE)
    except CliError:
        return {}  # on its way: asked again
    return found


def _show(session: Session, found: dict[str, Any]) -> None:
    place = f"{found['Region']}/{found['Datacenter']}"
    moving = f", on its way to {found['To']}" if found["To"] else ""
    session.out.pairs(
        [
            ("Authority", place + moving if found["IsAuthority"] else f"none known{moving}"),
            ("Generation", found["Generation"]),
            ("Claims", found["Claims"]),
        ]
    )
    mine = found.get("Succession") or {}
    if mine.get("Stage") in _STAGES:
        session.out.line(f"Datacenter {found['Datacenter']} is succeeding a lost authority")
        _tell(session, mine)
