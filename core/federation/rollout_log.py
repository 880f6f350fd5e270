"""Rollouts over several regions in their coordinator's log: the commands around multiregion.

One rollout per job name, the newest submitted here. It stays after its end, for who asks how
it went; only the newest `KEPT` do.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from core.federation import multiregion
from core.federation.claims import claim_key
from core.federation.multiregion import Report, Rollout
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "multiregion"
KEPT: Final = 1_000  # ended ones; more than anybody asks for


class BeginRollout(Command):
    """A job over several regions was submitted here, or is to be stopped in all of them."""

    rollout: Rollout


class TakeRegionReport(Command):
    """A region's home said how far it is; what follows of it is decided with it."""

    namespace: str
    job_id: str
    report: Report


class AdoptRollouts(Command):
    """Go on with rollouts whose coordinator is lost."""

    source: str  # datacenter id of it
    rollouts: list[Rollout]


def rollouts_of(state: "State") -> "Table[str, Rollout]":
    return state.table(TABLE)


def find_rollout(state: "State", namespace: str, job_id: str) -> Rollout | None:
    """Return the newest rollout of a job that is coordinated here."""
    return rollouts_of(state).get(claim_key(namespace, job_id))


def open_rollouts(state: "State") -> Iterator[Rollout]:
    """Yield those that are not over."""
    return (rollout for rollout in rollouts_of(state).values() if not rollout.is_over)


def begin_rollout(state: "State", command: BeginRollout, context: "Context") -> CommandResult:
    """Begin a rollout. 409 when a newer one began meanwhile; its own repetition is fine."""
    rollout = command.rollout
    table, key = rollouts_of(state), claim_key(rollout.namespace, rollout.job_id)
    known = table.get(key)
    if known is not None and known.generation == rollout.generation:
        return CommandResult(value={"Generation": rollout.generation})
    if known is not None and known.generation > rollout.generation:
        return CommandResult(
            error=f"job {rollout.job_id!r}: a newer version of it came meanwhile", status=409
        )
    table.delete(key)  # the table's order is that of the beginnings
    table.put(key, multiregion.begun(rollout, known))
    context.changed("multiregion", "RolloutBegun", rollout.job_id, rollout.namespace)
    _forget(table)
    return CommandResult(value={"Generation": rollout.generation})


def adopt_rollouts(state: "State", command: AdoptRollouts, context: "Context") -> CommandResult:
    """Coordinate these from now on, as far as nobody submitted anything newer here."""
    table = rollouts_of(state)
    for rollout in command.rollouts:
        key = claim_key(rollout.namespace, rollout.job_id)
        known = table.get(key)
        if known is not None and known.generation >= rollout.generation:
            continue
        table.delete(key)
        table.put(key, msgspec.structs.replace(rollout, coordinator=state.datacenter_id))
        context.changed("multiregion", "RolloutAdopted", rollout.job_id, rollout.namespace)
    _forget(table)
    return CommandResult()


def take_region_report(
    state: "State", command: TakeRegionReport, context: "Context"
) -> CommandResult:
    """Keep a report and decide by it. `value`: {IsChanged}."""
    table, key = rollouts_of(state), claim_key(command.namespace, command.job_id)
    known = table.get(key)
    now = multiregion.report(known, command.report) if known is not None else None
    if known is None or now is None or now == known:
        return CommandResult(value={"IsChanged": False})
    table.put(key, now)
    context.changed("multiregion", "RolloutChanged", command.job_id, command.namespace)
    return CommandResult(value={"IsChanged": True})


def _forget(table: "Table[str, Rollout]") -> None:
    """Drop the oldest that are over, beyond what is kept."""
    excess = len(table) - KEPT
    for key in [key for key, one in table.items() if one.is_over][: max(0, excess)]:
        table.delete(key)


register_table(TABLE, Rollout)
register_handler(BeginRollout, begin_rollout)
register_handler(AdoptRollouts, adopt_rollouts)
register_handler(TakeRegionReport, take_region_report)
