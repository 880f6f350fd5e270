"""A run cut off at a time, an event or a violation, and what is seen there."""

import io
from pathlib import Path

import pytest

from sim.breaking import Break, find_agents, look, overview, run_to
from sim.checkers import Checkers
from sim.plans import Scenario
from sim.run import Run
from sim.scenario import read_scenario

FOLDER = Path(__file__).parents[2] / "examples"
TEXT = """
scenario "stop" { duration = "20s" }
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "n" { count = 2 }
  }
}
job "web" { file = "sim-web.nomad.hcl" }
fault "crash" {
  at     = "14s"
  target = "eu-a-n-2"
}
"""


def read() -> Scenario:
    scenario = read_scenario(TEXT, "s.hcl", str(FOLDER))
    scenario.until_us = 16_000_000
    return scenario


def test_at_a_time_servers_and_clients_show_their_state() -> None:
    stopped = run_to(read(), 1, Break(at_us=15_000_000))
    world = overview(stopped)
    assert (world["time_s"], world["down"]) == (15.0, ["eu-a-n-2"])
    assert world["leaders"] == ["eu-a-server-1"] and world["instances_running"] == 8
    server, client = map(look, find_agents(stopped.run, ["eu-a-server-1", "eu-a-n-1"]))
    assert server["allocations"] == {"running": 8}
    assert server["jobs"]["web"]["share"] == {"web": [(0, 8)]}
    assert set(server["nodes"]) == {"eu-a-n-1", "eu-a-n-2"}
    others = look(find_agents(stopped.run, ["eu-a-n-2"])[0])
    assert len(client["tasks"]) + len(others["tasks"]) == 8 and not others["is_up"]
    with pytest.raises(ValueError, match="no agent 'eu-a-n-9'"):
        find_agents(stopped.run, ["eu-a-n-9"])


def test_at_an_event_the_machine_has_not_seen_it_yet() -> None:
    file = io.BytesIO()
    Run(read(), 1, file).play()
    lines = file.getvalue().decode().splitlines()
    time_us, agent, kind, _ = lines[119].split()
    stopped = run_to(read(), 1, Break(event=120))
    assert stopped.run.world.wheel.now_us == int(time_us)
    assert stopped.why == f"event 120: {agent} is about to be given {kind}"
    assert stopped.run.trace.lines == 119


def test_at_the_first_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(checkers: Checkers) -> None:
        checkers._violated("one leader a term", "two of them")

    monkeypatch.setattr(Checkers, "_one_leader_a_term", two)
    stopped = run_to(read(), 1, Break(is_violation=True))
    assert stopped.why == "violation: 1.000s one leader a term: two of them"
    assert stopped.at_s == 1.0
