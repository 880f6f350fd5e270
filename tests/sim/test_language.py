"""What a scenario may say beyond single blocks: draws, arrivals, traces, copies, extending."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from core.jobspec.diagnostics import SourceError
from sim.arrivals import arrival_times_us, read_trace_file
from sim.distributions import parse_bytes_per_s, parse_distribution, parse_rate
from sim.plans import ArrivalPlan, FaultPlan, Scenario
from sim.scenario import read_scenario
from sim.scenario_faults import FAULTS
from sim.scenario_goals import GOALS
from sim.schedule import concrete_faults

HEAD = """
scenario "s" { duration = "10m" }
region "eu" {
  datacenter "a" { servers = 1 }
  datacenter "b" { servers = 1 }
}
"""
HOUR_US = 3_600_000_000


def arrivals(**keys: object) -> list[int]:
    plan = ArrivalPlan(name="a", file="x", from_us=0, **keys)  # type: ignore[arg-type]
    return list(arrival_times_us(plan, random.Random(1), 24 * HOUR_US))


# --- what is drawn --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "median_s"),
    [
        ("90s", 90), ("90", 90), ("10s..30s", 20), ("exponential(60s)", 41.6),
        ("lognormal(2m, 1.5)", 120), ("pareto(10s, 1.2)", 17.8), ("weibull(1h, 0.7)", 2133),
    ],
)  # fmt: skip
def test_a_distribution_has_the_median_that_its_parameters_say(text: str, median_s: float):
    rng = random.Random(1)
    drawn = sorted(parse_distribution(text).draw(rng) for _ in range(4001))
    assert drawn[2000] == pytest.approx(median_s, rel=0.08)


def test_a_cap_is_not_exceeded():
    rng = random.Random(1)
    drawn = [parse_distribution("pareto(10s, 0.5, 5m)").draw(rng) for _ in range(500)]
    assert max(drawn) == 300
    assert min(drawn) >= 10


@pytest.mark.parametrize(
    "text",
    ["soon", "30..10", "normal(1, 2)", "exponential(1, 2, 3)", "pareto(1s, 0)", "-1", "1e999"],
)
def test_what_is_no_distribution_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"write|takes|second argument|ends below|no distribution|"
                                         r"negative"):  # fmt: skip
        parse_distribution(text)


def test_rates_and_bandwidths_have_units():
    assert parse_rate("30/m") == 0.5
    assert parse_rate("1/d") == pytest.approx(1 / 86_400)
    assert parse_bytes_per_s("1.5 MB/s") == 1_500_000
    for text in ("30", "30/week", "0/s", "x/s"):
        with pytest.raises(ValueError, match="no rate"):
            parse_rate(text)


# --- arrivals and traces --------------------------------------------------------------


def test_each_process_arrives_as_often_as_it_says():
    assert len(arrivals(process="poisson", rate_per_s=0.1)) == pytest.approx(8_640, rel=0.05)
    steady = arrivals(process="steady", rate_per_s=0.1)
    assert {b - a for a, b in pairwise(steady)} == {10_000_000}
    burst = arrivals(process="burst", every_us=HOUR_US, size=5)
    assert len(burst) == 24 * 5
    assert burst[4] - burst[0] == 4_000
    assert len(arrivals(process="steady", rate_per_s=1, limit=7)) == 7


def test_a_day_has_its_peak():
    times_us = arrivals(process="daily", rate_per_s=0.2, swing=0.8)
    hours = [sum(at // HOUR_US == hour for at in times_us) for hour in range(24)]
    assert len(times_us) == pytest.approx(0.2 * 86_400, rel=0.05)
    assert sum(hours[13:15]) > 5 * sum(hours[1:3])


def test_a_trace_gives_jobs_by_time_and_leaves_what_it_does_not_say():
    text = 'at,name,count,run_time\n2.5,late,3,"lognormal(2m, 1)"\n0,,,\n\n'
    early, late = read_trace_file(text, "t.csv", "t")
    assert (early.at_us, early.name, early.count, early.run_time) == (0, "t-2", None, None)
    assert (late.at_us, late.name, late.count) == (2_500_000, "late", 3)
    assert late.run_time is not None
    assert late.run_time.kind == "lognormal"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\nx\n", 'column "at"'),
        ("at,cores\n1,2\n", "line 1: there is no column 'cores'"),
        ("at,count\n1\n", "line 2: 1 fields"),
        ("at,count\n1,many\n", "line 2: count 'many'"),
        ("at,count\n,2\n", "line 2: the time"),
        ("at,name\n1,x\n2,x\n", "line 3: a second job 'x'"),
        ("at,run_time\n1,soon\n", "line 2: run_time"),
    ],
)
def test_what_is_wrong_in_a_trace_is_named_with_its_line(text: str, says: str):
    with pytest.raises(SourceError) as caught:
        read_trace_file(text, "t.csv", "t")
    assert says in str(caught.value)


# --- copies, variables, other files ---------------------------------------------------


def test_a_count_makes_regions_and_datacenters_of_one_block():
    text = 'scenario "s" {}\nregion "r" {\n count = 2\n datacenter "d" { count = 3 }\n}\n'
    scenario = read_scenario(text, "s.hcl")
    names = [f"{plan.region}/{plan.name}" for plan in scenario.datacenters]
    assert names == ["r-1/d-1", "r-1/d-2", "r-1/d-3", "r-2/d-1", "r-2/d-2", "r-2/d-3"]


def test_variables_locals_and_dynamic_blocks_are_filled_in():
    text = """
variable "scale" { default = 1 }
locals { nodes = ceil(10 * var.scale) }
scenario "s" {}
dynamic "region" {
  for_each = { eu = 3, us = 1 }
  labels   = [region.key]
  content {
    datacenter "d" {
      servers = region.value
      nodes "n" { count = local.nodes }
    }
  }
}
"""
    scenario = read_scenario(text, "s.hcl", "", {"scale": "0.5"})
    assert [(plan.region, plan.servers) for plan in scenario.datacenters] == [("eu", 3), ("us", 1)]
    assert scenario.node_count == 10
    with pytest.raises(SourceError, match="no variable 'scalee'"):
        read_scenario(text, "s.hcl", "", {"scalee": "1"})


def test_a_matrix_of_patterns_fills_in_pairs_of_regions():
    text = 'scenario "s" {}\nregion "r" {\n  count = 3\n  datacenter "d" {}\n}\nnetwork {\n'
    text += '  matrix {\n    jitter = "1ms"\n    latency = { "r-1" = { "r-*" = "80ms" } }\n  }\n'
    text += '  link "r-2" "r-3" { latency = "5ms" }\n}\n'
    links = read_scenario(text, "s.hcl").links
    assert {pair: link.latency_us for pair, link in links.items()} == {
        ("r-1", "r-2"): 80_000,
        ("r-1", "r-3"): 80_000,
        ("r-2", "r-3"): 5_000,
    }


def test_a_scenario_that_extends_another_adds_to_it_and_finds_its_files(tmp_path: Path):
    (tmp_path / "below").mkdir()
    base = 'variable "n" { default = 2 }\nscenario "base" {\n  duration = "5m"\n  seed = 4\n}\n'
    base += 'region "r" {\n  count = var.n\n  datacenter "d" {}\n}\n'
    base += 'job "web" { file = "web.hcl" }\n'
    (tmp_path / "base.hcl").write_text(base)
    text = 'extends "../base.hcl" { variables = { n = 3 } }\nscenario "more" { duration = "9m" }\n'
    text += 'fault "crash" {\n  at = "1m"\n  target = "r-3/d/leader"\n}\n'
    folder = str(tmp_path / "below")
    scenario = read_scenario(text, "more.hcl", folder)
    assert (scenario.name, scenario.seed, scenario.duration_us) == ("more", 4, 540_000_000)
    assert scenario.regions == ["r-1", "r-2", "r-3"]
    assert scenario.jobs[0].file == "../web.hcl"
    assert [fault.kind for fault in scenario.faults] == ["crash"]
    assert read_scenario(text, "more.hcl", folder, {"n": "5"}).regions[-1] == "r-5"
    with pytest.raises(SourceError, match=r"nothing\.hcl can't be read"):
        read_scenario('extends "nothing.hcl" {}\n', "more.hcl", folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('arrivals "a" {\n  file = "x"\n  process = "poison"\n}', "poisson"),
        ('arrivals "a" {\n  file = "x"\n  process = "poisson"\n}', "needs 'rate'"),
        ('arrivals "a" {\n  file = "x"\n  process = "poisson"\n  rate = "1/s"\n  size = 3\n}',
         "'size' belongs to process 'burst'"),
        ('fault "crash" {\n  target = "eu/a/leader"\n}', "needs 'at', or 'every' or 'rate'"),
        ('fault "crash" {\n  at = "1s"\n  target = "eu/c/leader"\n}', "no datacenter 'eu/c'"),
        ('fault "crash" {\n  at = "1s"\n  target = "eu/a/leeder"\n}', "leader"),
        ('fault "crash" {\n  at = "1s"\n  target = "ue"\n}', "no region or agent 'ue'"),
        ('fault "crash" {\n  at = "1s"\n  target = "eu"\n  extra = "1s"\n}', "no 'extra' here"),
        ('fault "crash" {\n  rate = "2/h"\n  every = "1m"\n  target = "eu"\n}', "not both"),
        ('fault "crash" {\n  every = "2s"\n  between = ["2m", "1m"]\n  target = "x"\n}', "earlier"),
        ('fault "slow-disk" {\n  at = "1s"\n  target = "eu"\n}', "'factor' or 'extra'"),
        ('goal "availability" {\n  at_least = 2\n}', "from 0 to 1"),
        ('goal "running" {\n  job = "x"\n  count = 1\n  from = "1m"\n}', 'at = "always"'),
        ('goal "bandwidth" {\n  at_most = "20"\n}', "20 kB/s"),
        ('region "eu-a" {\n datacenter "b" {}\n}\nregion "eu" {\n datacenter "a-b" {}\n}', "alike"),
        ('job "w" { file = "x" }\njob "w" { file = "y" }', "the name of another"),
        ('network {\n  link "eu" "us" {}\n}', "no region 'us'"),
        ('disk { mb_per_s = 0 }', "more than 0"),
        ('job "w" { file = "x${vor.y}" }', "vor"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_what_was_meant(text: str, says: str):
    with pytest.raises(SourceError) as caught:
        read_scenario(HEAD + text + "\n", "s.hcl")
    assert says in str(caught.value)
    assert "s.hcl:" in str(caught.value)


# --- faults that come again -----------------------------------------------------------


def test_faults_that_recur_become_single_ones_drawn_from_the_seed():
    text = HEAD + 'fault "crash" {\n  every = "1m"\n  between = ["2m", "5m"]\n  for = "5s..10s"\n'
    text += '  target = "*/*/leader"\n}\n'
    text += (
        'fault "pause" {\n  rate = "1/m"\n  between = ["1m", "9m"]\n  target = "eu/a/server"\n}\n'
    )
    scenario = read_scenario(text, "s.hcl")
    faults = concrete_faults(scenario, 1)
    crashes = [fault for fault in faults if fault.kind == "crash"]
    assert [fault.at_us for fault in crashes] == [120_000_000, 180_000_000, 240_000_000]
    assert all(5_000_000 <= fault.for_us <= 10_000_000 for fault in crashes)
    assert all(not (f.every_us or f.rate_per_s or f.lasts) for f in faults)
    assert faults == concrete_faults(scenario, 1) != concrete_faults(scenario, 2)
    assert faults == sorted(faults, key=lambda fault: fault.at_us)


def test_a_rate_that_is_a_mistake_is_refused():
    scenario = Scenario(name="s", duration_us=HOUR_US)
    scenario.faults = [FaultPlan(kind="crash", at_us=0, target="eu", rate_per_s=1000.0)]
    with pytest.raises(ValueError, match="a lower rate"):
        concrete_faults(scenario, 1)


def test_the_page_names_every_fault_and_every_goal():
    page = Path("docs/scenario.md").read_text()
    missing = [kind for kind in (*FAULTS, *GOALS) if f"`{kind}`" not in page]
    assert missing == []
