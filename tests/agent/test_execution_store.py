"""The client's saved records survive anything but a changed past."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.agent.execution import store
from core.agent.execution.store import StateStore, StoreDamaged

CHANGES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "task/x"]), st.none() | st.binary(max_size=20)),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(CHANGES, max_size=5), cut=st.integers(0, 60))
def test_a_crash_in_the_last_write_loses_only_what_was_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, bytes | None]]],
    cut: int,
) -> None:
    path = tmp_path_factory.mktemp("store") / "state.log"
    opened = StateStore(path)
    expected: dict[str, bytes] = {}
    for batch in batches:
        opened.append(batch)
        for key, value in batch:
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
    good = path.stat().st_size
    opened.append([("z", bytes(50))])
    opened.close()
    os.truncate(path, min(good + cut, path.stat().st_size))
    again = StateStore(path)
    again.values.pop("z", None)
    assert again.values == expected
    again.append([("after", b"1")])
    again.close()
    assert StateStore(path).values["after"] == b"1"


def test_a_damaged_past_is_named_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.log"
    opened = StateStore(path)
    opened.append([("key", b"some value")])
    opened.append([("other", b"x")])
    opened.close()
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="at byte 21"):
        StateStore(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.log"
    path.write_bytes(b"something else entirely\n")
    with pytest.raises(StoreDamaged, match="another version"):
        StateStore(path)


def test_history_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MIN_COMPACT_BYTES", 1_000)
    path = tmp_path / "state.log"
    opened = StateStore(path)
    for number in range(500):
        opened.append([("key", b"value %d" % number), ("gone", b"x"), ("gone", None)])
    assert path.stat().st_size < 1_200
    opened.close()
    assert StateStore(path).values == {"key": b"value 499"}


def test_a_refused_write_leaves_a_readable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.log"
    opened = StateStore(path)
    opened.append([("a", b"1")])
    real_write = os.write

    def half(fd: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return real_write(fd, data[: len(data) // 2])

    def refuse(fd: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        opened.append([("b", b"2" * 100)])
    monkeypatch.undo()
    opened.append([("c", b"3")])
    opened.close()
    assert StateStore(path).values == {"a": b"1", "c": b"3"}
