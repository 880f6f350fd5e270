"""A datacenter is lost for good: declared off, its jobs adopted from the backup in its region."""

from pathlib import Path

from core.federation.backup import BACKUPS
from sim.agents import SimServer
from sim.run import Run
from sim.scenario import read_scenario

LOST = Path(__file__).parent / "lost.hcl"


def backups(run: Run, datacenter: str) -> int:
    servers = [server for server in run.world.servers if server.place.datacenter == datacenter]
    assert len(servers) == 1 and isinstance(servers[0], SimServer)
    state = servers[0].state
    return 0 if state is None else len(state.table(BACKUPS))


def test_the_jobs_of_one_that_is_off_are_adopted_and_stay_whole_when_it_comes_back():
    run = Run(read_scenario(LOST.read_text(), str(LOST), str(LOST.parent)), 1)
    found: dict[int, tuple[int, int]] = {}
    summary = run.play(
        lambda now: found.update({int(now.sim_s): (backups(run, "x"), backups(run, "b"))})
    )
    assert summary.is_ok, (summary.violations, summary.halts, summary.goals)
    assert summary.operator_refused == {}
    assert found[30] == (1, 0)  # nobody else is there
    assert found[69][1] == 1  # one of the region is: an adopter asks there
    assert summary.instances_running == 3
    assert summary.faults["adopt"] == summary.faults["datacenter-off"] == 1
