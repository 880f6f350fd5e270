"""Choosing: the score's terms, two draws, own debits, refusals, liars, and their end."""

import random
from typing import Any

import pytest
from nodes import node, state_with, use

from core.federation import digest as digests
from core.federation.ask import Verdict, asks_of, room_of
from core.federation.choice import Candidate, judge_all, order
from core.federation.digest import Digest, Room, pack_trips
from core.federation.known import Known, Site, Tally
from core.federation.survey import Survey
from core.jobspec.canonical import canonicalize
from core.model.job import (
    Affinity,
    FederationPolicy,
    FederationWeights,
    Job,
    Resources,
    Spread,
    SpreadTarget,
    Task,
    TaskGroup,
)

S = 1_000_000
NOW = 1_000 * S
OWN = "a" * 12


def job(cpu: int = 1_000, count: int = 1, **policy: Any) -> Job:
    task = Task(name="t", driver="raw_exec", resources=Resources(cpu=cpu, memory_mb=100))
    group = TaskGroup(name="web", count=count, tasks=[task])
    federation = FederationPolicy(**policy) if policy else None
    return canonicalize(Job(id="web", task_groups=[group], federation=federation), region="eu")


def site(
    name: str, nodes: int = 10, *, used: int = 0, age_s: float = 1, meta: Any = None, **fields: Any
) -> Site:
    state = state_with(node(f"n{i}", meta=meta) for i in range(nodes))
    for ordinal in range(nodes):
        use(state, ordinal, used, 0)
    said = {"region": "eu", "datacenter": name, "datacenter_id": name * 12, **fields}
    return Site(Digest(**said, **Survey().fields(state)), 1, 1, int(age_s * S))


def judged(
    wanted: Job, sites: list[Site], known: Known | None = None, now_us: int = NOW, **more: Any
) -> dict[str, Candidate]:
    found = judge_all(wanted, sites, known or Known(), now_us=now_us, own_id=OWN, **more)
    return {one.site.digest.datacenter: one for one in found}


def scores(wanted: Job, *sites: Site, **more: Any) -> dict[str, float]:
    return {name: one.judgement.score for name, one in judged(wanted, [*sites], **more).items()}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"nodes": 20}, {}),
        ({}, {"used": 4_000}),
        ({}, {"age_s": 40}),
        ({}, {"cost": 200}),
        ({}, {"queue_depth": 500}),
        ({}, {"oldest_s": 300}),
        ({}, {"asked": 10, "refused": 9}),
        ({"round_trips": pack_trips({OWN: 10_000})}, {"round_trips": pack_trips({OWN: 200_000})}),
    ],
)
def test_each_term_moves_the_score(better: dict[str, Any], worse: dict[str, Any]):
    found = scores(job(), site("b", **better), site("c", **worse))
    assert found["b"] > found["c"] > 0, found
    assert all(0 <= score <= 1 for score in found.values())


def test_a_digest_counts_as_new_for_ten_seconds():
    assert len(set(scores(job(), site("b", age_s=0), site("c", age_s=10)).values())) == 1


def test_weights_affinity_and_spread_are_the_jobs():
    near = {"round_trips": pack_trips({OWN: 1_000}), "cost": 300}
    far = {"round_trips": pack_trips({OWN: 300_000})}
    default = scores(job(), site("b", **near), site("c", **far))
    cheap = FederationWeights(cost=100, latency=0)
    weighed = scores(job(weights=cheap), site("b", **near), site("c", **far))
    assert default["b"] > default["c"] and weighed["b"] < weighed["c"]

    data = [Affinity("${meta.dataset}", "genomes", "=", weight=100)]
    found = scores(job(affinities=data), site("b"), site("c", meta={"dataset": "genomes"}))
    assert found["c"] > found["b"]
    away = [Affinity("region", "^eu", "regexp", weight=-100)]
    found = scores(job(affinities=away), site("b"), site("c", region="us"))
    assert found["c"] > found["b"]

    even = [Spread("datacenter", 100)]
    found = scores(job(spread=even), site("b"), site("c"), placed={"b" * 12: 3, "c" * 12: 1})
    assert found["c"] > found["b"]
    target = [Spread("datacenter", 100, [SpreadTarget("b", 90)])]
    found = scores(job(spread=target), site("b"), site("c"), placed={"b" * 12: 3, "c" * 12: 1})
    assert found["b"] > found["c"]


def test_the_two_draws_prefer_the_better_and_still_scatter():
    sites = [site(name, nodes) for name, nodes in (("b", 30), ("c", 10), ("d", 3), ("e", 1))]
    candidates = [*judged(job(cpu=6_000), [*sites]).values()]
    first = [order(candidates, random.Random(seed))[0] for seed in range(400)]
    hits = [sum(one.site.digest.datacenter == name for one in first) for name in "bcde"]
    assert hits[0] > hits[1] > hits[2] >= hits[3], hits
    assert hits[1] > 40, "everybody would overrun the best one"


def test_sure_ones_come_first_and_full_ones_not_at_all():
    sites = [site("b", used=7_500), site("c", used=6_200), site("d", used=6_000)]
    candidates = [*judged(job(cpu=1_700), sites).values()]
    assert [one.judgement.verdict for one in candidates] == [
        Verdict.FULL, Verdict.MAY_FIT, Verdict.FITS
    ]  # fmt: skip
    for seed in range(20):
        asked = order(candidates, random.Random(seed))
        assert [one.site.digest.datacenter for one in asked] == ["d", "c"]


def test_what_was_sent_is_taken_off_until_the_digest_shows_it():
    known = Known()
    wanted = job(cpu=4_000, count=10)
    room = room_of(asks_of(wanted))
    known.sent("b" * 12, room, NOW)
    known.sent("b" * 12, room, NOW)
    assert judged(wanted, [site("b")], known)["b"].judgement.verdict is Verdict.FULL
    assert judged(wanted, [site("c")], known)["c"].judgement.verdict is Verdict.FITS
    # A digest made after it was sent and placed shows it; one made before does not.
    later = NOW + 20 * S
    old, new = site("b", age_s=21), site("b", age_s=1)
    assert judged(wanted, [old], known, later)["b"].judgement.verdict is Verdict.FULL
    assert judged(wanted, [new], known, later)["b"].judgement.verdict is Verdict.FITS
    known.answered("b" * 12, took=False, now_us=NOW, room=room)
    assert known.taken(site("b"), NOW) == room, "a refusal gives back what was sent with it"


def test_a_refusal_brings_news_and_is_not_repeated_at_once():
    known = Known()
    fresh = digests.encode(site("b", used=7_500).digest)
    small, big = job(cpu=100), job(cpu=1_000)
    known.answered(
        "b" * 12, took=False, now_us=NOW, room=Room(1_000, 100), digest=fresh,
        reason="no room", later_us=5 * S,
    )  # fmt: skip
    found = judged(big, [site("b", age_s=8)], known)["b"]
    assert found.judgement.verdict is Verdict.FULL and found.site.age_us == 0
    assert judged(small, [site("b", age_s=8)], known)["b"].judgement.is_possible
    # Gossip overtakes the news, and the word of the refusal ends.
    later = NOW + 3 * S
    found = judged(big, [site("b", age_s=1)], known, later)["b"]
    assert (
        found.judgement.verdict is Verdict.FULL and "refused a moment ago" in found.judgement.reason
    )
    assert judged(big, [site("b", age_s=1)], known, NOW + 6 * S)["b"].judgement.is_possible


def test_a_foreign_digest_in_a_refusal_is_not_believed():
    known = Known()
    known.answered("b" * 12, took=False, now_us=NOW, digest=digests.encode(site("c").digest))
    known.answered("b" * 12, took=False, now_us=NOW, digest=b"\xc1garbage")
    assert judged(job(), [site("b", age_s=8)], known)["b"].site.age_us == 8 * S


def test_who_lies_in_its_digest_is_asked_less_and_forgiven_with_time():
    """It says it is empty and refuses all: its weight falls, and rises again when it stops."""
    rng = random.Random(1)
    sites = [site("b", nodes=30), site("c", nodes=10), site("d", nodes=10)]
    known, asked = Known(), []
    now_us = NOW
    for _ in range(200):
        now_us += S // 2
        pick = order([*judged(job(), sites, known, now_us).values()], rng)[0]
        name = pick.site.digest.datacenter
        asked.append(name)
        known.answered(name * 12, took=name != "b", now_us=now_us)
    assert asked[:20].count("b") > asked[-100:].count("b") / 5
    assert asked[-100:].count("b") <= 12, "a lie costs some calls, not most of them"
    assert known.trust("b" * 12, now_us) < 0.2 < known.trust("b" * 12, now_us + 900 * S)
    assert known.trust("c" * 12, now_us) == 1.0


def test_a_tally_halves_in_its_half_life():
    tally = Tally(10 * S)
    tally.add(0, 8)
    assert tally.value(0) == 8 and tally.value(20 * S) == pytest.approx(2)


def test_a_call_and_an_answer_bring_news():
    known = Known()
    known.heard(site("b", used=7_500).digest, NOW)
    found = judged(job(cpu=1_000), [site("b", age_s=8)], known)["b"]
    assert found.judgement.verdict is Verdict.FULL and found.site.age_us == 0
    room = Room(1_000, 100)
    known.sent("b" * 12, room, NOW)
    fresh = digests.encode(site("b", used=1_000).digest)
    known.answered("b" * 12, took=True, now_us=NOW, digest=fresh)
    assert judged(job(cpu=1_000), [site("b", age_s=8)], known)["b"].judgement.is_possible
    assert known.taken(site("b", age_s=0), NOW) == room, "the news may not show it yet"
