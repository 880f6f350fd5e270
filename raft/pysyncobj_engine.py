"""PySyncObj 0.3 behind the verbs of `raft.engine`: what the default engine is compared with.

The library decides who leads, what is sent and what is committed. Everything around it is
ours, for its own parts can't be used here (RAFT.md says what was found):

    its sockets      replaced by a transport that fills `Output.messages`
    its journal      replaced by one that fills `Output.persist` (raft.journal)
    its snapshots    replaced by ours (raft.transfer): chunks, digests, resumable
    its pickle       never met: commands are raw bytes through `_applyCommand`, what would
                     unpickle is refused before the library sees it
    its clock, its randomness, its thread
                     injected: `autoTick=False`, `doTick(0)`. The library keeps clock and
                     generator as names of its module, so they are replaced for the whole
                     process, by those of the engine that is being called

Nothing leaves before what was recorded is on disk, for the library has no notion of what
its messages promise.

What it can't do, and what happens instead:

    read without a log entry   a barrier commits an empty entry; there is no lease
    pre-vote, check-quorum     a replica that comes back raises the term and unseats who leads
    one voter's vote once      counted as often as it arrives
    a tail that matches        is cut and written again at every append
    a leader that leaves       refused: hand leadership over first
    a full disk                silences the replica, a leader too, until there is room
"""

import random
from collections import Counter, deque
from typing import Any, Final, cast

import msgspec
from pysyncobj import _RAFT_STATE, FAIL_REASON
from pysyncobj import syncobj as library

from raft import transfer
from raft.journal import Journal
from raft.log import Log
from raft.membership import changed, refused_by
from raft.messages import (
    AppendAnswer,
    Configuration,
    Entry,
    Kind,
    Message,
    SnapshotAnswer,
    SnapshotChunk,
    SnapshotMeta,
    read_as,
)
from raft.output import (
    FOREVER_US,
    Boot,
    Change,
    ChangeKind,
    InvariantError,
    Output,
    Refusal,
    Role,
    StageChunk,
)
from raft.progress import Flow, Progress
from raft.pysyncobj_parts import (
    MOMENT,
    KnownNode,
    LibraryJournal,
    LibrarySnapshots,
    LibraryTransport,
    RawSyncObj,
    configuration_of,
)
from raft.replica import Replica
from raft.settings import Settings

_ROLES: Final = {
    _RAFT_STATE.FOLLOWER: Role.FOLLOWER,
    _RAFT_STATE.CANDIDATE: Role.CANDIDATE,
    _RAFT_STATE.LEADER: Role.LEADER,
}
_HEEDED: Final = ("request_vote", "response_vote", "append_entries", "next_node_idx", "timeout_now")
_FROM_MEMBERS: Final = ("response_vote", "next_node_idx")  # the library looks their sender up


class LibraryMessage(Message, frozen=True):
    """A message of the library. `configuration` is for who does not know any yet."""

    body: dict[str, Any]
    configuration: bytes = b""


_AnyMessage = LibraryMessage | SnapshotChunk | SnapshotAnswer | AppendAnswer
_decoder: Final = msgspec.msgpack.Decoder(_AnyMessage)


class PySyncObjEngine:
    """See the module's page; the verbs are `raft.core.RaftCore`'s."""

    def __init__(
        self, *, replica_id: str, settings: Settings, rng: random.Random, boot: Boot, now_us: int
    ) -> None:
        self.replica_id = replica_id
        self.cluster_id = ""
        self.settings = settings
        self.role = Role.FOLLOWER
        self.term = boot.term
        self.leader_id = ""
        self.snapshot = boot.snapshot
        self.log = Log(boot.snapshot.index, boot.snapshot.term, boot.entries)
        self.commit_index = self.emitted_index = boot.snapshot.index
        self.term_start_index = 0
        self.refusal = Refusal.NONE
        self.transfer_to = ""
        self.dropped: Counter[str] = Counter()
        self.is_failed = False
        self.output = Output()
        # What raft.transfer works on, beside the above.
        self.peers: dict[str, Progress] = {}  # those who are being sent a snapshot
        self.staging: StageChunk | None = None
        self.staged: tuple[SnapshotMeta, int] | None = None
        self.next_chunk_ticket = 1

        self._rng = rng
        self._now_us = now_us
        self._broken = ""
        self.journal = Journal(self.log.last_index)
        self._disk_due_us = FOREVER_US  # try the full disk again
        self._boot_vote = boot.voted_for
        self._sent_index = 0  # the newest entry that the library was made to send
        self._uncommitted_bytes = 0
        self._reads: deque[tuple[int, int]] = deque()  # (ticket, index of its empty entry)
        self._next_read_ticket = 1
        self._configurations: list[tuple[int, Configuration]] = [
            (boot.snapshot.configuration_index, boot.snapshot.configuration)
        ]
        for entry in boot.entries:
            self._note_configuration(entry)
        self._library: RawSyncObj | None = None
        if self.configuration.voters:
            self._begin(now_us)

    def _begin(self, now_us: int) -> None:
        """Build the library's object: it wants to know at once who takes part."""
        self._enter(now_us)
        journal = LibraryJournal(self, self.log, self.journal, self.term, self._boot_vote)
        self._library = RawSyncObj(
            self.replica_id,
            self.settings,
            transport=LibraryTransport(self._on_library_message),
            journal=journal,
            snapshots=LibrarySnapshots(self._begin_snapshot),
            base_index=self.snapshot.index,
        )
        self._library.adopt(self.configuration, self.replica_id)
        self._refresh()

    # --- what is known ----------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.log.last_index

    @property
    def configuration(self) -> Configuration:
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    @property
    def is_disk_full(self) -> bool:
        return self.journal.is_full

    @property
    def deadline_us(self) -> int:
        if self._library is None or self.is_failed or self._broken:
            return FOREVER_US
        if self.role is not Role.LEADER and self.replica_id not in self.configuration.voters:
            return self._disk_due_us
        return min(self._library.deadline_us, self._disk_due_us)

    def has_lease(self, now_us: int) -> bool:
        return False

    def followers(self) -> dict[str, tuple[int, int]]:
        library = self._library
        if library is None or self.role is not Role.LEADER:
            return {}
        return {
            key: (library.match_index(key), library.heard_us(key))
            for key in self.configuration.addresses
            if key != self.replica_id
        }

    def entries(self, first: int, last: int) -> list[Entry]:
        return self.log.held(first, last)

    def reachable_voters(self, now_us: int) -> list[str]:
        floor_us = now_us - self.settings.election_max_us
        return [
            voter
            for voter in self.configuration.voters
            if voter == self.replica_id
            or (self._library is not None and self._library.heard_us(voter) >= floor_us)
        ]

    def read_message(self, data: Any) -> Message:
        if isinstance(data, Message):
            return data
        return read_as(_decoder, _AnyMessage, data)

    # --- what the host asks -----------------------------------------------------------

    def bootstrap(
        self, configuration: Configuration, first_entries: list[bytes], now_us: int
    ) -> None:
        if self.term or self.log.last_index:
            raise ValueError(
                f"replica {self.replica_id!r} already belongs to a cluster (term {self.term}, "
                f"log to {self.log.last_index}): bootstrap needs an empty data folder"
            )
        if self.replica_id not in configuration.voters:
            raise ValueError(f"replica {self.replica_id!r} is not among the first voters")
        configuration = Configuration.of(configuration.voters, configuration.learners)
        self._now_us = now_us
        self.term = 1
        self.journal.record_hard_state(1, "")
        entries = [Entry(1, 1, Kind.CONFIGURATION, configuration.encode())]
        entries += [Entry(2 + i, 1, Kind.COMMAND, data) for i, data in enumerate(first_entries)]
        self.log.append(entries)
        self.journal.record_entries(entries)
        for entry in entries:
            self._note_configuration(entry)
        self._begin(now_us)
        assert self._library is not None
        self._library.campaign_at(now_us)

    def propose(self, data: list[bytes], now_us: int) -> int | None:
        self._enter(now_us)
        self.refusal = self._refuse_proposal(data)
        if self.refusal is not Refusal.NONE:
            return None
        first = self.log.last_index + 1
        self._append(data, library._COMMAND_TYPE.REGULAR)
        self._uncommitted_bytes += sum(map(len, data))
        return first

    def _refuse_proposal(self, data: list[bytes]) -> Refusal:
        if self.role is not Role.LEADER or self.is_failed:
            return Refusal.NOT_LEADER
        if self.journal.is_full:
            return Refusal.DISK_FULL
        if any(len(item) > self.settings.entry_bytes for item in data):
            return Refusal.TOO_LARGE
        waiting = self._uncommitted_bytes
        if waiting and waiting + sum(map(len, data)) > self.settings.uncommitted_bytes:
            return Refusal.WINDOW_FULL
        return Refusal.NONE

    def _append(self, data: list[bytes], command_type: int) -> None:
        assert self._library is not None
        for item in data:
            self._library._applyCommand(item, None, command_type)
        self._library._checkCommandsToApply()

    def read_barrier(self, now_us: int) -> int | None:
        self._enter(now_us)
        if self.role is not Role.LEADER or self.is_failed:
            self.refusal = Refusal.NOT_LEADER
            return None
        self.refusal = Refusal.NONE
        ticket = self._next_read_ticket
        self._next_read_ticket += 1
        self._append([b""], library._COMMAND_TYPE.NO_OP)
        self._reads.append((ticket, self.log.last_index))
        return ticket

    def transfer_leadership(self, to: str, now_us: int) -> bool:
        self._enter(now_us)
        if self.role is not Role.LEADER or self._library is None:
            self.refusal = Refusal.NOT_LEADER
            return False
        if to and (to == self.replica_id or to not in self.configuration.voters):
            self.refusal = Refusal.UNKNOWN_REPLICA
            return False
        results: list[int] = []
        node = KnownNode(to) if to else None
        self._library.transferLeadership(node, lambda _, reason: results.append(reason))
        is_begun = results == [FAIL_REASON.SUCCESS]
        self.refusal = Refusal.NONE if is_begun else Refusal.TOO_FAR_BEHIND
        return is_begun

    def change_membership(self, change: Change, now_us: int) -> int | None:
        self._enter(now_us)
        self.refusal = self._refuse_change(change)
        if self.refusal is not Refusal.NONE:
            return None
        configuration = changed(self.configuration, change)
        self._append([configuration.encode()], library._COMMAND_TYPE.MEMBERSHIP)
        return self.log.last_index

    def _refuse_change(self, change: Change) -> Refusal:
        if self.role is not Role.LEADER or self._library is None:
            return Refusal.NOT_LEADER
        if self.configuration_index > self.commit_index:
            return Refusal.CHANGE_PENDING
        if self.commit_index < self.term_start_index:
            return Refusal.NOT_READY
        leaves = change.kind in (ChangeKind.REMOVE, ChangeKind.DEMOTE)
        if leaves and change.replica_id == self.replica_id:
            return Refusal.UNSUPPORTED
        refusal = refused_by(self.configuration, change)
        if refusal is Refusal.NONE and change.kind is ChangeKind.PROMOTE:
            behind = self.log.last_index - self._library.match_index(change.replica_id)
            if behind > self.settings.promotion_lag:
                return Refusal.TOO_FAR_BEHIND
        return refusal

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        term = self.log.term_at(index)
        if term is None or index > self.emitted_index:
            raise ValueError(
                f"no snapshot at {index}: the log holds {self.log.first_index}.."
                f"{self.emitted_index} applied"
            )
        held = next(held for held in reversed(self._configurations) if held[0] <= index)
        return SnapshotMeta(index, term, held[1], held[0])

    def compact(self, index: int, meta: SnapshotMeta) -> None:
        if index != meta.index:
            raise ValueError(f"compact({index}) with a snapshot at {meta.index}")
        if index <= self.snapshot.index:
            return
        self.snapshot = meta
        base = (meta.configuration_index, meta.configuration)
        self._configurations = [base] + [
            held for held in self._configurations if held[0] > meta.configuration_index
        ]
        floor = min(index - self.settings.trailing_entries, self.journal.durable_index)
        if floor > self.log.offset and self._library is not None:
            self._library.journal.forget_to(floor)
        self.journal.record_release(index)

    # --- what the host reports ----------------------------------------------------------

    def tick(self, now_us: int) -> None:
        self._enter(now_us)  # take_output does the rest
        if now_us >= self._disk_due_us:
            self._disk_due_us = FOREVER_US
            first = max(self.journal.durable_index, self.log.offset) + 1
            self.journal.retry(self.log.slice(first, self.log.last_index))
        if self.role is Role.LEADER:
            for replica_id, peer in list(self.peers.items()):
                transfer.repeat_if_stale(self._as_replica, replica_id, peer, now_us)

    def step(self, sender_id: str, message: Message, now_us: int) -> None:
        self._enter(now_us)
        if self.is_failed or self._broken or sender_id == self.replica_id:
            return
        if isinstance(message, SnapshotChunk):
            if self._library is None:
                self._learn(message.meta.configuration)
            if self._library is not None:
                transfer.on_chunk(self._as_replica, sender_id, message, now_us)
        elif isinstance(message, SnapshotAnswer):
            self._on_snapshot_answer(sender_id, message)
        elif isinstance(message, LibraryMessage):
            self._on_body(sender_id, message)
        else:
            self.dropped["message that the engine does not know"] += 1

    def _on_body(self, sender_id: str, message: LibraryMessage) -> None:
        if self._library is None and message.configuration:
            self._learn(configuration_of(message.configuration))
        body = dict(message.body)
        kind = body.get("type")
        is_member = sender_id in self.configuration.addresses
        if self._library is None:
            self.dropped["message before this replica belongs to a cluster"] += 1
        elif kind not in _HEEDED or "transmission" in body or "serialized" in body:
            self.dropped["message that the library would unpickle"] += 1
        elif kind in _FROM_MEMBERS and not is_member:
            self.dropped["message of a stranger"] += 1
        else:
            try:
                if "entries" in body:
                    body["entries"] = [tuple(entry) for entry in body["entries"]]
                self._library.transport._onMessageReceived(KnownNode(sender_id), body)
            except InvariantError as error:
                self._broken = str(error)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                self.dropped["message that the library can't read"] += 1
        self._refresh()

    def _learn(self, configuration: Configuration) -> None:
        """Take part with those who wrote first; the log will say the same."""
        if configuration.voters:
            self._configurations[0] = (0, configuration)
            self._begin(self._now_us)

    def persisted(self, ticket: int, now_us: int) -> None:
        self._enter(now_us)
        self.output.messages += self.journal.persisted(ticket)

    def persist_failed(self, ticket: int, is_full: bool, now_us: int) -> None:
        self._enter(now_us)
        if not is_full:
            self.is_failed = True
        elif self.journal.refuse(ticket, self.term, self._voted_for()):
            # The library takes its log for durable: until that is true it says nothing.
            self.journal.forget_held()
            self._disk_due_us = now_us + self.settings.disk_retry_us

    def chunk_read(
        self, ticket: int, data: bytes, is_last: bool, now_us: int, error: str = ""
    ) -> None:
        self._enter(now_us)
        transfer.on_chunk_read(
            self._as_replica, ticket, data, is_last=is_last, error=error, now_us=now_us
        )
        self._end_transfers()

    def chunk_staged(self, ticket: int, now_us: int, error: str = "") -> None:
        self._enter(now_us)
        transfer.on_chunk_staged(self._as_replica, ticket, error=error, now_us=now_us)

    def take_output(self) -> Output:
        if self._broken:
            raise InvariantError(self._broken)
        if self.is_failed:
            return Output(role_changed=True)
        if self._library is not None:
            self._run_library(self._library)
        self._emit_committed()
        self.output.persist = self.journal.take(self.log.last_index)
        output, self.output = self.output, Output()
        return output

    # --- driving the library ------------------------------------------------------------

    def _enter(self, now_us: int) -> None:
        """Make it this engine's moment in the library's module."""
        self._now_us = now_us
        MOMENT.now_us = now_us
        MOMENT.rng = self._rng

    def _run_library(self, lib: RawSyncObj) -> None:
        self._enter(self._now_us)
        if self.replica_id not in self.configuration.voters:
            lib.never_campaign()
        if self.role is Role.LEADER and self.log.last_index > self._sent_index:
            lib.send_now()
            self._sent_index = self.log.last_index
        try:
            lib.doTick(0.0)
        except InvariantError:
            raise
        except Exception as error:  # whatever a foreign library raises, this replica stops
            raise InvariantError(f"pysyncobj failed: {type(error).__name__}: {error}") from error
        self._refresh()

    def _voted_for(self) -> str:
        held = self._library.journal.getVotedForNodeId() if self._library else None
        return held or ""

    def _on_library_message(self, to: str, body: dict[str, Any]) -> None:
        if "serialized" in body:
            return  # snapshots go another way
        is_new = self._library is None or not self._library.match_index(to)
        wants_it = is_new and body["type"] in ("request_vote", "append_entries")
        configuration = self.configuration.encode() if wants_it else b""
        self.promise(to, LibraryMessage(int(body.get("term", self.term)), body, configuration))

    def _refresh(self) -> None:
        """Read from the library who leads now; note what that ended."""
        lib = self._library
        if lib is None:
            return
        before = (self.role, self.term, self.leader_id)
        self.role, self.term = _ROLES[lib.state], lib.raftCurrentTerm
        self.leader_id = lib.leader_id
        self.term_start_index = lib.first_own_index if self.role is Role.LEADER else 0
        if (self.role, self.term, self.leader_id) == before:
            return
        self.output.role_changed = True
        if before[0] is Role.LEADER and (self.role, self.term) != before[:2]:
            self.output.reads_failed += [ticket for ticket, _ in self._reads]
            self._reads.clear()
            self._uncommitted_bytes = self._sent_index = 0
            self.peers.clear()
            lib.connect_all()

    def _emit_committed(self) -> None:
        """Hand out what is committed and, here, durable: the library counts itself unasked."""
        reached = self.emitted_index
        if self._library is not None:
            reached = min(self._library.raftCommitIndex, self.journal.durable_index)
        if reached <= self.emitted_index:
            return
        entries = self.log.slice(self.emitted_index + 1, reached)
        self.output.committed += entries
        self.emitted_index = self.commit_index = reached
        freed = sum(len(entry.data) for entry in entries)
        self._uncommitted_bytes = max(0, self._uncommitted_bytes - freed)
        while self._reads and self._reads[0][1] <= reached:
            self.output.reads_ready.append(self._reads.popleft())

    # --- what the journal tells -----------------------------------------------------------

    def on_appended(self, entry: Entry) -> None:
        """The library put an entry into its log: a configuration is in force from here."""
        if self._note_configuration(entry):
            self._adopt()

    def on_truncated(self, index: int) -> None:
        is_changed = False
        while len(self._configurations) > 1 and self._configurations[-1][0] >= index:
            self._configurations.pop()
            is_changed = True
        if is_changed:
            self._adopt()

    def _note_configuration(self, entry: Entry) -> bool:
        if entry.kind is not Kind.CONFIGURATION:
            return False
        self._configurations.append((entry.index, Configuration.decode(entry.data)))
        return True

    def _adopt(self) -> None:
        self.output.configuration_changed = True
        if self._library is not None:
            self._library.adopt(self.configuration, self.replica_id)

    # --- snapshots: the verbs that raft.transfer calls --------------------------------------

    @property
    def _as_replica(self) -> Replica:
        """Stand in for a `Replica`: raft.transfer uses only what is defined here as well."""
        return cast(Replica, self)

    def send(self, to: str, message: Message) -> None:
        self.output.messages.append((to, message))

    def promise(self, to: str, message: Message) -> None:
        if self.journal.is_full:
            self.dropped["message that a full disk does not bear out"] += 1
        elif not self.journal.hold(to, message):
            self.send(to, message)

    def _begin_snapshot(self, to: str) -> None:
        """The library needs entries that are compacted: it waits while we send the snapshot."""
        assert self._library is not None
        self._library.disconnect(to)
        peer = Progress(self.log.last_index + 1, self._now_us)
        self.peers[to] = peer
        transfer.begin(self._as_replica, to, peer, self._now_us)

    def _on_snapshot_answer(self, sender_id: str, message: SnapshotAnswer) -> None:
        transfer.on_answer(self._as_replica, sender_id, message, self._now_us)
        if self._library is not None and self.role is Role.LEADER:
            self._library.hear_of(sender_id, self._now_us)
        self._end_transfers()

    def _end_transfers(self) -> None:
        for replica_id, peer in list(self.peers.items()):
            if peer.flow is not Flow.SNAPSHOT and self._library is not None:
                del self.peers[replica_id]
                self._library.go_on_with(replica_id, peer.next_index)

    def hear_leader(self, leader_id: str, term: int, now_us: int) -> None:
        assert self._library is not None
        self._library.follow(leader_id, term)
        self._refresh()

    def commit_to(self, index: int) -> None:
        assert self._library is not None
        self._library.commit_to(min(index, self.log.last_index))

    def reset_to(self, meta: SnapshotMeta) -> None:
        assert self._library is not None
        self._library.journal.begin_after(meta)
        self._library.start_at(meta.index)
        self.snapshot = meta
        self._configurations = [(meta.configuration_index, meta.configuration)]
        self.commit_index = self.emitted_index = meta.index
        self.output.committed.clear()
        self.output.installed = meta
        self._adopt()
