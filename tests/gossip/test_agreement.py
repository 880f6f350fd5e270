"""Whatever happens, in whatever order packets come: all who live agree in the end.

Property tests over whole pools. The checkers of sim.gossip look on all the time: views never
go back, digests neither, nobody who is well is declared dead while all is calm.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.messages import DEAD, GOSSIP, LEFT, SUSPECT, Packet, make_update
from gossip.settings import Settings
from sim.gossip.pool import Pool
from sim.gossip.watch import Watch
from sim.gossip_world import LINK, S

NAMES = ("a", "b", "c", "d", "e")
AGREE_S = 240

names = st.sampled_from(NAMES)
seconds = st.sampled_from((0.05, 0.4, 2.0, 9.0, 31.0))
steps = st.one_of(
    st.tuples(st.just("kill"), names),
    st.tuples(st.just("start"), names, st.booleans()),
    st.tuples(st.just("meta"), names),
    st.tuples(st.just("cut"), st.sets(names, min_size=1, max_size=4).map(sorted)),
    st.tuples(st.just("heal")),
    st.tuples(st.just("pause"), names),
    st.tuples(st.just("resume"), names),
    st.tuples(st.just("accuse"), names, names, names, st.sampled_from((SUSPECT, DEAD, LEFT))),
    st.tuples(st.just("repeat"), st.integers(0, 255), st.integers(1, 4)),
    st.tuples(st.just("publish"), names),
)


class Tale:
    """A pool to which steps happen; those that make no sense now are skipped."""

    def __init__(self, seed: int) -> None:
        self.pool = Pool(
            seed=seed, settings=Settings(full_table_max_members=3), link=LINK, wire=False
        )
        for name in NAMES:
            self.pool.begin(name, joins="" if name == "a" else "a", meta={"role": "client"})
        self.watch = Watch(self.pool)
        self.watch.run(2)
        self.watch.agree(60)
        self.plights: dict[str, object] = {}
        self.sequence = 0

    def step(self, kind: str, *given: object) -> None:
        pool = self.pool
        up = pool.up()
        name = given[0] if given and isinstance(given[0], str) else ""
        if kind == "kill" and name in up and len(up) > 2 and name not in self.plights:
            self.known = pool.end(name)
        elif kind == "start" and name not in up:
            address = pool.new_address() if given[1] else ""
            pool.again(name, address=address, known=[])
            pool.join(name, up[0])
        elif kind == "meta" and name in up:
            pool.change_meta(name, str(pool.now_us))
        elif kind == "cut" and "cut" not in self.plights:
            self.plights["cut"] = pool.isolated([n for n in given[0] if n in up])
        elif kind == "heal" and "cut" in self.plights:
            self.plights.pop("cut").end()
        elif kind == "pause" and name in up and name not in self.plights:
            self.plights[name] = pool.paused(name)
        elif kind == "resume" and name in self.plights:
            self.plights.pop(name).end()
        elif kind == "accuse" and set(given[:3]) <= {*up}:
            self.accuse(*given)
        elif kind == "repeat" and pool.flights:
            flight = pool.flights[given[0] % len(pool.flights)]
            for _ in range(given[1]):
                pool.repeat(flight)
        elif kind == "publish" and name in up:
            self.sequence += 1
            self.watch.publish(name, "dc", 1, self.sequence)

    def accuse(self, victim: str, accuser: str, hearer: str, status: int) -> None:
        view = self.pool.machine(victim).member(victim)
        claim = make_update(victim, view.incarnation << 2 | status, accuser)
        if status >= DEAD:
            # of one held dead, a farewell is believed: it may have been forced to leave
            self.pool.may_leave.add(victim)
        if status == DEAD:
            # SWIM lets a member's word of a death pass: who believes it is not mistaken
            self.watch.traffic.spared.add(victim)
            self.pool.hardship_end_us = self.pool.now_us
        self.pool.hear(hearer, accuser, Packet(GOSSIP, sender=accuser, updates=(claim,)))

    def end(self) -> None:
        for plight in self.plights.values():
            plight.end()
        for name in NAMES:
            self.step("start", name, False)
        self.watch.agree(AGREE_S)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.lists(st.tuples(steps, seconds), max_size=12))
def test_after_any_events_all_live_members_agree(seed, story):
    tale = Tale(seed)
    for step, wait_s in story:
        tale.step(*step)
        tale.watch.run(wait_s)
    tale.end()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.lists(st.tuples(names, names, names, st.sampled_from(
    (SUSPECT, DEAD, LEFT))), min_size=1, max_size=12))  # fmt: skip
def test_whoever_is_accused_of_whatever_refutes_and_stays(seed, accusations):
    tale = Tale(seed)
    for victim, accuser, hearer, status in accusations:
        tale.accuse(victim, accuser, hearer, status)
        tale.watch.run(0.3)
    tale.watch.agree(60)
    assert not any(tale.watch.lost_by(name) for name in NAMES)


def test_a_reader_that_restarts_has_the_newest_record_with_its_true_age():
    tale = Tale(1)
    tale.step("publish", "b")
    tale.watch.run(30)
    tale.pool.end("b")  # its publisher is gone, and the others relay it
    tale.step("kill", "c")
    tale.watch.run(20)
    tale.pool.again("c", known=[])
    tale.pool.join("c", "d")
    tale.watch.run(1)
    (view,) = tale.pool.machine("c").digests(tale.pool.now_us)
    assert (view.term, view.sequence) == (1, 1)
    assert 50.5 * S < view.age_us <= 51 * S


def test_a_member_that_moved_while_another_was_cut_off_is_found_at_its_new_address():
    """Helpers who know the new address must not vouch for it at the old one."""
    story = (
        (("kill", "b"), 0.4), (("cut", ["d"]), 0.05), (("pause", "d"), 2.0),
        (("start", "b", True), 71.0), (("publish", "b"), 33.0), (("start", "a", False), 31.0),
    )  # fmt: skip
    tale = Tale(1)
    for step, wait_s in story:
        tale.step(*step)
        tale.watch.run(wait_s)
    tale.end()
    assert tale.pool.machine("d").member("b").address == "moved1:4648"
