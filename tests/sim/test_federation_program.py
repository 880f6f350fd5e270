"""The proof of the federation: a short slice, and that its judges see what they are to see."""

import json
import random
from argparse import Namespace
from collections import Counter

import msgspec
import pytest

from core.federation import homes
from core.federation.adoption import Adoption
from core.federation.homes import Home
from core.federation.ranges import Indices
from sim.federation import explore, program
from sim.federation.clients import ProcessKey
from sim.federation.datacenter import Datacenter
from sim.federation.ending import Ending
from sim.federation.explore import Bounds, Broken, Exploration
from sim.federation.explore_lost import LostHome
from sim.federation.readers import Reader, _rows_of
from sim.federation.watch import Watch
from sim.federation.workload import Fate, Kind, NameRules, Operation, Workload
from sim.federation.world import S, World
from sim.seeds import Violation, _Total, _zeros

SMALL = Bounds(decisions=1, syncs=0, instances=1, states=100_000)


def world_of(count: int) -> World:
    world = World(1)
    Watch(world)
    for number in range(count):
        Datacenter(
            world, f"{number + 1:012x}", f"dc{number}", "r0", is_authority=number == 0, slots=3
        )
    world.run_for(4 * S)
    return world


def test_a_seed_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ROSTERS", (3,))
    monkeypatch.setattr(program, "FAULTY_US", (40 * S, 40 * S))
    monkeypatch.setattr(program, "QUIET_US", 5 * S)
    options = Namespace(has_faults=True)
    first, second = program.run_seed(3, options), program.run_seed(3, options)
    assert (first.faults, first.situations) == (second.faults, second.situations)
    assert first.violations == second.violations
    assert first.acknowledged == second.acknowledged > 0


def test_a_process_in_two_datacenters_is_seen() -> None:
    world = world_of(2)
    one, two = world.datacenters.values()
    process = ProcessKey("u", "web", 0)
    world.watch.on_started(one, process)
    world.watch.on_ended(one, process)
    world.watch.on_started(two, process)  # one after the other is as it should be
    with pytest.raises(Violation, match="process twice"):
        world.watch.on_started(one, process)


def test_a_write_that_is_gone_is_seen() -> None:
    world = world_of(1)
    workload = Workload(world, random.Random(1))
    workload.names["job"] = NameRules("job", "r0", (), 0, ("*",), "hold")
    done = Operation(Kind.REGISTER, "job", "m1", 2, call_us=10, token="t", fate=Fate.DONE)
    done.return_us = 20
    workload.operations.append(done)
    with pytest.raises(Violation, match="write lost"):
        Ending(world, workload).check()
    # Another write, of which nothing was heard, may have come after it.
    purge = Operation(Kind.PURGE, "job", "", 0, call_us=15, token="u")
    workload.operations.append(purge)
    Ending(world, workload).check()


def test_the_exploration_is_complete_and_finds_what_is_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exploration = Exploration(SMALL)
    exploration.run()
    assert exploration.is_complete and exploration.states >= 40

    def hasty(
        home: Home, allowed: dict[str, Indices], index: int, versions: dict[str, int]
    ) -> Home:
        """Forget what a datacenter holds as soon as it shall not hold it."""
        parts = {
            dc: homes.msgspec.structs.replace(part, holds=allowed.get(dc, part.allowed))
            for dc, part in home.parts.items()
        }
        return divide(homes.msgspec.structs.replace(home, parts=parts), allowed, index)

    divide = homes.divide
    monkeypatch.setattr(homes, "divide", hasty)
    with pytest.raises(Broken, match="A decides"):
        Exploration(SMALL._replace(decisions=2)).run()


def test_an_adoption_in_one_round_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    exploration = LostHome(SMALL)
    exploration.run()
    assert exploration.is_complete and exploration.states >= 400
    stage = Adoption.stage

    def hasty(adoption: Adoption) -> str:
        """Ask what everybody holds before anybody has the floor."""
        heard = dict.fromkeys(adoption.members, True)
        return str(stage.fget(msgspec.structs.replace(adoption, members=heard)))

    monkeypatch.setattr(Adoption, "stage", property(hasty))
    with pytest.raises(Broken, match="A is declared off"):
        LostHome(SMALL).run()


def test_exploring_prints_its_figures_last(capsys: pytest.CaptureFixture[str]) -> None:
    code = explore.main(["--decisions", "1", "--syncs", "0", "--instances", "1"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0 and line["complete"] and line["states"] >= 40 and not line["violations"]


def test_a_roster_that_hardly_any_seed_has_fails_a_run() -> None:
    total = _Total(seeds=200, acknowledged=1)
    total.faults.update(program.PROGRAM.faults)
    total.situations.update(program.PROGRAM.situations)
    short = _zeros(program.PROGRAM, total)
    assert short == [
        f"situation: roster of {size} in 1 of the seeds, not in 15%" for size in (2, 3, 5, 20)
    ]
    sizes = Counter(program.ROSTERS[seed % len(program.ROSTERS)] for seed in range(200))
    total.situations.update({f"roster of {size}": count for size, count in sizes.items()})
    assert _zeros(program.PROGRAM, total) == []


def test_an_old_leader_who_is_elected_again_leads() -> None:
    """Seed 10101: he was told that others lead after he had been elected once more."""
    world = world_of(1)
    (one,) = world.datacenters.values()
    first = one.leader
    one.change_leader(is_committed=True, is_restored=False, unaware_us=3 * S)
    world.run_for(1_600_000)
    one.change_leader(is_committed=True, is_restored=False, unaware_us=0)
    world.run_for(5 * S)
    assert one.leader is first and first is not None and first.log.is_serving


def test_a_reader_who_misses_a_change_or_hears_of_it_under_the_same_index_is_seen() -> None:
    world = world_of(2)
    reader = Reader(world, next(iter(world.datacenters.values())).servers[0], random.Random(1), {})
    world.run_for(20 * S)
    reader.check_end()
    index = reader.index
    assert index
    row = {"ID": "a", "ModifyIndex": 7, "DesiredStatus": "run", "ClientStatus": "running"}
    with pytest.raises(Violation, match="two lists under index"):
        reader._judge(index, _rows_of([row]))
    with pytest.raises(Violation, match="list change missed"):
        reader.check_end()
    with pytest.raises(Violation, match="list went back"):
        reader._judge(index - 1, {})
