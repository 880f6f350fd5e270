"""`-wire` and `-trace`: bytes instead of objects change nothing; the trace is its file's hash."""

import hashlib
import io
from pathlib import Path

import pytest

from core.model import host as h
from gossip.messages import PING, Packet
from sim import wire
from sim.run import Run
from sim.scenario import read_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"

SCENARIO = """
scenario "wire" { duration = "35s" }
region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "small" { count = 2 }
  }
  datacenter "rome" { servers = 1 }
}
job "batch" {
  file = "sim-batch.nomad.hcl"
  at   = "15s"
}
fault "crash" {
  at     = "24s"
  for    = "3s"
  target = "eu/paris/leader"
}
"""


class Counted:
    """How many bytes made the way through `wire`, by function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, int] = {}
        for name in ("sent", "received", "stream", "packet", "call", "reply"):
            monkeypatch.setattr(wire, name, self._counting(name, getattr(wire, name)))

    def _counting(self, name, function):
        def counting(*args):
            self.calls[name] = self.calls.get(name, 0) + 1
            return function(*args)

        return counting


def play(*, is_wire: bool) -> tuple[Run, str, bytes]:
    file = io.BytesIO()
    run = Run(read_scenario(SCENARIO, "wire.hcl", str(EXAMPLES)), 1, file)
    run.world.is_wire = is_wire
    summary = run.play()
    assert summary.is_ok, (summary.violations, summary.halts)
    assert summary.tasks_started > 0
    return run, summary.trace_hash, file.getvalue()


def test_bytes_on_the_wire_give_the_same_trace_which_is_its_files_sha256(
    monkeypatch: pytest.MonkeyPatch,
):
    _, plain, lines = play(is_wire=False)
    assert hashlib.sha256(lines).hexdigest() == plain
    assert {line.split()[2] for line in lines.splitlines()} >= {
        b"GossipReceived", b"GossipExchanged", b"MessageReceived", b"Requested", b"CallDone",
    }  # fmt: skip
    counted = Counted(monkeypatch)
    _, wired, _ = play(is_wire=True)
    assert wired == plain
    assert all(counted.calls[name] > 20 for name in counted.calls)
    assert len(counted.calls) == 6


def test_what_bytes_do_not_carry_does_not_arrive():
    class Shared(dict):
        """Something that only an object in common could be."""

    pools = {"lan": "lan:eu:paris"}
    sent = h.GossipSend("lan", "b:4648", Packet(PING, 7, "a", "b"))
    arrived = wire.received(pools, wire.sent(pools, sent))
    assert arrived.packet is not sent.packet
    assert (arrived.packet.sequence, arrived.packet.target) == (7, "b")
    body = wire.opened(wire.call(1, "Query", Shared(a=1))).body
    assert type(body) is dict
