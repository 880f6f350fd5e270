"""A rollout over several regions: the records, and every step from one to the next. Pure.

A job with a `multiregion` block runs in each region that the block lists as a job of that
region, with a home and a claim of its own: a *copy*. What goes on in order is kept here, by
the datacenter that the job was submitted to, its *coordinator*:

    region's status     pending -> running -> blocked -> unblocking -> successful
                           '---------'----------'--> failed, cancelled
    what is wanted      HOLD -> RUN -> UNBLOCK, or at any time FAIL or CANCEL; or STOP

    take     every region has taken its copy; before that nothing begins anywhere
    begin    the next region in order runs, as long as fewer than `max_parallel` do
    fail     a region failed: by `on_failure` those after it, all, or no others fail too
    unblock  all are complete: all become successful together (the *barrier*)

A report of a region is applied in one log entry with what follows of it (`report`), so each
decision is committed before anybody is told, and told until it is done (core.federation.
coordinating). Nothing is remembered of what was sent: a new leader reads it off here.

    Invariant: a region's status never goes back, and what is wanted of it never either. So a
    late, lost or doubled message changes nothing: each says a status that was, or what is
    wanted already.
    Invariant: no region is unblocked before every other is complete, given up or cancelled.

Two submissions are ordered by their *generation* (hybrid logical time, made beyond what any
region has seen), also when two datacenters coordinate: each region follows the larger one,
and tells whoever asks for the smaller that it is superseded. Its last bits are the coordinator's
own: two that heard the same time in the same call would otherwise number two submissions alike,
and every region would take the one for the other.
"""

import hashlib
from enum import StrEnum
from typing import Any, Final

import msgspec


class Status(StrEnum):
    """How far one region is. The words are those of a deployment."""

    PENDING = "pending"
    RUNNING = "running"
    BLOCKED = "blocked"
    UNBLOCKING = "unblocking"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Want(StrEnum):
    """What the coordinator wants of a region; never one before another of this order."""

    HOLD = "hold"  # take the copy, begin nothing
    RUN = "run"
    UNBLOCK = "unblock"
    FAIL = "fail"
    CANCEL = "cancel"  # a newer version does not list the region any more
    STOP = "stop"  # end the job there


class OnFailure(StrEnum):
    LATER = ""  # those after the failed one in order fail too
    ALL = "fail_all"
    LOCAL = "fail_local"


TAG_BITS: Final = 12  # of a generation: 4 ms of time
OVER: Final = frozenset({Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED})
_STATUS_ORDER: Final = {status: min(place, 4) for place, status in enumerate(Status)}
_WANT_ORDER: Final = {want: place for place, want in enumerate(Want)}


class Region(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One region's part of a rollout, as its home last said."""

    name: str
    want: Want = Want.HOLD
    status: Status = Status.PENDING
    is_taken: bool = False  # it has the copy, or refused it for good
    home: str = ""  # datacenter id
    deployment_id: str = ""
    version: int = 0  # of the job there
    reason: str = ""

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @property
    def is_done(self) -> bool:
        """Whether what is wanted has come about: nothing is to be sent."""
        if self.want is Want.HOLD:
            return self.is_taken
        if self.want is Want.RUN:
            return self.status is not Status.PENDING
        return self.is_over


class Rollout(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One submission of a job over several regions."""

    namespace: str
    job_id: str
    generation: int
    coordinator: str  # datacenter id
    call_id: str = ""  # of the submission: its repetition begins nothing
    body: dict[str, Any] = {}  # of the registration, until every region has taken its copy
    regions: tuple[Region, ...] = ()  # in the order of the block; those dropped come last
    max_parallel: int = 0  # 0 = all at once
    on_failure: OnFailure = OnFailure.LATER
    has_deployments: bool = True  # False: each region runs at once, nothing is waited for
    has_barrier: bool = True  # False (system jobs): who failed keeps nobody back
    is_stop: bool = False
    is_purge: bool = False
    is_unblocked: bool = False  # the barrier was decided
    superseded_by: int = 0  # generation

    @property
    def is_over(self) -> bool:
        return all(region.is_over and region.is_done for region in self.regions)

    @property
    def status(self) -> Status:
        """Return the rollout's status: that of the region that is behind, or failed if one did."""
        found = {region.status for region in self.regions if region.want is not Want.CANCEL}
        if self.superseded_by:
            return Status.CANCELLED
        for status in (Status.FAILED, Status.RUNNING, Status.UNBLOCKING, Status.PENDING,
                       Status.BLOCKED, Status.SUCCESSFUL):  # fmt: skip
            if status in found:
                return status
        return Status.CANCELLED

    def region(self, name: str) -> Region | None:
        return next((region for region in self.regions if region.name == name), None)


class Report(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What the home of one region's copy says of it."""

    region: str
    generation: int  # of the copy it has; another than the rollout's says nothing of it
    status: Status
    home: str = ""
    deployment_id: str = ""
    version: int = 0
    reason: str = ""


def generation_beyond(time_us: int, datacenter_id: str) -> int:
    """Return the next generation after a time, or a generation, that is this coordinator's own."""
    digest = hashlib.blake2b(datacenter_id.encode(), digest_size=2).digest()
    tag = int.from_bytes(digest, "big") & ((1 << TAG_BITS) - 1)
    return ((time_us >> TAG_BITS) + 1) << TAG_BITS | tag


def begun(rollout: Rollout, before: Rollout | None) -> Rollout:
    """Return a new rollout, which also lets go of regions that the one before it lists alone.

    What such a region runs stays; a rollout under way there is cancelled.
    """
    known = {region.name for region in rollout.regions}
    dropped = [
        msgspec.structs.replace(region, want=Want.CANCEL)
        for region in (before.regions if before is not None else ())
        if region.name not in known and not region.is_over
    ]
    return decided(msgspec.structs.replace(rollout, regions=(*rollout.regions, *dropped)))


def report(rollout: Rollout, said: Report) -> Rollout:
    """Return the rollout after a region's word, with all that follows; the same if nothing."""
    if said.generation > rollout.generation:
        return superseded(rollout, said.generation)
    known = rollout.region(said.region)
    if known is None or said.generation != rollout.generation or rollout.superseded_by:
        return rollout
    if _STATUS_ORDER[said.status] < _STATUS_ORDER[known.status] or known.is_over:
        if known.is_taken:
            return rollout
        said = msgspec.structs.replace(said, status=known.status)
    if known.status is Status.UNBLOCKING and said.status is Status.BLOCKED:
        said = msgspec.structs.replace(said, status=Status.UNBLOCKING)
    now = msgspec.structs.replace(
        known, status=said.status, is_taken=True, home=said.home or known.home,
        deployment_id=said.deployment_id or known.deployment_id,
        version=said.version, reason=said.reason,
    )  # fmt: skip
    if now == known:
        return rollout
    return decided(_with(rollout, now))


def superseded(rollout: Rollout, generation: int) -> Rollout:
    """Return the rollout given up: a region follows a newer submission, of whoever."""
    regions = tuple(
        region if region.is_over else msgspec.structs.replace(
            region, status=Status.CANCELLED, want=Want.CANCEL,
            reason="superseded by a newer version",
        )
        for region in rollout.regions
    )  # fmt: skip
    return msgspec.structs.replace(
        rollout, regions=regions, superseded_by=max(generation, rollout.superseded_by), body={}
    )


def decided(rollout: Rollout) -> Rollout:
    """Return the rollout with everything wanted that its regions' statuses ask for."""
    if rollout.superseded_by or not all(region.is_taken for region in _listed(rollout)):
        return rollout
    if rollout.body:
        rollout = msgspec.structs.replace(rollout, body={})
    if rollout.is_stop or not rollout.has_deployments:
        return rollout
    rollout = _fail(rollout)
    rollout = _unblock(rollout)
    return _begin(rollout)


def _fail(rollout: Rollout) -> Rollout:
    """Give up what shall not go on without a region that failed."""
    if rollout.is_unblocked or not rollout.has_barrier:
        return rollout  # too late: what became successful can't be taken back
    regions = _listed(rollout)
    failed = [n for n, region in enumerate(regions) if region.status is Status.FAILED]
    if not failed or rollout.on_failure is OnFailure.LOCAL:
        return rollout
    first = 0 if rollout.on_failure is OnFailure.ALL else failed[0]
    for region in regions[first:]:
        if not region.is_over:
            rollout = _with(rollout, _wanting(region, Want.FAIL))
    return rollout


def _unblock(rollout: Rollout) -> Rollout:
    """Decide the barrier once every region is complete: from now on all become successful."""
    regions = _listed(rollout)
    if rollout.is_unblocked or any(
        region.want is not Want.FAIL
        and region.status in (Status.PENDING, Status.RUNNING)
        for region in regions
    ):  # fmt: skip
        return rollout
    if rollout.has_barrier and any(
        region.status is Status.FAILED or region.want is Want.FAIL for region in regions
    ):
        return rollout  # those that are complete wait for somebody's word
    for region in regions:
        if region.status is Status.BLOCKED:
            told = msgspec.structs.replace(region, status=Status.UNBLOCKING)
            rollout = _with(rollout, _wanting(told, Want.UNBLOCK))
    return msgspec.structs.replace(rollout, is_unblocked=True)


def _begin(rollout: Rollout) -> Rollout:
    """Let the next regions run, in order."""
    regions = _listed(rollout)
    running = sum(
        region.want is Want.RUN and region.status in (Status.PENDING, Status.RUNNING)
        for region in regions
    )
    for region in regions:
        if rollout.max_parallel and running >= rollout.max_parallel:
            break
        if region.want is Want.HOLD and region.status is Status.PENDING:
            rollout = _with(rollout, _wanting(region, Want.RUN))
            running += 1
    return rollout


def _listed(rollout: Rollout) -> list[Region]:
    """Return the regions that the job lists, in order: not those that it lists no more."""
    return [region for region in rollout.regions if region.want is not Want.CANCEL]


def _wanting(region: Region, want: Want) -> Region:
    if _WANT_ORDER[want] <= _WANT_ORDER[region.want]:
        return region
    return msgspec.structs.replace(region, want=want)


def _with(rollout: Rollout, region: Region) -> Rollout:
    regions = tuple(region if one.name == region.name else one for one in rollout.regions)
    return msgspec.structs.replace(rollout, regions=regions)
