"""One datacenter: two servers around one log, with everything that ships but Raft and gossip.

The parts are the shipped ones (core.server's routing, endpoints, planning, calls of clients,
and core.federation's coordinator) in the shipped `Server`; the state is the real one, and
every command reaches it as the bytes of a log entry. Played here is what surrounds them: an
entry that is proposed is committed a little later; a leader may be replaced, and then what
was in its memory is lost, what was on its way is committed or not without anybody being
told, and for a moment the old one may take itself for the leader still, with the state as
it was.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.federation.lifecycle import SetDatacenterDrain
from core.federation.lifecycle import is_draining as is_drained
from core.model.host import FOREVER_US, Call, CallDone, Now, Peer
from core.model.query import Answer, Query
from core.server.changes import watched_keys
from core.server.config import LimitsConfig, LivenessConfig, ServerConfig
from core.server.consensus import Consensus
from core.server.context import Server
from core.server.effects import Compute, Computed
from core.server.federation_host import FederatedDatacenter
from core.server.parts import add_parts
from core.server.proposal import LOST, Outcome, Then
from core.server.routing import AT_LEADER, NOT_LEADER, Router, as_query
from core.state.commands import Barrier, Bootstrap, Entry, RecordCall
from core.state.entry import encode_entry
from core.state.state import State
from sim.federation.clients import Clients
from sim.federation.neighbours import Neighbours
from sim.federation.world import BEGIN_US, Reply, S, World

if TYPE_CHECKING:
    from core.state.result import Change

SERVERS: Final = 2
SOLVE_US: Final = (1_000, 30_000)
FAST_US: Final = (1_000, 15_000)  # of a commit
_FOREVER: Final = 1_000_000 * S
# Who waits for a list waits for it: an answer for want of time would hide a change missed.
_LIMITS: Final = LimitsConfig(blocking_max_us=_FOREVER)
_LIVENESS: Final = LivenessConfig(renew_us=_FOREVER, grace_us=_FOREVER, check_interval_us=_FOREVER)


class _Proposal(NamedTuple):
    data: bytes
    commands: list[Any]
    call: RecordCall | None
    then: Then


class SimulatedLog(Consensus):
    """Stands where a server has Raft. What callers write is proposed as the shipped class does."""

    def __init__(self, host: "ServerHost", state: State) -> None:
        self._host = host
        self.state = state
        self.is_serving = False
        self.pending: list[_Proposal] = []

    @property
    def is_leader(self) -> bool:
        return self.is_serving

    @property
    def applied_index(self) -> int:  # type: ignore[override]
        return self._host.datacenter.applied_index

    @property
    def term(self) -> int:
        return self._host.datacenter.term

    def voters(self) -> list[str]:
        return []

    def leader_address(self) -> str:
        leader = self._host.datacenter.leader
        return leader.address if leader is not None else ""

    def last_contact_ms(self) -> int:
        return 0

    def propose(self, commands: list[Any], then: Then, call: RecordCall | None = None) -> None:
        if not self.is_serving:
            then(Outcome(None, NOT_LEADER))
            return
        entry = Entry(wall_us=self._host.now.wall_us, commands=commands, call=call)
        data = encode_entry(entry, self.state.schema)
        self.pending.append(_Proposal(data, commands, call, then))

    def read_barrier(self, then: Callable[[bool], None]) -> None:
        """Ask the log: who was deposed and does not know it gets no answer but "no"."""
        host = self._host
        is_true = host.datacenter.leader is host and self.is_serving
        host.world.after(1_000, lambda: host.run(lambda: then(is_true)))


class ServerHost:
    """One server process of a datacenter."""

    def __init__(self, datacenter: "Datacenter", number: int) -> None:
        self.datacenter = datacenter
        self.world = datacenter.world
        self.number = number
        self.address = f"{datacenter.id}/{number}"
        self.life = 0
        self.is_up = True
        self._armed_us = FOREVER_US
        self.start()

    @property
    def now(self) -> Now:
        return self.datacenter.now

    def start(self) -> None:
        """Begin a new life: all that was in memory is gone."""
        self.life += 1
        self.is_up = True
        self._armed_us = FOREVER_US
        datacenter = self.datacenter
        rng = random.Random(f"{self.world.seed}/{self.address}/{self.life}")
        config = ServerConfig(
            name=f"s{self.number}", server_id=self.address, region=datacenter.region,
            datacenter=datacenter.name, rpc_addr=self.address, liveness=_LIVENESS, limits=_LIMITS,
        )  # fmt: skip
        server = self.server = Server(config, rng, self.now)
        self.log = SimulatedLog(self, datacenter.state)
        server.consensus = self.log
        server.membership = Neighbours(self)  # type: ignore[assignment]
        add_parts(server, rng)
        server.router = Router(server)
        server.federation = FederatedDatacenter(server)
        server.leading = [
            server.system_jobs, server.planning, server.deployments, server.liveness,
            server.draining, server.federation,
        ]  # fmt: skip

    def stop(self) -> None:
        """The process is gone, and so is what was under way for it."""
        self.is_up = False
        self.life += 1
        self.log.is_serving = False
        self.log.pending.clear()

    # --- events -----------------------------------------------------------------------

    def run(self, action: Callable[[], None]) -> None:
        """Let something happen in the server, then what follows of it."""
        if not self.is_up:
            return
        self.server.outbox.now = self.now
        action()
        self._settle()

    def on_call_done(self, call_id: int, body: Any, error: str) -> None:
        self.run(lambda: self.server.outbox.on_call_done(CallDone(call_id, error, body)))

    def on_request(self, method: str, body: Any, source: Peer, answer: Reply) -> None:
        """Take a call of another server, as core.server.machine does."""
        life = self.life

        def reply(body: Any, error: str = "") -> None:
            if self.life == life:
                answer(body, error)

        self.world.watch.situations.on_call(self.datacenter, method, body)
        self.run(lambda: self._dispatch(method, body, source, reply))

    def _dispatch(self, method: str, body: Any, source: Peer, reply: Callable[..., None]) -> None:
        router = self.server.router
        if method == "Query":
            router.on_query(as_query(body), reply)
        elif method == AT_LEADER:
            router.on_query_at_leader(as_query(body), reply, lambda: reply(None, NOT_LEADER))
        elif not self.server.federation.on_call(method, body, source, reply):
            reply(None, f"a server has no method {method!r}")

    def on_query(self, query: Query, respond: Callable[[Answer], None]) -> None:
        """A user's request at this server's HTTP port."""
        life = self.life

        def answer(given: Answer) -> None:
            if self.life == life:
                respond(given)

        self.run(lambda: self.server.router.on_query(query, answer))

    def lead(self) -> None:
        self._follow(self.datacenter.state)
        self.log.is_serving = True
        self.run(lambda: self.server.on_leadership(True))

    def step_down(self, life: int) -> None:
        """Learn that another leads: what was proposed here may have been committed or not."""
        if life != self.life or self.datacenter.leader is self:
            return  # gone, or elected anew meanwhile
        lost, self.log.pending = self.log.pending, []
        self.log.is_serving = False
        self._follow(self.datacenter.state)

        def learn() -> None:
            self.server.on_leadership(False)
            for one in lost:
                one.then(Outcome(None, LOST))

        self.run(learn)

    def _follow(self, state: State) -> None:
        """Have the state as it is now; another one comes like a snapshot."""
        if self.log.state is not state:
            self.log.state = state
            self.run(self.server.on_replaced)

    def fall_behind(self, for_us: int) -> bool:
        """Hear of no entry for a while; False when it can't, for it leads or is not there."""
        state, life = self.datacenter.state, self.life
        if not self.is_up or self.datacenter.leader is self or self.log.state is not state:
            return False
        self.log.state = State.restore(list(state.image().chunks()))

        def catch_up() -> None:
            if life == self.life and not self.log.is_serving:
                self._follow(self.datacenter.state)

        self.world.after(for_us, catch_up)
        return True

    def on_touched(self, keys: dict[str, None]) -> None:
        """Entries were applied that touched these keys: wake who waits for them here."""
        if self.is_up and self.log.state is self.datacenter.state:
            self.run(lambda: self.server.blocking.on_changed(keys))

    # --- inside -------------------------------------------------------------------------

    def _settle(self) -> None:
        server = self.server
        server.outbox.run_due()
        while server.planning.pump():
            pass
        if self.log.pending and self.datacenter.leader is self:
            self.datacenter.commit_soon()
        for effect in server.outbox.take():
            if isinstance(effect, Call):
                self.world.call(self, effect)
            elif isinstance(effect, Compute):
                self._solve(effect)
        self._arm()

    def _solve(self, effect: Compute) -> None:
        solution = effect.problem.solve()
        life = self.life

        def come_back() -> None:
            if self.life == life:
                computed = Computed(effect.ticket, solution)
                self.run(lambda: self.server.planning.on_computed(computed))

        self.world.after(self.world.rng.randint(*SOLVE_US), come_back)

    def _arm(self) -> None:
        due_us = self.datacenter.true_us(self.server.outbox.deadline_us)
        if due_us < self._armed_us:
            self._armed_us = due_us
            self.world.at(due_us, self._tick, self.life, due_us)

    def _tick(self, life: int, due_us: int) -> None:
        if (life, due_us) == (self.life, self._armed_us):
            self._armed_us = FOREVER_US
            self.run(lambda: None)


class Datacenter:
    """The log, who leads, the clock, and the nodes. `heard` is what gossip brought."""

    def __init__(
        self, world: World, id: str, name: str, region: str, *, is_authority: bool, slots: int,
        wall_offset_us: int = 0,
    ) -> None:  # fmt: skip
        self.world, self.id, self.name, self.region = world, id, name, region
        self.rng = random.Random(f"{world.seed}/{id}")
        self.state = State()
        self.applied_index = 0
        self.term = 1
        self.leader: ServerHost | None = None
        self.heard: dict[str, tuple[int, int, bytes, int]] = {}
        self.commit_us = FAST_US
        self.wall_offset_us = wall_offset_us
        self.rate_ppm = 0
        self.slots = slots
        self._shall_drain = False
        self._sequence = 0
        self._committing: list[_Proposal] = []
        world.datacenters[id] = self
        self.servers = [ServerHost(self, number) for number in range(SERVERS)]
        self.clients = Clients(self, slots)
        first = Bootstrap(datacenter_id=id, region=region, datacenter=name,
                          is_authority=is_authority)  # fmt: skip
        self._apply([first, *self.clients.registrations()], None)
        self._lead(self.servers[0])
        self._publish()

    @property
    def title(self) -> str:
        return f"{self.region}/{self.name}"

    @property
    def is_up(self) -> bool:
        return self.leader is not None

    @property
    def now(self) -> Now:
        true_us = self.world.now_us
        mono_us = true_us + true_us * self.rate_ppm // 1_000_000
        return Now(mono_us, BEGIN_US + true_us + self.wall_offset_us)

    def true_us(self, mono_us: int) -> int:
        """Return when this datacenter's monotonic clock shows so much."""
        if not self.rate_ppm or mono_us >= FOREVER_US:
            return mono_us
        return mono_us * 1_000_000 // (1_000_000 + self.rate_ppm) + 1

    # --- the log --------------------------------------------------------------------------

    def commit_soon(self) -> None:
        leader = self.leader
        if self._committing or leader is None or not leader.log.pending:
            return
        self._committing, leader.log.pending = leader.log.pending, []
        term = self.term

        def commit() -> None:
            if self.term == term and self.leader is leader:
                leader.run(lambda: self._commit(leader))

        self.world.after(self.rng.randint(*self.commit_us), commit)

    def _commit(self, leader: ServerHost) -> None:
        batch, self._committing = self._committing, []
        changes: list[Change] = []
        for one in batch:
            changes += self._apply_one(one, leader)
        if changes:
            leader.server.on_applied(changes)
            self._wake(changes)
        self.clients.look_soon()

    def _wake(self, changes: "list[Change]") -> None:
        """Wake the queries that wait for these changes, at whichever server they are parked."""
        watched = [host for host in self.servers if host.server.blocking.is_watched]
        if watched:
            keys = watched_keys(self.state, changes)
            for host in watched:
                self.world.after(0, host.on_touched, keys)

    def _apply_one(self, one: _Proposal, leader: ServerHost | None) -> "list[Change]":
        self.applied_index += 1
        applied = self.state.apply(self.applied_index, one.data)
        self.world.watch.on_entry(self, one.commands, one.call, applied)
        if leader is not None:
            one.then(Outcome(applied))
        return applied.changes

    def _apply(self, commands: list[Any], call: RecordCall | None) -> None:
        entry = Entry(wall_us=self.now.wall_us, commands=commands, call=call)
        data = encode_entry(entry, self.state.schema)
        self._apply_one(_Proposal(data, commands, call, lambda outcome: None), None)

    def _apply_unheard(self, entries: list[_Proposal]) -> None:
        """Entries are committed of which whoever proposed them is told nothing."""
        changes = [change for one in entries for change in self._apply_one(one, None)]
        if changes:
            self._wake(changes)

    # --- leadership -----------------------------------------------------------------------

    def _lead(self, host: ServerHost) -> None:
        if host.log.is_serving:
            host.step_down(host.life)  # who is elected knows that others led meanwhile
        self.leader = host
        self._apply([Barrier()], None)
        host.lead()
        self.clients.look_soon()

    def change_leader(self, *, is_committed: bool, is_restored: bool, unaware_us: int) -> None:
        """Replace the leader.

        Args:
            is_committed: What was on its way is committed all the same; nobody is told.
            is_restored: The next leader has its state from a snapshot.
            unaware_us: So long the old one takes itself for the leader, 0 = not at all.
        """
        old = self.leader
        if old is None:
            return
        self.world.watch.situations.on_leader_lost(self)
        self.world.watch.rollouts.on_leader_lost(self)
        self.term += 1
        self.leader = None
        on_its_way = [*self._committing, *old.log.pending]
        self._committing = []
        if is_committed:
            self._apply_unheard(on_its_way)
        if is_restored or unaware_us:
            restored = State.restore(list(self.state.image().chunks()))
            self.world.watch.on_restored(self, restored)
            if unaware_us:
                old.log.state = restored  # it hears of no entry any more
            else:
                self.state = restored
        old.log.pending = on_its_way
        life = old.life
        if unaware_us:
            self.world.after(unaware_us, lambda: old.step_down(life))
        else:
            old.step_down(life)
        term = self.term

        def elected() -> None:
            if self.term == term and self.leader is None:
                others = [host for host in self.servers if host is not old and host.is_up]
                self._lead(others[0] if others else old)

        self.world.after(self.rng.randint(150_000, 1_500_000), elected)

    def crash(self, for_us: int) -> None:
        """All servers die; the nodes work on. They are back after a while."""
        if self.leader is not None and self.rng.random() < 0.5:
            self._apply_unheard(self._committing)
        self.term += 1
        self.leader = None
        self._committing = []
        for host in self.servers:
            host.stop()
        self.heard.clear()
        term = self.term
        self.world.after(for_us, lambda: self._return(term))

    def _return(self, term: int) -> None:
        if self.term != term:
            return
        self.state = State.restore(list(self.state.image().chunks()))
        for host in self.servers:
            host.start()
        self._lead(self.rng.choice(self.servers))

    def drain(self, *, is_draining: bool) -> None:
        """Have an operator begin or end a drain, who tries until it is so."""
        self._shall_drain = is_draining
        self._try_drain(is_draining)

    def _try_drain(self, is_draining: bool) -> None:
        leader = self.leader
        if is_draining != self._shall_drain or is_drained(self.state) == is_draining:
            return
        if leader is not None:
            command = SetDatacenterDrain(is_draining=is_draining)
            leader.run(lambda: leader.log.propose([command], lambda outcome: None))
        self.world.after(2 * S, self._try_drain, is_draining)

    def mend(self) -> None:
        self.drain(is_draining=False)
        self.commit_us = FAST_US
        self.clients.mend()
        if not self.servers[0].is_up:
            self._return(self.term)

    # --- gossip ---------------------------------------------------------------------------

    def _publish(self) -> None:
        leader = self.leader
        if leader is not None:
            data = leader.server.federation.digest()
            if data:
                self._sequence += 1
                self.world.publish(self, self.term, self._sequence, data)
        self.world.after((15 if self.world.is_quiet else 5) * S, self._publish)
