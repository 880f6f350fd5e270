"""`python -m sim.whole`: a seed plays to its end, and its faults are what it counts."""

import argparse

from sim import whole


def test_a_seed_is_clean_and_counts_what_it_did() -> None:
    outcome = whole.run_seed(3, argparse.Namespace(has_faults=True))
    assert outcome.violations == []
    assert outcome.acknowledged > 10
    assert set(outcome.faults) <= set(whole.PROGRAM.faults) and outcome.faults.total()
    assert set(outcome.situations) <= set(whole.SITUATIONS)
