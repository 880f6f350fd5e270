"""The write-ahead log on real files: what it keeps, what it cuts, what it refuses."""

import errno
from pathlib import Path

import pytest

from raft.core import Configuration, Entry, HardState, Kind, Persist, SnapshotMeta
from raft.disk import FolderInUseError, RealDisk, RealFile
from raft.recovery import newest_of
from raft.segment import HEADER_BYTES, SegmentFile, SegmentReader
from raft.wal import DiskFullError, Wal, WalDamagedError, WalFailedError

SMALL = 4096


def entry(index: int, term: int = 1, size: int = 40) -> Entry:
    return Entry(index, term, Kind.COMMAND, f"{index}/{term} ".encode().ljust(size, b"x"))


def batch(*entries: Entry, ticket: int = 1, **fields: object) -> Persist:
    return Persist(ticket=ticket, entries=list(entries), **fields)


def newest_segment(folder: Path) -> Path:
    return max(folder.glob("log-*.wal"))


def fill(folder: Path, count: int, *, size: int = 40, segment_bytes: int = SMALL) -> None:
    wal, _ = Wal.open(folder, segment_bytes=segment_bytes)
    wal.append([Persist(ticket=1, hard_state=HardState(1, "a"))])
    for index in range(1, count + 1):
        wal.append([batch(entry(index, size=size))])
    wal.close()


def indexes(folder: Path, **options: object) -> list[int]:
    wal, recovery = Wal.open(folder, **options)
    wal.close()
    return [e.index for e in recovery.boot.entries]


def test_reopen_gives_back_entries_term_and_vote(tmp_path: Path) -> None:
    wal, recovery = Wal.open(tmp_path)
    assert recovery.boot.entries == [] and recovery.boot.term == 0
    wal.append([batch(entry(1), entry(2), hard_state=HardState(1, "b"))])
    wal.append([batch(Entry(3, 2, Kind.NOOP, b""), hard_state=HardState(2, ""))])
    wal.close()
    wal, recovery = Wal.open(tmp_path)
    wal.close()
    assert recovery.boot.entries == [entry(1), entry(2), Entry(3, 2, Kind.NOOP, b"")]
    assert (recovery.boot.term, recovery.boot.voted_for, recovery.torn) == (2, "", "")


def test_many_batches_cost_one_sync(tmp_path: Path) -> None:
    disk = CountingDisk()
    wal, _ = Wal.open(tmp_path, disk=disk)
    wal.append([batch(entry(1))])
    before = disk.syncs
    wal.append([batch(entry(i)) for i in range(2, 60)])
    wal.close()
    assert disk.syncs == before + 1


def test_a_truncated_tail_stays_away_and_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    wal, _ = Wal.open(tmp_path)
    wal.append([batch(entry(4, 2), truncate_from=4)])
    wal.close()
    wal, recovery = Wal.open(tmp_path)
    wal.close()
    assert [(e.index, e.term) for e in recovery.boot.entries] == [(1, 1), (2, 1), (3, 1), (4, 2)]


def test_segments_follow_one_another_and_go_when_released(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    count = len(list(tmp_path.glob("log-*.wal")))
    assert count > 3
    assert indexes(tmp_path, segment_bytes=SMALL) == list(range(1, 201))
    wal, _ = Wal.open(tmp_path, segment_bytes=SMALL)
    wal.append([Persist(ticket=1, release_through=150)])
    wal.close()
    assert len(list(tmp_path.glob("log-*.wal"))) < count - 1
    snapshot = SnapshotMeta(150, 1, Configuration(), 1)
    assert indexes(tmp_path, snapshot=snapshot) == list(range(151, 201))


def test_a_log_that_begins_after_the_newest_snapshot_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    wal, _ = Wal.open(tmp_path, segment_bytes=SMALL)
    wal.append([Persist(ticket=1, release_through=150)])
    wal.close()
    with pytest.raises(WalDamagedError, match=r"newest snapshot is missing.*empty its data"):
        Wal.open(tmp_path)


def test_a_snapshot_installed_just_before_a_crash_wins_over_the_log(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    snapshot = SnapshotMeta(9, 3, Configuration(), 1)
    wal, recovery = Wal.open(tmp_path, snapshot=snapshot)
    assert recovery.boot.entries == [] and recovery.boot.term == 3
    wal.append([batch(entry(10, 3))])
    wal.close()
    assert indexes(tmp_path, snapshot=snapshot) == [10]


def test_a_batch_longer_than_a_segment_fits(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, segment_bytes=SMALL)
    wal.append([batch(entry(1, size=50_000))])
    wal.append([batch(entry(2))])
    wal.close()
    assert indexes(tmp_path, segment_bytes=SMALL) == [1, 2]


@pytest.mark.parametrize("kept", [0, 1, 31, 40, 75, 100, 150])
def test_a_torn_tail_is_cut_and_reported(tmp_path: Path, kept: int) -> None:
    """The last batch reached the disk only up to some byte; zeros follow."""
    fill(tmp_path, 3)
    path = newest_segment(tmp_path)
    start = len(path.read_bytes().rstrip(b"\0")) + 7 & ~7
    wal, _ = Wal.open(tmp_path)
    wal.append([batch(entry(4, size=2000), entry(5))])
    wal.close()
    data = bytearray(path.read_bytes())
    data[start + kept :] = bytes(len(data) - start - kept)
    path.write_bytes(data)
    wal, recovery = Wal.open(tmp_path)
    assert [e.index for e in recovery.boot.entries] == [1, 2, 3]
    assert bool(recovery.torn) == bool(kept) and (not kept or f"offset {start}" in recovery.torn)
    wal.append([batch(entry(4))])
    wal.close()
    assert indexes(tmp_path) == [1, 2, 3, 4]


def test_a_page_missing_inside_the_last_batch_is_a_torn_tail(tmp_path: Path) -> None:
    """A power cut may keep later pages of a batch and lose earlier ones."""
    fill(tmp_path, 1, segment_bytes=65536)
    wal, _ = Wal.open(tmp_path)
    wal.append([batch(*[entry(i, size=200) for i in range(2, 60)])])
    wal.close()
    path = newest_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    wal, recovery = Wal.open(tmp_path)
    wal.close()
    found = [e.index for e in recovery.boot.entries]
    assert found == list(range(1, len(found) + 1)) and 1 <= len(found) < 59
    assert "unfinished write" in recovery.torn


def test_every_flipped_bit_of_a_durable_record_is_refused_with_the_way_out(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    path = newest_segment(tmp_path)
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for position in range(end):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        try:
            wal, recovery = Wal.open(tmp_path)
        except WalDamagedError as error:
            assert str(path) in str(error) or "log segment" in str(error)
            assert "join again" in str(error)
            continue
        wal.close()
        # Only a record's padding says nothing and may change unnoticed.
        assert len(recovery.boot.entries) == 6 and recovery.torn == ""


def test_a_cut_or_missing_segment_in_the_middle_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    segments = sorted(tmp_path.glob("log-*.wal"))
    data = segments[1].read_bytes()
    segments[1].write_bytes(data[:1000])
    with pytest.raises(WalDamagedError, match=segments[1].name):
        Wal.open(tmp_path)
    segments[1].unlink()
    with pytest.raises(WalDamagedError, match="missing"):
        Wal.open(tmp_path)


def test_the_newest_or_only_segment_gone_is_refused_and_nothing_is_begun_anew(
    tmp_path: Path,
) -> None:
    for count in (3, 200):  # entries: in one segment, in several
        folder = tmp_path / str(count)
        folder.mkdir()
        fill(folder, count)
        newest_segment(folder).unlink()
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(WalDamagedError, match=r"log-\d+\.wal is missing.*let it join again"):
            Wal.open(folder)
        assert sorted(path.name for path in folder.iterdir()) == before


def test_a_note_that_a_full_disk_left_behind_hinders_nobody(tmp_path: Path) -> None:
    """sim.powercut seed 173: the segment that was noted last is gone, a later one is there."""
    (tmp_path / "newest").write_bytes(b"%016d\n" % 1)
    assert newest_of(tmp_path, RealDisk(), ["newest", "log-0000000000000002.wal"]) == 1
    with pytest.raises(WalDamagedError, match="it is the newest segment"):
        newest_of(tmp_path, RealDisk(), ["newest", "log-0000000000000000.wal"])


def test_a_log_of_an_earlier_version_which_noted_no_newest_segment_opens(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    (tmp_path / "newest").unlink()
    assert indexes(tmp_path) == list(range(1, 201))
    assert (tmp_path / "newest").read_bytes() == f"{newest_segment(tmp_path).name[4:20]}\n".encode()
    (tmp_path / "newest").write_bytes(b"rubbish")
    with pytest.raises(WalDamagedError, match="newest is damaged"):
        Wal.open(tmp_path)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    with pytest.raises(FolderInUseError, match="another data folder"):
        Wal.open(tmp_path)
    wal.close()
    Wal.open(tmp_path)[0].close()


def test_a_full_disk_refuses_entries_records_votes_and_loses_nothing(tmp_path: Path) -> None:
    disk = CountingDisk()
    wal, _ = Wal.open(tmp_path, disk=disk, segment_bytes=SMALL)
    index = 0
    wal.append([batch(entry(1))])
    disk.is_full = True
    with pytest.raises(DiskFullError):
        for index in range(2, 1000):
            wal.append([batch(entry(index))])
    with pytest.raises(DiskFullError):  # void: it follows what was refused
        wal.append([batch(entry(index + 1))])
    for term in range(2, 400):  # more than the segment has room for: the reserve is used
        wal.append([Persist(ticket=term, hard_state=HardState(term, "c"))])
    disk.is_full = False
    wal.append([batch(entry(index, 400), is_retry=True, hard_state=HardState(400, ""))])
    wal.close()
    wal, recovery = Wal.open(tmp_path, segment_bytes=SMALL)
    wal.close()
    assert [e.index for e in recovery.boot.entries] == list(range(1, index + 1))
    assert recovery.boot.entries[-1].term == recovery.boot.term == 400
    assert (tmp_path / "reserve").exists(), "the reserve is made again once there is room"


def test_half_a_batch_on_a_full_disk_is_undone(tmp_path: Path) -> None:
    disk = CountingDisk()
    wal, _ = Wal.open(tmp_path, disk=disk)
    wal.append([batch(entry(1))])
    disk.write_limit = 100
    with pytest.raises(DiskFullError):
        wal.append([batch(entry(2, size=60), entry(3), entry(4))])
    disk.write_limit = -1
    wal.append([Persist(ticket=3, hard_state=HardState(7, "b"))])
    wal.close()
    wal, recovery = Wal.open(tmp_path)
    wal.close()
    assert [e.index for e in recovery.boot.entries] == [1] and recovery.boot.term == 7


def test_after_a_failed_sync_nothing_more_is_written(tmp_path: Path) -> None:
    disk = CountingDisk()
    wal, _ = Wal.open(tmp_path, disk=disk)
    wal.append([batch(entry(1))])
    disk.is_sync_failing = True
    with pytest.raises(WalFailedError, match="restart"):
        wal.append([batch(entry(2))])
    disk.is_sync_failing = False
    with pytest.raises(WalFailedError):
        wal.append([batch(entry(2))])
    wal.close()


def test_a_segment_reader_reads_nothing_into_blank_space() -> None:
    blank = bytes(4096)
    file = SegmentFile(lambda offset, size: blank[offset : offset + size], len(blank))
    reader = SegmentReader(file, 1)
    assert list(reader) == []
    assert not reader.ending.damage and not reader.ending.is_torn
    assert HEADER_BYTES == 32


class CountingFile(RealFile):
    def __init__(self, inner: RealFile, disk: "CountingDisk") -> None:
        super().__init__(inner._descriptor)
        self.disk = disk

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        limit = self.disk.write_limit
        if limit >= 0:
            super().write_at(offset, bytes(data[:limit]))
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_at(offset, data)

    def sync(self) -> None:
        self.disk.syncs += 1
        if self.disk.is_sync_failing:
            raise OSError(errno.EIO, "Input/output error")
        super().sync()


class CountingDisk(RealDisk):
    """Counts syncs; has no room, or a broken sync, when told so."""

    def __init__(self) -> None:
        self.syncs = 0
        self.is_full = self.is_sync_failing = False
        self.write_limit = -1

    def open(self, path: Path, *, is_new: bool = False) -> CountingFile:
        if is_new and self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return CountingFile(super().open(path, is_new=is_new), self)
