"""What PySyncObj is handed instead of its own clock, sockets, journal and dump file.

Only this module touches the library's inside. Its attributes are private
(`_SyncObj__...`), so the version is pinned in pyproject.toml to the one that was read.
"""

import random
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from pysyncobj import _RAFT_STATE, SERIALIZER_STATE, SyncObj, SyncObjConf
from pysyncobj import syncobj as library
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raft.journal import Journal
from raft.log import Log
from raft.messages import Configuration, Entry, Kind, MessageError, SnapshotMeta
from raft.settings import Settings

_NO_OP: Final = bytes((library._COMMAND_TYPE.NO_OP,))
_KINDS: Final = {
    library._COMMAND_TYPE.REGULAR: Kind.COMMAND,
    library._COMMAND_TYPE.NO_OP: Kind.NOOP,
    library._COMMAND_TYPE.MEMBERSHIP: Kind.CONFIGURATION,
}
_TYPES: Final = {kind: bytes((number,)) for number, kind in _KINDS.items()}
_NEVER_S: Final = float(1 << 52)


class _Moment:
    """Clock and generator of the engine that is being called, in the library's terms."""

    def __init__(self) -> None:
        self.now_us = 0
        self.rng = random.Random(0)

    def seconds(self) -> float:
        return self.now_us / 1e6

    def random(self) -> float:
        return self.rng.random()


MOMENT: Final = _Moment()
library.monotonicTime = MOMENT.seconds
library.random = MOMENT


class KnownNode(Node):  # type: ignore[misc]
    """A replica by its id; its hash, and so the order in the library's sets, repeats."""

    def __hash__(self) -> int:
        return zlib.crc32(self.id.encode())


class LibraryTransport(Transport):  # type: ignore[misc]
    """Hands each message to the engine. Everybody counts as connected: links may lose."""

    def __init__(self, on_send: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(None, None, [])
        self._on_send = on_send

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._on_send(node.id, message)
        return True


class LibrarySnapshots:
    """In place of the library's dump file: it never serializes, and we send what it can't."""

    def __init__(self, on_wanted: Callable[[str], None]) -> None:
        self._on_wanted = on_wanted

    def checkSerializing(self) -> tuple[int, None]:
        return SERIALIZER_STATE.SERIALIZING, None  # so the library never begins a dump

    def getTransmissionData(self, node: Node) -> None:
        self._on_wanted(node.id)

    def cancelTransmisstion(self, node: Node) -> None:
        return


class OnJournal(Protocol):
    """Who hears what the library does to its log."""

    def on_appended(self, entry: Entry) -> None: ...

    def on_truncated(self, index: int) -> None: ...


class LibraryJournal:
    """The library's log, kept twice: as its tuples, and as entries for disk and host.

    Position 0 is the place before the first entry held, as the library wants it.
    """

    def __init__(
        self, heard_by: OnJournal, log: Log, disk: Journal, term: int, voted_for: str
    ) -> None:
        self._heard_by = heard_by
        self._log = log
        self._disk = disk
        self._term = term
        self._voted_for = voted_for
        self._places: list[tuple[bytes, int, int]] = [(_NO_OP, log.offset, log.offset_term)]
        self._places += [
            (_TYPES[entry.kind] + entry.data, entry.index, entry.term)
            for entry in log.slice(log.first_index, log.last_index)
        ]

    def forget_to(self, index: int) -> None:
        """Drop the entries up to `index`, which a durable snapshot holds."""
        self._log.compact(index)
        first = next(n for n, place in enumerate(self._places) if place[1] == index)
        self._places[: first + 1] = [(_NO_OP, index, self._log.offset_term)]

    def begin_after(self, meta: SnapshotMeta) -> None:
        """Replace everything by a snapshot that is durable under its name."""
        self._log.reset(meta.index, meta.term)
        self._disk.record_reset(meta)
        self._places = [(_NO_OP, meta.index, meta.term)]

    # --- the library's verbs ------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        kind = _KINDS.get(command[0])
        if kind is None:
            raise ValueError(f"a command of kind {command[0]} would be unpickled")
        entry = Entry(idx, term, kind, command[1:])
        self._log.append([entry])
        self._disk.record_entries([entry])
        self._places.append((command, idx, term))
        self._heard_by.on_appended(entry)

    def deleteEntriesFrom(self, position: int) -> None:
        index = self._places[position][1]
        del self._places[position:]
        self._log.truncate_from(index)
        self._disk.record_truncate(index)
        self._heard_by.on_truncated(index)

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        self._term, self._voted_for = term, voted_for or ""
        self._disk.record_hard_state(term, self._voted_for)

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._voted_for or None

    def setRaftCommitIndex(self, index: int) -> None:
        return  # found again by asking the leader

    def getRaftCommitIndex(self) -> int:
        return self._log.offset

    def onOneSecondTimer(self) -> None:
        return

    def __getitem__(self, place: Any) -> Any:
        return self._places[place]

    def __len__(self) -> int:
        return len(self._places)


class _NoPoller:
    def poll(self, timeout_s: float) -> None:
        return


class RawSyncObj(SyncObj):  # type: ignore[misc]
    """The library's object over raw bytes, with names for what is private in it."""

    def __init__(
        self,
        replica_id: str,
        settings: Settings,
        *,
        transport: LibraryTransport,
        journal: LibraryJournal,
        snapshots: LibrarySnapshots,
        base_index: int,
    ) -> None:
        period_s = min(settings.heartbeat_us, settings.election_min_us / 4) / 1e6
        conf = SyncObjConf(
            autoTick=False,
            raftMinTimeout=settings.election_min_us / 1e6,
            raftMaxTimeout=settings.election_max_us / 1e6,
            appendEntriesPeriod=period_s,
            leaderFallbackTimeout=2 * settings.election_max_us / 1e6,
            connectionTimeout=_NEVER_S,
            # Beyond this it would cut a command into pickles.
            appendEntriesBatchSizeBytes=1 << 40,
            commandsQueueSize=0,
            pollerType="select",
        )
        self._append_bytes = settings.append_bytes
        super().__init__(KnownNode(replica_id), [], conf, transport=transport)
        self._poller = _NoPoller()
        self.transport = transport
        self.journal = journal
        self._SyncObj__raftLog = journal
        self._SyncObj__raftCurrentTerm = journal.getCurrentTerm()
        self._SyncObj__votedForNodeId = journal.getVotedForNodeId()
        self._SyncObj__serializer = snapshots
        self.start_at(base_index)

    # --- overridden: raw bytes instead of pickles, appends of bounded size ----------------

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        return  # the host applies what `Output.committed` says

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        return None

    def _SyncObj__getEntries(
        self, first: int | None, count: int | None = None, max_bytes: int | None = None
    ) -> list[tuple[bytes, int, int]]:
        offset = self.journal[0][1]
        if first is None or first < offset:
            return []
        start = first - offset
        if max_bytes is None:
            places: list[tuple[bytes, int, int]] = (
                self.journal[start:] if count is None else self.journal[start : start + count]
            )
            return places
        end, size = start, 0
        while end < len(self.journal) and size < self._append_bytes:
            size += len(self.journal[end][0])
            end += 1
        taken: list[tuple[bytes, int, int]] = self.journal[start:end]
        return taken

    # --- who leads ------------------------------------------------------------------------

    @property
    def state(self) -> int:
        return int(self._SyncObj__raftState)

    @property
    def leader_id(self) -> str:
        leader = self._SyncObj__raftLeader
        return "" if leader is None else str(leader.id)

    @property
    def first_own_index(self) -> int:
        return self._SyncObj__noopIDx or 0

    @property
    def deadline_us(self) -> int:
        if self.state == _RAFT_STATE.LEADER:
            due_s = self._SyncObj__newAppendEntriesTime
        else:
            due_s = self._SyncObj__raftElectionDeadline
        return int(due_s * 1e6) + 2  # it acts when the clock is beyond

    def never_campaign(self) -> None:
        self._SyncObj__raftElectionDeadline = _NEVER_S

    def campaign_at(self, now_us: int) -> None:
        self._SyncObj__raftElectionDeadline = (now_us - 1) / 1e6

    def follow(self, leader_id: str, term: int) -> None:
        """Note a sign of life of this term's leader, as an append would be."""
        if term > self.raftCurrentTerm:
            self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(_RAFT_STATE.FOLLOWER)
        self._SyncObj__raftLeader = KnownNode(leader_id)
        wait_s = self._SyncObj__generateRaftTimeout()
        self._SyncObj__raftElectionDeadline = MOMENT.seconds() + wait_s

    # --- the log --------------------------------------------------------------------------

    def send_now(self) -> None:
        """Have the next `doTick` send; the library's own batches wait for its period."""
        self._SyncObj__newAppendEntriesTime = 0.0

    def commit_to(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = max(self.raftCommitIndex, index)

    def start_at(self, index: int) -> None:
        """Say that all up to `index` is committed and applied: a snapshot holds it."""
        self._SyncObj__raftCommitIndex = self._SyncObj__raftLastApplied = index

    # --- the others -----------------------------------------------------------------------

    def match_index(self, replica_id: str) -> int:
        return int(self._SyncObj__raftMatchIndex.get(KnownNode(replica_id), 0))

    def heard_us(self, replica_id: str) -> int:
        return int(self._SyncObj__lastResponseTime.get(KnownNode(replica_id), -1) * 1e6)

    def hear_of(self, replica_id: str, now_us: int) -> None:
        self._SyncObj__lastResponseTime[KnownNode(replica_id)] = now_us / 1e6

    def adopt(self, configuration: Configuration, own_id: str) -> None:
        """Take part with these voters; learners are what the library calls read-only nodes."""
        readonly = self._SyncObj__readonlyNodes
        learners = [KnownNode(name) for name in configuration.learners if name != own_id]
        voters = [KnownNode(name) for name in configuration.voters if name != own_id]
        for node in sorted(readonly, key=str):
            if node not in learners:
                self._SyncObj__onReadonlyNodeDisconnected(node)
        self._SyncObj__updateClusterConfiguration(voters)
        for node in learners:
            if node not in readonly:
                self._SyncObj__onReadonlyNodeConnected(node)
        for node in voters + learners:
            self._SyncObj__lastResponseTime.setdefault(node, MOMENT.seconds())
        self.connect_all()

    def connect_all(self) -> None:
        connected = self._SyncObj__connectedNodes
        connected.clear()
        for node in [*sorted(self.otherNodes, key=str), *sorted(self.readonlyNodes, key=str)]:
            connected.add(node)

    def disconnect(self, replica_id: str) -> None:
        """Send nothing: a snapshot is on its way."""
        self._SyncObj__connectedNodes.discard(KnownNode(replica_id))

    def go_on_with(self, replica_id: str, next_index: int) -> None:
        node = KnownNode(replica_id)
        if node in self.otherNodes or node in self.readonlyNodes:
            self._SyncObj__raftNextIndex[node] = next_index
            self._SyncObj__connectedNodes.add(node)


def configuration_of(data: bytes) -> Configuration:
    """Return the configuration that came with a message; none where it can't be read."""
    try:
        return Configuration.decode(data)
    except MessageError:
        return Configuration()
