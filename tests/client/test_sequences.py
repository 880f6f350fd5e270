"""Any order of exits, stops, restarts, partitions and killed agents keeps the promises.

Checked at every step: never a second copy of a task (the world asserts it at each start),
a start is saved before it is made. In the end, with servers back: what shall run runs, what
shall stop has stopped, and the servers know it.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.allocation import ClientStatus
from core.model.job import RestartPolicy

POLICY = RestartPolicy(attempts=1000, interval_ns=10**9, delay_ns=10**9, mode="delay")
STEPS = st.sampled_from(
    ["place", "stop", "remove", "exit 0", "exit 1", "cut", "heal", "kill agent", "restart", "lose"]
)


def step(world: Any, what: str, number: int, make: Callable[[int], Any]) -> None:
    ids = sorted(world.allocs)
    chosen = ids[number % len(ids)] if ids else ""
    match what:
        case "place":
            world.place(make(number))
        case "stop" if chosen:
            world.change(chosen, desired_status="stop")
        case "remove" if chosen:
            world.remove(chosen)
        case "exit 0" | "exit 1" if world.processes:
            keys = sorted(world.processes)
            world._end(keys[number % len(keys)], int(what[-1]), 0)
        case "cut":
            world.is_reachable = False
        case "heal":
            world.is_reachable = True
        case "kill agent":
            world.boot()
        case "restart" if chosen:
            world.ask("Client.RestartTask", alloc_id=chosen)
        case "lose" if world.processes:  # it ends while no agent looks
            keys = sorted(world.processes)
            del world.processes[keys[number % len(keys)]]
            world.boot()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(STEPS, st.integers(1, 5), st.sampled_from([0.003, 0.3, 4.0]))))
def test_what_shall_run_runs_and_what_shall_stop_stops(
    make_world: Any, make_job: Any, make_alloc: Any, steps: list[tuple[str, int, float]]
) -> None:
    world = make_world()
    placed = iter(range(1, 1000))
    job = make_job(restart_policy=POLICY)
    for what, number, pause_s in steps:
        step(world, what, number, lambda _: make_alloc(job, next(placed)))
        world.run(pause_s)
    world.is_reachable = True
    world.run(60)
    wanted = [a.id for a in world.allocs.values() if a.desired_status == "run"]
    assert sorted(alloc_id for alloc_id, _ in world.running()) == sorted(wanted)
    for alloc in world.allocs.values():
        expected = ClientStatus.RUNNING if alloc.desired_status == "run" else ClientStatus.COMPLETE
        assert world.last(alloc.id).client_status == expected
    assert set(world.machine.runners) <= set(world.allocs)
