"""A test per rule of the papers, with the section that states it.

SWIM: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group
Membership Protocol", DSN 2002. Lifeguard: Dadgar, Phillips, Currey, "Lifeguard: SWIM-ing
with Situational Awareness", 2017. Where we differ on purpose, the docstring says how.
"""

import itertools
import math

import pytest
from gossip_lone import Lone, S, alive, claim

from gossip.dissemination import Rumours, retransmit_limit
from gossip.messages import (
    ACK,
    ALIVE,
    DEAD,
    GOSSIP,
    LEFT,
    NACK,
    PING,
    PING_REQUEST,
    SUSPECT,
    Packet,
)
from gossip.settings import LAN, Settings
from gossip.suspicion import suspicion_timeout_us
from sim.gossip_world import GossipWorld

PEERS = ("b", "c", "d", "e", "f")


def pinged(lone: Lone) -> tuple[str, Packet]:
    return lone.tick_until_sent(PING)[0]


# -- SWIM ---------------------------------------------------------------------------------


def test_one_member_is_pinged_each_period():
    """SWIM 3.1: each protocol period, one ping to one member chosen at random."""
    lone = Lone(*PEERS)
    outputs = lone.run(60)
    pings = [p for o in outputs for _, p in o.packets if p.kind == PING]
    assert 59 <= len(pings) <= 61 and {p.target for p in pings} == set(PEERS)


def test_silence_is_asked_about_through_k_others():
    """SWIM 3.1: no ack within the timeout: k random members are asked to ping the target."""
    lone = Lone(*PEERS)
    _, ping = pinged(lone)
    requests = lone.tick_until_sent(PING_REQUEST)
    assert len(requests) == LAN.indirect_probes == 3
    assert {p.target for _, p in requests} == {ping.target}
    assert len({a for a, _ in requests}) == 3 and f"{ping.target}:1" not in {a for a, _ in requests}


def test_who_is_asked_pings_and_passes_the_ack_on():
    """SWIM 3.1: the members asked ping the target and forward its ack to the asker."""
    lone = Lone(*PEERS)
    asked = lone.packet(Packet(PING_REQUEST, 7, "b", "c"), "b:1").packets
    ((address, ping),) = asked
    assert (address, ping.kind, ping.target) == ("c:1", PING, "c")
    answered = lone.packet(Packet(ACK, ping.sequence, "c"), "c:1").packets
    assert [(a, p.kind, p.sequence) for a, p in answered] == [("b:1", ACK, 7)]


def test_no_ack_by_the_end_of_the_period_is_a_suspicion():
    """SWIM 3.1 with 4.2: neither a direct nor an indirect ack by the end of the period."""
    lone = Lone(*PEERS)
    _, ping = pinged(lone)
    lone.run(1.1, is_answered=False)
    assert lone.belief(ping.target)[0] == "suspect"


def test_a_dead_member_is_first_pinged_after_a_period_and_a_half():
    """SWIM 3.1 and 5: whatever the size, the first member pings it after an expected e / (e - 1)
    periods, 1.58. (Less the half by which our members' periods are out of step.)
    """
    world = GossipWorld(seed=4)
    names = world.form_at_once(48)
    killed_us, pinged_us = {}, {}

    def watch(flight):
        packet = flight[2]
        if packet.kind == PING and packet.target in killed_us:
            pinged_us.setdefault(packet.target, world.now_us)

    world.observe(watch)
    for name in names[8:40]:
        world.run(0.7)
        killed_us[name] = world.now_us
        world.kill(name)
    world.run(10)
    waits_s = [(pinged_us[name] - killed_us[name]) / S for name in killed_us]
    assert 0.7 < sum(waits_s) / len(waits_s) < 1.7


def test_the_dead_are_off_the_list():
    """SWIM 3.2: who failed or left is deleted from the membership list: nobody pings it, asks
    others about it, or asks it about others.
    """
    lone = Lone(*PEERS)
    lone.hear(claim("c", DEAD), claim("d", LEFT, by="d"))
    asked = {address for address, _ in lone.tick_until_sent(PING_REQUEST)}
    outputs = lone.run(20)
    targets = {p.target for o in outputs for _, p in o.packets if p.kind == PING}
    assert not {"c", "d"} & targets and not {"c:1", "d:1"} & asked


@pytest.mark.parametrize("kind", [PING, ACK, PING_REQUEST])
def test_updates_ride_on_the_failure_detectors_packets(kind):
    """SWIM 4.1: updates are piggybacked on ping, ping-req and ack; no packets of their own
    are needed. (We send rumours in between as well, as Lifeguard's reference does.)
    """
    lone = Lone(*PEERS, settings=Settings(gossip_interval_us=60 * S))
    lone.hear(alive("new"))
    if kind == ACK:
        sent = lone.packet(Packet(PING, 1, "b", "a"), "b:1").packets
    else:
        sent = lone.tick_until_sent(kind)
    assert any(u.name == "new" for _, p in sent for u in p.updates)


def test_an_update_is_sent_lambda_log_n_times():
    """SWIM 4.1: each is piggybacked at most lambda * log n times, which reaches all."""
    for members in (10, 100, 1_000):
        limit = retransmit_limit(4, members)
        assert limit == 4 * math.ceil(math.log10(members + 1))
        rumours = Rumours(4)
        rumours.resize(members)
        rumours.add(alive("x"))
        assert sum(bool(rumours.take(1_000, 9)) for _ in range(100)) == limit


def test_an_update_spreads_as_an_epidemic():
    """SWIM 4.1 and 5: it reaches all in a number of rounds that grows with log n only; with a
    fan-out of 3, each round multiplies those who know it by less than 4.
    """
    for members in (16, 64, 256):
        rounds = rounds_until_all_know(members)
        assert math.log(members, 4) - 1 < rounds < 2 * math.log(members, 4) + 3


def rounds_until_all_know(members: int) -> float:
    world = GossipWorld(seed=members)
    first, *others = world.form_at_once(members)
    world.do(first, lambda machine, now_us: machine.set_meta({"role": "new"}, now_us))

    def all_know() -> bool:
        views = (world.machine(name).member(first) for name in others)
        return all(view.meta == {"role": "new"} for view in views)

    return world.run_until(all_know, 5) * S / LAN.gossip_interval_us


def test_the_least_told_updates_are_preferred():
    """SWIM 4.1: of more updates than fit, those sent fewer times go first."""
    rumours = Rumours(4)
    old = alive("old")
    rumours.add(old)
    rumours.take(1_000, 1)
    rumours.add(alive("new"))
    assert [u.name for u in rumours.take(1_000, 1)] == ["new"]


@pytest.mark.parametrize(
    ("known", "heard", "wins"),
    [
        # alive i overrides suspect j and alive j, i > j
        ((ALIVE, 1), (ALIVE, 2), True),
        ((SUSPECT, 1), (ALIVE, 2), True),
        ((SUSPECT, 2), (ALIVE, 2), False),
        # suspect i overrides suspect j, i > j, and alive j, i >= j
        ((ALIVE, 2), (SUSPECT, 2), True),
        ((SUSPECT, 1), (SUSPECT, 2), True),
        ((ALIVE, 3), (SUSPECT, 2), False),
        # confirm overrides both
        ((ALIVE, 2), (DEAD, 2), True),
        ((SUSPECT, 2), (DEAD, 2), True),
        ((DEAD, 2), (SUSPECT, 2), False),
        ((DEAD, 2), (ALIVE, 2), False),
    ],
)
def test_the_order_of_precedence(known, heard, wins):
    """SWIM 4.2, the rules of override. (In the paper a death is final and overrides any
    incarnation; here a member may outbid it, or no false death could ever be mended.)
    """
    lone = Lone(*PEERS)

    def say(status, incarnation):
        return alive("c", incarnation) if status == ALIVE else claim("c", status, incarnation)

    lone.hear(say(*known))
    before = lone.belief("c")
    lone.hear(say(*heard))
    assert (lone.belief("c") != before) is wins


def test_only_a_member_itself_raises_its_incarnation():
    """SWIM 4.2: a suspected member raises its incarnation and says alive; nobody else may."""
    lone = Lone(*PEERS)
    lone.hear(claim("a", SUSPECT, 1))
    assert lone.own_incarnation == 2
    sent = lone.tick_until_sent(GOSSIP)[0][1]
    (told,) = [u for u in sent.updates if u.name == "a"]
    assert (told.status, told.incarnation) == (ALIVE, 2)
    lone.hear(claim("c", SUSPECT, 4))
    lone.run(60, is_answered=False)
    assert lone.belief("c") == ("dead", 4)


def test_a_suspect_is_still_a_member():
    """SWIM 4.2: suspected members are treated as members that are not faulty: pinged too."""
    lone = Lone("b", "c")
    lone.hear(claim("c", SUSPECT, 1))
    pings = [p.target for o in lone.run(3) for _, p in o.packets if p.kind == PING]
    assert "c" in pings


def test_a_suspicion_that_lasts_ends_in_death_and_is_told():
    """SWIM 4.2: after the timeout the member is declared faulty, and that is disseminated."""
    lone = Lone(*PEERS)
    lone.hear(claim("c", SUSPECT, 1))
    outputs = lone.run(60)
    told = [u for o in outputs for _, p in o.packets for u in p.updates if u.name == "c"]
    assert lone.belief("c")[0] == "dead" and any(u.status == DEAD for u in told)


def test_everybody_is_pinged_within_two_rounds():
    """SWIM 4.3: a list in random order, walked through and drawn anew after each round, so
    that no two pings of one member are more than 2n - 1 periods apart.
    """
    names = [f"p{n}" for n in range(20)]
    lone = Lone(*names)
    order = [p.target for o in lone.run(20 * 12) for _, p in o.packets if p.kind == PING]
    for name in names:
        at = [place for place, target in enumerate(order) if target == name]
        gaps = [after - before for before, after in itertools.pairwise(at)]
        assert max(gaps) <= 2 * (len(names) + 1) - 1
    rounds = {tuple(order[n : n + 20]) for n in range(0, 100, 20)}
    assert len(rounds) == 5  # not the same order each time


def test_a_new_member_waits_no_longer_than_a_round():
    """SWIM 4.3: one who joins is inserted into the list of the others."""
    lone = Lone(*PEERS)
    lone.run(10)
    lone.hear(alive("new"))
    pings = [p.target for o in lone.run(13) for _, p in o.packets if p.kind == PING]
    assert "new" in pings


def test_the_load_of_a_member_does_not_grow_with_the_pool():
    """SWIM 3.1 and 5: the expected load of each member is constant, whatever n is."""

    def packets_per_member(members):
        world = GossipWorld(seed=3)
        world.form_at_once(members)
        world.run(5)
        before = world.count("packets_sent")
        world.run(20)
        return (world.count("packets_sent") - before) / members

    assert packets_per_member(16) == pytest.approx(packets_per_member(64), rel=0.1)


# -- Lifeguard ----------------------------------------------------------------------------


def health_after(*what) -> int:
    lone = Lone(*PEERS)
    for step in what:
        step(lone)
    return lone.machine.health_score


def miss_a_probe(lone: Lone) -> None:
    pinged(lone)
    for address, request in lone.tick_until_sent(PING_REQUEST):
        lone.packet(Packet(NACK, request.sequence), address)
    lone.run(1.1 * (lone.machine.health_score + 1), is_answered=False)


def answer_a_probe(lone: Lone) -> None:
    address, ping = pinged(lone)
    lone.packet(Packet(ACK, ping.sequence), address)


def refute(lone: Lone) -> None:
    lone.hear(claim("a", SUSPECT, lone.own_incarnation))


def test_local_health_counts_what_went_wrong_here():
    """Lifeguard IV-A: a refutation counts +1, a probe that succeeds -1, within 0..S."""
    assert health_after(refute) == 1
    assert health_after(refute, refute) == 2
    assert health_after(refute, answer_a_probe) == 0
    assert health_after(answer_a_probe) == 0
    assert health_after(*[refute] * 20) == LAN.health_max - 1 == 7


def test_a_missing_nack_counts_and_a_nack_does_not():
    """Lifeguard IV-A: a failed probe with missed nacks counts +1 each; those who send a
    nack show that our own links work, and the target is at fault.
    """
    lone = Lone(*PEERS)
    pinged(lone)
    requests = lone.tick_until_sent(PING_REQUEST)
    lone.packet(Packet(NACK, requests[0][1].sequence), requests[0][0])
    lone.run(1.1, is_answered=False)
    assert lone.machine.health_score == 2


def test_bad_health_stretches_interval_and_timeout():
    """Lifeguard IV-A: ProbeInterval and ProbeTimeout are multiplied by LHM + 1."""
    lone = Lone(*PEERS)
    for _ in range(3):
        refute(lone)
    pinged(lone)
    began_us = lone.now_us
    lone.tick_until_sent(PING_REQUEST)
    assert lone.now_us - began_us == 4 * LAN.probe_timeout_us
    lone.tick_until_sent(PING)
    assert lone.now_us - began_us == 4 * LAN.probe_interval_us


def test_a_nack_comes_before_the_asker_gives_up():
    """Lifeguard IV-A: who was asked sends a nack at 80% of the probe's timeout."""
    lone = Lone(*PEERS)
    lone.packet(Packet(PING_REQUEST, 7, "b", "c"), "b:1")
    began_us = lone.now_us
    ((address, nack), *_) = lone.tick_until_sent(NACK)
    assert (address, nack.sequence) == ("b:1", 7)
    assert lone.now_us - began_us == LAN.probe_timeout_us * 8 // 10


@pytest.mark.parametrize(("confirmations", "share"), [(0, 0.0), (1, 0.5), (3, 1.0), (9, 1.0)])
def test_the_suspicion_timeout_sinks_with_the_log_of_the_confirmations(confirmations, share):
    """Lifeguard IV-B: max(Min, Max - (Max - Min) * log(C + 1) / log(K + 1)), K = 3."""
    wait_us = suspicion_timeout_us(confirmations, k=3, min_us=5 * S, max_us=30 * S)
    assert wait_us == pytest.approx(30 * S - share * 25 * S)


def test_minimum_and_maximum_of_a_suspicion():
    """Lifeguard IV-B: Min = alpha * log10(n) * ProbeInterval, Max = beta * Min; alpha 4 and
    beta 6 are the reference's defaults, the log at least 1.
    """
    lone = Lone(*PEERS)
    lone.hear(claim("c", SUSPECT))
    lone.run(23.9)
    assert lone.belief("c")[0] == "suspect"
    lone.run(0.2)
    assert lone.belief("c")[0] == "dead"


def test_the_first_k_independent_suspicions_are_told_further():
    """Lifeguard IV-B: they are gossiped anew, so that every clock of it runs alike; the
    same accuser twice is not independent.
    """
    lone = Lone(*PEERS)
    lone.hear(claim("c", SUSPECT, by="b"))
    told = []
    for by in ("b", "d", "d", "e", "f"):
        before = lone.machine.rumours.current.get("c")
        lone.hear(claim("c", SUSPECT, by=by))
        told.append(lone.machine.rumours.current.get("c") is not before)
    assert told == [False, True, False, True, False]  # K = 2 of them


def test_the_suspect_is_told_first():
    """Lifeguard IV-C, the buddy system: a ping to a suspect always carries the suspicion."""
    lone = Lone("b", "c")
    lone.hear(claim("c", SUSPECT, 1))
    for _ in range(40):  # long after the rumour was told as often as rumours are
        lone.machine.rumours.take(1_000, 9)
    for _ in range(4):
        address, ping = pinged(lone)
        if ping.target == "c":
            assert [(u.name, u.status) for u in ping.updates[:1]] == [("c", SUSPECT)]
            return
        lone.packet(Packet(ACK, ping.sequence), address)
    raise AssertionError("c was never probed")


@pytest.mark.parametrize("off", ["health_max", "buddy", "dynamic_suspicion"])
def test_each_part_can_be_turned_off(off):
    """Lifeguard V measures each part by itself; so can we (`python -m sim.gossip lifeguard`)."""
    settings = Settings(**{off: 1 if off == "health_max" else False})
    lone = Lone("b", "c", "d", "e", settings=settings)
    refute(lone)
    lone.hear(claim("c", SUSPECT, 1))
    lone.run(4.2)
    if off == "health_max":
        assert lone.machine.health_score == 0
    expected = "dead" if off == "dynamic_suspicion" else "suspect"
    assert lone.belief("c")[0] == expected
