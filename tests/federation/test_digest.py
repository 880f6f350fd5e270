"""The digest: what it says is never wrong, it is small, and readers of other ages read it."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import node, state_with

from core.federation import digest as digests
from core.federation import grid, words
from core.federation.ask import GroupAsk, takes
from core.federation.digest import BUDGET_BYTES, Digest, Room
from core.federation.survey import Survey

sizes = st.lists(st.tuples(st.integers(0, 64_000), st.integers(0, 65_000)), max_size=30)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 70_000), st.integers(0, 70_000))
def test_the_grid_bounds_what_fits(nodes: list[tuple[int, int]], cpu: int, memory: int):
    cpu, memory = max(cpu, 1), max(memory, 1)
    exact = sum(min(c // cpu, m // memory) for c, m in nodes)
    largest = (max((c for c, _ in nodes), default=0), max((m for _, m in nodes), default=0))
    made = grid.make_grids(
        np.array([c for c, _ in nodes], np.int64),
        np.array([m for _, m in nodes], np.int64),
        np.zeros(1 if nodes else 0, np.int64),
        [largest] if nodes else [],
    )
    bounds = grid.fits(made[0] if made else b"", largest, cpu, memory)
    assert bounds.at_least <= exact <= bounds.at_most
    assert bounds.at_least <= bounds.likely <= bounds.at_most


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3_000_000))
def test_small_counts_are_exact_and_large_ones_within_a_seventeenth(count: int):
    column = np.full(1, count * 4, np.int64)
    made = grid.make_grids(column, column, np.zeros(1, np.int64), [(16, 16)])[0]
    bounds = grid.fits(made, (16, 16), 4, 4)
    if count <= 12:
        assert bounds.at_least == bounds.at_most == count
    elif count < 2_000_000:
        assert bounds.at_least <= count <= bounds.at_most <= bounds.at_least * (1 + 1 / 8) + 1


def full_of_detail(classes: int) -> Digest:
    state = state_with(
        node(f"n{i}", cpu=8_000 + i, memory=16_000, node_class=f"class-number-{i}",
             attributes={f"platform.of.number.{j}": f"value-{i}" for j in range(20)})
        for i in range(classes)
    )  # fmt: skip
    trips = {f"{i:012d}": 1_000 * i for i in range(40)}
    return digests.within_budget(
        Digest(
            region="a-rather-long-region",
            datacenter="a-rather-long-datacenter",
            datacenter_id="0" * 12,
            round_trips=digests.pack_trips(trips),
            **Survey().fields(state),
        )
    )


def test_it_keeps_its_budget_and_tells_the_smallest_classes_together():
    for classes in (1, 3, 12, 60):
        digest = full_of_detail(classes)
        assert len(digests.encode(digest)) <= BUDGET_BYTES
        assert digest.nodes_ready == classes, "no node is forgotten"
        assert digest.total.cpu == sum(8_000 + i for i in range(classes))
    assert digest.classes[-1].pool == digests.REST
    wanted = GroupAsk("g", 1, Room(100, 100), pool="default", node_class="class-number-59")
    assert takes(wanted, digest).at_least == 0, "the rest may be of another class"
    assert takes(wanted, digest).at_most > 0


def test_readers_skip_what_they_do_not_know_and_refuse_what_they_would_misread():
    fields = msgspec.msgpack.decode(digests.encode(full_of_detail(2)))
    later = msgspec.msgpack.encode([*fields, "a field of next year", 7])
    assert digests.decode(later) == full_of_detail(2)
    newer = [digests.FORMAT + 1, digests.FORMAT, *fields[2:], "more"]
    assert digests.decode(msgspec.msgpack.encode(newer)) is not None
    alien = [digests.FORMAT + 5, digests.FORMAT + 4, *fields[2:]]
    assert digests.decode(msgspec.msgpack.encode(alien)) is None
    assert digests.decode(b"\xc1garbage") is None
    assert digests.decode(msgspec.msgpack.encode(Digest(format=1))) is None


def test_words_that_found_no_place_prove_nothing():
    many = words.by_weight([f"attr.a{i}=1" for i in range(300)] + ["driver.raw_exec"])
    kept, missing = words.partial_kinds(many)
    filter_ = words.bloom(kept)
    assert words.may_have(filter_, "driver.raw_exec")
    assert words.is_kind_whole(missing, "driver.docker")
    assert not words.is_kind_whole(missing, "attr.b=1")
    assert words.all_have(words.common(many), "driver.raw_exec")
    assert not words.all_have(words.common(many), "driver.docker")


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text("0123456789abcdef", min_size=12, max_size=12),
                       st.integers(0, 10_000_000), max_size=8))  # fmt: skip
def test_round_trips_are_told_within_an_eighth(trips: dict[str, int]):
    packed = digests.pack_trips(trips)
    marks = [packed[i : i + 2] for i in range(0, len(packed), 3)]
    for datacenter_id, us in trips.items():
        told = digests.trip_us(packed, datacenter_id)
        if len(set(marks)) == len(marks):
            assert told is not None and told <= max(us, 1) <= told * 9 / 8 + 1
    assert digests.trip_us(b"", "0" * 12) is None
