"""Job files as people write them, and what Nomad's API shows of each.

`files/NAME.nomad.hcl` (or .json, HCL's JSON form) has its job in `files/NAME.json`: every
attribute that differs from the empty value of its record, as Nomad's parser leaves it, before
any default is filled in. Each was read line by line against Nomad's documentation; what they
prove is that nothing changed since.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.jobspec import canonicalize, parse_job, validate

FOLDER = Path(__file__).with_name("files")
FILES = sorted(path for path in FOLDER.iterdir() if ".nomad." in path.name)


def said(value: Any) -> Any:
    """Return a record's fields that are not empty, by their names in the API."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        values = ((field, getattr(value, field.name)) for field in fields)
        return {f.encode_name: said(v) for f, v in values if v != f.default}
    if isinstance(value, dict):
        return {key: said(item) for key, item in value.items()}
    return [said(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_job_file_means_what_it_means_to_nomad(path: Path) -> None:
    parsed = parse_job(path.read_text(encoding="utf-8"), filename=path.name)
    expected = FOLDER / (path.name.split(".")[0] + ".json")
    assert said(parsed.job) == json.loads(expected.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_missing_is_a_warning_with_its_line_and_never_an_error(path: Path) -> None:
    parsed = parse_job(path.read_text(encoding="utf-8"), filename=path.name)
    assert all(w.line and w.filename == path.name for w in parsed.warnings)
    job = canonicalize(parsed.job, region="eu")
    if path.name.startswith("expressions"):
        assert validate(job) == ["Missing job task groups"]
    else:
        assert validate(job) == []
    assert canonicalize(job, region="eu") == job


def test_every_file_is_there_with_its_job() -> None:
    assert len(FILES) >= 24
