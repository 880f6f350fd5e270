"""The LALR tables: cached in the user's folder, and only slower where that can't be."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.jobspec import SourceError, parse_body
from core.jobspec.hcl import grammar

PROGRAM = "from core.jobspec import parse_body; print(parse_body('a = 1', 'f').get('a'))"


def parse_in_a_new_process(home: Path) -> float:
    """Parse once with `home` as home; return the seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    return time.monotonic() - began


def test_the_second_process_loads_what_the_first_built(tmp_path: Path) -> None:
    slow = parse_in_a_new_process(tmp_path)
    cached = list((tmp_path / ".cache" / "serai").iterdir())
    assert len(cached) == 1
    assert parse_in_a_new_process(tmp_path) < slow
    # A file that was cut short is built anew, silently.
    cached[0].write_bytes(cached[0].read_bytes()[:1000])
    parse_in_a_new_process(tmp_path)


def test_a_home_that_can_not_be_written_only_costs_time(tmp_path: Path) -> None:
    file = tmp_path / "no-folder"
    file.write_text("")
    parse_in_a_new_process(file)


def test_a_changed_grammar_of_python_hcl2_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "_CORRECTIONS", (("no such rule", ""),))
    with pytest.raises(RuntimeError, match="no such rule"):
        grammar._grammar_text()


def test_a_message_is_never_longer_than_a_screen() -> None:
    for text in ("a" * 1_000_000, '"' * 100_000, "x = " + "y" * 100_000 + "("):
        with pytest.raises(SourceError) as caught:
            parse_body(text, "f.hcl")
        assert len(str(caught.value)) < 1500
