"""A small disk of its own for every server, to be filled and freed at will.

Each is a tmpfs, mounted in a mount namespace that only this process and its children are
in: nobody else sees the mounts, and the kernel drops them with the last of these
processes, however that ends. As root this takes nothing; others need user namespaces.
A tmpfs keeps what kill -9 leaves (so does a disk: the page cache survives the process);
what a missing fsync loses is `sim.powercut`'s question.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

SIZE_MIB: Final = 256
_BALLAST: Final = "ballast"
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000


class DiskError(Exception):
    """No disks can be had here; the text says why and what to do."""


def enter_own_namespace() -> None:
    """Move this process into a mount namespace of its own. Call it before any thread starts.

    Raises:
        DiskError: The kernel refuses.
    """
    user, group = os.getuid(), os.getgid()
    try:
        if user == 0:
            _call("unshare", _CLONE_NEWNS)
        else:
            _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError as error:
        raise DiskError(
            f"full disks need a mount namespace, which the kernel refuses here "
            f"({error.strerror}): run as root, or allow user namespaces"
        ) from error


class SmallDisk:
    """One mounted tmpfs. `folder` is its root; whoever is to use it gets a folder below."""

    def __init__(self, folder: Path, size_mib: int = SIZE_MIB) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size_mib}m,mode=0700".encode()
        try:
            _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options)
        except OSError as error:
            raise DiskError(f"no tmpfs can be mounted on {folder}: {error.strerror}") from error

    @property
    def is_full(self) -> bool:
        return os.statvfs(self.folder).f_bavail == 0

    def fill(self) -> None:
        """Leave no block free. Called again, it takes what was freed meanwhile."""
        with (self.folder / _BALLAST).open("ab") as ballast:
            found = os.statvfs(self.folder)
            if found.f_bavail:
                size = os.fstat(ballast.fileno()).st_size
                os.posix_fallocate(ballast.fileno(), size, found.f_bavail * found.f_frsize)

    def free(self) -> None:
        (self.folder / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount. The namespace would do so too, at the end of the process."""
        _call("umount2", os.fsencode(self.folder), 2)  # MNT_DETACH


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
