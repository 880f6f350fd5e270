"""Scenarios as text: what is written reads as the same scenario again."""

from pathlib import Path

import pytest

from sim.scenario import Scenario, read_scenario
from sim.writing import write_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = ("small.hcl", "trace.hcl", "scenarios/steady-day.hcl", "scenarios/failing/storm.hcl")

EVERYTHING = """
scenario "all" {
  duration     = "1h1m1.000001s"
  settle       = "90s"
  seed         = 7
  start_spread = "30s"
  pools        = "formed"
}
region "eu" {
  datacenter "a" {
    servers = 5
    schema  = 1
    nodes "large" {
      count      = 2
      cpu        = 16000
      class      = "big"
      attributes = { "cpu.arch" = "arm64", rack = "$${r}1" }
      meta       = { zone = "z\\"1" }
      drivers    = ["raw_exec", "docker"]
    }
    disk { sync = "9ms" }
  }
}
region "us" {
  datacenter "b" { servers = 1 }
}
region "eu" {
  datacenter "c" { servers = 1 }
}
network {
  lan { latency = "0.3ms" }
  wan { loss = 0.01 }
  link "eu" "us" { latency = "81ms" }
}
disk { mb_per_s = 50 }
job "web" {
  file      = "jobs/web.hcl"
  run_time  = "lognormal(2m, 1.5, 6h)"
  failures  = 0.25
  variables = { a = "b" }
}
arrivals "more" {
  file    = "jobs/web.hcl"
  process = "daily"
  rate    = "7/d"
  region  = ["us", "eu"]
  count   = "pareto(1, 1.2)"
}
trace "old" {
  file  = "t.csv"
  job   = "jobs/web.hcl"
  speed = 1.5
}
stop "web" {
  at    = "20m"
  purge = true
}
fault "crash" {
  rate    = "2/h"
  between = ["5m", "20m"]
  for     = "10s..30s"
  target  = ["eu/a/leader", "us"]
  share   = 0.3
}
fault "slow-disk" {
  every  = "1m"
  for    = "5s"
  target = "eu/a"
  factor = 3.5
}
fault "clock" {
  at     = "0s"
  target = "us"
  ppm    = -200
}
goal "running" {
  job      = "web*"
  at_least = 3
  at       = "always"
  from     = "2m"
}
goal "detection" { at_most = "1.5s" }
goal "bandwidth" { at_most = "1.5 kB/s" }
goal "refused" {}
goal "converged" { within = "2m" }
"""


def read(text: str, folder: str = "") -> Scenario:
    return read_scenario(text, "s.hcl", folder)


def test_every_block_is_written_as_it_was_read() -> None:
    scenario = read(EVERYTHING)
    assert read(write_scenario(scenario)) == scenario
    assert scenario.datacenters[0].nodes[0].attributes["rack"] == "${r}1"


@pytest.mark.parametrize("name", FILES)
def test_examples_are_written_as_they_were_read(name: str) -> None:
    path = EXAMPLES / name
    scenario = read(path.read_text(), str(path.parent))
    assert read(write_scenario(scenario), str(path.parent)) == scenario


def test_files_are_named_from_where_the_text_will_lie() -> None:
    scenario = read(EVERYTHING, "/s/one")
    moved = read(write_scenario(scenario, "/s/one/two"), "/s/one/two")
    assert moved.jobs[0].file == "../jobs/web.hcl"
    assert (moved.traces[0].file, moved.traces[0].job) == ("../t.csv", "../jobs/web.hcl")
