"""Shrinking: the least that still fails, in the same way, as a file that repeats it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sim.plans import Scenario
from sim.run import Run
from sim.scenario import read_scenario
from sim.shrink import NothingFails, failures_of, shrink, single_jobs, smallest
from sim.writing import write_scenario

FOLDER = Path(__file__).parents[2] / "examples"
# The node that dies takes all instances of web with it; the rest has nothing to do with it.
LOSES = """
scenario "loses" { duration = "70s" }
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "small" { count = 2 }
  }
}
job "web" {
  file   = "sim-web.nomad.hcl"
  copies = 2
}
arrivals "more" {
  file    = "sim-batch.nomad.hcl"
  process = "steady"
  rate    = "6/m"
  until   = "34s"
}
fault "slow" {
  at    = "20s"
  for   = "5s"
  from  = "eu/a/leader"
  to    = "eu-a-small-1"
  extra = "20ms"
}
fault "power" {
  at     = "20s"
  target = "eu-a-small-1"
}
goal "running" {
  job   = "web"
  count = 8
  at    = "24s"
}
"""


def read(text: str = LOSES) -> Scenario:
    return read_scenario(text, "s.hcl", str(FOLDER))


def culprits(*needed: int) -> tuple[Callable[[list[list[int]]], int | None], list[int]]:
    """Return what fails with all of these and only then, and how many candidates it saw."""
    seen = []

    def first_failing(candidates: list[list[int]]) -> int | None:
        for place, candidate in enumerate(candidates):
            seen.append(len(candidate))
            if set(needed) <= set(candidate):
                return place
        return None

    return first_failing, seen


@pytest.mark.parametrize("needed", [(), (0,), (99,), (3, 4), (0, 50, 99), (7, 8, 60, 61)])
def test_exactly_what_is_needed_is_left(needed: tuple[int, ...]) -> None:
    first_failing, seen = culprits(*needed)
    assert smallest(range(100), first_failing) == list(needed)
    assert len(seen) < 220  # far from the 2 ** 100 parts that there are


def test_a_workload_is_singled_out_as_it_is_drawn() -> None:
    scenario = read()
    spelt = msgspec.structs.replace(
        scenario, arrivals=[], jobs=list(single_jobs(scenario, 5, 60_000_000))
    )
    assert [job.name for job in spelt.jobs] == ["web", "web-2", "more-1", "more-2", "more-3"]
    submitted = []
    for one in (scenario, spelt):
        run = Run(msgspec.structs.replace(one, until_us=35_000_000, faults=[], goals=[]), 5)
        run.play()
        submitted.append(dict(run.census.jobs))
    assert submitted[0].keys() == submitted[1].keys()
    times = [{name: job.submitted_us for name, job in jobs.items()} for jobs in submitted]
    assert times[0] == times[1]


def test_what_is_left_fails_again_when_it_is_read(tmp_path: Path) -> None:
    scenario = msgspec.structs.replace(read(), until_us=25_000_000)
    told: list[str] = []
    found = shrink(scenario, 3, note=told.append)
    assert found.failures == ["missed goal: job 'web' runs 8 instances at 24 s: none"]
    assert [fault.kind for fault in found.scenario.faults] == ["power"]
    assert found.faults == (2, 1) and found.jobs == (4, 1)
    assert told[0] == found.failures[0] and told[-1].startswith("1 of")
    text = write_scenario(found.scenario, str(tmp_path))
    again = read_scenario(text, "again.hcl", str(tmp_path))
    again.until_us = scenario.until_us
    assert failures_of(Run(again).play()) == found.failures


def test_what_holds_is_not_shrunk() -> None:
    scenario = msgspec.structs.replace(read(), faults=[], until_us=25_000_000)
    with pytest.raises(NothingFails, match="holds with seed 3"):
        shrink(scenario, 3)
