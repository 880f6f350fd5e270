"""`-scheduler`: runs on the workers of a Dask scheduler, with what they read sent along."""

import sys
from pathlib import Path

import pytest

from core.cli.main import run
from sim.dask_workers import DaskWorkers, NoScheduler
from sim.fuzz import fuzz
from sim.scenario import Scenario, read_scenario
from sim.workload import with_files

FUZZ = Path(__file__).parent / "fuzz.hcl"


def load() -> Scenario:
    scenario = read_scenario(FUZZ.read_text(), str(FUZZ), str(FUZZ.parent))
    scenario.until_us = 20_000_000
    return scenario


def test_without_dask_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code = run(["sim", "fuzz", "-seeds", "1", "-scheduler", "tcp://127.0.0.1:1", str(FUZZ)])
    assert code == 1
    assert "pip install 'serai[dask]'" in capsys.readouterr().err


def test_a_scenario_takes_the_texts_of_its_files_along(tmp_path: Path):
    scenario = with_files(load())
    assert len(scenario.files) == len({plan.file for plan in scenario.jobs}) == 3
    assert all('job "' in text for text in scenario.files.values())
    scenario.folder = str(tmp_path)  # as on another machine
    with pytest.raises(Exception, match="can't be read"):
        with_files(scenario)


@pytest.mark.slow
def test_the_runs_of_a_dask_cluster_are_those_of_this_process():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        there = [trial.summary.trace_hash for trial in fuzz(load(), range(3, 6), 1, address)]
    here = [trial.summary.trace_hash for trial in fuzz(load(), range(3, 6))]
    assert there == here


@pytest.mark.slow
def test_a_scheduler_that_is_of_no_use_is_refused_in_words():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:
        with pytest.raises(NoScheduler, match="has no workers yet"):
            DaskWorkers(cluster.scheduler_address).__enter__()
        address = cluster.scheduler_address
    with pytest.raises(NoScheduler, match="no scheduler of Dask answers"):
        DaskWorkers(address if address.startswith("tcp") else "tcp://127.0.0.1:1").__enter__()
