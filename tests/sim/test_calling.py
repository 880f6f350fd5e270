"""`call` blocks: an operator asks the API; ids are found when the time comes."""

import pytest

from core.jobspec.diagnostics import SourceError
from sim.run import Run
from sim.scenario import read_scenario
from sim.writing import write_scenario

WORLD = """
scenario "calls" {
  duration = "40s"
  settle   = "5s"
}
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "n" { count = 2 }
  }
}
job "web" {
  file  = "../../examples/scenarios/jobs/service.nomad.hcl"
  at    = "10s"
}
"""
CALLS = """
call "Job.Scale" { # the first rollout is over
  at   = "22s"
  job  = "web"
  body = jsonencode({ Count = 5, Target = { Group = "web" } })
}
call "Alloc.Stop" {
  at    = "24s"
  every = "5s"
  job   = "web"
}
call "Node.Eligibility" {
  at   = "30s"
  node = "eu-a-n-1"
  body = jsonencode({ Eligibility = "ineligible" })
}
call "Deployment.Fail" {
  at  = "39s"
  job = "nobody"
}
"""


def test_calls_are_made_and_what_is_not_there_is_denied():
    run = Run(read_scenario(WORLD + CALLS, "calls.hcl", "tests/sim"), 1)
    summary = run.play()
    assert (summary.violations, summary.halts) == ([], [])
    assert summary.instances_running == 5
    assert summary.tasks_started == 5 + 4  # four were stopped, and replaced
    assert list(summary.operator_refused.values()) == ["there is nothing of that kind"]
    state = next(server.state for server in run.world.servers)
    assert state is not None
    eligible = {node.name: node.scheduling_eligibility for node in state.nodes}
    assert eligible == {"eu-a-n-1": "ineligible", "eu-a-n-2": "eligible"}


def test_calls_are_written_as_they_were_read():
    scenario = read_scenario(WORLD + CALLS, "calls.hcl", "tests/sim")
    again = read_scenario(write_scenario(scenario), "again.hcl", "tests/sim")
    assert again.calls == scenario.calls and len(again.calls) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('call "Job.Scal" { at = "1s" }', "did you mean 'Job.Scale'|Job.Scale"),
        ('call "Job.Scale" { job = "x" }', "'at' is missing"),
        ('call "Job.Scale" {\n at = "1s"\n body = "{"\n}', "is JSON, such as jsonencode"),
        ('call "Job.Scale" {\n at = "1s"\n region = "us"\n}', "us"),
    ],
)
def test_a_wrong_call_is_told_by_its_place(text: str, told: str):
    with pytest.raises(SourceError, match=told):
        read_scenario(WORLD + text, "calls.hcl", "tests/sim")
