"""Canaries: on top of the count, on an index they share, and nothing else until promoted."""

from typing import Any

import msgspec
import pytest

from core.model.allocation import ClientStatus
from core.model.evaluation import Deployment, DeploymentStatus
from core.model.job import UpdateStrategy
from core.model.node import NodeStatus
from core.server import promotion
from core.state.alloc_columns import FLAG_CANARY
from core.state.commands import UpsertDeployments


def _update(**fields: Any) -> UpdateStrategy:
    return UpdateStrategy(
        **{"max_parallel": 1, "canary": 1, "progress_deadline_ns": 600 * 10**9, **fields}
    )


def _started(world: Any, kit: Any, count: int = 3, nodes: int = 3, **update: Any) -> Any:
    for _ in range(nodes):
        world.node()
    job = kit.job(count=count, group_update=_update(**update))
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    return job


def _versions(world: Any, job: Any) -> list[tuple[int, int, bool]]:
    """(index, version, is canary) of the live allocations."""
    columns = world.state.allocs.columns
    return sorted(
        (
            int(columns.index[row]),
            int(columns.job_version[row]),
            bool(columns.flags[row] & FLAG_CANARY),
        )
        for row in world.rows(job)
    )


def _deployment(world: Any, job: Any) -> Deployment:
    found = world.state.deployments.latest_of_job("default", job.id)
    assert found is not None
    return found  # type: ignore[no-any-return]


def _canaries(world: Any, job: Any) -> list[int]:
    columns = world.state.allocs.columns
    return [row for row in world.rows(job) if columns.flags[row] & FLAG_CANARY]


def _promote(world: Any, job: Any) -> None:
    going_on = promotion.promoted(world.state, _deployment(world, job), None, world.now_us)
    world.do(UpsertDeployments(deployments=[going_on]))
    world.evaluate(job)
    world.end_stopped()


def _roll_on(world: Any, job: Any) -> None:
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.end_stopped()


def test_the_first_version_has_no_canaries(world: Any, kit: Any) -> None:
    job = _started(world, kit)
    assert _versions(world, job) == [(0, 0, False), (1, 0, False), (2, 0, False)]
    assert _deployment(world, job).status == DeploymentStatus.SUCCESSFUL


def test_a_new_version_runs_beside_the_old_until_it_is_promoted(world: Any, kit: Any) -> None:
    job = _started(world, kit)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    assert _versions(world, job) == [(0, 0, False), (0, 1, True), (1, 0, False), (2, 0, False)]
    deployment = _deployment(world, job)
    assert deployment.status_description.endswith("requires manual promotion")
    state = (deployment.task_groups or {})["main"]
    assert (state.desired_canaries, state.desired_total, state.promoted) == (1, 3, False)
    assert len(state.placed_canaries or []) == 1
    assert kit.is_quiet(world.evaluate(new))

    world.report(_canaries(world, job), ClientStatus.RUNNING, healthy=True)
    assert kit.is_quiet(world.evaluate(new)), "healthy canaries alone change nothing"
    _promote(world, new)
    assert (0, 1, False) in _versions(world, job)
    assert (0, 0, False) not in _versions(world, job), "its old instance stops"
    for _ in range(4):
        _roll_on(world, new)
    assert _versions(world, job) == [(index, 1, False) for index in range(3)]
    assert _deployment(world, job).status == DeploymentStatus.SUCCESSFUL


def test_blue_green_stops_all_old_ones_at_promotion(world: Any, kit: Any) -> None:
    job = _started(world, kit, canary=3, max_parallel=3)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    assert len(world.rows(job)) == 6
    world.report(_canaries(world, job), ClientStatus.RUNNING, healthy=True)
    _promote(world, new)
    assert _versions(world, job) == [(index, 1, False) for index in range(3)]
    world.evaluate(new)
    assert _deployment(world, job).status == DeploymentStatus.SUCCESSFUL


def test_canaries_beyond_the_count_end_with_the_promotion(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=1, canary=3)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    assert [one[0] for one in _versions(world, job) if one[2]] == [0, 1, 2]
    world.report(_canaries(world, job), ClientStatus.RUNNING, healthy=True)
    _promote(world, new)
    assert _versions(world, job) == [(0, 1, False)]


def test_what_is_lost_meanwhile_comes_back_in_its_version(world: Any, kit: Any) -> None:
    job = _started(world, kit, nodes=4)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    canary = _canaries(world, job)[0]
    columns = world.state.allocs.columns
    old = next(r for r in world.rows(job) if r != canary and columns.index[r] == 0)
    if world.node_of(old) == world.node_of(canary):
        pytest.skip("both on one node")
    world.set_status(world.state.nodes.record(world.node_of(old)), NodeStatus.DOWN)
    world.evaluate(new)
    assert _versions(world, job) == [(0, 0, False), (0, 1, True), (1, 0, False), (2, 0, False)]
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    _promote(world, new)
    assert canary in world.rows(job), "the promoted one stays, though it is older"
    assert (0, 0, False) not in _versions(world, job)


def test_a_lost_canary_is_replaced_by_a_canary(world: Any, kit: Any) -> None:
    job = _started(world, kit, nodes=4)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    canary = _canaries(world, job)[0]
    world.set_status(world.state.nodes.record(world.node_of(canary)), NodeStatus.DOWN)
    world.evaluate(new)
    assert canary not in world.rows(job)
    assert [one for one in _versions(world, job) if one[2]] == [(0, 1, True)]
    assert len(world.rows(job)) == 4


@pytest.mark.parametrize("status", [DeploymentStatus.FAILED, DeploymentStatus.CANCELLED])
def test_canaries_of_a_given_up_rollout_stop_and_the_old_stay(
    world: Any, kit: Any, status: DeploymentStatus
) -> None:
    job = _started(world, kit)
    new = kit.changed(job, env={"A": "2"})
    world.run(world.register(new))
    ended = msgspec.structs.replace(_deployment(world, job), status=DeploymentStatus.FAILED)
    world.do(UpsertDeployments(deployments=[ended]))
    world.evaluate(new)
    assert _versions(world, job) == [(0, 0, False), (1, 0, False), (2, 0, False)]
    assert kit.is_quiet(world.evaluate(new))


def test_a_newer_version_gets_canaries_of_its_own(world: Any, kit: Any) -> None:
    job = _started(world, kit)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    world.run(world.register(kit.changed(job, env={"A": "3"})))
    assert _versions(world, job) == [(0, 0, False), (0, 2, True), (1, 0, False), (2, 0, False)]


def test_scaling_up_waits_and_going_back_needs_no_canaries(world: Any, kit: Any) -> None:
    job = _started(world, kit)
    world.run(world.register(kit.changed(job, count=5, env={"A": "2"})))
    assert [one[0] for one in _versions(world, job) if not one[2]] == [0, 1, 2]
    world.run(world.register(kit.changed(job, count=4)))
    assert _versions(world, job) == [(i, v, False) for i, v in enumerate([0, 0, 0, 2])] or all(
        not one[2] for one in _versions(world, job)
    )
    assert len(world.rows(job)) == 4


def test_promotion_asks_for_healthy_canaries(world: Any, kit: Any) -> None:
    job = _started(world, kit)
    with pytest.raises(promotion.PromotionError, match="no canaries to promote"):
        promotion.promoted(world.state, _deployment(world, job), None, world.now_us)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    deployment = _deployment(world, job)
    with pytest.raises(promotion.PromotionError, match="0/1 healthy"):
        promotion.promoted(world.state, deployment, None, world.now_us)
    with pytest.raises(promotion.PromotionError, match="'other' is not part"):
        promotion.promoted(world.state, deployment, ["other"], world.now_us)
    assert not promotion.can_promote_itself(world.state, deployment)


def test_auto_promote_waits_for_every_canary(world: Any, kit: Any) -> None:
    job = _started(world, kit, canary=2, auto_promote=True)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    first, second = _canaries(world, job)
    world.report([first], ClientStatus.RUNNING, healthy=True)
    assert not promotion.can_promote_itself(world.state, _deployment(world, job))
    world.report([second], ClientStatus.RUNNING, healthy=True)
    assert promotion.can_promote_itself(world.state, _deployment(world, job))
