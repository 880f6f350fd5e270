"""`serai sim replay SCENARIO -break WHERE -look AGENT`: a run up to a point, and a look inside.

A break is a virtual time, an event (a line of the file that `-trace` writes: the run stops
before that line's machine sees the event) or the first violation of an invariant. Stopping
changes nothing: it is the run of the same seed, cut off.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from core.model.allocation import ClientStatus
from core.model.host import Event
from sim.agents import SimAgent, SimClient, SimServer
from sim.plans import Scenario
from sim.run import Run
from sim.trace import Trace


class Break(msgspec.Struct, frozen=True):
    """Where to stop; at the end when nothing of it comes to pass."""

    at_us: int = 0
    event: int = 0  # line of the trace, from 1
    is_violation: bool = False


class Stopped(msgspec.Struct, kw_only=True):
    """A run that was cut off, and why there."""

    run: Run
    why: str

    @property
    def at_s(self) -> float:
        return self.run.world.wheel.now_us / 1e6


class _Here(Exception):
    """The break is reached."""


def run_to(scenario: Scenario, seed: int | None, stop: Break) -> Stopped:
    """Run a scenario up to a break. Raises what `Run` does."""
    if stop.at_us:
        scenario = msgspec.structs.replace(scenario, until_us=stop.at_us)
    run = Run(scenario, seed)
    if stop.event:
        run.trace = run.world.trace = _CountingTrace(stop.event)
    if stop.is_violation:
        run.checkers.violations = _Alarm()
    try:
        run.play()
    except _Here as here:
        return Stopped(run=run, why=str(here))
    return Stopped(run=run, why="the time is reached" if stop.at_us else "the run is over")


class _CountingTrace(Trace):
    """Stops before an event."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self._line = line

    def add(self, time_us: int, agent: str, event: Event) -> None:
        self._check(f"{agent} is about to be given {type(event).__name__}")
        super().add(time_us, agent, event)

    def note(self, time_us: int, what: str) -> None:
        self._check(what)
        super().note(time_us, what)

    def _check(self, what: str) -> None:
        if self.lines + 1 >= self._line:
            raise _Here(f"event {self.lines + 1:,}: {what}")


class _Alarm(list[str]):
    """The violations of a run; the first one stops it."""

    def append(self, text: str, /) -> None:
        super().append(text)
        raise _Here(f"violation: {text}")


def overview(stopped: Stopped) -> dict[str, Any]:
    """Return how the whole world is, as plain data."""
    run = stopped.run
    return {
        "time_s": stopped.at_s,
        "why": stopped.why,
        "events": run.trace.lines,
        "down": [agent.name for agent in run.world.agents.values() if agent.machine is None],
        "faults": [
            f"{one.plan.kind} {one.plan.source or one.plan.target or one.plan.job}"
            for one in run.faults.active.values()
        ],
        "leaders": [server.name for server in run.world.servers if server.is_leader],
        "violations": list(run.checkers.violations),
        "instances_running": run.census.running,
    }


def look(agent: SimAgent) -> dict[str, Any]:
    """Return an agent's state as plain data: of a server its replica, of a client its tasks."""
    shown: dict[str, Any] = {
        "name": agent.name,
        "role": agent.role,
        "is_up": agent.machine is not None,
    }
    if isinstance(agent, SimServer) and agent.server is not None:
        shown |= _server(agent)
    elif isinstance(agent, SimClient):
        shown["tasks"] = [
            {"job": task.job, "group": task.group, "index": task.index, "task": task.task,
             "since_s": task.started_us / 1e6}
            for task in agent.tasks.running()
        ]  # fmt: skip
    return shown


def _server(agent: SimServer) -> dict[str, Any]:
    assert agent.server is not None
    consensus, state = agent.server.server.consensus, agent.server.state
    rows = state.allocs.rows()
    statuses = Counter(state.allocs.columns.client[rows].tolist())
    return {
        "is_leader": consensus.is_leader,
        "term": consensus.term,
        "applied_index": consensus.applied_index,
        "state_hash": state.hash(),
        "is_authority": state.is_authority,
        "nodes": {node.name: str(node.status) for node in state.nodes},
        "jobs": {
            record.id: {
                "status": "stopped" if record.is_stopped else record.status,
                "version": record.version,
                "share": record.share(),
                "home": record.home or "here",
            }
            for record in state.jobs
        },
        "allocations": {
            ClientStatus(status).name.lower(): count for status, count in sorted(statuses.items())
        },
    }


def find_agents(run: Run, names: Iterable[str]) -> list[SimAgent]:
    """Return agents by their names.

    Raises:
        ValueError: There is none of that name; the text says which are like it.
    """
    from core.jobspec.diagnostics import did_you_mean

    known = run.world.agents
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"such as {next(iter(known), 'none')}"
            raise ValueError(f"there is no agent {name!r}: {hint}")
    return [known[name] for name in names]
