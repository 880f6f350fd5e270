"""`RaftCore`: one replica of a log, without clock, socket, disk or thread.

The driver's contract
---------------------

    core = RaftCore(replica_id=..., settings=Settings(), rng=random.Random(seed),
                    boot=Boot(), now_us=now)

* Call `step` for each arriving message and `tick` when `deadline_us` is reached (early or
  twice does no harm). After any calls, and before waiting, take what is to be done with
  `take_output`; several calls may share one output, which then shares batches.
* Send `Output.messages` at once, in any order, once; the network may lose, repeat and
  reorder them. Addresses are in `configuration.addresses`. A replica whose configuration
  is still empty answers whoever wrote to it: remember the sender's address.
* Write `Output.persist` to the write-ahead log, batches in the order of their tickets,
  and call `persisted(ticket)` once durable, or `persist_failed`. Do not wait for one
  before taking the next. What depends on the disk is held back in here. After
  `persist_failed(is_full=True)` also fail the batches handed out before that call.
* Apply `Output.committed` in order, each entry once, skipping kinds other than COMMAND.
  When `Output.installed` is set, load that snapshot first.
* Serve a read of `Output.reads_ready` once the state is applied up to its index.
* Now and then save a snapshot of the applied state: `snapshot_meta(applied)` names it;
  when it is durable (size and digest filled in), `compact(meta.index, meta)`.
* Answer `NeedChunk` with `chunk_read` and `StageChunk` with `chunk_staged`.
* `InvariantError` means this replica must stop; the message says what was found.

After a restart, hand in as `Boot` what the log and the newest snapshot hold
(`raft.wal.Wal.open` gives it); committed entries after the snapshot are emitted again.

Exactly one replica of a new cluster calls `bootstrap`; the others boot empty and are
contacted by it. Never give a replica id to a replica with another disk: a disk that was
lost may have voted. Remove the old id and add a new one.

The text is Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014);
numbers of sections in comments are its.
"""

import random
from typing import Any

from raft import election, following, membership, reads, replication, transfer
from raft.messages import (
    Append,
    AppendAnswer,
    Configuration,
    Entry,
    Heartbeat,
    HeartbeatAnswer,
    Kind,
    Message,
    SnapshotAnswer,
    SnapshotChunk,
    SnapshotMeta,
    TimeoutNow,
    VoteAnswer,
    VoteRequest,
    read,
)
from raft.output import (
    FOREVER_US,
    Boot,
    Change,
    ChangeKind,
    HardState,
    InvariantError,
    NeedChunk,
    Output,
    Persist,
    Refusal,
    Role,
    StageChunk,
)
from raft.replica import Replica
from raft.settings import Settings


class RaftCore(Replica):
    """See the module's page. Public state, to read only: `role`, `term`, `leader_id`,
    `commit_index`, `last_index`, `configuration`, `refusal`, `snapshot`, `peers`, `dropped`.
    """

    def __init__(
        self, *, replica_id: str, settings: Settings, rng: random.Random, boot: Boot, now_us: int
    ) -> None:
        super().__init__(
            replica_id=replica_id, settings=settings, rng=rng, boot=boot, now_us=now_us
        )
        self._now_us = now_us

    @property
    def last_index(self) -> int:
        return self.log.last_index

    def reachable_voters(self, now_us: int) -> list[str]:
        """Return the voters that this leader heard of within the longest election timeout."""
        return replication.reachable_voters(self, now_us)

    def followers(self) -> dict[str, tuple[int, int]]:
        """Return, of each follower, (newest index that is equal there, when it was heard)."""
        return {key: (peer.match_index, peer.contact_us) for key, peer in self.peers.items()}

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return the log from `first` to `last`, both included; [] unless all is held."""
        return self.log.held(first, last)

    @property
    def is_disk_full(self) -> bool:
        return self.journal.is_full

    @property
    def deadline_us(self) -> int:
        """When to `tick` next."""
        if self.is_failed:
            return FOREVER_US
        if self.role is Role.LEADER:
            return min(self.heartbeat_due_us, self.transfer_due_us, self.disk_due_us)
        return min(self.election_due_us, self.disk_due_us)

    def has_lease(self, now_us: int) -> bool:
        """Say whether a leader may read without asking; never without `clock_drift_ppm`."""
        return self.role is Role.LEADER and reads.has_lease(self, now_us)

    # --- what the host asks -----------------------------------------------------------

    def bootstrap(
        self, configuration: Configuration, first_entries: list[bytes], now_us: int
    ) -> None:
        """Begin a new cluster: a configuration and the first commands, in term 1.

        Raises:
            ValueError: This replica holds something already, or would not be a voter.
        """
        if self.term or self.log.last_index:
            raise ValueError(
                f"replica {self.replica_id!r} already belongs to a cluster (term {self.term}, "
                f"log to {self.log.last_index}): bootstrap needs an empty data folder"
            )
        if self.replica_id not in configuration.voters:
            raise ValueError(f"replica {self.replica_id!r} is not among the first voters")
        configuration = Configuration.of(configuration.voters, configuration.learners)
        self._now_us = now_us
        self.set_hard_state(1, "")
        entries = [Entry(1, 1, Kind.CONFIGURATION, configuration.encode())]
        entries += [Entry(2 + i, 1, Kind.COMMAND, data) for i, data in enumerate(first_entries)]
        self.append(entries)
        self.election_due_us = now_us  # nobody else could be leading

    def propose(self, data: list[bytes], now_us: int) -> int | None:
        """Append commands to the leader's log.

        Returns:
            The first one's index; the others follow. They are committed, if ever, when
            they come out of `Output.committed` with the term of now. None when nothing
            was taken: `refusal` says why.
        """
        self._now_us = now_us
        return replication.propose(self, data, now_us)

    def read_barrier(self, now_us: int) -> int | None:
        """Ask for a linearizable read.

        Returns:
            A ticket, which comes out of `reads_ready` or `reads_failed`; None (see
            `refusal`) when this is not the leader.
        """
        self._now_us = now_us
        return reads.request(self, now_us)

    def transfer_leadership(self, to: str, now_us: int) -> bool:
        """Hand over to a voter, "" for the one most up to date (section 3.10).

        Proposals are refused meanwhile; after the longest election timeout without
        success all goes on as before.

        Returns:
            Whether it was begun; else see `refusal`.
        """
        self._now_us = now_us
        if self.role is not Role.LEADER:
            self.refusal = Refusal.NOT_LEADER
            return False
        heir = to or replication.best_successor(self)
        if heir not in self.peers or heir not in self.configuration.voters:
            self.refusal = Refusal.UNKNOWN_REPLICA
            return False
        self.refusal = Refusal.NONE
        self.transfer_to = heir
        self.has_handed_over = True
        self.transfer_due_us = now_us + self.settings.election_max_us
        if self.peers[heir].match_index == self.log.last_index:
            self.send(heir, TimeoutNow(self.term))
        return True

    def change_membership(self, change: Change, now_us: int) -> int | None:
        """Append a configuration that differs by one replica.

        Returns:
            Its index: done once committed. None when refused; see `refusal`.
        """
        self._now_us = now_us
        return membership.propose(self, change, now_us)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Name a snapshot of the state applied up to `index`; size and digest are the saver's.

        Raises:
            ValueError: The index is not applied, or compacted.
        """
        term = self.log.term_at(index)
        if term is None or index > self.emitted_index:
            raise ValueError(
                f"no snapshot at {index}: the log holds {self.log.first_index}.."
                f"{self.emitted_index} applied"
            )
        configuration_index, configuration = self.configuration_at(index)
        return SnapshotMeta(index, term, configuration, configuration_index)

    def compact(self, index: int, meta: SnapshotMeta) -> None:
        """The snapshot `meta` is durable: forget the log up to `index`, but for a tail.

        Raises:
            ValueError: `index` is not the meta's.
        """
        if index != meta.index:
            raise ValueError(f"compact({index}) with a snapshot at {meta.index}")
        if index <= self.snapshot.index:
            return
        if index > self.emitted_index or self.log.term_at(index) not in (None, meta.term):
            raise InvariantError(f"snapshot {meta.snapshot_id} is not of this log")
        self.snapshot = meta
        base = (meta.configuration_index, meta.configuration)
        self.configurations = [base] + [
            held for held in self.configurations if held[0] > meta.configuration_index
        ]
        floor = index - self.settings.trailing_entries
        floor = self.log.tail_begin(floor, index, self.settings.trailing_bytes)
        # What a full disk refused must stay in memory until it is written.
        floor = min(floor, max(self.journal.durable_index, self.log.offset))
        if floor > self.log.offset:
            self.log.compact(floor)
        self.journal.record_release(index)

    # --- what the host reports ----------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Do what is due."""
        if self.is_failed:
            return
        self._now_us = now_us
        if now_us >= self.disk_due_us:
            self._try_disk_again(now_us)
        if self.role is not Role.LEADER:
            if now_us >= self.election_due_us:
                election.on_timeout(self, now_us)
            return
        if now_us >= self.transfer_due_us:
            self.transfer_to = ""
            self.transfer_due_us = FOREVER_US
        if now_us >= self.heartbeat_due_us:
            if self.settings.is_check_quorum and not replication.has_quorum_contact(self, now_us):
                # Whoever asks us is better served by a leader that can commit (6.2).
                self.become_follower(self.term, "", now_us)
                return
            replication.broadcast_heartbeat(self, now_us)

    def step(self, sender_id: str, message: Message, now_us: int) -> None:
        """Take in a message of another replica."""
        if self.is_failed or sender_id == self.replica_id:
            return
        self._now_us = now_us
        if message.term > self.term and not _leaves_term(message):
            self.become_follower(message.term, "", now_us)
        match message:
            case Append():
                following.on_append(self, sender_id, message, now_us)
            case AppendAnswer():
                replication.on_append_answer(self, sender_id, message, now_us)
            case Heartbeat():
                following.on_heartbeat(self, sender_id, message, now_us)
            case HeartbeatAnswer():
                replication.on_heartbeat_answer(self, sender_id, message, now_us)
            case VoteRequest():
                election.on_vote_request(self, sender_id, message, now_us)
            case VoteAnswer():
                election.on_vote_answer(self, sender_id, message, now_us)
            case TimeoutNow():
                if message.term == self.term and sender_id == self.leader_id:
                    election.on_timeout_now(self, now_us)
            case SnapshotChunk():
                transfer.on_chunk(self, sender_id, message, now_us)
            case SnapshotAnswer():
                transfer.on_answer(self, sender_id, message, now_us)
            case _:
                self.dropped["unknown message"] += 1

    def read_message(self, data: Any) -> Message:
        """Return the message that `step` takes; see `raft.messages.read`."""
        return read(data)

    def persisted(self, ticket: int, now_us: int) -> None:
        """The batch is durable."""
        if self.is_failed:
            return
        self._now_us = now_us
        for to, message in self.journal.persisted(ticket):
            if to != self.replica_id:
                self.send(to, message)
            elif isinstance(message, VoteAnswer):
                election.on_vote_answer(self, to, message, now_us)
        replication.advance_commit(self, now_us)

    def persist_failed(self, ticket: int, is_full: bool, now_us: int) -> None:
        """The batch is not durable. When the disk is not just full, stop the process."""
        self._now_us = now_us
        if not is_full:
            self.become_follower(self.term, "", now_us)
            self.is_failed = True
            return
        if not self.journal.refuse(ticket, self.term, self.voted_for):
            return
        self.disk_due_us = now_us + self.settings.disk_retry_us
        if self.role is Role.LEADER:
            return  # keep leading: reads go on, and the followers may hold what we could not
        if self.role is not Role.FOLLOWER:
            self.become_follower(self.term, "", now_us)
        # As if we had crashed: what was not written and nobody relies on never arrived.
        kept = max(self.journal.durable_index, self.commit_index, self.log.offset)
        if self.log.last_index > kept:
            self.truncate_from(kept + 1)

    def _try_disk_again(self, now_us: int) -> None:
        self.disk_due_us = FOREVER_US
        if not self.journal.is_full:
            return
        if self.role is Role.LEADER and self.commit_index > self.journal.durable_index:
            # A majority wrote what we could not, so one of them leads better.
            self.transfer_leadership("", now_us)
        first = max(self.journal.durable_index, self.log.offset) + 1
        self.journal.retry(self.log.slice(first, self.log.last_index))

    def chunk_read(
        self, ticket: int, data: bytes, is_last: bool, now_us: int, error: str = ""
    ) -> None:
        """Answer a `NeedChunk`; `error` when the snapshot can't be read (any more)."""
        self._now_us = now_us
        transfer.on_chunk_read(self, ticket, data, is_last=is_last, error=error, now_us=now_us)

    def chunk_staged(self, ticket: int, now_us: int, error: str = "") -> None:
        """Answer a `StageChunk`."""
        self._now_us = now_us
        transfer.on_chunk_staged(self, ticket, error=error, now_us=now_us)

    def take_output(self) -> Output:
        """Return what to do since the last time; see the module's page."""
        if self.is_failed:
            failed, self.output = self.output.reads_failed, Output()
            return Output(reads_failed=failed, role_changed=True)
        if self.role is Role.LEADER:
            if reads.is_round_wanted(self):
                replication.broadcast_heartbeat(self, self._now_us)
            replication.flush(self, self._now_us)
        self.emit_committed()
        self.log.free_some()
        self.output.persist = self.journal.take(self.log.last_index)
        output, self.output = self.output, Output()
        return output


def _leaves_term(message: Message) -> bool:
    """Say whether a message of a newer term must not raise ours by itself.

    A request for votes may be one that we don't heed; a pre-vote's term is not yet anyone's.
    """
    if isinstance(message, VoteRequest):
        return True
    return isinstance(message, VoteAnswer) and message.is_pre_vote and message.is_granted


__all__ = [
    "Boot",
    "Change",
    "ChangeKind",
    "Configuration",
    "Entry",
    "HardState",
    "InvariantError",
    "Kind",
    "Message",
    "NeedChunk",
    "Output",
    "Persist",
    "RaftCore",
    "Refusal",
    "Role",
    "Settings",
    "SnapshotMeta",
    "StageChunk",
]
