"""The digest: its grid bounds the truth, and it is small."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.federation import digest as digests
from core.federation.digest import Digest, Nodes, fits_at_least, fits_at_most, may_have, room_of

sizes = st.lists(st.tuples(st.integers(0, 64_000), st.integers(0, 65_000)), max_size=40)


def room(nodes: list[tuple[int, int]], words: list[str] | None = None) -> Digest:
    def column(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    none = column([0] * len(nodes))
    cpu, memory = column([c for c, _ in nodes]), column([m for _, m in nodes])
    columns = Nodes(cpu, memory, none, none, none, none, words or [])
    return Digest(region="eu", datacenter="paris", **room_of(columns))  # type: ignore[arg-type]


@given(sizes, st.integers(1, 40_000), st.integers(1, 40_000))
def test_the_grid_bounds_what_fits(nodes: list[tuple[int, int]], cpu: int, memory: int):
    exact = sum(min(c // cpu, m // memory) for c, m in nodes)
    grid = room(nodes).grid_free
    assert fits_at_least(grid, cpu, memory) <= exact <= fits_at_most(grid, cpu, memory)


@given(sizes)
def test_it_survives_the_wire_and_stays_small(nodes: list[tuple[int, int]]):
    digest = room(nodes, ["driver.raw_exec", "pool.default"])
    data = digests.encode(digest)
    assert digests.decode(data) == digest
    assert len(data) < 700
    assert may_have(digest.drivers, "driver.raw_exec")


def test_another_format_or_garbage_is_none():
    assert digests.decode(digests.encode(Digest(format=2))) is None
    assert digests.decode(b"\xc1garbage") is None
