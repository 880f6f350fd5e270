"""Datacenters that begin from snapshots: what ran goes on, and no secret comes along."""

from pathlib import Path

import pytest

from core.cli.main import run as serai
from core.jobspec.diagnostics import SourceError
from core.jobspec.parse import parse_job
from core.model.query import Query
from core.state.state import State
from sim.live import read_snapshots, write_files
from sim.live.stripping import strip
from sim.run import Run
from sim.scenario import read_scenario
from sim.starting import read_start
from sim.writing import write_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "hunter2"

BEFORE = """
scenario "before" { duration = "40s" }
region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "n" {
      count = 4
      meta  = { rack = "r1", password = "hunter2" }
    }
  }
  datacenter "rome" {
    servers = 1
    nodes "n" { count = 3 }
  }
}
job "wide" {
  file  = "scenarios/jobs/wide.nomad.hcl"
  at    = "20s"
  count = 12
}
job "near" {
  file  = "scenarios/jobs/service.nomad.hcl"
  at    = "22s"
  count = 6
}
"""
SECRETIVE = """
job "secretive" {
  meta { key = "hunter2" }
  constraint {
    attribute = "${meta.rack}"
    value     = "r1"
  }
  group "g" {
    task "t" {
      driver = "raw_exec"
      config { command = "hunter2" }
      env { PASSWORD = "hunter2" }
      template {
        data        = "hunter2"
        destination = "x"
      }
      resources { cpu = 50 }
    }
  }
}
"""


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snapshots of a federation of two datacenters, in which a job with secrets runs."""
    folder = tmp_path_factory.mktemp("snapshots")
    run = Run(read_scenario(BEFORE, "before.hcl", str(EXAMPLES)), 1)
    job = parse_job(SECRETIVE, filename="secretive").job

    def submit(_: object) -> None:
        run.workload.register(job, "eu")
        token = Query(method="ACL.Bootstrap", body={"BootstrapSecret": SECRET})
        run.workload.call("token", "eu", token, lambda _: None)

    run.world.wheel.at(24_000_000, submit)
    assert run.play().instances_running == 19
    for server in run.world.servers:
        if server.is_leader and server.state is not None:
            path = folder / f"{server.place.datacenter}.snap"
            path.write_bytes(b"".join(server.state.image().chunks()))
    return folder


def after(snapshots: Path, more: str = "", duration: str = "100s") -> Run:
    text = f"""
    scenario "after" {{
      duration = "{duration}"
      settle   = "30s"
    }}
    region "eu" {{
      datacenter "paris" {{
        snapshot = "paris.snap"
      }}
      datacenter "rome" {{
        servers  = 1
        snapshot = "rome.snap"
      }}
    }}
    {more}
    """
    return Run(read_scenario(text, "after.hcl", str(snapshots)), 2)


def test_what_ran_goes_on_once_all_are_in_sync(snapshots: Path):
    run = after(snapshots, duration="14s")
    summary = run.play()
    assert summary.is_ok, (summary.violations, summary.halts)
    assert 0 < summary.armed_s < 14
    assert summary.checked["full sync after a start from snapshots"] == 1
    assert summary.checked["one process an index"] > 0
    assert (summary.instances_running, summary.tasks_started, summary.placements) == (19, 19, 0)


@pytest.mark.slow
def test_what_ran_goes_on_and_a_lost_node_is_replaced(snapshots: Path):
    run = after(
        snapshots,
        """
        fault "power" {
          at     = "20s"
          target = "eu-paris-node-eu-paris-n-1"
        }
        goal "running" {
          job   = "near"
          count = 6
          at    = "always"
          until = "19s"
        }
        goal "running" {
          job      = "wide"
          at_least = 12
        }
        """,
    )
    summary = run.play()
    assert summary.is_ok, (summary.violations, summary.halts, summary.goals)
    assert 0 < summary.armed_s < 19
    assert summary.checked["full sync after a start from snapshots"] == 1
    # 19 went on as they were; what was on the lost node was begun elsewhere.
    assert summary.tasks_started == 19 + summary.placements < 30
    ids = {client.node_id for client in run.world.clients}
    state = State.restore([(snapshots / "paris.snap").read_bytes()])
    assert {node.id for node in state.nodes} < ids


@pytest.mark.slow
def test_a_start_repeats_and_is_the_same_over_wires(snapshots: Path):
    def hash_of(*, is_wire: bool) -> str:
        run = after(snapshots, duration="15s")
        run.world.is_wire = is_wire
        return run.play().trace_hash

    assert hash_of(is_wire=False) == hash_of(is_wire=False) == hash_of(is_wire=True)


def test_no_secret_is_in_what_it_begins_from_nor_in_the_files(snapshots: Path, tmp_path: Path):
    raw = (snapshots / "paris.snap").read_bytes()
    assert SECRET.encode() in raw
    assert SECRET.encode() not in read_start(str(snapshots / "paris.snap")).image
    paths = [str(path) for path in snapshots.glob("*.snap")]
    written = write_files(read_snapshots(paths), str(tmp_path / "copy"))
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".snap"]) == 2
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
    folder = str(tmp_path / "copy")
    assert read_scenario(Path(written.scenario).read_text(), written.scenario, folder)


@pytest.mark.slow
def test_what_it_begins_with_runs_and_twice_the_load_as_well(snapshots: Path, tmp_path: Path):
    paths = [str(path) for path in snapshots.glob("*.snap")]
    folder = str(tmp_path / "copy")
    written = write_files(read_snapshots(paths), folder)
    plan = read_scenario(
        Path(written.scenario).read_text(), written.scenario, folder, {"load": "2"}
    )
    plan.until_us = 45_000_000
    summary = Run(plan).play()
    assert (summary.violations, summary.halts) == ([], [])
    assert summary.instances_running == 2 * 19


def test_a_scenario_that_begins_from_snapshots_is_written_for_another_folder(
    snapshots: Path, tmp_path: Path
):
    scenario = after(snapshots).scenario
    scenario.folder = str(snapshots)
    again = read_scenario(write_scenario(scenario, str(tmp_path)), "again.hcl", str(tmp_path))
    starts = [[plan.start for plan in one.datacenters] for one in (scenario, again)]
    assert starts[0] == starts[1] and None not in starts[0]


def test_stripping_twice_is_as_once(snapshots: Path):
    state = State.restore([(snapshots / "paris.snap").read_bytes()])
    strip(state)
    once = state.hash()
    strip(state)
    assert state.hash() == once
    assert State.restore(state.image().chunks()).hash() == once


def test_a_snapshot_in_the_wrong_place_is_told_by_its_line(snapshots: Path, capsys):
    text = (
        'scenario "x" {}\nregion "eu" {\n  datacenter "oslo" {\n    snapshot = "rome.snap"\n  }\n}'
    )
    with pytest.raises(SourceError, match=r"(?s)x\.hcl:4.*is of eu/rome"):
        read_scenario(text, "x.hcl", str(snapshots))
    with pytest.raises(SourceError, match=r"(?s)x\.hcl:4.*none\.snap can't be read"):
        read_scenario(text.replace("rome.snap", "none.snap"), "x.hcl", str(snapshots))


def test_the_command_writes_a_scenario_that_begins_from_them(
    snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    paths = [str(path) for path in sorted(snapshots.glob("*.snap"))]
    folder = str(tmp_path / "copy")
    assert serai(["sim", "from-snapshot", "-out", folder, *paths]) == 0
    assert "serai sim run" in capsys.readouterr().out
    assert 'snapshot = "snapshots/eu-paris.snap"' in (tmp_path / "copy/scenario.hcl").read_text()
