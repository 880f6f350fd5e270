"""Who may run which index: whatever is lost, doubled or late, nobody else may meanwhile."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.federation import homes, ranges, shares
from core.federation.homes import Home, NotFree, Part
from core.federation.ranges import Indices
from core.federation.shares import Share, Watermark
from core.model.job import Job

OWN, X, Y = "0a", "0b", "0c"
JOB = Job(id="web")
ALL = {"web": ranges.first(4)}


def home(**parts: Part) -> Home:
    return Home(namespace="default", job_id="web", uid="u", epoch=1, wanted=ALL, parts=parts)


def web(*indices: int) -> Indices:
    return ranges.indices({"web": [(i, i + 1) for i in indices]})


def report(home: Home, dc: str, holds: Indices, **more: Any) -> homes.Report:
    return homes.Report(
        namespace="default", job_id="web", uid="u", datacenter_id=dc, epoch=home.epoch,
        index=home.part(dc).index, accepts=more.pop("accepts", holds), holds=holds, **more,
    )  # fmt: skip


def test_what_was_released_is_free_only_when_its_datacenter_says_so() -> None:
    one = homes.divide(home(), {X: web(0, 1)}, 5)
    one = homes.divide(one, {X: web(0)}, 6)
    with pytest.raises(NotFree):
        homes.divide(one, {Y: web(1)}, 7)
    late = homes.Report(**{**msgspec.structs.asdict(report(one, X, web(0))), "index": 5})
    assert homes.acknowledge(one, late) is one, "a word on an older share says nothing"
    assert 1 not in ranges.each(homes.acknowledge(one, report(one, X, web(0, 1))).free["web"])
    one = homes.acknowledge(one, report(one, X, web(0)))
    assert homes.divide(one, {Y: web(1)}, 7).part(Y).allowed == web(1)


def test_late_words_on_one_share_only_take_away() -> None:
    one = homes.divide(homes.divide(home(), {X: web(0, 1)}, 5), {X: {}}, 6)
    first, second = report(one, X, web(0, 1), accepts={}), report(one, X, web(1), accepts={})
    one = homes.acknowledge(homes.acknowledge(one, second), first)
    assert one.part(X).holds == web(1)


def test_what_was_refused_is_free_again() -> None:
    one = homes.divide(home(), {X: web(0, 1, 2)}, 5)
    one = homes.acknowledge(one, report(one, X, web(0), reason="full"))
    assert one.free["web"] == web(1, 2, 3)["web"] and one.part(X).is_settled


def test_a_surge_copy_is_one_and_ends_when_one_of_the_two_does() -> None:
    one = homes.divide(home(), {X: web(0, 1)}, 5)
    with pytest.raises(NotFree):
        homes.copy(one, X, Y, web(0), 6)  # the job does not ask for it
    one = msgspec.structs.replace(one, is_surge=True)
    one = homes.copy(one, X, Y, web(0), 6)
    with pytest.raises(NotFree):
        homes.copy(one, X, OWN, web(0), 7)
    with pytest.raises(NotFree):
        homes.divide(one, {OWN: web(0)}, 7)
    assert homes.healed_copies(one, {X, Y}) == {}
    healed = homes.acknowledge(one, report(one, X, web(0, 1), running=web(0, 1)))
    assert homes.healed_copies(healed, {Y}) == {}, "X is silent: what it ran is why it was copied"
    assert homes.healed_copies(healed, {X, Y}) == {Y: web(0)}
    back = homes.divide(healed, {Y: {}}, 8)
    assert back.part(Y).copies == {X: web(0)}, "until Y says that it ended"
    assert homes.acknowledge(back, report(back, Y, {})).part(Y).copies == {}


def test_a_home_that_lost_it_makes_the_copy_the_original() -> None:
    one = msgspec.structs.replace(homes.divide(home(), {X: web(0)}, 5), is_surge=True)
    one = homes.copy(one, X, Y, web(0), 6)
    one = homes.acknowledge(one, report(one, X, {}))
    assert one.part(Y).copies == {} and one.part(Y).holds == web(0)
    with pytest.raises(NotFree):
        homes.divide(one, {OWN: web(0)}, 7)


class Mail(RuleBasedStateMachine):
    """A home, two datacenters, and mail between them that is lost, doubled and late."""

    def __init__(self) -> None:
        super().__init__()
        self.home = home()
        self.marks: dict[str, Watermark | None] = {X: None, Y: None}
        self.busy: dict[str, set[int]] = {X: set(), Y: set()}
        self.puts: list[tuple[str, Share]] = []
        self.reports: list[homes.Report] = []
        self.index = 1

    @rule(dc=st.sampled_from([X, Y]), wanted=st.sets(st.integers(0, 3)))
    def divide(self, dc: str, wanted: set[int]) -> None:
        self.index += 1
        try:
            self.home = homes.divide(self.home, {dc: web(*wanted)}, self.index)
        except NotFree:
            return

    @rule(dc=st.sampled_from([X, Y]))
    def send(self, dc: str) -> None:
        if self.home.part(dc).index:
            self.puts.append((dc, shares.share_of(self.home, dc, OWN, JOB)))

    @rule(data=st.data(), room=st.sets(st.integers(0, 3)))
    def arrive(self, data: st.DataObject, room: set[int]) -> None:
        """Any share that was ever sent, in any order, any number of times."""
        if not self.puts:
            return
        dc, share = data.draw(st.sampled_from(self.puts))
        mark = self.marks[dc]
        if shares.is_newer(mark, share, 0):
            mark = self.marks[dc] = shares.take(mark, share, web(*room), "full")
            self.busy[dc] |= set(ranges.each(mark.accepts.get("web", ())))
        assert mark is not None
        self.reports.append(shares.report(mark, dc, web(*self.busy[dc])))

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        if self.reports:
            self.home = homes.acknowledge(self.home, data.draw(st.sampled_from(self.reports)))

    @rule(dc=st.sampled_from([X, Y]), index=st.integers(0, 3))
    def end(self, dc: str, index: int) -> None:
        """A process that shall not run here any more ends."""
        mark = self.marks[dc]
        if mark is not None and not ranges.contains(mark.accepts.get("web", ()), index):
            self.busy[dc].discard(index)

    @invariant()
    def nobody_runs_what_another_does(self) -> None:
        assert not self.busy[X] & self.busy[Y]

    @invariant()
    def the_home_knows_an_upper_bound(self) -> None:
        for dc, busy in self.busy.items():
            assert ranges.is_within(web(*busy), self.home.part(dc).holds)
            assert ranges.is_within(self.home.part(dc).allowed, self.home.part(dc).holds)


Mail.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestMail = Mail.TestCase


def test_a_late_word_does_not_overtake_a_newer_one() -> None:
    one = homes.divide(home(), {X: web(0)}, 5)
    one = homes.acknowledge(one, report(one, X, web(0), running=web(0), as_of=9))
    assert homes.acknowledge(one, report(one, X, web(0), as_of=8)) is one
    assert not homes.acknowledge(one, report(one, X, web(0), as_of=10)).part(X).running
    anew = homes.divide(one, {X: web(0, 1)}, 6)
    assert homes.acknowledge(anew, report(anew, X, web(0, 1), as_of=1)).part(X).is_settled
