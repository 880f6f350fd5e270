"""The trace hash is the same with compiled placement and without."""

from pathlib import Path

import pytest

from core.scheduler import kernel
from sim.run import Run
from sim.scenario import read_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"

SCENARIO = """
scenario "trace" { duration = "26s" }
region "eu" {
  datacenter "paris" {
    servers = 1
    nodes "small" { count = 4 }
    nodes "large" {
      count  = 2
      cpu    = 16000
      memory = 32768
    }
  }
}
job "batch" {
  file   = "sim-batch.nomad.hcl"
  at     = "12s"
  copies = 2
  count  = 60
}
job "web" {
  file = "sim-web.nomad.hcl"
  at   = "14s"
}
fault "crash" {
  at     = "18s"
  for    = "3s"
  target = "eu-paris-small-1"
}
"""


def play(*, is_compiled: bool) -> str:
    scenario = read_scenario(SCENARIO, "trace.hcl", str(EXAMPLES))
    summary = Run(scenario, 1, is_compiled=is_compiled).play()
    assert summary.violations == summary.halts == []
    assert summary.placements >= 120
    return summary.trace_hash


@pytest.mark.skipif(not kernel.is_installed(), reason="numba is an extra")
def test_compiled_placement_gives_the_same_trace(monkeypatch: pytest.MonkeyPatch):
    chosen: list[int] = []
    greedy = kernel.Kernel.greedy

    def counted(self, *args):
        found = greedy(self, *args)
        chosen.append(len(found[0]))
        return found

    monkeypatch.setattr(kernel.Kernel, "greedy", counted)
    try:
        compiled = play(is_compiled=True)
        assert sum(chosen) >= 60
        chosen.clear()
        assert play(is_compiled=False) == compiled
        assert chosen == []
    finally:
        kernel.unload()
