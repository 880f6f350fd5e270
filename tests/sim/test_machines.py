"""What both hosts build is the same, and a host that built something else would be seen."""

import pytest

from core.agent import build
from core.client.machine import ClientMachine
from sim.machines import machines
from sim.scenario import Scenario, read_scenario


@pytest.fixture
def scenario() -> Scenario:
    return read_scenario(
        'scenario "s" {}\nregion "eu" {\n  datacenter "a" {\n    nodes "n" { count = 4 }\n  }\n}\n',
        "s.hcl",
    )


def test_both_hosts_build_the_same_machines(scenario: Scenario):
    rows = machines(scenario)
    assert all(row.is_identical for row in rows)
    counts = {(row.role, row.part): row.instances for row in rows}
    assert counts["server", ""] == counts["server", "raft"] == 3
    assert counts["client", ""] == 4
    names = {(row.role, row.part): row.trio for row in rows}
    assert names["client", ""] == "core.client.machine:ClientMachine"
    assert names["server", "raft"] == "raft.core:RaftCore"


def test_a_host_that_builds_another_class_is_seen(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
):
    class Quicker(ClientMachine):
        pass

    monkeypatch.setattr(build, "ClientMachine", Quicker)
    different = [row for row in machines(scenario) if not row.is_identical]
    assert [(row.role, row.part) for row in different] == [("client", "")]
    assert different[0].trio.endswith("Quicker")
