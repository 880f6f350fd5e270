"""A slice of `python -m sim.raft`: the promises hold, and the faults really happened."""

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from sim.raft import history, program
from sim.seeds import main

OFTEN = (  # in any dozen of seeds; `python -m sim.raft` looks for all that is declared
    "append refused with a hint",
    "leader commits before its own disk",
    "new leader with entries of older terms",
    "repeated command dropped",
    "timed-out write took effect",
)


def options(**given: object) -> argparse.Namespace:
    defaults = {"has_faults": True, "engine": "core", "black_box": False, "dump_history": None}
    return argparse.Namespace(**{**defaults, **given})


@pytest.mark.parametrize("first", [0, 12])
def test_no_promise_is_broken_under_faults(first: int) -> None:
    seen: Counter[str] = Counter()
    acknowledged = 0
    for seed in range(first, first + 12):
        outcome = program.run_seed(seed, options())
        assert outcome.violations == [], f"python -m sim.raft --seeds 1 --start {seed}"
        seen += outcome.situations
        acknowledged += outcome.acknowledged
    assert acknowledged > 500
    assert [name for name in OFTEN if not seen[name]] == []


def test_a_seed_repeats_bit_for_bit() -> None:
    def story(seed: int) -> str:
        trial = program.Trial(seed, options())
        trial.play()
        text = repr((trial.history, trial.world.now_us, trial.world.story(), trial.world.faults))
        return hashlib.sha256(text.encode()).hexdigest()

    assert story(7) == story(7)


def test_without_faults_nothing_is_violated_and_the_run_says_that_it_tested_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        program.PROGRAM, ["--seeds", "2", "--faults", "none", "--dump-history", str(tmp_path)]
    )
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (code, line["violations"]) == (3, [])
    assert "fault: power cut" in line["zero"]
    for path in tmp_path.iterdir():
        operations = history.load(path)
        assert len(operations) >= 200 and len({one.client for one in operations}) >= 8
        assert any(one.result is history.Result.UNKNOWN for one in operations)
    assert history.main([str(path) for path in tmp_path.iterdir()]) == 0
