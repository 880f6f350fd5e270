"""Registering, stopping, purging; versions and status."""

from core.model.job import ParameterizedJobConfig, TaskGroup
from core.state.commands import (
    DeregisterJob,
    RegisterJob,
    SetJobStability,
    UpsertEvaluations,
)


def record_of(cluster, job_id="web"):
    return cluster.state.jobs.get("default", job_id)


def test_an_identical_registration_keeps_version_and_index(cluster, kit):
    first = cluster.job()
    again = cluster.job()
    assert again.value == {**first.value, "IsNew": False}
    assert len(cluster.state.jobs.versions("default", "web")) == 1


def test_a_changed_specification_makes_the_next_version(cluster):
    cluster.job(count=2)
    result = cluster.job(count=3)
    assert (result.value["Version"], result.value["JobModifyIndex"]) == (1, len(cluster.log))
    assert [job.version for job in cluster.state.jobs.versions("default", "web")] == [1, 0]


def test_six_versions_are_kept_and_those_in_use(cluster):
    cluster.node()
    cluster.job(count=1)
    cluster.place("web", [(0, 0)])
    for count in range(2, 10):
        cluster.job(count=count)
    assert [j.version for j in cluster.state.jobs.versions("default", "web")] == [
        8,
        7,
        6,
        5,
        4,
        3,
        0,
    ]


def test_check_index_guards_a_registration(cluster, kit):
    modified = cluster.job().value["JobModifyIndex"]
    job = kit.job("web", 5)
    assert "already exists" in cluster.refused(RegisterJob(job=job, check_index=0)).error
    assert "conflicting" in cluster.refused(RegisterJob(job=job, check_index=modified + 1)).error
    other = RegisterJob(job=kit.job("other"), check_index=7)
    assert "does not exist" in cluster.refused(other).error
    cluster.do(RegisterJob(job=job, check_index=modified))
    assert record_of(cluster).version == 1


def test_a_stopped_job_stays_and_starts_again_with_the_same_uid(cluster):
    uid = cluster.job().value["UID"]
    cluster.do(DeregisterJob(namespace="default", job_id="web"))
    assert (record_of(cluster).status, record_of(cluster).version) == ("dead", 1)
    again = cluster.job()
    assert (again.value["UID"], again.value["Version"]) == (uid, 2)


def test_a_purged_job_is_gone_and_its_name_gets_a_new_uid(cluster):
    uid = cluster.job().value["UID"]
    cluster.do(DeregisterJob(namespace="default", job_id="web", purge=True))
    assert record_of(cluster) is None
    assert cluster.state.jobs.by_uid(uid) is None
    assert cluster.job().value["UID"] != uid
    assert record_of(cluster).ordinal == 1


def test_a_purged_job_with_allocations_is_found_by_uid_only(cluster):
    cluster.node()
    uid = cluster.job().value["UID"]
    cluster.place("web", [(0, 0)])
    (alloc,) = cluster.ids()
    cluster.do(DeregisterJob(namespace="default", job_id="web", purge=True))
    assert record_of(cluster) is None
    assert cluster.state.jobs.by_uid(uid).is_purged
    assert cluster.state.allocs.get(alloc).job_id == "web"


def test_status_follows_evaluations_and_allocations(cluster, kit):
    cluster.node()
    cluster.do(RegisterJob(job=kit.job("web"), evaluation=kit.eval("e1")))
    assert record_of(cluster).status == "pending"
    cluster.place("web", [(0, 0)])
    assert record_of(cluster).status == "running"
    cluster.do(UpsertEvaluations(evaluations=[kit.eval("e1", status="complete")]))
    cluster.report(cluster.ids()[0], 2)
    assert record_of(cluster).status == "dead"


def test_system_and_periodic_jobs_run_until_stopped(cluster, kit):
    cluster.job("sys", type="system")
    assert record_of(cluster, "sys").status == "running"
    cluster.do(DeregisterJob(namespace="default", job_id="sys"))
    assert record_of(cluster, "sys").status == "dead"


def test_children_are_counted_at_their_parent(cluster, kit):
    cluster.job("parent", type="batch")
    child = kit.job("parent/dispatch-1", type="batch", parent_id="parent")
    cluster.do(RegisterJob(job=child))
    assert record_of(cluster, "parent").children == (1, 0, 0)
    cluster.do(DeregisterJob(namespace="default", job_id="parent/dispatch-1"))
    assert record_of(cluster, "parent").children == (0, 0, 1)
    cluster.do(DeregisterJob(namespace="default", job_id="parent/dispatch-1", purge=True))
    assert record_of(cluster, "parent").children == (0, 0, 0)


def test_groups_keep_their_ordinals(cluster, kit):
    cluster.job()
    job = kit.job("web")
    job.task_groups = [TaskGroup(name="b", count=1), TaskGroup(name="g", count=1)]
    cluster.do(RegisterJob(job=job))
    assert record_of(cluster).groups == ["g", "b"]


def test_stability_is_per_version(cluster):
    cluster.job(count=1)
    cluster.job(count=2)
    cluster.do(SetJobStability(namespace="default", job_id="web", version=0, stable=True))
    assert [j.stable for j in cluster.state.jobs.versions("default", "web")] == [False, True]
    missing = SetJobStability(namespace="default", job_id="web", version=9, stable=True)
    assert cluster.refused(missing).status == 404


def test_a_submission_is_kept_with_its_version(cluster, kit):
    for count in (1, 2):
        submission = {"Source": f"count = {count}"}
        cluster.do(RegisterJob(job=kit.job("web", count), submission=submission))
    assert record_of(cluster).submissions[0] == {"Source": "count = 1"}
    assert record_of(cluster).submissions[1] == {"Source": "count = 2"}


def test_a_token_gives_one_child_though_two_copies_were_on_their_way(cluster, kit):
    cluster.job("web", type="batch", parameterized_job=ParameterizedJobConfig())
    copies = [
        kit.job(
            f"web/dispatch-{number}", type="batch", parent_id="web", dispatched=True,
            dispatch_idempotency_token="t",
        )
        for number in range(2)
    ]  # fmt: skip
    first, again = (cluster.do(RegisterJob(job=copy)).value for copy in copies)
    assert (first["IsNew"], again["IsNew"], again["UID"]) == (True, False, first["UID"])
    assert record_of(cluster, "web/dispatch-1") is None


def test_a_job_that_is_stopped_gets_no_child_any_more(cluster, kit):
    cluster.job("web", type="batch", parameterized_job=ParameterizedJobConfig())
    cluster.do(DeregisterJob(namespace="default", job_id="web", purge=False))
    late = kit.job("web/dispatch-0", type="batch", parent_id="web", dispatched=True)
    assert "stopped" in cluster.refused(RegisterJob(job=late)).error
