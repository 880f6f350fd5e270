"""The shipped LALR tables: what python-hcl2's grammar gives, and cheap everywhere."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.jobspec import SourceError, parse_body
from core.jobspec.hcl import generate_tables

PROGRAM = """
import sys
from core.jobspec import parse_body
print(parse_body('a = 1', 'f').get('a'), 'lark' in sys.modules or 'hcl2' in sys.modules)
"""


def test_the_shipped_tables_are_those_of_the_installed_grammar() -> None:
    assert generate_tables.main(["--check"]) == 0


def test_stale_tables_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "tables.json"
    stale.write_text(generate_tables.TABLES.read_text().replace('"COMMA"', '"KOMMA"', 1))
    monkeypatch.setattr(generate_tables, "TABLES", stale)
    assert generate_tables.main(["--check"]) == 1


def test_a_changed_grammar_of_python_hcl2_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_tables, "CORRECTIONS", (("no such rule", ""),))
    with pytest.raises(RuntimeError, match="no such rule"):
        generate_tables.grammar_text()


def test_a_first_parse_is_cheap_where_nothing_can_be_written() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        # No home, and a working folder that takes no files.
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "HOME": "/proc/nowhere"},
        cwd="/proc",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    # Building the tables alone would take 1.8 s; the parser generator isn't even imported.
    assert (done.stdout, done.stderr) == ("1 False\n", "")
    assert time.monotonic() - began < 10


def test_a_message_is_never_longer_than_a_screen() -> None:
    for text in ("a" * 1_000_000, '"' * 100_000, "x = " + "y" * 100_000 + "("):
        with pytest.raises(SourceError) as caught:
            parse_body(text, "f.hcl")
        assert len(str(caught.value)) < 1500
