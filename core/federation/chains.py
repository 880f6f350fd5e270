"""`job why`: the events of one job out of several datacenters' logs, told in order.

Each datacenter gives what it knows (`told_here`): the chain it recorded and, if it is the
job's home, what the job's versions tell. `joined` makes one story of them, one per uid:

* copies of an event are one (`Event.id`);
* order is that of hybrid time, but never an effect before its cause, whatever clocks say;
* an event stands one step further in than what led to it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.causes import Chain, Event, Kind, chain_of, merged
from core.federation.claims import Claim, find_claim
from core.model.timestamp import rfc3339

if TYPE_CHECKING:
    from core.state.jobs import JobRecord
    from core.state.state import State

# What is said of each kind: pieces in order, each said only if all its facts are there.
_SENTENCES: Final[dict[str, tuple[str, ...]]] = {
    Kind.SUBMITTED: ("submitted here",),
    Kind.FORWARDED: ("passed on to {to}", " ({method})"),
    Kind.ASKED: (
        "asked {to}", " to let the job wait there{may_queue}", ": {verdict}", ", score {score}",
        ", by its digest of {digest_age} ago",
    ),
    Kind.REFUSED: ("refused", " by {by}", ": {reason}", " (digest {digest_age} old)"),
    Kind.SILENT: ("no answer of {to}", ": {reason}"),
    Kind.CLAIMED: ("name claimed for {home}", ", epoch {epoch}"),
    Kind.REGISTERED: ("registered", " version {version}", ": {counts}", ", unchanged{unchanged}"),
    Kind.SCALED: ("scaled", ", version {version}", ": {counts}"),
    Kind.REVERTED: ("reverted", ", version {version}", ": {counts}"),
    Kind.STOPPED: ("stopped", ", version {version}"),
    Kind.PURGED: ("purged",),
    Kind.SPLIT: ("split: {counts}", " because {reason}"),
    Kind.SHARED: (
        "share of {count} sent to {to}", ", version {version}", ": {indices}",
        ", by its digest of {digest_age} ago",
    ),
    Kind.RELEASED: ("{count} released at {at}", ": {reason}"),
    Kind.BLOCKED: ("{count} can't be placed here", ": {reason}"),
    Kind.SPILLED: (
        "{count} spilled over to {to}", " from {source}", " because {reason}",
        ", by its digest of {digest_age} ago",
    ),
    Kind.EVACUATED: ("{count} taken out of {source}, which is drained", " to {to}", ": {reason}"),
    Kind.RECLAIMED: ("{count} taken back from {source}", " to {to}", ": {reason}"),
    Kind.MOVED: ("{count} moved", " from {source}", " to {to}", " because {reason}",
                 ", by its digest of {digest_age} ago"),
    Kind.PARKED: ("share parked at {at}", ": {reason}"),
    Kind.SURGED: ("{count} surge copies at {to}", " for {source}", ": {reason}"),
    Kind.HEALED: ("{at} answers again", ": {reason}"),
    Kind.HANDED_OVER: ("home handed over to {to}", ", epoch {epoch}"),
    Kind.ADOPTED: ("adopted by {to}", " from {source}", ", epoch {epoch}"),
}  # fmt: skip
_DEEPEST: Final = 100
_CLOCK_OFF_US: Final = 1_000_000  # a wall clock further from hybrid time is pointed out


def sentence(event: Event) -> str:
    """Return what happened, in words; of an unknown kind, its word and all its facts."""
    facts = {name: value for name, value in event.facts.items() if value not in ("", None)}
    if (age_ms := facts.get("digest_age_ms")) is not None:
        facts["digest_age"] = f"{age_ms / 1000:.1f} s"
    for flag in ("may_queue", "unchanged"):  # said by their piece's words, not by a value
        if flag in facts:
            facts[flag] = ""
            if not event.facts[flag]:
                del facts[flag]
    pieces = _SENTENCES.get(event.kind)
    if pieces is None:
        told = ", ".join(f"{name} {value}" for name, value in facts.items())
        return f"{event.kind}: {told}" if told else event.kind
    said = []
    for piece in pieces:
        try:
            said.append(piece.format_map(facts))
        except KeyError:
            continue
    return "".join(said) or event.kind


def versions_of(state: "State", record: "JobRecord", known: Iterable[Event]) -> list[Event]:
    """Return events for the kept versions of a job that no recorded event speaks of."""
    known = list(known)
    spoken_of = {event.facts.get("submitted_us") for event in known}
    taken = {event.id for event in known}
    events = []
    for job in reversed([record.job, *record.older]):
        submitted_us = (job.submit_time_ns or 0) // 1000
        if submitted_us in spoken_of:
            continue
        event = Event(
            kind=Kind.STOPPED if job.stop else Kind.REGISTERED,
            uid=record.uid,
            hlc_us=submitted_us,
            wall_us=submitted_us,
            region=state.region,
            datacenter=state.datacenter,
            datacenter_id=state.datacenter_id,
            facts=_version_facts(job),
        )
        events.append(_apart(event, taken))
        taken.add(events[-1].id)
    return events


def _apart(event: Event, taken: set[str]) -> Event:
    """Return an event that nobody recorded with a time, and so an id, of its own."""
    while event.id in taken:
        event = msgspec.structs.replace(event, hlc_us=event.hlc_us + 1)
    return event


def _version_facts(job: Any) -> dict[str, Any]:
    counts = ", ".join(
        f"{group.name} {1 if group.count is None else group.count}"
        for group in job.task_groups or []
    )
    return {"version": job.version or 0, "counts": counts}


class Told(msgspec.Struct, kw_only=True):
    """What one datacenter knows of a job's name; travels as the body of `Job.Chain`."""

    region: str
    datacenter: str
    datacenter_id: str
    events: list[Event] = []
    dropped: int = 0
    home_of: str = ""  # uid; "" = the job's home is elsewhere
    status: str = ""
    claim: Claim | None = None  # of the name, where this is its authority


def told_here(state: "State", namespace: str, job_id: str) -> Told:
    """Return what this datacenter knows."""
    chain: Chain = chain_of(state, namespace, job_id)
    record = state.jobs.get(namespace, job_id)
    told = Told(
        region=state.region,
        datacenter=state.datacenter,
        datacenter_id=state.datacenter_id,
        events=list(chain.events),
        dropped=chain.dropped,
        claim=find_claim(state, namespace, job_id),
    )
    if record is None or record.home:  # a part of a job tells no more than its chain
        return told
    by_time = {(job.submit_time_ns or 0) // 1000: job for job in (record.job, *record.older)}
    recorded = []
    for event in chain.events:
        submitted_us = event.facts.get("submitted_us")
        if submitted_us is not None and event.datacenter_id == state.datacenter_id:
            job = by_time.get(submitted_us)
            # A registration that changed nothing made no version.
            facts = _version_facts(job) if job is not None else {"unchanged": True}
            event = msgspec.structs.replace(event, facts={**event.facts, **facts})
        recorded.append(event)
    told.events = merged(recorded, versions_of(state, record, chain.events))
    told.home_of = record.uid
    told.status = record.status
    return told


def joined(parts: list[Told], names: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Return one story per uid, the one that happened last coming last.

    Args:
        names: Datacenter id -> "region/datacenter", as far as known.
    """
    names = names or {}
    told = {
        (event.uid, event.datacenter_id)
        for part in parts
        for event in part.events
        if event.kind == Kind.CLAIMED
    }
    parts = [_with_claim(part, names, told) for part in parts]
    fullest: dict[str, Event] = {}
    for part in parts:
        for event in part.events:
            held = fullest.get(event.id)
            # The datacenter it happened in may know more of it by now than its copies do.
            if held is None or part.datacenter_id == event.datacenter_id:
                fullest[event.id] = event
    by_uid: dict[str, list[Event]] = {}
    for event in merged(fullest.values()):
        by_uid.setdefault(event.uid, []).append(event)
    stories = []
    for uid, events in by_uid.items():
        home = next((part for part in parts if uid and part.home_of == uid), None)
        claims = [part.claim for part in parts if part.claim and part.claim.uid == uid]
        claimed = names.get(claims[0].home, claims[0].home) if claims else ""
        stories.append(
            {
                "UID": uid,
                "Home": f"{home.region}/{home.datacenter}" if home is not None else claimed,
                "Status": home.status if home is not None else "unknown" if claims else "",
                "Events": _rows(events),
            }
        )
    return stories


def _with_claim(part: Told, names: dict[str, str], told: set[tuple[str, str]]) -> Told:
    """Return what an authority told with the event of its claim, if nobody recorded it."""
    claim = part.claim
    if claim is None or (claim.uid, part.datacenter_id) in told:
        return part
    event = Event(
        kind=Kind.CLAIMED,
        uid=claim.uid,
        hlc_us=claim.created_us,
        wall_us=claim.created_us,
        region=part.region,
        datacenter=part.datacenter,
        datacenter_id=part.datacenter_id,
        facts={"home": names.get(claim.home, claim.home), "epoch": claim.epoch},
    )
    event = _apart(event, {one.id for one in part.events})
    return msgspec.structs.replace(part, events=merged(part.events, [event]))


def _rows(events: list[Event]) -> list[dict[str, Any]]:
    """Return events in order, each behind its causes and one step further in."""
    by_id = {event.id: event for event in events}
    places: dict[str, tuple[int, int]] = {}  # id -> time not before its causes', depth

    def place(event: Event, path: frozenset[str]) -> tuple[int, int]:
        if event.id in places:
            return places[event.id]
        time_us, depth = event.hlc_us, 0
        for cause_id in event.after:
            cause = by_id.get(cause_id)
            if cause is None or cause_id in path or len(path) > _DEEPEST:
                continue  # not kept any more; or nonsense
            before_us, above = place(cause, path | {event.id})
            time_us = max(time_us, before_us + 1)
            depth = max(depth, above + 1)
        places[event.id] = time_us, depth
        return time_us, depth

    for event in events:
        place(event, frozenset())
    ordered = sorted(events, key=lambda one: (places[one.id][0], one.datacenter_id))
    return [_row(event, places[event.id][1]) for event in ordered]


def _row(event: Event, depth: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "ID": event.id,
        "Kind": event.kind,
        "Region": event.region,
        "Datacenter": event.datacenter,
        "DatacenterID": event.datacenter_id,
        "Time": rfc3339(event.wall_us),
        "HybridTime": event.hlc_us,
        "ClockOff": 0,
        "Depth": depth,
        "After": list(event.after),
        "Facts": event.facts,
        "Text": sentence(event),
    }
    if abs(event.hlc_us - event.wall_us) > _CLOCK_OFF_US:
        row["ClockOff"] = (event.wall_us - event.hlc_us) // 1_000_000  # seconds
    return row
