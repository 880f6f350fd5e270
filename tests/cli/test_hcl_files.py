"""fmt, hcl2json and json2hcl as commands: files, folders, pipes, exit codes."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Serai = Callable[..., Any]
UGLY, CLEAN = "a=1\nbcd  = 2\n", "a   = 1\nbcd = 2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "ugly.nomad").write_text(UGLY)
    (tmp_path / "clean.hcl").write_text(CLEAN)
    (tmp_path / "other.txt").write_text(UGLY)
    (tmp_path / "inner" / "deep.nomad.hcl").write_text(UGLY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_fmt_rewrites_what_differs_and_names_it(serai: Serai, folder: Path) -> None:
    assert serai("fmt")[:2] == (0, "ugly.nomad\n")
    assert (folder / "ugly.nomad").read_text() == CLEAN
    assert (folder / "other.txt").read_text() == UGLY
    assert (folder / "inner" / "deep.nomad.hcl").read_text() == UGLY
    assert serai("fmt", "-recursive").out == f"inner{os.sep}deep.nomad.hcl\n"
    assert serai("fmt", "-recursive")[:2] == (0, "")


def test_fmt_check_writes_nothing_and_fails(serai: Serai, folder: Path) -> None:
    assert serai("fmt", "-check", "-recursive", ".").code == 1
    assert (folder / "ugly.nomad").read_text() == UGLY
    assert serai("fmt", "-check", "-list=false", "ugly.nomad")[:2] == (1, "")
    assert serai("fmt", "-check", "clean.hcl")[:2] == (0, "")


def test_fmt_diff_shows_lines(serai: Serai, folder: Path) -> None:
    result = serai("fmt", "-diff", "-write=false", "ugly.nomad")
    assert result.code == 0 and (folder / "ugly.nomad").read_text() == UGLY
    assert "-a=1" in result.lines and "+a   = 1" in result.lines


def test_fmt_keeps_mode_and_links(serai: Serai, folder: Path) -> None:
    (folder / "ugly.nomad").chmod(0o640)
    (folder / "link.hcl").symlink_to("ugly.nomad")
    assert serai("fmt", "link.hcl").code == 0
    assert (folder / "link.hcl").is_symlink()
    assert (folder / "ugly.nomad").stat().st_mode & 0o777 == 0o640
    assert (folder / "ugly.nomad").read_text() == CLEAN


def test_fmt_goes_on_after_a_file_that_is_no_hcl(serai: Serai, folder: Path) -> None:
    (folder / "broken.hcl").write_text("a = = 1\n")
    (folder / "binary.hcl").write_bytes(b"\xff\xfe")
    result = serai("fmt", "-check")
    assert result.code == 1 and result.out == "ugly.nomad\n"
    assert "broken.hcl:1:5" in result.err and "^" in result.err
    assert "binary.hcl is not text" in result.err and "Traceback" not in result.err


def test_fmt_reads_stdin(serai: Serai, monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, UGLY)
    assert serai("fmt", "-")[:2] == (0, CLEAN)
    _pipe(monkeypatch, UGLY)
    assert serai("fmt", "-check", "-")[:2] == (1, "<stdin>\n")


def test_conversion_through_pipes_and_files(
    serai: Serai, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pipe(monkeypatch, 'a "b" {\n  c = [1, var.x]\n}\n')
    made = serai("hcl2json")
    assert json.loads(made.out) == {"a": {"b": {"c": [1, "${var.x}"]}}}
    (folder / "made.json").write_text(made.out)
    assert serai("json2hcl", "-o", "made.hcl", "made.json")[:2] == (0, "")
    assert (folder / "made.hcl").read_text() == 'a "b" {\n  c = [1, "${var.x}"]\n}\n'
    assert serai("hcl2json", "made.hcl").out == made.out


def test_conversion_refuses_with_the_place(serai: Serai, folder: Path) -> None:
    (folder / "bad.hcl").write_text("a = [1\n")
    result = serai("hcl2json", "bad.hcl")
    assert result.code == 1 and "bad.hcl:1:5" in result.err and "^" in result.err
    assert "cannot read none.json" in serai("json2hcl", "none.json").err
    (folder / "big.json").write_text("{}" + " " * 10_000_000)
    assert "too large" in serai("json2hcl", "big.json").err
    result = serai("hcl2json", "-o", "none/x.json", "clean.hcl")
    assert result.code == 1 and "cannot write none/x.json" in result.err


@pytest.mark.parametrize(
    "words", ["fmt", "hcl2json", "json2hcl", "job validate", "job run", "job plan"]
)
def test_completion_offers_files(words: str) -> None:
    from click.shell_completion import ShellComplete

    from core.cli.main import build_root

    complete = ShellComplete(build_root(), {}, "serai", "_SERAI_COMPLETE")
    offered = complete.get_completions(words.split(), "exa")
    assert [item.type for item in offered] == ["file"]
    flags = {item.value for item in complete.get_completions(words.split(), "-")}
    assert flags & {"-check", "-o", "-var-file"}
