"""What a client keeps: without servers, over a restart, after the end, and when news is late."""

from typing import Any

import msgspec
import pytest
from client_parts import FAST, NS, Make, a_task, methods

from core.client.effects import (
    DestroyAlloc,
    ReattachTask,
    TaskExited,
    TaskFailedToStart,
)
from core.model.allocation import ClientStatus
from core.model.host import (
    CallDone,
)
from core.model.job import (
    DisconnectStrategy,
)

# --- without servers, and after a restart -----------------------------------------------


def test_nothing_is_lost_while_no_server_answers(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    ran = world.place(make_alloc(make_job(a_task("one"), type_="batch")))
    runs = world.place(make_alloc(make_job(a_task("two"), restart_policy=FAST), 2))
    world.run(2)
    world.is_reachable = False
    world.exit("one", 0)
    world.exit("two", 3)
    world.run(100)
    assert world.running() == [(runs, "two")]  # restarted on its own
    world.updates.clear()
    world.is_reachable = True
    world.run(30)
    assert world.last(ran).client_status == ClientStatus.COMPLETE
    assert "Exit Code: 3" in world.messages(runs, "two")


@pytest.mark.parametrize("group", [
    {"disconnect": DisconnectStrategy(stop_on_client_after_ns=30 * NS)},
    {"stop_after_client_disconnect_ns": 30 * NS},
])  # fmt: skip
def test_a_client_that_is_cut_off_ends_what_asks_for_it(
    world: Any, make_job: Make, make_alloc: Make, group: dict[str, Any]
) -> None:
    ends = world.place(make_alloc(make_job(a_task("ends"), **group)))
    stays = world.place(make_alloc(make_job(a_task("stays")), 2))
    world.run(200)
    assert len(world.running()) == 2  # a call may be out for a minute: that is no silence
    world.is_reachable = False
    world.run(18)
    assert len(world.running()) == 2
    world.run(13)
    assert world.running() == [(stays, "stays")]
    world.is_reachable = True
    world.run(90)
    assert world.last(ends).client_status == ClientStatus.COMPLETE
    assert any("stop_on_client_after" in text for text in world.messages(ends, "ends"))


def test_an_instance_that_the_servers_missed_is_reported_again(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.updates.clear()
    world.change(alloc_id, client_status="unknown")
    world.run(2)
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING


def test_reports_of_a_moment_travel_together(world: Any, make_job: Make, make_alloc: Make) -> None:
    for number in range(1, 41):
        world.place(make_alloc(make_job(), number))
    world.run(2)
    assert len(world.running()) == 40
    assert methods(world).count("Node.Update") <= 4


def test_a_restarted_agent_takes_its_tasks_up_again(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    before = dict(world.processes)
    world.is_reachable = False  # not even servers are needed for it
    world.boot()
    world.run(2)
    assert world.processes == before
    assert len(world.starts) == 1
    world.is_reachable = True
    world.run(20)
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING
    world.change(alloc_id, desired_status="stop")
    world.run(2)
    assert world.running() == []


def test_a_task_that_ended_unwatched_goes_by_its_restart_policy(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job(restart_policy=FAST)))
    world.run(2)
    world.processes.clear()
    world.boot()
    world.run(25)
    assert len(world.starts) == 2
    assert world.starts[1].attempt == 2
    assert any("not known" in text for text in world.messages(alloc_id))


def test_an_agent_killed_in_the_middle_of_a_kill_carries_on_with_it(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.change(alloc_id, desired_status="stop")
    world.run(1)
    world.boot()
    world.run(7)
    assert world.running() == []
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert len(world.starts) == 1


def test_an_agent_killed_between_saving_and_starting_asks_first(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    record = msgspec.msgpack.decode(world.disk[f"task/{alloc_id}/web"])
    record["handle"] = {"pid": 0, "start_ticks": 0, "boot_id": ""}
    world.disk[f"task/{alloc_id}/web"] = msgspec.msgpack.encode(record)
    world.boot()
    world.effects.clear()
    world.run(2)
    assert [effect.attempt for effect in world.effects if isinstance(effect, ReattachTask)] == [1]
    assert len(world.starts) == 1


def test_an_unreadable_record_is_told_and_passed_over(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.place(make_alloc(make_job()))
    world.run(2)
    world.disk["alloc/broken"] = b"\xc1"
    world.boot()
    world.run(2)
    assert any("not readable" in log.message for log in world.logs)
    assert len(world.processes) == 1


# --- the end of allocations -------------------------------------------------------------


def test_an_allocation_the_servers_forgot_is_ended_and_destroyed(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.remove(alloc_id)
    world.run(2)
    assert world.running() == []
    assert [e.alloc_id for e in world.effects if isinstance(e, DestroyAlloc)] == [alloc_id]
    assert [key for key in world.disk if key != "node"] == []


def test_finished_allocations_are_kept_up_to_a_limit(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(max_terminal_allocs=3)
    world.behave["web"] = (1_000, 0)
    for number in range(1, 6):
        world.place(make_alloc(make_job(type_="batch"), number))
        world.run(1)
    destroyed = [e.alloc_id for e in world.effects if isinstance(e, DestroyAlloc)]
    assert destroyed == sorted(world.allocs)[:2]  # the oldest first
    assert len(world.starts) == 5


def test_an_end_that_no_server_knows_is_not_forgotten(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(max_terminal_allocs=0)
    alloc_id = world.place(make_alloc(make_job(type_="batch")))
    world.run(1)
    world.is_reachable = False
    world.exit("web", 0)
    world.run(60)
    assert not any(isinstance(e, DestroyAlloc) for e in world.effects)
    world.is_reachable = True
    world.run(30)
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert any(isinstance(e, DestroyAlloc) for e in world.effects)


# --- what comes late ----------------------------------------------------------------------


def test_an_event_of_an_older_run_changes_nothing(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job(restart_policy=FAST)))
    world.run(1)
    world.exit("web", 1)
    world.run(25)
    assert world.starts[-1].attempt == 2
    before = world.messages(alloc_id)
    world.feed(TaskExited(alloc_id, "web", 1, exit_code=5))
    world.feed(TaskFailedToStart(alloc_id, "web", 1, "late"))
    world.run(30)
    assert world.messages(alloc_id) == before
    assert len(world.starts) == 2


def test_a_stop_holds_over_a_killed_agent_though_no_server_says_it_again(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    job = make_job(shutdown_delay_ns=30 * NS)  # the tasks themselves are not told yet
    alloc_id = world.place(make_alloc(job))
    world.run(1)
    world.change(alloc_id, desired_status="stop")
    world.run(1)
    world.is_reachable = False
    world.boot()
    world.run(60)
    assert world.running() == []
    assert len(world.starts) == 1


def test_a_list_older_than_what_was_seen_ends_nothing(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(1)
    poll = world._polls.pop()
    world.feed(CallDone(poll.call_id, "", {"index": 1, "allocs": {}}))
    world.run(3)
    assert world.running() == [(alloc_id, "web")]
    assert len(world.starts) == 1  # it was not ended and then begun again, either
