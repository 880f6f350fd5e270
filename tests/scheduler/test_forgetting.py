"""What garbage collection leaves to those who decide by it; found by `python -m sim.scheduler`."""

from typing import Any

from core.model.allocation import ClientStatus
from core.model.evaluation import DeploymentStatus, EvalStatus, EvalTrigger
from core.model.job import ReschedulePolicy, UpdateStrategy
from core.state.commands import ApplyPlans, CollectGarbage, RegisterJob, UpsertDeployments

HOUR_US = 3600 * 10**6


def _collect(world: Any, *, job_age_us: int = 0) -> dict[str, int]:
    now_us = world.now_us
    command = CollectGarbage(
        job_before_us=now_us - job_age_us,
        evaluation_before_us=now_us,
        deployment_before_us=now_us,
        node_before_us=now_us,
    )
    return world.do(command).results[0].value


def test_a_batch_job_that_is_done_is_not_run_again_before_it_is_forgotten_as_a_whole(
    world: Any, kit: Any
) -> None:
    world.node()
    job = kit.job(count=2, type="batch")
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.COMPLETE)
    world.now_us += HOUR_US
    assert _collect(world, job_age_us=4 * HOUR_US)["Allocations"] == 0
    assert kit.is_quiet(world.evaluate(job))
    world.now_us += 4 * HOUR_US
    gone = _collect(world, job_age_us=4 * HOUR_US)
    assert (gone["Allocations"], gone["Jobs"]) == (2, 1)
    assert world.state.jobs.get("default", "web") is None


def test_a_job_that_is_looked_at_keeps_all_that_it_did(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(type="batch")
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.COMPLETE)
    world.now_us += 5 * HOUR_US
    waiting = world.register(job)  # the same job again: nothing new, one evaluation
    assert _collect(world, job_age_us=HOUR_US)["Allocations"] == 0
    assert kit.is_quiet(world.run(waiting))


def test_the_verdict_on_a_version_outlives_its_allocations(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(group_update=UpdateStrategy(max_parallel=1, canary=1))
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    tried = world.state.deployments.latest_of_job("default", "web")
    failed = tried.__copy__()
    failed.status = DeploymentStatus.FAILED
    world.do(UpsertDeployments(deployments=[failed]))
    world.evaluate(job)
    world.end_stopped()
    world.now_us += HOUR_US
    _collect(world)
    assert world.state.deployments.get(tried.id) is not None
    assert kit.is_quiet(world.evaluate(job)), "the version that failed is not tried again"


def test_a_version_whose_allocations_are_forgotten_begins_no_second_deployment(
    world: Any, kit: Any
) -> None:
    node = world.node()
    job = kit.job(group_update=UpdateStrategy(max_parallel=1))
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.set_status(node, "down")
    world.evaluate(job)
    world.now_us += HOUR_US
    assert _collect(world)["Allocations"] == 1
    solution = world.evaluate(job)
    assert [plan.deployment for plan in solution.plans] == [None]


def test_a_job_on_every_node_that_runs_once_is_dead_when_it_is_done(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(type="sysbatch")
    world.run(world.register(job))
    assert world.state.jobs.get("default", "web").status == "running"
    world.report(world.rows(job), ClientStatus.COMPLETE)
    assert world.state.jobs.get("default", "web").status == "dead"
    world.now_us += HOUR_US
    assert _collect(world)["Jobs"] == 1


def test_a_job_of_nobody_stays_dead_when_its_evaluations_are_forgotten(
    world: Any, kit: Any
) -> None:
    job = kit.job(count=0)
    world.run(world.register(job))
    assert world.state.jobs.get("default", "web").status == "dead"
    world.now_us += HOUR_US
    assert _collect(world)["Evaluations"] == 1
    world.do(RegisterJob(job=job))
    assert world.state.jobs.get("default", "web").status == "dead"


def test_what_was_done_while_its_move_was_planned_is_not_done_again(world: Any, kit: Any) -> None:
    world.node(), world.node()
    job = kit.job(type="batch")
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.migrate([row])
    evaluation = world.evaluation(job)
    solution = world.plan(evaluation)
    assert solution.placed == 1
    world.report([row], ClientStatus.COMPLETE)
    (result,) = world.do(ApplyPlans(plans=solution.plans)).results[0].value
    assert (result.placed, result.dropped[0].reasons) == (0, ["index"])
    assert world.state.allocs.columns.desired[row] == 0, "nobody stops what is done"
    assert world.state.evals.get(evaluation.id).status == EvalStatus.COMPLETE
    (again,) = world.state.evals.open()
    assert (again.previous_eval, again.triggered_by) == (evaluation.id, EvalTrigger.MAX_PLANS), (
        "whoever planned it may lead no longer: the entry itself has it looked at again"
    )
    assert kit.is_quiet(world.run(again))


def test_a_failure_behind_a_canary_that_was_given_up_is_remembered(world: Any, kit: Any) -> None:
    world.node(), world.node()
    never = ReschedulePolicy(attempts=0, unlimited=False)
    job = kit.job(
        group_update=UpdateStrategy(max_parallel=1, canary=1), group_reschedule_policy=never
    )
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING, healthy=True)
    world.evaluate(job)
    world.report(world.rows(job), ClientStatus.FAILED)
    world.run(world.register(kit.changed(job, env={"A": "2"})))
    world.run(world.register(job))  # back again: the canary goes
    world.end_stopped()
    world.now_us += HOUR_US
    _collect(world)
    assert kit.is_quiet(world.evaluate(job)), "it failed as often as it may"
