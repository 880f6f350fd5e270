"""The disconnect block, each rule as before and after."""

from typing import Any

import pytest

from core.model.allocation import ClientStatus, Desired, TaskState, TaskStateName
from core.model.instant import rfc3339_of_ns
from core.model.job import DisconnectStrategy
from core.model.node import NodeStatus
from core.state.commands import AllocUpdate, UpdateAllocations

MINUTE_NS = 60_000_000_000


class Cut:
    """One instance on a node that was cut off, replaced on the other one; both nodes live."""

    def __init__(self, world: Any, kit: Any, **block: Any) -> None:
        self.world, self.kit = world, kit
        self.nodes = [world.node(), world.node()]
        self.job = kit.job(group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS, **block))
        world.run(world.register(self.job))
        (self.original,) = world.rows(self.job)
        self.runs(self.original, since_s=0)
        self.node = self.nodes[world.node_of(self.original)]
        world.set_status(self.node, NodeStatus.DISCONNECTED)
        world.run(world.evaluation(self.job))
        (self.replacement,) = set(world.rows(self.job)) - {self.original}

    def runs(self, row: int, since_s: int) -> None:
        """The client of this instance says that it runs, and since when."""
        world = self.world
        started_ns = (world.now_us + since_s * self.kit.S) * 1000
        state = TaskState(state=TaskStateName.RUNNING, started_at=rfc3339_of_ns(started_ns))
        update = AllocUpdate(
            alloc_id=world.state.allocs.id_of(row),
            client_status=ClientStatus.RUNNING,
            task_states={"task": state},
        )
        world.do(UpdateAllocations(updates=[update]))

    def scores(self, original: float, replacement: float) -> None:
        column = self.world.state.allocs.columns.score
        column[self.original], column[self.replacement] = original, replacement

    def come_back(self) -> None:
        self.world.set_status(self.node, NodeStatus.READY)
        self.runs(self.original, since_s=0)

    def kept(self) -> set[str]:
        """Evaluate, and say which of the two go on; a further evaluation plans nothing."""
        world = self.world
        world.run(world.evaluation(self.job))
        desired = world.state.allocs.columns.desired
        names = {"original": self.original, "replacement": self.replacement}
        kept = {name for name, row in names.items() if desired[row] == Desired.RUN}
        world.end_stopped()
        assert self.kit.is_quiet(world.plan(world.evaluation(self.job)))
        world.check_nodes()
        return kept


@pytest.mark.parametrize(
    ("strategy", "scores", "since_s", "kept"),
    [
        ("keep_original", (0.1, 0.9), 5, "original"),
        ("keep_replacement", (0.9, 0.1), 5, "replacement"),
        ("best_score", (0.9, 0.1), 5, "original"),
        ("best_score", (0.1, 0.9), 5, "replacement"),
        ("best_score", (0.5, 0.5), 5, "original"),
        (None, (0.1, 0.9), 5, "replacement"),
        ("longest_running", (0.1, 0.9), 5, "original"),
        ("longest_running", (0.9, 0.1), -5, "replacement"),
    ],
)
def test_the_strategy_says_who_stays(
    world: Any, kit: Any, strategy: str, scores: tuple[float, float], since_s: int, kept: str
) -> None:
    cut = Cut(world, kit, reconcile=strategy)
    cut.runs(cut.replacement, since_s)
    cut.scores(*scores)
    cut.come_back()
    assert cut.kept() == {kept}


def test_nothing_is_decided_before_the_client_says_how_its_instance_is(
    world: Any, kit: Any
) -> None:
    cut = Cut(world, kit, reconcile="keep_original")
    cut.runs(cut.replacement, 5)
    world.set_status(cut.node, NodeStatus.READY)
    assert cut.kept() == {"original", "replacement"}
    cut.runs(cut.original, 0)
    assert cut.kept() == {"original"}


def test_a_client_that_is_back_and_never_says_is_given_up(world: Any, kit: Any) -> None:
    cut = Cut(world, kit, reconcile="keep_original")
    cut.runs(cut.replacement, 5)
    world.set_status(cut.node, NodeStatus.READY)
    world.now_us += 61 * kit.S
    assert cut.kept() == {"replacement"}


@pytest.mark.parametrize("strategy", ["best_score", "longest_running"])
def test_one_that_runs_goes_before_one_that_does_not_yet(
    world: Any, kit: Any, strategy: str
) -> None:
    cut = Cut(world, kit, reconcile=strategy)
    cut.scores(0.1, 0.9)
    cut.come_back()
    assert cut.kept() == {"original"}


def test_a_replacement_that_failed_gives_way_whatever_the_strategy(world: Any, kit: Any) -> None:
    cut = Cut(world, kit, reconcile="keep_replacement")
    world.report([cut.replacement], ClientStatus.FAILED)
    cut.come_back()
    world.run(world.evaluation(cut.job))
    assert world.rows(cut.job) == [cut.original]


def test_the_newer_version_goes_before_the_strategy(world: Any, kit: Any) -> None:
    cut = Cut(world, kit, reconcile="keep_original")
    cut.runs(cut.replacement, 5)
    newer = kit.job(env={"A": "2"}, group_disconnect=cut.job.task_groups[0].disconnect)
    world.run(world.register(newer))
    world.end_stopped()
    cut.come_back()
    world.run(world.evaluation(newer))
    (row,) = world.rows(newer)
    assert row not in (cut.original, cut.replacement)


def test_an_instance_that_is_waited_for_gets_its_replacement_once_there_is_room(
    world: Any, kit: Any
) -> None:
    only = world.node()
    job = kit.job(group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS))
    world.run(world.register(job))
    (original,) = world.rows(job)
    world.report([original], ClientStatus.RUNNING)
    world.set_status(only, NodeStatus.DISCONNECTED)
    assert world.run(world.evaluation(job)).placed == 0
    world.node()
    assert world.run(world.evaluation(job)).placed == 1
    assert len(world.rows(job)) == 2
    assert kit.is_quiet(world.plan(world.evaluation(job)))


@pytest.mark.parametrize("status", [NodeStatus.DISCONNECTED, NodeStatus.DOWN])
def test_without_replace_it_is_waited_for_for_ever(world: Any, kit: Any, status: str) -> None:
    nodes = [world.node(), world.node()]
    job = kit.job(group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS, replace=False))
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(row)], status)
    world.run(world.evaluation(job))
    world.now_us += 3600 * kit.S
    world.run(world.evaluation(job))
    assert world.rows(job) == [row]
    assert world.state.allocs.columns.client[row] == ClientStatus.UNKNOWN


@pytest.mark.parametrize("fields", [
    {"disconnect": DisconnectStrategy(stop_on_client_after_ns=MINUTE_NS)},
    {"stop_after_client_disconnect_ns": MINUTE_NS},
])  # fmt: skip
@pytest.mark.parametrize("status", [NodeStatus.DISCONNECTED, NodeStatus.DOWN])
def test_where_the_client_stops_it_nothing_else_starts_before(
    world: Any, kit: Any, fields: dict[str, Any], status: str
) -> None:
    nodes = [world.node(), world.node()]
    job = kit.job(**{f"group_{name}": value for name, value in fields.items()})
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(row)], status)
    solution = world.run(world.evaluation(job))
    assert solution.placed == 0
    (follower,) = [e for e in solution.plans[-1].evaluations if e.wait_until_us]
    # Applied a little later than planned, the wait ends later: 5 s are left for that.
    assert follower.wait_until_us == world.now_us + 65 * kit.S
    world.now_us = follower.wait_until_us
    assert world.run(follower).placed == 1
    assert world.state.allocs.columns.client[row] == ClientStatus.LOST


def test_the_old_names_say_the_same(world: Any, kit: Any) -> None:
    nodes = [world.node(), world.node()]
    job = kit.job(group_max_client_disconnect_ns=MINUTE_NS)
    world.run(world.register(job))
    (row,) = world.rows(job)
    world.report([row], ClientStatus.RUNNING)
    world.set_status(nodes[world.node_of(row)], NodeStatus.DISCONNECTED)
    assert world.run(world.evaluation(job)).placed == 1
    assert world.state.allocs.columns.client[row] == ClientStatus.UNKNOWN


def test_an_instance_of_a_system_job_is_waited_for_on_its_node(world: Any, kit: Any) -> None:
    nodes = [world.node(), world.node()]
    job = kit.job(type="system", group_disconnect=DisconnectStrategy(lost_after_ns=MINUTE_NS))
    world.run(world.register(job))
    rows = world.rows(job)
    world.report(rows, ClientStatus.RUNNING)
    world.set_status(nodes[0], NodeStatus.DISCONNECTED)
    solution = world.run(world.evaluation(job))
    client = world.state.allocs.columns.client
    (away,) = [row for row in rows if world.node_of(row) == 0]
    assert solution.placed == 0 and client[away] == ClientStatus.UNKNOWN
    assert kit.is_quiet(world.plan(world.evaluation(job)))
    world.set_status(nodes[0], NodeStatus.READY)
    world.report([away], ClientStatus.RUNNING)
    assert kit.is_quiet(world.plan(world.evaluation(job)))
    assert world.rows(job) == rows  # the very same, nothing was restarted
    world.set_status(nodes[0], NodeStatus.DISCONNECTED)
    (follower,) = [
        e for e in world.run(world.evaluation(job)).plans[-1].evaluations if e.wait_until_us
    ]
    world.now_us = follower.wait_until_us
    world.run(follower)
    assert client[away] == ClientStatus.LOST and len(world.rows(job)) == 1
