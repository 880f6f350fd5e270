"""Which datacenters to ask for room, and in which order: two weighted choices, own debits.

    filter    allowed, not drained, quorum, heard of within 90 s, has what is asked, has room
    score     headroom, affinity, spread deficit, cost, latency, by the job's weights; less for
              an old digest, a long queue, room for few copies, refusals of what was promised
    order     draw two at random, weighted by room and score; ask the better one first

Everybody who sees the same digest would pick the same best datacenter and overrun it: the
two draws scatter the callers (the power of two choices), and each caller's own debits keep
it from overrunning a datacenter alone (core.federation.known).
"""

import math
import random
from typing import Final, NamedTuple

import msgspec

from core.federation import words
from core.federation.ask import Judgement, Verdict, asks_of, judge, room_of, word_of
from core.federation.digest import PRICE_UNIT, Digest
from core.federation.known import Known, Site, merged_rate
from core.model.job import Affinity, FederationPolicy, Job, Spread
from core.model.node import Node
from core.scheduler.constraints import is_constraint_met

ANY_REGION: Final = "*"
FRESH_US: Final = 10_000_000  # so old a digest is as good as new
STALE_US: Final = 90_000_000
_STALE_SCORE: Final = 0.2
_FAR_US: Final = 100_000_000 // 1000  # a round trip that halves the score of nearness
_COPIES: Final = 4096  # so many copies of the job fit: more room is no better
_SCARCE: Final = 3.0  # room for so few copies halves the score
_WEIGHTS: Final = {"headroom": 50, "cost": 25, "latency": 25}
_DEFAULT_WEIGHT: Final = 50  # of an affinity or a spread, as Nomad's
_NOBODY: Final = Node(id="")  # constraints on a datacenter's own properties ask no node


class Candidate(NamedTuple):
    site: Site
    judgement: Judgement


def judge_all(
    job: Job,
    sites: list[Site],
    known: Known,
    *,
    now_us: int,
    own_id: str = "",
    placed: dict[str, int] | None = None,
) -> list[Candidate]:
    """Return the verdict of every site, ordered by (region, datacenter, id).

    Args:
        now_us: By the clock that `known` was told.
        own_id: Datacenter that asks: it is no distance away.
        placed: How many instances of the job each datacenter has already, for its spread.
    """
    asks = asks_of(job)
    room = room_of(asks)
    ordered = sorted(
        (known.newest(site, now_us) for site in sites),
        key=lambda s: (s.digest.region, s.digest.datacenter, s.digest.datacenter_id),
    )
    judged = []
    for site in ordered:
        taken, age_us = known.taken(site, now_us), site.age_us or 0
        reading = known.reading(site.digest)
        found = judge(job, asks, site.digest, taken=taken, age_us=age_us, reading=reading)
        said = known.refusal(site.digest.datacenter_id, room, now_us)
        if said is not None and found.is_possible:
            found = msgspec.structs.replace(
                found, verdict=Verdict.FULL, reason=f"it refused a moment ago: {said.reason}"
            )
        judged.append((site, found))
    able = [site.digest for site, found in judged if not found.is_barred]
    scoring = _Scoring(job.federation, able, placed or {})
    counts = {ask.group: ask.count for ask in asks if ask.count}
    candidates = []
    for site, found in judged:
        if not found.is_barred:
            digest = site.digest
            trip_us = known.trip_us(digest.datacenter_id, digest, own_id)
            copies = min(
                (found.takes[group].likely / count for group, count in counts.items()),
                default=float(_COPIES),
            )
            doubt = known.trust(digest.datacenter_id, now_us) * _freshness(site.age_us or 0)
            # Where little more than the job fits, somebody else may be first.
            chance = copies / (copies + _SCARCE)
            score = scoring.score(digest, copies, trip_us) * doubt * chance * _idleness(digest)
            found = msgspec.structs.replace(found, score=round(score, 4), weight=score * chance)
        candidates.append(Candidate(site, found))
    return candidates


def within_reach(job: Job, candidates: list[Candidate], home_region: str) -> list[Candidate]:
    """Return the candidates with those barred whose region the job does not allow.

    Args:
        home_region: Of a job that names none: that of who was asked.
    """
    if job.region == ANY_REGION:
        return candidates
    spillover = job.federation.spillover if job.federation is not None else None
    allowed = [job.region or home_region, *((spillover.regions if spillover else None) or [])]
    reached = []
    for site, found in candidates:
        is_allowed = ANY_REGION in allowed or site.digest.region in allowed
        if not is_allowed and (found.is_possible or found.verdict is Verdict.FULL):
            text = f"{found.reason}, but the job does not allow this region"
            found = msgspec.structs.replace(found, verdict=Verdict.NOT_ALLOWED, reason=text)
        reached.append(Candidate(site, found))
    return reached


def order(candidates: list[Candidate], rng: random.Random) -> list[Candidate]:
    """Return the candidates worth asking, in the order to ask them.

    Those that surely fit come before those that may; within each, two weighted draws decide.
    The rest is not asked: what did not fit at the digest's moment hardly fits a moment later,
    and a wasted question costs the caller and the asked.
    """
    asked: list[Candidate] = []
    for verdict in (Verdict.FITS, Verdict.MAY_FIT):
        pool = [c for c in candidates if c.judgement.verdict is verdict]
        while pool:
            pick = _better_of_two(pool, rng)
            pool.remove(pick)
            asked.append(pick)
    return asked


def _better_of_two(pool: list[Candidate], rng: random.Random) -> Candidate:
    first, second = _draw(pool, rng), _draw(pool, rng)
    return first if first.judgement.score >= second.judgement.score else second


def _draw(pool: list[Candidate], rng: random.Random) -> Candidate:
    weights = [max(candidate.judgement.weight, 0.001) for candidate in pool]
    mark = rng.random() * sum(weights)
    for candidate, weight in zip(pool, weights, strict=True):
        mark -= weight
        if mark <= 0:
            return candidate
    return pool[-1]


# --- the score ----------------------------------------------------------------------------------


class _Scoring:
    """The terms of one job, each 0 to 1, averaged by their weights."""

    def __init__(
        self, policy: FederationPolicy | None, able: list[Digest], placed: dict[str, int]
    ) -> None:
        said = policy.weights if policy is not None else None
        self._weights = {
            name: default if (given := getattr(said, name, None)) is None else given
            for name, default in _WEIGHTS.items()
        }
        self._affinities = (policy.affinities if policy is not None else None) or []
        self._spreads = [
            _Deficit(one, able, placed)
            for one in (policy.spread if policy is not None else None) or []
        ]
        self._cheapest = min((max(digest.cost, 1) for digest in able), default=PRICE_UNIT)

    def score(self, digest: Digest, copies: float, trip_us: int | None) -> float:
        nearness = 0.5 if trip_us is None else 1 / (1 + trip_us / _FAR_US)
        terms = [
            (self._weights["headroom"], min(1.0, math.log2(1 + copies) / math.log2(_COPIES))),
            (self._weights["cost"], self._cheapest / max(digest.cost, 1)),
            (self._weights["latency"], nearness),
        ]
        for affinity in self._affinities:
            weight = _DEFAULT_WEIGHT if affinity.weight is None else affinity.weight
            is_wanted = is_met(affinity, digest) == (weight > 0)
            terms.append((abs(weight), 1.0 if is_wanted else 0.0))
        terms += [(spread.weight, spread.term(digest)) for spread in self._spreads]
        whole = sum(weight for weight, _ in terms)
        return sum(weight * term for weight, term in terms) / whole if whole else 0.5


class _Deficit:
    """How far each value of a spread is from its share of the job's instances."""

    def __init__(self, spread: Spread, able: list[Digest], placed: dict[str, int]) -> None:
        self.weight = _DEFAULT_WEIGHT if spread.weight is None else spread.weight
        self._attribute = spread.attribute
        of = {digest.datacenter_id: self._value(digest) for digest in able}
        self._placed: dict[str, int] = {}
        for datacenter_id, count in placed.items():
            value = of.get(datacenter_id, "")
            self._placed[value] = self._placed.get(value, 0) + count
        self._total = sum(self._placed.values())
        wanted = {one.value: one.percent / 100 for one in spread.spread_target or []}
        others = sorted({value for value in of.values() if value not in wanted})
        left = max(0.0, 1 - sum(wanted.values()))
        self._wanted = {**wanted, **{value: left / len(others) for value in others}}

    def _value(self, digest: Digest) -> str:
        return own_property(self._attribute, digest) or ""

    def term(self, digest: Digest) -> float:
        """Return 1 where nothing of its share is yet, 0.5 where it has it, towards 0 beyond."""
        value = self._value(digest)
        wanted = self._wanted.get(value, 0.0)
        has = self._placed.get(value, 0) / max(self._total, 1)
        larger = max(wanted, has)
        return 0.5 + (wanted - has) / (2 * larger) if larger else 0.0


def own_property(target: str, digest: Digest) -> str | None:
    """Return the region or datacenter that a target names, None when it names neither."""
    name = target.removeprefix("${").removesuffix("}").removeprefix("node.")
    return {"region": digest.region, "datacenter": digest.datacenter}.get(name)


def is_met(affinity: Affinity, digest: Digest) -> bool:
    """Return whether a datacenter has what an affinity asks for, as far as its digest tells."""
    own = own_property(affinity.l_target, digest)
    if own is not None:
        return is_constraint_met(msgspec.structs.replace(affinity, l_target=own), _NOBODY)
    word = word_of(affinity)
    return bool(word and digest.words) and words.may_have(digest.words, word)


def _freshness(age_us: int) -> float:
    late = (age_us - FRESH_US) / (STALE_US - FRESH_US)
    return 1 - (1 - _STALE_SCORE) * min(max(late, 0.0), 1.0)


def _idleness(digest: Digest) -> float:
    """Return less than 1 for a datacenter that is behind with its queue, or refuses much."""
    queue = digest.queue_depth / (digest.queue_depth + 100)
    waiting = digest.oldest_s / (digest.oldest_s + 60)
    return (1 - 0.5 * max(queue, waiting)) * (1 - 0.5 * merged_rate(digest))


__all__ = [
    "ANY_REGION", "Candidate", "Site", "is_met", "judge_all", "order", "own_property",
    "within_reach",
]  # fmt: skip
