"""Whole pools on virtual time: loss, kills, partitions, pauses, restarts."""

import hashlib
import random

import pytest

from gossip.machine import GossipMachine
from gossip.settings import LAN, WAN, Settings
from sim.gossip_world import PORT, GossipWorld, S


def test_a_pool_forms_and_stays_quiet_under_loss():
    world = GossipWorld(seed=1, loss=0.01)
    world.form(48)
    world.run_until(world.is_agreed, 60)
    world.events.clear()
    world.run(120)
    assert world.is_agreed()
    assert not [e for _, _, e in world.events if e.kind == "failed"]


@pytest.mark.parametrize(("settings", "within_s"), [(LAN, 3), (WAN, 6)])
def test_many_that_join_at_once_know_each_other_soon(settings, within_s):
    """One in thousands of rumours misses a member, and the regular push-pull takes minutes."""
    for seed in range(3):
        world = GossipWorld(seed=seed, settings=settings, loss=0.01)
        for number in range(64):
            world.add(f"m{number:04}")
            if number:
                world.join(f"m{number:04}", "m0000")
        world.run_until(world.is_agreed, within_s)


def test_the_dead_are_found_within_the_time_of_the_design():
    world = GossipWorld(seed=2, loss=0.01)
    names = world.form(64)
    world.run_until(world.is_agreed, 60)
    world.kill("m0005")
    detected_s = world.run_until(lambda: world.statuses("m0005") == {"dead"}, 60)
    assert 7 < detected_s < 20
    assert all(world.statuses(name) == {"alive"} for name in names if name != "m0005")


@pytest.mark.parametrize("address", ["", "elsewhere:1"])
def test_a_restarted_member_is_back_soon(address):
    world = GossipWorld(seed=3)
    world.form(32)
    world.kill("m0005")
    world.run(1)
    world.add("m0005", address=address, meta={"life": "second"})
    world.join("m0005", "m0000")
    took_s = world.run_until(world.is_agreed, 120)
    assert world.machine("m0000").member("m0005").meta == {"life": "second"}
    # Who suspects the old address alone when the new one is told waits until that is over.
    assert took_s < (33 if address else 5)


def test_a_second_live_owner_of_a_name_stays_out():
    world = GossipWorld(seed=4)
    world.form(16)
    world.add("m0005", host="impostor")
    world.join("impostor", "m0000")
    world.run(120)
    for name in ("m0000", "m0009", "m0005"):
        view = world.machine(name).member("m0005")
        assert (view.address, view.status) == ("m0005:4648", "alive")
        assert view.incarnation < 50, "no war of incarnations"


def test_both_halves_of_a_partition_agree_again():
    world = GossipWorld(seed=5, loss=0.01)
    world.form(32)
    cut = world.isolate(*(f"m{i:04}" for i in range(12)))
    world.run(180)
    assert world.statuses("m0000") == {"alive", "dead"}
    world.network.heal(cut)
    world.run_until(world.is_agreed, 120)


def test_one_tenth_dying_at_once_takes_nobody_along():
    world = GossipWorld(seed=6, loss=0.02)
    names = world.form(60)
    dead = names[10:16]
    for name in dead:
        world.kill(name)
    world.run_until(lambda: all(world.statuses(n) == {"dead"} for n in dead), 60)
    world.events.clear()
    world.run(120)
    assert world.is_agreed()
    assert not [e for _, _, e in world.events if e.kind == "failed"]


def test_graceful_leaving_is_no_failure():
    world = GossipWorld(seed=7)
    world.form(24)
    world.do("m0003", GossipMachine.leave)
    world.run_until(lambda: world.machine("m0003").is_left, 20)
    world.kill("m0003")
    world.run(30)
    assert world.statuses("m0003") == {"left"}
    assert not [e for _, _, e in world.events if e.kind in ("failed", "suspected")]


def test_a_paused_member_accuses_nobody_and_survives_short_pauses():
    world = GossipWorld(seed=8)
    world.form(32)
    world.run(30)
    world.events.clear()
    for _ in range(6):
        world.pause("m0004")
        world.run(3)
        world.resume("m0004")
        world.run(5)
    world.run(30)
    assert world.is_agreed()
    assert not [e for _, _, e in world.events if e.kind == "failed"]


def test_a_blocked_datagram_path_is_bridged_by_streams():
    world = GossipWorld(seed=9)
    world.form(8)
    world.events.clear()
    world.network.block_datagrams(world.address("m0003"))
    world.run(60)
    assert "failed" not in {e.kind for _, o, e in world.events if e.member.name == "m0003"}
    assert sum(m.machine.counters.stream_fallbacks for m in world.members.values()) > 0


def test_a_wan_pool_of_six_finds_a_dead_server():
    world = GossipWorld(seed=10, settings=WAN)
    world.form(6)
    world.run_until(world.is_agreed, 90)
    world.kill("m0002")
    assert world.run_until(lambda: world.statuses("m0002") == {"dead"}, 90) < 60


def test_a_large_pool_repairs_by_summaries():
    world = GossipWorld(seed=11, settings=Settings(full_table_max_members=8), loss=0.1)
    world.form(40)
    world.run_until(world.is_agreed, 120)


def trace(seed: int) -> str:
    world = GossipWorld(seed=seed, loss=0.05)
    world.form(16)
    world.kill("m0003")
    world.run(40)
    story = world.story(10_000) + f"{world.count('packets_sent')}"
    return hashlib.sha256(story.encode()).hexdigest()


def test_equal_seeds_give_equal_runs():
    assert trace(1) == trace(1) != trace(2)


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_end_in_agreement(seed):
    """Property: after any faults, all live members agree; incarnations never go back."""
    chance = random.Random(seed)
    world = GossipWorld(seed=seed, loss=chance.choice([0, 0.01, 0.1]))
    names = world.form(12)
    newest: dict[tuple[str, str], int] = {}
    gone: set[str] = set()
    cut = 0
    for _ in range(12):
        name = chance.choice(names[1:])
        fault = chance.choice(["kill", "meta", "cut", "pause", "none"])
        if fault == "kill" and name not in gone:
            world.kill(name)
            gone.add(name)
            newest = {k: v for k, v in newest.items() if k[0] != name}
        elif name in gone:
            gone.discard(name)
            world.add(name)
            world.join(name, "m0000")
        elif fault == "meta":
            meta = {"n": str(chance.random())}
            world.do(name, lambda m, now_us, meta=meta: m.set_meta(meta, now_us))
        elif fault == "cut":
            world.network.heal(cut)
            side = [n for n in names if chance.random() < 0.4]
            cut = world.network.split(f"{n}:{PORT}" for n in side)
        elif fault == "pause":
            world.pause(name)
            world.run(chance.random() * 8)
            world.resume(name)
        world.run(chance.random() * 30)
        for observer, member in world.members.items():
            for view in member.machine.members():
                key = (observer, view.name)
                assert view.incarnation >= newest.get(key, 0), world.story()
                newest[key] = view.incarnation
    world.network.heal(cut)
    world.run_until(world.is_agreed, 240)
    assert world.now_us < 1_000 * S
