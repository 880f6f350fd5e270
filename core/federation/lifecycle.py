"""A datacenter that takes its leave: the flag in its own log that everybody hears of.

A draining datacenter takes nothing new. Its flag travels in its digest; each home moves what
it runs there to datacenters that have room, a few at a time (core.federation.splitting), and
a job whose home is here goes the same way, whether or not it would spill over by itself.
Whatever finds no room elsewhere stays, and runs on: a drain never takes anything down. A job
of which nothing runs here any more gets another home (core.federation.departing).
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.roster import is_own_off
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "lifecycle"
_OWN: Final = "own"


class Lifecycle(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Where this datacenter stands."""

    is_draining: bool = False
    since_us: int = 0  # log time
    index: int = 0  # of the entry that said so
    is_leaving: bool = False  # empty, and for good: core.federation.leaving


class SetDatacenterDrain(Command):
    """Begin to empty this datacenter, or take that back."""

    is_draining: bool


class Remaining(msgspec.Struct):
    """What a draining datacenter still has to give away."""

    instances: int  # live, those of system jobs not counted: they run on every node
    homes: int  # jobs whose home it is, stopped ones too; their children go with them
    shares: int  # jobs of other homes


def lifecycle_of(state: "State") -> Lifecycle:
    """Return where this datacenter stands."""
    found: Lifecycle | None = state.table(TABLE).get(_OWN)
    return found or Lifecycle()


def put_lifecycle(state: "State", lifecycle: Lifecycle) -> None:
    """For handlers only."""
    state.table(TABLE).put(_OWN, lifecycle)


def is_draining(state: "State") -> bool:
    return lifecycle_of(state).is_draining


def is_leaving(state: "State") -> bool:
    """Whether it takes nothing any more, and goes as soon as the roster says so."""
    return lifecycle_of(state).is_leaving


def takes_nothing(state: "State") -> bool:
    """Whether nothing new may come here: it is drained, or not of the federation any more."""
    return is_draining(state) or is_own_off(state)


def remaining(state: "State") -> Remaining:
    """Count what is left here."""
    left = Remaining(0, 0, 0)
    for record in state.jobs:
        if record.home:
            left.shares += bool(state.jobs.live(record))
        else:
            left.homes += not record.job.parent_id
        if record.job.type not in ("system", "sysbatch"):
            left.instances += state.jobs.live(record)
    return left


def set_datacenter_drain(
    state: "State", command: SetDatacenterDrain, context: "Context"
) -> CommandResult:
    """Set the flag; what is said already keeps its time. `value`: {IsDraining}."""
    if is_leaving(state) and not command.is_draining:
        text = f"datacenter {state.datacenter} is leaving the federation: that is final"
        return CommandResult(error=text, status=409)
    if command.is_draining != is_draining(state):
        put_lifecycle(
            state,
            Lifecycle(
                is_draining=command.is_draining, since_us=context.time_us, index=context.index
            ),
        )
        what = "DatacenterDrain" if command.is_draining else "DatacenterDrainEnded"
        context.changed("lifecycle", what, state.datacenter_id)
    return CommandResult(value={"IsDraining": command.is_draining})


register_table(TABLE, Lifecycle)
register_handler(SetDatacenterDrain, set_datacenter_drain)
