"""Placement against a slow, obvious reference: one node at a time, exact arithmetic.

The reference imports only core.model and knows nothing of columns. It replays a plan row by
row and asks of each: was the node allowed, was there room, was there a better one?
"""

from fractions import Fraction
from math import pow as power
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.allocation import ClientStatus
from core.model.job import Affinity, Constraint, Job, Spread, SpreadTarget, VolumeRequest
from core.model.node import DriverInfo, HostVolumeInfo, Node
from core.scheduler.place import Placer, Wish
from core.scheduler.rank import power10, power10_one
from core.scheduler.room import Ask, Room
from core.scheduler.spread import SpreadScorer
from core.scheduler.view import NodesView

_FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class _Reference:
    """What every node holds of one job, in whole numbers."""

    def __init__(self, nodes: list[Node], job: Job) -> None:
        self.nodes, self.job = nodes, job
        assert job.task_groups
        self.group = job.task_groups[0]
        self.used = [[0, 0] for _ in nodes]
        self.mine = [0] * len(nodes)

    def may_run(self, number: int) -> bool:
        node = self.nodes[number]
        for constraint in self.job.constraints or []:
            name = constraint.l_target[7:-1]
            if constraint.operand == "=" and (node.attributes or {}).get(name) != (
                constraint.r_target
            ):
                return False
            if constraint.operand == "distinct_hosts" and self.mine[number]:
                return False
        return True

    def asks(self) -> tuple[int, int]:
        resources = self.group.tasks[0].resources  # type: ignore[index]
        assert resources is not None
        return resources.cpu or 0, resources.memory_mb or 0

    def has_room(self, number: int) -> bool:
        shape, (cpu, memory) = self.nodes[number].node_resources, self.asks()
        return (
            self.used[number][0] + cpu <= shape.cpu.cpu_shares
            and self.used[number][1] + memory <= shape.memory.memory_mb
        )

    def score(self, number: int) -> float:
        shape, (cpu, memory) = self.nodes[number].node_resources, self.asks()
        free = [
            1 - Fraction(self.used[number][0] + cpu, shape.cpu.cpu_shares),
            1 - Fraction(self.used[number][1] + memory, shape.memory.memory_mb),
        ]
        fit = 20 - power(10, free[0]) - power(10, free[1]) - 2 * abs(float(free[0] - free[1]))
        parts = [min(max(fit, 0.0), 18.0) / 18]
        if self.mine[number]:
            parts.append(-(self.mine[number] + 1) / (self.group.count or 1))
        affinity = self.affinity(number)
        if affinity:
            parts.append(affinity)
        spread = self.spread(number)
        if spread:
            parts.append(spread)
        return sum(parts) / len(parts)

    def affinity(self, number: int) -> float:
        wishes = self.job.affinities or []
        met = sum(
            wish.weight or 0
            for wish in wishes
            if (self.nodes[number].attributes or {}).get(wish.l_target[7:-1]) == wish.r_target
        )
        return met / sum(abs(wish.weight or 0) for wish in wishes) if wishes else 0.0

    def spread(self, number: int) -> float:
        total = 0.0
        for block in self.job.spreads or []:
            name = block.attribute[7:-1]
            value = (self.nodes[number].attributes or {}).get(name)
            counts: dict[str | None, int] = {}
            for node, count in zip(self.nodes, self.mine):
                key = (node.attributes or {}).get(name)
                counts[key] = counts.get(key, 0) + count
            desired = {
                target.value: target.percent / 100 * (self.group.count or 1)
                for target in block.spread_target or []
            }
            wanted = desired.get(value or "", -1)
            used = counts.get(value, 0) + 1
            total += (wanted - used) / wanted if wanted > 0 else -1.0
        return total

    def take(self, number: int) -> None:
        cpu, memory = self.asks()
        self.used[number][0] += cpu
        self.used[number][1] += memory
        self.mine[number] += 1


_SHAPES = st.tuples(
    st.sampled_from([1000, 2000, 3900, 8000]),
    st.sampled_from([512, 2048, 4096, 7900]),
    st.sampled_from(["a", "b", "c"]),
)


@st.composite
def _jobs(draw: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "count": draw(st.integers(1, 25)),
        "cpu": draw(st.integers(1, 1500)),
        "memory": draw(st.integers(1, 1500)),
        "constraints": [],
    }
    if draw(st.booleans()):
        fields["constraints"].append(
            Constraint(l_target="${attr.zone}", operand="=", r_target=draw(st.sampled_from("abc")))
        )
    if draw(st.booleans()):
        fields["constraints"].append(Constraint(operand="distinct_hosts"))
    if draw(st.booleans()):
        fields["affinities"] = [
            Affinity(
                l_target="${attr.zone}",
                operand="=",
                r_target="b",
                weight=draw(st.sampled_from([-50, 30, 100])),
            )
        ]
    if draw(st.booleans()):
        targets = [SpreadTarget(value="a", percent=60), SpreadTarget(value="b", percent=40)]
        fields["spreads"] = [Spread(attribute="${attr.zone}", weight=100, spread_target=targets)]
    return fields


@_FEW
@given(shapes=st.lists(_SHAPES, min_size=1, max_size=12), fields=_jobs())
def test_every_row_went_to_a_node_with_room_and_none_was_better(
    kit: Any, shapes: list[tuple[int, int, str]], fields: dict[str, Any]
) -> None:
    world = kit.World()
    nodes = [
        world.node(cpu=cpu, memory=memory, attributes={"zone": zone})
        for cpu, memory, zone in shapes
    ]
    job = kit.job(**fields)
    solution = world.run(world.register(job))
    reference = _Reference(nodes, job)
    for _, row in sorted(world.by_index(job).items()):
        number = world.node_of(row)
        assert reference.may_run(number) and reference.has_room(number)
        score = reference.score(number)
        for other in range(len(nodes)):
            if reference.may_run(other) and reference.has_room(other):
                assert reference.score(other) <= score + 1e-9
        reference.take(number)
    missing = fields["count"] - len(world.rows(job))
    assert missing == solution.failed
    if missing:
        left = [n for n in range(len(nodes)) if reference.may_run(n) and reference.has_room(n)]
        assert not left, "there was room"
    world.check_nodes()
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def _view(cpu: list[int], memory: list[int], used: list[int]) -> NodesView:
    zeros = np.zeros(len(cpu), np.int64)
    return NodesView(
        records=[Node(id=str(n)) for n in range(len(cpu))],
        cpu_capacity=np.array(cpu),
        memory_capacity=np.array(memory),
        disk_capacity=zeros,
        cpu_used=np.array([min(u, c) for u, c in zip(used, cpu)]),
        memory_used=zeros.copy(),
        disk_used=zeros.copy(),
        is_ready=np.ones(len(cpu), np.bool_),
        class_id=zeros.copy(),
    )


@_FEW
@given(
    nodes=st.lists(
        st.tuples(st.sampled_from([1000, 4000]), st.sampled_from([900, 4000]), st.integers(0, 900)),
        min_size=1,
        max_size=40,
    ),
    ask=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    wanted=st.integers(1, 120),
    count=st.integers(1, 50),
    algorithm=st.sampled_from(["binpack", "spread"]),
)
def test_many_at_once_is_exactly_one_after_the_other(
    nodes: list[tuple[int, int, int]],
    ask: tuple[int, int],
    wanted: int,
    count: int,
    algorithm: str,
) -> None:
    import random

    def place(step: int) -> tuple[list[int], list[float]]:
        view = _view(*[list(column) for column in zip(*nodes)])
        room = Room(view, random.Random(0), algorithm=algorithm)
        wish = Wish(
            ask=Ask(*ask, disk=0),
            eligible=np.ones(len(nodes), np.bool_),
            count=count,
            collisions=np.zeros(len(nodes), np.int64),
        )
        chosen: list[int] = []
        scores: list[float] = []
        for _ in range(0, wanted, step):
            placed = Placer(room).place(wish, min(step, wanted - len(chosen)))
            chosen += placed.nodes.tolist()
            scores += placed.scores.tolist()
        return chosen, scores

    assert place(wanted) == place(1)


def test_powers_are_the_same_one_by_one() -> None:
    exponents = np.linspace(-2.5, 2.5, 5_001)
    assert power10(exponents).tolist() == [power10_one(x) for x in exponents.tolist()]


def test_powers_agree_with_the_library_to_the_last_digits() -> None:
    exponents = np.linspace(-2, 2, 10_001)
    assert np.abs(power10(exponents) / 10.0**exponents - 1).max() < 1e-14


@_FEW
@given(
    fixed=st.lists(st.integers(20000, 20006), max_size=2, unique=True),
    labels=st.integers(0, 3),
    count=st.integers(1, 12),
    width=st.integers(1, 8),
)
def test_no_port_is_given_twice_and_none_is_left_unused(
    kit: Any, fixed: list[int], labels: int, count: int, width: int
) -> None:
    world = kit.World()
    for _ in range(2):
        world.node(ports=(20000, 20000 + width - 1))
    job = kit.job(count=count, cpu=1, memory=1, ports=["abc"[n] for n in range(labels)],
                  static_ports=fixed)  # fmt: skip
    solution = world.run(world.register(job))
    world.check_nodes()
    inside = sum(20000 <= port < 20000 + width for port in fixed)
    if fixed:
        each = int(labels + inside <= width)
    else:
        each = width // labels if labels else count
    assert solution.placed == min(count, 2 * each)


@_FEW
@given(data=st.data())
def test_whatever_happens_the_invariants_hold(kit: Any, data: Any) -> None:
    world = kit.World(seed=data.draw(st.integers(0, 99)))
    nodes = [
        world.node(cpu=data.draw(st.sampled_from([1000, 2500])), ports=(20000, 20003))
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    jobs: dict[str, Job] = {}
    for step in range(12):
        action = data.draw(st.sampled_from(["run", "run", "fail", "down", "end", "stop", "move"]))
        name = data.draw(st.sampled_from(["x", "y"]))
        if action == "run":
            jobs[name] = kit.job(
                name,
                count=data.draw(st.integers(0, 6)),
                cpu=data.draw(st.sampled_from([200, 700])),
                env={"STEP": str(step)},
                ports=["http"] * data.draw(st.integers(0, 1)),
            )
            world.run(world.register(jobs[name]))
        elif action == "down":
            from core.model.node import NodeStatus

            node = data.draw(st.sampled_from(nodes))
            is_up = world.state.nodes.get(node.id).status == NodeStatus.READY
            world.set_status(node, NodeStatus.DOWN if is_up else NodeStatus.READY)
        elif name in jobs:
            rows = world.rows(jobs[name])
            if action == "fail" and rows:
                world.report(rows[:1], ClientStatus.FAILED)
                world.now_us += 60 * kit.S
            elif action == "move" and rows:
                world.migrate(rows[-1:])
            elif action == "stop":
                world.run(world.deregister(jobs.pop(name)))
        if action == "end":
            world.end_stopped()
        for job in jobs.values():
            world.evaluate(job)
            again = world.plan(world.evaluation(job))
            assert kit.is_quiet(again), "a second evaluation of an unchanged state plans nothing"
            held = world.by_index(job)
            assert set(held) <= set(range(job.task_groups[0].count))  # type: ignore[index]


def test_a_million_instances_and_an_overflowing_ask_get_an_answer(kit: Any) -> None:
    world = kit.World()
    for _ in range(3):
        world.node()
    huge = kit.job("huge", count=1_000_000, cpu=1 << 62, memory=1 << 62)
    assert world.plan(world.register(huge)).failed == 1_000_000
    many = kit.job("many", count=1_000_000, cpu=100, memory=10)
    solution = world.plan(world.register(many))
    assert solution.placed == 120 and solution.failed == 1_000_000 - 120


@pytest.mark.parametrize("limit", [1, 2])
def test_distinct_property_limits_the_instances_of_a_value(kit: Any, limit: int) -> None:
    world = kit.World()
    for zone in "aabbc":
        world.node(meta={"rack": zone})
    world.node()  # without the property: never
    constraint = Constraint(
        l_target="${meta.rack}", operand="distinct_property", r_target=str(limit)
    )
    job = kit.job(count=9, constraints=[constraint])
    solution = world.run(world.register(job))
    assert solution.placed == 3 * limit
    placed = [world.node_of(row) for row in world.rows(job)]
    assert 5 not in placed and sum(node in (0, 1) for node in placed) == limit
    metric = solution.plans[-1].evaluations[0].failed_tg_allocs["main"]
    assert "distinct_property: ${meta.rack}" in metric.constraint_filtered


def test_a_driver_must_be_healthy(kit: Any) -> None:
    world = kit.World()
    world.node(drivers={"raw_exec": DriverInfo(detected=True, healthy=False)})
    solution = world.plan(world.register(kit.job()))
    metric = solution.plans[-1].evaluations[0].failed_tg_allocs["main"]
    assert solution.placed == 0 and metric.constraint_filtered == {"missing drivers": 1}


def test_a_targeted_spread_scores_with_the_placement_itself_counted() -> None:
    targets = [SpreadTarget(value="a", percent=60), SpreadTarget(value="b", percent=40)]
    block = Spread(attribute="zone", weight=100, spread_target=targets)
    scorer = SpreadScorer(block, 1.0, 10, ["a", "b", "c", None], np.array([0, 0]))
    # a: (6 - 3) / 6, b: (4 - 1) / 4; no target and no property are the worst
    assert scorer.scores(np.arange(4)).tolist() == [0.5, 0.75, -1.0, -1.0]


def test_an_even_spread_levels_the_values(kit: Any) -> None:
    world = kit.World()
    for number in range(6):
        world.node(datacenter=f"dc{number % 3}")
    job = kit.job(count=9, cpu=10, spreads=[Spread(attribute="${node.datacenter}", weight=50)])
    world.run(world.register(job))
    per_value = [0, 0, 0]
    for row in world.rows(job):
        per_value[world.node_of(row) % 3] += 1
    assert per_value == [3, 3, 3]


@_FEW
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=40),
    ask=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    wanted=st.integers(9, 150),
    percent=st.sampled_from([None, 50, 90]),
    weights=st.lists(st.integers(1, 100), min_size=1, max_size=2),
    algorithm=st.sampled_from(["binpack", "spread"]),
)
def test_many_with_a_spread_are_exactly_one_after_the_other(
    labels: list[str | None],
    ask: tuple[int, int],
    wanted: int,
    percent: int | None,
    weights: list[int],
    algorithm: str,
) -> None:
    import random

    def place(step: int) -> list[float]:
        size = len(labels)
        view = _view(
            [1000 + 500 * (n % 3) for n in range(size)], [2000] * size, [7 * n for n in range(size)]
        )
        targets = [SpreadTarget(value="a", percent=percent)] if percent else None
        nodes = np.zeros(0, np.int64)
        scorers = [
            SpreadScorer(
                Spread(attribute="${meta.x}", weight=weight, spread_target=targets),
                weight / sum(weights), wanted, labels, nodes,
            )
            for weight in weights
        ]  # fmt: skip
        wish = Wish(
            ask=Ask(*ask, disk=0),
            eligible=np.ones(size, np.bool_),
            count=wanted,
            collisions=np.zeros(size, np.int64),
            spreads=scorers,
        )
        placer = Placer(Room(view, random.Random(0), algorithm=algorithm))
        scores: list[float] = []
        for _ in range(0, wanted, step):
            scores += placer.place(wish, min(step, wanted - len(scores))).scores.tolist()
        return scores

    assert place(wanted) == pytest.approx(place(1), abs=1e-12)


@_FEW
@given(
    cpu=st.lists(st.sampled_from([1000, 2000, 4000]), min_size=1, max_size=20),
    asks=st.lists(st.tuples(st.sampled_from([100, 300]), st.integers(1, 5)), max_size=12),
)
def test_a_kept_column_follows_what_others_take(
    cpu: list[int], asks: list[tuple[int, int]]
) -> None:
    import random

    def place(number: int) -> list[int]:
        room = Room(_view(cpu, [5000] * len(cpu), [0] * len(cpu)), random.Random(0))
        chosen: list[int] = []
        for ask, wanted in asks:
            wish = Wish(
                ask=Ask(ask, 50, disk=0),
                eligible=np.ones(len(cpu), np.bool_),
                count=wanted,
                collisions=np.zeros(len(cpu), np.int64),
                candidates=number,
            )
            chosen += Placer(room).place(wish, wanted).nodes.tolist()
        return chosen

    assert place(1) == place(-1)


def test_a_group_goes_where_its_host_volume_is_and_may_be_written(world: Any, kit: Any) -> None:
    def ask(source: str, *, read_only: bool) -> dict[str, VolumeRequest]:
        return {"v": VolumeRequest(name="v", type="host", source=source, read_only=read_only)}

    world.node()
    world.node(host_volumes={"data": HostVolumeInfo(path="/data", read_only=True)})
    world.node(host_volumes={"data": HostVolumeInfo(path="/data")})
    reader = kit.job("reader", count=8, group_volumes=ask("data", read_only=True))
    world.run(world.register(reader))
    assert {world.node_of(row) for row in world.rows(reader)} <= {1, 2}
    writer = kit.job("writer", count=2, group_volumes=ask("data", read_only=False))
    world.run(world.register(writer))
    assert {world.node_of(row) for row in world.rows(writer)} == {2}
    nowhere = kit.job("nowhere", group_volumes=ask("other", read_only=True))
    solution = world.run(world.register(nowhere))
    (metric,) = [e.failed_tg_allocs["main"] for e in solution.plans[-1].evaluations[:1]]
    assert metric.constraint_filtered == {"missing compatible host volumes": 3}
