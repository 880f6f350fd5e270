"""Power cuts: a slice of the seed program, and that it can fail."""

import argparse
from collections import Counter

import pytest

from sim.platter import RecordingFile
from sim.powercut import PROGRAM, run_seed

ALL = argparse.Namespace(has_faults=True)


def test_what_was_acknowledged_survives_every_power_cut() -> None:
    cuts: Counter[str] = Counter()
    for seed in range(3):
        outcome = run_seed(seed, ALL)
        assert outcome.violations == []
        cuts += outcome.faults
    assert cuts["power cut"] > 100
    assert cuts["write torn"] and cuts["rename undone"] and cuts["kill"]


def test_a_seed_repeats() -> None:
    first, second = run_seed(6, ALL), run_seed(6, ALL)
    assert (first.faults, first.situations) == (second.faults, second.situations)


def test_a_disk_that_does_not_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingFile, "sync", lambda file: None)
    assert {checker for checker, _ in run_seed(0, ALL).violations} <= {"starts", "acknowledged"}
    assert run_seed(0, ALL).violations


def test_without_faults_nothing_is_cut() -> None:
    outcome = run_seed(0, argparse.Namespace(has_faults=False))
    assert not outcome.violations and not any(outcome.faults.values())
    assert outcome.acknowledged and set(outcome.faults) <= set(PROGRAM.faults)
