"""Named situations: the corners that a run must have been in before its silence means much.

Most are counted here from what engines put out, some by hosts and clients where they
happen. `NAMES` is what `python -m sim.raft` declares; one that stays at zero over 200 seeds
fails the run.
"""

from typing import TYPE_CHECKING, Final

from raft.core import Output, RaftCore, Refusal, Role, SnapshotMeta
from raft.engine import Engine
from raft.messages import Append, AppendAnswer, Message, SnapshotChunk, VoteRequest

if TYPE_CHECKING:
    from sim.raft.host import Host
    from sim.raft.world import World

NAMES: Final = (
    "conflicting tail cut",
    "configuration rolled back",
    "append refused with a hint",
    "new leader with entries of older terms",
    "leader stepped down without its quorum",
    "leader commits before its own disk",
    "hand-over completed",
    "hand-over aborted",
    "leader removed itself",
    "removed leader campaigns",
    "removal of the last voter refused",
    "membership change refused while one is pending",
    "promotion refused to a learner behind",
    "vote refused while the leader is heard",
    "read served by a lease",
    "read during a hand-over",
    "leadership lost during a read barrier",
    "stale leader's read refused",
    "proposal refused by a full window",
    "snapshot installed",
    "snapshot install resumed",
    "snapshot install resumed by another leader",
    "snapshot gone while it was sent",
    "damaged snapshot refused",
    "torn tail cut",
    "write torn by a power cut",
    "write refused by a full disk",
    "vote on a full disk",
    "append in a term that a full disk has not kept",
    "compaction of what a full disk refused",
    "disk has room again",
    "snapshot not saved on a full disk",
    "server stopped by a failed fsync",
    "repeated command dropped",
    "command too old to be repeated",
    "timed-out write took effect",
    "timed-out write never took effect",
)


class Situations:
    def __init__(self, world: "World") -> None:
        self._seen = world.situations
        self._world = world
        self._was_leader: dict[str, int] = {}  # who leads -> in which term
        self._configuration_index: dict[str, int] = {}
        self._heirs: dict[str, str] = {}  # leader -> whom it hands over to
        self._chunks: dict[tuple[str, str], str] = {}  # (to, snapshot) -> who sent last
        self._asked: dict[tuple[str, str], bool] = {}  # (from, to): asked where to go on
        self._is_full: dict[str, bool] = {}
        self._votes_refused: dict[str, int] = {}  # because a leader was heard

    def on_end(self, name: str) -> None:
        """A process ended."""
        self._was_leader.pop(name, None)
        self._configuration_index.pop(name, None)
        self._heirs.pop(name, None)
        self._is_full.pop(name, None)
        self._votes_refused.pop(name, None)

    def on_hand_over(self, leader: str, heir: str) -> None:
        """A hand-over was begun."""
        self._heirs[leader] = heir

    def on_refused(self, engine: Engine) -> None:
        """The engine refused something."""
        if engine.refusal is Refusal.WINDOW_FULL:
            self._seen["proposal refused by a full window"] += 1
        elif engine.refusal is Refusal.CHANGE_PENDING:
            self._seen["membership change refused while one is pending"] += 1
        elif engine.refusal is Refusal.TOO_FAR_BEHIND:
            self._seen["promotion refused to a learner behind"] += 1
        elif engine.refusal is Refusal.LAST_VOTER:
            self._seen["removal of the last voter refused"] += 1

    def on_read_failed(self, engine: Engine) -> None:
        self._seen["leadership lost during a read barrier"] += 1
        newest = self._world.leader()
        if newest is not None and newest.replica_id != engine.replica_id:
            self._seen["stale leader's read refused"] += 1

    def on_message(self, host: "Host", message: Message) -> None:
        """A message is about to be taken in."""
        engine = host.engine
        if isinstance(message, Append) and engine is not None and engine.is_disk_full:
            is_new = message.term > host.durable.term
            self._seen["append in a term that a full disk has not kept"] += is_new

    def on_compaction(self, engine: Engine, meta: SnapshotMeta) -> None:
        """A snapshot is durable, and the log is about to be compacted."""
        if isinstance(engine, RaftCore) and engine.snapshot.index < meta.index:
            is_ahead = meta.index > engine.journal.durable_index
            self._seen["compaction of what a full disk refused"] += engine.is_disk_full and is_ahead

    def on_output(self, host: "Host", engine: Engine, output: Output) -> None:
        name = host.name
        if output.role_changed:
            self._on_role(name, engine)
        if name in self._heirs:
            self._on_heir(name, engine)
        if isinstance(engine, RaftCore):
            self._on_core(name, engine, output)

    def _on_role(self, name: str, engine: Engine) -> None:
        term = self._was_leader.get(name)
        if engine.role is Role.LEADER:
            if term != engine.term:
                self._was_leader[name] = engine.term
                if engine.commit_index < engine.term_start_index - 1:
                    self._seen["new leader with entries of older terms"] += 1
        elif term is not None:
            del self._was_leader[name]
            if term == engine.term and not engine.leader_id:
                removed = name not in engine.configuration.voters
                self._seen["leader removed itself"] += removed
                self._seen["leader stepped down without its quorum"] += not removed

    def _on_heir(self, name: str, engine: Engine) -> None:
        if engine.role is Role.LEADER:
            if not engine.transfer_to:
                self._seen["hand-over aborted"] += 1
                del self._heirs[name]
        elif engine.leader_id:
            self._seen["hand-over completed"] += engine.leader_id == self._heirs.pop(name)

    def _on_core(self, name: str, core: RaftCore, output: Output) -> None:
        persist = output.persist
        if persist is not None:
            self._seen["conflicting tail cut"] += bool(
                persist.truncate_from and not persist.is_retry
            )
            is_vote = persist.hard_state is not None and persist.hard_state.voted_for != ""
            self._seen["vote on a full disk"] += is_vote and core.is_disk_full
            was_full = self._is_full.get(name, False)
            self._seen["disk has room again"] += was_full and not core.is_disk_full
            self._is_full[name] = core.is_disk_full
        if output.configuration_changed:
            index = core.configuration_index
            rolled_back = index < self._configuration_index.get(name, 0)
            self._seen["configuration rolled back"] += rolled_back
            self._configuration_index[name] = index
        refused = core.dropped["vote request while a leader is heard"]
        before = self._votes_refused.get(name, 0)
        self._seen["vote refused while the leader is heard"] += refused - before
        self._votes_refused[name] = refused
        if output.committed and core.role is Role.LEADER:
            behind = core.journal.durable_index < core.commit_index
            self._seen["leader commits before its own disk"] += behind
        for to, message in output.messages:
            if isinstance(message, SnapshotChunk):
                self._on_chunk(name, to, message)
            elif isinstance(message, AppendAnswer):
                self._seen["append refused with a hint"] += bool(message.hint_index)
            elif isinstance(message, VoteRequest) and not message.is_pre_vote:
                self._seen["removed leader campaigns"] += not core.is_voter

    def _on_chunk(self, sender: str, to: str, chunk: SnapshotChunk) -> None:
        is_question = not chunk.data and not chunk.is_last
        was_question = self._asked.get((sender, to), False)
        self._asked[sender, to] = is_question
        if is_question or not chunk.offset:
            return
        self._seen["snapshot install resumed"] += was_question
        key = (to, chunk.meta.snapshot_id)
        before = self._chunks.get(key, sender)
        self._chunks[key] = sender
        self._seen["snapshot install resumed by another leader"] += before != sender
