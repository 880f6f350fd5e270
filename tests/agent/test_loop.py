"""The loop around a machine: order, no re-entrance, timers, and what a failure does."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from core.agent.loop import MachineLoop, now
from core.model.host import FOREVER_US, Effect, Event, Log, Now, Requested, RequestedTogether, Tick


class Scripted:
    """A machine whose answers the test writes."""

    def __init__(self, answer: Callable[[Event], list[Effect]] = lambda event: []) -> None:
        self.deadline_us = FOREVER_US
        self.answer = answer
        self.seen: list[Event] = []
        self.is_inside = False

    def handle(self, event: Event, now: Now) -> list[Effect]:
        assert not self.is_inside, "a machine was entered twice"
        self.is_inside = True
        try:
            self.seen.append(event)
            return self.answer(event)
        finally:
            self.is_inside = False


class Kept:
    """A recorder that keeps."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Event, list[Effect]]] = []

    def record(self, role: str, event: Event, now: Now, effects: list[Effect]) -> None:
        self.rows.append((role, event, effects))


def request(number: int) -> Requested:
    return Requested(number, "Query", None)


def numbers(machine: Scripted) -> list[int]:
    return [event.request_id for event in machine.seen if isinstance(event, Requested)]


def loop_of(
    machine: Scripted, carry_out: Callable[[Effect], None] = lambda effect: None, **more: Any
) -> MachineLoop:
    def unexpected(event: str, error: Exception) -> None:
        raise AssertionError(f"failed at {event}: {error!r}")

    more.setdefault("on_failure", unexpected)
    return MachineLoop("server", machine, carry_out, **more)


def test_an_event_caused_by_an_effect_waits_until_all_effects_are_out() -> None:
    done: list[str] = []
    machine = Scripted(
        lambda event: (
            [Log("info", "a"), Log("info", "b")]
            if isinstance(event, Requested) and event.request_id == 1
            else [Log("info", "c")]
        )
    )

    def carry_out(effect: Effect) -> None:
        assert isinstance(effect, Log)
        done.append(effect.message)
        if effect.message == "a":
            loop.deliver(request(2))
            loop.deliver(request(3))

    loop = loop_of(machine, carry_out)
    loop.deliver(request(1))
    assert done == ["a", "b", "c", "c"]
    assert numbers(machine) == [1, 2, 3]
    assert loop.events == 3


@pytest.mark.parametrize("where", ["machine", "effect"])
def test_a_failure_is_reported_once_and_nothing_happens_after_it(where: str) -> None:
    failures: list[tuple[str, str]] = []

    def answer(event: Event) -> list[Effect]:
        if where == "machine":
            raise KeyError("half-changed")
        return [Log("info", "x"), Log("info", "never")]

    def carry_out(effect: Effect) -> None:
        loop.deliver(request(9))
        raise KeyError("half-changed")

    machine = Scripted(answer)
    kept = Kept()
    loop = loop_of(
        machine,
        carry_out,
        recorder=kept,
        on_failure=lambda event, error: failures.append((event, repr(error))),
    )
    loop.deliver(request(1))
    loop.deliver(request(2))
    assert failures == [("Requested", "KeyError('half-changed')")]
    assert numbers(machine) == [1]
    assert loop.is_stopped
    assert [row[1] for row in kept.rows] == [request(1)], "a replay must meet the failure too"


def test_a_stop_amid_effects_still_carries_out_the_rest_of_them() -> None:
    done: list[str] = []

    def carry_out(effect: Effect) -> None:
        assert isinstance(effect, Log)
        done.append(effect.message)
        loop.deliver(request(2))
        loop.stop()

    machine = Scripted(lambda event: [Log("info", "halt"), Log("info", "why")])
    loop = loop_of(machine, carry_out)
    loop.deliver(request(1))
    assert done == ["halt", "why"]
    assert numbers(machine) == [1]


async def ticks(machine: Scripted, loop: MachineLoop, nursery: trio.Nursery) -> trio.Event:
    ticked = trio.Event()

    def answer(event: Event) -> list[Effect]:
        if isinstance(event, Tick):
            machine.deadline_us = FOREVER_US
            ticked.set()
        return []

    machine.answer = answer
    nursery.start_soon(loop.run_timers)
    await trio.testing.wait_all_tasks_blocked()
    return ticked


async def test_an_earlier_deadline_rearms_the_timer() -> None:
    machine = Scripted()
    loop = loop_of(machine)
    async with trio.open_nursery() as nursery:
        ticked = await ticks(machine, loop, nursery)
        machine.deadline_us = now().mono_us + 2_000
        loop.deliver(request(1))
        with trio.fail_after(5):
            await ticked.wait()
        nursery.cancel_scope.cancel()
    assert [type(event) for event in machine.seen] == [Requested, Tick]


async def test_a_deadline_put_off_is_not_ticked_early() -> None:
    machine = Scripted()
    machine.deadline_us = now().mono_us + 3_000
    loop = loop_of(machine)
    async with trio.open_nursery() as nursery:
        ticked = await ticks(machine, loop, nursery)
        put_off_us = now().mono_us + 25_000
        machine.deadline_us = put_off_us
        loop.deliver(request(1))
        with trio.fail_after(5):
            await ticked.wait()
        assert now().mono_us >= put_off_us
        nursery.cancel_scope.cancel()
    assert [type(event) for event in machine.seen] == [Requested, Tick]


async def test_a_machine_that_is_always_due_leaves_others_their_turn() -> None:
    machine = Scripted()
    machine.deadline_us = 0
    loop = loop_of(machine)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run_timers)
        with trio.fail_after(5):
            while len(machine.seen) < 20:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_timers_end_with_a_failed_machine() -> None:
    def answer(event: Event) -> list[Effect]:
        raise ValueError("no")

    failures: list[str] = []
    machine = Scripted(answer)
    machine.deadline_us = 0
    loop = loop_of(machine, on_failure=lambda event, error: failures.append(event))
    with trio.fail_after(5):
        await loop.run_timers()
    assert failures == ["Tick"]


async def test_calls_that_come_together_are_one_event() -> None:
    machine = Scripted()
    loop = loop_of(machine)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run_timers)
        await trio.testing.wait_all_tasks_blocked()
        loop.gather(request(1))
        loop.gather(request(2))
        await trio.testing.wait_all_tasks_blocked()
        loop.gather(request(3))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert machine.seen == [RequestedTogether((request(1), request(2))), request(3)]


async def test_more_calls_than_can_be_taken_at_once_leave_the_loop_its_turns() -> None:
    def slowly(event: Event) -> list[Effect]:
        done = time.thread_time() + 0.006  # the machine's work: more than it should do in one go
        while time.thread_time() < done:
            pass
        return []

    machine = Scripted(slowly)
    loop = loop_of(machine)
    for number in range(100):
        loop.gather(request(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run_timers)
        turns = 0
        while sum(map(calls_in, machine.seen)) < 100:
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert turns > 5
    assert max(map(calls_in, machine.seen)) <= 16


def calls_in(event: Event) -> int:
    return len(event.requests) if isinstance(event, RequestedTogether) else 1


async def test_who_brings_more_calls_than_are_taken_waits_until_they_are() -> None:
    machine = Scripted()
    loop = loop_of(machine)
    await loop.until_taken()  # nothing waits
    for number in range(1_000):
        loop.gather(request(number))
    with trio.move_on_after(0) as scope:
        await loop.until_taken()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run_timers)
        await loop.until_taken()
        assert sum(map(calls_in, machine.seen)) >= 500
        nursery.cancel_scope.cancel()
