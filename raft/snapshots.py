"""Snapshots on disk: whole or not there.

    snapshot-<index>-<term>.snap   body, then a footer that says what it is
    *.new                          one being written; removed at the next start

A file gets its name once its bytes are durable, and the folder is synced after. The
footer stands last, so that a body of unknown length can be streamed:

    meta      msgpack of `SnapshotMeta`, with size and digest of the body, and the owner
    length 4  of the meta;  checksum 4  crc32 of the meta;  format 2;  magic 6  b"SRsnap"

The newest two are kept: a transfer of the older one may be under way.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from raft.disk import Disk, File, RealDisk
from raft.messages import SnapshotMeta

FORMAT: Final = 1
MAGIC: Final = b"SRsnap"
KEPT: Final = 2
_SYNC_BYTES: Final = 8 << 20
_SAVING: Final = "saving.new"
_ARRIVING: Final = "arriving.new"
_PIECE_BYTES: Final = 1 << 20  # of a body, in memory at once
_FOOTER: Final = struct.Struct("<IIH6s")
_REJOIN: Final = (
    "Remove the file to fall back to an older one; if there is none, remove this replica from "
    "the cluster, empty its data folder and let it join again"
)


class SnapshotDamagedError(RuntimeError):
    """A snapshot's bytes are not what was written. The text names file and way out."""


class SnapshotGoneError(RuntimeError):
    """The snapshot asked for is not kept any more; send the newest."""


class _Footer(SnapshotMeta, array_like=True, frozen=True):
    owner: str = ""  # whose data folder it was written in; "" = nobody said


class SnapshotStore:
    """The snapshots of one replica. One worker at a time writes; reads may be concurrent."""

    def __init__(self, folder: Path, *, disk: Disk | None = None, owner: str = "") -> None:
        """Open or begin the store; what was being written at a crash is removed.

        Whoever opens it holds the folder's lock (raft.storage). A snapshot may have got its
        name just before the process was killed: the name is synced before it is relied on.

        Args:
            owner: Whose data folder this is: a snapshot of another's is refused.
        """
        self._folder = folder
        self._disk = disk or RealDisk()
        self._owner = owner
        self._disk.make_folder(folder)
        self._staging: tuple[SnapshotMeta, File] | None = None
        self._staged_bytes = 0
        self._staged_hash = hashlib.sha256()
        for name in self._disk.list(folder):
            if name in (_SAVING, _ARRIVING):
                self._disk.remove(folder / name)
        self._disk.sync_folder(folder)

    def newest(self) -> SnapshotMeta:
        """Return the newest snapshot's meta; index 0 when there is none.

        Raises:
            SnapshotDamagedError: Its footer is broken.
        """
        names = self._names()
        return self._meta_of(self._folder / names[-1]) if names else SnapshotMeta()

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> SnapshotMeta:
        """Write a snapshot and return its meta with size and digest, once it is durable.

        Raises:
            OSError: It could not be written; nothing of it remains.
        """
        spare = self._folder / _SAVING
        digest = hashlib.sha256()
        size = synced = 0
        file = self._disk.open(spare, is_new=True)
        try:
            for chunk in chunks:
                file.write_at(size, chunk)
                digest.update(chunk)
                size += len(chunk)
                if size - synced >= _SYNC_BYTES:  # the log's own syncs wait behind what is dirty
                    file.sync()
                    synced = size
            meta = msgspec.structs.replace(meta, size=size, digest=digest.hexdigest())
            self._finish(file, spare, meta)
        except BaseException:
            file.close()
            self._disk.remove(spare)
            raise
        return meta

    def stage(self, meta: SnapshotMeta, offset: int, data: bytes, *, is_last: bool) -> None:
        """Write a chunk that arrived; offset 0 begins anew. The last one installs it.

        Raises:
            SnapshotDamagedError: Size or digest of the whole are not the meta's.
            OSError: It could not be written. In both cases nothing of it remains.
        """
        spare = self._folder / _ARRIVING
        try:
            if offset == 0:
                self._abandon()
                self._staging = (meta, self._disk.open(spare, is_new=True))
                self._staged_bytes, self._staged_hash = 0, hashlib.sha256()
            if self._staging is None or self._staging[0] != meta or offset != self._staged_bytes:
                raise SnapshotDamagedError(
                    f"snapshot {meta.snapshot_id}: chunk at {offset} does not continue what "
                    "was staged; it will be sent again"
                )
            file = self._staging[1]
            file.write_at(offset, data)
            self._staged_hash.update(data)
            self._staged_bytes += len(data)
            if not is_last:
                return
            found = self._staged_hash.hexdigest()
            if self._staged_bytes != meta.size or found != meta.digest:
                raise SnapshotDamagedError(
                    f"snapshot {meta.snapshot_id} arrived with {self._staged_bytes} bytes and "
                    f"digest {found}, announced were {meta.size} and {meta.digest}; it will be "
                    "sent again"
                )
            self._finish(file, spare, meta)
            self._staging = None
        except (OSError, SnapshotDamagedError):
            self._abandon()
            raise

    def read(self, snapshot_id: str, offset: int, size: int) -> tuple[bytes, bool]:
        """Return up to `size` bytes of a body, and whether they reach its end.

        Raises:
            SnapshotGoneError: It is not kept any more.
            SnapshotDamagedError: Its footer is broken.
        """
        path = self._folder / f"snapshot-{snapshot_id}.snap"
        try:
            meta = self._meta_of(path)
            end = min(offset + size, meta.size)
            return self._disk.read(path, offset, max(0, end - offset)), end >= meta.size
        except FileNotFoundError as error:
            raise SnapshotGoneError(f"snapshot {snapshot_id} is not kept any more") from error

    def pieces(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Yield a body, some megabyte at a time; what was yielded counts once all was.

        Raises:
            SnapshotGoneError: It is not there.
            SnapshotDamagedError: Its bytes are not what was written: at the end at latest.
        """
        path = self._folder / f"snapshot-{meta.snapshot_id}.snap"
        digest = hashlib.sha256()
        try:
            found = self._meta_of(path)
            for offset in range(0, found.size, _PIECE_BYTES):
                size = min(_PIECE_BYTES, found.size - offset)
                piece = self._disk.read(path, offset, size)
                digest.update(piece)
                yield piece
        except FileNotFoundError as error:
            raise SnapshotGoneError(f"{path} is missing") from error
        if digest.hexdigest() != found.digest:
            raise SnapshotDamagedError(f"{path}: the body differs from its digest. {_REJOIN}.")

    def check(self, meta: SnapshotMeta) -> None:
        """Read a body to its end.

        Raises:
            SnapshotGoneError, SnapshotDamagedError: As `pieces`.
        """
        for _ in self.pieces(meta):
            pass

    def view(self, meta: SnapshotMeta) -> memoryview:
        """Return a body that was checked or staged by this process, without copying it.

        Raises:
            SnapshotGoneError: It is not there.
            SnapshotDamagedError: Its footer is broken.
        """
        path = self._folder / f"snapshot-{meta.snapshot_id}.snap"
        try:
            return self._disk.view(path, self._meta_of(path).size)
        except FileNotFoundError as error:
            raise SnapshotGoneError(f"{path} is missing") from error

    def load(self, meta: SnapshotMeta) -> bytes:
        """Return a whole body; it has to fit into memory.

        Raises:
            SnapshotGoneError, SnapshotDamagedError: As `pieces`.
        """
        return b"".join(self.pieces(meta))

    def close(self) -> None:
        self._abandon()

    # --- inside -------------------------------------------------------------------------

    def _finish(self, file: File, spare: Path, meta: SnapshotMeta) -> None:
        encoded = msgspec.msgpack.encode(_Footer(**msgspec.structs.asdict(meta), owner=self._owner))
        footer = _FOOTER.pack(len(encoded), zlib.crc32(encoded), FORMAT, MAGIC)
        file.write_at(meta.size, encoded + footer)
        file.sync()
        file.close()
        self._disk.rename(spare, self._folder / f"snapshot-{meta.snapshot_id}.snap")
        self._disk.sync_folder(self._folder)
        for name in self._names()[:-KEPT]:
            self._disk.remove(self._folder / name)

    def _names(self) -> list[str]:
        """Fixed-width ids: the order of the names is that of (index, term)."""
        return [
            name
            for name in self._disk.list(self._folder)
            if name.startswith("snapshot-") and name.endswith(".snap")
        ]

    def _meta_of(self, path: Path) -> SnapshotMeta:
        size = self._disk.size(path)
        tail = self._disk.read(path, max(0, size - _FOOTER.size))
        if len(tail) == _FOOTER.size:
            length, checksum, version, magic = _FOOTER.unpack(tail)
            if magic == MAGIC and version != FORMAT:
                raise SnapshotDamagedError(
                    f"{path} has format {version}, this program reads {FORMAT}: run the "
                    "version that wrote it"
                )
            start = size - _FOOTER.size - length
            encoded = self._disk.read(path, start, length) if start >= 0 else b""
            if magic == MAGIC and start >= 0 and zlib.crc32(encoded) == checksum:
                return self._checked(path, encoded, body_size=start)
        raise SnapshotDamagedError(f"{path}: its footer is broken or of another file. {_REJOIN}.")

    def _checked(self, path: Path, encoded: bytes, *, body_size: int) -> SnapshotMeta:
        try:
            footer = msgspec.msgpack.decode(encoded, type=_Footer)
        except msgspec.MsgspecError as error:
            raise SnapshotDamagedError(f"{path}: its footer: {error}. {_REJOIN}.") from error
        if footer.size != body_size or path.name != f"snapshot-{footer.snapshot_id}.snap":
            raise SnapshotDamagedError(
                f"{path} is named or cut differently from what its footer says. {_REJOIN}."
            )
        if self._owner and footer.owner not in ("", self._owner):
            raise SnapshotDamagedError(
                f"{path} was written by server {footer.owner}, this data folder is of "
                f"{self._owner}; it may be of another cluster. Remove the file; to take over "
                "another cluster's state: serai operator snapshot restore"
            )
        fields = msgspec.structs.asdict(footer)
        del fields["owner"]
        return SnapshotMeta(**fields)

    def _abandon(self) -> None:
        if self._staging is not None:
            self._staging[1].close()
            self._staging = None
            self._disk.remove(self._folder / _ARRIVING)
