"""What `python -m sim.scheduler` found, each once as a short story."""

from typing import Any

import msgspec
import pytest

from core.model.allocation import ClientStatus
from core.model.evaluation import DeploymentStatus, EvalStatus, EvalTrigger
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


def test_a_port_is_not_free_while_one_that_stopped_earlier_holds_it(world: Any, kit: Any) -> None:
    world.node()
    first = kit.job(static_ports=[8080])
    world.run(world.register(first))
    world.report(world.rows(first), ClientStatus.RUNNING)
    second = kit.changed(first, env={"A": "2"})
    world.run(world.register(second))  # on the same port; the first still stops
    third = kit.changed(first, env={"A": "3"})
    solution = world.plan(world.register(third))
    assert solution.placed == 0 and solution.failed == 1
    world.end_stopped()
    assert world.run(world.evaluation(third)).placed == 1


def test_a_plan_that_gives_such_a_port_is_refused(world: Any, kit: Any) -> None:
    world.node()
    first = kit.job(static_ports=[8080])
    world.run(world.register(first))
    world.report(world.rows(first), ClientStatus.RUNNING)
    world.run(world.register(kit.changed(first, env={"A": "2"})))
    third = kit.changed(first, env={"A": "3"})
    evaluation = world.register(third)
    held = world.state.nodes._shared_ports
    world.state.nodes._shared_ports = {}  # a planner that does not know
    solution = world.plan(evaluation)
    world.state.nodes._shared_ports = held
    assert solution.placed == 1
    applied = world.do(ApplyPlans(plans=solution.plans))
    (result,) = applied.results[0].value
    assert [rows.reasons for rows in result.dropped] == [["ports"]]
    assert len(result.withheld_stops) == 1


def test_a_system_instance_that_is_asked_to_move_begins_anew_at_once(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(type="system", group_reschedule_policy=None)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    world.migrate(world.rows(job))
    assert world.evaluate(job).placed == 1
    assert len(world.rows(job)) == 1
    assert kit.is_quiet(world.evaluate(job))


def test_a_failed_instance_that_waited_for_its_node_is_tried_again(world: Any, kit: Any) -> None:
    node = world.node()
    job = kit.job(group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True))
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    world.set_status(node, NodeStatus.DISCONNECTED)
    world.evaluate(job)  # unknown, and an evaluation waits for the node
    world.set_status(node, NodeStatus.READY)
    world.report([row], ClientStatus.FAILED)
    solution = world.evaluate(job)
    (later,) = [e for e in solution.plans[-1].evaluations if e.status == EvalStatus.PENDING]
    assert later.triggered_by == EvalTrigger.RETRY_FAILED_ALLOC
    world.now_us = later.wait_until_us
    assert world.run(later).placed == 1


def test_an_unknown_instance_that_may_come_back_takes_its_place(world: Any, kit: Any) -> None:
    nodes = [world.node(), world.node()]
    apart = [Constraint(operand="distinct_hosts", r_target="true")]
    disconnect = DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True)
    job = kit.job(constraints=apart, group_disconnect=disconnect)
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    away = nodes[world.node_of(row)]
    world.set_status(away, NodeStatus.DISCONNECTED)
    world.evaluate(job)
    world.set_status(away, NodeStatus.READY)  # its client has not said yet how it is
    solution = world.run(world.register(kit.changed(job, count=2)))
    assert (solution.placed, solution.failed) == (0, 1)


def test_a_group_without_an_update_block_begins_no_rollout_of_its_own(world: Any, kit: Any) -> None:
    world.node(cpu=2000)
    job = kit.job(type="system", group_reschedule_policy=None, group_update=_update(canary=0))
    (with_block,) = job.task_groups
    plain = msgspec.structs.replace(with_block, name="plain", update=None)
    job = msgspec.structs.replace(job, task_groups=[with_block, plain])
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    big = msgspec.structs.replace(plain.tasks[0].resources, cpu=1900)
    plain = msgspec.structs.replace(
        plain, tasks=[msgspec.structs.replace(plain.tasks[0], resources=big)]
    )
    solution = world.run(
        world.register(msgspec.structs.replace(job, task_groups=[with_block, plain]))
    )
    assert solution.failed == 1, "it is too big to be updated"
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    ended = world.state.deployments.latest_of_job("default", job.id)
    assert (ended.job_version, ended.status) == (1, DeploymentStatus.SUCCESSFUL)
    assert kit.is_quiet(world.evaluate(job))


def test_after_a_failed_trial_what_moves_stays_in_its_version(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(count=2, group_update=_update())
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    trial = world.state.deployments.latest_of_job("default", job.id)
    failed = msgspec.structs.replace(trial, status=DeploymentStatus.FAILED)
    world.do(UpsertDeployments(deployments=[failed]))
    world.evaluate(job)  # its canary stops
    world.migrate(world.rows(job)[:1])
    assert world.evaluate(job).placed == 1
    assert {int(v) for v in world.state.allocs.columns.job_version[world.rows(job)]} == {0}


@pytest.mark.parametrize("operand", ["distinct_hosts", "distinct_property"])
def test_nobody_goes_beside_one_who_may_have_to_stay(world: Any, kit: Any, operand: str) -> None:
    # Each could take the other's place, but only one of the two finds room.
    for cpu, rack in ((1000, "a"), (2000, "b")):
        world.node(cpu=cpu, meta={"rack": rack})
    apart = [Constraint(l_target="${meta.rack}", operand=operand, r_target="")]
    job = kit.job(count=2, constraints=apart)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    bigger = kit.changed(job)
    task = bigger.task_groups[0].tasks[0]
    task.resources = msgspec.structs.replace(task.resources, cpu=1500)
    solution = world.run(world.register(bigger))
    assert (solution.placed, solution.failed) == (1, 1)
    assert sorted(world.node_of(row) for row in world.rows(job)) == [0, 1]


def test_a_canary_that_is_away_is_waited_for_as_any_other(world: Any, kit: Any) -> None:
    nodes = [world.node(), world.node()]
    disconnect = DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True)
    job = kit.job(group_update=_update(), group_disconnect=disconnect)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    flags = world.state.allocs.columns.flags
    (canary,) = [row for row in world.rows(job) if flags[row] & FLAG_CANARY]
    world.report([canary], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(canary)], NodeStatus.DISCONNECTED)
    world.evaluate(job)
    assert world.state.allocs.columns.client[canary] == ClientStatus.UNKNOWN
    assert kit.is_quiet(world.evaluate(job)), "another canary runs meanwhile"
    assert world.state.allocs.columns.client[canary] == ClientStatus.UNKNOWN
    world.now_us += 61 * kit.S
    world.evaluate(job)
    assert world.state.allocs.columns.client[canary] == ClientStatus.LOST


def test_of_an_index_that_nobody_wants_the_one_that_is_away_stops_too(world: Any, kit: Any) -> None:
    nodes = [world.node(), world.node()]
    disconnect = DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True)
    job = kit.job(count=2, group_disconnect=disconnect)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    away = world.node_of(world.by_index(job)[1])
    world.set_status(nodes[away], NodeStatus.DISCONNECTED)
    world.evaluate(job)
    world.run(world.register(kit.changed(job, count=1)))
    assert {int(world.state.allocs.columns.index[row]) for row in world.rows(job)} == {0}


def test_two_predecessors_that_end_at_once_leave_their_successors_the_ports(
    world: Any, kit: Any
) -> None:
    node = world.node()
    job = kit.job(static_ports=[8080])
    other = msgspec.structs.replace(kit.job(static_ports=[8443]).task_groups[0], name="other")
    job.task_groups.append(other)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    groups = [
        msgspec.structs.replace(one, tasks=[msgspec.structs.replace(one.tasks[0], env={"A": "2"})])
        for one in job.task_groups
    ]
    world.run(world.register(msgspec.structs.replace(job, task_groups=groups)))
    world.end_stopped()
    used = world.state.nodes.ports_used(world.state.nodes.ordinal_of(node.id))
    assert used == 1 << 8080 | 1 << 8443
    world.check_nodes()


def test_a_deployment_that_has_ended_is_not_taken_up_again(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(group_update=_update(canary=0))
    world.run(world.register(job))
    running = world.state.deployments.latest_of_job("default", job.id)
    ended = msgspec.structs.replace(running, status=DeploymentStatus.CANCELLED)
    world.do(UpsertDeployments(deployments=[ended]))
    with pytest.raises(AssertionError, match="has ended meanwhile: cancelled"):
        world.do(UpsertDeployments(deployments=[running]))  # resumed by who had not seen it
    assert world.state.deployments.get(running.id).status == DeploymentStatus.CANCELLED


def test_who_is_given_up_does_not_count_as_away_for_the_update_that_goes_on(
    world: Any, kit: Any
) -> None:
    nodes = [world.node(), world.node()]
    disconnect = DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=True)
    job = kit.job(count=2, group_update=_update(canary=0), group_disconnect=disconnect)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    columns = world.state.allocs.columns
    (first,) = [row for row in world.rows(job) if columns.job_version[row] == 1]
    world.set_status(nodes[world.node_of(first)], NodeStatus.DISCONNECTED)
    world.evaluate(job)  # it is unknown, and another comes in its stead
    rows = [row for row in world.rows(job) if columns.client[row] != ClientStatus.UNKNOWN]
    world.report(rows, ClientStatus.RUNNING, healthy=True)
    world.now_us += 61 * kit.S
    world.evaluate(job)  # it is given up
    assert columns.client[first] == ClientStatus.LOST
    assert {int(columns.job_version[row]) for row in world.rows(job)} == {1}, "all go on at once"
    assert kit.is_quiet(world.evaluate(job))
