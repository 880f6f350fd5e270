"""Runs a scenario: builds the world, plays jobs and faults, checks, and sums up."""

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import msgspec

from core.scheduler import kernel
from sim.agents import SimAgent, World
from sim.build import build_agents
from sim.calling import Calls
from sim.census import Census
from sim.checkers import Checkers
from sim.faults import FaultError, Faults
from sim.goals import GoalResult, Goals
from sim.observer import Observer
from sim.plans import Scenario
from sim.schedule import concrete_faults
from sim.starting import Beginning, FullSync, in_words
from sim.trace import Trace
from sim.traffic import Traffic
from sim.watch import Watch
from sim.workload import Workload

STEP_US: Final = 1_000_000


class Summary(msgspec.Struct, kw_only=True):
    """What a run did and found."""

    scenario: str
    seed: int
    sim_s: float
    wall_s: float
    events: int
    trace_hash: str
    state_hashes: dict[str, str]
    agents: int
    nodes: int
    faults: dict[str, int]
    jobs_submitted: int
    jobs_acknowledged: int
    jobs_refused: dict[str, str]
    operator_refused: dict[str, str]
    checked: dict[str, int]
    unchecked: list[str]  # checkers that had nothing to look at
    violations: list[str]
    goals: list[GoalResult]
    halts: list[str]
    lost: dict[str, int]
    tasks_started: int
    instances_running: int
    placements: int
    detection_s: list[float]
    heal_s: list[float]
    false_deaths: int
    armed_s: float = 0.0  # from when on invariants were checked, where it began from snapshots

    @property
    def is_ok(self) -> bool:
        return not self.violations and not self.halts and all(goal.is_met for goal in self.goals)

    def as_json(self, command: str) -> bytes:
        """Return everything, with the verdict and the command that repeats the run."""
        told = {"command": command, "is_ok": self.is_ok, **msgspec.to_builtins(self)}
        return msgspec.json.encode(told)


class Progress(msgspec.Struct):
    """How far a run is: what a terminal shows."""

    sim_s: float
    end_s: float
    events: int
    run: "Run"


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Search for garbage seldom: what a run holds is millions of records that live to its end."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class Run:
    """One run of one scenario with one seed.

    Args:
        scenario: What to play.
        seed: Of all randomness; None: the scenario's own.
        trace_file: Takes the lines of the trace.
        is_wire: Real bytes between agents, with the same trace.
        is_compiled: Whether placement is compiled, with the same trace; None: where a
            datacenter is large enough for a real agent to do it.

    Raises:
        FaultError: A fault names what does not exist.
        ValueError: A rate gives more faults than a run could hold.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int | None = None,
        trace_file: BinaryIO | None = None,
        *,
        is_wire: bool = False,
        is_compiled: bool | None = None,
    ) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.trace = Trace(trace_file)
        self.world = World(self.seed, self.trace, is_wire=is_wire)
        self.census = Census()
        self.workload = Workload(
            self.world, scenario, self.census, random.Random(f"{self.seed}/run")
        )
        self.faults = Faults(self.world, random.Random(f"{self.seed}/faults"), self.workload)
        self.calls = Calls(self.world, self.workload, random.Random(f"{self.seed}/calls"))
        self.checkers = Checkers(self.world, self.census, self.workload, self.faults)
        self.traffic = Traffic(self.seed, scenario.server_count + scenario.node_count)
        self.watch = Watch(self.world, self.census, self.faults)
        self.observer = Observer(self.world, self.census, self.faults, self.watch, self.traffic)
        self.goals = Goals(
            scenario.goals, self.world.wheel, self.census, self.workload, self.faults, self.observer
        )
        self.end_us = 0
        self.armed_s = 0.0  # from when on invariants are checked
        if is_compiled is None:
            is_compiled = _largest_datacenter(scenario) >= kernel.WORTH_NODES
        self._is_compiled = is_compiled
        self._rng = random.Random(f"{self.seed}/starts")

    def prepare(self) -> None:
        """Build the world and plan all that will happen in it.

        Raises:
            SourceError: A job file of the scenario does not parse.
        """
        wheel = self.world.wheel
        if self._is_compiled:
            kernel.load()  # without numba the plans are the same
        else:
            kernel.unload()
        beginnings = Beginning.all_of(self.scenario)
        for agent in build_agents(self.world, self.scenario, beginnings):
            if not agent.is_left_off:
                wheel.at(int(self._rng.random() * self.scenario.start_spread_us), _start, agent)
        for number, client in enumerate(self.world.clients):
            client.tasks.report_to(self.census, number, client.place.region)
        self._begin(beginnings)
        for fault in concrete_faults(self.scenario, self.seed):
            self.faults.plan(fault)
        planned_us = max(
            self.scenario.duration_us, self.faults.last_end_us + self.scenario.settle_us
        )
        self.end_us = self.scenario.until_us or planned_us
        self.workload.plan(planned_us)
        self.calls.plan(self.scenario.calls, planned_us)
        self.goals.plan()
        if beginnings:
            sites = [(one.plan.region, one.plan.name) for one in beginnings]
            FullSync(self.world, sites, self._arm)
        else:
            self.checkers.start()
        self.observer.fit(self.end_us)
        self.world.network.sample_with(self.traffic.take)

    def _begin(self, beginnings: list[Beginning]) -> None:
        """Fill disks and nodes of datacenters that begin from snapshots."""
        known = {one.start.datacenter_id for one in beginnings}
        clients = {client.node_id: client for client in self.world.clients if client.node_id}
        for one in beginnings:  # before anything runs: it says how instances are told apart
            one.begin_workload(self.workload, known)
        for one in beginnings:
            site = (one.plan.region, one.plan.name)
            one.fill_disks([server for server in self.world.servers if server.site == site])
            one.fill_nodes(clients)

    def _arm(self, missing: list[str]) -> None:
        """All that began from snapshots is in sync (but for these): check from now on."""
        self.armed_s = self.world.wheel.now_us / 1e6
        self.checkers.arm(in_words(missing) if missing else "")

    def play(self, progress: Callable[[Progress], None] | None = None) -> Summary:
        """Run to the end and return the summary. Raises what `prepare` does."""
        started = time.perf_counter()
        self.prepare()
        wheel = self.world.wheel
        with _rare_collections():
            while wheel.now_us < self.end_us:
                wheel.run_until(min(self.end_us, wheel.now_us + STEP_US))
                self.observer.look(wheel.now_us)
                self.world.rest()
                if progress is not None:
                    now_s, end_s = wheel.now_us / 1e6, self.end_us / 1e6
                    progress(Progress(now_s, end_s, wheel.events, self))
        if self.checkers.is_armed:
            self.checkers.check(is_end=True)
        self.checkers.check_kept(self.workload.kept())
        return self._summary(self.goals.results(), time.perf_counter() - started)

    def _summary(self, goals: list[GoalResult], wall_s: float) -> Summary:
        world = self.world
        return Summary(
            scenario=self.scenario.name,
            seed=self.seed,
            sim_s=world.wheel.now_us / 1e6,
            wall_s=round(wall_s, 3),
            events=world.wheel.events,
            trace_hash=self.trace.hexdigest(),
            state_hashes=self.checkers.state_hashes(),
            agents=len(world.agents),
            nodes=len(world.clients),
            faults=self.faults.injected,
            jobs_submitted=self.workload.submitted,
            jobs_acknowledged=self.workload.calls,
            jobs_refused=self.workload.refused,
            operator_refused=self.workload.denied,
            checked=self.checkers.checked,
            unchecked=[name for name, times in self.checkers.checked.items() if not times],
            violations=self.checkers.violations,
            goals=goals,
            halts=[f"{at / 1e6:.3f}s {name}: {why}" for at, name, why in world.halts],
            lost=world.network.lost,
            tasks_started=self.census.starts,
            instances_running=self.census.running,
            placements=self.observer.placements(),
            detection_s=[round(us / 1e6, 3) for us in self.watch.detections_us],
            heal_s=[round(took_us / 1e6, 3) for _, _, took_us in self.watch.heals_us],
            false_deaths=self.watch.false_deaths,
            armed_s=self.armed_s,
        )


def _largest_datacenter(scenario: Scenario) -> int:
    return max(plan.node_count for plan in scenario.datacenters)


def _start(agent: SimAgent) -> None:
    agent.start()


__all__ = ["FaultError", "Progress", "Run", "Summary"]
