"""The state of one replica, and the few moves that every part of the protocol makes.

The parts (`election`, `replication`, `following`, `reads`, `membership`, `transfer`) are
functions over a `Replica`; `raft.core.RaftCore` is the replica with its public verbs.
"""

import random
from collections import Counter, deque

from raft.journal import Journal
from raft.log import Log
from raft.messages import Append, Configuration, Entry, Kind, Message, SnapshotMeta
from raft.output import FOREVER_US, Boot, InvariantError, Output, Refusal, Role, StageChunk
from raft.progress import Progress
from raft.settings import Settings


class Replica:
    """One participant of one log.

    Invariants:
        term: never sinks; on disk before any answer that binds.
        voted_for: changes only from "" within a term.
        commit_index: never sinks; never beyond what a majority of voters hold durably;
            nothing at or below it is ever truncated.
        configuration: the newest configuration entry of the log, committed or not.
    """

    def __init__(
        self, *, replica_id: str, settings: Settings, rng: random.Random, boot: Boot, now_us: int
    ) -> None:
        self.replica_id = replica_id
        self.cluster_id = ""  # the host's name of the cluster, once it knows; see snapshots
        self.settings = settings
        self.rng = rng
        self.role = Role.FOLLOWER
        self.term = boot.term
        self.voted_for = boot.voted_for
        self.leader_id = ""

        snapshot = boot.snapshot
        self.snapshot = snapshot  # the newest durable one; index 0 = none
        self.log = Log(snapshot.index, snapshot.term, boot.entries)
        if self.log.last_term > boot.term:
            raise InvariantError(
                f"the log ends in term {self.log.last_term}, the hard state is of {boot.term}: "
                "the log was written without its term; rejoin with an empty folder"
            )
        self.commit_index = snapshot.index
        self.emitted_index = snapshot.index  # handed to the host as committed
        self.journal = Journal(self.log.last_index)
        self.uncommitted_bytes = 0  # of this leader's proposals in this term

        # Newest last; the first is the snapshot's. A truncation falls back to the one before.
        self.configurations: list[tuple[int, Configuration]] = [
            (snapshot.configuration_index, snapshot.configuration)
        ]
        self._find_configurations(boot.entries)

        self.output = Output()
        self.refusal = Refusal.NONE
        self.dropped: Counter[str] = Counter()  # messages not heeded, by reason
        self.is_failed = False  # the disk can't be trusted: silent until the process ends

        # Follower and candidate. Before a restart we may have heard a leader whose lease
        # stands on our not voting yet.
        may_hear = settings.lease_us and boot.term
        self.heard_us = now_us - (0 if may_hear else settings.election_max_us)
        self.election_due_us = FOREVER_US
        self.votes: dict[str, bool] = {}
        self.staging: StageChunk | None = None  # the chunk that the host is writing
        self.staged: tuple[SnapshotMeta, int] | None = None  # what arrives, the next offset

        # Leader.
        self.peers: dict[str, Progress] = {}  # sorted by id
        self.term_start_index = 0  # this leader's no-op
        self.heartbeat_due_us = FOREVER_US
        self.disk_due_us = FOREVER_US  # try the full disk again
        self.last_append = Append(0, 0, 0, 0)  # sent to anybody
        self.round = 0  # of heartbeats, counted over all terms of this process
        self.rounds: deque[tuple[int, int]] = deque()  # (round, sent at) not yet of a quorum
        self.reads: deque[tuple[int, int]] = deque()  # (ticket, round)
        self.next_read_ticket = 1
        self.next_chunk_ticket = 1
        self.transfer_to = ""
        self.transfer_due_us = FOREVER_US
        self.has_handed_over = False  # tried to, in this term
        self.wait_for_leader(now_us)

    # --- who takes part -------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        return self.configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self.configurations[-1][0]

    @property
    def is_voter(self) -> bool:
        return self.replica_id in self.configuration.voters

    @property
    def may_campaign(self) -> bool:
        """Whether an election may need us: we vote, or did before a change that may not hold.

        A leader that appended its own removal can be the only one whose log is long enough
        to win, until that entry is committed (4.2.2).
        """
        if self.is_voter:
            return True
        if self.configuration_index <= self.commit_index or len(self.configurations) < 2:
            return False
        return self.replica_id in self.configurations[-2][1].voters

    def configuration_at(self, index: int) -> tuple[int, Configuration]:
        """Return (index, configuration) in force once the log is applied up to `index`."""
        return next(held for held in reversed(self.configurations) if held[0] <= index)

    def _find_configurations(self, entries: list[Entry]) -> bool:
        found = [
            (entry.index, Configuration.decode(entry.data))
            for entry in entries
            if entry.kind == Kind.CONFIGURATION
        ]
        self.configurations += found
        return bool(found)

    # --- messages -------------------------------------------------------------------

    def send(self, to: str, message: Message) -> None:
        """Send at once: the message promises nothing that a crash could undo."""
        self.output.messages.append((to, message))

    def promise(self, to: str, message: Message) -> None:
        """Send once all that this replica has recorded so far is durable (raft.journal)."""
        if not self.journal.hold(to, message):
            self.output.messages.append((to, message))

    # --- term and role --------------------------------------------------------------

    def set_hard_state(self, term: int, voted_for: str) -> None:
        if term < self.term or (term == self.term and self.voted_for not in ("", voted_for)):
            raise InvariantError(
                f"vote for {voted_for!r} in term {term} after {self.voted_for!r} in {self.term}"
            )
        self.term, self.voted_for = term, voted_for
        self.journal.record_hard_state(term, voted_for)
        self.output.role_changed = True

    def become_follower(self, term: int, leader_id: str, now_us: int) -> None:
        """Follow `leader_id` ("" = whoever wins) in `term`."""
        if term > self.term:
            self.set_hard_state(term, "")
        if self.role is Role.LEADER:
            self._leave_office()
        if self.role is not Role.FOLLOWER or self.leader_id != leader_id:
            self.output.role_changed = True
            self.wait_for_leader(now_us)
        self.role = Role.FOLLOWER
        self.leader_id = leader_id
        self.votes = {}

    def _leave_office(self) -> None:
        self.output.reads_failed += [ticket for ticket, _ in self.reads]
        self.reads.clear()
        self.rounds.clear()
        self.peers = {}
        self.uncommitted_bytes = 0
        self.transfer_to = ""
        self.transfer_due_us = self.heartbeat_due_us = FOREVER_US

    def wait_for_leader(self, now_us: int) -> None:
        """Draw a new election timeout (section 3.4: random, so that votes rarely split)."""
        if list(self.configuration.voters) == [self.replica_id]:
            self.election_due_us = now_us  # nobody else could lead
            return
        low, high = self.settings.election_min_us, self.settings.election_max_us
        self.election_due_us = now_us + self.rng.randint(low, high)

    def hear_leader(self, leader_id: str, term: int, now_us: int) -> None:
        """Note a message of this term's leader."""
        if self.role is Role.LEADER:
            raise InvariantError(
                f"two leaders in term {term}: {leader_id!r} and {self.replica_id!r}; are two "
                "clusters joined, or is a replica id used twice?"
            )
        if self.role is not Role.FOLLOWER or self.leader_id != leader_id:
            self.become_follower(term, leader_id, now_us)
        self.heard_us = now_us
        self.wait_for_leader(now_us)

    # --- log ------------------------------------------------------------------------

    def append(self, entries: list[Entry]) -> None:
        """Put entries at the end of the log; a configuration is in force from here (4.1)."""
        self.log.append(entries)
        self.journal.record_entries(entries)
        if self._find_configurations(entries):
            self.output.configuration_changed = True

    def truncate_from(self, index: int) -> None:
        """Forget a tail that conflicts with the leader's log (section 3.5)."""
        if index <= self.commit_index:
            raise InvariantError(
                f"asked to truncate from {index}, but {self.commit_index} is committed: "
                "the logs of two clusters are mixed, or a replica lost its disk"
            )
        self.log.truncate_from(index)
        self.journal.record_truncate(index)
        while self.configurations[-1][0] >= index:
            self.configurations.pop()
            self.output.configuration_changed = True

    def commit_to(self, index: int) -> None:
        """Note that the log up to `index` is committed; entries beyond the log come later."""
        self.commit_index = max(self.commit_index, min(index, self.log.last_index))

    def emit_committed(self) -> None:
        """Hand out each committed entry once."""
        if self.commit_index <= self.emitted_index:
            return
        entries = self.log.slice(self.emitted_index + 1, self.commit_index)
        if len(entries) != self.commit_index - self.emitted_index:
            raise InvariantError(f"committed entries after {self.emitted_index} are missing")
        self.output.committed += entries
        self.emitted_index = self.commit_index
        if self.role is Role.LEADER:
            term, command = self.term, Kind.COMMAND
            self.uncommitted_bytes -= sum(
                len(entry.data) for entry in entries if entry.term == term and entry.kind is command
            )

    def reset_to(self, meta: SnapshotMeta) -> None:
        """Replace log and state by a snapshot that is durable under its name."""
        if meta.index <= self.commit_index:
            raise InvariantError(f"snapshot {meta.index} is behind commit {self.commit_index}")
        self.log.reset(meta.index, meta.term)
        self.journal.record_reset(meta)
        self.configurations = [(meta.configuration_index, meta.configuration)]
        self.snapshot = meta
        self.commit_index = self.emitted_index = meta.index
        self.output.committed.clear()
        self.output.installed = meta
        self.output.configuration_changed = True
