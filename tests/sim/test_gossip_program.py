"""`python -m sim.gossip` in a small way: the programs run, and their checkers can fail."""

import argparse
import json

import pytest
import trio

from sim.gossip import __main__ as commands
from sim.gossip import fuzz, isolation, lifeguard, program, sockets
from sim.gossip.pool import Pool
from sim.gossip.themes import FAULTS, THEMES
from sim.gossip.watch import Watch, detection_us
from sim.gossip_world import LINK, S
from sim.seeds import Violation

OPTIONS = argparse.Namespace(has_faults=True)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_few_seeds_are_clean_and_the_last_line_says_so(capsys):
    assert commands.main(["--seeds", "8"]) == 3  # clean, but far too few
    found = last_line(capsys)
    assert found["violations"] == [] and found["reduced"] is True
    assert set(found["faults"]) == set(FAULTS)


def test_equal_seeds_give_equal_outcomes():
    one, two = (program.run_seed(3, OPTIONS) for _ in range(2))
    assert (one.faults, one.situations, one.acknowledged) == (
        two.faults, two.situations, two.acknowledged
    )  # fmt: skip


def test_every_theme_is_drawn_and_undisturbed_seeds_inject_nothing():
    assert len(THEMES) == 13
    calm = program.run_seed(5, argparse.Namespace(has_faults=False))
    assert not calm.violations and not +calm.faults


def pool_of(*names: str) -> tuple[Pool, Watch]:
    pool = Pool(seed=1, settings=program.LAN, link=LINK, wire=False)
    for name in names:
        pool.begin(name, joins="" if name == names[0] else names[0], meta={"role": "client"})
    watch = Watch(pool)
    watch.run(3)
    watch.agree(60)
    return pool, watch


def caught(action) -> str:
    with pytest.raises(Violation) as found:
        action()
    return found.value.checker


def test_the_checkers_notice_what_they_are_there_for():
    pool, watch = pool_of("a", "b", "c", "d")
    watch.publish("a", "dc", 2, 1)
    watch.run(10)
    # somebody reads what is older than what it read before
    entry = pool.machine("b")._digests._entries["dc"]
    entry.term = 1
    watch.published["dc", 1, 1] = 0
    assert caught(watch.look) == "digest"
    entry.term = 2
    entry.born_us += 60 * S
    assert caught(watch.look) == "digest-age"
    entry.born_us -= 60 * S
    watch.look()
    # a view goes back
    table = pool.machine("b").table
    watch._seen[watch._lives["b"], "c"] = 9
    assert caught(watch.look) == "incarnation"
    watch._seen.clear()
    # one who is well is not known to all
    table.put(table.find("c"), 1 << 2 | 2, pool.now_us)
    assert "c" in watch.disagreement() and watch.lost_by("c") == ["b"]
    assert caught(lambda: watch.agree(-1)) == "agreement"


def test_a_death_that_nobody_hears_of_is_noticed():
    pool, watch = pool_of("a", "b", "c", "d")
    pool.end("d")
    watch.expect_death("d")
    for name in ("a", "b", "c"):
        pool.pause(name)  # nobody looks
    assert caught(lambda: watch.run(detection_us(program.LAN, 4) / S + 2)) == "detection"


def test_isolation_in_a_small_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolation, "CUT_OFF_S", 200)
    monkeypatch.setattr(isolation, "MEMBERS", (64,))
    outcome = isolation.run_seed(2, OPTIONS)
    assert not outcome.violations and outcome.acknowledged == 1


def test_lifeguard_in_a_small_way():
    off, on = lifeguard.five_percent_slow(seeds=1, minutes=1, members=24)
    assert lifeguard.times(off.innocent, on.innocent) >= 10 < off.innocent


def test_fuzzing_in_a_small_way(capsys, tmp_path):
    assert commands.main(["fuzz", "--minutes", "0.02", "--corpus", str(tmp_path)]) == 3
    found = last_line(capsys)
    assert found["findings"] == [] and found["outcomes"]["decoded"] > 0


def test_the_fuzzers_judge_notices_a_raise(monkeypatch: pytest.MonkeyPatch):
    def decode(*_, **__):
        raise IndexError("planted")

    monkeypatch.setattr(fuzz, "decode", decode)
    assert fuzz.Judge().judge(b"x").startswith("raise: IndexError")


def test_sockets_in_a_small_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sockets, "DOWN_S", 0.0)
    joined_s, rounds = trio.run(sockets.soak, 6, 0.0, 1)
    assert joined_s < 60 and rounds[0].agreed_s < 60


def test_what_leaks_is_told():
    rounds = [sockets.Round(1.0, 0.0, 50, 1_000), sockets.Round(1.0, 0.0, 90, 1_000)]
    with pytest.raises(sockets.SocketsError, match="from 50 to 90"):
        sockets._check_leaks(50, rounds)
    rounds = [sockets.Round(1.0, 0.0, 50, kib) for kib in (1_000, 1_000, 90_000)]
    with pytest.raises(sockets.SocketsError, match="memory grew"):
        sockets._check_leaks(50, rounds)
