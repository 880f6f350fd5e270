"""`serai node drain` and `serai node eligibility`."""

import time
from typing import Any

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import short
from core.cli.resolve import NODE, resolve_id, self_node_id
from core.cli.session import Session, api_command
from core.model.durations import parse_length_ns

_DEFAULT_DEADLINE_NS = 3600 * 1_000_000_000
_FORCE_NS = -1  # Nomad: stop everything at once
_WAIT = "5s"


@api_command()
@click.argument("node", required=False)
@option("-deadline", metavar="duration", help="Stop what is left after this long (1h)")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-disable", is_flag=True, help="End the drain")
@option("-enable", is_flag=True, help="Begin to drain")
@option("-force", is_flag=True, help="Stop everything at once")
@option("-ignore-system", is_flag=True, help="Leave system jobs where they are")
@option("-keep-ineligible", is_flag=True, help="With -disable: still take no work")
@option("-m", "message", help="Why")
@option("-meta", "meta", multiple=True, metavar="key=value", help="Kept with the drain")
@option("-monitor", "only_monitor", is_flag=True, help="Only follow a drain under way")
@option("-no-deadline", is_flag=True, help="Wait as long as it takes")
@option("-self", "is_self", is_flag=True, help="The node of the agent we speak to")
@option("-yes", is_flag=True, help="Do not ask")
def drain(
    session: Session,
    *,
    node: str | None,
    deadline: str | None,
    detach: bool,
    disable: bool,
    enable: bool,
    force: bool,
    ignore_system: bool,
    keep_ineligible: bool,
    message: str | None,
    meta: tuple[str, ...],
    only_monitor: bool,
    no_deadline: bool,
    is_self: bool,
    yes: bool,
) -> int:
    """Move the work of NODE (an id or its beginning) elsewhere, or stop doing so."""
    if enable + disable + only_monitor != 1:
        raise CliError("say one of -enable, -disable, -monitor")
    if force + no_deadline + (deadline is not None) > 1:
        raise CliError("-force, -no-deadline and -deadline exclude each other")
    full = _node_id(session, node, is_self=is_self)
    if only_monitor:
        _follow_drain(session, full)
        return 0
    body: dict[str, Any] = {"NodeID": full, "DrainSpec": None, "MarkEligible": False}
    body["Meta"] = dict(item.partition("=")[::2] for item in meta)
    if message:
        body["Meta"]["message"] = message
    if disable:
        body["MarkEligible"] = not keep_ineligible
    else:
        deadline_ns = _FORCE_NS if force else _deadline_ns(deadline, no_deadline=no_deadline)
        body["DrainSpec"] = {"Deadline": deadline_ns, "IgnoreSystemJobs": ignore_system}
    session.api.put(f"/v1/node/{full}/drain", body)
    session.out.line(f'Node "{short(full)}" drain strategy {"set" if enable else "unset"}')
    if enable and not detach:
        _follow_drain(session, full)
    return 0


@api_command()
@click.argument("node", required=False)
@option("-disable", is_flag=True, help="Take no new work")
@option("-enable", is_flag=True, help="Take work again")
@option("-self", "is_self", is_flag=True, help="The node of the agent we speak to")
def eligibility(
    session: Session, *, node: str | None, disable: bool, enable: bool, is_self: bool
) -> int:
    """Let NODE (an id or its beginning) take new work, or not."""
    if enable == disable:
        raise CliError("say either -enable or -disable")
    full = _node_id(session, node, is_self=is_self)
    wanted = "eligible" if enable else "ineligible"
    session.api.put(f"/v1/node/{full}/eligibility", {"NodeID": full, "Eligibility": wanted})
    state = f"{wanted} for scheduling"
    session.out.line(f'Node "{short(full)}" scheduling eligibility set: {state}')
    return 0


def _node_id(session: Session, typed: str | None, *, is_self: bool) -> str:
    if is_self:
        return self_node_id(session)
    if typed is None:
        raise CliError("name a node, or say -self")
    return resolve_id(session, NODE, typed)


def _deadline_ns(text: str | None, *, no_deadline: bool) -> int:
    if no_deadline:
        return 0
    if text is None:
        return _DEFAULT_DEADLINE_NS
    try:
        return parse_length_ns(text)
    except ValueError as error:
        raise CliError(f"-deadline: {error}") from error


def _follow_drain(session: Session, node_id: str) -> None:
    """Report what leaves the node until the drain is over."""
    out, index = session.out, 0
    known: dict[str, str] = {}
    while True:
        reply = session.api.read(f"/v1/node/{node_id}", index=index or None, wait=_WAIT)
        for alloc in session.api.get(f"/v1/node/{node_id}/allocations") or []:
            state = f"{alloc['DesiredStatus']}/{alloc['ClientStatus']}"
            if known.get(alloc["ID"], state) != state:
                out.line(
                    f'Alloc "{short(alloc["ID"])}" is {alloc["ClientStatus"]} ({alloc["Name"]})'
                )
            known[alloc["ID"]] = state
        if not reply.body.get("DrainStrategy"):
            out.line(f'Node "{short(node_id)}" drain complete')
            return
        if not reply.index:
            time.sleep(0.5)
        index = reply.index
