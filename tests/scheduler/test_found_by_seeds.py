"""What `python -m sim.scheduler` found, each once as a short story."""

from typing import Any

import msgspec
import pytest

from core.model.allocation import ClientStatus
from core.model.evaluation import DeploymentStatus
from core.model.job import Constraint, DisconnectStrategy, UpdateStrategy
from core.model.node import NodeStatus
from core.state.alloc_columns import FLAG_CANARY
from core.state.commands import ApplyPlans, UpsertDeployments

MINUTE_NS = 60 * 10**9


def _update(**fields: Any) -> UpdateStrategy:
    return UpdateStrategy(**{"max_parallel": 1, "canary": 1, **fields})


def test_a_paused_deployment_does_not_end(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(group_update=_update(canary=0))
    world.run(world.register(job))
    deployment = world.state.deployments.latest_of_job("default", job.id)
    paused = msgspec.structs.replace(deployment, status=DeploymentStatus.PAUSED)
    world.do(UpsertDeployments(deployments=[paused]))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    assert kit.is_quiet(world.evaluate(job))
    running = msgspec.structs.replace(paused, status=DeploymentStatus.RUNNING)
    world.do(UpsertDeployments(deployments=[running]))
    world.evaluate(job)
    ended = world.state.deployments.get(deployment.id)
    assert ended.status == DeploymentStatus.SUCCESSFUL


def test_canaries_beside_failed_instances_belong_to_a_deployment(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(group_update=_update(), group_reschedule_policy=None)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.report(world.rows(job), ClientStatus.FAILED)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    (canary,) = world.rows(job)
    assert world.state.allocs.columns.flags[canary] & FLAG_CANARY
    deployment = world.state.deployments.latest_of_job("default", job.id)
    assert deployment.job_version == 1
    assert deployment.task_groups["main"].placed_canaries == [world.state.allocs.id_of(canary)]
    assert kit.is_quiet(world.evaluate(job))


def test_canaries_and_what_comes_back_meanwhile_count_one_another(world: Any, kit: Any) -> None:
    nodes = [world.node() for _ in range(3)]
    apart = [Constraint(operand="distinct_hosts", r_target="true")]
    job = kit.job(count=1, group_update=_update(), constraints=apart)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    (old,) = world.rows(job)
    evaluation = world.register(kit.changed(job, env={"A": "2"}))
    world.set_status(nodes[world.node_of(old)], NodeStatus.DOWN)
    world.run(evaluation)
    rows = world.rows(job)
    assert len(rows) == 2, "the canary, and the lost one in its old version"
    assert len({world.node_of(row) for row in rows}) == 2


@pytest.mark.parametrize("late_s", [0, 3])
def test_a_disconnected_instance_is_given_up_though_its_plan_was_applied_late(
    world: Any, kit: Any, late_s: int
) -> None:
    nodes = [world.node(), world.node()]
    job = kit.job(group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True))
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(row)], NodeStatus.DISCONNECTED)
    solution = world.plan(world.evaluation(job))
    world.now_us += late_s * kit.S
    world.do(ApplyPlans(plans=solution.plans))
    assert world.state.allocs.columns.client[row] == ClientStatus.UNKNOWN
    (follower,) = [e for e in solution.plans[-1].evaluations if e.wait_until_us]
    world.now_us = follower.wait_until_us
    world.run(follower)
    assert world.state.allocs.columns.client[row] == ClientStatus.LOST
