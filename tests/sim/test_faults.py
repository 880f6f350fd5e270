"""Each fault does what it says, is counted, and is over when it is mended."""

from collections.abc import Callable

import pytest

from core.federation.lifecycle import lifecycle_of
from sim.agents import SimClient
from sim.faults import FaultError
from sim.run import Run
from sim.scenario import read_scenario

WORLD = """
scenario "faults" { duration = "40s" }
region "eu" {
  datacenter "a" {
    servers = 3
    nodes "n" { count = 4 }
  }
}
region "us" {
  datacenter "b" {
    servers = 1
    nodes "n" { count = 2 }
  }
}
job "web" {
  file   = "../../examples/sim-web.nomad.hcl"
  at     = "7s"
  count  = 3
}
"""


class Played:
    """A world that stands at a time of its choice."""

    def __init__(self, fault: str) -> None:
        self.run = Run(read_scenario(WORLD + fault, "faults.hcl", "tests/sim"), 1)
        self.run.prepare()

    def at(self, seconds: float) -> Run:
        self.run.world.wheel.run_until(int(seconds * 1e6))
        return self.run

    def down(self) -> list[str]:
        return [one.name for one in self.run.world.agents.values() if one.machine is None]


def fault(kind: str, **keys: str) -> Played:
    lines = "".join(f"  {name} = {value}\n" for name, value in keys.items())
    return Played(f'fault "{kind}" {{\n  at = "12s"\n{lines}}}\n')


def is_cut(run: Run, one: str, other: str) -> bool:
    return run.world.network.is_cut(one, other)


def test_a_share_of_the_clients_is_powered_off_with_its_processes_and_comes_back():
    played = fault("power", target='"*/*/client"', share="0.5", **{"for": '"10s"'})
    played.at(13)
    assert len(played.down()) == 3
    assert all("-n-" in name for name in played.down())
    dark = [one for one in played.run.world.clients if one.machine is None]
    assert all(one.tasks.running() == [] for one in dark)
    played.at(23)
    assert played.down() == []
    assert played.run.faults.injected == {"power": 1}


def test_a_region_is_lost_as_a_whole():
    played = fault("datacenter-loss", target='"us"', **{"for": '"5s"'})
    played.at(13)
    assert sorted(played.down()) == ["us-b-n-1", "us-b-n-2", "us-b-server-1"]
    played.at(18)
    assert played.down() == []


@pytest.mark.parametrize(("kind", "both"), [("partition", True), ("cut", False)])
def test_lists_and_roles_may_be_cut(kind: str, both: bool):
    played = fault(kind, **{"from": '["us", "eu/a/leader"]', "to": '"eu-a-n-1"', "for": '"5s"'})
    run = played.at(13)
    leader = next(one.name for one in run.world.servers if one.is_leader and "eu-" in one.name)
    for one in (leader, "us-b-server-1"):
        assert is_cut(run, one, "eu-a-n-1")
        assert is_cut(run, "eu-a-n-1", one) is both
    assert not is_cut(run, leader, "eu-a-n-2")
    assert not is_cut(played.at(18), leader, "eu-a-n-1")


def test_a_flapping_link_is_cut_half_of_the_time():
    played = fault("flap", **{"from": '"eu"', "to": '"us"', "period": '"2s"', "for": '"10s"'})
    seen = [is_cut(played.at(12.5 + step), "eu-a-n-1", "us-b-n-1") for step in range(12)]
    assert seen == [True, False] * 5 + [False, False]


def test_packets_of_some_agents_are_lost():
    played = fault("loss", fraction="1", target='"eu-a-n-2"', **{"for": '"8s"'})
    run = played.at(13)
    here, there, other = (run.world.network.stations[f"eu-a-n-{n}"] for n in (2, 1, 3))
    assert run.world.network.delays_us(here, there, "t") == []
    assert run.world.network.delays_us(there, here, "t") == []
    assert len(run.world.network.delays_us(there, other, "t")) == 1
    assert not played.at(21).world.network.is_broken


def test_a_sick_agent_stands_still_for_its_part_of_the_time():
    played = fault(
        "sick", target='"eu/a/client"', count="1", period='"2s"', fraction="0.5", **{"for": '"15s"'}
    )
    played.at(12)
    still, looks = 0, 140
    for step in range(looks):
        run = played.at(13 + step / 10)
        still += any(one.paused_until_us > run.world.wheel.now_us for one in run.world.clients)
    assert 0.3 < still / looks < 0.7
    run = played.at(30)
    assert all(one.paused_until_us <= run.world.wheel.now_us for one in run.world.clients)


def test_a_clock_that_runs_fast_is_ahead_and_its_timers_fire_early():
    played = fault("clock", target='"us-b-server-1"', ppm="200000", **{"for": '"10s"'})
    played.at(22)
    server = next(one for one in played.run.world.servers if one.name == "us-b-server-1")
    assert server.now().mono_us == 12_000_000 + 12_000_000
    played.at(27)
    assert server.now().mono_us == 12_000_000 + 12_000_000 + 5_000_000
    assert server.machine is not None
    assert server.machine.deadline_us > 0


def test_a_slow_disk_takes_its_time_until_it_is_mended():
    played = fault("slow-disk", target='"us-b-server-1"', factor="10", **{"for": '"5s"'})
    server = next(one for one in played.at(13).world.servers if one.place.region == "us")
    slow_us = server.disk.duration_us(0, server.wheel.now_us)
    played.at(18)
    assert slow_us >= 15_000
    assert server.disk.duration_us(0, server.wheel.now_us) <= 2_500


def test_an_upgrade_goes_server_by_server_and_leaves_two_schemas_side_by_side():
    played = fault(
        "upgrade", target='"eu/a/server"', share="1", batch="1", down='"2s"', gap='"3s"', schema="2"
    )
    played.at(13)
    assert len(played.down()) == 1
    schemas = [one.config.schema_max for one in played.run.world.servers]
    assert sorted(schemas) == [1, 1, 1, 2]
    played.at(25)
    assert [one.config.schema_max for one in played.run.world.servers] == [2, 2, 2, 1]
    assert played.run.faults.active == {}


def _drained(client: SimClient, run: Run) -> bool:
    for agent in run.world.servers:
        if agent.state is not None and agent.is_leader:
            for node in agent.state.nodes:
                if node.name == client.name:
                    return node.scheduling_eligibility == "ineligible"
    return False


def test_maintenance_drains_a_node_switches_it_off_and_gives_it_back():
    played = fault("maintenance", target='"us-b-n-1"', down='"3s"', **{"for": '"5s"'})
    node = next(one for one in played.run.world.clients if one.name == "us-b-n-1")
    assert _drained(node, played.at(14))
    assert played.down() == []
    played.at(18)
    assert played.down() == ["us-b-n-1"]
    run = played.at(25)
    assert played.down() == []
    assert not _drained(node, run)


@pytest.mark.parametrize("again", [False, True])
def test_a_job_that_an_operator_stopped_by_mistake_comes_back_when_it_is_mended(again: bool):
    lasts = {"for": '"5s"'} if again else {}
    played = fault("stop-job", job='"w*"', **lasts)
    assert played.at(11).census.jobs["web"].running == 3
    assert played.at(16).census.jobs["web"].running == 0
    run = played.at(25)
    assert run.census.jobs["web"].running == (3 if again else 0)
    assert run.workload.names() == (["web"] if again else [])


def _has_left(run: Run) -> bool:
    configurations = [
        one.server.server.consensus.raft.configuration.voters
        for one in run.world.servers
        if one.server is not None and one.is_leader and one.place.region == "eu"
    ]
    return any(len(voters) == 2 for voters in configurations)


def test_an_operator_may_take_a_server_out_of_its_quorum():
    played = fault("remove-peer", target='"eu/a/follower"')
    assert not _has_left(played.at(11))
    seen: Callable[[float], bool] = lambda seconds: _has_left(played.at(seconds))  # noqa: E731
    assert any(seen(12 + step / 5) for step in range(20))


def test_an_agent_that_never_was_is_named():
    played = fault("crash", target='"eu-a-n-9"')
    with pytest.raises(FaultError, match="'eu-a-n-9'"):
        played.at(13)


def test_a_drained_datacenter_takes_nothing_until_that_is_taken_back():
    def is_draining(run: Run) -> bool:
        (server,) = (one for one in run.world.servers if one.place.region == "us")
        assert server.state is not None
        return lifecycle_of(server.state).is_draining

    played = fault("drain-datacenter", target='"us/b"', **{"for": '"5s"'})
    assert not is_draining(played.at(11))
    assert is_draining(played.at(14))
    assert not is_draining(played.at(19))
