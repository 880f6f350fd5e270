"""What the import contracts can't see: global randomness, and order that a hash decides."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINES = ("core/model", "core/jobspec", "core/state", "core/scheduler", "core/federation",
            "core/server", "core/client", "raft", "gossip", "sim")  # fmt: skip
# Edges to real disks and sockets, not machines.
EDGES = {"gossip/endpoint.py", "gossip/host.py", "gossip/keyring.py"}

# Finds an object again that is held meanwhile: its place in a file, what was worked out for it.
# Nothing is ordered by it.
USES_ID_AS_KEY = {"core/jobspec/decode.py", "core/model/alike.py", "sim/sharing.py"}


def sources(*folders: str) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in EDGES
    ]


@pytest.mark.parametrize("path", sources(*MACHINES), ids=lambda p: str(p.relative_to(ROOT)))
def test_machines_use_no_global_randomness_and_no_salted_hash(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "random":
                assert node.attr == "Random", f"{path}:{node.lineno} random.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            names = {alias.name for alias in node.names}
            assert names <= {"Random"}, f"{path}:{node.lineno} from random import {names}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if str(path.relative_to(ROOT)) not in USES_ID_AS_KEY:
                assert node.func.id not in ("hash", "id"), f"{path}:{node.lineno} {node.func.id}()"


def test_the_calendar_reads_no_clock() -> None:
    """`core.jobspec.cron` may import datetime, for zones; the contracts forbid it elsewhere."""
    tree = ast.parse((ROOT / "core/jobspec/cron.py").read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"}


@pytest.mark.parametrize("path", sources(*MACHINES), ids=lambda p: str(p.relative_to(ROOT)))
def test_machines_iterate_over_no_set(path: Path) -> None:
    """Of literals and calls only: the type of a name is beyond this test."""
    for node in ast.walk(ast.parse(path.read_text())):
        for iterated in _iterated(node):
            is_set = isinstance(iterated, ast.Set | ast.SetComp) or (
                isinstance(iterated, ast.Call)
                and isinstance(iterated.func, ast.Name)
                and iterated.func.id in ("set", "frozenset")
            )
            assert not is_set, f"{path}:{node.lineno} iterates over a set"  # type: ignore[attr-defined]


def _iterated(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
        return [generator.iter for generator in node.generators]
    return []


def test_the_repository_names_no_machine_of_its_makers() -> None:
    """No absolute path of a build machine, and no package registry's host."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    )
    pattern = re.compile(
        r"/root/|/home/\w+/|files\.pythonhosted|pypi\.org|registry\.npmjs|/work/main"
    )
    for name in listed.stdout.split():
        path = ROOT / name
        if path == Path(__file__) or path.suffix in (".png", ".bin") or not path.is_file():
            continue
        found = pattern.search(path.read_text(errors="replace"))
        assert found is None, f"{name}: {found}"
