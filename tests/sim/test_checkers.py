"""Each checker fires on a planted violation: one that never fired is not known to work."""

from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest

from core.client import effects as fx
from core.model.host import Tick
from sim.agents import SimClient, SimServer
from sim.checkers import AUTHORITY_GRACE_US, OVERLAP_US, Checkers
from sim.run import Run
from sim.scenario import read_scenario

TWO = """
scenario "two" { duration = "25s" }
region "eu" {
  datacenter "berlin" {
    servers = 3
    nodes "small" { count = 2 }
  }
  datacenter "paris" { servers = 1 }
}
"""


class Planted:
    """A run that stands at 25 s, and what the checkers say about it from then on."""

    def __init__(self) -> None:
        self.run = Run(read_scenario(TWO, "two.hcl"), 1)
        self.run.play()
        self.world = self.run.world
        self.checkers = Checkers(self.world)

    def servers(self, datacenter: str) -> list[SimServer]:
        return [
            agent
            for agent in self.world.agents.values()
            if isinstance(agent, SimServer) and agent.place.datacenter == datacenter
        ]

    def leader(self, datacenter: str) -> SimServer:
        return next(agent for agent in self.servers(datacenter) if agent.is_leader)

    def clients(self) -> list[SimClient]:
        return [agent for agent in self.world.agents.values() if isinstance(agent, SimClient)]

    def found(self) -> list[str]:
        self.checkers.check()
        return self.checkers.violations


@pytest.fixture
def planted() -> Iterator[Planted]:
    planted = Planted()
    assert planted.found() == []
    yield planted


def test_two_leaders_of_one_term(planted: Planted):
    leader = planted.leader("berlin")
    other = next(a for a in planted.servers("berlin") if not a.is_leader)
    planted.checkers._leaders["eu/berlin", leader.term] = other.name
    assert any("one leader a term" in text and leader.name in text for text in planted.found())


def test_state_that_differs_at_one_index(planted: Planted):
    follower = next(a for a in planted.servers("berlin") if not a.is_leader)
    assert follower.state is not None
    follower.state.log_time_us += 1
    assert any("equal state at equal index: eu/berlin" in text for text in planted.found())


def test_a_node_that_holds_more_than_it_has(planted: Planted):
    state = planted.leader("berlin").state
    assert state is not None
    state.nodes.cpu_used[0] = state.nodes.cpu_capacity[0] + 1
    assert any("no node over-committed" in text and "cpu" in text for text in planted.found())


def test_one_index_that_runs_twice_for_long(planted: Planted):
    env = {"NOMAD_JOB_ID": "web", "NOMAD_GROUP_NAME": "web", "NOMAD_ALLOC_INDEX": "0"}
    spec = fx.TaskSpec(driver="raw_exec", config={}, env=env, logs=fx.LogLimits(1, 1))
    for number, client in enumerate(planted.clients()):
        client.tasks.attach(None)
        client.tasks.carry_out(fx.StartTask(f"alloc-{number}", "server", 1, spec))
    assert planted.found() == []  # a hand-over takes a moment
    planted.world.wheel.now_us += OVERLAP_US + 1
    assert any("one process an index: web.web[0]" in text for text in planted.found())


def test_two_authorities_that_both_stay(planted: Planted):
    for datacenter in ("berlin", "paris"):
        for agent in planted.servers(datacenter):
            assert agent.state is not None
            agent.state.is_authority = True
    assert planted.found() == []
    planted.world.wheel.now_us += AUTHORITY_GRACE_US + 1
    assert any("one authority a region: eu" in text for text in planted.found())


def test_one_job_in_two_datacenters(planted: Planted):
    record = SimpleNamespace(
        id="web", namespace="default", is_purged=False, job=SimpleNamespace(region="eu")
    )
    for datacenter in ("berlin", "paris"):
        state = planted.leader(datacenter).state
        assert state is not None
        state.jobs = [record]
    planted.checkers._one_home_a_job()
    assert any("one home a job: job 'web'" in text for text in planted.checkers.violations)


def test_an_acknowledged_job_that_nobody_has(planted: Planted):
    planted.checkers.check_kept(["web"])
    assert any("acknowledged is kept: job 'web'" in t for t in planted.checkers.violations)


def test_a_machine_that_raises_is_reported_and_dies_alone(planted: Planted):
    agent = planted.leader("paris")

    class Broken:
        deadline_us = 0

        def handle(self, event: object, now: object) -> list[object]:
            raise ZeroDivisionError("planted")

    agent.machine = Broken()  # type: ignore[assignment]
    agent.deliver(Tick())
    ((_, name, reason),) = planted.world.halts
    assert name == agent.name
    assert "seed 1: ZeroDivisionError: planted" in reason
    assert "handling Tick()" in reason
    assert agent.machine is None
    planted.world.wheel.run_until(planted.world.wheel.now_us + 1_000_000)


def test_a_summary_with_a_violation_or_a_halt_is_not_ok():
    summary = Run(read_scenario(TWO, "two.hcl"), 1).play()
    assert summary.is_ok
    assert not msgspec.structs.replace(summary, violations=["x"]).is_ok
    assert not msgspec.structs.replace(summary, halts=["x"]).is_ok
