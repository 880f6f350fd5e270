"""What a power cut can leave of files that the real storage driver wrote.

`RecordingDisk` is `raft.disk.RealDisk` on a real folder; it tells a `Platter` of every
write, sync, rename and removal. The platter knows, at every moment, what is durable and
what is only on its way there, and draws states that a power cut now could leave:

* of the writes and changes of length since a file's last sync any subset survives, in any
  order of arrival; of a write any set of its sectors, each of 512 bytes whole or not at all;
* of the changes of names since a folder's last sync any subset survives: a rename whole or
  not at all, a file that was made without its name is gone.

That is more than a journaling file system does to its users, and all that POSIX promises.
A killed process loses nothing: what it had not synced is still on its way, and may be lost
by a power cut later.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raft.disk import RealDisk, RealFile

SECTOR_BYTES: Final = 512
State = dict[Path, bytes | None]  # None = a folder


class Killed(BaseException):
    """The process ends here, in the midst of an operation of storage."""


class _Inode:
    def __init__(self, content: bytes = b"") -> None:
        self.stable = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []  # (length, None): a change of length

    def sync(self) -> None:
        for change in self.pending:
            _carry_out(self.stable, *change)
        self.pending.clear()

    def draw(self, share: float, rng: random.Random, seen: Counter[str]) -> bytes:
        """Return a content that a power cut leaves, each pending change kept by `share`."""
        content = bytearray(self.stable)
        lost = 0
        for offset, data in self.pending:
            fate = rng.random()
            if fate < share:
                _carry_out(content, offset, data)
                seen["later change kept, earlier lost"] += lost > 0
            elif data is not None and rng.random() < 0.7:
                seen["write torn"] += _tear(content, offset, data, rng)
                lost += 1
            else:
                seen["write lost"] += 1
                lost += 1
        return bytes(content)


def _carry_out(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset + len(data or b"")
    if end > len(content):
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


def _tear(content: bytearray, offset: int, data: bytes, rng: random.Random) -> bool:
    """Write some of the sectors; say whether some were written and some not."""
    kept = lost = 0
    share = rng.choice((0.3, 0.6, 0.9))
    position = 0
    while position < len(data):
        end = position + SECTOR_BYTES - (offset + position) % SECTOR_BYTES
        if rng.random() < share:
            _carry_out(content, offset + position, data[position:end])
            kept += 1
        else:
            lost += 1
        position = end
    return kept > 0 and lost > 0


class Platter:
    """The names and contents below one root, durable and on their way."""

    def __init__(self, state: State | None = None) -> None:
        self._stable: dict[Path, _Inode | None] = {
            path: None if content is None else _Inode(content)
            for path, content in (state or {}).items()
        }
        self._names = dict(self._stable)  # as the process sees them
        self._pending: list[tuple[Path | None, Path | None, _Inode | None]] = []

    def inode(self, path: Path) -> _Inode:
        found = self._names[path]
        assert found is not None, f"{path} is a folder"
        return found

    def change(self, old: Path | None, new: Path | None, inode: _Inode | None = None) -> None:
        """Rename (both), make (`new` only; `inode` None = a folder) or remove (`old` only)."""
        if old is not None and old not in self._names:
            return
        moved = self._names[old] if old is not None else inode
        self._pending.append((old, new, moved))
        _move(self._names, old, new, moved)

    def sync_folder(self, folder: Path) -> None:
        waiting, self._pending = self._pending, []
        for old, new, inode in waiting:
            if folder == ((new or old) or folder).parent:
                _move(self._stable, old, new, inode)
            else:
                self._pending.append((old, new, inode))

    def draw(self, rng: random.Random, seen: Counter[str]) -> State:
        """Return a state that a power cut now could leave; count what it lost in `seen`."""
        share = rng.choice((0.0, 0.5, 0.8, 1.0))
        names = dict(self._stable)
        for old, new, inode in self._pending:
            if rng.random() < share:
                _move(names, old, new, inode)
            else:
                what = "rename" if old and new else "new name" if new else "removal"
                seen[f"{what} undone"] += 1
        share = rng.choice((0.0, 0.0, 0.5, 1.0))
        return {
            path: None if inode is None else inode.draw(share, rng, seen)
            for path, inode in names.items()
            if all(above in names for above in path.parents if above in self._names)
        }


def _move(
    names: dict[Path, _Inode | None], old: Path | None, new: Path | None, inode: _Inode | None
) -> None:
    if old is not None:
        names.pop(old, None)
    if new is not None:
        names[new] = inode


def write_out(state: State, root: Path) -> None:
    """Make the state below an empty `root`."""
    for path, content in sorted(state.items()):
        target = root / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.write_bytes(content)


class RecordingFile:
    def __init__(self, disk: "RecordingDisk", inner: RealFile, inode: _Inode) -> None:
        self._disk = disk
        self._inner = inner
        self._inode = inode

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._disk.before()
        self._inner.write_at(offset, data)
        self._inode.pending.append((offset, bytes(data)))
        self._disk.after(is_write=True)

    def allocate(self, size: int) -> None:
        self._disk.before(needs_space=size)
        self._inner.allocate(size)
        self._inode.pending.append((size, None))
        self._disk.after()

    def truncate(self, size: int) -> None:
        self._disk.before()
        self._inner.truncate(size)
        self._inode.pending.append((size, None))
        self._disk.after()

    def sync(self) -> None:
        self._disk.before()
        self._inner.sync()
        self._inode.sync()
        self._disk.after()

    def close(self) -> None:
        self._inner.close()


class RecordingDisk(RealDisk):
    """The real driver below `root`, seen by a platter.

    `on_change(is_write)` is called after each operation: a power cut may come now. `die_after` lets
    the process be killed so many operations from now.
    """

    def __init__(self, root: Path, platter: Platter, on_change: Callable[[bool], None]) -> None:
        self.platter = platter
        self.die_after = -1
        self.is_full = False
        self._root = root
        self._on_change = on_change

    def before(self, *, needs_space: int = 0) -> None:
        if self.die_after == 0:
            raise Killed
        self.die_after -= 1
        if needs_space and self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def after(self, *, is_write: bool = False) -> None:
        self._on_change(is_write)

    def _make_one_folder(self, path: Path) -> None:
        self.before()
        super()._make_one_folder(path)
        self.platter.change(None, self._at(path))
        self.after()

    def open(self, path: Path, *, is_new: bool = False) -> RecordingFile:  # type: ignore[override]
        at = self._at(path)
        if not is_new:
            return RecordingFile(self, super().open(path), self.platter.inode(at))
        self.before()
        inode = _Inode()
        file = RecordingFile(self, super().open(path, is_new=True), inode)
        self.platter.change(None, at, inode)
        self.after()
        return file

    def rename(self, old: Path, new: Path) -> None:
        self.before()
        super().rename(old, new)
        self.platter.change(self._at(old), self._at(new))
        self.after()

    def remove(self, path: Path) -> None:
        self.before()
        super().remove(path)
        self.platter.change(self._at(path), None)
        self.after()

    def sync_folder(self, folder: Path) -> None:
        self.before()
        super().sync_folder(folder)
        self.platter.sync_folder(self._at(folder))
        self.after()

    def _at(self, path: Path) -> Path:
        return path.relative_to(self._root)
