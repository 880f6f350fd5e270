"""The home's choice: what goes where, what moves, and what stays."""

from hypothesis import given
from hypothesis import strategies as st

from core.federation import homes, ranges, splitting
from core.federation.homes import Home, Part
from core.federation.ranges import Indices
from core.federation.splitting import COOLDOWN_US, SILENT_US, Site
from core.model.job import FederationPolicy, Job, SpilloverPolicy, Spread, SpreadTarget, TaskGroup

OWN, X, Y = "0a", "0b", "0c"
NOW_US = 1_000_000_000


def job(count: int, **policy: object) -> Job:
    federation = FederationPolicy(**policy) if policy else None  # type: ignore[arg-type]
    return Job(id="web", task_groups=[TaskGroup(name="web", count=count)], federation=federation)


def home(count: int, **parts: Part) -> Home:
    return Home(
        namespace="default", job_id="web", uid="u", epoch=1, index=1,
        wanted=ranges.indices({"web": ranges.first(count)}), parts={OWN: Part(), **parts},
    )  # fmt: skip


def part(*indices: int, **more: object) -> Part:
    held = web(*indices)
    return Part(index=1, acked=1, allowed=held, holds=held, **more)  # type: ignore[arg-type]


def running(*indices: int) -> Part:
    return part(*indices, running=web(*indices), live=len(indices))


def web(*indices: int) -> Indices:
    return ranges.indices({"web": [(i, i + 1) for i in indices]})


def site(dc: str, room: int, rank: int = 0, **more: object) -> Site:
    return Site(dc, rank, {"web": room}, **more)  # type: ignore[arg-type]


def counts(division: splitting.Division) -> dict[str, int]:
    return {dc: ranges.size(allowed) for dc, allowed in division.allowed.items()}


def test_it_fills_in_order_and_queues_the_rest_at_home() -> None:
    sites = [site(OWN, 3), site(X, 2), site(Y, 1, rank=1)]
    assert counts(splitting.divide(home(5), job(5), OWN, sites, NOW_US)) == {OWN: 3, X: 2}
    assert counts(splitting.divide(home(8), job(8), OWN, sites, NOW_US)) == {OWN: 5, X: 2, Y: 1}


def test_a_closed_or_parked_site_gets_nothing_new() -> None:
    sites = [site(OWN, 1), site(X, 5, is_open=False), site(Y, 5)]
    one = home(5, **{Y: Part(is_parked=True)})
    assert counts(splitting.divide(one, job(5), OWN, sites, NOW_US)) == {OWN: 5}


def test_a_spread_gives_each_value_its_part() -> None:
    sites = [site(OWN, 50, value="a"), site(X, 50, value="b"), site(Y, 2, value="c")]
    even = job(9, spread=[Spread(attribute="datacenter")])
    assert counts(splitting.divide(home(9), even, OWN, sites, NOW_US)) == {OWN: 4, X: 3, Y: 2}
    targets = [SpreadTarget(value="b", percent=80)]
    most = job(10, spread=[Spread(attribute="datacenter", spread_target=targets)])
    assert counts(splitting.divide(home(10), most, OWN, sites, NOW_US)) == {OWN: 1, X: 8, Y: 1}


def test_what_is_blocked_waits_before_it_leaves_its_region() -> None:
    patient = job(4, spillover=SpilloverPolicy(regions=["us"], after_ns=30 * 10**9))
    blocked = part(0, 1, 2, 3, blocked=web(2, 3), blocked_since_us=NOW_US)
    sites = [site(OWN, 0), site(X, 9, rank=1)]
    for waited_s, expected in ((29, {}), (30, {OWN: 2, X: 2})):
        now_us = NOW_US + waited_s * 1_000_000
        one = home(4, **{OWN: blocked})
        assert counts(splitting.divide(one, patient, OWN, sites, now_us)) == expected
    near = [site(OWN, 0), site(Y, 1), site(X, 9, rank=1)]
    one = home(4, **{OWN: blocked})
    found = counts(splitting.divide(one, patient, OWN, near, NOW_US + 3_000_000))
    assert found == {OWN: 3, Y: 1}, "inside its region it need not wait"


def test_blocked_work_stays_where_nobody_else_has_room() -> None:
    blocked = part(0, 1, blocked=web(1), blocked_since_us=1)
    one = home(2, **{OWN: blocked})
    assert splitting.divide(one, job(2), OWN, [site(OWN, 0), site(X, 0)], NOW_US).is_empty


def test_it_comes_back_in_reverse_order_a_little_at_a_time() -> None:
    one = home(
        20, **{OWN: running(*range(4)), X: running(*range(4, 12)), Y: running(*range(12, 20))}
    )
    sites = [site(OWN, 16), site(X, 0, rank=1), site(Y, 0, rank=2)]
    back = splitting.divide(one, job(20), OWN, sites, COOLDOWN_US)
    assert counts(back) == {Y: 6} and back.moves == [("reclaimed", Y, 2)]
    assert splitting.divide(one, job(20), OWN, sites, COOLDOWN_US - 1).is_empty
    tight = [site(OWN, 1), *sites[1:]]
    assert splitting.divide(one, job(20), OWN, tight, COOLDOWN_US).is_empty, "no gain worth it"


def test_what_is_done_never_comes_back() -> None:
    done = part(*range(4, 12), live=0)
    one = home(12, **{OWN: running(*range(4)), X: done})
    sites = [site(OWN, 16), site(X, 0, rank=1)]
    assert splitting.divide(one, job(12), OWN, sites, COOLDOWN_US).is_empty


def test_a_drained_datacenter_gives_a_tenth_away_where_there_is_room() -> None:
    one = home(20, **{OWN: running(*range(10)), X: running(*range(10, 20))})
    sites = [site(OWN, 9), site(X, 9, is_open=False, is_draining=True)]
    division = splitting.divide(one, job(20), OWN, sites, NOW_US)
    assert counts(division) == {X: 8} and division.moves == [("evacuated", X, 2)]
    full = [site(OWN, 0), sites[1]]
    assert splitting.divide(one, job(20), OWN, full, NOW_US).is_empty, "it runs on"


def test_a_drain_waits_for_those_that_came_last() -> None:
    coming = part(*range(10), running=web(*range(9)), live=10)
    one = home(20, **{OWN: coming, X: running(*range(10, 20))})
    sites = [site(OWN, 9), site(X, 9, is_open=False, is_draining=True)]
    assert splitting.divide(one, job(20), OWN, sites, NOW_US).is_empty


def test_a_drained_home_moves_out_of_itself_and_queues_nothing() -> None:
    one = home(4, **{OWN: running(*range(4))})
    sites = [site(OWN, 9, is_open=False, is_draining=True), site(X, 9)]
    division = splitting.divide(one, job(4), OWN, sites, NOW_US)
    assert counts(division) == {OWN: 3} and division.moves == [("evacuated", OWN, 1)]
    freed = home(4, **{OWN: running(*range(3))})
    nowhere = [sites[0], site(X, 0)]
    assert splitting.divide(freed, job(4), OWN, nowhere, NOW_US).is_empty
    assert counts(splitting.divide(freed, job(4), OWN, sites, NOW_US)) == {X: 1}


def test_surge_copies_what_a_silent_datacenter_holds_once() -> None:
    lost = running(2, 3)  # as its last report said
    sites = [site(OWN, 9), site(X, 0, silent_us=SILENT_US), site(Y, 9)]
    surge = job(4, partition="surge")
    one = Home(**{**_fields(home(4, **{OWN: part(0, 1), X: lost})), "is_surge": True})
    division = splitting.divide(one, surge, OWN, sites, NOW_US)
    assert division.copies == [(X, OWN, web(2, 3))]
    copied = homes.copy(one, X, OWN, web(2, 3), 9)
    assert splitting.divide(copied, surge, OWN, sites, NOW_US).is_empty
    back = [site(OWN, 9), site(X, 0), site(Y, 9)]
    assert splitting.divide(copied, surge, OWN, back, NOW_US).allowed == {OWN: web(0, 1)}
    patient = [site(OWN, 9), site(X, 0, silent_us=SILENT_US - 1)]
    assert splitting.divide(one, surge, OWN, patient, NOW_US).is_empty


def _fields(one: Home) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


rooms = st.dictionaries(st.sampled_from([OWN, X, Y]), st.integers(0, 6), min_size=1)


@given(st.integers(1, 8), rooms, st.data())
def test_whatever_it_decides_may_be_committed(count: int, room: dict[str, int], data) -> None:
    """No index goes to two, all that is given was free, and all of the job is somewhere."""
    owner = {i: data.draw(st.sampled_from([OWN, X, Y, ""])) for i in range(count)}
    parts = {dc: part(*(i for i, at in owner.items() if at == dc)) for dc in (OWN, X, Y)}
    one = home(count, **parts)
    ranks = {dc: data.draw(st.integers(0, 2)) for dc in room}
    sites = [site(dc, free, rank=ranks[dc]) for dc, free in room.items()]
    if OWN not in room:
        sites.append(site(OWN, 0))
    division = splitting.divide(one, job(count), OWN, sites, NOW_US)
    after = homes.divide(one, division.allowed, 2)  # raises NotFree
    released = ranges.without(after.held, {})
    assert ranges.merged(released, after.free) == one.wanted
    for dc, allowed in division.allowed.items():
        gained = ranges.size(ranges.without(allowed, one.part(dc).allowed))
        assert dc == OWN or gained <= room.get(dc, 0)


def test_a_slot_that_may_be_there_is_tried_once_nobody_surely_has_room() -> None:
    blocked = part(0, blocked=web(0), blocked_since_us=NOW_US - splitting.TRY_US)
    one = home(1, **{OWN: blocked})
    sites = [site(OWN, 0), site(X, 0, perhaps=frozenset({"web"})), site(Y, 0)]
    tried = splitting.divide(one, job(1), OWN, sites, NOW_US)
    assert counts(tried) == {OWN: 0, X: 1} and tried.moves == [("tried", X, 1)]
    too_early = splitting.divide(one, job(1), OWN, sites, NOW_US - 1)
    assert too_early.is_empty
    surely = [site(OWN, 0), site(X, 0, perhaps=frozenset({"web"})), site(Y, 1)]
    assert counts(splitting.divide(one, job(1), OWN, surely, NOW_US)) == {OWN: 0, Y: 1}


def test_a_spread_over_names_draws_nothing_back_to_another_name() -> None:
    spread = [Spread(attribute="datacenter")]
    # X has the name of the full home, in another region; Y is another name, with room at home.
    sites = [
        site(OWN, 0, value="dc1"), site(Y, 5, value="dc2"), site(X, 5, rank=1, value="dc1"),
    ]  # fmt: skip
    one = home(4, **{OWN: running(0), Y: running(1, 3), X: running(2)})
    assert splitting.divide(one, job(4, spread=spread), OWN, sites, NOW_US).is_empty
    sites[0] = site(OWN, 5, value="dc1")
    back = splitting.divide(one, job(4, spread=spread), OWN, sites, NOW_US)
    assert back.moves == [("reclaimed", X, 1)]


def test_what_can_queue_nowhere_is_tried_where_there_may_be_room() -> None:
    """Nobody sees it blocked: its home is parked."""
    sites = [site(OWN, 5), site(X, 0, perhaps=frozenset({"web"})), site(Y, 0)]
    one = home(2, **{OWN: Part(is_parked=True)})
    assert counts(splitting.divide(one, job(2), OWN, sites, NOW_US)) == {X: 1}
