"""The trace hash: the same with compiled placement and without, of records and of their bytes."""

from pathlib import Path

import msgspec
import pytest

from core.federation.homes import Report
from core.model.host import CallDone
from core.scheduler import kernel
from sim.run import Run
from sim.scenario import read_scenario
from sim.trace import Trace

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


def test_a_record_of_many_fields_leaves_the_trace_of_its_bytes() -> None:
    report = Report(namespace="n", job_id="j", uid="u", datacenter_id="d", epoch=1, index=2)
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(report))
    assert msgspec.msgpack.encode(travelled) != msgspec.msgpack.encode(report)
    hashes = set()
    for body in ({"Report": report}, {"Report": travelled}):
        trace = Trace()
        trace.add(5, "eu-paris-server-1", CallDone(call_id=1, error="", body=body))
        hashes.add(trace.hexdigest())
    assert len(hashes) == 1
