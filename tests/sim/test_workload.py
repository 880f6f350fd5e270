"""What users submit arrives as the scenario says, and what was acknowledged is known."""

from pathlib import Path

import pytest

from core.jobspec.diagnostics import SourceError
from sim.run import Run
from sim.scenario import read_scenario

EXAMPLES = Path("examples")

WORLD = """
scenario "load" { duration = "60s" }
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "n" { count = 2 }
  }
}
"""
BATCH = 'file = "../../examples/sim-batch.nomad.hcl"\n'
WEB = 'file = "../../examples/sim-web.nomad.hcl"\n'


def play(text: str) -> Run:
    run = Run(read_scenario(WORLD + text, "load.hcl", "tests/sim"), 1)
    run.play()
    return run


def test_the_example_of_a_trace_holds():
    path = EXAMPLES / "trace.hcl"
    run = Run(read_scenario(path.read_text(), str(path), str(EXAMPLES)))
    summary = run.play()
    assert summary.is_ok, (summary.goals, summary.violations)
    assert run.workload.acknowledged["nightly-2"] < 16_000_000  # 10 s and half of 9.5 s
    jobs = run.census.jobs
    assert jobs["report"].groups["work"].seen == bytearray((1, 1))
    assert jobs["build-2"].has_failed
    assert not jobs["build-1"].has_failed


def test_jobs_arrive_run_for_their_time_and_are_stopped_after_their_life():
    arrivals = (
        'arrivals "crunch" {\n  process = "steady"\n  rate = "1/s"\n  limit = 4\n'
        '  run_time = "5s"\n  count = 2\n  from = "8s"\n' + BATCH + "}\n"
        'arrivals "site" {\n  process = "burst"\n  every = "10m"\n  size = 2\n  from = "8s"\n'
        '  count = 3\n  lifetime = "20s"\n' + WEB + "}\n"
        'job "whole" {\n  at = "8s"\n  count = 2\n' + WEB + "}\n"
        'stop "whole" { at = "30s" }\n'
    )
    run = play(arrivals)
    workload, census = run.workload, run.census
    assert list(workload.acknowledged) == ["crunch-1", "site-1", "whole", "site-2", "crunch-2",
                                           "crunch-3", "crunch-4"]  # fmt: skip
    assert sorted(workload.stopped) == ["site-1", "site-2", "whole"]
    assert census.running == 0
    assert census.starts == 4 * 2 + 2 * 3 + 2
    assert len(census.waits_us()) == census.starts
    assert run.checkers.violations == []
    assert run.checkers.checked["acknowledged is kept"] == 4 + 3


def test_a_job_that_was_stopped_and_runs_again_by_itself_is_found():
    run = play('job "whole" {\n  at = "8s"\n' + WEB + "}\n")
    assert run.checkers.violations == []
    run.workload.stopped["whole"] = 1
    run.checkers.check_kept([])
    assert any("'whole' was stopped, and is not" in text for text in run.checkers.violations)


def test_a_job_that_can_not_be_simulated_is_refused_with_the_task(tmp_path: Path):
    text = (EXAMPLES / "sim-batch.nomad.hcl").read_text().replace("10..30", "30..10")
    (tmp_path / "bad.hcl").write_text(text)
    scenario = read_scenario(WORLD + 'job "w" { file = "bad.hcl" }', "load.hcl", str(tmp_path))
    with pytest.raises(SourceError, match=r"task 'crunch': SIM_RUN_TIME = '30\.\.10'"):
        Run(scenario).play()


def test_who_is_refused_is_told_and_who_is_not_answered_asks_again():
    text = 'fault "crash" {\n  at = "20s"\n  for = "10s"\n  target = "eu/a/leader"\n}\n'
    text += 'job "late" {\n  at = "21s"\n  count = 1\n' + WEB + "}\n"
    run = play(text)
    assert run.workload.refused == {}
    assert run.workload.acknowledged["late"] > 30_000_000
    assert run.census.jobs["late"].running == 1
