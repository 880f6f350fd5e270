"""Judging a patch: what it says when it can't."""

import json
from pathlib import Path

import pytest

from sim import mutants

PATCH = """\
What is broken: nothing, this is a test's.
--- a/{path}
+++ b/{path}
@@ -1,1 +1,1 @@
-{old}
+{new}
"""


def write(folder: Path, path: str, old: str, new: str = "other") -> Path:
    patch = folder / "mine.patch"
    patch.write_text(PATCH.format(path=path, old=old, new=new))
    return patch


def why(patch: Path) -> str:
    with pytest.raises(mutants.MutantError) as caught:
        mutants.judge(patch, starts=[0], seeds=1)
    return str(caught.value)


def test_a_patch_of_files_that_no_program_covers_is_refused_by_name(tmp_path: Path) -> None:
    assert "no seed program covers README.md" in why(write(tmp_path, "README.md", "x"))


def test_a_patch_that_does_not_apply_says_so(tmp_path: Path) -> None:
    assert "does not apply" in why(write(tmp_path, "raft/core.py", "no such line"))


def test_what_is_no_patch_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.patch").write_text("hello\n")
    assert "no patch" in why(tmp_path / "mine.patch")
    assert "no file" in why(tmp_path / "none.patch")


def test_a_patch_that_breaks_the_program_is_not_called_caught(tmp_path: Path) -> None:
    first = (mutants.ROOT / "raft/log.py").read_text().splitlines()[0]
    text = PATCH.format(path="raft/log.py", old=first, new="this is no python")
    lines = (mutants.ROOT / "raft/log.py").read_text().splitlines()
    # Context keeps `git apply` content: the hunk has no line after it otherwise.
    text = text.replace("@@ -1,1 +1,1 @@", "@@ -1,4 +1,4 @@")
    text += "".join(f" {line}\n" for line in lines[1:4])
    (tmp_path / "mine.patch").write_text(text)
    assert "could not run" in why(tmp_path / "mine.patch")


def test_the_exit_code_and_the_last_line_tell_what_was_not_judged(tmp_path: Path, capsys) -> None:
    patch = write(tmp_path, "docs/nothing.md", "x")
    assert mutants.main(["--patch", str(patch)]) == 2
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["not_judged"] == ["mine"] and line["survived"] == []


def test_files_map_to_the_programs_that_cover_them() -> None:
    assert mutants.covering(["raft/log.py", "README.md"]) == ["sim.raft"]
    assert mutants.covering(["gossip/probe.py", "raft/log.py"]) == ["sim.raft", "sim.gossip"]
    assert mutants.covering(["core/state/access.py"]) == ["sim.raft", "sim.scheduler"]
    assert mutants.covering(["raft/journal.py"]) == ["sim.raft", "sim.powercut"]
    assert mutants.covering(["core/server/waiting.py"]) == ["sim.raft"]
    federation = ["sim.federation", "sim.federation explore"]
    assert mutants.covering(["core/federation/claims.py"]) == federation
    assert mutants.covering(["core/server/bootstrap.py"]) == ["sim.whole"]
    with pytest.raises(mutants.MutantError, match=r"no seed program covers README\.md"):
        mutants.covering(["README.md"])


def test_what_was_measured_is_kept_until_its_patch_is_gone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    folder = tmp_path / mutants.FOLDER
    folder.mkdir(parents=True)
    for name in ("kept", "gone"):
        (folder / f"{name}.patch").touch()
    mutants.record([mutants.Verdict("gone", "sim.raft", [1, 2, 3]), mutants.Verdict("kept", "a")])
    (folder / "gone.patch").unlink()
    mutants.record([mutants.Verdict("kept", "sim.raft", [7, 9, 8])])
    assert json.loads((tmp_path / mutants.FOUND).read_text()) == {
        "kept": ["sim.raft", "", [7, 9, 8]]
    }
