"""The compiled kernel and numpy place alike, bit for bit."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from core.model.job import Spread, SpreadTarget
from core.model.node import Node
from core.scheduler import kernel
from core.scheduler.place import Placed, Placer, Wish
from core.scheduler.rank import ALGORITHMS
from core.scheduler.room import Ask, Room
from core.scheduler.spread import SpreadScorer
from core.scheduler.view import NodesView

SEEDS = 120


@pytest.fixture
def compiled() -> Iterator[None]:
    assert kernel.load()
    yield
    kernel.unload()


def _nodes(rng: random.Random, count: int) -> NodesView:
    shapes = [(4_000, 8_192), (16_000, 16_384), (16_000, 65_536), (64_000, 131_072), (0, 0)]
    rows = [rng.choice(shapes) for _ in range(count)]
    capacity = np.array(rows, np.int64).reshape(count, 2)
    cpu, memory = capacity[:, 0].copy(), capacity[:, 1].copy()
    share = np.array([rng.random() for _ in range(count)])
    return NodesView(
        records=[Node(id=f"{n:012x}") for n in range(count)],
        cpu_capacity=cpu,
        memory_capacity=memory,
        disk_capacity=np.full(count, 100_000),
        cpu_used=(cpu * share * rng.choice((0, 0.5, 1))).astype(np.int64),
        memory_used=(memory * share[::-1] * rng.choice((0, 0.5, 1))).astype(np.int64),
        disk_used=np.zeros(count, np.int64),
        is_ready=np.ones(count, np.bool_),
        class_id=np.zeros(count, np.int64),
    )


def _spread(rng: random.Random, count: int, nodes: int) -> SpreadScorer:
    names = [None, "a", "b", "c", "d", "e"][: rng.randint(1, 6)]
    values = [rng.choice(names) for _ in range(nodes)]
    targets = [
        SpreadTarget(value=name, percent=rng.choice((0, 10, 40)))
        for name in rng.sample("abcde", rng.randint(0, 3))
    ]
    block = Spread(attribute="${meta.rack}", weight=50, spread_target=targets or None)
    held = np.array([rng.randrange(nodes) for _ in range(rng.randint(0, 5))], np.int64)
    return SpreadScorer(block, rng.choice((0.5, 1.0)), count, values, held)


def _placed(seed: int) -> Placed:
    """Place something random; the same for a seed, whoever places."""
    rng = random.Random(seed)
    nodes = rng.randint(1, 60)
    room = Room(_nodes(rng, nodes), random.Random(seed), algorithm=rng.choice(ALGORITHMS))
    wanted = rng.randint(9, 150)
    is_alone = rng.random() < 0.2
    liking = np.array([rng.choice((-0.5, 0.0, 0.25, 1.0)) for _ in range(nodes)])
    wish = Wish(
        ask=Ask(rng.choice((0, 50, 700)), rng.choice((0, 30, 900)), 10),
        eligible=np.array([rng.random() < 0.9 for _ in range(nodes)]),
        count=wanted,
        collisions=np.array([rng.choice((0, 0, 0, 1, 4)) for _ in range(nodes)], np.int64),
        affinity=liking if rng.random() < 0.4 else None,
        is_alone=is_alone,
        occupied=np.zeros(nodes, np.bool_) if is_alone else None,
        spreads=[_spread(rng, wanted, nodes) for _ in range(rng.choice((0, 0, 1, 1, 2)))],
    )
    return Placer(room).place(wish, wanted)


def _few(seed: int) -> list[object]:
    """Place small groups that ask alike, one after the other; the same for a seed."""
    rng = random.Random(seed)
    nodes = rng.randint(1, 200)
    room = Room(_nodes(rng, nodes), random.Random(seed), algorithm=rng.choice(ALGORITHMS))
    asks = [Ask(rng.choice((0, 50, 700)), rng.choice((0, 30, 900)), 10) for _ in range(3)]
    masks = [np.array([rng.random() < 0.9 for _ in range(nodes)]) for _ in range(2)]
    found: list[object] = []
    for _ in range(20):
        ask, number, wanted = rng.choice(asks), rng.randrange(2), rng.randint(1, 8)
        alone = rng.random() < 0.2
        none = np.zeros(nodes, np.int64)
        occupied = none.copy() if alone else None
        wish = Wish(ask, masks[number], wanted, none, number, is_alone=alone, occupied=occupied)
        placed = Placer(room).place(wish, wanted)
        standing = room.standings.of(ask, masks[number], number)
        found += [placed.nodes.tolist(), placed.scores.tobytes(), wish.reasons]
        found += [standing.column.tobytes(), standing.lacks.tobytes(), standing.short.tolist()]
    return found


def _compare() -> int:
    """Place `SEEDS` times either way; return how many instances there were."""
    count = 0
    for seed in range(SEEDS):
        kernel.unload()
        by_numpy = _placed(seed)
        assert kernel.load()
        by_kernel = _placed(seed)
        assert by_numpy.nodes.tolist() == by_kernel.nodes.tolist(), f"seed {seed}"
        assert by_numpy.scores.tobytes() == by_kernel.scores.tobytes(), f"seed {seed}"
        count += by_numpy.nodes.size
    for seed in range(SEEDS // 4):
        kernel.unload()
        few = _few(seed)
        assert kernel.load()
        assert _few(seed) == few, f"seed {seed}"
    return count


@pytest.mark.usefixtures("compiled")
def test_kernel_places_as_numpy_does() -> None:
    """The same nodes in the same order with the same scores to the last bit."""
    assert _compare() > SEEDS


def test_interpreted_kernel_places_as_numpy_does() -> None:
    """With NUMBA_DISABLE_JIT=1 the loops run as they stand, and nothing changes."""
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r});"
        "import test_kernel as this;"
        "print(this._compare())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(  # noqa: PLW1510 what it said tells more than its code
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > SEEDS


def test_without_numba_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "core.scheduler.compiled", None)
    assert not kernel.load()
    assert kernel.loaded() is None
    assert _placed(1).nodes.size
