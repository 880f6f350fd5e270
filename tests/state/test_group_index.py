"""From share index to newest row, and generations that are never given twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.state.commands import CollectGarbage
from core.state.group_index import NO_ROW, GroupIndex
from core.state.state import State


def ints(*values):
    return np.array(values, dtype=np.int64)


@given(
    st.lists(
        st.dictionaries(st.integers(0, 40), st.integers(0, 1000), min_size=1, max_size=8),
        max_size=6,
    )
)
def test_it_agrees_with_a_dict(batches):
    index, plain = GroupIndex(), {}
    for generation, batch in enumerate(batches):
        keys, rows = ints(*batch), ints(*batch.values())
        followed = index.put(keys, rows, np.full(len(keys), generation))
        assert followed.tolist() == [plain.get(key, NO_ROW) for key in batch]
        plain.update(batch)
        assert index.indices.tolist() == sorted(plain)
    for key in range(-1, 42):
        assert index.newest(key) == plain.get(key, NO_ROW)


def test_a_lower_generation_does_not_lower_the_last_one():
    index = GroupIndex()
    index.put(ints(7), ints(0), ints(5))
    index.put(ints(7), ints(1), ints(4))
    assert index.next_generations(ints(7, 8)).tolist() == [6, 0]


def test_generations_wrap_and_stay_newer():
    index = GroupIndex()
    index.put(ints(1), ints(0), ints(65535))
    assert index.next_generations(ints(1)).tolist() == [0]
    assert index.is_newer(ints(1, 1, 1), ints(0, 65535, 65000)).tolist() == [True, False, False]
    index.put(ints(1), ints(1), ints(0))
    assert index.next_generations(ints(1)).tolist() == [1]


def test_a_generation_survives_its_row_and_a_restore(cluster):
    """The canary is collected, the older allocation of its index lives on."""
    cluster.node()
    cluster.job()
    cluster.place("web", [(0, 0)])
    cluster.place("web", [(0, 0)], canary=True)
    canary = cluster.ids()[1]
    cluster.plan("web", [], stops=[cluster.stop(canary)])
    cluster.report(canary, 2)
    far = cluster.now_us * 2
    collect = CollectGarbage(
        job_before_us=0, evaluation_before_us=far, deployment_before_us=0, node_before_us=0
    )
    assert cluster.do(collect).value["Allocations"] == 1
    twin = State.restore(cluster.state.image().chunks())
    for state in (cluster.state, twin):
        record = state.jobs.get("default", "web")
        assert state.allocs.next_generations(record, "g", ints(0)).tolist() == [2]
