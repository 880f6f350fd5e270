"""Replicas share decoded entries and equal snapshots; what they make of them stays their own."""

from pathlib import Path
from typing import Any

import pytest

from core.state.commands import UpdateAllocations
from core.state.entry import Entry, encode_entry
from core.state.state import State
from sim.checkers import EQUAL
from sim.plans import Scenario
from sim.run import Run
from sim.scenario import read_scenario
from sim.sharing import KEPT, Decoded, Images

C2M = Path(__file__).parents[2] / "examples" / "scenarios" / "c2m.hcl"


def one_node_of_c2m() -> Scenario:
    """200 instances on one node: all that c2m does, ten thousand times smaller."""
    variables = {"scale": "0.001", "regions": "1", "jobs": "2"}
    scenario = read_scenario(C2M.read_text(), str(C2M), str(C2M.parent), variables)
    scenario.until_us = 70_000_000
    return scenario


def test_an_entry_is_decoded_once_and_held_until_all_replicas_have_it_or_it_is_long_gone():
    decoded = Decoded(3)
    first = encode_entry(Entry(wall_us=1, commands=[]))
    entry = decoded.decode(first, 1)
    assert decoded.decode(first, 1) is entry
    assert decoded.decode(first, 1) is entry  # the third
    again = decoded.decode(first, 1)
    assert again is not entry
    entry = again
    assert decoded.decode(first, 1) is entry
    equal = bytes(bytearray(first))
    assert decoded.decode(equal, 1) is not entry  # other bytes: somebody else's log
    for number in range(KEPT):
        decoded.decode(encode_entry(Entry(wall_us=number, commands=[])), 1)
    assert decoded.decode(first, 1) is not entry


def test_equal_images_are_one():
    images = Images()
    one = images.shared(b"state" * 100)
    assert images.shared(bytes(bytearray(b"state" * 100))) is one
    assert images.shared(b"another") != one


def test_nothing_changes_when_nothing_is_shared():
    shared, apart = Run(one_node_of_c2m()), Run(one_node_of_c2m(), is_wire=True)
    found = [run.play() for run in (shared, apart)]
    assert found[0].instances_running == 200
    assert found[0].trace_hash == found[1].trace_hash
    assert found[0].state_hashes == found[1].state_hashes


def test_a_replica_whose_apply_goes_astray_is_caught(monkeypatch: pytest.MonkeyPatch):
    """What a patch of apply does that breaks one replica of three, and nobody else."""
    run = Run(one_node_of_c2m())
    astray: list[State] = []
    apply_entry = State.apply_entry

    def apply_badly(state: State, index: int, entry: Entry) -> Any:
        if not astray and any(isinstance(one, UpdateAllocations) for one in entry.commands):
            astray.append(state)
        applied = apply_entry(state, index, entry)
        if state in astray and state.allocs.columns.length > 7:
            state.allocs.columns.client_text[7] = -1  # the text of one report is lost
        return applied

    monkeypatch.setattr(State, "apply_entry", apply_badly)
    summary = run.play()
    assert astray
    assert any(EQUAL in violation for violation in summary.violations)
