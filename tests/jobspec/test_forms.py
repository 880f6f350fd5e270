"""Files that differ in names alone are read once; what comes out is what reading each gives."""

from typing import Any

import msgspec
import pytest

from core.jobspec import forms
from core.jobspec.canonical import canonicalize
from core.jobspec.forms import JobForms
from core.jobspec.validate import validate
from core.model.job import Job

TASK = {"Name": "work", "Driver": "exec", "Config": {"command": "/bin/true"}}


def _said(name: Any, group: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    groups = [{"Name": "g", "Count": 2, "Tasks": [TASK], **(group or {})}]
    return {"ID": name, "Type": "service", "TaskGroups": groups, **more}


def _afresh(said: Any) -> Job | None:
    try:
        job = canonicalize(msgspec.convert(said, Job), region="eu")
    except msgspec.ValidationError:
        return None
    return None if validate(job) else job


FILES = [
    _said("a"),
    _said("a", Name="another name"),
    _said("a", {"Services": [{"Name": "${JOB}-web", "PortLabel": "http"}]}),
    _said("a", {"Services": [{"PortLabel": "http"}]}),
    _said("a", {"Scaling": {"Min": 1, "Max": 9}}),
    _said("a", {"Count": -1}),
    _said("a", {"Count": "many"}),
    _said("a", Priority=1 << 70),
    _said("a", Constraints=[{"LTarget": "${attr.arch}", "RTarget": "amd64", "Operand": "="}]),
]


@pytest.mark.parametrize("said", FILES)
def test_a_form_gives_what_reading_gives(said: dict[str, Any]) -> None:
    known = JobForms("eu")
    names = ["a", "b", "c", "d e", "f\0", "g/periodic-1", "", 7, None, "h"]
    for name in names * 2:
        for extra in ({}, {"Name": "said"}, {"Name": ""}, {"Name": 3}, {"Name": None}):
            given = {**said, **extra, "ID": name}
            assert known.read(given) == _afresh(given), (name, extra)


def test_what_differs_in_its_name_alone_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known, checks = JobForms("eu"), 0

    def counted(job: Job) -> list[str]:
        nonlocal checks
        checks += 1
        return validate(job)

    monkeypatch.setattr(forms, "validate", counted)
    read = [known.read(_said(f"job-{number}")) for number in range(1_000)]
    assert checks <= 3  # twice as it comes, once to see whether names matter
    assert [job.id for job in read if job is not None] == [f"job-{n}" for n in range(1_000)]
    assert read[-1] is not None and read[-2] is not None
    assert read[-1].task_groups is read[-2].task_groups


def test_large_files_and_many_are_not_kept() -> None:
    known = JobForms("eu")
    for number in range(3_000):
        for _ in range(2):
            known.read(_said("a", Priority=1 + number % 100, Meta={"n": str(number)}))
    assert len(known._forms) <= 1_024
    for _ in range(3):
        assert known.read(_said("a", Meta={"blob": "x" * 10_000})) is not None
    assert all(len(key) <= 8_192 for key in known._forms)
