"""`algorithm = "nomad"`: the documented formula to 1e-9, and the best of a sample."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.job import Affinity
from core.scheduler.rank import NOMAD
from core.scheduler.sampling import Sampler, sample_size
from core.state.commands import SetSchedulerConfig


def _nomad(world: Any) -> None:
    world.do(SetSchedulerConfig(config={"SchedulerAlgorithm": NOMAD}))


def _formula(cpu: tuple[int, int], memory: tuple[int, int]) -> float:
    """Best-fit v3 of (used, capacity) after the placement, as the documentation has it."""
    free_cpu, free_memory = 1 - cpu[0] / cpu[1], 1 - memory[0] / memory[1]
    return min(max(20 - 10**free_cpu - 10**free_memory, 0), 18) / 18


def test_the_score_is_the_documented_one(world: Any, kit: Any) -> None:
    _nomad(world)
    world.node(cpu=4000, memory=8192)
    job = kit.job(count=3, cpu=700, memory=900)
    world.run(world.register(job))
    columns = world.state.allocs.columns
    scores = sorted(float(columns.score[row]) for row in world.rows(job))
    wanted = []
    for n in range(1, 4):
        fit = _formula((700 * n, 4000), (900 * n, 8192))
        wanted.append(fit if n == 1 else (fit - n / 3) / 2)
    assert scores == pytest.approx(sorted(wanted), abs=1e-6)  # a column of float32


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9999), st.integers(1, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_the_fitness_agrees_to_1e_9(cpu: int, memory: int, cpu_used: int, memory_used: int) -> None:
    from core.scheduler.rank import fitness, power10

    cpu_whole, memory_whole = cpu + cpu_used, memory + memory_used
    free = np.array([cpu / cpu_whole]), np.array([memory / memory_whole])
    ours = fitness(power10(free[0]), power10(free[1]), *free, algorithm=NOMAD)
    assert ours[0] == pytest.approx(
        _formula((cpu_used, cpu_whole), (memory_used, memory_whole)), abs=1e-9
    )


@pytest.mark.parametrize(
    ("nodes", "is_batch", "is_wide", "size"),
    [(1, False, False, 2), (8, False, False, 3), (5000, False, False, 13), (5000, True, False, 2),
     (5000, False, True, 100)],
)  # fmt: skip
def test_sample_sizes(nodes: int, is_batch: bool, is_wide: bool, size: int) -> None:
    assert sample_size(nodes, 5, is_batch=is_batch, is_wide=is_wide) == size
    assert sample_size(10, 400, is_batch=False, is_wide=True) == 400


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([-math.inf, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(0, 2**32),
)
def test_the_best_of_the_next_few_wins(scores: list[float], limit: int, seed: int) -> None:
    sampler = Sampler(random.Random(seed), len(scores), limit)
    ring = sampler._order.tolist()
    chosen = sampler.choose(np.array(scores))
    holding = [place for place in ring if scores[place] > -math.inf]
    if not holding:
        assert scores[chosen] == -math.inf
        return
    passed, looked = [], []
    for place in holding:
        if scores[place] <= 0 and len(passed) < 3:
            passed.append(place)
        elif len(looked) < limit:
            looked.append(place)
    looked += passed[: limit - len(looked)]
    assert scores[chosen] == max(scores[place] for place in looked)


def test_it_samples_where_ours_looks_at_all(world: Any, kit: Any) -> None:
    """With 64 nodes of which one fits tightly, sampling 6 of them mostly misses it."""
    for _ in range(63):
        world.node(cpu=8000, memory=16_384)
    tight = world.node(cpu=700, memory=700)
    ordinal = world.state.nodes.ordinal_of(tight.id)
    found = 0
    for algorithm in ("binpack", NOMAD):
        world.do(SetSchedulerConfig(config={"SchedulerAlgorithm": algorithm}))
        for n in range(10):
            job = kit.job(f"{algorithm}-{n}", cpu=600, memory=600)
            world.run(world.register(job))
            hit = world.node_of(world.rows(job)[0]) == ordinal
            if algorithm == "binpack":
                assert hit
            found += algorithm == NOMAD and hit
            world.run(world.deregister(job))
            world.end_stopped()
    assert found < 6


def test_affinity_and_full_clusters_work_as_well(world: Any, kit: Any) -> None:
    _nomad(world)
    for number in range(3):
        world.node(cpu=1000, memory=1000, node_class="fast" if number == 1 else "")
    liked = Affinity(l_target="${node.class}", r_target="fast", operand="=", weight=100)
    job = kit.job(count=4, cpu=300, memory=300, affinities=[liked])
    world.run(world.register(job))
    assert len(world.rows(job)) == 4
    more = kit.job("more", count=50, cpu=300, memory=300)
    world.run(world.register(more))
    assert len(world.rows(more)) == 5
    world.check_nodes()
