"""A scenario that is wrong is refused with file, line and what was meant."""

import pytest

from core.jobspec.diagnostics import SourceError
from sim.run import Run
from sim.scenario import read_scenario

HEAD = 'scenario "s" { duration = "1m" }\nregion "eu" {\n  datacenter "a" { servers = 1 }\n}\n'


def test_what_is_not_said_has_its_default():
    scenario = read_scenario(HEAD, "s.hcl")
    assert (scenario.name, scenario.seed, scenario.duration_us) == ("s", 1, 60_000_000)
    assert [(p.region, p.name, p.servers) for p in scenario.datacenters] == [("eu", "a", 1)]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('fault "crsh" {\n  at = "1s"\n}', 5, "crash"),
        ('fault "crash" {\n  at = "1s"\n}', 5, "target"),
        ('fault "cut" {\n  at   = "1s"\n  from = "eu"\n}', 5, "'to'"),
        ('fault "crash" {\n  at     = "soon"\n  target = "x"\n}', 6, "duration"),
        ('job "web" {\n  fle = "x"\n}', 6, "file"),
        ('job "web" {\n  file   = "x"\n  region = "ue"\n}', 7, "eu"),
        ('goal "runs" {\n  job = "web"\n}', 5, "running, placed-in"),
        ('goal "placed-in" {\n  job = "web"\n}', 5, "region"),
        ('goal "running" {\n  job = "web"\n  region = "eu"\n}', 7, "count"),
        ('netwrk {\n}', 5, "network"),
        ('network {\n  wan {\n    loss = 2\n  }\n}', 7, "from 0 to 1"),
        ('region "us" {\n  datacenter "b" {\n    servers = 2\n  }\n}', 7, "1, 3, 5 or 7"),
    ],
)  # fmt: skip
def test_an_error_names_its_line_and_the_remedy(text: str, line: int, says: str):
    with pytest.raises(SourceError) as caught:
        read_scenario(HEAD + text + "\n", "s.hcl")
    shown = str(caught.value)
    assert f"s.hcl:{line}" in shown or f"line {line}" in shown, shown
    assert says in shown


def test_a_scenario_needs_a_name_and_a_region():
    with pytest.raises(SourceError, match="scenario"):
        read_scenario("", "s.hcl")
    with pytest.raises(SourceError, match="no region"):
        read_scenario('scenario "s" {}', "s.hcl")


def test_a_job_file_that_is_not_there_is_named():
    scenario = read_scenario(HEAD + 'job "web" { file = "none.hcl" }', "s.hcl", "/nowhere")
    with pytest.raises(SourceError, match=r"/nowhere/none\.hcl"):
        Run(scenario).play()
