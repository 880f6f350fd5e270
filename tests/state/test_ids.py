"""Ids of allocations: many are read as one is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.ids import AllocKey, alloc_id, alloc_ids, alloc_key, alloc_keys

SITE = "0a1b2c3d4e5f"
_KEYS = st.builds(
    AllocKey,
    st.integers(0, (1 << 28) - 1),
    st.integers(0, 255),
    st.integers(0, (1 << 28) - 1),
    st.integers(0, (1 << 16) - 1),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(_KEYS, max_size=20))
def test_many_keys_come_back_out_of_their_ids(keys: list[AllocKey]) -> None:
    ids = [alloc_id(key, SITE) for key in keys]
    found = alloc_keys(ids, SITE)
    assert found is not None
    assert [AllocKey(*row) for row in found.tolist()] == keys == [alloc_key(one) for one in ids]
    columns = np.array(keys, np.int64).reshape(-1, 4).T
    assert alloc_ids(*columns, SITE) == ids


def test_what_is_no_id_of_the_datacenter_is_told_apart() -> None:
    good = alloc_id(AllocKey(1, 2, 3, 4), SITE)
    for bad in ("", good[:-1], good[:-1] + "0", "g" + good[1:], good.replace("-", " ", 1)):
        assert alloc_keys([good, bad], SITE) is None
