"""Time, a network and the servers of one simulated datacenter.

Time is in microseconds of nobody's clock; every server has a clock of its own, whose rate
may differ. Events have a total order (time, sequence). All randomness comes from `rng`.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from raft.core import Change, ChangeKind, Configuration, Role, Settings
from raft.engine import DEFAULT, Engine
from raft.messages import Message, SnapshotChunk
from sim.raft.host import Host
from sim.raft.watch import Watch
from sim.seeds import Violation

SECOND_US: Final = 1_000_000
EVENTS_MAX: Final = 400_000  # of one `run`; many times what a seed needs
LEADER_US: Final = 20 * SECOND_US

# Small bounds, so that windows fill, batches split and snapshots come in many chunks.
SETTINGS: Final = Settings(
    trailing_entries=5, chunk_bytes=1500, append_bytes=600, inflight_appends=4, promotion_lag=50
)


class World:
    """Servers `a`, `b`, ... and what is between them. Server `a` begins the cluster."""

    def __init__(
        self,
        seed: int,
        size: int = 3,
        *,
        settings: Settings | None = None,
        engine: str = DEFAULT,
        is_black_box: bool = False,
        first: Sequence[bytes] = (),
    ) -> None:
        """Build it.

        Args:
            first: The cluster's first commands, encoded.
            is_black_box: Look only at what clients see, not at messages, disks and logs.
        """
        self.rng = random.Random(f"raft/{seed}")
        self.settings = settings or SETTINGS
        self.engine = engine
        self.now_us = 0
        self.wall_leap_us = 0  # of all wall clocks together
        self.faults: Counter[str] = Counter()
        self.situations: Counter[str] = Counter()
        self.busy_clients = 0
        self.answers = 0  # that clients got
        self.watch = Watch(self, is_black_box=is_black_box)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

        self.loss = self.duplication = 0.0
        self.delay_us = (200, 2_000)
        self.extra_delay_us: dict[tuple[str, str], int] = {}
        self.cut: set[tuple[str, str]] = set()  # only looked up
        self.newest_chunk = (0, "", "")  # of a snapshot: when, from whom, to whom
        self._arrived: dict[tuple[str, str], int] = {}  # the newest message that came through

        names = [chr(ord("a") + i) for i in range(size)]
        self.hosts: dict[str, Host] = {}
        for name in names:
            self.add_host(name)
        self._members = names
        self._members_index = 0
        self.watch.calls.update((data, f"first.{i}") for i, data in enumerate(first))
        self.hosts["a"].bootstrap(Configuration.of({name: f"{name}:1" for name in names}), first)

    def on_members(self, index: int, configuration: Configuration) -> None:
        """A configuration was committed."""
        if index > self._members_index:
            self._members_index = index
            self._members = list(configuration.addresses)

    # --- time -------------------------------------------------------------------------

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._sequence, action, arguments))

    def run(self, duration_us: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; say whether `until` came true."""
        end_us = self.now_us + duration_us
        queue = self._queue
        pop = heapq.heappop
        began = self._sequence
        while queue and queue[0][0] <= end_us:
            if until is not None and until():
                return True
            self.now_us, _, action, arguments = pop(queue)
            action(*arguments)
            if self._sequence - began > EVENTS_MAX:
                text = f"{EVENTS_MAX} events before {end_us} us: {self.story()}"
                raise Violation("liveness", text)
        self.now_us = end_us
        return until is not None and until()

    @property
    def wall_us(self) -> int:
        return self.now_us + self.wall_leap_us

    # --- network ----------------------------------------------------------------------

    def send(self, sender: str, to: str, message: Message) -> None:
        """Bring a message over: late, twice, out of order, or not at all."""
        if to not in self.hosts:
            return
        if isinstance(message, SnapshotChunk) and message.data:
            self.newest_chunk = (self.now_us, sender, to)
        rng = self.rng
        copies = 1
        if self.duplication and rng.random() < self.duplication:
            copies = 2
            self.faults["message duplicated"] += 1
        for _ in range(copies):
            if self.loss and rng.random() < self.loss:
                self.faults["message lost"] += 1
                continue
            low, high = self.delay_us
            delay_us = low + int(rng.random() * (high - low))
            if self.extra_delay_us:
                extra_us = self.extra_delay_us.get((sender, to), 0)
                if extra_us:
                    delay_us += int(rng.random() * extra_us)
                    self.faults["message delayed"] += 1
            self.after(delay_us, self._arrive, self._sequence, sender, to, message)

    def _arrive(self, number: int, sender: str, to: str, message: Message) -> None:
        link = (sender, to)
        if link in self.cut:
            self.faults["message cut off"] += 1
            return
        if self._arrived.get(link, 0) > number:
            self.faults["message reordered"] += 1
        else:
            self._arrived[link] = number
        host = self.hosts[to]
        host.after(0, host.on_message, sender, message)

    def sever(self, group: list[str]) -> None:
        """Cut `group` off from the others, both ways."""
        for one in self.hosts:
            for other in self.hosts:
                if (one in group) != (other in group):
                    self.cut.add((one, other))

    def heal(self) -> None:
        """The network is as new."""
        self.cut.clear()
        self.extra_delay_us.clear()
        self.loss = self.duplication = 0.0
        self.delay_us = (200, 2_000)

    # --- servers ----------------------------------------------------------------------

    def add_host(self, name: str) -> Host:
        """Start an empty server that waits to be contacted."""
        host = self.hosts[name] = Host(self, name, random.Random(self.rng.getrandbits(64)))
        host.start()
        return host

    def leader(self) -> Engine | None:
        """Return the newest leader that has committed in its term."""
        best: Engine | None = None
        for host in self.hosts.values():
            engine = host.engine
            if engine is None or engine.role is not Role.LEADER:
                continue
            if engine.commit_index >= engine.term_start_index:
                if best is None or engine.term > best.term:
                    best = engine
        return best

    def leading(self) -> list[Host]:
        """Return the hosts that take themselves for leaders, also those who lead no more."""
        return [
            host
            for host in self.hosts.values()
            if host.engine is not None and host.engine.role is Role.LEADER
        ]

    def wait_for_leader(self) -> Engine:
        """Let time pass until somebody leads."""
        self.run(LEADER_US, lambda: self.leader() is not None)
        leader = self.leader()
        if leader is None:
            raise Violation("liveness", f"no leader within {LEADER_US} us: {self.story()}")
        return leader

    def change(self, kind: ChangeKind, replica_id: str, host: Host | None = None) -> bool:
        """Ask `host`, else the leader, for a change of membership; say whether it was begun."""
        engine = self.leader() if host is None else host.engine
        if engine is None:
            return False
        host = self.hosts[engine.replica_id]
        address = f"{replica_id}:{self.rng.randrange(1, 1 << 16)}"
        index = engine.change_membership(Change(kind, replica_id, address), host.now_us)
        if index is None:
            self.watch.situations.on_refused(engine)
        host.pump()
        return index is not None

    def hand_over(self, to: str = "", host: Host | None = None) -> bool:
        """Ask `host`, else the leader, to hand over; say whether it was begun."""
        engine = self.leader() if host is None else host.engine
        if engine is None:
            return False
        host = self.hosts[engine.replica_id]
        begun = engine.transfer_leadership(to, host.now_us)
        if begun:
            self.watch.situations.on_hand_over(host.name, engine.transfer_to)
        host.pump()
        return begun

    def member_names(self) -> list[str]:
        """Return who takes part by the newest configuration that somebody committed."""
        return self._members

    def mend(self) -> None:
        """Undo every fault and start whoever is down."""
        self.heal()
        for host in self.hosts.values():
            host.disk.is_full = host.disk.is_sync_failing = False
            host.disk.is_flipping = False
            host.write_us = 2_000
            host.go_on()
            host.spare()
            if host.engine is None:
                host.start()

    def is_at_rest(self) -> bool:
        """All members stand where the leader does, and nothing is under way."""
        leader = self.leader()
        if leader is None or leader.transfer_to or leader.commit_index < leader.last_index:
            return False
        return all(
            self.hosts[name].applied_index == leader.last_index
            for name in leader.configuration.addresses
        )

    def come_to_rest(self, limit_us: int) -> None:
        """After `mend`: all replicas agree, and nothing acknowledged is missing.

        Raises:
            Violation: They don't, or not in time.
        """
        if not self.run(limit_us, self.is_at_rest):
            raise Violation(
                "liveness", f"not at rest {limit_us / 1e6:g} s after healing: {self.story()}"
            )
        leader = self.leader()
        assert leader is not None
        self.watch.check_end(leader)

    def story(self) -> str:
        """Return one line a server, for a failed check."""
        return "; ".join(host.story() for host in self.hosts.values())
