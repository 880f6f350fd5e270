"""Homes in the log: the commands that change them, and how they are applied.

`PutParts` is the only command that gives anybody anything. It names what each datacenter
shall run; apply has the last word, on the state as it is then: only what is wanted and free
is given (core.federation.homes), and nothing when the home has changed since the decision.

A home is made by the first `PutParts` of a job; a job that lives whole in one datacenter
has none. The home's own datacenter is a part like any other, but that what it holds is read
off its allocations in the same apply.

    Invariant: after each entry `JobRecord.indices` is what the own part is allowed.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import homes, ranges
from core.federation.claims import ExtendClaim, extend_claim
from core.federation.held import held, is_everywhere
from core.federation.homes import Home, NotFree, Part, Report
from core.federation.ranges import Indices
from core.federation.rolling import told_versions
from core.federation.roster import is_off
from core.federation.share_log import for_record
from core.model.evaluation import Evaluation
from core.model.job import Job
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.rollouts import ACTIVE_DEPLOYMENTS, put_evaluation
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "homes"
GONE_VERSION: Final = -1  # of a part whose share is a tombstone


class PutParts(Command):
    """Set what these datacenters may run of a job, each its final set; others keep theirs."""

    namespace: str
    job_id: str
    uid: str
    expected: int  # home index that the decision was made on; 0 = there was no home
    epoch: int = 0  # of the claim, for a new home
    allowed: dict[str, Indices] = {}  # noqa: RUF012 - by datacenter id
    copies: tuple[tuple[str, str, Indices], ...] = ()  # surge: cut off, runs a copy, what
    regions: tuple[str, ...] = ()  # where the name is held for it by now
    evaluation: Evaluation | None = None  # for the own part


class ParkOwnPart(Command):
    """An operator stops, or starts again, what the home's own datacenter runs of a job."""

    namespace: str
    job_id: str
    uid: str
    is_parked: bool
    evaluation: Evaluation | None = None


class TakeReport(Command):
    """Keep a datacenter's word on its share."""

    report: Report


def homes_of(state: "State") -> "Table[str, Home]":
    return state.table(TABLE)


def find_home(state: "State", namespace: str, job_id: str) -> Home | None:
    """Return the home of a job that has, had or may get parts elsewhere; None for others."""
    record = state.jobs.get(namespace, job_id)
    return None if record is None else homes_of(state).get(record.uid)


def datacenters_of(state: "State", namespace: str, job_id: str) -> tuple[str, ...]:
    """Return the ids of the datacenters that may have allocations of a job, the own one first."""
    home = find_home(state, namespace, job_id)
    others = sorted(home.parts) if home is not None else []
    return (state.datacenter_id, *(one for one in others if one != state.datacenter_id))


def claimed_record(state: "State", record: JobRecord) -> JobRecord:
    """Return the job whose claim covers this one: a child's parent's, for it lives there."""
    parent = state.jobs.get(record.namespace, record.job.parent_id or "")
    return record if parent is None else parent


def wanted_of(record: JobRecord | None) -> Indices:
    """Return every index that a job asks for; none when it is stopped or gone."""
    if record is None or record.is_stopped or record.job.is_template:
        return {}
    return ranges.indices(
        {
            group.name: ranges.first(1 if group.count is None else group.count)
            for group in record.job.task_groups or []
        }
    )


def current(state: "State", home: Home) -> Home:
    """Return the home as the job is now, with what this datacenter really holds.

    Of a system job what is wanted is not counted but given by place; a stopped one has none.
    """
    record = state.jobs.by_uid(home.uid)
    is_purged = record is None or record.is_purged
    wanted = wanted_of(record)
    if record is not None and wanted and is_everywhere(record.job):
        wanted = _every_place(record, home)
    own = state.datacenter_id
    parts = dict(home.parts)
    if own in parts:
        part = parts[own]
        allowed = ranges.shared(part.allowed, wanted)
        found = held(state, home.uid, allowed, part.place)
        parts[own] = msgspec.structs.replace(
            part,
            allowed=allowed,
            holds=ranges.merged(allowed, found.busy),
            running=found.running,
            blocked=found.blocked,
            blocked_since_us=found.blocked_since_us,
            live=found.live,
            rolled=found.rolled,
            failed=found.failed,
        )
    policy = record.job.federation if record is not None else None
    return msgspec.structs.replace(
        home,
        parts=parts,
        wanted=wanted,
        version=GONE_VERSION if is_purged or record is None else record.version,
        is_purged=is_purged,
        is_surge=policy is not None and policy.partition == "surge",
    )


def _every_place(record: JobRecord, home: Home) -> Indices:
    places = ranges.ranges((part.place, part.place + 1) for part in home.parts.values())
    return ranges.indices({group.name: places for group in record.job.task_groups or []})


def planned_home(state: "State", job: Job) -> Home:
    """Return the home that a job would have that is not registered yet: nobody has a part."""
    place = 0 if is_everywhere(job) else -1
    wanted = {group.name: ranges.first(1 if group.count is None else group.count)
              for group in job.task_groups or []}  # fmt: skip
    return Home(
        namespace=job.namespace or "default",
        job_id=job.id or "",
        uid=job.uid or "",
        epoch=0,
        region=job.region or state.region,
        wanted=ranges.indices(wanted),
        parts={state.datacenter_id: Part(place=place)},
    )


def is_due(state: "State", home: Home) -> bool:
    """Whether a home has fallen behind its job: somebody must hear of a change."""
    now = current(state, home)
    told = told_versions(state, now)
    return now.is_done or any(
        _is_told(now, part, told[dc]) or not ranges.is_within(part.allowed, now.wanted)
        for dc, part in {**now.parts, **home.parts}.items()
    )


def new_home(state: "State", record: JobRecord, epoch: int) -> Home:
    """Return the home of a job that lives whole here: its first, and only part is ours."""
    place = 0 if is_everywhere(record.job) else -1
    allowed = ranges.indices({name: tuple(found) for name, found in record.share().items()})
    if place >= 0:
        allowed = {group.name: ranges.first(1) for group in record.job.task_groups or []}
    own = Part(
        index=1, acked=1, allowed=allowed, holds=allowed, place=place, version=record.version
    )  # fmt: skip
    return Home(
        namespace=record.namespace,
        job_id=record.id,
        uid=record.uid,
        epoch=epoch,
        region=record.job.region or state.region,
        version=record.version,
        parts={state.datacenter_id: own},
        moved_us=state.log_time_us,
    )


# --- apply --------------------------------------------------------------------------------


def put_parts(state: "State", command: PutParts, context: "Context") -> CommandResult:
    """Divide a job. `value`: {Index}, or {Stale: reason} when it must be decided again."""
    table = homes_of(state)
    known = table.get(command.uid)
    record = state.jobs.by_uid(command.uid)
    if known is None:
        if record is None or record.is_stopped or record.home:
            return CommandResult(value={"Stale": "the job is gone"})
        epoch = command.epoch or _own_epoch(state, record, context)
        if not epoch:
            return CommandResult(value={"Stale": "the epoch of its claim is not known"})
        known = new_home(state, record, epoch)
    elif known.leaving_to:
        return CommandResult(value={"Stale": "its home is on its way elsewhere"})
    elif known.index != command.expected:
        return CommandResult(value={"Stale": "the home has changed"})
    targets = [*command.allowed, *(to for _, to, _ in command.copies)]
    if any(is_off(state, dc) for dc in targets):
        return CommandResult(value={"Stale": "a datacenter was declared off"})
    before = known.part(state.datacenter_id).allowed
    try:
        home = divided(state, known, command, context.index)
    except NotFree as error:
        return CommandResult(value={"Stale": str(error)})
    if home.is_done:
        table.delete(home.uid)
        context.changed("homes", "HomeClosed", home.uid, home.namespace)
        return CommandResult(value={"Index": home.index})
    regions = tuple(dict.fromkeys((*home.regions, *command.regions)))
    home = msgspec.structs.replace(home, regions=regions)
    table.put(home.uid, home)
    context.changed("homes", "JobDivided", home.uid, home.namespace)
    _follow(state, home, before, command.evaluation, context)
    return CommandResult(value={"Index": home.index})


def _own_epoch(state: "State", record: JobRecord, context: "Context") -> int:
    """Return the epoch of a job whose home is the authority; the claim is made if need be."""
    record = claimed_record(state, record)
    if not state.is_authority or record.job.region not in (None, "*", state.region):
        return 0
    claimed = extend_claim(
        state,
        ExtendClaim(
            namespace=record.namespace,
            job_id=record.id,
            uid=record.uid,
            home=state.datacenter_id,
            region=state.region,
        ),
        context,
    )
    return 0 if claimed.is_error else int(claimed.value["Epoch"])


def divided(state: "State", home: Home, command: PutParts, index: int) -> Home:
    """Return the home after a `PutParts`, the own part settled at once.

    Raises:
        NotFree: It would give what somebody else may hold.
    """
    given = {dc: ranges.indices(dict(allowed)) for dc, allowed in command.allowed.items()}
    home = current(state, _with_places(state, home, given))
    own = state.datacenter_id
    told = told_versions(state, home)
    allowed = {
        dc: ranges.shared(given.get(dc, part.allowed), home.wanted)
        for dc, part in home.parts.items()
        if dc in given or _is_told(home, part, told[dc])
    }
    for dc, found in given.items():
        allowed.setdefault(dc, ranges.shared(found, home.wanted))
    if own in allowed:  # what it loses without running it is free for others at once
        mine = home.part(own)
        busy = held(state, home.uid, allowed[own], mine.place).busy
        kept = ranges.shared(mine.allowed, allowed[own])
        less = msgspec.structs.replace(mine, allowed=kept, holds=ranges.merged(kept, busy))
        home = msgspec.structs.replace(home, parts={**home.parts, own: less})
    moved = any(ranges.without(home.part(dc).allowed, found) for dc, found in allowed.items())
    home = homes.divide(home, allowed, index, told)
    for cut_off, to, copied in command.copies:
        home = homes.copy(home, cut_off, to, copied, index)
    if own in home.parts:
        mine = home.parts[own]
        settled = msgspec.structs.replace(mine, acked=mine.index)
        home = msgspec.structs.replace(home, parts={**home.parts, own: settled})
    return msgspec.structs.replace(home, moved_us=state.log_time_us if moved else home.moved_us)


def _is_told(home: Home, part: Part, version: int) -> bool:
    """Whether a datacenter that nothing is changed for must hear of a new job version."""
    return part.version != version and bool(part.holds or home.is_purged or not home.wanted)


def _with_places(state: "State", home: Home, given: dict[str, Indices]) -> Home:
    """Give each new datacenter of a system job the index that stands for it."""
    record = state.jobs.by_uid(home.uid)
    if record is None or not is_everywhere(record.job):
        return home
    parts = dict(home.parts)
    for dc in sorted(given):
        if dc not in parts:
            parts[dc] = Part(place=1 + max(part.place for part in parts.values()))
        if given[dc]:
            place = parts[dc].place
            given[dc] = {
                group.name: ((place, place + 1),) for group in record.job.task_groups or []
            }
    return msgspec.structs.replace(home, parts=parts)


def park_own_part(state: "State", command: ParkOwnPart, context: "Context") -> CommandResult:
    known, own = homes_of(state).get(command.uid), state.datacenter_id
    if known is None:
        return CommandResult(error="the job has no parts elsewhere", status=404)
    if known.leaving_to:
        return CommandResult(error="its home is on its way elsewhere", status=503)
    part = msgspec.structs.replace(known.part(own), is_parked=command.is_parked)
    marked = msgspec.structs.replace(known, parts={**known.parts, own: part})
    none = PutParts(
        namespace=known.namespace,
        job_id=known.job_id,
        uid=known.uid,
        expected=known.index,
        allowed={own: {}} if command.is_parked else {},
    )
    home = divided(state, marked, none, context.index)
    homes_of(state).put(home.uid, home)
    context.changed("homes", "JobDivided", home.uid, home.namespace)
    _follow(state, home, known.part(own).allowed, command.evaluation, context)
    return CommandResult(value={"Index": home.index})


def take_report(state: "State", command: TakeReport, context: "Context") -> CommandResult:
    """Keep a report; the home of a purged job goes with the last one. `value`: {IsDone}."""
    report, table = command.report, homes_of(state)
    known = table.get(report.uid)
    if known is None or report.datacenter_id == state.datacenter_id:
        return CommandResult(value={"IsDone": False})  # closed before, or moved elsewhere
    home = homes.acknowledge(known, report, context.time_us)
    if home.is_purged and current(state, home).is_done:
        table.delete(home.uid)
        context.changed("homes", "HomeClosed", home.uid, home.namespace)
        return CommandResult(value={"IsDone": True})
    if home != known:
        table.put(home.uid, home)
        context.changed("homes", "ShareReported", home.uid, home.namespace)
        _count_elsewhere(state, home, context)
    return CommandResult(value={"IsDone": False})


def _follow(
    state: "State",
    home: Home,
    before: Indices,
    evaluation: Evaluation | None,
    context: "Context",
) -> None:
    """Let the job record say what of it runs here, and have that planned."""
    record = state.jobs.by_uid(home.uid)
    if record is not None and not record.is_purged:
        allowed = home.part(state.datacenter_id).allowed
        if not is_everywhere(record.job):
            indices = for_record(record.job, allowed)
            state.jobs.put(msgspec.structs.replace(record, indices=indices))
            _resize_deployment(state, record, allowed, context)
        context.changed("jobs", "JobDivided", record.id, record.namespace)
        if evaluation is not None and allowed != before:
            put_evaluation(state, evaluation, context)
    _count_elsewhere(state, home, context)


def settle_record(state: "State", home: Home, record: JobRecord, context: "Context") -> None:
    """Let a job record say what its home, which just came here, lets run here."""
    if not is_everywhere(record.job):
        allowed = home.part(state.datacenter_id).allowed
        indices = for_record(record.job, allowed)
        state.jobs.put(msgspec.structs.replace(record, indices=indices))
    context.touch_job(record.ordinal)
    _count_elsewhere(state, home, context)


def _count_elsewhere(state: "State", home: Home, context: "Context") -> None:
    record = state.jobs.by_uid(home.uid)
    if record is None or record.is_purged:
        return
    others = (part for dc, part in home.parts.items() if dc != state.datacenter_id)
    elsewhere = sum(part.unfinished for part in others)
    if elsewhere != record.elsewhere:
        state.jobs.put(msgspec.structs.replace(record, elsewhere=elsewhere))
        context.touch_job(record.ordinal)


def _resize_deployment(
    state: "State", record: JobRecord, allowed: Indices, context: "Context"
) -> None:
    """A rollout under way here waits for as many instances as there are to be here now."""
    latest = state.deployments.latest_of_job(record.namespace, record.id)
    if latest is None or latest.status not in ACTIVE_DEPLOYMENTS:
        return
    groups = dict(latest.task_groups or {})
    for name, group in groups.items():
        total = ranges.count(allowed.get(name, ()))
        groups[name] = msgspec.structs.replace(group, desired_total=total)
    if groups != latest.task_groups:
        changed = msgspec.structs.replace(
            latest, task_groups=groups, modify_index=context.index, modify_time_ns=context.time_ns
        )
        state.deployments.put(latest.id, changed)
        context.changed("deployment", "DeploymentUpdate", latest.id, latest.namespace)


def described(home: Home, datacenter_id: str) -> dict[str, Any]:
    """Return one row of the table of datacenters: wanted, running, held, and why not."""
    part = home.part(datacenter_id)
    beyond = ranges.without(part.holds, part.allowed)
    if part.is_parked:
        state = "parked"
    elif part.acked != part.index:
        state = "sent"
    elif beyond:
        state = "releasing"
    elif part.blocked:
        state = "blocked"
    else:
        state = "settled"
    return {
        "DatacenterID": datacenter_id,
        "Wanted": ranges.size(part.allowed),
        "Running": ranges.size(part.running),
        "Held": ranges.size(part.holds),
        "Indices": {group: [list(pair) for pair in found] for group, found in part.allowed.items()},
        "Copies": sum(ranges.size(copied) for copied in part.copies.values()),
        "State": state,
        "Reason": part.reason,
    }


register_table(TABLE, Home)
register_handler(PutParts, put_parts)
register_handler(ParkOwnPart, park_own_part)
register_handler(TakeReport, take_report)
