"""Snapshots on disk: whole or not there, checked by size and digest."""

from pathlib import Path

import pytest

from raft.core import Configuration, SnapshotMeta
from raft.snapshots import SnapshotDamagedError, SnapshotGoneError, SnapshotStore

META = SnapshotMeta(7, 2, Configuration.of({"a": "a:1"}), 1)


def test_a_saved_snapshot_is_the_newest_after_reopening(tmp_path: Path) -> None:
    meta = SnapshotStore(tmp_path).save(META, [b"one", b"two"])
    assert meta.size == 6 and len(meta.digest) == 64
    store = SnapshotStore(tmp_path)
    assert store.newest() == meta
    assert store.load(meta) == b"onetwo"
    assert store.read(meta.snapshot_id, 2, 3) == (b"etw", False)
    assert store.read(meta.snapshot_id, 5, 30) == (b"o", True)


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert SnapshotStore(tmp_path).newest().index == 0


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def chunks():
        yield b"one"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        SnapshotStore(tmp_path).save(META, chunks())
    assert list(tmp_path.iterdir()) == []


def test_chunks_become_a_snapshot_only_when_whole_and_right(tmp_path: Path) -> None:
    source = SnapshotStore(tmp_path / "source")
    meta = source.save(META, [b"x" * 1000])
    target = SnapshotStore(tmp_path / "target")
    target.stage(meta, 0, b"x" * 600, is_last=False)
    assert target.newest().index == 0
    target.stage(meta, 600, b"x" * 400, is_last=True)
    assert target.newest() == meta and target.load(meta) == b"x" * 1000

    wrong = SnapshotStore(tmp_path / "wrong")
    wrong.stage(meta, 0, b"x" * 600, is_last=False)
    with pytest.raises(SnapshotDamagedError, match="sent again"):
        wrong.stage(meta, 600, b"y" * 400, is_last=True)
    with pytest.raises(SnapshotDamagedError, match="does not continue"):
        wrong.stage(meta, 600, b"x" * 400, is_last=True)
    assert list((tmp_path / "wrong").iterdir()) == []


def test_what_was_being_written_at_a_crash_is_removed(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).stage(META, 0, b"half", is_last=False)
    assert list(tmp_path.iterdir())
    SnapshotStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_are_kept_and_an_older_one_is_gone(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    metas = [store.save(SnapshotMeta(i, 1, Configuration(), 0), [b"x"]) for i in (1, 2, 3)]
    assert store.newest() == metas[2]
    assert store.read(metas[1].snapshot_id, 0, 9) == (b"x", True)
    with pytest.raises(SnapshotGoneError, match="not kept"):
        store.read(metas[0].snapshot_id, 0, 9)


def test_a_flipped_bit_is_named_with_the_way_out(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    meta = store.save(META, [bytes(100)])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(b"\x01" + whole[1:])
    with pytest.raises(SnapshotDamagedError, match=r"differs from its digest.*Remove the file"):
        store.load(meta)
    for position in range(100, len(whole)):
        data = bytearray(whole)
        data[position] ^= 4
        path.write_bytes(data)
        with pytest.raises(SnapshotDamagedError, match=path.name):
            store.newest()
