"""Claims in any order and any number lead to the same belief."""

import msgspec
from gossip_lone import Lone, alive, claim
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.dissemination import Rumours, retransmit_limit
from gossip.messages import DEAD, LEFT, SUSPECT

PEERS = ("b", "c", "d", "e")


@st.composite
def claims(draw):
    name = draw(st.sampled_from(["c", "d"]))
    incarnation = draw(st.integers(1, 70))
    status = draw(st.sampled_from([0, SUSPECT, DEAD, LEFT]))
    if status == 0:
        return alive(name, incarnation)
    by = name if status == LEFT else draw(st.sampled_from(["b", "e"]))
    return claim(name, status, incarnation, by=by)


@settings(max_examples=150)
@given(st.lists(claims(), max_size=12).flatmap(lambda c: st.tuples(st.just(c), st.permutations(c))))
def test_order_and_duplication_do_not_matter(both):
    given_order, other_order = both
    one, two = Lone(*PEERS), Lone(*PEERS)
    for update in given_order:
        one.hear(update)
    for update in (*other_order, *given_order):
        two.hear(update)
    assert [one.belief(p) for p in PEERS] == [two.belief(p) for p in PEERS]
    assert one.machine.table.summary() == two.machine.table.summary()


@settings(max_examples=150)
@given(
    st.lists(st.one_of(claims(), st.sampled_from(["c", "d"])), max_size=8, unique_by=str).flatmap(
        lambda steps: st.lists(st.sampled_from(steps), max_size=24) if steps else st.just([])
    )
)
def test_what_was_heard_before_is_skipped_only_where_it_would_change_nothing(steps):
    """A machine that knows rumours again by their identity, beside one that gets a copy of
    each; a name alone is a member forgotten, after which all is news again.
    """
    one, two = Lone(*PEERS), Lone(*PEERS)
    for step in steps:
        for lone in (one, two):
            if isinstance(step, str):
                lone.machine.prune(step)
            else:
                lone.hear(step if lone is one else msgspec.structs.replace(step))
    assert one.machine.members() == two.machine.members()
    assert one.machine.counters == two.machine.counters
    queued = [(u.name, u.key, u.by) for u in one.machine.rumours.current.values()]
    assert queued == [(u.name, u.key, u.by) for u in two.machine.rumours.current.values()]


@settings(max_examples=150)
@given(st.lists(claims(), max_size=20))
def test_keys_never_go_back_and_counts_stay_true(sequence):
    lone = Lone(*PEERS)
    table = lone.machine.table
    for update in sequence:
        before = {p: table.key(table.find(p)) for p in PEERS}
        lone.hear(update)
        statuses = [lone.belief(p)[0] for p in PEERS]
        assert all(table.key(table.find(p)) >= before[p] for p in PEERS)
        assert table.active == 1 + sum(s in ("alive", "suspect") for s in statuses)
        assert table.is_whole == all(s in ("alive", "suspect") for s in statuses)
        assert table.dead == statuses.count("dead")
        assert len(table.gone_us) == sum(s in ("dead", "left") for s in statuses)
        assert set(lone.machine._membership.suspicions) == {
            table.find(p) for p, s in zip(PEERS, statuses, strict=True) if s == "suspect"
        }


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 9)), max_size=30))
def test_a_refuting_member_is_never_lost(accusations):
    """Whatever it is accused of, what it says last beats every accusation."""
    lone = Lone("b")
    heard = 0
    for incarnation, _ in accusations:
        lone.hear(claim("a", DEAD, incarnation))
        heard = max(heard, incarnation << 2 | DEAD)
    assert lone.belief("a")[0] == "alive"
    assert lone.own_incarnation << 2 > heard


@given(st.integers(1, 10_000), st.integers(1, 40))
def test_each_rumour_is_sent_up_to_its_limit(members, count):
    rumours = Rumours(4)
    rumours.resize(members)
    updates = [alive(f"m{i}") for i in range(count)]
    for update in updates:
        rumours.add(update)
    sent: dict[str, int] = {}
    while taken := rumours.take(400, 253):
        assert sum(update.size_bytes for update in taken) <= 400
        for update in taken:
            sent[update.name] = sent.get(update.name, 0) + 1
    assert sent == dict.fromkeys((u.name for u in updates), retransmit_limit(4, members))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(1, 10_000))
def test_packets_told_together_keep_the_limit_too(copies, members):
    rumours = Rumours(4)
    rumours.resize(members)
    limit = retransmit_limit(4, members)
    for number in range(20):
        rumours.add(alive(f"m{number}"))
    sent: dict[str, int] = {}
    for count in copies + [3] * (20 * limit):
        for batch in rumours.take_copies(count, 400, 253):
            assert len({update.name for update in batch}) == len(batch)
            for update in batch:
                sent[update.name] = sent.get(update.name, 0) + 1
    assert set(sent.values()) == {limit} and len(sent) == 20


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60), st.integers(1, 99))
def test_a_limit_holds_while_the_queue_fits_a_packet_now_and_then(steps, members):
    """Rumours move between the line and the tiers, and are counted on in both."""
    rumours = Rumours(4)
    rumours.resize(members)
    sent: dict[str, int] = {}
    told = 0
    for added, fits in [*steps, *[(0, True)] * 30]:
        for _ in range(added):
            rumours.add(alive(f"m{told}"))
            told += 1
        for update in rumours.take(100_000 if fits else 200, 253):
            sent[update.name] = sent.get(update.name, 0) + 1
    limit = retransmit_limit(4, members)
    assert sent == {f"m{number}": limit for number in range(told)}
    assert not rumours.current


def test_retransmit_limits_of_the_design():
    """4 * ceil(log10(n + 1))."""
    assert [retransmit_limit(4, n) for n in (1, 9, 10, 99, 100, 10_000)] == [4, 4, 8, 8, 12, 20]


def test_the_newest_claim_replaces_the_older_in_the_queue_and_nothing_grows():
    rumours = Rumours(4)
    for incarnation in range(1, 10_000):
        rumours.add(alive("b", incarnation))
    assert len(rumours._line) + sum(map(len, rumours._tiers)) < 200
    assert [u.incarnation for u in rumours.take(1_000, 10)] == [9_999]


def test_the_least_told_goes_first():
    rumours = Rumours(4)
    old, new = alive("b"), alive("c")
    rumours.add(old)
    rumours.take(1_000, 10)
    rumours.add(new)
    assert rumours.take(1_000, 1) == (new,)


def test_a_rumour_believed_again_after_it_was_outbid_is_queued_once():
    """The same object, heard again after its member was forgotten."""
    rumours = Rumours(1)
    old, new = claim("c", SUSPECT), claim("c", DEAD)
    for update in (old, new, claim("d", SUSPECT)):
        rumours.add(update)
    rumours.add(old)
    taken = [update.name for _ in range(4) for update in rumours.take(10_000, 9)]
    assert sorted(taken) == ["c", "d"] and not rumours.current
