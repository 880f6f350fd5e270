"""`python -m sim.client` in a small way: its seeds are clean, and its judges can fail."""

import argparse
import json

import pytest

from core.client import restarts, task_order
from core.client.task_runner import TaskRunner
from sim import mutants
from sim.client import __main__ as command
from sim.client import program
from sim.seeds import Outcome, main

FAULTY = argparse.Namespace(has_faults=True)


def first_caught(seeds: range) -> str:
    """Return the checker that fires first."""
    for seed in seeds:
        outcome: Outcome = program.run_seed(seed, FAULTY)
        if outcome.is_caught:
            return outcome.violations[0][0]
    return ""


def test_a_few_seeds_are_clean_and_the_last_line_says_so(capsys: pytest.CaptureFixture[str]):
    assert main(command.PROGRAM, ["--seeds", "6"]) == 3  # clean, but far too few
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["violations"] == [] and found["reduced"] is True
    assert found["acknowledged"] > 0 and set(found["situations"]) == set(program.SITUATIONS)


def test_equal_seeds_give_equal_outcomes_and_undisturbed_ones_inject_nothing():
    one, two = (program.run_seed(3, FAULTY) for _ in range(2))
    assert (one.faults, one.situations) == (two.faults, two.situations)
    calm = program.run_seed(5, argparse.Namespace(has_faults=False))
    assert not calm.violations
    assert set(+calm.faults) <= {"start failed", "kill signal ignored"}  # of the tasks themselves


def test_a_client_that_breaks_a_promise_is_found(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(TaskRunner, "kill_timeout_us", 500_000)
        assert first_caught(range(20)) in ("killed too early", "stopped late")
    with monkeypatch.context() as patch:
        patch.setattr(restarts, "JITTER", -0.5)
        assert first_caught(range(20)) == "restart policy"
    with monkeypatch.context() as patch:
        patch.setattr(task_order, "is_sidecar", lambda task: False)
        assert first_caught(range(30)) != ""


def test_a_patch_of_the_client_has_its_judges():
    assert mutants.covering(["core/client/task_runner.py"]) == ["sim.client"]
    assert mutants.covering(["core/client/health.py"]) == ["sim.scheduler", "sim.client"]
