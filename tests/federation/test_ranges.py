"""Sets of indices as ranges do what sets do, and equal sets are equal values."""

from hypothesis import given
from hypothesis import strategies as st

from core.federation import ranges

pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def members(pairs_: ranges.Ranges) -> set[int]:
    return {index for low, high in pairs_ for index in range(low, high)}


@given(pairs, pairs, st.integers(0, 40))
def test_they_are_sets(a, b, most):
    x, y = ranges.ranges(a), ranges.ranges(b)
    mine, others = members(x), members(y)
    assert mine == {i for low, high in a for i in range(low, high)}
    assert members(ranges.union(x, y)) == mine | others
    assert members(ranges.common(x, y)) == mine & others
    assert members(ranges.minus(x, y)) == mine - others
    assert ranges.count(x) == len(mine)
    assert list(ranges.each(x)) == sorted(mine)
    assert members(ranges.take(x, most)) == set(sorted(mine)[:most])
    assert members(ranges.take_last(x, most)) == set(sorted(mine, reverse=True)[:most])
    assert all(ranges.contains(x, i) == (i in mine) for i in range(31))
    assert (x == y) == (mine == others)


@given(pairs, pairs)
def test_results_have_the_one_form_that_equal_sets_have(a, b):
    x, y = ranges.ranges(a), ranges.ranges(b)
    for result in (ranges.union(x, y), ranges.common(x, y), ranges.minus(x, y)):
        assert result == ranges.ranges(result)
        assert all(low < high for low, high in result)


@given(
    st.dictionaries(st.sampled_from("abc"), pairs), st.dictionaries(st.sampled_from("abc"), pairs)
)
def test_sets_by_group(a, b):
    x, y = ranges.indices(a), ranges.indices(b)
    assert all(x.values()), "a group without indices is left out"
    assert ranges.merged(ranges.without(x, y), ranges.shared(x, y)) == x
    assert ranges.is_within(ranges.shared(x, y), y)
    assert ranges.size(ranges.merged(x, y)) == (
        ranges.size(x) + ranges.size(y) - ranges.size(ranges.shared(x, y))
    )


def test_it_is_shown_as_people_count():
    assert ranges.shown({"web": ((0, 5), (7, 8)), "db": ((0, 1),)}) == "web[0-4,7] db[0]"
