"""A server's data folder: write-ahead log and snapshots, worked off by threads.

    server-id            this server's id, drawn once
    datacenter-id        whose state it holds, once a snapshot says so
    raft/peers.json      an operator sets the quorum (core.agent.peers_file)
    raft/log-*.wal       the write-ahead log (raft.wal)
    raft/snapshot-*.snap snapshots (raft.snapshots)
    members-POOL         who was in the pool, for a rejoin

Group commit: whatever batches wait when the log's worker is free go to disk together,
with one fdatasync. Snapshots have a worker of their own, so writing 500 MB does not hold
up a vote. That worker rests thrice as long as it works: it shares the interpreter's lock and the
processors with the loop, and a loop that lets go of the lock at each packet would wait for
it at each.
"""

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from core.agent.peers_file import PeersFileError, apply_peers
from core.model.host import Effect, Event
from core.server import effects as fx
from core.server.config import ServerBoot
from raft.disk import FolderInUseError, RealDisk
from raft.records import WalDamagedError
from raft.snapshots import SnapshotDamagedError, SnapshotGoneError
from raft.storage import Storage
from raft.wal import DiskFullError, WalFailedError

Deliver = Callable[[Event], None]
_MEMBERS: Final = list[tuple[str, str]]
_RESTS_A_WORK: Final = 3
_REST_S_MAX: Final = 0.02


class DataFolderError(Exception):
    """The data folder can't be used; the text names folder, reason and remedy."""


class Disk:
    """Carries out the disk effects of one server machine."""

    def __init__(self, folder: str, *, deliver: Deliver, log: Any) -> None:
        """Open the folder.

        Raises:
            DataFolderError: Another process works in it, or what was durable is broken.
        """
        self._folder = Path(folder)
        self._deliver = deliver
        self._log = log
        try:
            RealDisk().make_folder(self._folder)
            self.server_id = self._draw_id()
            storage = Storage.open(self._folder / "raft", owner=self.server_id)
        except FolderInUseError:
            raise DataFolderError(
                f"{self._folder} is in use by another agent: stop it, or set another data_dir"
            ) from None
        except (WalDamagedError, WalFailedError, SnapshotDamagedError) as error:
            raise DataFolderError(str(error)) from None
        except DiskFullError as error:
            raise DataFolderError(f"{error}: free some space, then start again") from None
        except OSError as error:
            raise DataFolderError(
                f"{error.filename or self._folder} can't be used: {error.strerror or error}. "
                "The agent needs a data_dir that it may read and write"
            ) from None
        self._snapshots, self._newest = storage.snapshots, storage.newest
        self._wal, self._recovery = storage.wal, storage.recovery
        try:
            self._boot = apply_peers(
                self._folder / "raft", self.server_id, self._wal, self._recovery.boot, log
            )
            self._check_cluster()
        except (PeersFileError, DataFolderError, DiskFullError, WalFailedError) as error:
            self.close()
            raise DataFolderError(str(error)) from None
        for detail in filter(None, (self._recovery.torn, self._recovery.stray)):
            log.warning("write-ahead log recovered", detail=detail)
        self._batches: deque[fx.PersistLog] = deque()
        self._has_batches = trio.Event()
        self._send_slow, self._slow = trio.open_memory_channel[Effect](10_000)

    def _draw_id(self) -> str:
        path = self._folder / "server-id"
        if path.exists():
            text = path.read_bytes().decode("ascii", "replace").strip()
            try:
                return str(uuid.UUID(text))
            except ValueError:
                raise DataFolderError(
                    f"{path} holds no server id: put the id of this server back (any other "
                    "server shows it: serai operator raft list-peers), or begin with an empty "
                    "data_dir"
                ) from None
        drawn = str(uuid.uuid4())
        _write_durably(path, drawn.encode())
        return drawn

    def _check_cluster(self) -> None:
        """Refuse a snapshot that somebody brought here from another datacenter."""
        path = self._folder / "datacenter-id"
        kept = path.read_bytes().decode("ascii", "replace").strip() if path.exists() else ""
        found = self._newest.cluster_id
        self._keep_cluster(found)
        if found and kept and found != kept:
            raise DataFolderError(
                f"{self._folder / 'raft'}: its newest snapshot is of datacenter {found}, this "
                f"server belongs to {kept}: put the folder of this server back, or begin with an "
                "empty data_dir"
            )

    def _keep_cluster(self, cluster_id: str) -> None:
        """Note whose this folder is, once that is known."""
        path = self._folder / "datacenter-id"
        if cluster_id and not path.exists():
            _write_durably(path, cluster_id.encode())

    def boot(self) -> ServerBoot:
        """Return what the machine is built from.

        Raises:
            DataFolderError: The newest snapshot's body is broken.
        """
        snapshot = None
        try:
            if self._newest.index:
                snapshot = self._snapshots.view(self._newest)
        except (SnapshotDamagedError, SnapshotGoneError) as error:
            raise DataFolderError(str(error)) from None
        return ServerBoot(
            raft=self._boot,
            snapshot=snapshot,
            lan_members=tuple(self._members("lan")),
            wan_members=tuple(self._members("wan")),
        )

    def _members(self, pool: str) -> list[tuple[str, str]]:
        try:
            data = (self._folder / f"members-{pool}").read_bytes()
            return msgspec.msgpack.decode(data, type=_MEMBERS)
        except (OSError, msgspec.MsgspecError):
            return []  # only a hint: gossip finds the rest

    def save_members(self, pool: str, members: list[tuple[str, str]]) -> None:
        path = self._folder / f"members-{pool}"
        try:
            spare = path.with_suffix(".new")
            spare.write_bytes(msgspec.msgpack.encode(members))
            spare.rename(path)
        except OSError as error:
            self._log.warning("member list not saved", pool=pool, reason=str(error))

    # --- effects ------------------------------------------------------------------------------

    def handles(self, effect: Effect) -> bool:
        return isinstance(
            effect, fx.PersistLog | fx.SaveSnapshot | fx.ReadSnapshot | fx.StageSnapshot
        )

    def submit(self, effect: Any) -> None:
        if isinstance(effect, fx.PersistLog):
            self._batches.append(effect)
            self._has_batches.set()
        else:
            self._send_slow.send_nowait(effect)

    async def run(self) -> None:
        """Work off effects until cancelled; what is being written is finished first."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_log)
            nursery.start_soon(self._run_slow)

    async def _run_log(self) -> None:
        while True:
            await self._has_batches.wait()
            self._has_batches = trio.Event()
            while self._batches:
                taken = list(self._batches)
                self._batches.clear()
                await self._append(taken)

    async def _append(self, taken: list[fx.PersistLog]) -> None:
        batches = [effect.batch for effect in taken]
        failure: Exception | None = None
        try:
            await trio.to_thread.run_sync(self._wal.append, batches)
        except Exception as error:  # whatever it was, these batches are not known durable
            failure = error
        for effect in taken:
            if failure is None:
                self._deliver(fx.LogPersisted(effect.ticket))
            else:
                is_full = isinstance(failure, DiskFullError)
                self._deliver(fx.LogPersistFailed(effect.ticket, str(failure), is_full))

    async def _run_slow(self) -> None:
        async for effect in self._slow:
            event = await trio.to_thread.run_sync(self._carry_out, effect)
            if event is not None:
                self._deliver(event)

    def _carry_out(self, effect: Effect) -> Event | None:
        match effect:
            case fx.SaveSnapshot(ticket, meta, image):
                try:
                    saved = self._snapshots.save(meta, _with_rests(image.chunks()))
                    self._keep_cluster(meta.cluster_id)
                except Exception as error:  # the image's bytes are drawn here, in the worker
                    return fx.SnapshotFailed(ticket, str(error))
                return fx.SnapshotSaved(ticket, saved)
            case fx.ReadSnapshot(ticket, snapshot_id, offset, size):
                try:
                    data, is_last = self._snapshots.read(snapshot_id, offset, size)
                except (SnapshotGoneError, SnapshotDamagedError, OSError) as error:
                    return fx.SnapshotRead(ticket, snapshot_id, offset, b"", False, str(error))
                return fx.SnapshotRead(ticket, snapshot_id, offset, data, is_last)
            case fx.StageSnapshot(ticket, meta, offset, data, is_last):
                try:
                    self._snapshots.stage(meta, offset, data, is_last=is_last)
                    image = self._snapshots.view(meta) if is_last else None
                except (SnapshotDamagedError, SnapshotGoneError, OSError) as error:
                    return fx.SnapshotStaged(ticket, offset, None, str(error))
                return fx.SnapshotStaged(ticket, offset, image)
        raise AssertionError(f"no disk effect: {type(effect).__name__}")

    def close(self) -> None:
        self._wal.close()
        self._snapshots.close()


def _with_rests(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; rest after each, in proportion to the time that it took.

    Runs in a worker thread of trio.

    Raises:
        trio.Cancelled: The agent ends: nobody waits for the rest of a snapshot.
    """
    began = time.perf_counter()
    for chunk in chunks:
        yield chunk  # it is written meanwhile
        worked_s = time.perf_counter() - began
        trio.from_thread.check_cancelled()
        time.sleep(min(_REST_S_MAX, _RESTS_A_WORK * worked_s))
        began = time.perf_counter()


def _write_durably(path: Path, data: bytes) -> None:
    spare = path.with_suffix(".new")
    with open(spare, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    spare.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
