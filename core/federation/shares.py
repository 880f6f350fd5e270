"""A share: the part of a job that this datacenter runs for the job's home elsewhere.

`Watermark` is the newest share that was applied, by the job's uid, in this datacenter's
log. It outlives the share as a tombstone (`is_gone`), so a late duplicate changes nothing.
Pure functions on values; the commands around them are in core.federation.share_log.

    newer     applied: what it takes away stops, what it adds is taken as far as there is room
    equal     answered again, with what is held by now
    older     refused; the answer says what is here

**A refusal is applied too.** Of a newer share that there is no room for, the watermark rises
and nothing new is accepted. Were only the answer sent, the home would give the index to
somebody else, and a late duplicate of this share might then find room here.

After a full sync ("these are all shares of home H as of index X") a share of H up to X that
the list lacks is gone, and one that was never heard of is refused, for ever: `Synced`.
"""

import msgspec

from core.federation import ranges
from core.federation.homes import Home, Report
from core.federation.ranges import Indices
from core.model.job import Job

PARKED = "stopped here by an operator"


class Share(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What travels from the home: `indices` is all that may run there, not a change.

    The body of `Share.Put`. `job` is None in a tombstone.
    """

    namespace: str
    job_id: str
    uid: str
    home: str  # datacenter id
    epoch: int
    index: int
    region: str = ""  # whose name the job has
    indices: Indices = {}
    job: Job | None = None
    place: int = -1  # of a system job: the index that stands for "on every node here"
    events: list[dict[str, object]] = []  # causes to be copied: core.federation.causes

    @property
    def number(self) -> tuple[int, int]:
        """Return its version: only a larger one changes anything."""
        return self.epoch, self.index


class Watermark(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """The newest share of a job that was applied here, and what of it was accepted."""

    namespace: str
    job_id: str
    uid: str
    home: str
    epoch: int
    index: int
    region: str = ""
    allowed: Indices = {}  # as the share has it
    accepts: Indices = {}  # of that, what runs here or will
    place: int = -1
    reason: str = ""  # why it is less
    is_parked: bool = False
    is_gone: bool = False

    @property
    def number(self) -> tuple[int, int]:
        return self.epoch, self.index


class Synced(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A home's shares up to (epoch of the newest, index) are known here, or will never be."""

    home: str
    index: int


def share_of(home: Home, datacenter_id: str, own_id: str, job: Job | None) -> Share:
    """Return the newest share of a datacenter, as the home keeps it.

    Args:
        own_id: The home's own datacenter.
        job: Its newest version; None makes a tombstone.
    """
    part = home.part(datacenter_id)
    return Share(
        namespace=home.namespace,
        job_id=home.job_id,
        uid=home.uid,
        home=own_id,
        epoch=home.epoch,
        index=part.index,
        region=home.region,
        indices=part.allowed,
        job=None if home.is_purged else job,
        place=part.place,
    )


def is_newer(mark: Watermark | None, share: Share, synced_index: int) -> bool:
    """Whether a share changes anything here.

    Args:
        synced_index: Of the last full sync of its home, 0 = none yet.
    """
    if mark is None:
        return share.index > synced_index
    if share.epoch == mark.epoch and share.home != mark.home:
        return False  # one epoch has one home
    return share.number > mark.number


def take(mark: Watermark | None, share: Share, room: Indices, reason: str) -> Watermark:
    """Return the watermark after a newer share, whether any of it is accepted or not.

    Args:
        room: What of the share this datacenter has room for, beyond what it accepts already.
        reason: Why that is not all, "" when it is.
    """
    before = mark.accepts if mark is not None else {}
    is_parked = mark is not None and mark.is_parked
    accepts = ranges.shared(share.indices, ranges.merged(before, room))
    if is_parked:
        accepts, reason = {}, PARKED
    return Watermark(
        namespace=share.namespace,
        job_id=share.job_id,
        uid=share.uid,
        home=share.home,
        epoch=share.epoch,
        index=share.index,
        region=share.region,
        allowed=share.indices,
        accepts=accepts,
        place=share.place,
        reason=reason if accepts != share.indices else "",
        is_parked=is_parked,
        is_gone=share.job is None,
    )


def park(mark: Watermark) -> Watermark:
    """Run nothing of the share, nor of any later one, until `start`."""
    return msgspec.structs.replace(mark, accepts={}, reason=PARKED, is_parked=True)


def start(mark: Watermark) -> Watermark:
    """Take shares again. What was given up meanwhile comes back only by a newer share."""
    return msgspec.structs.replace(mark, reason="", is_parked=False)


def sync(mark: Watermark, index: int, listed: dict[str, int]) -> Watermark:
    """Return the watermark after a full sync of its home: gone when the list lacks it.

    Args:
        index: "As of index X" of the home's log.
        listed: uid -> epoch of every share that the home has for this datacenter.
    """
    if mark.uid in listed or mark.index > index or mark.is_gone:
        return mark
    return msgspec.structs.replace(
        mark, index=index, allowed={}, accepts={}, reason="", is_gone=True
    )


def report(mark: Watermark, datacenter_id: str, busy: Indices) -> Report:
    """Return this datacenter's word on a share.

    Args:
        busy: Indices of the job that still run here, or may: also those of nodes that are
            down.
    """
    return Report(
        namespace=mark.namespace,
        job_id=mark.job_id,
        uid=mark.uid,
        datacenter_id=datacenter_id,
        epoch=mark.epoch,
        index=mark.index,
        accepts=mark.accepts,
        holds=ranges.merged(mark.accepts, busy),
        reason=mark.reason,
        is_parked=mark.is_parked,
    )
