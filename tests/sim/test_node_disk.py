"""The client's disk gives back what was saved last, whether it was packed meanwhile or not."""

from hypothesis import given
from hypothesis import strategies as st

from sim.node_disk import Dictionary, NodeDisk

KEYS = st.one_of(
    st.just("node"),
    st.builds("job/default/{}/0/1".format, st.integers(0, 3)),
    st.builds("alloc/{}".format, st.integers(0, 60)),
    st.builds("task/{}/{}".format, st.integers(0, 60), st.sampled_from("ab")),
)


@given(st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=12)), max_size=400))
def test_records_are_those_saved_last(changes: list[tuple[str, bytes | None]]):
    disk, expected = NodeDisk(Dictionary()), {}
    for key, value in changes:
        disk.save(key, value)
        expected[key] = value
    assert disk.records() == {key: value for key, value in expected.items() if value is not None}


def test_many_alike_take_little_room():
    disk = NodeDisk(Dictionary())
    for number in range(400):
        disk.save(f"alloc/{number:036}", b"%036d" % number + b"what they have in common " * 40)
    for _ in range(2):
        disk.rest()
    records = disk.records()
    assert len(records) == 400
    assert sum(map(len, records.values())) > 400_000
    assert 0 < disk.packed_bytes < 30_000
