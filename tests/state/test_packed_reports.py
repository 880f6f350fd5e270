"""Reports in columns do what the same reports do one by one."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.allocation import AllocDeploymentStatus, TaskEvent, TaskState
from core.state import accounts
from core.state.commands import AllocUpdate, UpdateAllocations
from core.state.packed_reports import packed

COUNT = 6

states = st.none() | st.dictionaries(
    st.sampled_from(["main", "log"]),
    st.builds(
        TaskState,
        restarts=st.integers(0, 1),
        started_at=st.sampled_from(["0001-01-01T00:00:00Z", "2024-05-06T07:08:09Z"]),
        events=st.none()
        | st.lists(
            st.builds(
                TaskEvent, type=st.sampled_from(["Started", "Killed"]), time_ns=st.integers(1, 9)
            ),
            max_size=2,
        ),
    ),
    max_size=2,
)
reports = st.fixed_dictionaries(
    {
        "number": st.integers(0, COUNT + 1),  # the last two are unknown
        "client_status": st.sampled_from([0, 1, 1, 2, 3, 4, 5, 77]),
        "client_description": st.sampled_from(["", "Tasks are running", "failed"]),
        "task_states": states,
        "deployment_status": st.none() | st.just(AllocDeploymentStatus(healthy=True)),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(st.lists(reports, max_size=5), max_size=4))
def test_columns_and_single_reports_leave_the_same_state(kit, rounds):
    clusters = [kit.cluster(), kit.cluster()]
    for cluster in clusters:
        cluster.node(cpu=10_000, memory=10_000)
        cluster.job(count=COUNT)
        cluster.place("web", [(i, 0) for i in range(COUNT)])
    ids = [*clusters[0].ids(), "nonsense", clusters[0].ids()[0][:-12] + "ffffffffffff"]
    for given_reports in rounds:
        updates = [
            AllocUpdate(
                alloc_id=ids[report["number"]], **{k: v for k, v in report.items() if k != "number"}
            )
            for report in given_reports
        ]
        left, columns = packed(updates)
        counts = [
            clusters[0].do(UpdateAllocations(updates=updates)).value,
            clusters[1].do(UpdateAllocations(updates=left, packed=columns)).value,
        ]
        assert counts[0] == counts[1]
    singly, together = (
        [cluster.state.allocs.get(one) for one in ids[:COUNT]] for cluster in clusters
    )
    assert singly == together
    assert not accounts.drifted(clusters[1].state)
    assert clusters[1].replica().hash() == clusters[1].state.hash()


def test_an_entry_carries_what_is_common_once(cluster):
    cluster.node(cpu=10_000, memory=10_000)
    cluster.job(count=50)
    cluster.place("web", [(i, 0) for i in range(50)])
    event = TaskEvent(type="Started", display_message="Task started by client")
    updates = [
        AllocUpdate(alloc_id=one, client_status=1, task_states={"main": TaskState(events=[event])})
        for one in cluster.ids()
    ]
    left, columns = packed(updates)
    assert not left and columns is not None
    cluster.do(UpdateAllocations(updates=[], packed=columns))
    assert len(cluster.log[-1]) < 70 * len(updates)
    assert {cluster.state.allocs.get(one).client_status for one in cluster.ids()} == {"running"}
