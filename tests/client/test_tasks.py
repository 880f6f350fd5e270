"""The life of a task, and the order of a group's."""

from typing import Any

from client_parts import FAST, NS, Make, a_task

from core.model.allocation import ClientStatus
from core.model.job import (
    RestartPolicy,
    Service,
    Task,
    TaskLifecycle,
)

# --- a task's life ----------------------------------------------------------------------


def test_an_allocation_is_run_and_reported(world: Any, make_job: Make, make_alloc: Make) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    assert world.events(alloc_id) == ["Received", "Task Setup", "Started"]
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING
    assert world.state(alloc_id).started_at.startswith("2023-11-14T22:13:20.")
    env = world.starts[0].spec.env
    assert env["NOMAD_PORT_http"] == "21001"
    assert env["NOMAD_ALLOC_DIR"] == f"/a/{alloc_id}/alloc"


def test_a_batch_task_that_ends_well_completes_its_allocation(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["web"] = (1_000_000, 0)
    alloc_id = world.place(make_alloc(make_job(type_="batch")))
    world.run(5)
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert world.messages(alloc_id)[-1] == "Exit Code: 0"
    assert world.state(alloc_id).state == "dead"
    assert not world.state(alloc_id).failed


def test_a_service_that_fails_is_restarted_until_its_policy_gives_up(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["web"] = (1_000_000, 1)
    alloc_id = world.place(make_alloc(make_job(restart_policy=FAST)))
    world.run(90)
    assert len(world.starts) == 3
    state = world.state(alloc_id)
    assert (state.state, state.failed, state.restarts) == ("dead", True, 2)
    update = world.last(alloc_id)
    assert (update.client_status, update.client_description) == (
        ClientStatus.FAILED,
        "Failed tasks",
    )
    assert world.messages(alloc_id)[-1] == (
        'Exceeded allowed attempts 2 in interval 30m0s and mode is "fail"'
    )
    assert any(text.startswith("Task restarting in 1") for text in world.messages(alloc_id))


def test_a_task_that_cannot_start_says_why_and_fails(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["web"] = "command 'web' not found"
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    assert world.messages(alloc_id)[-2:] == ["command 'web' not found", "Error was unrecoverable"]
    assert world.last(alloc_id).client_status == ClientStatus.FAILED


def test_a_stop_interrupts_and_waits_and_kills(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    job = make_job(a_task(kill_timeout_ns=3 * NS))
    alloc_id = world.place(make_alloc(job))
    world.run(2)
    world.change(alloc_id, desired_status="stop")
    world.run(2)
    assert world.running()
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING  # its place is still held
    world.run(2)
    assert world.messages(alloc_id)[-3:] == [
        "Sent interrupt. Waiting 3s before force killing",
        "Exit Code: 137, Signal: 9",
        "Task successfully killed",
    ]
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


def test_kill_timeout_is_bounded_by_the_nodes_limit(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(max_kill_timeout_us=1_000_000)
    world.ignores.add("SIGINT")
    alloc_id = world.place(make_alloc(make_job(a_task(kill_timeout_ns=3600 * NS))))
    world.run(1)
    world.change(alloc_id, desired_status="stop")
    world.run(2)
    assert not world.running()


def test_a_stop_before_the_start_ends_the_allocation_without_a_process(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job(), desired_status="stop"))
    world.run(1)
    assert world.starts == []
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


def test_a_stop_while_a_start_is_under_way_ends_what_comes_of_it(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    while not world.starts:
        world.run(0.0005)
    world.machine.runners[alloc_id].stop()
    world.run(2)
    assert world.running() == []
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


def test_shutdown_delay_takes_services_out_before_the_signal(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    service = Service(name="api", port_label="http", provider="nomad")
    job = make_job(a_task(shutdown_delay_ns=4 * NS, services=[service]))
    alloc_id = world.place(make_alloc(job))
    world.run(1)
    assert [item["ServiceName"] for item in world.services.values()] == ["api"]
    world.change(alloc_id, desired_status="stop")
    world.run(1)
    assert world.services == {}
    assert world.running()
    world.run(4)
    assert not world.running()


# --- groups of tasks --------------------------------------------------------------------


def hook(name: str, *, sidecar: bool = False, task: str = "") -> Task:
    return a_task(task or name, lifecycle=TaskLifecycle(hook=name, sidecar=sidecar))


def test_lifecycle_hooks_run_in_their_order(world: Any, make_job: Make, make_alloc: Make) -> None:
    world.behave |= {"prestart": (1_000_000, 0), "poststop": (1_000_000, 0)}
    job = make_job(
        hook("prestart"), hook("prestart", sidecar=True, task="proxy"), a_task(),
        hook("poststart", sidecar=True), hook("poststop"), type_="batch",
    )  # fmt: skip
    alloc_id = world.place(make_alloc(job))
    world.run(0.5)
    assert [start.task for start in world.starts] == ["prestart", "proxy"]
    world.run(2)
    assert [start.task for start in world.starts][2:] == ["web", "poststart"]
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING
    world.exit("web", 0)
    world.run(0.5)
    assert world.running() == [(alloc_id, "poststop")]
    assert world.last(alloc_id).client_status == ClientStatus.RUNNING
    world.run(2)
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert "Main Tasks Dead" in world.events(alloc_id, "proxy")


def test_a_failed_prestart_task_keeps_the_main_task_from_starting(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["prestart"] = (1_000, 1)
    none = RestartPolicy(attempts=0, mode="fail")
    alloc_id = world.place(make_alloc(make_job(hook("prestart"), a_task(), restart_policy=none)))
    world.run(2)
    assert [start.task for start in world.starts] == ["prestart"]
    assert world.last(alloc_id).client_status == ClientStatus.FAILED
    assert world.events(alloc_id)[-1] == "Sibling Task Failed"


def test_a_dead_leader_ends_the_group(world: Any, make_job: Make, make_alloc: Make) -> None:
    job = make_job(a_task("lead", leader=True), a_task("follow"), type_="batch")
    alloc_id = world.place(make_alloc(job))
    world.run(1)
    world.exit("lead", 0)
    world.run(1)
    assert world.running() == []
    assert "Leader Task Dead" in world.events(alloc_id, "follow")
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE


def test_a_stop_ends_the_leader_first(world: Any, make_job: Make, make_alloc: Make) -> None:
    world.ignores.add("SIGINT")
    job = make_job(a_task("follow"), a_task("lead", leader=True, kill_timeout_ns=2 * NS))
    alloc_id = world.place(make_alloc(job))
    world.run(1)
    world.change(alloc_id, desired_status="stop")
    world.run(1)
    assert "Killing" not in world.events(alloc_id, "follow")
    world.run(10)
    assert world.running() == []


def test_a_run_is_ended_at_its_longest_duration(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job(type_="batch", max_run_duration_ns=10 * NS)))
    world.run(9)
    assert world.running()
    world.run(3)
    assert world.running() == []
    assert "Max Run Duration Exceeded" in world.events(alloc_id)


def test_a_replacement_waits_for_the_allocation_it_replaces(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    first = world.place(make_alloc(make_job()))
    world.run(1)
    world.change(first, desired_status="stop")
    second = world.place(make_alloc(make_job(), 2, previous_allocation=first))
    world.run(4)
    assert world.running() == [(first, "web")]
    world.run(3)
    assert world.running() == [(second, "web")]


def test_a_winner_waits_for_the_one_that_gave_way(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.ignores.add("SIGINT")
    victim = world.place(make_alloc(make_job()))
    world.run(1)
    winner = world.place(make_alloc(make_job(), 2, preempted_allocations=[victim]))
    world.change(victim, desired_status="evict")
    world.run(4)
    assert world.running() == [(victim, "web")]
    world.run(3)
    assert world.running() == [(winner, "web")]


def test_what_an_entry_placed_waits_for_what_it_stopped(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    """Its room counted as free in that entry, so both must not run at once."""
    world.ignores.add("SIGINT")
    before = world.place(make_alloc(make_job()))
    world.run(1)
    world.change(before, desired_status="stop", alloc_modify_index=77)
    after = world.place(make_alloc(make_job(), 2, create_index=77))
    other = world.place(make_alloc(make_job(), 3, create_index=76))
    world.run(4)
    assert sorted(world.running()) == sorted([(before, "web"), (other, "web")])
    world.run(3)
    assert sorted(world.running()) == sorted([(after, "web"), (other, "web")])
