"""The wheel works off events in the order of (time, sequence), near ones and far ones."""

from hypothesis import given
from hypothesis import strategies as st

from sim.wheel import HORIZON_US, Wheel

times = st.integers(0, 3 * HORIZON_US)
slots_us = st.sampled_from((128, 1_024))


@given(slots_us, st.lists(times, max_size=60), st.lists(st.integers(0, 40_000_000), max_size=10))
def test_events_come_in_order_of_time_then_of_scheduling(
    slot_us: int, first: list[int], stops: list[int]
):
    wheel, seen = Wheel(slot_us), []
    for number, time_us in enumerate(first):
        wheel.at(time_us, seen.append, (time_us, number))
    for stop in sorted(stops):
        wheel.run_until(stop)
        assert wheel.now_us == stop
        assert all(time_us <= stop for time_us, _ in seen)
        assert len(seen) == sum(time_us <= stop for time_us in first)
    wheel.run_until(4 * HORIZON_US)
    assert seen == sorted(seen)
    assert len(seen) == len(first)


@given(slots_us, st.lists(st.tuples(times, st.integers(0, 6_000_000)), max_size=40))
def test_events_that_events_schedule_are_in_order_too(slot_us: int, pairs: list[tuple[int, int]]):
    wheel, seen = Wheel(slot_us), []

    def spawn(delay_us: int) -> None:
        seen.append(wheel.now_us)
        wheel.after(delay_us, lambda _: seen.append(wheel.now_us))

    for time_us, delay_us in pairs:
        wheel.at(time_us, spawn, delay_us)
    wheel.run_until(5 * HORIZON_US)
    assert seen == sorted(seen)
    assert len(seen) == 2 * len(pairs)


def test_an_event_scheduled_for_now_runs_after_those_already_due_now():
    wheel, seen = Wheel(), []
    wheel.at(10, lambda _: (seen.append("a"), wheel.at(5, lambda _: seen.append("c"))))
    wheel.at(10, lambda _: seen.append("b"))
    wheel.run_until(10)
    assert seen == ["a", "b", "c"]
