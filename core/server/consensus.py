"""The log of this datacenter, driven: proposals in, applied entries out.

`Consensus` owns the Raft engine and the `State` that it feeds. Whoever proposes leaves a
continuation, which is called exactly once: with what apply did, or with the reason why
that is not known. "Lost" does not mean "not done": the entry may still be committed by
the next leader. So a caller with a token may simply try again (core.server.routing does).

**Group commit.** Each proposal is an entry of its own, but all proposals of one
`handle()` call reach Raft together and leave in one batch: one append to the followers,
one fdatasync. While that is under way the next ones gather in the same manner.

**Serving.** A new leader serves once an entry of its own term is applied: from then on
its state holds every write ever acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.model.host import FOREVER_US, Address, Halt, MessageReceived, Send
from core.model.query import Answer, Query
from core.server.backlog import Backlog
from core.server.changes import watched_keys
from core.server.effects import LogPersisted, LogPersistFailed, PersistLog
from core.server.proposal import (
    GATHERED_US,
    LOST,
    Outcome,
    Proposed,
    Then,
    answering,
    shall_gather,
)
from core.server.request import Respond
from core.server.restoring import Restoring
from core.server.snapshotting import Snapshots
from core.server.strangers import Strangers, cluster_of
from core.server.waiting import Waiting
from core.state.commands import Bootstrap, Entry, RecordCall
from core.state.entry import UnknownCommand, decode_entry, encode_entry, schema_of
from core.state.operating import CHECKPOINT, REPLACED
from core.state.result import Applied, Change
from core.state.snapshot import cut
from core.state.state import State
from raft.core import (
    Boot,
    ChangeKind,
    Configuration,
    InvariantError,
    Message,
    Output,
    Refusal,
    Role,
    Settings,
)
from raft.core import Change as MembershipChange
from raft.core import Entry as LogEntry
from raft.core import Kind as EntryKind
from raft.engine import Engine, make
from raft.transfer import STRANGER

if TYPE_CHECKING:
    from core.server.config import ServerBoot
    from core.server.context import Server

CHANNEL: Final = "raft"
LATE_US: Final = 20_000  # a host on time ticks sooner after a deadline


# What `decode_entry` does. A host of many replicas may hand all of them the same record of the
# same bytes: apply never changes a command.
Decode = Callable[[bytes, int], Entry]


class Consensus:
    def __init__(
        self,
        server: Server,
        boot: ServerBoot,
        rng: random.Random,
        decode: Decode = decode_entry,
    ) -> None:
        config = server.config
        self._server = server
        self._decode = decode
        self.state = (
            State(config.schema_max)
            if boot.snapshot is None
            else State.restore(cut(boot.snapshot), config.schema_max)
        )
        self.raft: Engine = make(
            config.raft_engine,
            replica_id=config.server_id,
            settings=config.raft or Settings(),
            rng=random.Random(rng.getrandbits(64)),
            boot=boot.raft or Boot(),
            now_us=server.now.mono_us,
        )
        self.raft.cluster_id = self.state.datacenter_id or cluster_of(boot.raft or Boot())
        self.strangers = Strangers(server)
        self.applied_index = self.raft.snapshot.index
        self.is_serving = False  # leader, and an entry of its term is applied
        self._pending: list[Proposed] = []  # not yet handed to Raft
        self._barriers: list[Callable[[bool], None]] = []  # not yet handed to Raft
        self._waiting: Waiting[Proposed, list[Callable[[bool], None]]] = Waiting()
        self._addresses: dict[str, Address] = {}  # by gossip
        self._heard_from: dict[str, Address] = {}  # by who wrote to us
        self._leader_heard_us = server.now.mono_us
        self._snapshots = Snapshots(server, self.raft, self.applied_index)
        self._backlog = Backlog(Restoring(server))
        self._was_leader = False
        self._is_halted = False  # an entry could not be understood: nothing is done any more
        self._known_leader = ""
        self._writing: dict[int, int] = {}  # ticket -> since when its entries are with the disk

    # --- what is known ----------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        if self._backlog.is_due and not self._is_halted:
            return self._server.now.mono_us
        gathered_us = self._pending[0].since_us + GATHERED_US if self._pending else FOREVER_US
        return min(self.raft.deadline_us, gathered_us)

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def is_leader(self) -> bool:
        return self.raft.role is Role.LEADER

    @property
    def is_empty(self) -> bool:
        """Whether this replica belongs to no log yet."""
        return not self.raft.term and not self.raft.last_index

    def voters(self) -> list[str]:
        return list(self.raft.configuration.voters)

    def leader_address(self) -> Address:
        """Return the leader's RPC address, "" when none is known."""
        leader = self.raft.leader_id
        return self.address_of(leader) if leader else ""

    def address_of(self, replica_id: str) -> Address:
        """Return a replica's address: gossip knows it best, then who wrote, then the log."""
        return (
            self._addresses.get(replica_id)
            or self._heard_from.get(replica_id)
            or self.raft.configuration.addresses.get(replica_id, "")
        )

    def last_contact_ms(self) -> int:
        """Return how old this replica's view may be: since the leader was heard."""
        if self.is_leader:
            return 0
        return max(0, self._server.now.mono_us - self._leader_heard_us) // 1000

    def on_addresses(self, addresses: dict[str, Address]) -> None:
        """Gossip knows where the servers of this datacenter are."""
        self._addresses = {key: address for key, address in addresses.items() if address}

    # --- proposing --------------------------------------------------------------------

    def propose(self, commands: list[Any], then: Then, call: RecordCall | None = None) -> None:
        """Propose commands as one entry; `then` is called once its fate is known."""
        if not self.is_leader:
            self._server.measures.proposals_refused += 1
            then(Outcome(None, Refusal.NOT_LEADER.value))
            return
        schema = self.state.schema
        if needed := [schema_of(one) for one in commands if schema_of(one) > schema]:
            then(
                Outcome(
                    None,
                    f"this needs schema {max(needed)}, the datacenter is at {schema} "
                    "until all of its servers are upgraded",
                )
            )
            return
        entry = Entry(wall_us=self._server.now.wall_us, commands=commands, call=call)
        data = encode_entry(entry, schema)
        self._pending.append(Proposed(data, then, self._server.now.mono_us))

    def propose_call(
        self,
        commands: list[Any],
        query: Query,
        answer: Callable[[Applied], Answer],
        respond: Respond,
        lost: Callable[[], None],
    ) -> None:
        """Propose a caller's write, marked with its token.

        `respond` gets the answer once the entry is applied; `lost` is called instead when
        this server stopped leading, for then the next leader can be asked.
        """
        call = RecordCall(query.call_id, query.call_issued_us) if query.call_id else None
        self.propose(commands, answering(answer, respond, lost), call)

    def bootstrap(self, voters: dict[str, Address], first: Bootstrap) -> None:
        """Begin the datacenter's log with these voters and its identity as first command."""
        entry = Entry(wall_us=self._server.now.wall_us, commands=[first])
        self.raft.bootstrap(
            Configuration.of(voters),
            [encode_entry(entry, self.state.schema)],
            self._server.now.mono_us,
        )

    def read_barrier(self, then: Callable[[bool], None]) -> None:
        """Call `then(True)` once the state holds all that was acknowledged before now.

        `then(False)` when this server does not lead (any more).
        """
        self._barriers.append(then)

    def transfer_leadership(self, to: str) -> str:
        """Hand over to a voter ("" = the best one); return why not, "" when begun."""
        if self.raft.transfer_leadership(to, self._server.now.mono_us):
            return ""
        return self.raft.refusal.value

    def change_membership(self, kind: ChangeKind, replica_id: str, address: Address = "") -> str:
        """Propose one step of membership; return why not, "" when it was appended."""
        change = MembershipChange(kind=kind, replica_id=replica_id, address=address)
        if self.raft.change_membership(change, self._server.now.mono_us) is not None:
            return ""
        return self.raft.refusal.value

    # --- events -----------------------------------------------------------------------

    def on_message(self, event: MessageReceived) -> None:
        """Take a replica's message; what is none is dropped and logged."""
        try:
            sender, message, *said = event.body
            message = self.raft.read_message(message)
        except (TypeError, ValueError) as error:
            self._server.outbox.log(
                "warning", "a raft message was dropped", source=event.source.address,
                reason=str(error),
            )  # fmt: skip
            return
        if not isinstance(sender, str) or not sender:
            return
        if self.strangers.refuse(sender, said, event.source.address):
            return
        if event.source.address:
            self._heard_from[sender] = event.source.address
        dropped = self.raft.dropped[STRANGER]
        self.raft.step(sender, message, self._server.now.mono_us)
        self.strangers.note_snapshot(dropped, sender, event.source.address)
        if sender == self.raft.leader_id:
            self._leader_heard_us = self._server.now.mono_us

    def on_disk(self, event: Any) -> None:
        """Take what the host reports of log and snapshots."""
        now_us = self._server.now.mono_us
        match event:
            case LogPersisted(ticket):
                since_us = self._writing.pop(ticket, now_us)
                self._server.measures.log_write_time.add(now_us - since_us)
                self.raft.persisted(ticket, now_us)
            case LogPersistFailed(ticket, reason, is_full):
                self._writing.pop(ticket, None)
                self._server.outbox.log("error", "the log can't be written", reason=reason)
                self.raft.persist_failed(ticket, is_full, now_us)
                if not is_full:
                    self._server.outbox.emit(
                        Halt(f"the write-ahead log failed: {reason}. What follows a failed"
                             " fsync can't be trusted: check the disk, then start again")
                    )  # fmt: skip
            case _:
                self._snapshots.on_disk(event)

    def tick(self, *, is_host_ready: bool) -> None:
        """Do what is due by Raft's clock.

        A host that was held up, by our own work or for want of a processor, brings what
        happened meanwhile in any order. So a deadline that is long over waits for its `Tick`,
        which comes when the sockets are read: a follower would else miss a leader whose
        heartbeat has arrived, and a leader step down over answers that it has not seen.
        """
        self._backlog.begin()
        now_us, due_us = self._server.now.mono_us, self.raft.deadline_us
        if due_us <= now_us and (is_host_ready or now_us - due_us <= LATE_US):
            self.raft.tick(now_us)

    # --- the work of each handle() ------------------------------------------------------

    def pump(self) -> bool:
        """Hand over what was proposed, carry out Raft's output; whether anything happened."""
        if self._is_halted:
            return False
        self._hand_over()
        self._ask_barriers()
        try:
            output = self.raft.take_output()
        except InvariantError as error:
            self._server.outbox.emit(Halt(f"raft: {error}"))
            return False
        self._emit(output)
        has_applied = self._apply(output)
        self._on_role(output)
        for ticket in output.reads_failed:
            for then in self._waiting.refuse(ticket):
                then(False)
        for ticket, index in output.reads_ready:
            self._waiting.allow(ticket, index)
        self._serve_reads()
        return bool(
            has_applied or output.persist or output.messages or output.role_changed
            or output.reads_failed or output.reads_ready or self._barriers
            or (self._pending and not self._gathers())
        )  # fmt: skip

    def _gathers(self) -> bool:
        under_way = len(self._waiting) if self._writing else 0
        return shall_gather(self._pending, under_way, self._server.now.mono_us)

    def _hand_over(self) -> None:
        if self._gathers() or not self._pending:
            return
        pending, self._pending = self._pending, []
        term = self.raft.term
        first = self.raft.propose([one.data for one in pending], self._server.now.mono_us)
        if first is None:
            self._server.measures.proposals_refused += len(pending)
            for one in pending:
                one.then(Outcome(None, self.raft.refusal.value))
            return
        self._server.measures.proposals += len(pending)
        self._waiting.propose(first, term, pending)

    def _ask_barriers(self) -> None:
        waiting, self._barriers = self._barriers, []
        if not waiting:
            return
        ticket = self.raft.read_barrier(self._server.now.mono_us)
        if ticket is None:
            for then in waiting:
                then(False)
        else:
            self._waiting.ask(ticket, waiting)

    def _emit(self, output: Output) -> None:
        emit = self._server.outbox.emit
        if output.persist is not None:
            self._writing[output.persist.ticket] = self._server.now.mono_us
            emit(PersistLog(output.persist.ticket, output.persist))
        own_id = self._server.config.server_id
        cluster_id = self.raft.cluster_id
        body: tuple[str, Message | None, str] = (own_id, None, cluster_id)
        for to, message in output.messages:
            address = self.address_of(to)
            if message is not body[1]:
                body = (own_id, message, cluster_id)  # one object for all that get the same
            if address:
                emit(Send(CHANNEL, address, body))
        self._snapshots.emit(output)

    def _apply(self, output: Output) -> bool:
        if output.installed is not None:
            self._install(output.installed)
        self._backlog.add(output.committed)
        before_index = self.applied_index
        keys: dict[str, None] = {}
        changes: list[Change] = []
        while entry := self._backlog.next(self.state):
            if self._is_halted:
                return False
            applied = self._apply_entry(entry)
            if applied is None:
                continue
            if any(change.table == REPLACED for change in applied.changes):
                keys, changes = {}, []  # what came before is void
                self._replaced()
                continue
            changes += applied.changes
            if self._server.blocking.is_watched:
                keys.update(watched_keys(self.state, applied.changes))
        if self.applied_index == before_index and output.installed is None:
            return False
        server = self._server
        self._check_serving()
        if server.datacenter_id:
            self.raft.cluster_id = server.datacenter_id
            server.membership.set_bootstrapped()
        if changes:
            server.on_applied(changes)
        server.blocking.on_changed(keys)
        self._snapshots.save_if_due(self.state, self.applied_index)
        return True

    def _apply_entry(self, entry: LogEntry) -> Applied | None:
        """Apply one committed entry and tell its proposer; None when it is no command."""
        proposed, is_theirs = self._waiting.settle(entry.index, entry.term)
        applied: Applied | None = None
        if entry.kind is EntryKind.COMMAND:
            try:
                decoded = self._decode(entry.data, self.state.schema_max)
                applied = self.state.apply_entry(entry.index, decoded)
            except UnknownCommand as error:
                self._is_halted = True
                self._server.outbox.emit(Halt(f"log entry {entry.index}: {error}"))
                return None
            self._snapshots.grew(len(entry.data))
            if any(change.table == CHECKPOINT for change in applied.changes):
                self._server.hashes.on_checkpoint(self.state)
        self.applied_index = entry.index
        if proposed is not None:
            if is_theirs and applied is not None:
                self._server.measures.commit_latency.add(
                    self._server.now.mono_us - proposed.since_us
                )
                proposed.then(Outcome(applied))
            else:
                proposed.then(Outcome(None, LOST))
        return applied

    def _install(self, meta: Any) -> None:
        state = self._snapshots.take_arrived(meta)
        if state is None:
            self._server.outbox.emit(
                Halt(f"snapshot {meta.snapshot_id} was installed without its image")
            )
            return
        own_id = self.state.datacenter_id
        self.state = state
        self._backlog.clear()
        if own_id not in ("", self.state.datacenter_id):
            self._is_halted = True
            self._server.outbox.emit(
                Halt(
                    f"snapshot {meta.snapshot_id} is of datacenter {self.state.datacenter_id}, "
                    f"this server belongs to {own_id}: start it with an empty data_dir to join "
                    "that one, or give it another datacenter name"
                )
            )
            return
        self.applied_index = meta.index
        self._snapshots.installed(meta.index)
        self._server.on_replaced()

    def _replaced(self) -> None:
        """A restore was applied: all that the parts knew of the state is void."""
        self._server.outbox.log("warning", "the state was restored", index=self.state.index)
        self._server.on_replaced()
        if self.is_serving:
            self._server.on_leadership(False)
            self._server.on_leadership(True)

    def _check_serving(self) -> None:
        raft = self.raft
        is_serving = self.is_leader and self.applied_index >= raft.term_start_index > 0
        if is_serving and not self.is_serving and not self.state.datacenter_id:
            return  # the bootstrap entry comes first
        if is_serving != self.is_serving:
            self.is_serving = is_serving
            self._server.on_leadership(is_serving)

    def _on_role(self, output: Output) -> None:
        if not output.role_changed:
            return
        measures = self._server.measures
        if self.raft.leader_id != self._known_leader:
            self._known_leader = self.raft.leader_id
            measures.leader_changes += 1
            self._server.outbox.log(
                "info", "raft leader", leader=self.raft.leader_id or "none", term=self.raft.term
            )
        if self._was_leader and not self.is_leader:
            self._leader_heard_us = self._server.now.mono_us  # until now it was ourselves
            waiting = self._waiting.lose()
            measures.proposals_refused += len(waiting)
            for proposed in waiting:
                proposed.then(Outcome(None, LOST))
        self._was_leader = self.is_leader
        self._check_serving()

    def _serve_reads(self) -> None:
        for waiting in self._waiting.serve(self.applied_index):
            self._server.measures.barriers += 1
            for then in waiting:
                then(True)

    def refresh_measures(self) -> None:
        measures = self._server.measures
        measures.is_leader = int(self.is_leader)
        measures.term = self.raft.term
        measures.commit_index = self.raft.commit_index
        measures.applied_index = self.applied_index
        measures.raft_dropped = dict(self.raft.dropped)
        measures.voters = {}
        if self.is_leader:
            reachable = len(self.raft.reachable_voters(self._server.now.mono_us))
            unreachable = len(self.raft.configuration.voters) - reachable
            measures.voters = {"reachable": reachable, "unreachable": unreachable}
