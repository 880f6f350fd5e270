"""`job plan`, and whether a job fits a datacenter, in words."""

from typing import Any

from core.model.allocation import ClientStatus
from core.model.job import Constraint
from core.scheduler import dry_run, fits, prepare


def test_a_dry_run_says_what_a_run_then_does(world: Any, kit: Any) -> None:
    world.node()
    job = kit.job(count=3)
    outcome = dry_run(world.state, job, now_us=world.now_us)
    assert outcome.desired_updates["main"]["Place"] == 3 and outcome.job_modify_index == 0
    before = world.state.hash()
    dry_run(world.state, job, now_us=world.now_us)
    assert world.state.hash() == before
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    again = dry_run(world.state, job, now_us=world.now_us)
    assert again.desired_updates["main"]["Ignore"] == 3 and again.job_modify_index > 0
    update = dry_run(world.state, kit.changed(job, env={"A": "2"}), now_us=world.now_us)
    assert update.desired_updates["main"]["DestructiveUpdate"] == 3
    in_place = dry_run(world.state, kit.changed(job, kill_timeout_ns=1), now_us=world.now_us)
    assert in_place.desired_updates["main"]["InPlaceUpdate"] == 3
    fewer = dry_run(world.state, kit.changed(job, count=1), now_us=world.now_us)
    assert fewer.desired_updates["main"]["Stop"] == 2


def test_a_dry_run_shows_what_finds_no_room(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    outcome = dry_run(world.state, kit.job(count=5, cpu=500), now_us=world.now_us)
    assert outcome.failed_tg_allocs["main"].coalesced_failures == 2
    assert len(outcome.created_evaluations) == 1


def test_fits_tells_what_never_could_from_what_does_not_now(world: Any, kit: Any) -> None:
    world.node(memory=2048)
    world.node(memory=1024)
    big = fits(world.state, kit.job(memory=4096))
    assert not big.fits_now and not big.could_ever_fit
    assert "main: memory: largest node has 2048 MiB, asks 4096 MiB" in big.reasons()

    world.run(world.register(kit.job("filler", count=3, memory=1000)))
    later = fits(world.state, kit.job(memory=1000))
    assert not later.fits_now and later.could_ever_fit
    assert "main: memory: most that a node has free is 48 MiB, asks 1000 MiB" in later.reasons()

    many = fits(world.state, kit.job(count=9, memory=1000))
    assert "main: all nodes empty would hold 3 of 9" in many.reasons()


def test_fits_names_the_constraint_and_the_missing_datacenter(world: Any, kit: Any) -> None:
    world.node()
    arm = Constraint(l_target="${attr.cpu.arch}", operand="=", r_target="arm64")
    fit = fits(world.state, kit.job(constraints=[arm]))
    assert fit.reasons()[0] == "main: ${attr.cpu.arch} = arm64: excludes 1 of 1 nodes"
    elsewhere = fits(world.state, kit.job(datacenters=["nowhere"]))
    assert "none in its datacenters" in elsewhere.reasons()[0]
    assert fits(world.state, kit.job()).fits_now


def test_fits_counts_only_the_share_it_is_asked_about(world: Any, kit: Any) -> None:
    world.node(cpu=1000)
    job = kit.job(count=10, cpu=500)
    assert not fits(world.state, job).could_ever_fit
    assert fits(world.state, job, indices={"main": [(4, 6)]}).fits_now


def test_a_problem_has_one_solution_and_does_not_see_later_changes(world: Any, kit: Any) -> None:
    for _ in range(3):
        world.node()
    job = kit.job(count=5, ports=["http"])
    evaluation = world.register(job)
    problem = prepare(world.state, [evaluation], now_us=world.now_us, rng=world.rng)
    first = problem.solve()
    world.run(evaluation)  # the state moves on
    assert problem.solve() == first


def test_metrics_name_filters_and_scores(world: Any, kit: Any) -> None:
    world.node(node_class="big")
    world.node(attributes={"kernel.name": "windows"}, node_class="small")
    linux = Constraint(l_target="${attr.kernel.name}", operand="=", r_target="linux")
    solution = world.run(world.register(kit.job(count=2, constraints=[linux])))
    metric = solution.plans[-1].placements[0].metrics
    assert metric.nodes_evaluated == 2 and metric.nodes_available == {"dc1": 2}
    assert metric.constraint_filtered == {"${attr.kernel.name} = linux": 1}
    assert metric.class_filtered == {"small": 1}
    (score,) = metric.score_meta_data
    assert 0 < score.norm_score <= 1 and "binpack" in score.scores


def test_what_was_placed_tells_which_nodes_had_no_room(world: Any, kit: Any) -> None:
    world.node(cpu=400)
    world.node(memory=100)
    world.node()
    job = kit.job(cpu=500, memory=256)
    world.run(world.register(job))
    metric = world.state.allocs.allocation(world.rows(job)[0]).metrics
    assert metric.nodes_exhausted == 2
    assert metric.dimension_exhausted == {"cpu": 1, "memory": 1}
