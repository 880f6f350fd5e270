"""A replica's folder as a whole: who may open it, and what is refused with which remedy."""

import errno
import tracemalloc
from pathlib import Path

import pytest

from raft.core import Configuration, Entry, HardState, Kind, Persist, SnapshotMeta
from raft.disk import FolderInUseError, RealDisk
from raft.snapshots import SnapshotDamagedError, SnapshotStore
from raft.storage import Storage
from raft.wal import DiskFullError, Wal, WalDamagedError

MINE, OTHERS = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
SMALL = 4096


def entry(index: int, size: int = 40) -> Entry:
    return Entry(index, 1, Kind.COMMAND, f"{index} ".encode().ljust(size, b"x"))


def fill(folder: Path, owner: str, count: int = 5, *, size: int = 40) -> None:
    storage = Storage.open(folder, owner=owner, segment_bytes=SMALL)
    storage.wal.append([Persist(ticket=1, hard_state=HardState(1, owner))])
    for index in range(1, count + 1):
        storage.wal.append([Persist(ticket=1, entries=[entry(index, size)])])
    meta = SnapshotMeta(count, 1, Configuration(), 1)
    storage.snapshots.save(meta, [owner.encode() * 50])
    storage.close()


def test_a_second_process_is_refused_before_it_removes_anything(tmp_path: Path) -> None:
    fill(tmp_path, MINE)
    first = Storage.open(tmp_path)
    being_made = [tmp_path / name for name in ("log.new", "saving.new", "arriving.new")]
    for path in being_made:
        path.write_bytes(b"the first process is at it")
    with pytest.raises(FolderInUseError, match="stop it, or give this one another"):
        Storage.open(tmp_path)
    assert all(path.exists() for path in being_made)
    first.close()
    Storage.open(tmp_path).close()
    assert not any(path.exists() for path in being_made)


def test_a_refused_folder_is_free_again(tmp_path: Path) -> None:
    fill(tmp_path, MINE)
    (snapshot,) = tmp_path.glob("*.snap")
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[:-1])
    with pytest.raises(SnapshotDamagedError):
        Storage.open(tmp_path)
    snapshot.write_bytes(whole)
    Storage.open(tmp_path).close()


def test_a_snapshot_of_another_server_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    fill(tmp_path / "mine", MINE, 3)
    fill(tmp_path / "others", OTHERS, 5)
    (foreign,) = (tmp_path / "others").glob("*.snap")
    (tmp_path / "mine" / foreign.name).write_bytes(foreign.read_bytes())
    with pytest.raises(SnapshotDamagedError, match=f"written by server {OTHERS}.*Remove the file"):
        Storage.open(tmp_path / "mine", owner=MINE)
    (tmp_path / "mine" / foreign.name).unlink()
    storage = Storage.open(tmp_path / "mine", owner=MINE)
    storage.close()
    assert storage.newest.index == 3


def test_a_segment_of_another_server_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "mine", MINE)
    fill(tmp_path / "others", OTHERS)
    (foreign,) = (tmp_path / "others").glob("log-*.wal")
    (tmp_path / "mine" / foreign.name).write_bytes(foreign.read_bytes())
    with pytest.raises(WalDamagedError, match=f"{foreign.name} was written by server {OTHERS}"):
        Storage.open(tmp_path / "mine", owner=MINE)


def test_every_flipped_bit_of_a_snapshot_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, MINE)
    (path,) = tmp_path.glob("*.snap")
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        with pytest.raises(SnapshotDamagedError, match=r"join again|version that"):
            Storage.open(tmp_path, owner=MINE)


def test_a_newest_segment_that_was_cut_between_two_records_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path, MINE)
    path = max(tmp_path.glob("log-*.wal"))
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"SRwl")])
    with pytest.raises(WalDamagedError, match="the file ends here, it had 4096 bytes"):
        Storage.open(tmp_path)


def test_segments_that_a_crash_left_behind_a_gap_are_removed(tmp_path: Path) -> None:
    """Removing several, a power cut may keep the first and lose the second."""
    fill(tmp_path, MINE, 200)
    segments = sorted(tmp_path.glob("log-*.wal"))
    segments[1].unlink()
    storage = Storage.open(tmp_path)
    storage.close()
    assert "removed 1 segments" in storage.recovery.stray
    assert not segments[0].exists()
    assert storage.newest.index == 200


def test_entries_leave_the_reserve_to_votes(tmp_path: Path) -> None:
    disk = FullDisk()
    wal, _ = Wal.open(tmp_path, disk=disk, segment_bytes=SMALL)
    wal.append([Persist(ticket=1, entries=[entry(1)])])
    disk.is_full = True
    index = 2
    with pytest.raises(DiskFullError):
        while True:
            wal.append([Persist(ticket=1, entries=[entry(index)])])
            index += 1
    for term in range(2, 60):  # the segment is full: this begins the reserved one
        wal.append([Persist(ticket=term, hard_state=HardState(term, "a"))])
    assert not (tmp_path / "reserve").exists()
    with pytest.raises(DiskFullError):  # it would fit into what is left of the reserve
        wal.append([Persist(ticket=99, is_retry=True, entries=[entry(index)])])
    for term in range(60, 120):
        wal.append([Persist(ticket=term, hard_state=HardState(term, "a"))])
    wal.close()
    _, recovery = Wal.open(tmp_path, segment_bytes=SMALL)
    assert recovery.boot.term == 119 and len(recovery.boot.entries) == index - 1


def test_a_start_on_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path, MINE, 200)
    disk = FullDisk()
    disk.is_full = True
    storage = Storage.open(tmp_path, owner=MINE, disk=disk, segment_bytes=SMALL)
    storage.wal.append([Persist(ticket=1, hard_state=HardState(7, "b"))])
    storage.close()
    assert Storage.open(tmp_path).recovery.boot.term == 7


def test_a_big_folder_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    """What is kept are the entries; what is read at once is bounded."""
    store = SnapshotStore(tmp_path)
    saved = store.save(SnapshotMeta(1, 1), (bytes(1 << 20) for _ in range(24)))
    tracemalloc.start()
    try:
        storage = Storage.open(tmp_path, segment_bytes=32 << 20)
        storage.wal.append([Persist(ticket=1, entries=[entry(2)])])
        storage.close()
        storage = Storage.open(tmp_path, segment_bytes=32 << 20)
        assert sum(map(len, storage.snapshots.pieces(saved))) == 24 << 20
        storage.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


class FullDisk(RealDisk):
    """No new file can be made when it is full."""

    is_full = False

    def open(self, path: Path, *, is_new: bool = False):
        if is_new and self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().open(path, is_new=is_new)
