"""The few operations on files that storage needs, as a seam.

`RealDisk` is the operating system's. Tests and the power-cut recorder put their own in its
place: they see every write, sync, rename and removal, in order, and can make any of them
fail. Nothing in `raft` that stores something goes around it.
"""

import contextlib
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Protocol


class FolderInUseError(RuntimeError):
    """Another process works in this folder."""


class File(Protocol):
    """A file open for writing. Any method may raise OSError."""

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None: ...
    def allocate(self, size: int) -> None:
        """Make the file `size` bytes long, zeros where nothing was written, space reserved."""

    def truncate(self, size: int) -> None: ...
    def sync(self) -> None:
        """Return once data and length are durable (fdatasync)."""

    def close(self) -> None: ...


class Disk(Protocol):
    """Files by path. Any method may raise OSError."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it, unless they are there; durable on return."""

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""

    def size(self, path: Path) -> int: ...
    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes: ...
    def view(self, path: Path, size: int) -> memoryview:
        """Return a file's first bytes where they lie: in memory only while they are used."""

    def open(self, path: Path, *, is_new: bool = False) -> File: ...
    def rename(self, old: Path, new: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def sync_folder(self, folder: Path) -> None:
        """Return once the folder's names are durable."""

    def lock(self, path: Path) -> File:
        """Take the folder's lock; closing the file gives it back.

        Raises:
            FolderInUseError: Another process holds it.
        """


class RealFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def allocate(self, size: int) -> None:
        os.posix_fallocate(self._descriptor, 0, size)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    def make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        if not path.parent.exists():
            self.make_folder(path.parent)
        self._make_one_folder(path)
        # Its own name stands in the folder above: unsynced, a power cut takes it away with
        # everything that was synced below.
        self.sync_folder(path.parent)

    def _make_one_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True, mode=0o700)

    def list(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def view(self, path: Path, size: int) -> memoryview:
        if not size:
            return memoryview(b"")
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))

    def open(self, path: Path, *, is_new: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if is_new else 0)
        return RealFile(os.open(path, flags, 0o600))

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> RealFile:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise FolderInUseError(
                f"{path.parent} is used by process {holder or 'unknown'}: "
                "stop it, or give this one another data folder"
            ) from None
        with contextlib.suppress(OSError):  # only a hint; a full disk must not stop a start
            os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
        return RealFile(descriptor)


def is_full(error: OSError) -> bool:
    """Say whether the operation failed for want of space or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
