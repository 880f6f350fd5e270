"""A goal is met by what it names and by nothing less; the report shows what was found."""

import csv
import json
import re
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from core.cli.main import run
from sim.metrics import MetricsServer, SimMetrics
from sim.observer import COLUMNS
from sim.plans import ALWAYS, AT_END, GoalPlan
from sim.report import write_report
from sim.run import Run, Summary
from sim.scenario import read_scenario

WORLD = """
scenario "goals" {
  duration = "140s"
  settle   = "10s"
}
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "n" {
      count = 3
      cpu   = 500 # room for two instances of web: two nodes run it
    }
  }
}
region "us" {
  datacenter "b" { servers = 1 }
}
job "web" {
  file  = "../../examples/sim-web.nomad.hcl"
  at    = "8s"
  count = 4
}
fault "power" {
  at     = "70s"
  for    = "25s"
  target = ["eu-a-n-1", "eu-a-n-2"]
}
goal "running" { job = "web" }
"""


@pytest.fixture(scope="module")
def played() -> tuple[Run, Summary]:
    made = Run(read_scenario(WORLD, "goals.hcl", "tests/sim"), 1)
    return made, made.play()


def judged(ran: Run, **keys: object) -> bool:
    goals = ran.goals
    goals._plans = [GoalPlan(**keys)]  # type: ignore[arg-type]
    goals._results = {}
    (result,) = goals.results()
    assert result.measured
    return result.is_met


@pytest.mark.parametrize(
    ("met", "missed"),
    [
        ({"kind": "running", "job": "web", "count": 4}, {"count": 5}),
        ({"kind": "running", "job": "w*", "at_least": 4.0}, {"at_least": 5.0}),
        ({"kind": "running", "job": "web"}, {"job": "other"}),
        ({"kind": "placed-in", "job": "web", "region": "eu"}, {"region": "us"}),
        ({"kind": "placed", "at_least": 4.0}, {"at_least": 100.0}),
        ({"kind": "reported", "at_least": 4.0}, {"at_least": 5.0}),
        ({"kind": "acknowledged", "at_least": 1.0}, {"at_least": 2.0}),
        ({"kind": "refused", "at_most": 0.0}, {"at_most": -1.0}),
        ({"kind": "schema", "at_least": 1.0}, {"at_least": 2.0}),
        ({"kind": "queue-wait", "at_most": 1.0}, {"at_most": 0.0001}),
        ({"kind": "detection", "at_most": 25.0}, {"at_most": 0.5}),
        ({"kind": "false-deaths", "at_most": 0.0}, {"at_most": -1.0}),
        ({"kind": "converged", "within_us": 10_000_000}, {"within_us": -1}),
        ({"kind": "restarted", "at_least": 0.0}, {"at_least": 1.0}),
    ],
    ids=lambda keys: keys.get("kind"),
)
def test_a_goal_is_met_by_enough_and_by_nothing_less(
    played: tuple[Run, Summary], met: dict[str, object], missed: dict[str, object]
):
    world, _ = played
    assert judged(world, **met)
    assert not judged(world, **{**met, **missed})


def test_a_goal_for_ever_fails_by_one_look_and_one_never_looked_at_is_not_met():
    def with_goal(text: str) -> Summary:
        scenario = read_scenario(WORLD + text, "goals.hcl", "tests/sim")
        return Run(scenario, 1).play()

    always = 'goal "running" {\n  job = "web"\n  at = "always"\n'
    availability = 'goal "availability" {\n  at_least = 0.9\n}\n'
    bandwidth = 'goal "bandwidth" {\n  at_most = "0.01 kB/s"\n  from = "30s"\n}\n'
    summary = with_goal(
        "".join(f'{always}  from = "{begin}"\n}}\n' for begin in ("12s", "130s", "3m"))
        + availability + bandwidth
    )  # fmt: skip
    found = [(goal.is_met, goal.measured) for goal in summary.goals]
    assert not found[1][0]
    assert re.fullmatch(r"[0-3] of 4 at 7[0-9] s", found[1][1])
    assert found[2] == (True, "at each of 11 looks")
    assert found[3] == (False, "never looked at")
    assert not found[4][0]
    assert "%" in found[4][1]
    assert not found[5][0]
    assert "kB/s" in found[5][1]


def test_a_lost_node_is_noticed_and_what_it_ran_is_whole_again(played: tuple[Run, Summary]):
    _, summary = played
    assert summary.is_ok, (summary.violations, summary.goals)
    assert len(summary.detection_s) == 2
    assert max(summary.detection_s) < 25
    assert len(summary.heal_s) == 1
    assert summary.false_deaths == 0


# --- the report -----------------------------------------------------------------------


class _Page(HTMLParser):
    """Checks that tags nest, and gathers what leads out of the page."""

    VOID = frozenset(("meta", "link", "br", "img"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outward: list[str] = []
        self.charts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.charts += tag == "svg"
        self.outward += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outward += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def test_a_report_is_one_whole_page_and_its_numbers_are_those_of_the_run(
    played: tuple[Run, Summary], tmp_path: Path
):
    ran, summary = played
    nasty = msgspec.structs.replace(summary, violations=["<script>alert(1)</script> & co"])
    write_report(str(tmp_path / "out"), ran, nasty, "serai sim run -seed 1 goals.hcl")
    text = (tmp_path / "out" / "report.html").read_text()
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.outward == []
    assert "://" not in text.replace("http://www.w3.org", "")
    assert page.charts >= 12
    for drawn in re.findall(r"<svg.*?</svg>", text, re.S):
        chart = ElementTree.fromstring(drawn)  # well-formed, and nothing lies outside
        width, height = (float(part) for part in chart.attrib["viewBox"].split()[2:])
        for mark in chart.iter():
            for key, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0 <= float(mark.get(key, 0)) <= most, (chart.get("aria-label"), mark.attrib)
        if chart.get("class") == "over-time":
            said = {mark.text for mark in chart.iter("text")}
            assert "virtual time" in said and len(said) > 4, said
    assert "<script>alert" not in text
    assert "serai sim run -seed 1 goals.hcl" in text
    assert summary.trace_hash in text
    told = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert told["trace_hash"] == summary.trace_hash
    assert told["is_ok"] is False
    rows = list(csv.DictReader((tmp_path / "out" / "series.csv").open()))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(ran.observer.samples) == 140
    assert float(rows[-1]["instances_running"]) == 4
    down = [float(row["nodes_down"]) for row in rows]
    assert max(down) == 2
    assert down[-1] == 0


def test_the_metrics_are_those_of_production_with_who_was_scraped(played: tuple[Run, Summary]):
    world, _ = played
    text = SimMetrics(world.world).text().decode()
    assert 'serai_raft_is_leader{agent="eu-a-server-1",datacenter="a",region="eu"} 1.0' in text
    assert 'serai_client_tasks_running{agent="eu-a-n-2",datacenter="a",region="eu"}' in text
    families = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(families) == len(set(families)) > 30


def test_metrics_can_be_scraped_at_an_address(played: tuple[Run, Summary]):
    server = MetricsServer(played[0].world, "127.0.0.1", 0)
    try:
        server.update()
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=5) as answer:
            assert b"serai_raft_term" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{server.address}/other", timeout=5)
    finally:
        server.close()


# --- the command ----------------------------------------------------------------------


def serai(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(["sim", "run", *arguments])
    return code, "".join(capsys.readouterr())


def test_a_run_that_fails_says_how_to_repeat_it_and_watching_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "s.hcl"
    path.write_text(WORLD.replace("../../examples", str(Path("examples").resolve())))
    code, plain = serai(capsys, "-until", "6s", "-seed", "3", str(path))
    assert code == 1
    assert f"repeat with: serai sim run -seed 3 -until 6s {path}" in plain
    assert "UNCHECKED   acknowledged is kept" in plain
    code, watched = serai(
        capsys, "-until", "6s", "-seed", "3", "-out", str(tmp_path / "out"), "-metrics",
        str(tmp_path / "prom"), "-trace", str(tmp_path / "trace"), str(path),
    )  # fmt: skip
    (one,), (other,) = (re.findall(r"trace hash  (\w+)", text) for text in (plain, watched))
    assert one == other
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "prom" / "metrics.prom").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.hcl",), "none.hcl: No such file"),
        (("-until", "soon", "examples/small.hcl"), "-until"),
        (("-var", "scale", "examples/small.hcl"), "-var takes name=value"),
        (("-var", "size=3", "examples/small.hcl"), "no variable 'size'"),
        (("-metrics", "127.0.0.1:99999", "-until", "1s", "examples/small.hcl"), "65535"),
        (("-out", "/dev/null/x", "-until", "1s", "examples/small.hcl"), "/dev/null/x"),
    ],
)
def test_what_a_run_can_not_do_is_told_in_words(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
):
    code, output = serai(capsys, *arguments)
    assert code == 1
    assert says in output
    assert "Traceback" not in output


def test_goals_have_words_for_when():
    text = WORLD + 'goal "running" {\n  job = "web"\n  at = "always"\n}\n'
    goals = read_scenario(text, "goals.hcl").goals
    assert [goal.at_us for goal in goals] == [AT_END, ALWAYS]
