"""In which order to ask datacenters for room: two weighted choices, own debits.

Everybody who sees the same digest would pick the same best datacenter and overrun it.
So each pick draws two at random, weighted by room, and takes the better (power of two
choices). What was sent somewhere since its digest was made is debited from it, so the
next pick knows; a newer digest clears the debit.
"""

import random
from typing import NamedTuple

import msgspec

from core.federation.ask import GroupAsk, Judgement, Verdict, asks_of, judge
from core.federation.digest import Digest, Room
from core.model.job import Job


class Site(NamedTuple):
    """A datacenter as its newest digest shows it. `age_us` is None for our own: it is live."""

    digest: Digest
    term: int
    sequence: int
    age_us: int | None


class Candidate(NamedTuple):
    site: Site
    judgement: Judgement


class Debits:
    """What was sent to each datacenter since the digest that choices were based on."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[tuple[int, int], Room]] = {}

    def add(self, site: Site, asks: list[GroupAsk]) -> None:
        version = (site.term, site.sequence)
        known = self._sent.get(site.digest.datacenter_id)
        room = known[1] if known is not None and known[0] == version else Room()
        self._sent[site.digest.datacenter_id] = (
            version,
            Room(
                room.cpu + sum(ask.each.cpu * ask.count for ask in asks),
                room.memory + sum(ask.each.memory * ask.count for ask in asks),
                room.disk + sum(ask.each.disk * ask.count for ask in asks),
            ),
        )

    def after(self, site: Site) -> Digest:
        """Return the site's digest with what was sent there taken off its free room."""
        known = self._sent.get(site.digest.datacenter_id)
        if known is None or known[0] != (site.term, site.sequence):
            return site.digest
        free, debit = site.digest.free, known[1]
        return msgspec.structs.replace(
            site.digest,
            free=Room(
                max(0, free.cpu - debit.cpu),
                max(0, free.memory - debit.memory),
                max(0, free.disk - debit.disk),
            ),
        )


def judge_all(job: Job, sites: list[Site], debits: Debits) -> list[Candidate]:
    """Return the verdict of every site, ordered by (region, datacenter, id)."""
    asks = asks_of(job)
    ordered = sorted(
        sites, key=lambda s: (s.digest.region, s.digest.datacenter, s.digest.datacenter_id)
    )
    return [Candidate(site, judge(job, asks, debits.after(site))) for site in ordered]


def order(candidates: list[Candidate], rng: random.Random) -> list[Candidate]:
    """Return the candidates worth asking, in the order to ask them.

    Those that fit come before those that may; within each, two weighted draws decide.
    FULL ones follow, by score: the digest may be old. The rest is not asked.
    """
    asked: list[Candidate] = []
    for verdict in (Verdict.FITS, Verdict.MAY_FIT):
        pool = [c for c in candidates if c.judgement.verdict is verdict]
        while pool:
            pick = _better_of_two(pool, rng)
            pool.remove(pick)
            asked.append(pick)
    full = [c for c in candidates if c.judgement.verdict is Verdict.FULL]
    asked.extend(sorted(full, key=lambda c: -c.judgement.score))
    return asked


def _better_of_two(pool: list[Candidate], rng: random.Random) -> Candidate:
    first, second = _draw(pool, rng), _draw(pool, rng)
    return first if first.judgement.score >= second.judgement.score else second


def _draw(pool: list[Candidate], rng: random.Random) -> Candidate:
    weights = [max(candidate.judgement.score, 0.01) for candidate in pool]
    mark = rng.random() * sum(weights)
    for candidate, weight in zip(pool, weights, strict=True):
        mark -= weight
        if mark <= 0:
            return candidate
    return pool[-1]
