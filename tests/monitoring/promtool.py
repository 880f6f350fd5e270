"""Runs Prometheus' own checker, or skips the test with the way to get it."""

import shutil
import subprocess
from pathlib import Path

import pytest

MONITORING = Path(__file__).parents[2] / "monitoring"


def promtool(*words: str, text: str = "") -> str:
    """Run promtool in monitoring/ with `text` as input; return what it says.

    Raises:
        AssertionError: It is not content.
    """
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        [program, *words],
        input=text, capture_output=True, text=True, cwd=MONITORING, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
