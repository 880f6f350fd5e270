"""A server's data folder: group commit, failures told to all, and what a restart finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from core.agent.disk import DataFolderError, Disk
from core.model.host import Effect, Event
from core.server import effects as fx
from raft.messages import Entry, SnapshotMeta
from raft.output import HardState, Persist
from raft.wal import DiskFullError, WalFailedError

LOG = structlog.wrap_logger(
    None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)]
)


class Image:
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def chunks(self) -> Any:
        yield from self._chunks


class Broken:
    def chunks(self) -> Any:
        raise OSError(28, "No space left on device")


def open_disk(folder: Path) -> tuple[Disk, list[Event]]:
    heard: list[Event] = []
    return Disk(str(folder), deliver=heard.append, log=LOG), heard


def persist(ticket: int, *entries: Entry) -> fx.PersistLog:
    batch = Persist(ticket=ticket, hard_state=HardState(1, "a"), entries=list(entries))
    return fx.PersistLog(ticket, batch)


def entry(index: int) -> Entry:
    return Entry(index=index, term=1, data=b"x" * 10)


async def work_off(disk: Disk, heard: list[Event], *effects: Effect) -> list[Event]:
    """Submit all at once and return what was heard of them."""
    before = len(heard)
    for effect in effects:
        assert disk.handles(effect)
        disk.submit(effect)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.run)
            while len(heard) < before + len(effects):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    return heard[before:]


async def test_what_waits_goes_to_disk_together_and_survives_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, heard = open_disk(tmp_path)
    groups: list[int] = []
    append = disk._wal.append
    monkeypatch.setattr(disk._wal, "append", lambda b: (groups.append(len(b)), append(b)))
    effects = [persist(n, entry(n)) for n in (1, 2, 3)]
    assert await work_off(disk, heard, *effects) == [fx.LogPersisted(n) for n in (1, 2, 3)]
    assert groups == [3]
    server_id = disk.server_id
    disk.close()

    again, _ = open_disk(tmp_path)
    assert again.server_id == server_id
    boot = again.boot()
    assert [each.index for each in boot.raft.entries] == [1, 2, 3]
    assert (boot.raft.term, boot.raft.voted_for) == (1, "a")
    again.close()


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (DiskFullError("the disk is full"), True),
        (WalFailedError("fsync: Input/output error"), False),
        (ValueError("a bug"), False),
    ],
)
async def test_a_failure_is_told_to_every_batch_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, is_full: bool
) -> None:
    disk, heard = open_disk(tmp_path)

    def fail(batches: Any) -> None:
        raise error

    monkeypatch.setattr(disk._wal, "append", fail)
    assert await work_off(disk, heard, persist(1, entry(1)), persist(2, entry(2))) == [
        fx.LogPersistFailed(1, str(error), is_full),
        fx.LogPersistFailed(2, str(error), is_full),
    ]
    disk.close()


async def test_a_snapshot_is_saved_read_in_chunks_and_found_at_the_next_start(
    tmp_path: Path,
) -> None:
    disk, heard = open_disk(tmp_path)
    await work_off(disk, heard, *[persist(n, entry(n)) for n in (1, 2)])
    (saved,) = await work_off(
        disk, heard, fx.SaveSnapshot(7, SnapshotMeta(index=2, term=1), Image(b"abc", b"def"))
    )
    assert isinstance(saved, fx.SnapshotSaved)
    assert (saved.ticket, saved.meta.size) == (7, 6)
    name = saved.meta.snapshot_id
    assert await work_off(
        disk, heard, fx.ReadSnapshot(8, name, 0, 4), fx.ReadSnapshot(9, name, 4, 4)
    ) == [
        fx.SnapshotRead(8, name, 0, b"abcd", False),
        fx.SnapshotRead(9, name, 4, b"ef", True),
    ]
    disk.close()
    again, _ = open_disk(tmp_path)
    assert again.boot().snapshot == b"abcdef"
    again.close()

    other, heard = open_disk(tmp_path / "replica")
    staged = await work_off(
        other,
        heard,
        fx.StageSnapshot(1, saved.meta, 0, b"abc", False),
        fx.StageSnapshot(2, saved.meta, 3, b"def", True),
    )
    assert staged == [fx.SnapshotStaged(1, 0), fx.SnapshotStaged(2, 3, b"abcdef")]
    other.close()


async def test_snapshots_that_fail_are_told_in_words(tmp_path: Path) -> None:
    disk, heard = open_disk(tmp_path)
    failed, gone = await work_off(
        disk,
        heard,
        fx.SaveSnapshot(1, SnapshotMeta(index=1, term=1), Broken()),
        fx.ReadSnapshot(2, "9-9", 0, 10),
    )
    assert isinstance(failed, fx.SnapshotFailed)
    assert "No space left" in failed.reason
    assert isinstance(gone, fx.SnapshotRead)
    assert gone.error
    disk.close()


def test_a_folder_in_use_is_refused_with_the_remedy(tmp_path: Path) -> None:
    disk, _ = open_disk(tmp_path)
    with pytest.raises(DataFolderError, match="in use by another agent: stop it, or set"):
        open_disk(tmp_path)
    disk.close()


def break_id(folder: Path) -> None:
    (folder / "server-id").write_bytes(b"\xff\xfe")


def break_folder(folder: Path) -> None:
    (folder / "server-id").unlink()
    (folder / "server-id").mkdir()


@pytest.mark.parametrize(
    ("damage", "words"), [(break_id, "holds no server id"), (break_folder, "can't be used")]
)
def test_a_damaged_folder_is_refused_in_words(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    open_disk(tmp_path)[0].close()
    damage(tmp_path)
    with pytest.raises(DataFolderError, match=words) as refused:
        open_disk(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_members_are_kept_and_a_broken_list_is_only_a_hint_less(tmp_path: Path) -> None:
    disk, _ = open_disk(tmp_path)
    disk.save_members("lan", [("a", "127.0.0.1:1")])
    assert disk.boot().lan_members == (("a", "127.0.0.1:1"),)
    (tmp_path / "members-lan").write_bytes(b"\xc1")
    assert disk.boot().lan_members == ()
    disk.close()
