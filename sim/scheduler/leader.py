"""A leader without Raft: the parts of a server that schedule, around one replica's state.

The parts are the shipped ones (core.server planning, deployments, draining, liveness, the
calls of clients) in the shipped `Server`; what is played here is what surrounds them. An
entry that is proposed is committed a little later, in order; a plan is solved on the
state as it was and proposed later still, when the state may have moved on. Leadership may
be lost: what was in flight is forgotten by those who asked, and the next leader begins with the
state alone, restored from a snapshot of it.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from core.model.host import FOREVER_US, Call, CallDone, Now
from core.scheduler.problem import Problem, Solution
from core.server.collection import Collection
from core.server.config import CollectionConfig, LimitsConfig, LivenessConfig, ServerConfig
from core.server.context import Server
from core.server.effects import Compute, Computed
from core.server.launching import LaunchWatch
from core.server.parts import add_parts
from core.server.proposal import Outcome, Then
from core.state.commands import Bootstrap, Entry
from core.state.entry import encode_entry
from core.state.result import Applied
from core.state.state import State

DATACENTER = "0123456789ab"
S = 1_000_000
BEGIN_US = 1_700_000_000 * S
RENEW_US = 60 * S  # a node silent for so long is disconnected
LOST = "leadership was lost"


class Watcher(Protocol):
    """Whoever looks on."""

    def before_entry(self, commands: list[Any]) -> None: ...

    def on_entry(self, commands: list[Any], applied: Applied) -> None: ...

    def on_solved(self, problem: Problem, solution: Solution) -> None: ...


@dataclass(slots=True)
class Timing:
    """How long things take, drawn per seed, microseconds."""

    commit_us: tuple[int, int] = (1_000, 20_000)
    solve_us: tuple[int, int] = (1_000, 50_000)


class _Log:
    """Stands where the server has its consensus: one replica, entries in order."""

    def __init__(self) -> None:
        self.state = State()
        self.applied_index = 0
        self.is_leader = False
        self.pending: list[tuple[list[Any], Then]] = []

    @property
    def is_serving(self) -> bool:
        return self.is_leader

    def propose(self, commands: list[Any], then: Then, call: object = None) -> None:
        if self.is_leader:
            self.pending.append((commands, then))
        else:
            then(Outcome(None, LOST))

    def leader_address(self) -> str:
        return ""

    def voters(self) -> list[str]:
        return []


class _Gossip:
    """What the LAN pool says of the agents, as Liveness asks for it."""

    def __init__(self) -> None:
        self.dead: dict[str, None] = {}

    def own_servers(self) -> list[Any]:
        return []

    def lan_addresses(self) -> list[str]:
        return []

    def lan_dead(self) -> list[str]:
        return [*self.dead]


class Leader:
    """The machine and its clock. `at` and `after` are the world's own timers."""

    def __init__(
        self,
        rng: random.Random,
        watcher: Watcher,
        timing: Timing,
        batch: int,
        ages: CollectionConfig | None = None,
    ) -> None:
        """With `ages`, what ended is collected by the clock."""
        self.rng, self.watcher, self.timing = rng, watcher, timing
        self.answers_ping: Callable[[str], bool] = lambda address: True
        self.entries = 0
        self.last_entry_us = 0
        self.solving = 0
        self._sequence = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._committing: list[tuple[list[Any], Then]] = []
        self.mono_us = 0
        self.log = _Log()
        self.gossip = _Gossip()
        config = ServerConfig(
            name="s1",
            server_id="s1",
            liveness=LivenessConfig(renew_us=RENEW_US, grace_us=10 * S, check_interval_us=20 * S),
            limits=LimitsConfig(plan_batch=batch),
            collection=ages or CollectionConfig(),
        )
        server = self.server = Server(config, rng, self.now)
        server.consensus = self.log  # type: ignore[assignment]
        server.membership = self.gossip  # type: ignore[assignment]
        add_parts(server, rng)
        server.leading = [
            server.system_jobs, server.planning, server.deployments, server.liveness,
            server.draining, LaunchWatch(server), *([Collection(server)] if ages else []),
        ]  # fmt: skip
        self._lead()
        first = Bootstrap(datacenter_id=DATACENTER, region="r", datacenter="dc1", is_authority=True)
        self.propose(first)

    @property
    def now(self) -> Now:
        return Now(self.mono_us, BEGIN_US + self.mono_us)

    @property
    def wall_us(self) -> int:
        return BEGIN_US + self.mono_us

    @property
    def state(self) -> State:
        return self.log.state

    # --- time -----------------------------------------------------------------------

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.mono_us + delay_us, self._sequence, action))

    def run_until(self, moment_us: int, is_done: Callable[[], bool] | None = None) -> None:
        """Let time pass until `moment_us`, or until `is_done` says so after some event."""
        self._pump()
        while True:
            own_us = self._events[0][0] if self._events else FOREVER_US
            due_us = min(own_us, self.server.outbox.deadline_us)
            if due_us > moment_us:
                self.mono_us = max(self.mono_us, moment_us)
                self.server.outbox.now = self.now
                return
            self.mono_us = max(self.mono_us, due_us)
            self.server.outbox.now = self.now
            if own_us <= due_us:
                heapq.heappop(self._events)[2]()
            self._pump()
            if is_done is not None and is_done():
                return

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way that no timer waits for."""
        counts = self.server.planning.broker.counts
        waiting = counts.ready + counts.in_flight + counts.second + self.solving
        return bool(waiting or self.log.pending or self._committing) or not self.log.is_leader

    def _pump(self) -> None:
        server = self.server
        server.outbox.now = self.now
        server.outbox.run_due()
        while server.planning.pump():
            pass
        if self.log.pending and not self._committing:
            self._committing, self.log.pending = self.log.pending, []
            self.after(self.rng.randint(*self.timing.commit_us), self._commit)
        for effect in server.outbox.take():
            if isinstance(effect, Compute):
                self._solve(effect)
            elif isinstance(effect, Call):
                self._ask(effect)

    # --- entries ----------------------------------------------------------------------

    def propose(self, *commands: Any, then: Then | None = None) -> None:
        """Propose as somebody at the API would."""
        self.log.propose([*commands], then or (lambda outcome: None))

    def call(self, method: str, body: Any, reply: Callable[[Any, str], None]) -> None:
        """Bring a client's call."""
        self.server.outbox.now = self.now
        self.server.nodes.on_call(method, body, reply)

    def _commit(self) -> None:
        batch, self._committing = self._committing, []
        changes = []
        for commands, then in batch:
            applied = self._apply(commands)
            changes += applied.changes
            then(Outcome(applied))
        if changes and self.log.is_leader:
            self.server.on_applied(changes)

    def _apply(self, commands: list[Any]) -> Applied:
        self.log.applied_index += 1
        self.entries += 1
        self.last_entry_us = self.mono_us
        self.watcher.before_entry(commands)
        data = encode_entry(Entry(wall_us=self.wall_us, commands=commands), self.state.schema)
        applied = self.state.apply(self.log.applied_index, data)
        self.watcher.on_entry(commands, applied)
        return applied

    # --- plans --------------------------------------------------------------------------

    def _solve(self, effect: Compute) -> None:
        # A problem is a picture: it may be solved now and its solution come later.
        solution = effect.problem.solve()
        if isinstance(effect.problem, Problem):
            self.watcher.on_solved(effect.problem, solution)
        self.solving += 1

        def come_back() -> None:
            self.solving -= 1
            self.server.planning.on_computed(Computed(effect.ticket, solution))

        self.after(self.rng.randint(*self.timing.solve_us), come_back)

    def _ask(self, effect: Call) -> None:
        is_there = effect.method == "Agent.Ping" and self.answers_ping(effect.address)
        error = "" if is_there else "timeout"
        delay_us = 1_000 if is_there else effect.timeout_us
        done = CallDone(effect.call_id, error, {"node_id": ""} if is_there else None)
        self.after(delay_us, lambda: self.server.outbox.on_call_done(done))

    # --- leadership ------------------------------------------------------------------------

    def _lead(self) -> None:
        self.log.is_leader = True
        self.last_entry_us = self.mono_us  # who begins to lead has something to do
        self.server.on_leadership(True)

    def lose_leadership(self, *, is_committed: bool, for_us: int) -> str:
        """Stop leading; later another leads, from a snapshot of the state.

        Args:
            is_committed: What is on its way is committed, though nobody learns of it.

        Returns:
            What differs in the restored state, "" when nothing does.
        """
        on_its_way = [*self._committing, *self.log.pending]
        self._committing, self.log.pending = [], []
        self.log.is_leader = False
        self.server.on_leadership(False)
        for commands, then in on_its_way:
            if is_committed:
                self._apply(commands)
            then(Outcome(None, LOST))
        restored = State.restore(list(self.state.image().chunks()))
        differs = "" if restored.hash() == self.state.hash() else "the hash of the state"
        self.log.state = restored
        self.after(for_us, self._lead)
        return differs
