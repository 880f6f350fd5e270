"""SWIM section 4.2 and Lifeguard's LHA-Suspicion."""

import pytest
from gossip_lone import Lone, S, alive, claim
from hypothesis import given
from hypothesis import strategies as st

from gossip.awareness import Awareness
from gossip.messages import SUSPECT
from gossip.settings import LAN, WAN, Settings
from gossip.suspicion import Suspicion, suspicion_min_us, suspicion_timeout_us

PEERS = ("b", "c", "d", "e", "f")


@pytest.mark.parametrize(("members", "expected_s"), [(1, 4), (10, 4), (100, 8), (1_000, 12)])
def test_minimum_grows_with_the_log_of_the_pool(members, expected_s):
    assert suspicion_min_us(LAN, members) == pytest.approx(expected_s * S)


def test_wan_profile_is_tighter_than_the_fields_default():
    assert suspicion_min_us(WAN, 50) < 26 * S


@given(st.integers(1, 8), st.integers(1, 10**8), st.integers(0, 10**9))
def test_confirmations_only_shorten_and_k_of_them_reach_the_minimum(k, min_us, extra_us):
    waits = [
        suspicion_timeout_us(n, k=k, min_us=min_us, max_us=min_us + extra_us) for n in range(k + 3)
    ]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == min_us + extra_us
    assert set(waits[k:]) == {min_us}


def test_nonsense_is_refused():
    with pytest.raises(ValueError):
        suspicion_timeout_us(-1, k=2, min_us=1, max_us=2)
    with pytest.raises(ValueError):
        suspicion_timeout_us(0, k=2, min_us=3, max_us=2)


def test_an_accuser_counts_once_and_only_k_count():
    suspicion = Suspicion("b", 0, LAN, 10)
    assert [suspicion.confirm(by) for by in ("b", "c", "c", "d", "e")] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_in_a_tiny_pool_nobody_can_confirm():
    assert Suspicion("b", 5, LAN, 3).deadline_us == 5 + suspicion_min_us(LAN, 3)


def time_to_death(*confirmers: str, settings: Settings = LAN) -> float:
    lone = Lone(*PEERS, settings=settings)
    lone.hear(claim("f", SUSPECT, by="b"))
    for by in confirmers:
        lone.hear(claim("f", SUSPECT, by=by))
    while lone.belief("f")[0] == "suspect":
        lone.run(0.05)
    assert lone.belief("f") == ("dead", 1)
    return lone.now_us / S


def test_a_lone_accuser_waits_long_and_company_hastens():
    # our own probes are answered here, so nobody but those named confirms
    assert time_to_death() == pytest.approx(24, abs=0.1)
    assert 4.1 < time_to_death("c") < 23
    assert time_to_death("c", "d") == pytest.approx(4, abs=0.1)
    assert time_to_death(settings=Settings(dynamic_suspicion=False)) == pytest.approx(4, abs=0.1)


def test_who_doubts_its_own_timing_gives_a_suspect_longer():
    """An interval for each point of health: who misses answers misses refutations too."""
    lone = Lone(*PEERS)
    lone.hear(*(claim("a", SUSPECT, incarnation) for incarnation in (1, 2, 3)))
    assert lone.machine.health_score == 3
    for by in ("b", "c", "d"):
        lone.hear(claim("f", SUSPECT, by=by))
    # answered by nobody, it stays at odds with its timing
    lone.run(4, is_answered=False)
    score = lone.machine.health_score
    assert score >= 3 and lone.belief("f") == ("suspect", 1)
    lone.run(2.5, is_answered=False)
    assert lone.belief("f") == ("suspect", 1)
    lone.run(5.5, is_answered=False)
    assert lone.belief("f") == ("dead", 1)


def test_a_refutation_ends_it():
    lone = Lone(*PEERS)
    lone.hear(claim("f", SUSPECT, by="b"))
    lone.run(2)
    lone.hear(alive("f", 2))
    lone.run(60)
    assert lone.belief("f") == ("alive", 2)


def test_a_second_suspicion_has_its_own_clock():
    lone = Lone(*PEERS)
    lone.hear(claim("f", SUSPECT, 1, by="b"))
    lone.run(3.9)
    lone.hear(alive("f", 2), claim("f", SUSPECT, 2, by="b"))
    for by in ("c", "d"):
        lone.hear(claim("f", SUSPECT, 2, by=by))
    lone.run(3.9)
    assert lone.belief("f") == ("suspect", 2)
    lone.run(0.2)
    assert lone.belief("f") == ("dead", 2)


def test_who_slept_reads_its_queue_before_it_declares_death():
    lone = Lone(*PEERS)
    lone.hear(claim("f", SUSPECT, by="b"))
    lone.now_us += 100 * S
    lone.machine.tick(lone.now_us)
    assert lone.belief("f") == ("suspect", 1)
    lone.hear(alive("f", 2))
    lone.run(5)
    assert lone.belief("f") == ("alive", 2)


@pytest.mark.parametrize("is_timer_first", [True, False])
def test_who_slept_does_not_let_a_confirmation_end_a_suspicion_at_once(is_timer_first):
    """Found by theme "dozing" of sim.gossip: the refutation lay in the queue, behind it."""
    lone = Lone(*PEERS)
    lone.hear(claim("c", SUSPECT, by="b"))
    lone.now_us += 30 * S  # stopped for longer than any suspicion lasts
    if is_timer_first:
        lone.tick()
    lone.hear(claim("c", SUSPECT, by="d"))
    if not is_timer_first:
        lone.tick()
    assert lone.belief("c")[0] == "suspect"
    lone.hear(alive("c", 2))
    lone.run(60)
    assert lone.belief("c")[0] == "alive"


def test_a_confirmation_is_passed_on():
    lone = Lone(*PEERS)
    lone.run(20)
    lone.hear(claim("f", SUSPECT, by="b"))
    lone.hear(claim("f", SUSPECT, by="c"))
    told = {u.by for o in lone.run(1) for _, p in o.packets for u in p.updates if u.name == "f"}
    assert "c" in told


@given(st.lists(st.integers(-3, 3)))
def test_health_stays_in_bounds(deltas):
    awareness = Awareness(8)
    for delta in deltas:
        awareness.add(delta)
        assert 0 <= awareness.score <= 7
        assert awareness.stretch_us(10) == 10 * (awareness.score + 1)
