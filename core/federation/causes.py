"""The causal log: what was decided about a job, where, when, and because of what.

    cause(Kind.MOVED, namespace, job_id, uid, after=[...], to="us/dc1", count=3)

returns a command. Whoever decides proposes it in the same log entry as the decision, behind
it: the one is kept exactly if the other is, and the next leader knows both.

An **event** is made once, by the datacenter it happened in, and never changed. It rides in
calls to other datacenters and in their answers, and whoever acts on it commits a copy; its
id says which are copies of one. So what was refused elsewhere is known at the home even
when the refusing datacenter can't be asked any more.

**Time.** Each event has the wall clock of its datacenter, for people, and a hybrid logical
time, for order (Kulkarni et al., "Logical Physical Clocks", 2014): microseconds since 1970
like the wall clock, but beyond everything this datacenter has heard of before. The calls
between datacenters carry it both ways. A clock that is hours ahead pulls the logical time
of all others with it, never their wall times; one that is more than a day ahead is not
believed, then `after` alone says what came of what.

Bounded: the newest `EVENTS_KEPT` of a job. A chain outlives its job by a day.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from core.federation.claims import claim_key
from core.model.host import Now
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "causes"
CLOCK_TABLE: Final = "causal_clock"
EVENTS_KEPT: Final = 64  # of one job; a page of history, some 10 KiB
KEPT_US: Final = 24 * 3600 * 1_000_000  # after the job is gone
AHEAD_MAX_US: Final = 24 * 3600 * 1_000_000  # a clock further ahead is not followed
TRAIL_MAX: Final = 48  # events in one call; three bounces of each of three hops make fewer
TEXT_MAX: Final = 500  # characters of one fact
_LOOKED_AT: Final = 4  # old chains an entry looks at, to see whether their jobs are gone
_NEWEST: Final = "newest"


class Kind(StrEnum):
    """What happened. The facts that each one brings are those of core.federation.chains."""

    SUBMITTED = "submitted"
    FORWARDED = "forwarded"
    ASKED = "asked"
    REFUSED = "refused"
    SILENT = "silent"
    CLAIMED = "claimed"
    REGISTERED = "registered"
    SCALED = "scaled"
    REVERTED = "reverted"
    STOPPED = "stopped"
    PURGED = "purged"
    SPLIT = "split"
    SHARED = "shared"
    RELEASED = "released"
    BLOCKED = "blocked"
    SPILLED = "spilled"
    RECLAIMED = "reclaimed"
    EVACUATED = "evacuated"
    MOVED = "moved"
    PARKED = "parked"
    SURGED = "surged"
    HEALED = "healed"
    HANDED_OVER = "handed over"
    ADOPTED = "adopted"


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One thing that happened, in one datacenter. Immutable; equal ids are copies."""

    kind: str
    uid: str = ""  # of the job
    hlc_us: int = 0  # hybrid logical time; 0 = not stamped yet
    wall_us: int = 0  # clock of the datacenter it happened in
    region: str = ""
    datacenter: str = ""
    datacenter_id: str = ""
    after: tuple[str, ...] = ()  # ids of the events that led to it
    facts: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """Return what names the event everywhere: no datacenter gives a time twice."""
        return f"{self.hlc_us:x}.{self.datacenter_id}"


class Chain(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known here of one job's name, by hybrid time."""

    namespace: str
    job_id: str
    events: tuple[Event, ...] = ()
    dropped: int = 0  # older events that are not kept any more
    changed_us: int = 0  # log time


class RecordCause(Command):
    """Keep events; those without a time happened here, with this entry."""

    namespace: str
    job_id: str
    events: list[Event]
    seen_us: int = 0  # newest hybrid time that the proposer had heard of


def cause(
    kind: str, namespace: str, job_id: str, uid: str, *, after: Iterable[str] = (), **facts: Any
) -> RecordCause:
    """Return the command that records a decision of this datacenter.

    To be proposed in the same entry as the decision. Time and place are filled in when it
    is applied.

    Args:
        kind: One of `Kind`, or a word of its own.
        after: Ids of the events that led to it.
        facts: Plain data; long texts are cut.
    """
    event = Event(kind=str(kind), uid=uid, after=tuple(after), facts=_cut(facts))
    return RecordCause(namespace=namespace, job_id=job_id, events=[event])


def events_of(trail: Any) -> list[Event]:
    """Return the events that a call carried; what is none is left out."""
    events = []
    for one in trail if isinstance(trail, list | tuple) else ():
        try:
            events.append(msgspec.convert(one, Event))
        except msgspec.ValidationError:
            continue
    return [event for event in events if event.hlc_us][-TRAIL_MAX:]


def plain_events(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return events as a call carries them."""
    return [msgspec.to_builtins(event) for event in events]


def last_of(trail: Any) -> list[str]:
    """Return the id of a trail's last event, as what led to the next one."""
    return [event.id for event in events_of(trail)[-1:]]


def chains_of(state: "State") -> "Table[str, Chain]":
    return state.table(TABLE)


def chain_of(state: "State", namespace: str, job_id: str) -> Chain:
    """Return what this datacenter's log knows of a job's name; empty when nothing."""
    known = chains_of(state).get(claim_key(namespace, job_id))
    return known if known is not None else Chain(namespace=namespace, job_id=job_id)


def newest_us(state: "State") -> int:
    """Return the newest hybrid time in a log."""
    return int(state.table(CLOCK_TABLE).get(_NEWEST) or 0)


def merged(*parts: Iterable[Event]) -> list[Event]:
    """Return the events of several chains, copies once, by hybrid time."""
    by_id = {event.id: event for part in parts for event in part}
    return sorted(by_id.values(), key=lambda event: (event.hlc_us, event.datacenter_id))


def record_cause(state: "State", command: RecordCause, context: "Context") -> CommandResult:
    """Keep the events of one job. `value`: the ids of those that were stamped here.

    A decision that was refused did not happen: nor did what was to be recorded of it.
    """
    if any(result.is_error for result in context.results):
        return CommandResult(value=[])
    clock = max(newest_us(state), _believed(command.seen_us, context.time_us))
    for event in command.events:
        clock = max(clock, _believed(event.hlc_us, context.time_us))
    stamped: list[Event] = []
    given: list[str] = []
    for event in command.events:
        if not event.hlc_us:
            clock = max(context.time_us, clock + 1)
            event = msgspec.structs.replace(
                event, hlc_us=clock, wall_us=context.time_us, region=state.region,
                datacenter=state.datacenter, datacenter_id=state.datacenter_id,
            )  # fmt: skip
            given.append(event.id)
        stamped.append(event)
    state.table(CLOCK_TABLE).put(_NEWEST, clock)
    chains = chains_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = chains.delete(key) or Chain(namespace=command.namespace, job_id=command.job_id)
    events = merged(known.events, stamped)
    over = max(0, len(events) - EVENTS_KEPT)
    chains.put(  # at the end: the table's order is that of the last change
        key,
        msgspec.structs.replace(
            known,
            events=tuple(events[over:]),
            dropped=known.dropped + over,
            changed_us=context.time_us,
        ),
    )
    _forget(state, context.time_us)
    context.changed("causes", "CauseRecorded", command.job_id, command.namespace)
    return CommandResult(value=given)


def _forget(state: "State", now_us: int) -> None:
    """Drop chains whose jobs are gone for a day; a few at each entry, oldest first."""
    chains = chains_of(state)
    for _ in range(_LOOKED_AT):
        key = next(iter(chains))
        chain = chains.get(key)
        assert chain is not None, "the key was read from the table"
        if chain.changed_us + KEPT_US >= now_us:
            return
        chains.delete(key)
        if state.jobs.get(chain.namespace, chain.job_id) is not None:
            chains.put(key, chain)


def _believed(hlc_us: int, wall_us: int) -> int:
    return hlc_us if hlc_us - wall_us <= AHEAD_MAX_US else 0


def _cut(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[: TEXT_MAX - 1] + "…"
        if isinstance(value, str) and len(value) > TEXT_MAX
        else value
        for name, value in facts.items()
        if value is not None
    }


class Place(Protocol):
    """The server that a causal clock belongs to."""

    region: str
    datacenter: str

    @property
    def now(self) -> Now: ...

    @property
    def datacenter_id(self) -> str: ...

    @property
    def state(self) -> "State": ...


class CausalClock:
    """The hybrid clock of one server: stamps what is not (yet) committed.

    Invariant: `read()` is beyond every time that this server's log holds, that was stamped
    here, or that came with a call and was believed.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._newest_us = 0

    def read(self) -> int:
        """Return the time to send along with a call, microseconds."""
        self._newest_us = max(
            self._place.now.wall_us, self._newest_us + 1, newest_us(self._place.state) + 1
        )
        return self._newest_us

    def merge(self, hlc_us: Any) -> None:
        """Take in the time that came with a call; what is none is ignored."""
        if isinstance(hlc_us, int) and not isinstance(hlc_us, bool):
            believed = _believed(hlc_us, self._place.now.wall_us)
            self._newest_us = max(self._newest_us, believed)

    def event(self, kind: str, uid: str = "", *, after: Iterable[str] = (), **facts: Any) -> Event:
        """Return an event of now and here, to ride in calls until somebody commits it."""
        place = self._place
        return Event(
            kind=str(kind),
            uid=uid,
            hlc_us=self.read(),
            wall_us=place.now.wall_us,
            region=place.region,
            datacenter=place.datacenter,
            datacenter_id=place.datacenter_id,
            after=tuple(after),
            facts=_cut(facts),
        )

    def seen(self, command: Any) -> Any:
        """Return a command to propose; a `RecordCause` learns what was heard of in calls."""
        if isinstance(command, RecordCause):
            for event in command.events:
                self.merge(event.hlc_us)
            return msgspec.structs.replace(command, seen_us=self._newest_us)
        return command


register_table(TABLE, Chain)
register_table(CLOCK_TABLE, int)
register_handler(RecordCause, record_cause)
