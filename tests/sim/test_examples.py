"""The scenarios of examples/scenarios: all read; a small slice of each holds, its variant fails.

The slices are slow and run by `make slow`; `python -m bench.sim` plays the real sizes.
"""

from pathlib import Path

import pytest

from sim.plans import Scenario
from sim.run import Run, Summary
from sim.scenario import read_scenario
from sim.workload import Template, read_file

FOLDER = Path(__file__).parents[2] / "examples" / "scenarios"
NAMES = ("c2m", "steady-day", "region-loss", "split", "storm", "flat-10k", "upgrade")
# as small as each still shows what it is about
SLICES = {
    "c2m": {"scale": "0.01", "regions": "2", "jobs": "4"},
    "steady-day": {"scale": "0.004"},
    "region-loss": {"scale": "0.002", "minutes": "10"},
    "split": {"scale": "0.004", "minutes": "5"},
    "storm": {"scale": "0.01", "minutes": "5"},
    "flat-10k": {"scale": "0.006"},
    "upgrade": {"scale": "0.01"},
}

# what a variant must be found wanting of: a goal that is missed, or why an agent halts
REASONS = {
    "c2m": "job 'more' runs all it asks for",
    "region-loss": "job 'lost*' runs all it asks for at the end",
    "split": "job 'web-*' runs all it asks for always",
    "storm": "job 'web-*' runs all it asks for",
    "flat-10k": "job 'web*' runs all it asks for",
    "upgrade": "the log rises to schema 2",
    "steady-day": "job 'base-r1' runs 40 instances",
}


def load(name: str, variables: dict[str, str] | None = None) -> Scenario:
    path = FOLDER / f"{name}.hcl"
    return read_scenario(path.read_text(), str(path), str(path.parent), variables)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_and_its_variant_name_files_that_are_there(name: str):
    scenario, failing = load(name), load(f"failing/{name}")
    assert scenario.name == name
    assert scenario.goals
    assert failing.name.startswith(name)
    for one in (scenario, failing):
        for plan in (*one.jobs, *one.arrivals):
            path = f"{one.folder}/{plan.file}"
            assert read_file(path, "job file")
            assert Template(path, plan.variables).make("x").task_groups
    more = (failing.faults, failing.jobs, failing.goals)
    assert more != (scenario.faults, scenario.jobs, scenario.goals)
    assert failing.datacenters == scenario.datacenters


def test_the_large_ones_have_ten_thousand_nodes():
    sizes = {name: load(name).node_count for name in NAMES}
    assert sizes["c2m"] == sizes["steady-day"] == sizes["region-loss"] == 10_000
    assert load("flat-10k").node_count + load("flat-10k").server_count == 10_000
    wanted = sum(plan.copies * plan.count for plan in load("c2m").jobs)
    assert wanted == 2_000_000


def wanting(summary: Summary) -> str:
    missed = [goal.text for goal in summary.goals if not goal.is_met]
    return "\n".join([*missed, *summary.halts])


def play(name: str, slice_of: str) -> Summary:
    return Run(load(name, SLICES[slice_of])).play()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "steady-day"])
def test_a_small_slice_of_a_scenario_holds(name: str):
    summary = play(name, name)
    assert summary.is_ok, (summary.violations, summary.halts, summary.goals)
    assert name == "c2m" or summary.faults


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "steady-day"])
def test_a_small_slice_of_its_variant_fails_for_its_reason(name: str):
    summary = play(f"failing/{name}", name)
    assert not summary.is_ok
    assert summary.violations == []
    assert REASONS[name] in wanting(summary)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_hour_of_a_small_steady_day_holds_and_fails_with_an_operators_mistake():
    for name, holds in (("steady-day", True), ("failing/steady-day", False)):
        scenario = load(name, SLICES["steady-day"])
        scenario.until_us = 3_600_000_000
        summary = Run(scenario).play()
        assert summary.violations == []
        assert summary.halts == []
        assert summary.is_ok is holds, summary.goals
        assert holds or REASONS["steady-day"] in wanting(summary)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_of_what_operators_do_holds():
    path = FOLDER.parent / "operators.hcl"
    summary = Run(read_scenario(path.read_text(), str(path), str(path.parent))).play()
    assert summary.is_ok, (summary.violations, summary.halts, summary.goals)
    assert summary.unchecked == []
    assert sum(summary.faults.values()) == 10
