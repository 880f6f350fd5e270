"""`operator raft measure`: what it counts, what it refuses, and that it leaves nothing behind."""

import pytest
from harness import World
from stories import datacenter, follower, leader

BODY = {"Size": 100, "Window": 8, "Seconds": 0.5}


def measured(world: World, **body: object) -> dict:
    answer = world.ask(leader(world), "Operator.RaftMeasure", body={**BODY, **body})
    assert not answer.is_error, answer
    return answer.body


def test_what_is_counted_is_what_the_log_grew_by() -> None:
    world = datacenter(3, 0)
    world.run(5)
    raft = leader(world).server.consensus.raft
    before, state_hash = raft.commit_index, leader(world).state.hash()
    figures = measured(world)
    assert figures["Committed"] == figures["Proposed"] == raft.commit_index - before > 8
    assert figures["Voters"] == 3 and figures["Engine"] == "core" and not figures["Refused"]
    rate = figures["Committed"] / figures["Seconds"]
    assert figures["CommitsPerSecond"] == pytest.approx(rate, rel=0.01)
    took = figures["Milliseconds"]
    assert 0 < took["P50"] <= took["P99"] <= took["Max"]
    world.run(1)
    hashes = {server.state.hash() for server in world.servers()}
    assert len(hashes) == 1 and state_hash not in hashes  # the index is part of the state


def test_a_rate_is_kept_where_the_window_allows_it() -> None:
    figures = measured(datacenter(3, 0), Rate=200, Window=64, Seconds=2.0)
    assert figures["Committed"] == pytest.approx(400, abs=3)


def test_what_is_proposed_late_counts_from_when_it_was_due() -> None:
    """A window of one at a rate that can't be kept: the queue before the window shows."""
    figures = measured(datacenter(3, 0), Rate=5000, Window=1, Seconds=1.0)
    assert 1000 / figures["CommitsPerSecond"] < 20
    assert figures["Milliseconds"]["Max"] > 100


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Size": -1}, "Size -1"),
        ({"Size": 1 << 30}, "Size"),
        ({"Window": 0}, "Window 0"),
        ({"Seconds": 0}, "Duration"),
        ({"Seconds": 3600}, "at most 60 s"),
        ({"Rate": -5}, "Rate -5"),
        ({"Size": "big"}, "Size"),
    ],
)
def test_loads_that_can_not_be_are_refused(body: dict, text: str) -> None:
    world = datacenter(1, 0)
    answer = world.ask(leader(world), "Operator.RaftMeasure", body={**BODY, **body})
    assert answer.status == 400 and text in answer.error


def test_one_measurement_at_a_time() -> None:
    world = datacenter(1, 0)
    results = []
    load = leader(world).server.measuring
    from core.server.measuring import Load

    load.start(Load(size=10, window=1, duration_us=1_000_000), results.append)
    answer = world.ask(leader(world), "Operator.RaftMeasure", body=BODY)
    assert answer.status == 409 and "under way" in answer.error
    world.until(lambda: results)
    assert measured(world)["Committed"]


def test_a_leader_that_is_cut_off_says_what_became_of_the_rest() -> None:
    world = datacenter(3, 0)
    first, results = leader(world), []
    from core.server.measuring import Load

    first.server.measuring.start(Load(size=10, window=4, duration_us=30_000_000), results.append)
    world.run(0.2)
    assert first.server.consensus.transfer_leadership("") == ""
    world.until(lambda: results, 60)
    assert results[0]["Committed"] > 0 and sum(results[0]["Refused"].values()) >= 1
    assert not first.server.measuring.is_busy
    assert follower(world) is not leader(world)
