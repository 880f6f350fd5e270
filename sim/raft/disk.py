"""Files in memory that forget like real ones: what was not synced may be gone, or torn.

`MemoryDisk` stands in for `raft.disk.RealDisk`. Each file has two contents: what the
process sees (the page cache) and what a power cut leaves. Writes wait in between until
`sync`; names wait until `sync_folder`. At a power cut of what waited

* a prefix of the file's writes and changes of length survives,
* of the write after it any set of sectors, each of 512 bytes whole or not at all,
* a prefix of the folder's changes survives (a journaling file system keeps their order).

A process that is killed loses nothing of the cache: but what it had not synced still
waits, and a power cut later may take it.

`die_after` ends the power in the midst of an operation of storage: the disk carries out
that many more writes, syncs and changes of names, and raises `PowerCut` at each one after.
"""

import errno
import random
from pathlib import Path
from typing import Final

from raft.disk import FolderInUseError

SECTOR_BYTES: Final = 512


class PowerCut(BaseException):
    """The process ends here, in the midst of what it did."""


class _Inode:
    """One file's content, in the cache and on the platter."""

    __slots__ = ("cached", "pending", "stable")

    def __init__(self) -> None:
        self.cached = bytearray()
        self.stable = bytearray()
        # (offset, bytes) of a write, (length, None) of a change of length.
        self.pending: list[tuple[int, bytes | None]] = []

    def change(self, offset: int, data: bytes | None) -> None:
        _carry_out(self.cached, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.pending:
            _carry_out(self.stable, offset, data)
        self.pending.clear()

    @property
    def has_writes(self) -> bool:
        return any(data is not None for _, data in self.pending)

    def tear(self, rng: random.Random) -> bool:
        """Lose what a power cut loses; say whether a write was torn."""
        # The newest write is the one most likely to be cut short.
        kept = (
            max(0, len(self.pending) - 1)
            if rng.random() < 0.6
            else rng.randint(0, len(self.pending))
        )
        is_torn = False
        for offset, data in self.pending[:kept]:
            _carry_out(self.stable, offset, data)
        if kept < len(self.pending):
            offset, data = self.pending[kept]
            if data is not None:
                is_torn = self._tear_write(offset, data, rng)
        self.pending.clear()
        self.cached = bytearray(self.stable)
        return is_torn

    def _tear_write(self, offset: int, data: bytes, rng: random.Random) -> bool:
        share = rng.choice((0.0, 0.5, 0.5, 0.8))  # of the sectors that reached the platter
        position, kept, lost = 0, 0, 0
        while position < len(data):
            end = position + SECTOR_BYTES - (offset + position) % SECTOR_BYTES
            if rng.random() < share:
                _carry_out(self.stable, offset + position, data[position:end])
                kept += 1
            else:
                lost += 1
            position = end
        return kept > 0 and lost > 0


def _carry_out(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class MemoryFile:
    """A file open for writing."""

    def __init__(self, disk: "MemoryDisk", inode: _Inode, name: str) -> None:
        self._disk = disk
        self._inode = inode
        self._name = name

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._disk.work()
        if offset + len(data) > len(self._inode.cached):
            self._disk.take_space()
        self._inode.change(offset, bytes(data))

    def allocate(self, size: int) -> None:
        self._disk.work()
        if size > len(self._inode.cached):
            self._disk.take_space()
            self._inode.change(size, None)

    def truncate(self, size: int) -> None:
        self._disk.work()
        self._inode.change(size, None)

    def sync(self) -> None:
        self._disk.work()
        if self._disk.is_sync_failing:
            raise OSError(errno.EIO, "input/output error", self._name)
        self._inode.sync()

    def close(self) -> None:
        self._disk.unlock(self._name)


class MemoryDisk:
    """One server's disk with one folder. Paths differ in their last part only."""

    def __init__(self, rng: random.Random) -> None:
        self.is_full = False  # no file can grow
        self.is_sync_failing = False
        self.die_after: int | None = None
        self.is_flipping = False  # the next reading of much of a snapshot has a bit wrong
        self.flips = 0
        self._rng = rng
        self._names: dict[str, _Inode] = {}
        self._stable_names: dict[str, _Inode] = {}
        self._pending_names: list[tuple[str, str, _Inode | None]] = []  # (old, new, created)
        self._locked: set[str] = set()  # only looked up

    # --- what the simulation does -----------------------------------------------------

    def work(self) -> None:
        """One step of storage is about to be done."""
        if self.die_after is None:
            return
        if self.die_after <= 0:
            raise PowerCut
        self.die_after -= 1

    def take_space(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device")

    def kill(self) -> None:
        """The process is gone; the cache stays."""
        self.die_after = None
        self._locked.clear()

    def cut_power(self) -> bool:
        """The machine is off: lose what was not synced. Say whether a write was torn."""
        self.kill()
        kept = self._rng.randint(0, len(self._pending_names))
        for change in self._pending_names[:kept]:
            _rename(self._stable_names, *change)
        self._pending_names.clear()
        self._names = dict(self._stable_names)
        torn = [inode.tear(self._rng) for inode in self._names.values()]
        return any(torn)

    def unsynced(self, prefix: str) -> list[str]:
        """Return the files named `prefix`... of which a power cut could lose bytes or the name."""
        waiting = {name for change in self._pending_names for name in change[:2]}
        return [
            name
            for name, inode in sorted(self._names.items())
            if name.startswith(prefix) and (inode.has_writes or name in waiting)
        ]

    def content(self, name: str) -> bytes:
        """Return a file's bytes as they are, whatever is being simulated."""
        return bytes(self._names[name].cached)

    # --- raft.disk.Disk ---------------------------------------------------------------

    def make_folder(self, path: Path) -> None:
        pass

    def list(self, folder: Path) -> "list[str]":
        return sorted(self._names)

    def size(self, path: Path) -> int:
        return len(self._at(path).cached)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        cached = self._at(path).cached
        data = bytes(cached[offset:] if size < 0 else cached[offset : offset + size])
        if self.is_flipping and len(data) > 300 and path.name.startswith("snapshot-"):
            self.is_flipping = False
            self.flips += 1
            position = self._rng.randrange(len(data))
            flipped = data[position] ^ (1 << self._rng.randrange(8))
            data = data[:position] + bytes([flipped]) + data[position + 1 :]
        return data

    def view(self, path: Path, size: int) -> memoryview:
        return memoryview(bytes(self._at(path).cached[:size]))

    def open(self, path: Path, *, is_new: bool = False) -> MemoryFile:
        if is_new:
            self.work()
            inode = _Inode()
            self._change_name("", path.name, inode)
        else:
            inode = self._at(path)
        return MemoryFile(self, inode, "")

    def rename(self, old: Path, new: Path) -> None:
        self.work()
        self._at(old)
        self._change_name(old.name, new.name, None)

    def remove(self, path: Path) -> None:
        self.work()
        if path.name in self._names:
            self._change_name(path.name, "", None)

    def sync_folder(self, folder: Path) -> None:
        self.work()
        if self.is_sync_failing:
            raise OSError(errno.EIO, "input/output error", str(folder))
        self._stable_names = dict(self._names)
        self._pending_names.clear()

    def lock(self, path: Path) -> MemoryFile:
        if path.name in self._locked:
            raise FolderInUseError(f"{path.parent} is used twice")
        self._locked.add(path.name)
        return MemoryFile(self, _Inode(), path.name)

    def unlock(self, name: str) -> None:
        self._locked.discard(name)

    def _at(self, path: Path) -> _Inode:
        inode = self._names.get(path.name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return inode

    def _change_name(self, old: str, new: str, created: _Inode | None) -> None:
        _rename(self._names, old, new, created)
        self._pending_names.append((old, new, created))


def _rename(names: dict[str, _Inode], old: str, new: str, created: _Inode | None) -> None:
    inode = created if created is not None else names.pop(old, None)
    if new and inode is not None:
        names[new] = inode
