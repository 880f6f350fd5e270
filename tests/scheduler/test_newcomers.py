"""New small jobs are planned by a shorter way, and nobody can tell from the plan."""

import random
from typing import Any

import msgspec
import pytest

from core.jobspec import canonicalize
from core.model.job import (
    Affinity,
    Constraint,
    EphemeralDisk,
    Job,
    NetworkResource,
    Port,
    Resources,
    Spread,
    Task,
    TaskGroup,
    UpdateStrategy,
)
from core.model.plan import Plan
from core.scheduler import prepare
from core.scheduler.newcomers import Newcomers
from core.scheduler.picture import Picture
from core.state.commands import ApplyPlans

SEEDS, JOBS = 12, 14


def _job(rng: random.Random, number: int) -> Job:
    """Return a job; most are of the plain kind, of a few forms."""
    task = Task(
        name="work",
        driver="raw_exec",
        resources=Resources(cpu=rng.choice((100, 700)), memory_mb=rng.choice((64, 900))),
    )
    group = TaskGroup(
        name="g",
        count=rng.choice((0, 1, 2, 3, 5, 8, 9)),
        tasks=[task],
        ephemeral_disk=EphemeralDisk(size_mb=10),
    )
    odd = rng.randrange(24)
    if odd == 0:
        group.networks = [NetworkResource(dynamic_ports=[Port(label="http")])]
    elif odd == 1:
        group.spreads = [Spread(attribute="${node.datacenter}", weight=50)]
    elif odd == 2:
        task.affinities = [Affinity(l_target="${attr.rack}", r_target="r1", operand="=")]
    elif odd == 3:
        group.constraints = [Constraint(operand="distinct_hosts")]
    elif odd == 4:
        group.update = UpdateStrategy(max_parallel=1, canary=1)
    wanted = [Constraint(l_target="${attr.rack}", r_target="r1", operand="=")]
    job = Job(
        id=f"job-{number}",
        name=f"job-{number}",
        type=rng.choice(("batch", "service", "service")),
        constraints=wanted if rng.random() < 0.3 else None,
        task_groups=[group] if odd != 5 else [group, msgspec.structs.replace(group, name="h")],
        stop=odd == 6,
    )
    return canonicalize(job, region="eu")


def _world(make: Any, seed: int) -> tuple[Any, random.Random]:
    world, rng = make(seed), random.Random(seed)
    for _ in range(rng.randint(1, 9)):
        world.node(
            cpu=rng.choice((1_000, 4_000)),
            memory=rng.choice((1_024, 8_192)),
            node_class=rng.choice(("", "big")),
            attributes={"rack": rng.choice(("r1", "r2"))},
        )
    return world, rng


def _plans(make: Any, seed: int) -> tuple[list[Plan], str]:
    """Plan jobs in batches with one picture, changed and stopped ones among them."""
    world, rng = _world(make, seed)
    picture, plans = Picture(), []
    given: list[Any] = []
    for number in range(JOBS):
        if number and rng.random() < 0.2:
            number = rng.randrange(number)
        given.append(world.register(_job(rng, number)))
        given = [one for one in given[:-1] if one.job_id != given[-1].job_id] + given[-1:]
        if rng.random() < 0.4 or number == JOBS - 1:
            problem = prepare(
                world.state, given, now_us=world.now_us, rng=world.rng, picture=picture
            )
            solution = problem.solve()
            world.do(ApplyPlans(plans=solution.plans))
            plans += solution.plans
            given = []
    return plans, world.state.hash()


def test_the_shorter_way_comes_to_the_same_plans(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = type(world)
    planned = Newcomers.plan
    taken = 0

    def counted(*args: Any) -> Any:
        nonlocal taken
        found = planned(*args)
        taken += found is not None
        return found

    shorter, longer = [], []
    monkeypatch.setattr(Newcomers, "plan", counted)
    for seed in range(SEEDS):
        shorter.append(_plans(make, seed))
    assert taken > SEEDS  # else nothing is compared here
    monkeypatch.setattr(Newcomers, "plan", lambda *_: None)
    for seed in range(SEEDS):
        longer.append(_plans(make, seed))
    for seed, (one, other) in enumerate(zip(shorter, longer, strict=True)):
        assert msgspec.msgpack.encode(one[0]) == msgspec.msgpack.encode(other[0]), f"seed {seed}"
        assert one[1] == other[1], f"seed {seed}"
