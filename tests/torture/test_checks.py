"""The torture's judge can say no: a lost, an invented and a repeated write are each named."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.torture.checks import Findings, compare
from tests.torture.writers import Counted, Ledger


def job(value: str, version: int = 0) -> dict[str, Any]:
    return {"Meta": {"value": value}, "Version": version}


def ledger() -> Ledger:
    return Ledger(
        created={"made": "cafe"},
        unsent={"never"},
        counted={"kept": Counted(acknowledged=3, tried=4)},
    )


@pytest.mark.parametrize("value", ["3", "4"])
def test_what_was_acknowledged_or_may_have_happened_is_right(value: str) -> None:
    findings = Findings()
    jobs = {"made": job("cafe"), "kept": job(value, int(value) - 1)}
    compare("server", jobs, ledger(), findings)
    assert findings.is_clean


@pytest.mark.parametrize(
    ("jobs", "lost", "wrong"),
    [
        ({"kept": job("3", 2)}, "lacks made", ""),
        ({"made": job("cafe")}, "shows kept at 0, 3 was acknowledged", ""),
        ({"made": job("cafe"), "kept": job("2", 1)}, "shows kept at 2", ""),
        ({"made": job("beef"), "kept": job("3", 2)}, "", "written was cafe"),
        ({"made": job("cafe"), "kept": job("5", 4)}, "", "never written"),
        ({"made": job("cafe"), "kept": job("3", 3)}, "", "carried out twice"),
        ({"made": job("cafe"), "kept": job("3", 2), "never": job("1")}, "", "never sent"),
    ],
)
def test_anything_else_is_named(jobs: dict[str, Any], lost: str, wrong: str) -> None:
    findings = Findings()
    compare("server", jobs, ledger(), findings)
    assert lost in "".join(findings.lost) and wrong in "".join(findings.wrong)
    assert bool(findings.lost) == bool(lost) and bool(findings.wrong) == bool(wrong)
