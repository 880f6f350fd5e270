"""What apply accepts of a plan, and what it refuses."""

import random

import pytest

from core.model.allocation import AllocMetric
from core.model.evaluation import Deployment, DeploymentState, Evaluation
from core.model.plan import InPlaceUpdate, Plan
from core.state import plan_check
from core.state.accounts import drifted
from core.state.commands import (
    ApplyPlans,
    DeregisterJob,
    SetNodeEligibility,
    SetNodeStatus,
    UpsertDeployments,
)
from core.state.plain_plans import PlainRun
from core.state.plan_check import check_plan


def reasons(result):
    return {row: why for d in result.dropped for row, why in zip(d.rows, d.reasons)}


def summary(cluster, job_id="web"):
    return cluster.state.jobs.summary(cluster.state.jobs.get("default", job_id)).summary["g"]


def test_rows_are_accepted_in_order_until_the_node_is_full(cluster):
    cluster.node(cpu=250)
    cluster.job(count=5)
    result = cluster.place("web", [(i, 0) for i in range(5)])
    assert result.placed == 2
    assert reasons(result) == {2: "cpu", 3: "cpu", 4: "cpu"}
    assert cluster.state.nodes.cpu_used.tolist() == [200]


def test_two_batches_of_one_plan_share_what_is_free(cluster):
    cluster.node(memory=250)
    cluster.job(count=5)
    batches = [cluster.batch("web", [(0, 0), (1, 0)]), cluster.batch("web", [(2, 0), (3, 0)])]
    (result,) = cluster.plan("web", batches)
    assert (result.placed, reasons(result)) == (2, {0: "memory", 1: "memory"})


def test_a_live_index_is_not_given_twice(cluster):
    cluster.node()
    cluster.job()
    cluster.place("web", [(0, 0)])
    assert reasons(cluster.place("web", [(0, 0)])) == {0: "index"}
    assert reasons(cluster.place("web", [(1, 0), (1, 0)])) == {1: "index"}


def test_an_index_is_free_once_its_allocation_ended_or_is_stopped_by_the_plan(cluster):
    cluster.node()
    cluster.job()
    cluster.place("web", [(0, 0)])
    first = cluster.ids()[0]
    batch = cluster.batch("web", [(0, 0)], previous=[first])
    (result,) = cluster.plan("web", [batch], stops=[cluster.stop(first)])
    assert result.placed == 1
    second = cluster.ids()[1]
    cluster.report(second, 3)
    assert cluster.place("web", [(0, 0)]).placed == 1
    old = cluster.state.allocs.get(first)
    assert (old.desired_status, old.next_allocation) == ("stop", second)
    assert cluster.state.allocs.get(second).previous_allocation == first


def test_a_canary_may_stand_beside_the_index_it_shares(cluster):
    cluster.node()
    cluster.job()
    cluster.place("web", [(0, 0)])
    assert cluster.place("web", [(0, 0)], canary=True).placed == 1
    assert reasons(cluster.place("web", [(0, 0)])) == {0: "index"}


def test_a_generation_is_never_given_again(cluster):
    cluster.node()
    cluster.job()
    batch = cluster.batch("web", [(0, 0)])
    cluster.plan("web", [batch])
    cluster.report(cluster.ids()[0], 2)
    (again,) = cluster.plan("web", [batch])
    assert reasons(again) == {0: "index"}


def test_a_port_is_not_given_twice_nor_a_reserved_one(cluster, kit):
    node = kit.node("n0")
    node.reserved_resources.networks.reserved_host_ports = "22,8000-8002"
    from core.state.commands import RegisterNode

    cluster.do(RegisterNode(node=node))
    cluster.job(count=9)
    result = cluster.place("web", [(i, 0) for i in range(5)], ports=[80, 80, 22, 8001, 8003])
    assert reasons(result) == {1: "ports", 2: "ports", 3: "ports"}
    assert cluster.state.nodes.ports_used(0) >> 8003 & 1


def test_a_port_stays_taken_while_its_new_holder_lives(cluster):
    cluster.node()
    cluster.job()
    cluster.place("web", [(0, 0)], ports=[80])
    (old,) = cluster.ids()
    batch = cluster.batch("web", [(0, 0)], ports=[80], previous=[old])
    assert cluster.plan("web", [batch], stops=[cluster.stop(old)])[0].placed == 1
    cluster.report(old, 2)
    assert cluster.state.nodes.ports_used(0) == 1 << 80
    cluster.report(cluster.ids()[1], 2)
    assert cluster.state.nodes.ports_used(0) == 0


@pytest.mark.parametrize(
    "command",
    [
        SetNodeStatus(node_id="n0", status="down"),
        SetNodeEligibility(node_id="n0", eligibility="ineligible"),
    ],
)
def test_a_node_that_is_not_ready_takes_nothing(cluster, command):
    cluster.node()
    cluster.job()
    cluster.do(command)
    assert reasons(cluster.place("web", [(0, 0), (1, 7)])) == {0: "node", 1: "node"}


def test_what_stops_is_held_until_the_client_says_it_ended(cluster):
    cluster.node(cpu=100)
    cluster.job()
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    cluster.plan("web", [], stops=[cluster.stop(alloc)])
    assert cluster.state.nodes.cpu_used.tolist() == [100]
    assert reasons(cluster.place("web", [(1, 0)])) == {0: "cpu"}
    cluster.report(alloc, 2)
    assert cluster.place("web", [(1, 0)]).placed == 1


def test_the_room_of_a_stop_is_given_away_once(cluster):
    """A second plan that stops the same allocation again gains nothing by it."""
    cluster.node(cpu=200)
    cluster.job(count=3)
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    batch = cluster.batch("web", [(0, 0)], previous=[alloc])
    assert cluster.plan("web", [batch], stops=[cluster.stop(alloc)])[0].placed == 1
    assert cluster.state.nodes.cpu_used.tolist() == [200]
    batch = cluster.batch("web", [(1, 0)])
    assert cluster.plan("web", [batch], stops=[cluster.stop(alloc)])[0].placed == 0


def test_a_lost_allocation_gives_up_its_room_at_once(cluster):
    cluster.node(cpu=100)
    cluster.job()
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    cluster.plan("web", [], stops=[cluster.stop(alloc, client_status=4)])
    assert cluster.state.nodes.cpu_used.tolist() == [0]
    assert (summary(cluster).lost, summary(cluster).starting) == (1, 0)


def test_a_stop_waits_for_its_replacement(cluster):
    cluster.node("n0", cpu=100)
    cluster.node("n1", cpu=50)
    cluster.job()
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    batch = cluster.batch("web", [(0, 1)], previous=[alloc])
    (result,) = cluster.plan("web", [batch], stops=[cluster.stop(alloc)])
    assert result.withheld_stops == [alloc]
    assert cluster.state.allocs.get(alloc).desired_status == "run"


def test_a_withheld_stop_takes_its_room_back(cluster):
    """Row 1 fits only if the stop happens, and the stop only if row 0 fits: neither does."""
    cluster.node("n0", cpu=100)
    cluster.node("n1", cpu=50)
    cluster.job(count=3)
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    batch = cluster.batch("web", [(0, 1), (1, 0)], previous=[alloc, ""])
    (result,) = cluster.plan("web", [batch], stops=[cluster.stop(alloc)])
    assert (result.placed, reasons(result)) == (0, {0: "cpu", 1: "cpu"})


def test_a_stopped_or_purged_job_gets_nothing(cluster):
    cluster.node()
    cluster.job()
    batch = cluster.batch("web", [(0, 0)])
    cluster.do(DeregisterJob(namespace="default", job_id="web"))
    (result,) = cluster.plan("web", [batch])
    assert reasons(result) == {0: "job"}


def test_an_unknown_version_gets_nothing(cluster):
    cluster.node()
    cluster.job()
    assert reasons(cluster.place("web", [(0, 0)], job_version=3)) == {0: "job"}


def test_malformed_columns_refuse_the_plan_with_a_reason(cluster):
    cluster.node()
    cluster.job()
    batch = cluster.batch("web", [(0, 0), (1, 0)])
    batch.node = batch.node[:4]
    (result,) = cluster.plan("web", [batch])
    assert "unequal length" in result.error
    assert "no group 'x'" in cluster.place("web", [(0, 0)], group="x").error


def test_an_in_place_update_moves_version_and_usage_if_it_fits(cluster, kit):
    cluster.node(cpu=200)
    cluster.job()
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    cluster.job(count=3)
    for cpu, refused in ((201, [alloc]), (150, [])):
        update = InPlaceUpdate(alloc_id=alloc, job_version=1, resources=kit.resources(cpu, 50))
        (result,) = cluster.plan("web", [], in_place=[update])
        assert result.refused_in_place == refused
    assert cluster.state.allocs.get(alloc).job_version == 1
    assert (cluster.state.nodes.cpu_used[0], cluster.state.nodes.memory_used[0]) == (150, 50)


def test_preempted_allocations_are_named_on_both_sides(cluster):
    cluster.node(cpu=100)
    cluster.job("low", 1)
    cluster.job("high", 1)
    cluster.place("low", [(0, 0)])
    (victim,) = cluster.ids("low")
    record = cluster.state.jobs.get("default", "high")
    from core.model.ids import AllocKey, alloc_id

    winner = alloc_id(AllocKey(record.ordinal, 0, 0, 0), cluster.state.datacenter_id)
    stop = cluster.stop(victim, preempted_by=winner)
    cluster.plan("high", [cluster.batch("high", [(0, 0)])], stops=[stop])
    assert cluster.state.allocs.get(winner).preempted_allocations == [victim]
    assert cluster.state.allocs.get(victim).preempted_by_allocation == winner


def test_a_deployment_counts_placements_and_health(cluster):
    cluster.node()
    cluster.job()
    groups = {"g": DeploymentState(desired_total=2, progress_deadline_ns=600_000_000_000)}
    deployment = Deployment(id="d1", namespace="default", job_id="web", task_groups=groups)
    batch = cluster.batch("web", [(0, 0), (1, 0)], deployment_id="d1", canary=True)
    cluster.plan("web", [batch], deployment=deployment)
    state = cluster.state.deployments.get("d1").task_groups["g"]
    assert (state.placed_allocs, state.placed_canaries) == (2, cluster.ids())
    assert state.require_progress_by > "2023"

    from core.model.allocation import AllocDeploymentStatus

    for healthy in (True, True, False):
        status = AllocDeploymentStatus(healthy=healthy)
        cluster.report(cluster.ids()[0], 1, deployment_status=status)
    state = cluster.state.deployments.get("d1").task_groups["g"]
    assert (state.healthy_allocs, state.unhealthy_allocs) == (0, 1)

    promoted = {"g": DeploymentState(desired_total=2, promoted=True)}
    deployment = Deployment(id="d1", namespace="default", job_id="web", task_groups=promoted)
    cluster.do(UpsertDeployments(deployments=[deployment]))
    alloc = cluster.state.allocs.get(cluster.ids()[0])
    assert not alloc.deployment_status.canary
    assert cluster.state.deployments.get("d1").task_groups["g"].placed_allocs == 2


def test_the_books_are_right_after_all_that(cluster):
    cluster.node()
    cluster.job(count=4)
    cluster.place("web", [(i, 0) for i in range(4)], ports=[80, 81, 82, 83])
    for alloc, status in zip(cluster.ids(), (1, 2, 3, 5), strict=True):
        cluster.report(alloc, status)
    assert drifted(cluster.state) == []
    counts = summary(cluster)
    assert (counts.running, counts.complete, counts.failed, counts.unknown) == (1, 1, 1, 1)


def test_small_plans_are_judged_as_large_ones_are(cluster, monkeypatch):
    rng = random.Random(4)
    for number in range(6):
        cluster.node(f"n{number}", cpu=rng.choice((150, 250, 1000)), memory=rng.choice((150, 1000)))
    cluster.do(SetNodeEligibility(node_id="n3", eligibility="ineligible"))
    state, seen = cluster.state, set()
    for turn in range(150):
        name = f"small-{turn}"
        cluster.job(name, count=8)
        placements = [(rng.randint(-1, 5), rng.randint(-1, 7)) for _ in range(rng.randint(1, 8))]
        plan = Plan(
            eval_id="",
            namespace="default",
            job_id=name,
            job_uid=state.jobs.get("default", name).uid,
            placements=[cluster.batch(name, placements, job_version=rng.choice((0, 0, 0, 7)))],
        )
        record = state.jobs.by_uid(plan.job_uid)
        few = check_plan(state, record, plan)
        with monkeypatch.context() as patched:
            patched.setattr(plan_check, "check_few", lambda *given: None)
            whole = check_plan(state, record, plan)
        assert [codes.tolist() for codes in few.codes] == [codes.tolist() for codes in whole.codes]
        assert few[2:] == whole[2:]
        seen.update(few.codes[0].tolist())
        if turn % 3 == 0:
            cluster.plan(name, plan.placements)
    assert seen >= {0, 1, 2, 3, 5, 6}


def test_plans_of_new_jobs_are_entered_together_as_one_by_one(kit, monkeypatch):
    """Runs of plain plans; others, refused rows and a job that comes twice among them."""
    together = entries_of_plans(kit)
    with monkeypatch.context() as patched:
        patched.setattr(PlainRun, "take", lambda *given: None)
        one_by_one = entries_of_plans(kit)
    assert together == one_by_one
    results, _ = together
    found = {reason for one in results for row in one.dropped for reason in row.reasons}
    assert found >= {"node", "index", "cpu", "job"}


def entries_of_plans(kit):
    """Apply entries of many plans; return their results and the state's hash."""
    rng, cluster, results = random.Random(5), kit.cluster(), []
    for number in range(8):
        cluster.node(f"n{number}", cpu=rng.choice((700, 1500, 4000)), memory=4000)
    cluster.do(SetNodeEligibility(node_id="n3", eligibility="ineligible"))
    for turn in range(12):
        plans = []
        for number in range(10):
            name = f"job-{turn}-{number}"
            cluster.job(name, count=8)
            plans += [plan_of(cluster, rng, name) for _ in range(rng.choice((1, 1, 1, 2)))]
        results += cluster.do(ApplyPlans(plans=plans)).value
        assert drifted(cluster.state) == []
    assert cluster.replica().hash() == cluster.state.hash()
    return results, cluster.state.hash()


def plan_of(cluster, rng, name):
    record = cluster.state.jobs.get("default", name)
    rows = [(rng.randint(-1, 5), rng.randint(-1, 8)) for _ in range(rng.randint(1, 5))]
    more = {"ports": list(range(80, 80 + len(rows)))} if rng.random() < 0.1 else {}
    deployment_id = f"d-{name}" if rng.random() < 0.5 else ""
    scores = bytes(4 * len(rows)) if rng.random() < 0.5 else b""
    batch = cluster.batch(
        name, rows, job_version=rng.choice((0, 0, 0, 7)), deployment_id=deployment_id,
        scores=scores, metrics=AllocMetric(nodes_evaluated=len(rows)), **more,
    )  # fmt: skip
    states = {"g": DeploymentState(desired_total=8)}
    deployment = Deployment(id=deployment_id, namespace="default", job_id=name, task_groups=states)
    return Plan(
        eval_id=f"e-{name}",
        namespace="default",
        job_id=name,
        job_uid=record.uid,
        placements=[batch],
        deployment=deployment if deployment_id else None,
        evaluations=[Evaluation(id=f"e-{name}", job_id=name, queued_allocations={"g": 3})],
    )
