"""Sweeps: the grid, what is measured at each point, the report, and work in processes."""

import csv
import json
import os
from pathlib import Path

import pytest

from sim.plans import Scenario
from sim.report.sweep import write_sweep
from sim.scenario import read_scenario
from sim.spread import WorkerLost, spread
from sim.sweep import MEASURES, grid, split_values, sweep

FOLDER = Path(__file__).parents[2] / "examples"
TEXT = """
variable "count" { type = number }
variable "latency" { default = "1ms" }
scenario "sweep" { duration = "25s" }
region "eu" {
  datacenter "a" {
    servers = 1
    nodes "small" { count = 2 }
  }
}
network {
  lan { latency = var.latency }
}
job "web" {
  file  = "sim-web.nomad.hcl"
  count = var.count
}
goal "running" {
  job   = "web"
  count = 2
}
"""


def point(values: dict[str, str], until_s: int = 22) -> Scenario:
    scenario = read_scenario(TEXT, "s.hcl", str(FOLDER), values)
    scenario.until_us = until_s * 1_000_000
    return scenario


def test_the_grid_has_every_combination() -> None:
    assert grid({"a": ["1", "2"], "b": ["x", "y"]}) == [
        {"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"},
    ]  # fmt: skip
    assert split_values('1, [2,3],"a,b"') == ["1", "[2,3]", '"a,b"']


def test_each_point_is_measured_and_drawn(tmp_path: Path) -> None:
    points = grid({"count": ["2", "5"], "latency": ["1ms"]})
    results = list(sweep([(values, point(values)) for values in points], [1, 2]))
    assert [(one.values["count"], one.seed) for one in results] == [
        ("2", 1), ("2", 2), ("5", 1), ("5", 2),
    ]  # fmt: skip
    assert [one.measured["running"] for one in results] == [2, 2, 5, 5]
    assert [one.summary.is_ok for one in results] == [True, True, False, False]
    assert all(one.measured["detection_s"] is None for one in results)
    write_sweep(str(tmp_path), "sweep", results, "serai sim sweep <x>")
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert [row["running"] for row in rows] == ["2", "2", "5", "5"]
    assert set(rows[0]) == {"count", "latency", "seed", "ok", *MEASURES}
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert told["command"] == "serai sim sweep <x>" and len(told["runs"]) == 4
    page = (tmp_path / "sweep.html").read_text()
    assert "2 of 4 runs hold, over count and latency" in page
    assert "latency=1ms 5: 5</title>" in page and "&lt;x&gt;" in page
    assert "http" not in page


def test_processes_give_what_one_gives_in_the_same_order() -> None:
    points = [(values, point(values, 12)) for values in grid({"count": ["2", "5"]})]
    here, there = (list(sweep(points, workers=workers)) for workers in (1, 2))
    assert [one.summary.trace_hash for one in here] == [one.summary.trace_hash for one in there]


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(WorkerLost, match="fewer -workers"):
        list(spread(os._exit, [9, 9], 2))
