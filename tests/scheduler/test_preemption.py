"""Preemption: less important work gives way, the cheapest first, and only where allowed."""

from typing import Any

import pytest

from core.model.allocation import ClientStatus, Desired
from core.model.evaluation import EvalTrigger
from core.model.job import RequestedDevice, ReschedulePolicy, Resources
from core.model.node import NodeDevice, NodeDeviceInstance
from core.scheduler import dry_run
from core.state.commands import SetSchedulerConfig


def _allow(world: Any, *kinds: str) -> None:
    names = {"service": "Service", "batch": "Batch", "system": "System", "sysbatch": "SysBatch"}
    switches = {f"{name}SchedulerEnabled": kind in kinds for kind, name in names.items()}
    world.do(SetSchedulerConfig(config={"PreemptionConfig": switches}))


def _run(world: Any, kit: Any, name: str, priority: int, **fields: Any) -> Any:
    job = kit.job(name, priority=priority, **fields)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    return job


def _evicted(world: Any, job: Any) -> list[str]:
    columns = world.state.allocs.columns
    rows = [r for r in world.rows(job, is_live=False) if columns.desired[r] == Desired.EVICT]
    return [world.state.allocs.id_of(row) for row in rows]


def test_what_is_important_displaces_what_is_not(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    low = _run(world, kit, "low", 20, cpu=900, memory=900)
    high = kit.job("high", priority=70, cpu=500, memory=500)
    solution = world.run(world.register(high))
    winner = world.rows(high)
    assert len(winner) == 1 and world.rows(low) == []
    assert len(_evicted(world, low)) == 1
    victim = world.state.allocs.allocation(world.rows(low, is_live=False)[0])
    assert victim.preempted_by_allocation == world.state.allocs.id_of(winner[0])
    assert world.state.allocs.allocation(winner[0]).preempted_allocations == [victim.id]
    due = [e for plan in solution.plans for e in plan.evaluations]
    assert [e.job_id for e in due if e.triggered_by == EvalTrigger.PREEMPTION] == ["low"]


@pytest.mark.parametrize(
    ("low", "high", "is_displaced"),
    [(50, 59, False), (50, 60, True), (50, 50, False), (70, 60, False)],
)
def test_the_gap_is_ten(world: Any, kit: Any, low: int, high: int, is_displaced: bool) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    first = _run(world, kit, "first", low, cpu=900, memory=900)
    second = kit.job("second", priority=high, cpu=500, memory=500)
    world.run(world.register(second))
    assert (len(world.rows(second)) == 1) == is_displaced
    assert (world.rows(first) == []) == is_displaced


def test_nobody_is_displaced_unless_the_type_may(world: Any, kit: Any) -> None:
    world.node(cpu=1000, memory=1000)
    low = _run(world, kit, "low", 20, cpu=900, memory=900)
    world.run(world.register(kit.job("high", priority=90, cpu=500, memory=500)))
    assert len(world.rows(low)) == 1, "services may not by default"
    system = kit.job("system", priority=90, cpu=500, memory=500, type="system")
    world.run(world.register(system))
    assert world.rows(low) == [] and len(world.rows(system)) == 1, "system jobs may"


def test_the_cheapest_victims_are_chosen(world: Any, kit: Any) -> None:
    _allow(world, "service")
    for _ in range(3):
        world.node(cpu=1000, memory=1000)
    costly = _run(world, kit, "costly", 45, cpu=900, memory=900)
    middle = _run(world, kit, "middle", 40, cpu=900, memory=900)
    cheap = _run(world, kit, "cheap", 10, cpu=300, memory=300, count=3)
    _run(world, kit, "high", 70, cpu=350, memory=350)
    assert len(world.rows(costly)) == 1 and len(world.rows(middle)) == 1
    assert len(_evicted(world, cheap)) == 1, "one of the three is enough"


def test_no_more_go_than_needed(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    small = _run(world, kit, "small", 10, cpu=100, memory=100, count=4)
    large = _run(world, kit, "large", 15, cpu=500, memory=500)
    _run(world, kit, "high", 70, cpu=550, memory=550)
    assert len(_evicted(world, large)) == 1
    assert _evicted(world, small) == [], "the large one alone made enough room"


def test_a_static_port_is_taken_over(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node()
    holder = _run(world, kit, "holder", 10, cpu=10, memory=10, static_ports=[8080])
    other = _run(world, kit, "other", 10, cpu=10, memory=10)
    winner = _run(world, kit, "winner", 60, cpu=10, memory=10, static_ports=[8080])
    assert world.rows(holder) == [] and len(world.rows(winner)) == 1
    assert len(world.rows(other)) == 1
    world.check_nodes()


def test_several_instances_displace_several(world: Any, kit: Any) -> None:
    _allow(world, "batch")
    for _ in range(2):
        world.node(cpu=1000, memory=1000)
    low = _run(world, kit, "low", 20, cpu=450, memory=450, count=4)
    high = kit.job("high", priority=80, cpu=600, memory=600, count=3, type="batch")
    solution = world.run(world.register(high))
    assert len(world.rows(high)) == 2 and len(_evicted(world, low)) == 4
    assert solution.failed == 1
    world.end_stopped()
    world.check_nodes()


def test_room_made_by_one_plan_is_not_given_to_the_next(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    _run(world, kit, "low", 10, cpu=1000, memory=1000)
    evaluations = [
        world.register(kit.job(name, priority=60, cpu=600, memory=600)) for name in ("a", "b")
    ]
    world.run(*evaluations)
    live = [len(world.rows(kit.job(name))) for name in ("a", "b")]
    assert live == [1, 0]


def test_a_plan_says_whom_it_would_displace(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    low = _run(world, kit, "low", 20, cpu=900, memory=900)
    high = kit.job("high", priority=70, cpu=500, memory=500)
    outcome = dry_run(world.state, high, now_us=world.now_us)
    assert outcome.preempted == [world.state.allocs.id_of(row) for row in world.rows(low)]
    assert outcome.desired_updates["main"]["Preemptions"] == 1
    assert len(world.rows(low)) == 1, "nothing happened"


def test_what_a_victim_leaves_over_is_used_before_another_goes(world: Any, kit: Any) -> None:
    _allow(world, "service")
    world.node(cpu=1000, memory=1000)
    low = _run(world, kit, "low", 20, cpu=500, memory=500, count=2)
    high = kit.job("high", priority=70, cpu=250, memory=250, count=2)
    assert world.run(world.register(high)).failed == 0
    assert len(_evicted(world, low)) == 1


def test_a_failed_instance_may_displace_when_it_is_tried_again(world: Any, kit: Any) -> None:
    _allow(world, "service")
    policy = ReschedulePolicy(
        attempts=1, interval_ns=3600 * 10**9, delay_ns=0, delay_function="constant", unlimited=False
    )
    world.node(cpu=1000, memory=1000)
    high = _run(world, kit, "high", 70, cpu=600, group_reschedule_policy=policy)
    world.report(world.rows(high), ClientStatus.FAILED)
    low = _run(world, kit, "low", 20, cpu=900)
    solution = world.evaluate(high)
    assert solution.placed == 1 and len(_evicted(world, low)) == 1
    (row,) = world.rows(high)
    assert world.state.allocs.allocation(row).reschedule_tracker is not None


def test_devices_cores_and_dynamic_ports_are_given_up_too(world: Any, kit: Any) -> None:
    _allow(world, "service")
    device = NodeDevice(
        vendor="nvidia", type="gpu", name="t4", instances=[NodeDeviceInstance(id="a")]
    )
    world.node(cores=4, devices=[device], ports=(20000, 20000))

    def asking(name: str, priority: int, **resources: Any) -> Any:
        asked = Resources(memory_mb=64, **resources)
        return kit.changed(kit.job(name, priority=priority), resources=asked)

    gpu = [RequestedDevice(name="gpu")]
    lows = [asking("low-gpu", 30, cpu=10, devices=gpu), asking("low-core", 20, cores=3)]
    lows.append(kit.job("low-port", priority=10, cpu=10, ports=["http"]))
    for job in lows:
        world.run(world.register(job))
    highs = [asking("high-gpu", 70, cpu=10, devices=gpu), asking("high-core", 70, cores=2)]
    highs.append(kit.job("high-port", priority=70, cpu=10, ports=["http"]))
    for high, low in zip(highs, lows, strict=True):
        assert world.run(world.register(high)).placed == 1
        assert len(_evicted(world, low)) == 1
        world.end_stopped()
        world.check_nodes()


def test_on_a_node_that_lacks_ports_alone_somebody_cheaper_may_go(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    world.run(world.register(kit.job("dear", priority=50, cpu=900)))
    world.node(cpu=1000, ports=(20000, 20000))
    world.run(world.register(kit.job("cheap", priority=20, cpu=200, ports=["a"])))
    _allow(world, "service")
    solution = world.run(world.register(kit.job("high", priority=90, cpu=500, ports=["b"])))
    stopped = [stop.alloc_id for plan in solution.plans for stop in plan.stops]
    (cheap,) = world.rows(kit.job("cheap"), is_live=False)
    assert stopped == [world.state.allocs.id_of(cheap)]
