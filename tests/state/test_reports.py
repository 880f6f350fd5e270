"""What clients report, and what goes when it is old."""

import numpy as np

from core.model.allocation import DesiredTransition, TaskEvent, TaskState
from core.state.commands import (
    AllocUpdate,
    CollectGarbage,
    DeregisterJob,
    SetDesiredTransition,
    UpdateAllocations,
)
from core.state.task_states import pack, unpack


def collect_all(cluster):
    far = cluster.now_us * 2
    return cluster.do(
        CollectGarbage(
            job_before_us=far,
            evaluation_before_us=far,
            deployment_before_us=far,
            node_before_us=far,
        )
    ).value


def one_allocation(cluster, **job):
    cluster.node()
    cluster.job(count=1, **job)
    cluster.place("web", [(0, 0)])
    return cluster.ids()[0]


def test_task_states_come_back_as_reported(cluster):
    alloc = one_allocation(cluster)
    states = {
        "b": TaskState(),
        "a": TaskState(
            state="running",
            restarts=2,
            started_at="2024-05-06T07:08:09.000000001Z",
            events=[
                TaskEvent(type="Started", time_ns=5, details={"pid": "7"}),
                TaskEvent(type="Killed", time_ns=9, exit_code=3, signal=9),
            ],
        ),
    }
    cluster.report(alloc, 1, task_states=states, client_description="fine")
    whole = cluster.state.allocs.get(alloc)
    assert whole.task_states == states
    assert (whole.client_status, whole.client_description) == ("running", "fine")
    assert unpack(*pack(states)) == states


def test_allocations_alike_but_in_their_times_share_a_shape(cluster):
    cluster.node()
    cluster.job(count=3)
    cluster.place("web", [(i, 0) for i in range(3)])
    for number, alloc in enumerate(cluster.ids()):
        event = TaskEvent(type="Started", time_ns=number)
        cluster.report(alloc, 1, task_states={"main": TaskState(events=[event])})
    assert len(cluster.state.allocs.states.shapes) == 1


def test_a_final_word_is_final(cluster):
    alloc = one_allocation(cluster)
    cluster.report(alloc, 2)
    cluster.report(alloc, 1)
    assert cluster.state.allocs.get(alloc).client_status == "complete"
    assert cluster.state.nodes.cpu_used.tolist() == [0]


def test_a_lost_allocation_that_returns_holds_its_room_again(cluster):
    alloc = one_allocation(cluster)
    cluster.report(alloc, 4)
    assert cluster.state.nodes.cpu_used.tolist() == [0]
    cluster.report(alloc, 1)
    assert cluster.state.nodes.cpu_used.tolist() == [100]


def test_the_last_of_several_reports_in_one_entry_counts(cluster):
    alloc = one_allocation(cluster)
    updates = [AllocUpdate(alloc_id=alloc, client_status=status) for status in (1, 2, 1)]
    cluster.do(UpdateAllocations(updates=updates))
    assert cluster.state.allocs.get(alloc).client_status == "complete"


def test_reports_of_unknown_allocations_and_statuses_are_skipped(cluster):
    alloc = one_allocation(cluster)
    foreign = alloc[:-12] + "ffffffffffff"
    updates = [
        AllocUpdate(alloc_id="nonsense", client_status=1),
        AllocUpdate(alloc_id=foreign, client_status=1),
        AllocUpdate(alloc_id=alloc, client_status=77),
    ]
    assert cluster.do(UpdateAllocations(updates=updates)).value == 0


def test_transitions_add_up_and_reach_the_client(cluster):
    alloc = one_allocation(cluster)
    for transition in (DesiredTransition(migrate=True), DesiredTransition(reschedule=True)):
        cluster.do(SetDesiredTransition(transitions={alloc: transition}))
    whole = cluster.state.allocs.get(alloc)
    assert whole.desired_transition == DesiredTransition(migrate=True, reschedule=True)
    assert whole.alloc_modify_index == len(cluster.log)
    unknown = SetDesiredTransition(transitions={"x": DesiredTransition(migrate=True)})
    assert cluster.refused(unknown).error == "alloc not found"


def test_watchers_of_a_node_see_the_index_move(cluster):
    alloc = one_allocation(cluster)
    before = cluster.state.nodes.allocs_index(0)
    cluster.report(alloc, 1)
    assert cluster.state.nodes.allocs_index(0) == len(cluster.log) > before
    assert cluster.state.table_index("allocs") == len(cluster.log)


def test_the_newest_allocation_of_a_living_job_is_not_collected(cluster):
    alloc = one_allocation(cluster)
    cluster.place("web", [(0, 0)])
    cluster.report(alloc, 3)
    assert cluster.place("web", [(0, 0)]).placed == 1
    assert collect_all(cluster)["Allocations"] == 1
    assert cluster.state.allocs.get(alloc) is None
    assert len(cluster.ids()) == 1


def test_counters_remember_what_was_collected(cluster):
    alloc = one_allocation(cluster)
    cluster.report(alloc, 3)
    cluster.place("web", [(0, 0)])
    collect_all(cluster)
    record = cluster.state.jobs.get("default", "web")
    assert cluster.state.jobs.summary(record).summary["g"].failed == 1


def test_an_id_is_not_given_again_after_collection(cluster):
    alloc = one_allocation(cluster)
    cluster.report(alloc, 2)
    cluster.plan("web", [], stops=[cluster.stop(alloc)])
    assert collect_all(cluster)["Allocations"] == 1
    assert cluster.ids() == []
    cluster.place("web", [(0, 0)])
    (again,) = cluster.ids()
    assert again != alloc
    assert cluster.state.allocs.row_of(again) == 0  # the row is


def test_a_purged_job_is_forgotten_with_its_last_allocation(cluster):
    uid = cluster.state.jobs
    alloc = one_allocation(cluster)
    uid = cluster.state.jobs.get("default", "web").uid
    cluster.do(DeregisterJob(namespace="default", job_id="web", purge=True))
    collect_all(cluster)
    assert cluster.state.jobs.by_uid(uid) is not None
    cluster.report(alloc, 2)
    collect_all(cluster)
    assert cluster.state.jobs.by_uid(uid) is None
    assert cluster.state.allocs.count == 0


def test_a_dead_stopped_job_is_collected_and_its_counter_row_reused(cluster):
    alloc = one_allocation(cluster)
    cluster.do(DeregisterJob(namespace="default", job_id="web"))
    cluster.report(alloc, 2)
    assert collect_all(cluster)["Jobs"] == 1
    cluster.job("other", 1)
    assert cluster.state.jobs.get("default", "other").group_rows == [0]
    assert cluster.state.jobs.columns.counts[0].tolist() == [0] * 6


def test_ids_are_found_by_prefix(cluster):
    cluster.node(cpu=10_000, memory=10_000)
    cluster.job(count=60)
    cluster.place("web", [(i, 0) for i in range(60)])
    ids = sorted(cluster.ids())
    for length in (0, 1, 2, 7, 8, 9, 11, 14, 20, 36):
        prefix = ids[17][:length]
        wanted = [each for each in ids if each.startswith(prefix)]
        assert cluster.state.allocs.ids_with_prefix(prefix) == wanted
    assert cluster.state.allocs.ids_with_prefix("xyz") == []
    assert np.array_equal(cluster.state.allocs.rows(), np.arange(60))
