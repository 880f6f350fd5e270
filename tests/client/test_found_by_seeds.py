"""What `python -m sim.client` found in the client, a test each."""

from typing import Any

import msgspec
import pytest
from client_parts import NS, Make, a_task

from core.client.effects import DestroyAlloc, PrepareAlloc
from core.model.allocation import ClientStatus
from core.model.host import CallDone
from core.model.job import (
    CheckRestart,
    Job,
    RestartPolicy,
    Service,
    ServiceCheck,
    TaskLifecycle,
    UpdateStrategy,
)


def a_service(**fields: Any) -> Service:
    return Service(name="api", port_label="http", **fields)


def other(job: Job) -> Job:
    """Return it as another job: of one version a client keeps one record."""
    return msgspec.structs.replace(job, id="other", name="other")


def test_what_runs_beside_the_main_tasks_reaches_its_own_end(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave = {"main": (100_000, 0), "after": (5_000_000, 0)}
    after = a_task("after", lifecycle=TaskLifecycle(hook="poststart"))
    alloc_id = world.place(make_alloc(make_job(a_task("main"), after, type_="batch")))
    world.run(3)
    assert world.running() == [(alloc_id, "after")]
    world.run(4)
    assert "Killing" not in world.events(alloc_id, "after")
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


@pytest.mark.parametrize("is_there", [True, False])
def test_a_server_that_is_behind_the_list_is_asked_again(
    world: Any, make_job: Make, make_alloc: Make, is_there: bool
) -> None:
    world.run(1)
    poll = world._polls.pop()
    old = make_alloc(make_job(), alloc_modify_index=5, desired_status="stop")
    world.allocs = {old.id: old} if is_there else {}
    world.feed(CallDone(poll.call_id, "", {"index": 9, "allocs": {old.id: 9}}))
    world.run(2)
    assert world.updates == []  # neither begun nor taken for stopped
    new = make_alloc(make_job(), alloc_modify_index=9)
    world.allocs = {new.id: new}
    world.run(30)
    assert world.running() == [(new.id, "web")]


def test_a_service_that_ended_with_no_agent_to_see_it_is_taken_out(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    policy = RestartPolicy(attempts=0, interval_ns=NS, delay_ns=NS, mode="fail")
    job = make_job(a_task(services=[a_service()]), restart_policy=policy)
    world.place(make_alloc(job))
    world.run(2)
    assert len(world.services) == 1
    world.processes.clear()
    world.boot()
    world.run(5)
    assert world.services == {}


def test_nothing_is_offered_again_while_a_group_ends(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["other"] = (1_500_000, 1)
    policy = RestartPolicy(attempts=3, interval_ns=60 * NS, delay_ns=NS, mode="fail")
    web, other = a_task(services=[a_service()]), a_task("other")
    job = make_job(web, other, shutdown_delay_ns=20 * NS, restart_policy=policy)
    alloc_id = world.place(make_alloc(job))
    world.run(1)
    world.change(alloc_id, desired_status="stop")
    world.run(5)  # the other task ends meanwhile, and all is looked at again
    assert (alloc_id, "web") in world.running()
    assert world.services == {}


def test_a_restart_that_waits_for_its_interval_waits_through_the_agents_own(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["web"] = (100_000, 1)
    policy = RestartPolicy(attempts=1, interval_ns=60 * NS, delay_ns=NS, mode="delay")
    world.place(make_alloc(make_job(restart_policy=policy)))
    world.run(5)
    assert len(world.starts) == 2
    world.boot()
    world.run(40)
    assert len(world.starts) == 2
    world.run(20)
    assert len(world.starts) > 2


def test_a_restart_for_a_failed_check_counts_though_the_agent_is_killed(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.checks = lambda check: False
    world.ignores.add("SIGINT")
    check = ServiceCheck(
        type="http",
        port_label="http",
        interval_ns=NS,
        check_restart=CheckRestart(limit=1, grace_ns=0),
    )
    policy = RestartPolicy(attempts=0, interval_ns=60 * NS, delay_ns=NS, mode="fail")
    web = a_task(services=[a_service(checks=[check])], kill_timeout_ns=4 * NS)
    alloc_id = world.place(make_alloc(make_job(web, restart_policy=policy)))
    world.run(3)
    assert "Restart Signaled" in world.events(alloc_id)
    world.boot()
    world.run(10)
    assert world.last(alloc_id).client_status == ClientStatus.FAILED


def test_one_that_waits_for_its_room_is_stopped_at_once(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    before = world.place(make_alloc(make_job(a_task(kill_timeout_ns=20 * NS))))
    world.run(1)
    world.change(before, desired_status="stop")
    waits = world.place(make_alloc(other(make_job()), 2, previous_allocation=before))
    world.run(1)
    world.change(waits, desired_status="stop")
    world.run(1)
    assert world.last(waits).client_status == ClientStatus.COMPLETE
    assert world.running() == [(before, "web")]


def test_a_stop_of_what_ends_already_is_remembered(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    """By the entry that stops it another one is placed, which waits for it; so it must be known."""
    world.ignores.add("SIGINT")
    tasks = a_task("lead", leader=True), a_task("web", kill_timeout_ns=20 * NS)
    old = world.place(make_alloc(make_job(*tasks, type_="batch")))
    world.run(1)
    world.exit("lead", 0)
    world.run(1)
    world.change(old, desired_status="stop", alloc_modify_index=77)
    new = world.place(make_alloc(other(make_job()), 2, create_index=77))
    world.run(1)
    world.boot()
    world.run(2)
    assert [e.alloc_id for e in world.effects if isinstance(e, PrepareAlloc)] == [old]
    world.run(40)
    assert world.running() == [(new, "web")]


def test_a_run_limit_begins_when_the_allocation_does(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    before = world.place(make_alloc(make_job(a_task(kill_timeout_ns=8 * NS))))
    world.run(1)
    world.change(before, desired_status="stop")
    job = other(make_job(max_run_duration_ns=10 * NS))
    waits = world.place(make_alloc(job, 2, previous_allocation=before))
    world.run(6)
    world.boot()
    world.run(10)
    assert world.running() == [(waits, "web")]
    world.ignores.clear()
    world.run(12)
    assert world.running() == []


def test_a_finished_allocation_gets_no_verdict_of_a_later_rollout(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(max_terminal_allocs=0)
    world.behave["web"] = (100_000, 1)
    rule = UpdateStrategy(min_healthy_time_ns=NS, healthy_deadline_ns=5 * NS)
    policy = RestartPolicy(attempts=0, interval_ns=NS, delay_ns=NS, mode="fail")
    job = make_job(update=rule, restart_policy=policy)
    alloc_id = world.place(make_alloc(job, deployment_id="d1"))
    world.run(0.12)
    world.change(alloc_id, deployment_id="d2")  # it has just failed
    world.run(20)
    assert any(isinstance(effect, DestroyAlloc) for effect in world.effects)
    assert [key for key in world.disk if key != "node"] == []


def test_what_has_ended_and_was_destroyed_is_not_begun_by_an_older_answer(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(max_terminal_allocs=0)
    world.behave["web"] = (100_000, 0)
    alloc_id = world.place(make_alloc(make_job(type_="batch")))
    world.run(2)
    assert any(isinstance(effect, DestroyAlloc) for effect in world.effects)
    world.updates.clear()
    world.change(alloc_id, name="read again, as pending")
    world.run(3)
    assert len(world.starts) == 1
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


def test_a_restore_is_noticed_by_an_agent_that_was_just_started(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.boot()
    world.run(0.02)  # registered, and its first list is still on its way
    world.run(2)
    world.updates.clear()
    poll = world._polls.pop()
    world.feed(CallDone(poll.call_id, "", {"index": 3, "allocs": {alloc_id: 2}, "restored": 3}))
    world.run(2)
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING
    world.boot()
    assert world.machine.contact.node.restored == 3
