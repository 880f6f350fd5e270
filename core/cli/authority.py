"""`serai authority ...`: which datacenter owns the names of a region."""

import time
from typing import Any

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.session import Session, api_command

_LOOK_S = 1.0
_ROUTE = "/v1/authority"


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
def status(session: Session, *, as_json: bool) -> int:
    """Show which datacenter is the region's authority, in which generation."""
    found: dict[str, Any] = session.api.get(_ROUTE)
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
