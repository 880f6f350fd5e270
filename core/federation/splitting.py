"""Which datacenter runs which index: the home's choice, as a pure function.

    withdraw   where the job may not run any more, by its datacenters or regions, it ends
    place      a free index goes to the first site, in order, that has room for it; with a
               `spread` block to where most is missing. What nobody has room for queues at
               the home, where everybody sees it blocked
    spill      what is blocked somewhere goes where there is room: at once within its own
               rank, into a later rank only after the job's `after`. Where nobody is known to
               have room, one instance is tried where there may be some: digests are coarse
    evacuate   what a draining datacenter runs goes where there is room, a tenth of the job at a
               time, and the next when those run
    reclaim    what runs in a later rank comes back when an earlier one has room for all of it,
               or for a fifth more than comes; last rank first, a tenth of the job a minute.
               With a `spread` only what this would place in an earlier rank
    copy       surge: what a datacenter holds that was silent for a minute runs once more

A site's *rank* is its place in the job's order of regions: 0 is the job's own region, then
`spillover.regions` as they stand. Whoever loses an index still holds it until it says so, so
spilling and reclaiming take two decisions: release, and once it is free, place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from core.federation import homes, ranges
from core.federation.held import is_everywhere
from core.federation.homes import Home
from core.federation.ranges import Indices
from core.model.job import Job, Spread

AFTER_US: Final = 30_000_000  # a job that says nothing waits so long before it leaves its region
SETTLE_US: Final = 2_000_000  # a block this young may just be a plan under way
TRY_US: Final = 20_000_000  # blocked for so long, it is tried where there may be room
COOLDOWN_US: Final = 60_000_000  # between two moves of one job for the better
GAIN: Final = 1.2  # reclaiming needs so much more room than it fills
DRAIN_PACE_US: Final = 2_000_000  # between two moves of one job out of a draining datacenter
MOVE_PART: Final = 10  # at most one in so many of a job's instances moves at a time
SILENT_US: Final = 60_000_000  # before what a datacenter holds is copied under surge
_STEPS: Final = 64  # of a spread: so many rounds at least


class Site(NamedTuple):
    """A datacenter that the job may use, as far as is known."""

    datacenter_id: str
    rank: int
    room: dict[str, int]  # by group: how many more fit, each group alone
    value: str = ""  # of what the job's spread names
    is_open: bool = True  # False: nothing new goes there just now
    silent_us: int = 0  # for how long it has not answered
    is_draining: bool = False  # what it runs shall go elsewhere
    is_allowed: bool = True  # False: the job does not name it any more, what it runs ends
    perhaps: frozenset[str] = frozenset()  # groups of which one more may fit, by no means surely


@dataclass(slots=True)
class Division:
    """What shall change: the final sets of those datacenters that something changes for."""

    allowed: dict[str, Indices] = field(default_factory=dict)
    copies: list[tuple[str, str, Indices]] = field(default_factory=list)  # cut off, to, what
    moves: list[tuple[str, str, int]] = field(default_factory=list)  # why, datacenter, how many

    @property
    def is_empty(self) -> bool:
        return not self.allowed and not self.copies


def is_divisible(job: Job) -> bool:
    """Whether parts of the job may run in several datacenters."""
    if job.is_template or job.multiregion:
        return False
    if is_everywhere(job):
        return True
    return sum(1 if group.count is None else group.count for group in job.task_groups or []) > 1


def one_of_each(job: Job) -> Job:
    """Return the job with one instance of each group: the least that a part of it may be."""
    groups = [msgspec.structs.replace(group, count=1) for group in job.task_groups or []]
    return msgspec.structs.replace(job, task_groups=groups)


def spreads(job: Job) -> list[Spread]:
    """Return how a job wants to be spread over datacenters and regions."""
    return list(job.federation.spread or []) if job.federation is not None else []


def after_us(job: Job) -> int:
    """Return for how long a job waits for room before it leaves for another region."""
    policy = job.federation
    if policy is None or policy.spillover is None or policy.spillover.after_ns is None:
        return AFTER_US
    return policy.spillover.after_ns // 1000


def divide(home: Home, job: Job, own: str, sites: Sequence[Site], now_us: int) -> Division:
    """Return what to change of a home that is `home_log.current`.

    Args:
        own: Datacenter id of the home.
        sites: Where the job may run, best first within a rank.
        now_us: Of the clock that `blocked_since_us` and `moved_us` were taken from.
    """
    if is_everywhere(job):
        return _everywhere(home, job, sites)
    work = _Work(home, job, own, sites, now_us)
    if home.wanted:
        work.withdraw()
        work.place()
        work.spill()
        work.evacuate()
        work.reclaim()
        work.copy()
    return work.division()


def _everywhere(home: Home, job: Job, sites: Sequence[Site]) -> Division:
    groups: Indices = {group.name: ranges.first(1) for group in job.task_groups or []}
    division = Division()
    for site in sites:
        if not site.is_allowed and home.part(site.datacenter_id).allowed:
            division.allowed[site.datacenter_id] = {}
            division.moves.append(("withdrawn", site.datacenter_id, 1))
        if site.is_open and not home.part(site.datacenter_id).allowed and not job.stop:
            if not home.part(site.datacenter_id).is_parked:
                division.allowed[site.datacenter_id] = groups
                division.moves.append(("placed", site.datacenter_id, 1))
    return division


class _Work:
    """One decision in the making. Used once."""

    def __init__(self, home: Home, job: Job, own: str, sites: Sequence[Site], now_us: int) -> None:
        self._home, self._job, self._own, self._now_us = home, job, own, now_us
        self._sites = sorted(
            (s for s in sites if not home.part(s.datacenter_id).is_parked), key=lambda s: s.rank
        )
        self._rank = {site.datacenter_id: site.rank for site in sites}
        self._room = {site.datacenter_id: dict(site.room) for site in sites}
        self._allowed = {
            dc: ranges.shared(part.allowed, home.wanted) for dc, part in home.parts.items()
        }
        heard = [site.datacenter_id for site in sites if site.silent_us < SILENT_US]
        for dc, released in homes.healed_copies(home, heard).items():
            self._allowed[dc] = ranges.without(self._allowed[dc], released)
        self._result = Division()
        self._is_waiting = False

    def division(self) -> Division:
        for dc, allowed in self._allowed.items():
            if allowed != self._home.part(dc).allowed:
                self._result.allowed[dc] = allowed
        return self._result

    # --- what the job does not allow any more ---------------------------------------------

    def withdraw(self) -> None:
        for site in self._sites:
            held = self._allowed.get(site.datacenter_id)
            if held and not site.is_allowed:
                self._allowed[site.datacenter_id] = {}
                self._result.moves.append(("withdrawn", site.datacenter_id, ranges.size(held)))
        self._sites = [site for site in self._sites if site.is_allowed]

    # --- placing what is free -----------------------------------------------------------

    def place(self) -> None:
        for group, free in self._home.free.items():
            left = self._give(group, free, self._sites, "placed")
            own_site = next((s for s in self._sites if s.datacenter_id == self._own), None)
            if not left:
                continue
            if own_site is not None and not own_site.is_draining:
                self._grow(self._own, group, left)
                self._result.moves.append(("queued", self._own, ranges.count(left)))
            else:  # nobody sees it blocked here
                self._try_free(group, left)

    def _give(
        self, group: str, free: ranges.Ranges, sites: Sequence[Site], why: str
    ) -> ranges.Ranges:
        """Hand indices to those with room; return what nobody has room for."""
        wanted = spreads(self._job)
        able = [site for site in sites if site.is_open]
        if wanted:
            return self._give_spread(group, free, able, wanted[0], why)
        for site in able:
            taken = ranges.take(free, self._room[site.datacenter_id].get(group, 0))
            if taken:
                self._put(site.datacenter_id, group, taken, why)
                free = ranges.minus(free, taken)
        return free

    def _give_spread(
        self, group: str, free: ranges.Ranges, able: list[Site], spread: Spread, why: str
    ) -> ranges.Ranges:
        """Hand a few at a time to the value that lacks most of its part."""
        values = {site.datacenter_id: site.value for site in able}
        parts = _parts_of(spread, list(dict.fromkeys(values.values())))
        given = self._given(group, values)
        step = max(1, ranges.count(free) // _STEPS)
        while free:
            roomy = [s for s in able if self._room[s.datacenter_id].get(group, 0) > 0]
            if not roomy:
                break
            best = min(roomy, key=lambda s: _fill(given, parts, values[s.datacenter_id]))
            dc = best.datacenter_id
            taken = ranges.take(free, min(step, self._room[dc][group]))
            given[values[dc]] = given.get(values[dc], 0) + ranges.count(taken)
            self._put(dc, group, taken, why)
            free = ranges.minus(free, taken)
        return free

    def _put(self, dc: str, group: str, taken: ranges.Ranges, why: str) -> None:
        self._grow(dc, group, taken)
        room, count = self._room[dc], ranges.count(taken)
        part = count / room[group]
        for other in room:  # all groups draw from the same nodes
            room[other] = room[other] - count if other == group else int(room[other] * (1 - part))
        last = self._result.moves[-1] if self._result.moves else None
        if last is not None and last[:2] == (why, dc):
            self._result.moves[-1] = (why, dc, last[2] + count)
        else:
            self._result.moves.append((why, dc, count))

    def _grow(self, dc: str, group: str, taken: ranges.Ranges) -> None:
        self._allowed[dc] = ranges.merged(self._allowed.get(dc, {}), {group: taken})

    # --- spilling what is blocked -----------------------------------------------------------

    def spill(self) -> None:
        for dc, part in self._home.parts.items():
            blocked = ranges.shared(part.blocked, self._allowed[dc])
            waited_us = self._now_us - part.blocked_since_us
            if not blocked:
                continue
            self._is_waiting = True
            if part.acked != part.index or waited_us < SETTLE_US:
                continue
            last = max(self._rank.values(), default=0)
            reach = last if waited_us >= after_us(self._job) else self._rank.get(dc, 0)
            others = [s for s in self._sites if s.datacenter_id != dc and s.rank <= reach]
            for group, found in blocked.items():
                left = self._leave(dc, group, found, others, "spilled")
                if left and waited_us >= TRY_US:
                    self._try(dc, group, left, others)

    def _leave(
        self, dc: str, group: str, found: ranges.Ranges, others: list[Site], why: str
    ) -> ranges.Ranges:
        """Release as many as others have room for; from the home itself, give them too.

        Returns:
            What stays.
        """
        room = sum(self._room[s.datacenter_id].get(group, 0) for s in others if s.is_open)
        leaving = ranges.take_last(found, room)
        if not leaving:
            return found
        if self._is_free_at_once(dc, group, leaving) and why == "spilled":
            left = self._give(group, leaving, others, why)
            leaving = ranges.minus(leaving, left)
        else:
            self._result.moves.append((why, dc, ranges.count(leaving)))
        self._allowed[dc] = ranges.without(self._allowed[dc], {group: leaving})
        return ranges.minus(found, leaving)

    def _is_free_at_once(self, dc: str, group: str, leaving: ranges.Ranges) -> bool:
        running = self._home.part(dc).running
        return dc == self._own and not ranges.shared({group: leaving}, running)

    def _try_free(self, group: str, found: ranges.Ranges) -> None:
        """Give one to each that may have room."""
        able = [site for site in self._sites if site.is_open and group in site.perhaps]
        for site, index in zip(able, ranges.each(found), strict=False):
            self._grow(site.datacenter_id, group, ((index, index + 1),))
            self._result.moves.append(("tried", site.datacenter_id, 1))

    def _try(self, dc: str, group: str, found: ranges.Ranges, others: list[Site]) -> None:
        """Give one to each that may have room; release what can't be given from here."""
        able = [s for s in others if s.is_open and group in s.perhaps]
        for site, index in zip(able, ranges.each(found), strict=False):
            one: ranges.Ranges = ((index, index + 1),)
            if self._is_free_at_once(dc, group, one):
                self._grow(site.datacenter_id, group, one)
                self._result.moves.append(("tried", site.datacenter_id, 1))
            else:
                self._result.moves.append(("spilled", dc, 1))
            self._allowed[dc] = ranges.without(self._allowed[dc], {group: one})

    # --- leaving a datacenter that is drained --------------------------------------------------

    def evacuate(self) -> None:
        """Release a few where others have room; more when those that left run again."""
        is_cool = not self._home.index or self._now_us - self._home.moved_us >= DRAIN_PACE_US
        if self._home.free or not is_cool or self._result.moves:
            return
        if any(not part.is_settled for part in self._home.parts.values()):
            return
        budget = max(1, ranges.size(self._home.wanted) // MOVE_PART)
        for site in self._sites:
            dc = site.datacenter_id
            others = [s for s in self._sites if s.datacenter_id != dc and not s.is_draining]
            if not site.is_draining or self._is_coming_up(others):
                continue
            for group, found in self._unfinished(dc).items():
                self._leave(dc, group, ranges.take_last(found, budget), others, "evacuated")
                if self._result.moves:
                    return

    def _unfinished(self, dc: str) -> Indices:
        """Return what may move: an instance of batch work that is done must not run again."""
        part = self._home.part(dc)
        return ranges.shared(ranges.merged(part.running, part.blocked), self._allowed.get(dc, {}))

    def _is_coming_up(self, sites: list[Site]) -> bool:
        # Until those that came last run there, nothing more is taken down here.
        for site in sites:
            part = self._home.part(site.datacenter_id)
            waiting = part.live - ranges.size(part.running) - ranges.size(part.blocked)
            if site.is_open and waiting > 0:
                return True
        return False

    # --- coming back ------------------------------------------------------------------------

    def reclaim(self) -> None:
        is_cool = self._now_us - self._home.moved_us >= COOLDOWN_US
        if self._is_waiting or not is_cool or self._result.moves or self._home.free:
            return
        budget = max(1, ranges.size(self._home.wanted) // MOVE_PART)
        by_rank = sorted(self._allowed, key=lambda dc: (-self._rank.get(dc, 0), dc))
        for dc in by_rank:
            part, rank = self._home.part(dc), self._rank.get(dc, 0)
            better = [s for s in self._sites if s.rank < rank and s.is_open]
            if not better or not part.is_settled:
                continue
            for group, found in self._unfinished(dc).items():
                room = sum(self._room[s.datacenter_id].get(group, 0) for s in better)
                if room < self._away(group, rank):  # not all could come: leave some room
                    room = int(room / GAIN)
                count = min(budget, ranges.count(found), room)
                count = self._returning(dc, group, count)
                if count:
                    back = ranges.take_last(found, count)
                    self._allowed[dc] = ranges.without(self._allowed[dc], {group: back})
                    self._result.moves.append(("reclaimed", dc, count))
                    return

    def _returning(self, dc: str, group: str, count: int) -> int:
        """Return how many of so many that leave a datacenter would be given to an earlier rank.

        A spread may want them just where they are, or beside it: datacenters of one name in
        two regions are one value to it.
        """
        wanted = spreads(self._job)
        if not wanted or not count:
            return count
        able = [s for s in self._sites if s.is_open or s.datacenter_id == dc]
        values = {site.datacenter_id: site.value for site in able}
        parts = _parts_of(wanted[0], list(dict.fromkeys(values.values())))
        given = self._given(group, values)
        given[values[dc]] -= count
        room = {s.datacenter_id: self._room[s.datacenter_id].get(group, 0) for s in able}
        room[dc] += count
        for landed in range(count):
            roomy = [site for site in able if room[site.datacenter_id] > 0]
            best = min(roomy, key=lambda s: _fill(given, parts, s.value))
            if best.rank >= self._rank[dc]:
                return landed
            given[best.value] = given.get(best.value, 0) + 1
            room[best.datacenter_id] -= 1
        return count

    def _given(self, group: str, values: dict[str, str]) -> dict[str, int]:
        """Return how many instances each value of a spread has."""
        given: dict[str, int] = {}
        for dc, allowed in self._allowed.items():
            if dc in values:
                count = ranges.count(allowed.get(group, ()))
                given[values[dc]] = given.get(values[dc], 0) + count
        return given

    def _away(self, group: str, rank: int) -> int:
        """Return how many instances of a group run in this rank or a later one."""
        return sum(
            ranges.count(allowed.get(group, ()))
            for dc, allowed in self._allowed.items()
            if self._rank.get(dc, 0) >= rank
        )

    # --- surge ------------------------------------------------------------------------------

    def copy(self) -> None:
        if not self._home.is_surge:
            return
        silent = {s.datacenter_id for s in self._sites if s.silent_us >= SILENT_US}
        copied: Indices = {}
        for part in self._home.parts.values():
            for copies in part.copies.values():
                copied = ranges.merged(copied, copies)
        able = [s for s in self._sites if s.datacenter_id not in silent and s.is_open]
        for dc in sorted(silent):
            held = ranges.shared(self._home.part(dc).holds, self._home.wanted)
            for group, left in ranges.without(held, copied).items():
                for site in able:
                    room = self._room[site.datacenter_id]
                    taken = ranges.take(left, room.get(group, 0))
                    if taken:
                        room[group] -= ranges.count(taken)
                        self._result.copies.append((dc, site.datacenter_id, {group: taken}))
                        left = ranges.minus(left, taken)


def _parts_of(spread: Spread, values: list[str]) -> Mapping[str, float]:
    """Return what part of all each value shall have; what targets leave is shared by the rest."""
    parts = {target.value: target.percent / 100 for target in spread.spread_target or []}
    rest = [value for value in values if value not in parts]
    left = max(0.0, 1 - sum(parts.values()))
    return {**parts, **{value: left / len(rest) for value in rest}}


def _fill(given: dict[str, int], parts: Mapping[str, float], value: str) -> float:
    part = parts.get(value, 0.0)
    return given.get(value, 0) / part if part > 0 else float("inf")
