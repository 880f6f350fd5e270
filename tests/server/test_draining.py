"""A node is emptied at the pace that its jobs allow, and at the latest at the deadline."""

from typing import Any

from harness import World
from stories import add_clients, clients, datacenter, leader, register, running, until_running

HOUR_NS = 3_600_000_000_000


def _drain(world: World, node_id: str, deadline_ns: int = HOUR_NS, **spec: Any) -> None:
    answer = world.ask(
        leader(world), "Node.Drain", params={"node_id": node_id},
        body={"DrainSpec": {"Deadline": deadline_ns, **spec}},
    )  # fmt: skip
    assert not answer.is_error, answer


def _is_drained(world: World, node_id: str) -> bool:
    return leader(world).state.nodes.get(node_id).drain_strategy is None


def _live_on(world: World, node_id: str) -> int:
    state = leader(world).state
    rows = state.allocs.rows_of_node(state.nodes.ordinal_of(node_id))
    return int(state.allocs.is_live(rows).sum())


def _filled(count: int, **fields: Any) -> tuple[World, str]:
    """One client that runs everything, and then a second, empty one."""
    world = datacenter(1, 1)
    register(world, count=count, **fields)
    until_running(world, count)
    world.run(2)
    add_clients(world, 1, first=2)
    return world, clients(world)[0].node_id


def test_instances_leave_one_after_the_other() -> None:
    world, node_id = _filled(4)
    _drain(world, node_id)
    least, left = 4, []
    while not _is_drained(world, node_id):
        world.run(0.05)
        least = min(least, running(world))
        left.append(_live_on(world, node_id))
    assert least >= 3, "max_parallel is 1"
    assert sorted(set(left), reverse=True) == [4, 3, 2, 1, 0]
    until_running(world, 4)


def test_more_at_a_time_where_the_group_says_so() -> None:
    task = {"Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}
    group = {"Name": "app", "Count": 4, "Tasks": [task], "Migrate": {"MaxParallel": 4}}
    world, node_id = _filled(4, TaskGroups=[group])
    _drain(world, node_id)
    left = set()
    while not _is_drained(world, node_id):
        world.run(0.05)
        left.add(_live_on(world, node_id))
    assert left == {4, 0}


def test_batch_work_may_finish_until_the_deadline() -> None:
    world, node_id = _filled(2, Type="batch")
    _drain(world, node_id, 30 * 10**9)
    world.run(25)
    assert _live_on(world, node_id) == 2 and not _is_drained(world, node_id)
    world.run(7)
    assert _live_on(world, node_id) == 0 and _is_drained(world, node_id)


def test_without_a_deadline_it_waits_and_by_force_it_does_not() -> None:
    world, node_id = _filled(2, Type="batch")
    _drain(world, node_id, 0)
    world.run(120)
    assert _live_on(world, node_id) == 2
    _drain(world, node_id, -1)
    world.run(2)
    assert _live_on(world, node_id) == 0 and _is_drained(world, node_id)


def test_system_jobs_go_last_or_stay() -> None:
    for ignores in (False, True):
        world = datacenter(1, 1)
        register(world, count=2)
        register(world, ID="agent", Name="agent", Type="system", count=1)
        until_running(world, 2)
        world.run(2)
        node_id = clients(world)[0].node_id
        add_clients(world, 1, first=2)
        world.run(2)
        _drain(world, node_id, IgnoreSystemJobs=ignores)
        order = []
        while not _is_drained(world, node_id):
            world.run(0.05)
            order.append((_live_on(world, node_id), _system_lives(world, node_id)))
        assert (1, True) in order, "the system job was alone in the end"
        assert _live_on(world, node_id) == int(ignores)


def _system_lives(world: World, node_id: str) -> bool:
    state = leader(world).state
    rows = state.allocs.rows_of_node(state.nodes.ordinal_of(node_id))
    rows = rows[state.allocs.is_live(rows)]
    return any(state.allocs.job_record(row).id == "agent" for row in rows.tolist())


def test_a_new_leader_goes_on_with_the_drain() -> None:
    world = datacenter(3, 1)
    register(world, count=3)
    until_running(world, 3)
    world.run(2)
    add_clients(world, 1, first=2)
    node_id = clients(world)[0].node_id
    _drain(world, node_id)
    world.kill(leader(world))
    world.until(world.leader)
    world.until(lambda: _is_drained(world, node_id))
    until_running(world, 3)
