"""Cores and devices: given to one at a time, by name, and never twice."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.allocation import AllocatedTask, ClientStatus
from core.model.job import Affinity, Constraint, Job, RequestedDevice, Resources
from core.model.node import NodeDevice, NodeDeviceInstance
from core.model.units import unit_names, units_of_node
from core.scheduler import prepare
from core.scheduler.constraints import is_met
from core.scheduler.quantity import quantity_of
from core.state.commands import ApplyPlans, RegisterNode
from core.state.state import State

MHZ = 1000
GPU = RequestedDevice(name="gpu")


def _gpus(name: str = "t4", ids: str = "a b", memory: int = 16, **more: Any) -> NodeDevice:
    return NodeDevice(
        vendor="nvidia",
        type="gpu",
        name=name,
        instances=[NodeDeviceInstance(id=one, **more) for one in ids.split()],
        attributes={"memory": {"Int": memory, "Unit": "GiB"}},
    )


def _job(
    kit: Any,
    name: str = "web",
    count: int = 1,
    *,
    cores: int = 0,
    device: RequestedDevice | None = None,
    **fields: Any,
) -> Job:
    devices = [device] if device is not None else None
    resources = Resources(cpu=0 if cores else 100, cores=cores, memory_mb=64, devices=devices)
    job: Job = kit.changed(kit.job(name, count=count, **fields), resources=resources)
    return job


def _granted(world: Any, job: Job) -> list[AllocatedTask]:
    found = [world.state.allocs.allocation(row) for row in world.rows(job)]
    return [one.allocated_resources.tasks["task"] for one in sorted(found, key=lambda a: a.index)]


def test_cores_are_given_once_and_count_as_their_share_of_the_processor(
    world: Any, kit: Any
) -> None:
    world.node(cpu=4 * MHZ, cores=4)
    job = _job(kit, count=3, cores=2)
    solution = world.run(world.register(job))
    granted = _granted(world, job)
    assert [one.cpu.reserved_cores for one in granted] == [[0, 1], [2, 3]]
    assert [one.cpu.cpu_shares for one in granted] == [2 * MHZ, 2 * MHZ]
    assert world.state.nodes.cpu_used.tolist() == [4 * MHZ]
    (failed,) = solution.plans[-1].evaluations[0].failed_tg_allocs.values()
    assert failed.dimension_exhausted == {"cores": 1}


def test_cores_of_nodes_of_different_speed_in_one_plan(world: Any, kit: Any) -> None:
    world.node(cpu=2 * MHZ, cores=2)
    world.node(cpu=8 * MHZ, cores=2)
    job = _job(kit, count=4, cores=1)
    world.run(world.register(job))
    shares = sorted(one.cpu.cpu_shares for one in _granted(world, job))
    assert shares == [MHZ, MHZ, 4 * MHZ, 4 * MHZ]
    assert world.state.nodes.cpu_used.tolist() == [2 * MHZ, 8 * MHZ]


def test_shares_of_others_leave_no_mhz_for_free_cores(world: Any, kit: Any) -> None:
    world.node(cpu=2 * MHZ, cores=2)
    world.run(world.register(kit.job("shares", cpu=1500, memory=10)))
    job = _job(kit, "cores", cores=1)
    solution = world.run(world.register(job))
    assert not world.rows(job)
    (failed,) = solution.plans[-1].evaluations[0].failed_tg_allocs.values()
    assert failed.dimension_exhausted == {"cpu": 1}


@pytest.mark.parametrize("name", ["gpu", "nvidia/gpu", "nvidia/gpu/t4"])
def test_devices_are_asked_for_by_each_of_their_names(world: Any, kit: Any, name: str) -> None:
    world.node()
    world.node(devices=[_gpus()])
    job = _job(kit, count=2, device=RequestedDevice(name=name))
    world.run(world.register(job))
    devices = [one.devices for one in _granted(world, job)]
    assert [d[0]["DeviceIDs"] for d in devices] == [["a"], ["b"]]
    assert devices[0][0]["Vendor"] == "nvidia"
    assert {world.node_of(row) for row in world.rows(job)} == {1}


def test_a_device_comes_back_when_its_holder_has_ended(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus(ids="a")])
    first, second = _job(kit, "one", device=GPU), _job(kit, "two", device=GPU)
    world.run(world.register(first))
    solution = world.run(world.register(second))
    (failed,) = solution.plans[-1].evaluations[0].failed_tg_allocs.values()
    assert failed.dimension_exhausted == {"devices": 1}
    world.run(world.deregister(first))
    world.evaluate(second)
    assert not world.rows(second)  # its process may still run
    world.end_stopped()
    world.evaluate(second)
    assert _granted(world, second)[0].devices is not None


def test_a_failed_one_may_have_its_device_again(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus(ids="a")])
    job = _job(kit, device=GPU)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.FAILED)
    world.now_us += 3600 * kit.S
    world.evaluate(job)
    assert len(world.rows(job)) == 1


def test_unhealthy_and_unfit_devices_are_not_given(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus(ids="a", healthy=False)])
    world.node(devices=[_gpus(memory=8)])
    world.node(devices=[_gpus("a100", memory=40)])
    wanted = Constraint(l_target="${device.attr.memory}", r_target="15000 MiB", operand=">=")
    job = _job(kit, count=3, device=RequestedDevice(name="gpu", constraints=[wanted]))
    solution = world.run(world.register(job))
    assert [world.node_of(row) for row in world.rows(job)] == [2, 2]
    (failed,) = solution.plans[-1].evaluations[0].failed_tg_allocs.values()
    assert failed.constraint_filtered == {"missing devices": 2}


def test_an_affinity_chooses_among_devices_and_nodes(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus("t4", "a"), _gpus("a100", "z", memory=40)])
    big = Affinity(l_target="${device.model}", r_target="a100", operand="=", weight=50)
    job = _job(kit, device=RequestedDevice(name="gpu", affinities=[big]))
    world.run(world.register(job))
    assert _granted(world, job)[0].devices[0]["Name"] == "a100"
    scores = world.state.allocs.allocation(world.rows(job)[0]).metrics.score_meta_data[0].scores
    assert scores["devices"] == 1.0


def test_a_node_that_lost_a_device_gets_no_plan_made_before(world: Any, kit: Any) -> None:
    node = world.node(devices=[_gpus(ids="a b")])
    job = _job(kit, count=2, device=GPU)
    evaluation = world.register(job)
    plan = world.plan(evaluation)
    node.node_resources.devices = [_gpus(ids="b")]
    world.do(RegisterNode(node=node))
    (result,) = world.do(ApplyPlans(plans=plan.plans)).results[0].value
    assert result.placed == 1
    assert result.dropped[0].reasons == ["units"]


def test_two_plans_from_one_picture_never_share_a_unit(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus(ids="a")], cores=4)
    jobs = [_job(kit, name, cores=3, device=GPU) for name in ("one", "two")]
    due = [world.register(job) for job in jobs]
    plans = [prepare(world.state, [one], now_us=world.now_us, rng=world.rng).solve() for one in due]
    placed = [world.do(ApplyPlans(plans=one.plans)).results[0].value[0].placed for one in plans]
    assert placed == [1, 0]


def test_system_jobs_take_devices_of_their_nodes(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus()])
    world.node()
    job = _job(kit, "sys", device=GPU, type="system")
    world.run(world.register(job))
    assert [world.node_of(row) for row in world.rows(job)] == [0]


def test_a_snapshot_keeps_who_holds_what(world: Any, kit: Any) -> None:
    world.node(devices=[_gpus()], cores=2)
    job = _job(kit, cores=1, device=GPU)
    world.run(world.register(job))
    state = world.state
    restored = State.restore(state.image().chunks())
    assert restored.hash() == state.hash()
    held = [restored.allocs.units.get(row) for row in world.rows(job)]
    assert [list(unit_names(one)) for one in held] == [["core 0", "nvidia/gpu/t4 a"]]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    nodes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=4),
    asks=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 2)), max_size=5),
)
def test_whatever_is_asked_nothing_is_given_twice(kit: Any, nodes: Any, asks: Any) -> None:
    world = kit.World()
    for cores, gpus in nodes:
        ids = " ".join(f"g{n}" for n in range(gpus))
        world.node(cpu=max(cores, 1) * MHZ, cores=cores, devices=[_gpus(ids=ids)] if gpus else None)
    for number, (count, cores, gpus) in enumerate(asks):
        device = RequestedDevice(name="gpu", count=gpus) if gpus else None
        job = _job(kit, f"job-{number}", count, cores=cores, device=device)
        world.run(world.register(job))
        if number % 2:
            world.report(world.rows(job)[:1], ClientStatus.COMPLETE)
    world.check_nodes()
    allocs = world.state.allocs
    seen: dict[int, set[str]] = {}
    for row in allocs.rows().tolist():
        held = list(unit_names(allocs.units.get(row) or {}))
        if allocs.columns.client[row] >= ClientStatus.COMPLETE:
            continue
        node = int(allocs.columns.node[row])
        assert seen.setdefault(node, set()).isdisjoint(held)
        seen[node].update(held)
        assert units_of_node(world.state.nodes.record(node)).issuperset(held)


@pytest.mark.parametrize(
    ("left", "operand", "right", "is_so"),
    [
        ("16 GiB", ">=", "16384 MiB", True),
        ("16 GiB", "=", "16384MiB", True),
        ("15.5 GiB", ">", "16 GB", True),
        ("900 MHz", "<", "1 GHz", True),
        ("900 MHz", "<", "1 GiB", False),  # of another kind: by letters
        ("250 W", ">=", "0.2 kW", True),
        ("2 parsecs", "=", "2 parsecs", True),
    ],
)
def test_amounts_with_units_are_compared_as_amounts(
    left: str, operand: str, right: str, is_so: bool
) -> None:
    constraint = Constraint(l_target=left, r_target=right, operand=operand)
    assert is_met(constraint, lambda target: target) is is_so
    assert quantity_of("2 parsecs") is None
