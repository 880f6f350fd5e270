"""Registrations that a datacenter has given up: their job is never committed here any more.

A name that was claimed for a job is given free again when its registration fails. But the same
call may be on its way a second time, or what the leader before proposed may be committed yet;
had the name been given to somebody else by then, it would have two homes. So the home first
commits that it gives up: of that entry and the job's the one that is earlier in its log decides,
and only what is given up here is given free elsewhere (core.federation.taking).
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.claims import refuse_uid
from core.federation.handing import is_on_its_way
from core.federation.home_log import homes_of
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import guard_names
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "given_up"
KEPT_US: Final = 48 * 3600 * 1_000_000  # twice as long as a call may be repeated


class GivenUp(msgspec.Struct, frozen=True):
    """By uid, in the order of time."""

    at_us: int


class GiveUpName(Command):
    """Never commit a job of this uid here, unless it was already."""

    namespace: str
    job_id: str
    uid: str


def give_up_name(state: "State", command: GiveUpName, context: "Context") -> CommandResult:
    """Leave a tombstone for a uid. `value`: {"IsHere": whether the job has its home here}."""
    uid, record = command.uid, state.jobs.get(command.namespace, command.job_id)
    if record is not None and record.uid == uid and not record.home:
        return CommandResult(value={"IsHere": True})
    if uid in homes_of(state) or is_on_its_way(state, uid):
        return CommandResult(value={"IsHere": True})
    table = state.table(TABLE)
    for old, given_up in [*table.items()]:
        if context.time_us - given_up.at_us < KEPT_US:
            break
        table.delete(old)
    table.put(uid, GivenUp(at_us=context.time_us))
    refuse_uid(state, command.namespace, command.job_id, uid, context)
    return CommandResult(value={"IsHere": False})


def refuse_given_up(state: "State", namespace: str, job_id: str, uid: str) -> str:
    """Return why a new job must not be registered; asked in apply."""
    return "this registration was given up: send it anew" if uid in state.table(TABLE) else ""


register_table(TABLE, GivenUp)
register_handler(GiveUpName, give_up_name)
guard_names(refuse_given_up)
