"""The home of a job that runs in several datacenters: who may run which index.

A `Home` is a value in the log of the job's home datacenter, kept by the job's uid; each
datacenter that has, had or may get a part of the job has a `Part` in it, the home's own
datacenter too. Nothing here reads a clock or a network: functions take a home and what
happened, and return the next home. The commands around them are in core.federation.home_log.

    allowed   what the newest share lets the datacenter run
    holds     what it may still run, as far as the home can know: an upper bound

`holds` grows when a share is *sent* and shrinks only by the datacenter's own word on that
very share or a newer one. So:

    Invariant: `allowed` lies within `holds` in every part.
    Invariant: an index is in the `holds` of at most one part, or of two where one of them
        has it in `copies` from the other (partition = "surge").

A datacenter that was declared off has no part any more (`forget`): that it holds nothing is
an operator's word.

An index in nobody's `holds` is *free*, and only a free one is given (`divide`). That is all
the safety there is to it: a scale-down or a move shrinks `allowed`, the datacenter reports
that it ended, the index becomes free, and then somebody else gets it.

The version of a share is (epoch, index). The index is that of the home's log at the entry
that made the share, so it rises over all jobs of a home, and a full sync can speak of "all
shares as of index X".
"""

from collections.abc import Collection

import msgspec

from core.federation import ranges
from core.federation.ranges import Indices


class NotFree(Exception):
    """An index would be given that another datacenter holds."""


class Stale(Exception):
    """The home has changed since this was decided: look again, decide again."""


class Part(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What one datacenter has of the job, as the home knows it."""

    index: int = 0  # home index of its newest share; 0 = none was ever sent
    acked: int = 0  # newest index that it has answered
    allowed: Indices = {}
    holds: Indices = {}
    copies: dict[str, Indices] = {}  # surge: of datacenter id, what that one may hold as well
    version: int = 0  # of the job, as its newest share has it
    place: int = -1  # of a system job: the index that stands for "on every node there"
    is_parked: bool = False  # an operator stopped it there: nothing is given until a start

    as_of: int = 0  # index of its log that its newest word on this share was of

    # What it last reported; guides choice, decides nothing.
    running: Indices = {}
    blocked: Indices = {}  # allowed, and no room there
    blocked_since_us: int = 0  # log time of the home, when it first heard; 0 = not blocked
    live: int = -1  # instances that are not done; -1 = it has not said
    rolled: int = -1  # version that all its instances run and are healthy in; -1 = none
    failed: int = -1  # version whose rollout failed there
    reason: str = ""  # why it does not run what it was given

    @property
    def is_settled(self) -> bool:
        """Whether it has answered its newest share and holds nothing beyond it."""
        return self.acked == self.index and self.holds == self.allowed

    @property
    def unfinished(self) -> int:
        """Return how many instances are still to be counted on: for the job's status."""
        if self.live >= 0 and self.acked == self.index:
            return self.live
        return ranges.size(self.holds)


class Home(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One job's home. `parts` is by datacenter id."""

    namespace: str
    job_id: str
    uid: str
    epoch: int  # of its claim: core.federation.claims
    region: str = ""  # whose name it is
    index: int = 0  # raised by every change of what somebody may run
    version: int = 0  # newest version of the job that was divided
    wanted: Indices = {}  # every index that the job asks for; {} = it is stopped
    is_surge: bool = False
    is_purged: bool = False  # the job is gone; this remains until nobody holds a part
    parts: dict[str, Part] = {}
    moved_us: int = 0  # log time of the last move between datacenters
    regions: tuple[str, ...] = ()  # beside `region`, where its name is held for it
    leaving_to: str = ""  # datacenter id of the home to come: nothing is given here any more

    def part(self, datacenter_id: str) -> Part:
        return self.parts.get(datacenter_id) or Part()

    @property
    def held(self) -> Indices:
        """Return every index that somebody may hold."""
        found: Indices = {}
        for part in self.parts.values():
            found = ranges.merged(found, part.holds)
        return found

    @property
    def free(self) -> Indices:
        """Return the wanted indices that nobody may hold: only these can be given."""
        return ranges.without(self.wanted, self.held)

    @property
    def is_done(self) -> bool:
        """Whether a purged job has left every datacenter."""
        return self.is_purged and all(
            part.is_settled and not part.holds for part in self.parts.values()
        )


class Report(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A datacenter's word on its share: answer to `Share.Put`, and body of `Share.Report`.

    `accepts` is within `holds`; what the share allows beyond `accepts` was refused for good:
    only a newer share can bring it there.
    """

    namespace: str
    job_id: str
    uid: str
    datacenter_id: str
    epoch: int  # of the newest share that was applied there
    index: int
    as_of: int = 0  # index of the log there; 0 = not said. Words that come late are known by it
    accepts: Indices = {}
    holds: Indices = {}  # accepted or still running
    running: Indices = {}
    blocked: Indices = {}
    live: int = -1
    rolled: int = -1  # version of the job that all instances run, healthy
    failed: int = -1  # version whose rollout failed here
    reason: str = ""
    is_parked: bool = False
    events: list[dict[str, object]] = []  # causes to be copied: core.federation.causes


# --- giving and releasing -----------------------------------------------------------------


def divide(
    home: Home, allowed: dict[str, Indices], index: int, versions: dict[str, int] | None = None
) -> Home:
    """Set what these datacenters may run, each its final set; others keep theirs.

    Args:
        allowed: By datacenter id. What a part loses it still holds until it says otherwise.
        index: Of the log entry, beyond any before.
        versions: Of the job, which each datacenter shall have; the newest unless told.

    Raises:
        NotFree: Somebody else may hold an index that would be given.
    """
    parts = dict(home.parts)
    for datacenter_id in sorted(allowed):
        part, wanted = home.part(datacenter_id), allowed[datacenter_id]
        version = (versions or {}).get(datacenter_id, home.version)
        if wanted == part.allowed and part.version == version and part.index:
            continue
        parts[datacenter_id] = msgspec.structs.replace(
            part,
            index=index,
            allowed=wanted,
            holds=ranges.merged(part.holds, wanted),
            as_of=0,
            version=version,
            blocked=ranges.shared(part.blocked, wanted),
        )
    _check_given(home, parts)
    return msgspec.structs.replace(home, parts=_without_settled_copies(parts), index=index)


def _check_given(home: Home, parts: dict[str, Part]) -> None:
    """Raise `NotFree` when an index was given that is held elsewhere, before or now."""
    held: Indices = {}
    for datacenter_id, part in parts.items():
        mine = part.holds
        for copied in part.copies.values():
            mine = ranges.without(mine, copied)
        twice = ranges.shared(mine, held)
        if twice:
            raise NotFree(
                f"{ranges.shown(twice)} of job {home.job_id!r} can't be given to datacenter"
                f" {datacenter_id}: another may hold it"
            )
        held = ranges.merged(held, mine)


def copy(home: Home, cut_off: str, to: str, copied: Indices, index: int) -> Home:
    """Let `to` run what a datacenter that can't be reached holds, too: surge.

    Raises:
        NotFree: The job does not ask for that, `cut_off` does not hold it, or somebody
            else may run it already.
    """
    source, part = home.part(cut_off), home.part(to)
    existing = [copies for one in home.parts.values() for copies in one.copies.values()]
    is_second = any(ranges.shared(copied, copies) for copies in existing)
    if (
        not home.is_surge
        or cut_off == to
        or is_second
        or not ranges.is_within(copied, source.holds)
        or ranges.shared(copied, part.holds)
    ):
        raise NotFree(f"{ranges.shown(copied)} of job {home.job_id!r} can't be copied")
    changed = msgspec.structs.replace(
        part,
        index=index,
        allowed=ranges.merged(part.allowed, copied),
        holds=ranges.merged(part.holds, copied),
        copies={**part.copies, cut_off: ranges.merged(part.copies.get(cut_off, {}), copied)},
        version=home.version,
    )
    return msgspec.structs.replace(home, parts={**home.parts, to: changed}, index=index)


# --- what datacenters say -----------------------------------------------------------------


def acknowledge(home: Home, report: Report, now_us: int = 0) -> Home:
    """Take a datacenter's word. One on an older share than its newest says nothing.

    Words on one share may come late and twice: an earlier one than the newest says nothing
    either, and what it holds only shrinks by them.

    Args:
        now_us: Log time of the home: other clocks may be hours off.
    """
    part = home.parts.get(report.datacenter_id)
    if part is None or (report.epoch, report.index) != (home.epoch, part.index):
        return home
    if report.as_of and report.as_of < part.as_of:
        return home
    holds = ranges.shared(part.holds, report.holds)
    blocked = ranges.shared(report.blocked, part.allowed)
    changed = msgspec.structs.replace(
        part,
        acked=part.index,
        as_of=report.as_of,
        holds=holds,
        allowed=ranges.shared(ranges.shared(part.allowed, report.accepts), holds),
        running=ranges.shared(report.running, holds),
        blocked=blocked,
        blocked_since_us=(part.blocked_since_us or now_us) if blocked else 0,
        live=report.live,
        rolled=report.rolled,
        failed=report.failed,
        reason=report.reason,
        is_parked=report.is_parked,
    )
    if changed == part:
        return home
    parts = {**home.parts, report.datacenter_id: changed}
    return msgspec.structs.replace(home, parts=_without_settled_copies(parts))


def _without_settled_copies(parts: dict[str, Part]) -> dict[str, Part]:
    """A copy is one as long as both hold the index."""
    result = {}
    for datacenter_id, part in parts.items():
        copies = {}
        for source, copied in part.copies.items():
            both = ranges.shared(copied, part.holds)
            if source in parts:
                both = ranges.shared(both, parts[source].holds)
            if both:
                copies[source] = both
        if copies != part.copies:
            part = msgspec.structs.replace(part, copies=copies)
        result[datacenter_id] = part
    return result


def forget(home: Home, datacenter_id: str, index: int) -> Home:
    """Count a datacenter as holding nothing: by an operator's word it is off for good.

    What was a copy of its indices is all that there is of them from now on.
    """
    parts = {}
    for dc, part in home.parts.items():
        if dc == datacenter_id:
            continue
        if datacenter_id in part.copies:
            copies = {one: found for one, found in part.copies.items() if one != datacenter_id}
            part = msgspec.structs.replace(part, copies=copies)
        parts[dc] = part
    return msgspec.structs.replace(home, parts=parts, index=index)


def healed_copies(home: Home, heard: Collection[str]) -> dict[str, Indices]:
    """Return by datacenter which copies it shall release: their originals run.

    Args:
        heard: Datacenters that are not silent. What another one ran when it was last heard
            of is why it was copied.
    """
    found: dict[str, Indices] = {}
    for datacenter_id, part in home.parts.items():
        for source, copied in part.copies.items():
            original = home.part(source)
            if source in heard and original.acked == original.index:
                running = ranges.shared(ranges.shared(copied, original.running), part.allowed)
                if running:
                    found[datacenter_id] = ranges.merged(found.get(datacenter_id, {}), running)
    return found
