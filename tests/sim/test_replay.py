"""A recording, replayed: the same effects and state; a changed byte does not pass."""

import io
import random
from pathlib import Path
from typing import Any

import pytest

from core.agent.record import RunRecorder
from core.model.host import Effect, Event, Machine, Now
from sim.agents import SimAgent
from sim.replay import ReplayError, replay
from sim.run import Run
from sim.scenario import read_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"

ONE = """
scenario "one" { duration = "40s" }
region "eu" {
  datacenter "paris" {
    servers = 1
    nodes "small" { count = 1 }
  }
}
job "batch" {
  file = "sim-batch.nomad.hcl"
  at   = "15s"
}
"""


class Kept(io.BytesIO):
    """A file whose content can be read after it was closed."""

    name = "recording"
    content = b""

    def close(self) -> None:
        self.content = self.getvalue()


class Recorded:
    """A machine that records itself as core.agent's loop does."""

    def __init__(self, machine: Machine, role: str, recorder: RunRecorder) -> None:
        self.machine = machine
        self._role = role
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        effects = self.machine.handle(event, now)
        self._recorder.record(self._role, event, now, effects)
        return effects


def record(role: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the recording of the one agent of a role, over the whole run."""
    file = Kept()
    recorder = RunRecorder(file, None)
    kind = {"server": "SimServer", "client": "SimClient"}[role]
    from sim import agents

    sim_agent = getattr(agents, kind)
    machine_type = {"server": agents.ServerMachine, "client": agents.ClientMachine}[role]
    made: list[Any] = []

    def build(self: SimAgent) -> Any:
        def recording_machine(
            *, config: Any, boot: Any, rng: random.Random, now: Now, **shared: Any
        ) -> Any:
            recorder.header({role: {"config": config, "boot": boot, "seed": 77}}, now)
            machine = machine_type(config=config, boot=boot, rng=random.Random(77), now=now)
            made.append(machine)
            return Recorded(machine, role, recorder)

        monkeypatch.setattr(agents, machine_type.__name__, recording_machine)
        try:
            return original(self)
        finally:
            monkeypatch.setattr(agents, machine_type.__name__, machine_type)

    original = sim_agent.build
    monkeypatch.setattr(sim_agent, "build", build)
    Run(read_scenario(ONE, "one.hcl", str(EXAMPLES)), 1).play()
    recorder.close(made[0].state.hash() if role == "server" else "")
    return file.content


def opened(content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = "recording"
    return file


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_replay_gives_identical_effects_and_state(role: str, monkeypatch: pytest.MonkeyPatch):
    content = record(role, monkeypatch)
    outcome = replay(opened(content))
    assert outcome.matches is True
    assert outcome.events[role] > 50
    assert bool(outcome.state) is (role == "server")
    # The same again, and the same without the trailer: then there is nothing to compare.
    assert replay(opened(content)) == outcome


def test_a_changed_byte_is_noticed(monkeypatch: pytest.MonkeyPatch):
    content = record("server", monkeypatch)
    place = content.rindex(b"crunch")  # the task's name, in what a client or a user sent
    changed = content[:place] + b"brunch" + content[place + 6 :]
    assert replay(opened(changed)).matches is False


def test_a_recording_that_ends_early_has_nothing_to_compare_with(
    monkeypatch: pytest.MonkeyPatch,
):
    content = record("client", monkeypatch)
    outcome = replay(opened(content[: len(content) // 2]))
    assert outcome.matches is None
    assert outcome.events["client"] > 10


def test_what_is_no_recording_is_refused():
    for content in (b"", b"hello", b"\x80", b"\x81\xa6format\x63"):
        with pytest.raises(ReplayError, match="not a recording"):
            replay(opened(content))
