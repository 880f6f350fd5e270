"""Runs command lines in this process, against an API of answers."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core.cli import main


# Test folders are no packages; what their tests share is loaded by its path.
def _load(name: str) -> Any:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"cli_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"cli_{name}"] = module
    spec.loader.exec_module(module)
    return module


fake_api = _load("fake_api")
records = _load("records")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Serai = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SERAI_", "NOMAD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def serai(capfd: pytest.CaptureFixture[str]) -> Serai:
    def run(*args: str) -> Result:
        capfd.readouterr()
        code = main.run(list(args))
        sys.stdout.flush()
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Start an API of answers and point the environment at it."""
    with ExitStack() as stack:

        def start(answers: dict[str, Any]) -> Any:
            started = stack.enter_context(fake_api.serve(answers))
            monkeypatch.setenv("SERAI_ADDR", started.address)
            return started

        yield start
