"""The simulator's host of gossip machines: what befalls members and packets befalls them."""

import pytest

from gossip.machine import GossipMachine
from sim.gossip_world import POOL, GossipWorld, S


def story(world: GossipWorld) -> list[tuple[object, ...]]:
    return [(at, who, e.kind, e.member.name, e.member.incarnation) for at, who, e in world.events]


def play(*, wire: bool) -> GossipWorld:
    world = GossipWorld(seed=5, loss=0.05, wire=wire)
    names = world.form(40)
    world.do(names[3], lambda machine, now_us: machine.set_meta({"n": "1"}, now_us))
    world.kill(names[7])
    world.pause(names[9])
    world.run(20)
    world.resume(names[9])
    world.restart(names[11], address="elsewhere:1")
    world.run(40)
    return world


def test_bytes_and_objects_give_the_same_events():
    objects, wired = play(wire=False), play(wire=True)
    assert story(objects) == story(wired)
    assert objects.count("packets_sent") == wired.count("packets_sent")
    assert objects.bytes == 0 < wired.bytes
    assert 0 < wired.largest_bytes <= 1_400


def test_a_pool_formed_at_once_is_one_that_has_joined():
    world = GossipWorld(seed=1)
    names = world.form_at_once(70)
    assert world.is_agreed() and not world.events
    summaries = {m.machine.table.summary() for m in world.members.values()}
    assert len(summaries) == 1
    # every number of the directory is in use by all, and free once all forgot it
    assert set(world.directories[POOL]._uses) == {70}
    world.run(120)
    assert not world.events and world.is_agreed()
    world.kill(names[5])
    world.run_until(lambda: world.statuses(names[5]) == {"dead"}, 30)


def test_one_who_is_late_with_everything_answers_late():
    world = GossipWorld(seed=2)
    world.form_at_once(8)

    def failed() -> int:
        return sum(m.machine.counters.probes_failed for m in world.members.values())

    world.slow("m0003", 700_000)
    world.run(5)
    assert failed() == 0, "late, but within the interval"
    world.slow("m0003", 3 * S)
    world.run(20)
    assert failed() > 0


def test_who_is_isolated_hears_nobody_until_it_is_healed():
    world = GossipWorld(seed=3)
    world.form_at_once(8)
    cut = world.isolate("m0001", "m0002")
    world.run(60)
    assert world.machine("m0001").member("m0002").status == "alive", "not from each other"
    assert world.machine("m0001").member("m0005").status == "dead"
    world.network.heal(cut)
    world.run_until(world.is_agreed, 60)


def test_the_killed_still_count_and_the_forgetful_know_nobody():
    world = GossipWorld(seed=4)
    world.form_at_once(4)
    world.run(5)
    before = world.count("packets_sent")
    machine = world.restart("m0002", is_amnesiac=True)
    assert world.count("packets_sent") == before
    assert [member.name for member in machine.members()] == ["m0002"]
    with pytest.raises(ValueError, match="runs already"):
        world.add("m0002")


def test_who_left_ticks_until_it_was_told():
    world = GossipWorld(seed=6)
    world.form_at_once(6)
    world.do("m0004", GossipMachine.leave)
    world.run_until(lambda: world.machine("m0004").is_left, 20)
    world.kill("m0004")
    world.run(10)
    assert world.statuses("m0004") == {"left"}
