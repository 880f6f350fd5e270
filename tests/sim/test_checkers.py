"""Each checker fires on a planted violation: one that never fired is not known to work."""

from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest

from core.client import effects as fx
from core.model.host import Tick
from sim.agents import SimClient, SimServer
from sim.checkers import AUTHORITY_GRACE_US, CHECKERS, OVERLAP_US, QUIET_US, Checkers
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
        self.checkers = self.new_checkers()

    def new_checkers(self) -> Checkers:
        run = self.run
        checkers = Checkers(run.world, run.census, run.workload, run.faults)
        checkers.start()
        return checkers

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
    assert planted.found() == []  # nothing was applied since they were compared
    planted.checkers.check(is_end=True)
    found = planted.checkers.violations
    assert any("equal state at equal index: eu/berlin" in text for text in found)


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


def test_what_a_node_without_contact_runs_is_not_held_against_its_successor(planted: Planted):
    env = {"NOMAD_JOB_ID": "web", "NOMAD_GROUP_NAME": "web", "NOMAD_ALLOC_INDEX": "0"}
    spec = fx.TaskSpec(driver="raw_exec", config={}, env=env, logs=fx.LogLimits(1, 1))
    for number, client in enumerate(planted.clients()):
        client.tasks.attach(None)
        client.tasks.carry_out(fx.StartTask(f"alloc-{number}", "server", 1, spec))
    planted.clients()[0].crash()
    assert planted.found() == []
    planted.world.wheel.now_us += OVERLAP_US + 1
    assert planted.found() == []


def test_a_service_that_stays_short_without_a_fault(planted: Planted):
    planted.run.census.want("web", 3, is_service=True)
    assert planted.found() == []
    planted.world.wheel.now_us += QUIET_US + 1
    assert planted.found() == []  # it was only seen short now: there was no fault before
    planted.world.wheel.now_us += QUIET_US + 1
    assert any("wanted runs when quiet: web runs 0 of 3" in text for text in planted.found())


def test_a_leader_that_lost_what_was_committed(planted: Planted):
    leader = planted.leader("berlin")
    assert leader.server is not None
    consensus = leader.server.server.consensus
    consensus.applied_index += 5
    assert planted.found() == []
    consensus.applied_index -= 5
    assert any("committed is kept" in text for text in planted.found())


def test_one_index_authorised_in_two_datacenters(planted: Planted):
    def record(low: int, high: int) -> SimpleNamespace:
        return SimpleNamespace(
            id="web",
            uid="1",
            namespace="default",
            is_purged=False,
            is_stopped=False,
            job=SimpleNamespace(region="eu", type="service"),
            share=lambda: {"web": [(low, high)]},
        )

    for datacenter, share in (("berlin", record(0, 4)), ("paris", record(4, 6))):
        state = planted.leader(datacenter).state
        assert state is not None
        state.jobs = [share]
    planted.checkers._homes_and_shares()
    assert planted.checkers.violations == []
    state.jobs = [record(3, 6)]
    planted.checkers._homes_and_shares()
    assert any("index authorised once: web.web[3]" in t for t in planted.checkers.violations)


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
        id="web",
        namespace="default",
        is_stopped=True,
        job=SimpleNamespace(region="eu", type="service"),
    )
    for datacenter in ("berlin", "paris"):
        state = planted.leader(datacenter).state
        assert state is not None
        state.jobs = [SimpleNamespace(**vars(record), uid=datacenter)]
    planted.checkers._homes_and_shares()
    assert any("one home a job: job 'web'" in text for text in planted.checkers.violations)


def test_an_acknowledged_job_that_nobody_has(planted: Planted):
    assert planted.checkers.checked["acknowledged is kept"] == 0
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


def test_a_checker_that_saw_nothing_is_named():
    summary = Run(read_scenario(TWO, "two.hcl"), 1).play()
    assert set(summary.checked) == set(CHECKERS)
    assert {"acknowledged is kept", "one process an index"} < set(summary.unchecked)
    assert "one leader a term" not in summary.unchecked
