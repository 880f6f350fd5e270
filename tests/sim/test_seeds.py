"""The seed-program kit: what counts as clean, and which exit code says so."""

import argparse
import json
from collections import Counter

import pytest

from sim.seeds import Outcome, Program, Violation, main


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Breaks something as its seed says: 301 a checker, 302 a raise, 303 an assertion."""
    outcome = Outcome(acknowledged=3)
    if options.has_faults:
        outcome.faults = Counter({"crash": 1})
        outcome.situations = Counter({"tail cut": seed % 2})
    if seed == 301:
        outcome.violations.append(("log matching", "two entries at 7"))
    if seed == 302:
        raise Violation("election safety", "two leaders in term 3")
    if seed == 303:
        raise AssertionError("an assertion of the shipped code")
    return outcome


PROGRAM = Program(
    name="sim.toy",
    about="A toy.",
    faults=("crash",),
    situations=("tail cut",),
    run_seed=run_seed,
)


def play(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    code = main(PROGRAM, arguments)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_clean_seeds_exit_0_with_the_figures_in_the_last_line(capsys) -> None:
    code, line = play(capsys, "--seeds", "200")
    assert code == 0
    assert (line["program"], line["seeds"], line["start"]) == ("sim.toy", 200, 0)
    assert (line["faults"], line["situations"]) == ({"crash": 200}, {"tail cut": 100})
    assert (line["acknowledged"], line["violations"], line["samples"]) == (600, [], 200)
    assert "reduced" not in line and "commit" in line and line["sizes"]["seeds"] == 200


def test_few_clean_seeds_are_reduced_and_exit_3(capsys) -> None:
    code, line = play(capsys, "--seeds", "5")
    assert code == 3 and line["reduced"] is True


def test_a_violation_exits_1_and_names_seed_and_checker(capsys) -> None:
    code, line = play(capsys, "--start", "300", "--seeds", "3")
    assert code == 1
    assert [(v["seed"], v["checker"]) for v in line["violations"]] == [
        (301, "log matching"),
        (302, "election safety"),
    ]


def test_without_faults_the_same_rule_fails_the_run(capsys) -> None:
    code, line = play(capsys, "--seeds", "200", "--faults", "none")
    assert code == 4
    assert line["zero"] == ["fault: crash", "situation: tail cut"]


def test_first_stops_at_a_checker_and_not_at_an_assertion(capsys) -> None:
    code, line = play(capsys, "--start", "303", "--seeds", "10", "--first")
    assert code == 1 and line["seeds"] == 10
    assert line["violations"][0]["checker"] == "invariant"
    code, line = play(capsys, "--start", "300", "--seeds", "10", "--first")
    assert code == 1 and line["seeds"] == 2


def test_workers_give_the_same_figures(capsys) -> None:
    alone = play(capsys, "--seeds", "210", "--start", "200")[1]
    shared = play(capsys, "--seeds", "210", "--start", "200", "--workers", "2")[1]
    for line in (alone, shared):
        del line["cpu_s_per_seed"]
        for violation in line["violations"]:
            violation["text"] = violation["text"].split(" (")[0]
    assert alone == shared


@pytest.mark.parametrize("wrong", ["--seeds=0", "--start=-1", "--faults=some", "--workers=0"])
def test_wrong_arguments_exit_2(wrong: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(PROGRAM, [wrong])
