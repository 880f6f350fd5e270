"""Push-pull: joining, repair by summaries, finding back, forgetting."""

import itertools

import pytest
from gossip_lone import Lone, S, alive, claim
from hypothesis import given
from hypothesis import strategies as st

from gossip.messages import (
    ACK,
    DEAD,
    LEFT,
    NACK,
    SYNC_DIFFERENCE,
    SYNC_DONE,
    SYNC_ROWS,
    SYNC_SUMMARY,
    SYNC_TABLE,
    Packet,
    make_update,
)
from gossip.settings import Settings
from gossip.table import SUMMARY_BYTES, differing_buckets
from gossip.views import EventKind
from sim.gossip_world import GossipWorld

SUMMARIES = Settings(full_table_max_members=1)


def test_a_joiner_brings_itself_and_takes_all():
    lone = Lone()
    lone.machine.join(["b:1", "a:1"], 0)
    ((exchange_id, address, request, _),) = lone.machine.take_output().exchanges
    assert address == "b:1" and [u.name for u in request.updates] == ["a"]
    reply = Packet(SYNC_TABLE, sender="b", updates=(alive("b"), alive("c"), alive("d")))
    lone.machine.on_exchanged(exchange_id, reply, 0)
    assert [m.name for m in lone.machine.members()] == ["a", "b", "c", "d"]
    assert lone.machine.rumours_queued == 0, "who gave the table has told the others"


def test_the_dead_of_another_are_only_suspected():
    lone = Lone("b", "c", "d")
    lone.give_table(alive("b"), claim("c", DEAD, by="c"), claim("d", LEFT, by="d"))
    assert lone.belief("c") == ("suspect", 1)
    assert lone.belief("d") == ("left", 1)


@pytest.mark.parametrize("settings", [Settings(), SUMMARIES])
def test_who_is_alone_tells_nobody_of_its_dead_also_when_asked(settings):
    """Found by theme "isolation" of sim.gossip: each of them had to refute."""
    lone = Lone("b", "c", settings=settings)
    lone.hear(claim("b", DEAD), claim("c", DEAD))
    if settings is SUMMARIES:
        output = lone.request(Packet(SYNC_SUMMARY, sender="b", summary=b"\1" * SUMMARY_BYTES))
    else:
        output = lone.give_table(alive("b", 1), alive("c", 1))
    ((_, reply),) = output.replies
    assert [row.name for row in reply.updates] == ["a"]


def test_a_round_that_failed_is_made_up_for_soon():
    lone = Lone("b", "c", "d")
    asked_us = []
    for _ in range(1_000):
        output = lone.tick()
        for address, packet in output.packets:
            lone.packet(Packet(ACK, packet.sequence), address)
        for exchange_id, _, packet, _ in output.exchanges:
            if packet.kind == SYNC_TABLE:
                asked_us.append(lone.now_us)
            lone.machine.on_exchanged(exchange_id, None, lone.now_us)
        if len(asked_us) == 4:
            break
    waits_us = [after - before for before, after in itertools.pairwise(asked_us)]
    assert all(1 * S < wait_us < 4 * S for wait_us in waits_us)


def test_our_own_death_in_a_table_is_outbid():
    lone = Lone("b")
    reply = lone.give_table(alive("b"), make_update("a", 7 << 2 | DEAD, "a"))
    assert lone.belief("a") == ("alive", 8)
    assert [p.kind for _, p in reply.replies] == [SYNC_TABLE]


def test_requests_that_make_no_sense_are_answered_with_nack():
    lone = Lone("b")
    for packet in (Packet(99), Packet(SYNC_SUMMARY, summary=b"short"), Packet(SYNC_DONE)):
        assert [p.kind for _, p in lone.request(packet).replies] == [NACK]


def test_unknown_and_failed_exchanges_are_harmless():
    lone = Lone("b")
    lone.machine.on_exchanged(999, None, 0)
    lone.machine.join(["c:1", "d:1"], 0)
    (first, *_), (second, *_) = lone.machine.take_output().exchanges
    lone.machine.on_exchanged(first, None, 0)
    lone.machine.on_exchanged(second, Packet(99), 0)
    assert lone.machine.counters.exchanges_failed == 1
    assert lone.dropped("unexpected_reply") == 1


def exchange(asker: Lone, answerer: Lone) -> list[int]:
    """Let `asker` exchange with `answerer`; return the kinds of all packets."""
    asker.machine._exchanger._ask("b:1", asker.now_us)
    kinds = []
    pending = asker.machine.take_output().exchanges
    while pending:
        exchange_id, _, request, _ = pending.pop()
        ((_, reply),) = answerer.request(request).replies
        kinds += [request.kind, reply.kind]
        asker.machine.on_exchanged(exchange_id, reply, asker.now_us)
        pending += asker.machine.take_output().exchanges
    return kinds


def test_equal_views_exchange_a_summary_and_nothing_else():
    peers = [f"m{i}" for i in range(30)]
    one, two = Lone(*peers, settings=SUMMARIES), Lone(*peers, settings=SUMMARIES)
    assert exchange(one, two) == [SYNC_SUMMARY, SYNC_DIFFERENCE]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90), st.booleans()), max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90), st.booleans()), max_size=40),
)
def test_after_an_exchange_both_know_the_larger_key_of_all(ours, theirs):
    both = (Lone("base", "b", settings=SUMMARIES), Lone("base", "b", settings=SUMMARIES))
    newest: dict[str, int] = {}
    for lone, rows in zip(both, (ours, theirs), strict=True):
        for number, incarnation, is_suspect in rows:
            name = f"m{number}"
            lone.hear(alive(name, incarnation))
            if is_suspect:
                lone.hear(claim(name, 1, incarnation, by="base"))
            view = lone.view(name)
            key = view.incarnation << 2 | (view.status == "suspect")
            newest[name] = max(newest.get(name, 0), key)
    kinds = exchange(*both)
    for lone in both:
        for name, key in newest.items():
            assert lone.belief(name) == (("alive", "suspect")[key & 1], key >> 2)
    assert kinds in (
        [SYNC_SUMMARY, SYNC_DIFFERENCE],
        [SYNC_SUMMARY, SYNC_DIFFERENCE, SYNC_ROWS, SYNC_DONE],
    )


def test_differing_buckets():
    ours = bytes(2_048)
    theirs = bytearray(ours)
    theirs[8 * 7 + 3] = theirs[8 * 255] = 1
    assert differing_buckets(ours, bytes(theirs)) == bytes((7, 255))
    assert differing_buckets(ours, ours) == b""


def test_the_failed_are_tried_again_and_then_forgotten():
    settings = Settings(tombstone_us=600 * S)
    lone = Lone("b", "c", settings=settings)
    lone.hear(claim("c", DEAD))
    outputs = lone.run(500)
    tried = [a for o in outputs for _, a, p, _ in o.exchanges if a == "c:1"]
    assert 3 <= len(tried) <= 20, "about half of the rounds of 30 s, the other half is b's"
    reaped = [e.member.name for o in lone.run(200) for e in o.events if e.kind == EventKind.REAPED]
    assert reaped == ["c"] and lone.machine.member("c") is None
    again = [a for o in lone.run(600) for _, a, p, _ in o.exchanges if a == "c:1"]
    assert again, "its address is remembered"


def test_who_left_is_not_tried_and_is_forgotten():
    lone = Lone("b", "c", settings=Settings(tombstone_us=600 * S))
    lone.hear(claim("c", LEFT, by="c"))
    assert not [a for o in lone.run(1_500) for _, a, _, _ in o.exchanges if a == "c:1"]
    assert lone.machine.member("c") is None


def test_numbers_of_the_forgotten_are_used_again():
    """Bounded memory: names come and go for years."""
    lone = Lone("b", settings=Settings(tombstone_us=60 * S))
    for life in range(20):
        lone.hear(*(alive(f"m{life}-{i}") for i in range(10)))
        lone.hear(*(claim(f"m{life}-{i}", LEFT, by=f"m{life}-{i}") for i in range(10)))
        lone.run(200)
    assert len(lone.machine.members()) == 2
    assert len(lone.machine.table.keys) <= 12


def test_a_restart_with_known_members_asks_them_at_once():
    lone = Lone(known=[("b", "b:1"), ("c", "c:1")])
    assert {a for _, a, _, _ in lone.tick().exchanges} == {"b:1", "c:1"}


def test_a_snapshot_names_the_living_then_the_dead():
    """Who restarts while all others are dead to it has nobody else to ask."""
    lone = Lone("b", "c", "d")
    lone.hear(claim("c", DEAD))
    lone.machine.join(["seed.example:4648"], 0)
    assert lone.machine.snapshot() == [
        ("b", "b:1"), ("d", "d:1"), ("c", "c:1"), ("", "seed.example:4648")
    ]  # fmt: skip


def test_an_isolated_member_finds_back_without_a_storm():
    world = GossipWorld(seed=7, loss=0.01)
    world.form(32)
    cut = world.isolate("m0007")
    world.run(300)
    assert {m.status for m in world.machine("m0007").members()[:7]} == {"dead"}
    incarnations = {m.name: m.incarnation for m in world.machine("m0000").members()}
    world.network.heal(cut)
    world.run_until(world.is_agreed, 60)
    after = {m.name: m.incarnation for m in world.machine("m0000").members()}
    refuted = {name for name in after if after[name] > incarnations[name]}
    assert refuted <= {"m0007"}, "nobody else had to refute"


def test_one_alone_that_is_asked_by_a_summary_tells_nobody_of_its_dead():
    """Found by theme "isolation" of sim.gossip (seed 11073): it knew the asker, and told it."""
    lone = Lone("b", "c", "d")
    lone.hear(*(claim(name, DEAD) for name in "bcd"))
    theirs = alive("b"), alive("c"), alive("d")
    ((_, reply),) = lone.request(
        Packet(SYNC_SUMMARY, sender="b", updates=theirs[:1], summary=b"\xff" * SUMMARY_BYTES)
    ).replies
    assert reply.kind == SYNC_DIFFERENCE and [row.name for row in reply.updates] == ["a"]
    lone.request(Packet(SYNC_ROWS, sender="b", updates=theirs))
    assert {lone.belief(name) for name in "bcd"} == {("alive", 1)}


def test_an_isolated_member_finds_back_after_everybody_was_reaped():
    world = GossipWorld(seed=8, settings=Settings(tombstone_us=120 * S))
    world.form(8)
    cut = world.isolate("m0003")
    world.run(600)
    assert len(world.machine("m0003").members()) == 1
    assert "unknown" in world.statuses("m0003")
    world.network.heal(cut)
    world.run_until(world.is_agreed, 60)


def test_an_isolated_member_restarted_elsewhere_finds_back():
    world = GossipWorld(seed=9)
    world.form(16)
    known = world.machine("m0003").snapshot()
    cut = world.isolate("m0003")
    world.run(200)
    world.kill("m0003")
    world.network.heal(cut)
    world.add("m0003", address="elsewhere:9", known=known)
    world.run_until(world.is_agreed, 60)
    assert world.machine("m0000").member("m0003").address == "elsewhere:9"
