"""Broken packets kept from fuzzing (`python -m sim.gossip fuzz` adds what it finds)."""

from pathlib import Path

import pytest

from sim.gossip.fuzz import Judge

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_it_is_refused_or_read_and_harms_nothing(path):
    assert Judge().judge(path.read_bytes()) == ""


def test_the_whole_corpus_harms_no_machine_that_got_it_all():
    judge = Judge()
    for _ in range(3):
        for path in CORPUS:
            assert judge.judge(path.read_bytes()) == ""
    assert judge.counts["decoded"] and judge.counts["malformed"]
