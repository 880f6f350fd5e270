"""The checkers that see what clients and operators see: states and answers.

    state machine safety      one index, one entry, on every replica, without a gap
    state hash                equal states at equal indexes
    snapshot                  equal bytes at equal indexes, and what the meta says
    acknowledged write lost   what a client was told is in the log of whoever leads at the end
    repeated command applied  a call takes effect once
    stale read                a read covers every write acknowledged before it was asked for

"linearizability" (sim.raft.linearizable) and "liveness" (sim.raft.world) join them at the
end. `sim.raft.protocol` looks at messages, disks and logs besides.
"""

import hashlib
from typing import TYPE_CHECKING, Final

from core.state.result import Applied
from raft.core import Boot, Entry, Output, Persist, RaftCore, SnapshotMeta
from raft.engine import Engine
from raft.messages import Message
from sim.raft.protocol import Protocol
from sim.raft.situations import Situations
from sim.seeds import INVARIANT, Violation

if TYPE_CHECKING:
    from sim.raft.clients import Attempt
    from sim.raft.host import Host
    from sim.raft.world import World

HASH_EVERY: Final = 16  # indexes; a state's hash takes as long as ten entries' apply


class Watch:
    """Everything that a server does passes here before or after it is done."""

    def __init__(self, world: "World", *, is_black_box: bool) -> None:
        self.world = world
        self.protocol = None if is_black_box else Protocol()
        self.situations = Situations(world)
        self.assertions: list[tuple[str, str]] = []  # of the shipped code
        self.calls: dict[bytes, str] = {}  # a command proposed -> its call id
        self.effects: dict[str, int] = {}  # call id -> index where it took effect
        self.acknowledged: dict[str, int] = {}  # call id -> index
        self.high_acknowledged = 0
        self._committed: dict[int, tuple[int, int, bytes]] = {}  # index -> term, kind, data
        self._hashes: dict[int, tuple[str, str]] = {}  # index -> hash, whose
        self._digests: dict[int, tuple[str, str]] = {}  # index -> snapshot's digest, whose
        self._in_flight: dict[str, list[Persist]] = {}  # being written when the process ended

    # --- the process ------------------------------------------------------------------

    def on_assertion(self, name: str, error: Exception) -> None:
        """The shipped code stopped itself. It is noted; whether it was right, others judge."""
        text = f"{name} stopped at {self.world.now_us} us: {type(error).__name__}: {error}"
        self.assertions.append((INVARIANT, text))

    def on_end(self, host: "Host", engine: Engine | None, writing: list[Persist]) -> None:
        """A process ended while its log's worker was `writing`."""
        if engine is not None:
            self._in_flight[host.name] = list(writing)
            self.situations.on_end(host.name)

    def on_recovered(self, host: "Host", boot: Boot) -> None:
        """Storage was opened and says what it holds; nothing was done with it yet."""
        in_flight = self._in_flight.pop(host.name, [])
        if self.protocol is not None:
            self.protocol.check_recovery(host, boot, in_flight)

    def on_start(self, host: "Host") -> None:
        if self.protocol is not None:
            self.protocol.on_start(host)
        self._check_hash(host)

    # --- the engine -------------------------------------------------------------------

    def on_message(self, host: "Host", sender: str, message: Message) -> None:
        """A message reached a running server, and is about to be taken in."""
        if self.protocol is not None:
            self.protocol.on_message(host, sender, message)
        self.situations.on_message(host, message)

    def on_output(self, host: "Host", engine: Engine, output: Output) -> None:
        """Look at what an engine wants done, before it is."""
        if self.protocol is not None:
            self.protocol.check_role(host.name, engine, output)
            if isinstance(engine, RaftCore):
                self.protocol.check_output(host, engine, output)
        self.situations.on_output(host, engine, output)

    def on_durable(self, host: "Host") -> None:
        """The write-ahead log says that all it was given is durable."""
        if self.protocol is not None:
            self.protocol.check_synced(host)

    # --- state ------------------------------------------------------------------------

    def on_committed(self, host: "Host", engine: Engine, entry: Entry) -> None:
        """State machine safety; it may be applied later."""
        index = entry.index
        found = (entry.term, int(entry.kind), entry.data)
        held = self._committed.get(index)
        if held is None:
            self._committed[index] = found
            if self.protocol is not None and isinstance(engine, RaftCore):
                self.protocol.check_commit(self.world, engine, entry)
        elif held != found:
            raise Violation(
                "state machine safety", f"{host.name} commits {found} at {index}, others {held}"
            )

    def on_apply(self, host: "Host", entry: Entry) -> None:
        """Entries are applied in order, each once."""
        if entry.index != host.applied_index + 1:
            text = f"{host.name} applies {entry.index} after {host.applied_index}"
            raise Violation("state machine safety", text)

    def on_applied(self, host: "Host", entry: Entry, applied: Applied) -> None:
        """No repeated command takes effect; equal states at equal indexes."""
        call = self.calls.get(entry.data)
        if call is None:
            text = f"{host.name} applies a command at {entry.index} that nobody proposed"
            raise Violation("state machine safety", text)
        if applied.is_repeat:
            self.world.situations["repeated command dropped"] += 1
        elif applied.results[0].is_error:
            self.world.situations["command too old to be repeated"] += 1
        else:
            index = self.effects.setdefault(call, entry.index)
            if index != entry.index:
                raise Violation(
                    "repeated command applied",
                    f"call {call} takes effect at {entry.index} on {host.name}, and did at {index}",
                )
        if entry.index % HASH_EVERY == 0:
            self._check_hash(host)

    def _check_hash(self, host: "Host") -> None:
        index = host.applied_index
        found = host.state.hash()
        held, whose = self._hashes.setdefault(index, (found, host.name))
        if held != found:
            text = f"at {index} {host.name} has {found[:12]}, {whose} has {held[:12]}"
            raise Violation("state hash", text)

    def on_snapshot(self, host: "Host", meta: SnapshotMeta) -> None:
        """A snapshot is durable: it is what its meta says, and what others have at that index."""
        name = f"snapshot-{meta.snapshot_id}.snap"
        found = hashlib.sha256(host.disk.content(name)[: meta.size]).hexdigest()
        if found != meta.digest:
            text = f"{host.name} keeps {name} with digest {found[:12]}, not {meta.digest[:12]}"
            raise Violation("snapshot", text)
        held, whose = self._digests.setdefault(meta.index, (found, host.name))
        if held != found:
            raise Violation("snapshot", f"{host.name} and {whose} differ in {name}")
        if self.protocol is not None and host.disk.unsynced("snapshot-"):
            raise Violation("durability", f"{name} on {host.name} could be lost by a power cut")

    def on_installed(self, host: "Host") -> None:
        self._check_hash(host)

    # --- clients ----------------------------------------------------------------------

    def on_acknowledged(self, entry: Entry, attempt: "Attempt") -> None:
        """A client is being told that its write is done."""
        self.acknowledged.setdefault(attempt.call_id, entry.index)
        self.high_acknowledged = max(self.high_acknowledged, entry.index)

    def on_read(self, host: "Host", attempt: "Attempt") -> None:
        """A read is asked for: from here on it must cover all that was acknowledged."""
        attempt.floor_index = self.high_acknowledged
        attempt.asked_us = host.now_us

    def on_read_ready(self, host: "Host", attempt: "Attempt", index: int) -> None:
        if index < attempt.floor_index:
            raise Violation(
                "stale read",
                f"{host.name} answers a read at {index}, {attempt.floor_index} was acknowledged "
                "before it was asked for",
            )
        if self.protocol is not None and isinstance(host.engine, RaftCore):
            self.protocol.check_read(host, host.engine, attempt.asked_us)

    def on_read_answered(self, host: "Host", attempt: "Attempt") -> None:
        if host.applied_index < attempt.floor_index:
            raise Violation(
                "stale read",
                f"{host.name} answers a read from its state at {host.applied_index}, "
                f"{attempt.floor_index} was acknowledged before it was asked for",
            )

    def check_end(self, leader: Engine) -> None:
        """All members hold the same state, and in it everything that was acknowledged.

        And nobody waits for an answer any more.
        """
        for name in leader.configuration.addresses:
            self._check_hash(self.world.hosts[name])
            if count := self.world.hosts[name].waiting_count:
                raise Violation("liveness", f"{name} is at rest and owes {count} answers")
        host = self.world.hosts[leader.replica_id]
        is_forgotten = self.world.wall_leap_us > 0  # calls are remembered for a day
        for call, index in self.acknowledged.items():
            is_known = is_forgotten or host.state.calls.get(call) is not None
            if host.applied_index < index or not is_known:
                raise Violation(
                    "acknowledged write lost",
                    f"call {call} was acknowledged at {index}; {leader.replica_id} leads without",
                )
