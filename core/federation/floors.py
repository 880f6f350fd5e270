"""What a datacenter remembers of indices that its own log did not give.

* A region that was once of several datacenters keeps virtual indices for ever: a caller
  who holds one would wait without end for a single log to come so far.
* A job that moved here keeps its index beyond those that its last home gave, so whoever
  waits for a change of it neither misses one nor sees it go back: what is added to this
  log's own indices is its floor.
"""

from typing import TYPE_CHECKING, Final

from core.federation.claims import claim_key
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "index_floors"
_REGION: Final = ""  # the key that no job has: claim_key() always holds a zero byte


class SpanRegion(Command):
    """This region has, or had, several datacenters."""


class RaiseIndexFloor(Command):
    """A job came here from a log in which its index was `floor`. With its activation."""

    namespace: str
    job_id: str
    floor: int


def is_spanned(state: "State") -> bool:
    """Return whether lists of this region have virtual indices."""
    return _REGION in state.table(TABLE)


def floor_of(state: "State", namespace: str, job_id: str) -> int:
    """Return what is added to the indices of answers about a job; 0 for most."""
    return int(state.table(TABLE).get(claim_key(namespace, job_id)) or 0)


def span_region(state: "State", command: SpanRegion, context: "Context") -> CommandResult:
    state.table(TABLE).put(_REGION, 1)
    return CommandResult()


def raise_index_floor(
    state: "State", command: RaiseIndexFloor, context: "Context"
) -> CommandResult:
    """Have the job's index begin beyond `floor`, at this very entry. `value`: what is added."""
    key = claim_key(command.namespace, command.job_id)
    known = int(state.table(TABLE).get(key) or 0)
    added = max(known, command.floor + 1 - context.index)
    if added > 0:
        state.table(TABLE).put(key, added)
    return CommandResult(value=added)


register_table(TABLE, int)
register_handler(SpanRegion, span_region)
register_handler(RaiseIndexFloor, raise_index_floor)
