"""A datacenter that is empty leaves the federation, by its own word.

    1. the operator says so; it is committed here only while nothing of others is left: from
       then on no share and no job is taken, and the drain can't be taken back
    2. the region's authority is asked to take it off the roster, until it has
    3. the roster says so everywhere; here as well, and what system jobs still run stops

Whoever leads goes on with 2. That what was held here counts for nothing afterwards is safe,
for nothing was held at 1, and nothing came since.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.handing import arrivals_of, departures_of
from core.federation.host import CALL_TIMEOUT_US, Done, is_not_from
from core.federation.lifecycle import is_leaving, lifecycle_of, put_lifecycle, remaining
from core.federation.rhythm import Rhythm
from core.federation.roster import is_own_off
from core.federation.roster_log import DeclareOff
from core.federation.share_log import report_of, watermarks_of
from core.model.host import Peer
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import guard_names
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.state.context import Context
    from core.state.state import State

LOOK_US: Final = 1_000_000


class BeginLeave(Command):
    """This datacenter is empty and takes nothing any more."""


def hindrance(state: "State") -> str:
    """Return why a datacenter must not leave now, "" when nothing is left in it."""
    if state.is_authority:
        text = "it is the region's authority: let another be that first (authority transfer)"
    elif not lifecycle_of(state).is_draining:
        text = "it is not being emptied: datacenter drain -enable goes first"
    elif left := _left(state):
        text = f"{left}: wait until the drain is through (datacenter drain shows it)"
    else:
        return ""
    return f"datacenter {state.datacenter} can't leave, {text}"


def _left(state: "State") -> str:
    found = remaining(state)
    if found.instances or found.homes:
        return f"{found.instances} instances and {found.homes} jobs at home are left"
    if len(departures_of(state)) or len(arrivals_of(state)):
        return "a job's home is on its way still"
    for mark in watermarks_of(state).values():
        report = report_of(state, mark.uid)
        if mark.place < 0 and report is not None and report.holds:
            return f"job {mark.job_id!r} may run on here, on a node that is down"
    return ""


def begin_leave(state: "State", command: BeginLeave, context: "Context") -> CommandResult:
    """Take nothing any more. `value`: {IsLeaving}."""
    if not is_leaving(state):
        if error := hindrance(state):
            return CommandResult(error=error, status=409)
        put_lifecycle(state, msgspec.structs.replace(lifecycle_of(state), is_leaving=True))
        context.changed("lifecycle", "DatacenterLeaving", state.datacenter_id)
    return CommandResult(value={"IsLeaving": True})


def refuse_new(state: "State", namespace: str, job_id: str, uid: str) -> str:
    """Return why no new job may have its home here, "" when it may."""
    if not is_leaving(state):
        return ""
    return f"datacenter {state.datacenter} is leaving the federation: register the job elsewhere"


class Leaving:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._is_busy = False
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        self._is_busy = False
        self._rhythm.on_leadership(is_leader)

    def look(self) -> None:
        state = self._host.state
        if self._is_busy or not is_leaving(state) or is_own_off(state):
            return
        authority = self._coordinator.authority()
        if not authority:
            return
        self._is_busy = True

        def done(_: Any, error: str) -> None:
            self._is_busy = False
            if error:
                self._host.log("warning", "the roster can't be left now", reason=error)

        body = {"ID": state.datacenter_id}
        self._host.ask(authority, "Roster.Leave", body, CALL_TIMEOUT_US, done)

    def on_leave(self, body: Any, source: Peer, reply: Done) -> None:
        """Take a datacenter off the roster: it says itself that it is empty."""
        dc = str(body["ID"])
        if wrong := is_not_from(source, dc):
            reply(None, wrong)
            return
        self._host.propose([DeclareOff(datacenter_id=dc, has_left=True)], reply)


register_handler(BeginLeave, begin_leave)
guard_names(refuse_new)
