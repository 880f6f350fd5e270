"""Help is fast because it imports next to nothing, and complete because all load."""

import subprocess
import sys

import click
import pytest

from core.cli import catalog
from core.cli.main import build_root

HEAVY = ("httpx", "trio", "rich", "hcl2", "lark", "msgspec", "numpy", "starlette")


@pytest.mark.parametrize("words", ["-help", "job -help", "job run -help", "dev -help", "-version"])
def test_help_imports_nothing_heavy(words: str) -> None:
    script = (
        "import sys; from core.cli.main import run; code = run(sys.argv[1:]);"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def commands() -> list[str]:
    return sorted({*catalog.COMMANDS, *catalog.ALIASES})


@pytest.mark.parametrize("path", commands())
def test_every_command_of_the_catalog_loads_and_explains_itself(path: str) -> None:
    found: click.Command = build_root()
    ctx = click.Context(found, info_name="serai")
    for word in path.split():
        assert isinstance(found, click.Group)
        child = found.get_command(ctx, word)
        assert child is not None, f"serai {path}"
        found, ctx = child, click.Context(child, info_name=word, parent=ctx)
    assert (found.help or "").strip()
    assert found.get_help(ctx)


def test_every_group_has_commands_and_every_command_a_group() -> None:
    for path in [*catalog.COMMANDS, *catalog.GROUPS]:
        outer = path.rpartition(" ")[0]
        assert not outer or outer in catalog.GROUPS, path
    for group in catalog.GROUPS:
        assert any(path.startswith(f"{group} ") for path in catalog.COMMANDS)


def test_completion_knows_the_commands() -> None:
    root = build_root()
    ctx = click.Context(root, info_name="serai")
    assert [item.value for item in root.shell_complete(ctx, "al")] == ["alloc"]
