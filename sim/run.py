"""Runs a scenario: builds the world, plays jobs and faults, checks, and sums up."""

import os
import random
import time
from collections.abc import Callable
from typing import BinaryIO, Final

import msgspec

from core.jobspec.diagnostics import SourceError
from core.jobspec.parse import parse_job
from core.model.query import Answer, Query
from sim.agents import SimAgent, SimServer, World
from sim.build import build_agents
from sim.checkers import Checkers
from sim.faults import FaultError, Faults
from sim.scenario import GoalPlan, JobPlan, Scenario, StopPlan
from sim.trace import Trace

START_SPREAD_US: Final = 500_000
REGISTER_RETRY_US: Final = 1_000_000
REGISTER_TRIES: Final = 60
REGISTER_TIMEOUT_US: Final = 20_000_000  # an agent that died meanwhile answers nothing


class GoalResult(msgspec.Struct):
    text: str
    is_met: bool
    measured: str


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
    jobs_acknowledged: int
    jobs_refused: dict[str, str]
    checked: dict[str, int]
    violations: list[str]
    goals: list[GoalResult]
    halts: list[str]
    lost: dict[str, int]
    tasks_started: int

    @property
    def is_ok(self) -> bool:
        return not self.violations and not self.halts and all(goal.is_met for goal in self.goals)


class Run:
    """One run of one scenario with one seed."""

    def __init__(
        self, scenario: Scenario, seed: int | None = None, trace_file: BinaryIO | None = None
    ) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.trace = Trace(trace_file)
        self.world = World(self.seed, self.trace)
        self.checkers = Checkers(self.world)
        self.faults = Faults(self.world, random.Random(f"{self.seed}/faults"))
        self.acknowledged: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self._goals: list[GoalResult] = []
        self._rng = random.Random(f"{self.seed}/run")

    def play(self, progress: Callable[[float, int], None] | None = None) -> Summary:
        """Run to the end and return the summary.

        Raises:
            SourceError: A job file of the scenario does not parse.
            FaultError: A fault names what does not exist.
        """
        started = time.perf_counter()
        agents = build_agents(self.world, self.scenario)
        wheel = self.world.wheel
        for agent in agents:
            wheel.at(int(self._rng.random() * START_SPREAD_US), _starter(agent))
        for job in self.scenario.jobs:
            self._plan_job(job)
        for stop in self.scenario.stops:
            self._plan_stop(stop)
        for fault in self.scenario.faults:
            self.faults.plan(fault)
        for goal in self.scenario.goals:
            if goal.at_us >= 0:
                wheel.at(goal.at_us, self._judge, goal)
        self.checkers.start()
        end_us = self.scenario.until_us or max(
            self.scenario.duration_us, self.faults.last_end_us + self.scenario.settle_us
        )
        step_us = 1_000_000
        while wheel.now_us < end_us:
            wheel.run_until(min(end_us, wheel.now_us + step_us))
            if progress is not None:
                progress(wheel.now_us / 1e6, wheel.events)
        self.checkers.check()
        self.checkers.check_kept(self.kept_jobs())
        for goal in self.scenario.goals:
            if goal.at_us < 0:
                self._judge(goal)
        return self._summary(time.perf_counter() - started)

    # --- jobs -----------------------------------------------------------------------------

    def _plan_job(self, plan: JobPlan) -> None:
        path = os.path.join(self.scenario.folder, plan.file)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise SourceError.of_file(path, f"job file can't be read: {error.strerror}") from None
        parsed = parse_job(text, filename=path, variables=plan.variables)
        for copy in range(1, plan.copies + 1):
            name = plan.name if copy == 1 else f"{plan.name}-{copy}"
            job = msgspec.structs.replace(parsed.job, id=name, name=name)
            body = {"Job": msgspec.to_builtins(job)}
            # The caller's token makes repeating safe, as it does for the CLI.
            query = Query(method="Job.Register", body=body, call_id=f"sim-{name}", call_issued_us=0)
            self._submit_at(plan.at_us + copy * 1_000, name, plan.region, query)

    def _submit(self, name: str, region: str, query: Query, tries: int) -> None:
        server = self._some_server(region)
        if server is None:
            self._again(name, region, query, tries, "no server of the region is up")
            return
        is_answered = False

        def then(answer: Answer) -> None:
            nonlocal is_answered
            if is_answered:
                return
            is_answered = True
            if not answer.is_error:
                self.acknowledged[name] = self.world.wheel.now_us
                self.refused.pop(name, None)
            elif answer.status >= 500:
                self._again(name, region, query, tries, answer.error)
            else:
                self.refused[name] = answer.error

        if not query.call_issued_us:  # a repeated call says when it was first made
            query = msgspec.structs.replace(query, call_issued_us=server.now().wall_us)
        lost = Answer(status=504, error=f"{server.name} did not answer")
        self.world.wheel.after(REGISTER_TIMEOUT_US, lambda _: then(lost))
        server.query(query, then)

    def _again(self, name: str, region: str, query: Query, tries: int, reason: str) -> None:
        self.refused[name] = reason
        if tries > 1:
            self.world.wheel.after(
                REGISTER_RETRY_US, lambda _: self._submit(name, region, query, tries - 1)
            )

    def _plan_stop(self, plan: StopPlan) -> None:
        query = Query(
            method="Job.Deregister",
            params={"job_id": plan.job, "purge": plan.purge},
            call_id=f"sim-stop-{plan.job}",
        )
        self._submit_at(plan.at_us, f"stop {plan.job}", plan.region, query)

    def _submit_at(self, at_us: int, name: str, region: str, query: Query) -> None:
        self.world.wheel.at(at_us, lambda _: self._submit(name, region, query, REGISTER_TRIES))

    def _some_server(self, region: str) -> SimServer | None:
        servers = [
            agent
            for agent in self.world.agents.values()
            if isinstance(agent, SimServer)
            and agent.place.region == region
            and agent.machine is not None
        ]
        return self._rng.choice(servers) if servers else None

    # --- the end --------------------------------------------------------------------------

    def kept_jobs(self) -> list[str]:
        """Return the jobs that were acknowledged and that nobody stopped."""
        stopped = {stop.job for stop in self.scenario.stops}
        names = (name for name in self.acknowledged if not name.startswith("stop "))
        return [name for name in names if name not in stopped]

    def _judge(self, goal: GoalPlan) -> None:
        running = self.checkers.count_processes(goal.job)
        measured = ", ".join(f"{region} {count}" for region, count in sorted(running.items()))
        if goal.kind == "running":
            text = f"job {goal.job!r} runs {goal.count} processes"
            is_met = sum(running.values()) == goal.count
        else:
            text = f"job {goal.job!r} runs only in {goal.region}"
            is_met = set(running) == {goal.region}
        when = "at the end" if goal.at_us < 0 else f"at {goal.at_us / 1e6:g} s"
        self._goals.append(GoalResult(f"{text} {when}", is_met, measured or "none"))

    def _summary(self, wall_s: float) -> Summary:
        agents = self.world.agents.values()
        servers = [agent for agent in agents if isinstance(agent, SimServer)]
        return Summary(
            scenario=self.scenario.name,
            seed=self.seed,
            sim_s=self.world.wheel.now_us / 1e6,
            wall_s=round(wall_s, 3),
            events=self.world.wheel.events,
            trace_hash=self.trace.hexdigest(),
            state_hashes={
                agent.name: agent.state.hash() for agent in servers if agent.state is not None
            },
            agents=len(self.world.agents),
            nodes=len(self.world.agents) - len(servers),
            faults=self.faults.injected,
            jobs_acknowledged=len(self.acknowledged),
            jobs_refused=self.refused,
            checked=self.checkers.checked,
            violations=self.checkers.violations,
            goals=self._goals,
            halts=[f"{at / 1e6:.3f}s {name}: {why}" for at, name, why in self.world.halts],
            lost=self.world.network.lost,
            tasks_started=sum(agent.tasks.started for agent in agents if hasattr(agent, "tasks")),
        )


def _starter(agent: SimAgent) -> Callable[[object], None]:
    return lambda _: agent.start()


__all__ = ["FaultError", "Run", "Summary"]
