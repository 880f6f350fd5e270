"""Each rule of the reconciler as before and after, through a real state."""

from typing import Any

import msgspec
import pytest

from core.model.allocation import ClientStatus, Desired
from core.model.evaluation import DeploymentStatus, EvalStatus, EvalTrigger
from core.model.job import (
    Affinity,
    Constraint,
    DisconnectStrategy,
    PeriodicConfig,
    ReschedulePolicy,
    Spread,
    UpdateStrategy,
)
from core.model.node import Eligibility, NodeStatus
from core.state.commands import SetNodeEligibility


def _started(world: Any, kit: Any, nodes: int = 3, **fields: Any) -> Any:
    for _ in range(nodes):
        world.node()
    job = kit.job(**fields)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    return job


def test_places_the_wanted_indices_and_then_nothing(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=5)
    assert sorted(world.by_index(job)) == [0, 1, 2, 3, 4]
    assert kit.is_quiet(world.evaluate(job))


def test_runs_only_its_share_limited_to_the_count(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(count=6)
    world.run(world.register(job, indices={"main": [(1, 3), (5, 9)]}))
    assert sorted(world.by_index(job)) == [1, 2, 5]


def test_scale_down_stops_the_highest_indices_and_scale_up_fills_the_gap(
    world: Any, kit: Any
) -> None:
    job = _started(world, kit, count=5)
    before = world.by_index(job)
    smaller = kit.changed(job, count=2)
    world.run(world.register(smaller))
    assert world.by_index(job) == {index: before[index] for index in (0, 1)}
    world.end_stopped()
    world.run(world.register(kit.changed(job, count=4)))
    after = world.by_index(job)
    assert sorted(after) == [0, 1, 2, 3]
    assert all(after[index] == before[index] for index in (0, 1))


def test_a_stopped_job_stops_all(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=3)
    world.run(world.deregister(job))
    assert world.rows(job) == []


@pytest.mark.parametrize("is_known_again", [False, True])
def test_a_purged_job_stops_all_even_when_its_name_is_taken_again(
    world: Any, kit: Any, is_known_again: bool
) -> None:
    job = _started(world, kit, count=3)
    evaluation = world.deregister(job, purge=True)
    if is_known_again:
        evaluation = world.register(kit.job(count=1, uid="another"))
    world.run(evaluation)
    old = world.state.jobs.by_uid("uid-web")
    assert old is not None and world.state.jobs.live(old) == 0
    assert len(world.rows(kit.job())) == int(is_known_again)


def test_a_change_that_processes_do_not_see_is_followed_in_place(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=3)
    before = world.by_index(job)
    world.run(world.register(kit.changed(job, kill_timeout_ns=9_000_000_000)))
    assert world.by_index(job) == before
    assert {int(v) for v in world.state.allocs.columns.job_version[list(before.values())]} == {1}
    assert kit.is_quiet(world.evaluate(job))


def test_a_change_of_the_environment_replaces_and_keeps_the_indices(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=3)
    before = world.by_index(job)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    after = world.by_index(job)
    assert sorted(after) == [0, 1, 2] and not set(after.values()) & set(before.values())
    for index, row in after.items():
        extras = world.state.allocs.extras.get(row)
        assert extras.previous == world.state.allocs.id_of(before[index])


def test_where_its_node_no_longer_suits_an_instance_moves(world: Any, kit: Any) -> None:
    for rack in "ab":
        world.node(meta={"rack": rack})
    job = kit.job(count=1)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    (old,) = world.rows(job)
    words = [Constraint(l_target="${meta.rack}", operand="=", r_target="ab"[world.node_of(old)])]
    followed = msgspec.structs.replace(job, constraints=words)
    assert world.run(world.register(followed)).placed == 0
    assert world.rows(job) == [old] and world.state.allocs.columns.job_version[old] == 1
    words = [Constraint(l_target="${meta.rack}", operand="!=", r_target=words[0].r_target)]
    assert world.run(world.register(msgspec.structs.replace(job, constraints=words))).placed == 1
    (new,) = world.rows(job)
    assert world.node_of(new) != world.node_of(old)


def test_a_node_that_takes_no_new_work_keeps_what_it_has_in_place(world: Any, kit: Any) -> None:
    node = world.node()
    job = kit.job(count=1)
    world.run(world.register(job))
    rows = world.rows(job)
    world.do(SetNodeEligibility(node_id=node.id, eligibility=Eligibility.INELIGIBLE))
    world.run(world.register(kit.changed(job, kill_timeout_ns=9_000_000_000)))
    assert world.rows(job) == rows and world.state.allocs.columns.job_version[rows[0]] == 1


@pytest.mark.parametrize(
    "liking",
    [
        {"affinities": [Affinity("${meta.rack}", "a", "=", weight=50)]},
        {"spreads": [Spread("${meta.rack}", weight=50)]},
        {"constraints": [Constraint(operand="distinct_hosts", r_target="true")]},
    ],
)
def test_what_likes_other_nodes_is_placed_anew(world: Any, kit: Any, liking: Any) -> None:
    job = _started(world, kit, count=1)
    assert world.run(world.register(msgspec.structs.replace(job, **liking))).placed == 1


def test_a_full_node_takes_the_replacement_of_what_it_runs(world: Any, kit: Any) -> None:
    job = _started(world, kit, nodes=1, count=4, cpu=1000)
    solution = world.run(world.register(kit.changed(job, env={"A": "2"})))
    assert solution.placed == 4 and solution.failed == 0
    world.check_nodes()


def test_an_update_without_room_leaves_the_old_ones_running(world: Any, kit: Any) -> None:
    job = _started(world, kit, nodes=1, count=2, cpu=2000, memory=1000)
    bigger = kit.changed(job)
    bigger.task_groups[0].tasks[0].resources = msgspec.structs.replace(
        bigger.task_groups[0].tasks[0].resources, cpu=4000
    )
    before = world.by_index(job)
    solution = world.run(world.register(bigger))
    # Index 0 can't take the whole node while 1 runs, nor the other way round.
    assert solution.failed == 2 and world.by_index(job) == before


def test_a_node_that_is_down_loses_its_allocations_and_they_move(world: Any, kit: Any) -> None:
    nodes = [world.node() for _ in range(2)]
    job = kit.job(count=2)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    down = world.node_of(world.by_index(job)[0])
    lost = [row for row in world.rows(job) if world.node_of(row) == down]
    world.set_status(nodes[down], NodeStatus.DOWN)
    world.run(world.evaluation(job))
    columns = world.state.allocs.columns
    assert {int(columns.client[row]) for row in lost} == {ClientStatus.LOST}
    assert {world.node_of(row) for row in world.by_index(job).values()} == {1 - down}
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def test_a_disconnected_node_is_waited_for_where_the_job_says_so(world: Any, kit: Any) -> None:
    nodes = [world.node() for _ in range(2)]
    job = kit.job(count=1, group_disconnect=DisconnectStrategy(lost_after_ns=60 * kit.S * 1000))
    world.run(world.register(job))
    (old,) = world.rows(job)
    world.report([old], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(old)], NodeStatus.DISCONNECTED)
    solution = world.run(world.evaluation(job))
    columns = world.state.allocs.columns
    assert columns.client[old] == ClientStatus.UNKNOWN and columns.desired[old] == Desired.RUN
    assert solution.placed == 1
    followers = [e for e in solution.plans[-1].evaluations if e.wait_until_us]
    assert [e.triggered_by for e in followers] == [EvalTrigger.MAX_DISCONNECT_TIMEOUT]
    assert kit.is_quiet(world.plan(world.evaluation(job)))
    world.now_us += 61 * kit.S
    world.run(followers[0])
    assert columns.client[old] == ClientStatus.LOST and columns.desired[old] == Desired.STOP
    assert len(world.rows(job)) == 1


def test_asked_to_migrate_stops_and_goes_elsewhere(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=2)
    row = world.by_index(job)[1]
    world.migrate([row])
    world.run(world.evaluation(job))
    assert world.state.allocs.columns.desired[row] == Desired.STOP
    assert sorted(world.by_index(job)) == [0, 1]
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def test_a_failed_one_waits_for_its_delay_and_is_then_replaced(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=2)
    row = world.by_index(job)[0]
    world.report([row], ClientStatus.FAILED)
    solution = world.run(world.evaluation(job))
    (later,) = [e for e in solution.plans[-1].evaluations if e.wait_until_us]
    assert later.wait_until_us == world.now_us + 30 * kit.S
    assert later.triggered_by == EvalTrigger.RETRY_FAILED_ALLOC
    assert sorted(world.by_index(job)) == [1]
    assert kit.is_quiet(world.plan(world.evaluation(job)))  # the wait is noted once
    world.now_us = later.wait_until_us
    world.run(later)
    replacement = world.by_index(job)[0]
    extras = world.state.allocs.extras.get(replacement)
    assert extras.previous == world.state.allocs.id_of(row)
    assert [e.delay_ns // 1000 for e in extras.tracker.events] == [30 * kit.S]
    assert world.node_of(replacement) != world.node_of(row)  # the failed node is penalised


def test_attempts_within_the_interval_run_out(world: Any, kit: Any) -> None:
    policy = ReschedulePolicy(
        attempts=1,
        interval_ns=3600 * kit.S * 1000,
        delay_ns=0,
        delay_function="constant",
        unlimited=False,
    )
    job = _started(world, kit, count=1, group_reschedule_policy=policy)
    world.report(world.rows(job), ClientStatus.FAILED)
    assert world.run(world.evaluation(job)).placed == 1
    world.report(world.rows(job), ClientStatus.FAILED)
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def test_a_complete_batch_instance_is_done_but_a_new_version_runs_again(
    world: Any, kit: Any
) -> None:
    job = _started(world, kit, count=2, type="batch")
    world.report(world.rows(job), ClientStatus.COMPLETE)
    assert kit.is_quiet(world.plan(world.evaluation(job)))
    assert world.run(world.register(kit.changed(job, env={"A": "2"}))).placed == 2


def test_a_batch_instance_that_was_stopped_is_not_done(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=2, type="batch")
    world.run(world.register(kit.changed(job, count=1)))
    world.end_stopped()
    world.run(world.register(kit.changed(job, count=2)))
    assert sorted(world.by_index(job)) == [0, 1]


def test_a_template_of_children_runs_nothing_itself(world: Any, kit: Any) -> None:
    world.node()
    periodic = kit.job("cron", type="batch", periodic=PeriodicConfig(spec="@daily"))
    assert kit.is_quiet(world.plan(world.register(periodic)))


def test_a_complete_service_instance_is_replaced(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=2)
    world.report([world.by_index(job)[0]], ClientStatus.COMPLETE)
    assert world.run(world.evaluation(job)).placed == 1
    assert sorted(world.by_index(job)) == [0, 1]


def _rolling(**fields: Any) -> UpdateStrategy:
    return UpdateStrategy(max_parallel=2, health_check="task_states", **fields)


def test_a_rollout_replaces_max_parallel_at_a_time_as_they_become_healthy(
    world: Any, kit: Any
) -> None:
    job = _started(world, kit, count=5, group_update=_rolling())
    deployment = world.state.deployments.latest_of_job("default", "web")
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.run(world.evaluation(job))
    done = world.state.deployments.get(deployment.id)
    assert done.status == DeploymentStatus.SUCCESSFUL

    world.run(world.register(kit.changed(job, env={"A": "2"})))
    columns = world.state.allocs.columns

    def versions() -> list[int]:
        return sorted(int(columns.job_version[row]) for row in world.rows(job))

    assert versions() == [0, 0, 0, 1, 1]
    assert kit.is_quiet(world.plan(world.evaluation(job)))  # none healthy yet
    for expected in ([0, 0, 1, 1, 1], [0, 1, 1, 1, 1]):
        fresh = [
            row
            for row in world.rows(job)
            if columns.job_version[row] == 1 and columns.client[row] == ClientStatus.PENDING
        ]
        world.report(fresh[:1], ClientStatus.RUNNING, healthy=True)
        world.run(world.evaluation(job))
        assert versions() == expected
    for _ in range(3):
        fresh = [row for row in world.rows(job) if columns.client[row] == ClientStatus.PENDING]
        world.report(fresh, ClientStatus.RUNNING, healthy=True)
        world.end_stopped()
        world.run(world.evaluation(job))
    latest = world.state.deployments.latest_of_job("default", "web")
    assert versions() == [1] * 5 and latest.job_version == 1
    assert latest.status == DeploymentStatus.SUCCESSFUL
    assert latest.task_groups["main"].healthy_allocs == 5
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def test_a_rollout_begins_with_the_lowest_indices_and_counts_who_is_away(
    world: Any, kit: Any
) -> None:
    job = _started(world, kit, count=4, group_update=_rolling())
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    columns = world.state.allocs.columns
    world.migrate([world.by_index(job)[3]])  # away for a move: one less may be updated
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    new = [index for index, row in world.by_index(job).items() if columns.job_version[row] == 1]
    assert sorted(new) == [0, 3]


def test_an_unhealthy_instance_holds_the_rollout(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=4, group_update=_rolling())
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    columns = world.state.allocs.columns
    fresh = [row for row in world.rows(job) if columns.job_version[row] == 1]
    world.report(fresh, ClientStatus.RUNNING, healthy=False)
    assert kit.is_quiet(world.plan(world.evaluation(job)))


def test_a_newer_version_cancels_the_rollout_before_it(world: Any, kit: Any) -> None:
    job = _started(world, kit, count=2, group_update=_rolling())
    first = world.state.deployments.latest_of_job("default", "web")
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    assert world.state.deployments.get(first.id).status == DeploymentStatus.CANCELLED
    second = world.state.deployments.latest_of_job("default", "web")
    assert second.id != first.id and second.status == DeploymentStatus.RUNNING
    world.run(world.deregister(job))
    assert world.state.deployments.get(second.id).status == DeploymentStatus.CANCELLED


def test_what_finds_no_room_blocks_and_the_successor_blocks_again(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    job = kit.job(count=3, cpu=500)
    evaluation = world.register(job)
    world.run(evaluation)
    done = world.state.evals.get(evaluation.id)
    assert done.status == EvalStatus.COMPLETE and done.queued_allocations == {"main": 1}
    assert done.failed_tg_allocs["main"].dimension_exhausted == {"cpu": 1}
    blocked = world.state.evals.get(done.blocked_eval)
    assert blocked.status == EvalStatus.BLOCKED and blocked.previous_eval == evaluation.id
    assert list(blocked.class_eligibility.values()) == [True]
    solution = world.run(blocked)
    assert len(solution.plans[-1].evaluations) == 1
    assert world.state.evals.get(blocked.id).status == EvalStatus.BLOCKED
    world.node(cpu=1000)
    world.run(blocked)
    assert world.state.evals.get(blocked.id).status == EvalStatus.COMPLETE
    assert sorted(world.by_index(job)) == [0, 1, 2]


def test_a_plan_with_room_for_all_cancels_the_blocked_evaluation(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    job = kit.job(count=3, cpu=500)
    solution = world.run(world.register(job))
    blocked = solution.plans[-1].evaluations[-1]
    world.run(world.register(kit.changed(job, count=2)))
    assert world.state.evals.get(blocked.id).status == EvalStatus.CANCELLED


def test_the_evaluations_of_a_batch_see_each_other(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    jobs = [kit.job(f"job-{n}", cpu=500, static_ports=[]) for n in range(3)]
    solution = world.run(*[world.register(job) for job in jobs])
    assert (solution.placed, solution.failed) == (2, 1)
    world.check_nodes()


def test_room_that_one_plan_stops_is_not_given_to_the_next(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    old, new = kit.job("old", cpu=1000), kit.job("new", cpu=1000)
    world.run(world.register(old))
    world.report(world.rows(old), ClientStatus.RUNNING)
    solution = world.run(world.deregister(old), world.register(new))
    assert solution.placed == 0 and solution.failed == 1
    world.end_stopped()
    assert world.evaluate(new).placed == 1


def test_a_system_job_runs_once_on_every_node_that_may(world: Any, kit: Any) -> None:
    for number in range(4):
        world.node(node_class="edge" if number % 2 else "core")
    job = kit.job(type="system", group_reschedule_policy=None)
    world.run(world.register(job))
    assert sorted(world.node_of(row) for row in world.rows(job)) == [0, 1, 2, 3]
    world.report(world.rows(job), ClientStatus.RUNNING)
    assert kit.is_quiet(world.plan(world.evaluation(job)))
    world.node()
    assert world.run(world.evaluation(job)).placed == 1
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    assert {int(world.state.allocs.columns.job_version[row]) for row in world.rows(job)} == {1}
    assert len(world.rows(job)) == 5


def test_a_system_job_leaves_the_nodes_that_its_new_version_excludes(world: Any, kit: Any) -> None:
    for name in ("core", "edge"):
        world.node(node_class=name)
    job = kit.job(type="system", group_reschedule_policy=None)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    edge = Constraint(l_target="${node.class}", operand="=", r_target="edge")
    world.run(world.register(msgspec.structs.replace(job, constraints=[edge])))
    assert [world.node_of(row) for row in world.rows(job)] == [1]
    assert kit.is_quiet(world.plan(world.evaluation(job)))
