"""The series of a run: numbers over virtual time, sampled between its steps.

Nothing is asked of an agent and no event is added, so a run that is watched is the run that
is not.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from core.model.allocation import ClientStatus
from core.state.state import State
from sim.agents import SimServer, World
from sim.census import Census
from sim.faults import Faults
from sim.traffic import Traffic
from sim.watch import Watch

SAMPLES: Final = 1_200  # at most about so many in a run
STEP_US: Final = 1_000_000

# name -> what a reader is told it is
COLUMNS: Final = {
    "time_s": "virtual time, seconds",
    "nodes_ready": "nodes their datacenter takes for ready",
    "nodes_down": "nodes their datacenter takes for down or disconnected",
    "agents_up": "agents whose process runs",
    "leaders": "datacenters with a leader that serves",
    "instances_running": "instances of groups that really run",
    "instances_wanted": "instances that acknowledged services ask for",
    "reported_running": "allocations whose client reported them running",
    "placements": "allocations placed since the start",
    "queue_ready": "evaluations that wait for the planner",
    "queue_blocked": "evaluations that wait for room",
    "digest_age_s": "oldest digest that any leader holds of another datacenter, seconds",
    "gossip_bytes_per_s": "gossip, estimated from a sample",
    "raft_bytes_per_s": "raft, likewise",
    "calls_bytes_per_s": "calls and their answers, likewise",
    "events_per_s": "events of the simulation in a virtual second",
    "faults_active": "faults that last",
}


class Sample(msgspec.Struct, frozen=True):
    values: tuple[float, ...]

    def get(self, name: str) -> float:
        return self.values[_PLACES[name]]


_PLACES: Final = {name: place for place, name in enumerate(COLUMNS)}


class Observer:
    """Samples a run at intervals that fit its length."""

    def __init__(
        self, world: World, census: Census, faults: Faults, watch: Watch, traffic: Traffic
    ) -> None:
        self.samples: list[Sample] = []
        self.flows: dict[tuple[str, str], int] = traffic.flows
        self.traffic = traffic
        self.watch = watch
        self.listeners: list[Callable[[int], None]] = []  # called with the time at each sample
        self._world = world
        self._census = census
        self._faults = faults
        self._interval_us = STEP_US
        self._due_us = 0
        self._placed: dict[str, tuple[int, int]] = {}  # by server: of earlier lives, of this one
        self._last_us = 0
        self._last_bytes = dict.fromkeys(traffic.bytes_by_kind, 0)
        self._last_events = 0

    def fit(self, end_us: int) -> None:
        """Choose the interval for a run that ends then."""
        steps = -(-end_us // (STEP_US * SAMPLES))
        self._interval_us = STEP_US * max(1, steps)

    def look(self, now_us: int) -> None:
        """Called after each step; samples when it is time."""
        self.watch.look(now_us)
        if now_us >= self._due_us:
            self._due_us = now_us + self._interval_us
            self.samples.append(self._sample(now_us))
            for listener in self.listeners:
                listener(now_us)

    def placements(self) -> int:
        """Return how many allocations all planners placed, those of dead servers too."""
        for agent in self._world.servers:
            if agent.server is not None:
                now = agent.server.server.measures.placements
                earlier, last = self._placed.get(agent.name, (0, 0))
                self._placed[agent.name] = (earlier + last if now < last else earlier, now)
        return sum(earlier + last for earlier, last in self._placed.values())

    def states(self) -> Iterator[State]:
        for _, state in self.watch.leading().values():
            yield state

    def reported(self, status: ClientStatus) -> int:
        """Return how many allocations have a status in the states, collected ones too."""
        return sum(
            int(state.jobs.columns.counts[: state.jobs.columns.length, status].sum())
            for state in self.states()
        )

    def _sample(self, now_us: int) -> Sample:
        world, census = self._world, self._census
        leading = self.watch.leading()
        ready = blocked = queued = age_us = 0
        for agent, state in leading.values():
            columns, length = state.nodes.columns, len(state.nodes)
            ready += int(columns.is_ready[:length].sum())
            queued += _queue(agent)[0]
            blocked += _queue(agent)[1]
            age_us = max(age_us, _digest_age_us(agent, now_us))
        span_s = max(1e-6, (now_us - self._last_us) / 1e6)
        rates = []
        for kind, total in self.traffic.bytes_by_kind.items():
            rates.append((total - self._last_bytes[kind]) / span_s)
            self._last_bytes[kind] = total
        events = (world.wheel.events - self._last_events) / span_s
        self._last_events, self._last_us = world.wheel.events, now_us
        return Sample(
            (
                now_us / 1e6,
                ready,
                self.watch.down,
                sum(agent.machine is not None for agent in world.agents.values()),
                len(leading),
                census.running,
                census.wanted,
                self.reported(ClientStatus.RUNNING),
                self.placements(),
                queued,
                blocked,
                age_us / 1e6,
                *rates,
                events,
                len(self._faults.active),
            )
        )


def _queue(agent: SimServer) -> tuple[int, int]:
    assert agent.server is not None
    measures = agent.server.server.measures
    return measures.queue_ready + measures.queue_waiting, measures.queue_blocked


def _digest_age_us(agent: SimServer, now_us: int) -> int:
    assert agent.server is not None
    views = agent.server.server.membership.wan.digests(agent.now().mono_us)
    own = agent.server.datacenter_id
    return max((view.age_us for view in views if view.origin != own), default=0)
