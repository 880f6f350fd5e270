"""`serai datacenter off | adopt`: a datacenter is lost for good, and others take over."""

import time
from typing import Any

import click

from core.cli.asking import confirm
from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.session import Session, api_command

_LOOK_S = 1.0
_PATIENCE_S = 10.0  # the word that a datacenter is off takes a moment to go round
_ROUTE = "/v1/datacenter"


@api_command()
@click.argument("datacenter")
@option("-force", is_flag=True, help="Although some of its servers answer")
@option("-yes", "-y", is_flag=True, help="Do not ask")
def off(session: Session, *, datacenter: str, force: bool, yes: bool) -> int:
    """Declare a datacenter of the region off: it runs nothing and never will again.

    This is your word, and it is final. What it ran is given to others at once, where the job's
    home is elsewhere; the jobs whose home it is wait for datacenter adopt. Should it come back,
    it stops what it runs, and is of use again only as a new datacenter, with an empty data_dir.
    """
    if not yes:
        confirm(
            f"Does {datacenter} run nothing any more, for good?",
            unasked=f"say -yes to declare {datacenter} off",
        )
    body = {"Datacenter": datacenter, "Force": force}
    answer: dict[str, Any] = session.api.put(f"{_ROUTE}/off", body)
    name = answer["Datacenter"]
    session.out.line(f"Datacenter {name} ({answer['ID']}) is off")
    session.out.line(f"Its jobs get another home with: serai datacenter adopt {name}")
    return 0


@api_command()
@click.argument("datacenter", required=False)
@option("-by", metavar="datacenter", help="Which one of the region adopts (the agent's own)")
@option("-detach", is_flag=True, help="Return at once, do not wait until it is done")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-yes", "-y", is_flag=True, help="Do not ask")
def adopt(
    session: Session, *, datacenter: str | None, by: str | None, detach: bool, as_json: bool,
    yes: bool,
) -> int:  # fmt: skip
    """Make a datacenter the home of the jobs of one that is off; without a name, show how far.

    The jobs come from their backup. Two rounds over all datacenters that may run a part of them
    come first: none takes anything of the lost one any more; then each says what it has. So a
    datacenter that does not answer keeps the adoption waiting: bring it back, or declare it off.
    """
    place = {"datacenter": by} if by is not None else {}
    source = ""
    if datacenter is not None:
        if not yes:
            confirm(f"Adopt the jobs of {datacenter}?", unasked=f"say -yes to adopt {datacenter}")
        source = _begin(session, datacenter, place)
    found: list[dict[str, Any]] = session.api.get(f"{_ROUTE}/adoptions", **place)
    if source and not detach:
        found = _follow(session, source, place)
    if session.out.render(found, as_json=as_json, template=None):
        return 0
    if not found:
        session.out.line("This datacenter has adopted nothing")
    for one in found:
        _show(session, one)
    return 1 if any(one["Refused"] or one["Lost"] for one in found if one["ID"] == source) else 0


def _begin(session: Session, datacenter: str, place: dict[str, str]) -> str:
    """Begin it as soon as the adopting datacenter has heard of `datacenter off`; return the id."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = session.api.put(f"{_ROUTE}/adopt", {"Datacenter": datacenter}, **place)
            return str(answer["ID"])
        except ApiError as error:
            if error.status != 503 or time.monotonic() > deadline_s:
                raise
            time.sleep(_LOOK_S)


def _follow(session: Session, source: str, place: dict[str, str]) -> list[dict[str, Any]]:
    """Say whenever it goes on, or waits for others than before, until it is done."""
    said: tuple[Any, ...] = ()
    try:
        while True:
            found: list[dict[str, Any]] = session.api.get(f"{_ROUTE}/adoptions", **place)
            mine = next((one for one in found if one["ID"] == source), None)
            if mine is None:
                raise CliError("the adoption is not known any more")
            if mine["Stage"] == "done":
                return found
            now = mine["Stage"], mine["Waiting"]
            if now != said:
                said = now
                _tell(session, mine)
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        session.out.line("The adoption goes on; look with: serai datacenter adopt")
        return found


_STAGES = {
    "claims": "Asking the authorities whose jobs these are",
    "floors": "First round: nobody is to take anything of it any more",
    "collect": "Second round: who holds what",
    "remove": "Ending what has no home",
}


def _tell(session: Session, one: dict[str, Any]) -> None:
    session.out.line(_STAGES.get(one["Stage"], one["Stage"]))
    for who, error in one["Waiting"].items():
        session.out.warn(f"waiting for {who}: {error}")


def _show(session: Session, one: dict[str, Any]) -> None:
    session.out.pairs(
        [
            ("Lost", f"{one['Region']}/{one['Datacenter']} ({one['ID']})"),
            ("Adopted by", f"{one['Region']}/{one['By']}, since {one['Since']}"),
            ("Stage", one["Stage"]),
            ("Jobs", f"{one['Adopted']} adopted of {one['Jobs']}"),
        ]
    )
    for who, error in one["Waiting"].items():
        session.out.warn(f"waiting for {who}: {error}")
    for name in one["Lost"]:
        session.out.warn(f"job {name} is lost: nobody has a backup of it")
    for name, reason in one["Refused"].items():
        session.out.warn(f"job {name} was not adopted: {reason}")
