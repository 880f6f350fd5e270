"""Whole pools on virtual time: loss, kills, partitions, pauses, restarts."""

import hashlib
import random

import pytest
from gossip_pool import Pool, S

from gossip.settings import WAN, Settings


def test_a_pool_forms_and_stays_quiet_under_loss():
    pool = Pool(seed=1, loss=0.01)
    pool.start(48)
    pool.run_until(pool.is_agreed, 60)
    pool.events.clear()
    pool.run(120)
    assert pool.is_agreed()
    assert not [e for _, _, e in pool.events if e.kind == "failed"]


def test_the_dead_are_found_within_the_time_of_the_design():
    pool = Pool(seed=2, loss=0.01)
    names = pool.start(64)
    pool.run_until(pool.is_agreed, 60)
    pool.kill("m0005")
    detected_s = pool.run_until(lambda: pool.statuses("m0005") == {"dead"}, 60)
    assert 7 < detected_s < 20
    assert all(pool.statuses(name) == {"alive"} for name in names if name != "m0005")


@pytest.mark.parametrize("address", ["m0005:4648", "elsewhere:1"])
def test_a_restarted_member_is_back_soon(address):
    pool = Pool(seed=3)
    pool.start(32)
    pool.kill("m0005")
    pool.run(1)
    pool.add("m0005", address, meta={"life": "second"})
    pool.do(address, "join", ["m0000:4648"])
    took_s = pool.run_until(pool.is_agreed, 40)
    assert pool.machine("m0000").member("m0005").meta == {"life": "second"}
    assert took_s < (5 if address == "m0005:4648" else 30)


def test_a_second_live_owner_of_a_name_stays_out():
    pool = Pool(seed=4)
    pool.start(16)
    pool.add("m0005", "impostor:1")
    pool.do("impostor:1", "join", ["m0000:4648"])
    pool.run(120)
    for name in ("m0000", "m0009", "m0005"):
        view = pool.machine(name).member("m0005")
        assert (view.address, view.status) == ("m0005:4648", "alive")
        assert view.incarnation < 50, "no war of incarnations"


def test_both_halves_of_a_partition_agree_again():
    pool = Pool(seed=5, loss=0.01)
    pool.start(32)
    left = {f"m{i:04}:4648" for i in range(12)}
    pool.is_cut = lambda s, d: (s in left) != (d in left)
    pool.run(180)
    assert pool.statuses("m0000") == {"alive", "dead"}
    pool.is_cut = None
    pool.run_until(pool.is_agreed, 120)


def test_one_tenth_dying_at_once_takes_nobody_along():
    pool = Pool(seed=6, loss=0.02)
    names = pool.start(60)
    dead = names[10:16]
    for name in dead:
        pool.kill(name)
    pool.run_until(lambda: all(pool.statuses(n) == {"dead"} for n in dead), 60)
    pool.events.clear()
    pool.run(120)
    assert pool.is_agreed()
    assert not [e for _, _, e in pool.events if e.kind == "failed"]


def test_graceful_leaving_is_no_failure():
    pool = Pool(seed=7)
    pool.start(24)
    pool.do("m0003:4648", "leave")
    pool.run_until(lambda: pool.machine("m0003").is_left, 20)
    pool.kill("m0003")
    pool.run(30)
    assert pool.statuses("m0003") == {"left"}
    assert not [e for _, _, e in pool.events if e.kind in ("failed", "suspected")]


def test_a_paused_member_accuses_nobody_and_survives_short_pauses():
    pool = Pool(seed=8)
    pool.start(32)
    pool.run(30)
    pool.events.clear()
    for _ in range(6):
        pool.paused.add("m0004:4648")
        pool.run(3)
        pool.resume("m0004")
        pool.run(5)
    pool.run(30)
    assert pool.is_agreed()
    assert not [e for _, _, e in pool.events if e.kind == "failed"]


def test_a_blocked_datagram_path_is_bridged_by_streams():
    pool = Pool(seed=9)
    pool.start(8)
    pool.events.clear()
    sent = pool._send
    deaf = "m0003:4648"
    # datagrams to m0003 are lost; streams are not
    pool._send = lambda s, d, p: sent(s, "nowhere:1" if d == deaf else d, p)
    pool.run(60)
    assert "failed" not in {e.kind for _, o, e in pool.events if e.member.name == "m0003"}
    assert sum(m.counters.stream_fallbacks for m in pool.machines.values()) > 0


def test_a_wan_pool_of_six_finds_a_dead_server():
    pool = Pool(seed=10, settings=WAN)
    pool.start(6)
    pool.run_until(pool.is_agreed, 90)
    pool.kill("m0002")
    assert pool.run_until(lambda: pool.statuses("m0002") == {"dead"}, 90) < 60


def test_a_large_pool_repairs_by_summaries():
    pool = Pool(seed=11, settings=Settings(full_table_max_members=8), loss=0.1)
    pool.start(40)
    pool.run_until(pool.is_agreed, 120)


def trace(seed: int) -> str:
    pool = Pool(seed=seed, loss=0.05)
    pool.start(16)
    pool.kill("m0003")
    pool.run(40)
    story = pool.story(10_000) + f"{pool.packets} {pool.streams}"
    return hashlib.sha256(story.encode()).hexdigest()


def test_equal_seeds_give_equal_runs():
    assert trace(1) == trace(1) != trace(2)


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_end_in_agreement(seed):
    """Property: after any faults, all live members agree; incarnations never go back."""
    chance = random.Random(seed)
    pool = Pool(seed=seed, loss=chance.choice([0, 0.01, 0.1]))
    names = pool.start(12)
    newest: dict[tuple[str, str], int] = {}
    gone: set[str] = set()
    for _ in range(12):
        name = chance.choice(names[1:])
        fault = chance.choice(["kill", "meta", "cut", "pause", "none"])
        if fault == "kill" and name not in gone:
            pool.kill(name)
            gone.add(name)
            newest = {k: v for k, v in newest.items() if k[0] != name}
        elif name in gone:
            gone.discard(name)
            pool.add(name)
            pool.do(f"{name}:4648", "join", ["m0000:4648"])
        elif fault == "meta":
            pool.do(f"{name}:4648", "set_meta", {"n": str(chance.random())})
        elif fault == "cut":
            side = {f"{n}:4648" for n in names if chance.random() < 0.4}
            pool.is_cut = lambda s, d, side=side: (s in side) != (d in side)
        elif fault == "pause":
            pool.paused.add(f"{name}:4648")
            pool.run(chance.random() * 8)
            pool.resume(name)
        pool.run(chance.random() * 30)
        for address, machine in pool.machines.items():
            for view in machine.members():
                key = (address.partition(":")[0], view.name)
                assert view.incarnation >= newest.get(key, 0), pool.story()
                newest[key] = view.incarnation
    pool.is_cut = None
    pool.run_until(pool.is_agreed, 240)
    assert pool.now_us < 1_000 * S
