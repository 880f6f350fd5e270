"""The rules of belief: SWIM section 4.2, and what is refused."""

import pytest
from gossip_lone import Lone, alive, claim

from gossip.membership import CLAIM_KEPT_US, HEARD_MAX
from gossip.messages import ALIVE, DEAD, GOSSIP, LEFT, PING, SUSPECT, Packet
from gossip.settings import Settings
from gossip.views import EventKind


@pytest.mark.parametrize(
    ("known", "heard", "believed"),
    [
        # "Alive{Ml, inc=i} overrides Suspect{Ml, inc=j}, i>j; Alive{Ml, inc=j}, i>j"
        ((ALIVE, 1), (ALIVE, 2), ("alive", 2)),
        ((SUSPECT, 1), (ALIVE, 2), ("alive", 2)),
        ((SUSPECT, 1), (ALIVE, 1), ("suspect", 1)),
        # "Suspect{Ml, inc=i} overrides Suspect j, i>j; Alive{Ml, inc=j}, i>=j"
        ((ALIVE, 2), (SUSPECT, 2), ("suspect", 2)),
        ((ALIVE, 2), (SUSPECT, 1), ("alive", 2)),
        ((SUSPECT, 1), (SUSPECT, 2), ("suspect", 2)),
        # "Confirm overrides Alive and Suspect" -- here of no lower incarnation, so that
        # a rumour from before a restart kills nobody
        ((ALIVE, 2), (DEAD, 2), ("dead", 2)),
        ((ALIVE, 2), (DEAD, 1), ("alive", 2)),
        ((DEAD, 1), (SUSPECT, 1), ("dead", 1)),
        ((DEAD, 1), (ALIVE, 2), ("alive", 2)),
        ((LEFT, 1), (DEAD, 1), ("left", 1)),
        ((LEFT, 1), (ALIVE, 2), ("alive", 2)),
    ],
)
def test_larger_key_wins(known, heard, believed):
    lone = Lone("b", "c")
    for status, incarnation in (known, heard):
        if status == ALIVE:
            lone.hear(alive("c", incarnation))
        else:
            lone.hear(claim("c", status, incarnation, by="c" if status == LEFT else "b"))
    assert lone.belief("c") == believed


def test_the_accused_outbids_and_doubts_its_own_timing():
    """SWIM 4.2: only the member itself raises its incarnation. Lifeguard: LHM +1."""
    lone = Lone("b")
    lone.hear(claim("a", SUSPECT, 1))
    assert lone.belief("a") == ("alive", 2)
    assert lone.machine.health_score == 1
    lone.hear(claim("a", DEAD, 6))
    assert lone.belief("a") == ("alive", 7)
    told = [u for _, p in lone.tick_until_sent(GOSSIP) for u in p.updates if u.name == "a"]
    assert told[0].incarnation == 7 and told[0].status == ALIVE


def test_an_accusation_outbid_before_is_answered_again_but_not_each_time():
    lone = Lone("b")
    lone.hear(claim("a", SUSPECT, 5))
    lone.run(10)
    assert lone.machine.rumours_queued == 0
    lone.hear(claim("a", DEAD, 3))
    assert lone.machine.rumours_queued == 1 and lone.own_incarnation == 6


def test_events_tell_the_life_of_a_member():
    lone = Lone("b")
    kinds = []
    for update in (
        alive("c"),
        claim("c", SUSPECT),
        alive("c", 2),
        alive("c", 3, role="db"),
        claim("c", SUSPECT, 3),
        claim("c", DEAD, 3),
        alive("c", 4, role="db"),
        claim("c", LEFT, 4, by="c"),
    ):
        kinds += [event.kind for event in lone.hear(update).events]
    assert kinds == [
        EventKind.JOINED,
        EventKind.SUSPECTED,
        EventKind.UPDATED,
        EventKind.UPDATED,
        EventKind.SUSPECTED,
        EventKind.FAILED,
        EventKind.JOINED,
        EventKind.LEFT,
    ]


def test_accusation_of_or_by_a_stranger_is_dropped():
    lone = Lone("b")
    lone.hear(claim("zz", DEAD))
    lone.hear(claim("b", DEAD, by="zz"))
    assert lone.belief("b") == ("alive", 1)
    assert lone.machine.member("zz") is None
    assert (lone.dropped("unknown_subject"), lone.dropped("unknown_accuser")) == (1, 1)


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_incarnation_far_ahead_is_dropped(name):
    lone = Lone("b", "c")
    lone.hear(claim(name, SUSPECT, 1 << 30, by="c"))
    assert lone.belief(name) == ("alive", 1)
    assert lone.dropped("incarnation_leap") == 1


def test_only_a_member_itself_says_that_it_leaves():
    lone = Lone("b", "c")
    lone.hear(claim("c", LEFT, by="b"))
    assert lone.belief("c") == ("suspect", 1)
    lone.hear(claim("c", LEFT, by="c"))
    assert lone.belief("c") == ("left", 1)


def test_force_leave_turns_only_the_dead():
    lone = Lone("b", "c")
    assert not lone.machine.force_leave("c", 0)
    lone.hear(claim("c", DEAD))
    assert lone.machine.force_leave("c", 0)
    assert lone.belief("c") == ("left", 1)
    other = Lone("b", "c")
    other.hear(claim("c", DEAD), claim("c", LEFT, by="b"))
    assert other.belief("c") == ("left", 1)


def test_a_live_name_is_kept_from_another_address_and_looked_at_soon():
    peers = [f"m{i}" for i in range(40)]
    lone = Lone(*peers)
    lone.hear(alive("m9", 5, address="elsewhere:1"))
    assert lone.view("m9").address == "m9:1" and lone.belief("m9") == ("alive", 1)
    assert lone.machine.counters.name_conflicts == 1
    assert lone.tick_until_sent(PING)[0][0] == "m9:1"


@pytest.mark.parametrize("end", [DEAD, LEFT])
def test_the_name_of_a_departed_is_free_for_another_address(end):
    lone = Lone("b", "c")
    lone.hear(claim("c", end, by="c"))
    lone.hear(alive("c", 2, address="elsewhere:1"))
    assert lone.view("c").address == "elsewhere:1" and lone.belief("c") == ("alive", 2)


@pytest.mark.parametrize("is_late", [False, True])
def test_what_was_claimed_of_a_name_while_its_owner_lived_counts_when_it_is_dead(is_late):
    """Who moved says so once; the next push-pull may be minutes away."""
    lone = Lone("b", "c")
    lone.hear(claim("c", SUSPECT))
    lone.hear(alive("c", 3, address="elsewhere:1"))
    assert lone.view("c").address == "c:1"
    if is_late:
        lone.now_us += 10 * CLAIM_KEPT_US
    lone.hear(claim("c", DEAD, 2))
    found = (lone.view("c").address, lone.belief("c")[0])
    assert found == (("c:1", "dead") if is_late else ("elsewhere:1", "alive"))


def test_what_was_heard_is_kept_in_mind_within_bounds_and_while_rumours_last():
    lone = Lone("b", "c")
    heard = lone.machine._membership._heard
    for number in range(1, 1_000):
        lone.hear(*(claim("c", SUSPECT, by=f"x{number}"), alive("b")))
        assert len(heard) <= HEARD_MAX
    assert heard
    lone.run(30)
    assert not heard


def test_an_impostor_and_the_owner_do_not_outbid_each_other_aloud():
    lone = Lone("b")
    lone.run(10)
    lone.hear(alive("a", 4, address="elsewhere:1"))
    assert lone.machine.rumours_queued == 0


def test_who_is_held_dead_and_asks_hears_of_it_in_the_answer():
    lone = Lone("b", "c")
    lone.hear(claim("c", DEAD))
    output = lone.packet(Packet(PING, 9, "c", "a"), "c:1")
    ((address, ack),) = output.packets
    assert address == "c:1" and ack.sequence == 9
    assert (ack.updates[0].name, ack.updates[0].status) == ("c", DEAD)


def test_the_owner_may_refuse_a_member():
    lone = Lone("b", admit=lambda identity: "wrong region" if identity.name == "c" else "")
    lone.hear(alive("c"))
    assert lone.machine.member("c") is None and lone.dropped("not_admitted") == 1


def test_the_table_is_bounded():
    lone = Lone(settings=Settings(members_max=10))
    lone.hear(*(alive(f"m{i}") for i in range(50)))
    assert len(lone.machine.members()) == 10
    assert lone.dropped("table_full") == 41


def test_new_metadata_is_a_new_incarnation():
    lone = Lone("b")
    lone.machine.set_meta({"role": "server"}, 0)
    assert lone.own_incarnation == 2 and lone.view("a").meta == {"role": "server"}
    lone.machine.set_meta({"role": "server"}, 0)
    assert lone.own_incarnation == 2
    with pytest.raises(ValueError, match="metadata"):
        lone.machine.set_meta({"x": "y" * 600}, 0)
    assert lone.view("a").meta == {"role": "server"}


def test_an_earlier_life_at_the_same_address_is_outbid():
    lone = Lone("b")
    lone.hear(alive("a", 5, address="a:1", role="what it was then"))
    assert lone.own_incarnation == 6 and lone.view("a").meta == {}


def test_leaving_is_told_and_not_refuted():
    lone = Lone("b")
    lone.machine.leave(0)
    assert not lone.machine.is_left
    lone.hear(claim("a", DEAD, 1))
    assert lone.belief("a") == ("left", 1)
    told = lone.run(10)
    assert lone.machine.is_left
    assert any(u.status == LEFT for o in told for _, p in o.packets for u in p.updates)


def test_leaving_alone_is_done_at_once():
    lone = Lone()
    lone.machine.leave(0)
    assert lone.machine.is_left


def test_incarnations_beyond_a_byte():
    lone = Lone("b", "c")
    for incarnation in (62, 63, 64, 5_000):
        lone.hear(alive("c", incarnation), claim("c", SUSPECT, incarnation))
        assert lone.belief("c") == ("suspect", incarnation)
    lone.hear(claim("c", DEAD, 5_000))
    assert lone.belief("c") == ("dead", 5_000)


@pytest.mark.parametrize(
    ("name", "address", "meta"),
    [("", "a:1", {}), ("x" * 129, "a:1", {}), ("a", "", {}), ("a", "a:1", {"k": "v" * 512})],
)
def test_an_impossible_self_is_refused(name, address, meta):
    import random

    from gossip.machine import GossipMachine

    with pytest.raises(ValueError):
        GossipMachine(
            name=name,
            address=address,
            meta=meta,
            settings=Settings(),
            rng=random.Random(1),
            now_us=0,
        )
