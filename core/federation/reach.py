"""Where a job may run, and how much of it fits there: what its home decides by.

By the digests, but for the home's own datacenter, where the scheduler itself is asked. A
datacenter that the job does not allow any more is a site only if it still has a part.
"""

from typing import TYPE_CHECKING

from core.federation import ranges, splitting
from core.federation.ask import allows
from core.federation.choice import ANY_REGION, Candidate, own_property
from core.federation.held import is_everywhere
from core.federation.homes import Home
from core.federation.outbox import Key
from core.federation.share_log import for_record
from core.federation.splitting import Site
from core.model.job import Job

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator


def rank_of(home: Home, job: Job, region: str) -> int | None:
    """Return the place of a region in the job's order; None = it may not run there."""
    if home.region in (ANY_REGION, region):
        return 0
    policy = job.federation
    if policy is None or policy.spillover is None or is_everywhere(job):
        return None
    regions = list(policy.spillover.regions or [])
    for place, wanted in enumerate(regions, start=1):
        if wanted == region or (wanted == ANY_REGION and region not in regions):
            return place
    return None


class Reach:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host

    def sites(self, home: Home, job: Job) -> list[Site]:
        """Return where a job may run, best first; without an order of its own, home is best."""
        own = self._host.datacenter_id
        placed = {dc: ranges.size(part.allowed) for dc, part in home.parts.items()}
        candidates = self._coordinator.judge(job, placed)
        is_free = job.region == ANY_REGION or bool(splitting.spreads(job))

        def order(candidate: Candidate) -> tuple[bool, bool, float]:
            is_own = candidate.site.digest.datacenter_id == own
            judgement = candidate.judgement
            return not (is_own or is_free), not judgement.is_possible, -judgement.score

        found = (self._site(home, job, one) for one in sorted(candidates, key=order))
        return [site for site in found if site is not None]

    def _site(self, home: Home, job: Job, candidate: Candidate) -> Site | None:
        digest, judgement = candidate.site.digest, candidate.judgement
        dc, sending = digest.datacenter_id, self._coordinator.sending
        rank = rank_of(home, job, digest.region)
        is_allowed = rank is not None and allows(job, digest.region, digest.datacenter)
        if dc not in home.parts and (judgement.is_barred or not is_allowed):
            return None
        silent_us = sending.silent_us(dc)
        is_open = is_allowed and not (judgement.is_barred or silent_us)
        if dc != self._host.datacenter_id and sending.is_resting(home.uid):
            is_open = False
        wanted = splitting.spreads(job)
        return Site(
            datacenter_id=dc,
            rank=rank or 0,
            room=self._room(home, job, candidate),
            value=(own_property(wanted[0].attribute, digest) or dc) if wanted else "",
            is_open=is_open and not sending.is_avoided(Key(home.uid, dc)),
            silent_us=max(silent_us, candidate.site.age_us or 0),
            is_draining=digest.is_draining,
            is_allowed=is_allowed,
            perhaps=self._perhaps(candidate),
        )

    def _perhaps(self, candidate: Candidate) -> frozenset[str]:
        """Return the groups that a digest neither shows room for nor rules out one more of."""
        digest, takes = candidate.site.digest, candidate.judgement.takes
        if digest.datacenter_id == self._host.datacenter_id:
            return frozenset()  # the scheduler knows
        return frozenset(g for g, one in takes.items() if one.likely < 1 <= one.at_most)

    def _room(self, home: Home, job: Job, candidate: Candidate) -> dict[str, int]:
        """Return how many more of each group fit."""
        own = self._host.datacenter_id
        if candidate.site.digest.datacenter_id != own:
            takes = candidate.judgement.takes
            return {group: max(one.at_least, int(one.likely)) for group, one in takes.items()}
        others = [part for dc, part in home.parts.items() if dc != own]
        if is_everywhere(job) or not (home.free or any(part.allowed for part in others)):
            return {}  # nothing could come here: the scheduler need not be asked
        mine = home.part(own).allowed
        asked = for_record(job, ranges.merged(mine, home.wanted))
        fit = self._coordinator.offers.reservations.fit(job, asked, uid=home.uid)
        return {
            one.group: max(0, one.placed - ranges.count(mine.get(one.group, ())))
            for one in fit.groups
        }
