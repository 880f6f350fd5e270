"""System jobs roll out as service jobs do: a few nodes at a time, as their health allows."""

from typing import Any

import msgspec
import pytest

from core.model.allocation import ClientStatus
from core.model.evaluation import DeploymentStatus
from core.model.job import Job, UpdateStrategy
from core.model.node import Eligibility, NodeStatus
from core.server import promotion
from core.state.alloc_columns import FLAG_CANARY
from core.state.commands import SetNodeEligibility, UpsertDeployments

MINUTE_NS = 60 * 10**9


@pytest.fixture
def system(kit: Any) -> Job:
    job: Job = kit.job(
        type="system",
        group_reschedule_policy=None,
        group_update=UpdateStrategy(max_parallel=2, progress_deadline_ns=10 * MINUTE_NS),
    )
    return job


def _deployment(world: Any, job: Job) -> Any:
    return world.state.deployments.latest_of_job("default", job.id)


def _healthy(world: Any, job: Job) -> None:
    world.end_stopped()
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)


def _versions(world: Any, job: Job) -> list[int]:
    return sorted(world.state.allocs.columns.job_version[world.rows(job)].tolist())


def _rolled_out(world: Any, job: Job, nodes: int = 5) -> None:
    for _ in range(nodes):
        world.node()
    world.run(world.register(job))
    _healthy(world, job)
    world.evaluate(job)
    assert _deployment(world, job).status == DeploymentStatus.SUCCESSFUL


def test_the_first_version_is_a_deployment_over_all_nodes(world: Any, system: Job) -> None:
    for _ in range(3):
        world.node()
    world.run(world.register(system))
    deployment = _deployment(world, system)
    assert deployment.status == DeploymentStatus.RUNNING
    assert deployment.task_groups["main"].desired_total == 3
    world.report(world.rows(system)[:2], ClientStatus.RUNNING, healthy=True)
    world.evaluate(system)
    assert _deployment(world, system).status == DeploymentStatus.RUNNING
    _healthy(world, system)
    world.evaluate(system)
    assert _deployment(world, system).status == DeploymentStatus.SUCCESSFUL


def test_so_many_nodes_change_at_a_time_and_health_lets_the_next_go(
    world: Any, kit: Any, system: Job
) -> None:
    _rolled_out(world, system)
    world.run(world.register(kit.changed(system, env={"A": "2"})))
    assert _versions(world, system) == [0, 0, 0, 1, 1]
    world.end_stopped()
    world.report(world.rows(system), ClientStatus.RUNNING)
    assert kit.is_quiet(world.evaluate(system)), "running is not healthy"
    _healthy(world, system)
    world.evaluate(system)
    assert _versions(world, system) == [0, 1, 1, 1, 1]
    _healthy(world, system)
    world.evaluate(system)
    _healthy(world, system)
    world.evaluate(system)
    assert _versions(world, system) == [1] * 5
    deployment = _deployment(world, system)
    assert (deployment.job_version, deployment.status) == (1, DeploymentStatus.SUCCESSFUL)


def test_an_unhealthy_instance_holds_the_rollout(world: Any, kit: Any, system: Job) -> None:
    _rolled_out(world, system)
    world.run(world.register(kit.changed(system, env={"A": "2"})))
    world.end_stopped()
    new = [row for row in world.rows(system) if world.state.allocs.columns.job_version[row] == 1]
    world.report(new[:1], ClientStatus.RUNNING, healthy=False)
    world.report(new[1:], ClientStatus.RUNNING, healthy=True)
    assert kit.is_quiet(world.evaluate(system))
    assert _versions(world, system) == [0, 0, 0, 1, 1]


def test_a_node_that_goes_away_does_not_keep_the_rollout_from_its_end(
    world: Any, kit: Any, system: Job
) -> None:
    for _ in range(2):
        world.node()
    gone = world.node()
    world.run(world.register(system))
    world.set_status(gone, NodeStatus.DOWN)
    world.evaluate(system)
    _healthy(world, system)
    world.evaluate(system)
    assert _deployment(world, system).status == DeploymentStatus.SUCCESSFUL


def test_a_node_that_comes_in_the_midst_belongs_to_the_rollout(
    world: Any, kit: Any, system: Job
) -> None:
    world.node()
    world.run(world.register(system))
    world.node()
    world.evaluate(system)
    world.report(world.rows(system)[:1], ClientStatus.RUNNING, healthy=True)
    world.evaluate(system)
    assert _deployment(world, system).status == DeploymentStatus.RUNNING
    _healthy(world, system)
    world.evaluate(system)
    assert _deployment(world, system).status == DeploymentStatus.SUCCESSFUL


def test_a_node_that_takes_no_new_work_keeps_its_version_and_holds_nothing_up(
    world: Any, kit: Any, system: Job
) -> None:
    _rolled_out(world, system, nodes=2)
    closed = world.node()
    world.evaluate(system)
    _healthy(world, system)
    world.do(SetNodeEligibility(node_id=closed.id, eligibility=Eligibility.INELIGIBLE))
    world.run(world.register(kit.changed(system, env={"A": "2"})))
    _healthy(world, system)
    world.evaluate(system)
    assert _versions(world, system) == [0, 1, 1]
    assert _deployment(world, system).status == DeploymentStatus.SUCCESSFUL
    world.do(SetNodeEligibility(node_id=closed.id, eligibility=Eligibility.ELIGIBLE))
    world.evaluate(system)
    assert _versions(world, system) == [1, 1, 1]


def test_without_an_update_block_all_change_at_once(world: Any, kit: Any) -> None:
    for _ in range(3):
        world.node()
    job = kit.job(type="system", group_reschedule_policy=None)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    assert _versions(world, job) == [1, 1, 1]
    assert _deployment(world, job) is None


def _canaries(world: Any, job: Job) -> list[int]:
    flags = world.state.allocs.columns.flags
    return [row for row in world.rows(job) if flags[row] & FLAG_CANARY]


@pytest.fixture
def tried(kit: Any) -> Job:
    """A system job that tries a new version on 40 percent of its nodes."""
    update = UpdateStrategy(max_parallel=2, canary=40, progress_deadline_ns=10 * MINUTE_NS)
    job: Job = kit.job(type="system", group_reschedule_policy=None, group_update=update)
    return job


def _promote(world: Any, job: Job) -> None:
    going_on = promotion.promoted(world.state, _deployment(world, job), None, world.now_us)
    world.do(UpsertDeployments(deployments=[going_on]))
    world.evaluate(job)


def test_canaries_are_a_part_of_the_nodes_and_the_others_wait_for_promotion(
    world: Any, kit: Any, tried: Job
) -> None:
    _rolled_out(world, tried)
    world.run(world.register(kit.changed(tried, env={"A": "2"})))
    assert _versions(world, tried) == [0, 0, 0, 1, 1]  # 40 percent of five nodes
    assert len(_canaries(world, tried)) == 2
    deployment = _deployment(world, tried)
    assert deployment.task_groups["main"].desired_canaries == 2
    assert len(deployment.task_groups["main"].placed_canaries) == 2
    with pytest.raises(promotion.PromotionError):
        promotion.promoted(world.state, deployment, None, world.now_us)
    _healthy(world, tried)
    assert kit.is_quiet(world.evaluate(tried)), "they wait"
    _promote(world, tried)
    assert _versions(world, tried) == [0, 1, 1, 1, 1] and not _canaries(world, tried)
    _healthy(world, tried)
    world.evaluate(tried)
    _healthy(world, tried)
    world.evaluate(tried)
    assert _versions(world, tried) == [1] * 5
    assert _deployment(world, tried).status == DeploymentStatus.SUCCESSFUL


def test_what_begins_anew_during_a_trial_does_so_in_its_version(
    world: Any, kit: Any, tried: Job
) -> None:
    _rolled_out(world, tried)
    world.run(world.register(kit.changed(tried, env={"A": "2"})))
    _healthy(world, tried)
    canary, *_ = _canaries(world, tried)
    old = next(row for row in world.rows(tried) if row not in _canaries(world, tried))
    world.migrate([canary, old])
    world.evaluate(tried)
    assert _versions(world, tried) == [0, 0, 0, 1, 1]
    assert len(_canaries(world, tried)) == 2 and canary not in _canaries(world, tried)
    world.end_stopped()
    world.report(_canaries(world, tried)[:1], ClientStatus.FAILED)
    world.evaluate(tried)
    assert _versions(world, tried) == [0, 0, 0, 1, 1] and len(_canaries(world, tried)) == 2


def test_a_trial_that_failed_changes_no_further_node(world: Any, kit: Any, tried: Job) -> None:
    _rolled_out(world, tried)
    world.run(world.register(kit.changed(tried, env={"A": "2"})))
    failed = msgspec.structs.replace(_deployment(world, tried), status=DeploymentStatus.FAILED)
    world.do(UpsertDeployments(deployments=[failed]))
    assert kit.is_quiet(world.evaluate(tried))
    assert _versions(world, tried) == [0, 0, 0, 1, 1]
    world.end_stopped()
    world.run(world.register(kit.changed(tried, env={"A": "3"})))
    assert 2 in _versions(world, tried), "the next version is tried anew"
    assert len(_canaries(world, tried)) >= 2
