"""A replica's folder as a whole: its lock, its snapshots, its log, opened in this order.

The lock comes first: to open the store and the log removes what a crash left half made,
and that could be what another process is making right now.
"""

from dataclasses import dataclass
from pathlib import Path

from raft.disk import Disk, RealDisk
from raft.messages import SnapshotMeta
from raft.snapshots import SnapshotStore
from raft.wal import LOCK, SEGMENT_BYTES, Recovery, Wal


@dataclass(frozen=True, slots=True)
class Storage:
    """`newest` is the meta of the snapshot that `recovery.boot` begins after."""

    snapshots: SnapshotStore
    newest: SnapshotMeta
    wal: Wal
    recovery: Recovery

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        owner: str = "",
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> "Storage":
        """Open or begin a folder.

        Args:
            owner: The replica's id. Segments and snapshots that another one wrote are
                refused; "" = not checked.

        Raises:
            FolderInUseError: Another process has it open.
            WalDamagedError, SnapshotDamagedError: What was durable is broken or missing.
            DiskFullError: There is not even room to begin.
            OSError: The folder can't be read or written.
        """
        disk = disk or RealDisk()
        disk.make_folder(folder)
        lock = disk.lock(folder / LOCK)
        try:
            snapshots = SnapshotStore(folder, disk=disk, owner=owner)
            newest = snapshots.newest()
            if newest.index:
                snapshots.check(newest)
        except BaseException:
            lock.close()
            raise
        wal, recovery = Wal.open(
            folder,
            snapshot=newest,
            disk=disk,
            segment_bytes=segment_bytes,
            lock=lock,
            owner=owner,
        )
        return cls(snapshots, newest, wal, recovery)

    def close(self) -> None:
        self.snapshots.close()
        self.wal.close()
