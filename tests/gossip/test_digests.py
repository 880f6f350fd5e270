"""The digest queue: newest wins, ages add up, memory is bounded."""

import pytest
from gossip_lone import Lone, S
from hypothesis import given
from hypothesis import strategies as st

from gossip.messages import DIGEST_BYTES_MAX, GOSSIP, Digest, Packet
from gossip.settings import Settings
from sim.gossip_world import GossipWorld


@given(st.permutations([(1, 1), (1, 2), (2, 1), (1, 9), (2, 1)]))
def test_newest_term_and_sequence_wins_in_any_order(order):
    lone = Lone("b")
    for term, sequence in order:
        digest = Digest("dc1", term, sequence, 0, b"%d.%d" % (term, sequence))
        lone.packet(Packet(GOSSIP, digests=(digest,)))
    (view,) = lone.machine.digests(0)
    assert (view.term, view.sequence, view.data) == (2, 1, b"2.1")


def test_age_is_relayed_age_plus_time_here():
    lone = Lone("b")
    lone.now_us = 10 * S
    lone.packet(Packet(GOSSIP, digests=(Digest("dc1", 1, 1, 7 * S, b"x"),)))
    assert lone.machine.digests(13 * S)[0].age_us == 10 * S
    lone.now_us = 13 * S
    sent = [d for _, p in lone.tick_until_sent(GOSSIP) for d in p.digests]
    assert sent[0].age_us == lone.now_us - 10 * S + 7 * S


def test_changes_are_told_once():
    lone = Lone("b")
    packet = Packet(GOSSIP, digests=(Digest("dc1", 1, 1, 0, b"x"),))
    assert lone.packet(packet).digest_changes == ["dc1"]
    assert lone.packet(packet).digest_changes == []


def test_too_large_is_refused_at_its_source():
    with pytest.raises(ValueError, match="at most 1000"):
        Lone().machine.publish_digest("dc1", 1, 1, bytes(DIGEST_BYTES_MAX + 1), 0)


def test_origins_are_bounded_and_the_outdated_make_room():
    lone = Lone("b", settings=Settings(digest_origins_max=3, digest_keep_us=100 * S))
    for number in range(5):
        lone.packet(Packet(GOSSIP, digests=(Digest(f"dc{number}", 1, 1, 0, b""),)))
    assert len(lone.machine.digests(0)) == 3
    assert lone.dropped("too_many_origins") == 2
    lone.now_us = 101 * S
    lone.packet(Packet(GOSSIP, digests=(Digest("dc9", 1, 1, 0, b""),)))
    assert [v.origin for v in lone.machine.digests(lone.now_us)] == ["dc9"]


def test_a_digest_too_old_to_matter_is_dropped():
    lone = Lone("b")
    lone.packet(Packet(GOSSIP, digests=(Digest("dc1", 1, 1, 1 << 60, b""),)))
    assert lone.machine.digests(0) == [] and lone.dropped("digest_outdated") == 1


def test_packets_hold_their_limit_and_every_record_is_told():
    lone = Lone("b", "c")
    for number in range(6):
        lone.machine.publish_digest(f"dc{number}", 1, 1, bytes(700), 0)
    told = [p for o in lone.run(60) for _, p in o.packets if p.digests]
    assert all(sum(d.size_bytes for d in p.digests) <= 1_240 for p in told)
    assert {d.origin for p in told for d in p.digests} == {f"dc{n}" for n in range(6)}


def test_all_members_soon_hold_the_newest_with_a_true_age():
    world = GossipWorld(seed=4, loss=0.05)
    names = world.form(24)
    for sequence in range(1, 8):
        published_us = world.now_us
        world.do(
            "m0000",
            lambda machine, now_us, sequence=sequence: machine.publish_digest(
                "dc1", 3, sequence, bytes(700), now_us
            ),
        )
        world.run(5)
    world.run(5)
    for name in names:
        (view,) = world.machine(name).digests(world.now_us)
        assert view.sequence == 7
        true_age_us = world.now_us - published_us
        assert 0 <= true_age_us - view.age_us < S // 10, "only time on the wire is missing"
