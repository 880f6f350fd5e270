"""Stories of one client: from Hello to the last report."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from core.client.effects import (
    DestroyAlloc,
    ReattachTask,
    ShutdownComplete,
    ShutdownRequested,
    TaskExited,
    TaskFailedToStart,
)
from core.model.allocation import AllocDeploymentStatus, ClientStatus
from core.model.host import (
    CallDone,
    GossipExchange,
    GossipExchangeReply,
    GossipExchangeRequested,
    Requested,
)
from core.model.job import (
    CheckRestart,
    DisconnectStrategy,
    RestartPolicy,
    Service,
    ServiceCheck,
    Task,
    TaskLifecycle,
    UpdateStrategy,
)
from core.model.node import HostVolumeInfo
from core.model.query import Query
from gossip.machine import GossipMachine
from gossip.messages import SYNC_SUMMARY, SYNC_TABLE
from gossip.settings import LAN

NS = 1_000_000_000
FAST = RestartPolicy(attempts=2, interval_ns=1800 * NS, delay_ns=15 * NS, mode="fail")
Make = Callable[..., Any]


def a_task(name: str = "web", **fields: Any) -> Task:
    return Task(name=name, driver="raw_exec", config={"command": name}, **fields)


def methods(world: Any) -> list[str]:
    return [call.method for call in world.calls]


# --- the way to the servers ---------------------------------------------------------------


def test_a_new_client_says_hello_registers_and_asks_for_work(world: Any) -> None:
    world.run(1)
    assert methods(world) == ["Node.Hello", "Node.Register", "Node.Allocations", "Node.Allocations"]
    node = world.nodes[0]
    assert node["ID"].endswith("00000000abcd")
    assert node["Status"] == "ready"
    assert node["Attributes"]["cpu.arch"] == "amd64"
    assert world.calls[-1].body["min_index"] == 1


def test_a_node_says_which_host_volumes_it_has(make_world: Make) -> None:
    world = make_world(host_volumes={"data": HostVolumeInfo(path="/srv/data", read_only=True)})
    world.run(1)
    (node,) = world.nodes
    assert node["HostVolumes"]["data"]["Path"] == "/srv/data"
    assert node["HostVolumes"]["data"]["ReadOnly"] is True


def test_identity_is_kept_over_a_restart(world: Any) -> None:
    world.run(1)
    world.boot()
    world.run(1)
    assert world.nodes[0]["ID"] == world.nodes[1]["ID"]
    assert world.nodes[0]["SecretID"] == world.nodes[1]["SecretID"]


def test_an_unreachable_server_is_tried_again_and_the_other_one_too(world: Any) -> None:
    world.is_reachable = False
    world.run(120)
    hellos = [call for call in world.calls if call.method == "Node.Hello"]
    assert {call.address for call in hellos} == {"s1:4647", "s2:4647"}
    assert 8 < len(hellos) < 40  # it backs off
    world.is_reachable = True
    world.run(20)
    assert world.machine.contact.is_registered


def test_servers_that_forgot_the_node_get_its_registration_again(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.knows_node = False
    world.updates.clear()
    world.exit("web", 1)  # a report is due, and is refused
    world.run(3)
    assert len(world.nodes) == 2
    assert world.last(alloc_id).client_status == ClientStatus.PENDING


def test_a_client_of_another_datacenter_is_left_alone(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.place(make_alloc(make_job()))
    world.run(1)
    node = msgspec.msgpack.decode(world.disk["node"])
    node["datacenter_id"] = "ffffffffffff"
    world.disk["node"] = msgspec.msgpack.encode(node)
    world.boot()
    world.run(30)
    assert len(world.nodes) == 1  # work runs here: it does not change sides
    assert world.running()


def test_a_client_joins_the_lan_pool_of_its_datacenter(make_world: Make) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(3)
    joins = [effect for effect in world.effects if isinstance(effect, GossipExchange)]
    assert {(join.pool, join.address) for join in joins} == {("lan", "s1:4648")}


def test_servers_are_learnt_from_the_lan_pool(make_world: Make) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(1)
    server = GossipMachine(
        name="s9", address="s9:4648", meta={"role": "server", "rpc": "s9:4647"},
        settings=LAN, rng=random.Random(1), now_us=world.now_us,
    )  # fmt: skip
    server.join(["node:4648"], world.now_us)
    _, _, packet, _ = server.take_output().exchanges[0]
    world.feed(GossipExchangeRequested("lan", 1, "s9:4648", packet))
    assert "s9:4647" in world.machine.contact.servers
    assert isinstance(world.effects[-1], GossipExchangeReply)


def test_a_server_that_answers_again_is_shown_the_client_once_more(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(1)
    server = GossipMachine(
        name="s9", address="s9:4648", meta={"role": "server", "rpc": "s9:4647"},
        settings=LAN, rng=random.Random(1), now_us=world.now_us,
    )  # fmt: skip
    server.join(["node:4648"], world.now_us)
    _, _, packet, _ = server.take_output().exchanges[0]
    world.feed(GossipExchangeRequested("lan", 1, "s9:4648", packet))
    joining = (SYNC_TABLE, SYNC_SUMMARY)

    def joins() -> list[GossipExchange]:
        found = [effect for effect in world.effects if isinstance(effect, GossipExchange)]
        return [e for e in found if e.address == "s9:4648" and e.packet.kind in joining]

    world.is_reachable = False
    world.change(world.place(make_alloc(make_job())))  # ends the blocking query
    world.run(5)
    world.is_reachable = True
    while world.machine.contact._failures:
        before = len(joins())  # the pool has regular rounds as well
        world.run(0.01)
    assert len(joins()) == before + 1


# --- a task's life ----------------------------------------------------------------------------


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


# --- groups of tasks ---------------------------------------------------------------------------


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


# --- services, checks, health ------------------------------------------------------------------


def checked(**fields: Any) -> Service:
    check = ServiceCheck(
        name="alive", type="http", path="/h", interval_ns=5 * NS, timeout_ns=NS, **fields
    )
    return Service(name="api-${NOMAD_ALLOC_INDEX}", port_label="http", checks=[check])


def test_a_check_decides_the_status_of_its_service(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    health = {"is_good": False}
    world.checks = lambda check: health["is_good"]
    job = make_job(services=[checked(success_before_passing=2)])
    alloc_id = world.place(make_alloc(job))
    world.run(2)
    service = next(iter(world.services.values()))
    assert (service["ServiceName"], service["Address"], service["Port"]) == (
        "api-1", "10.0.0.1", 21001,
    )  # fmt: skip
    assert service["Status"] == "critical"
    health["is_good"] = True
    world.run(5)
    assert next(iter(world.services.values()))["Status"] == "critical"  # one of two
    world.run(5)
    assert next(iter(world.services.values()))["Status"] == "passing"
    shown = world.ask("Client.Checks", alloc_id=alloc_id).body
    assert [check["Status"] for check in shown.values()] == ["success"]


def test_a_failing_check_restarts_its_task_by_the_restart_policy(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.checks = lambda check: False
    service = checked(check_restart=CheckRestart(limit=3, grace_ns=NS))
    job = make_job(a_task(services=[service]), restart_policy=FAST)
    alloc_id = world.place(make_alloc(job))
    world.run(14)
    assert "Restart Signaled" in world.events(alloc_id)
    assert 'healthcheck: check "alive" unhealthy' in world.messages(alloc_id)
    world.run(120)
    assert world.last(alloc_id).client_status == ClientStatus.FAILED
    assert len(world.starts) == 3


UPDATE = UpdateStrategy(
    health_check="checks", min_healthy_time_ns=10 * NS, healthy_deadline_ns=60 * NS
)


def test_health_needs_the_whole_min_healthy_time(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    job = make_job(services=[checked()], update=UPDATE)
    alloc_id = world.place(make_alloc(job, deployment_id="d"))
    world.run(9)
    assert world.last(alloc_id).deployment_status is None
    world.run(4)
    assert world.last(alloc_id).deployment_status.healthy is True


@pytest.mark.parametrize(
    ("mode", "checks_pass", "healthy"),
    [("checks", False, False), ("task_states", False, True), ("manual", True, None)],
)
def test_what_counts_for_health(
    world: Any, make_job: Make, make_alloc: Make, mode: str, checks_pass: bool, healthy: bool
) -> None:
    world.checks = lambda check: checks_pass
    update = msgspec.structs.replace(UPDATE, health_check=mode)
    job = make_job(services=[checked()], update=update)
    given = AllocDeploymentStatus(canary=True)
    alloc_id = world.place(make_alloc(job, deployment_id="d", deployment_status=given))
    world.run(65)
    found = world.last(alloc_id).deployment_status
    assert (found and found.healthy) is healthy
    if found is not None:
        assert found.canary


def test_a_task_that_fails_for_good_is_unhealthy_at_once(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.behave["web"] = (1_000_000, 1)
    none = RestartPolicy(attempts=0, mode="fail")
    alloc_id = world.place(
        make_alloc(make_job(update=UPDATE, restart_policy=none), deployment_id="d")
    )
    world.run(3)
    assert world.last(alloc_id).deployment_status.healthy is False


def test_an_update_in_place_keeps_the_process_and_watches_the_new_deployment(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    job = make_job(update=UPDATE)
    alloc_id = world.place(make_alloc(job, deployment_id="d1"))
    world.run(15)
    newer = make_job(update=UPDATE, services=[Service(name="new", port_label="http")])
    newer.version = 1
    world.change(alloc_id, job=newer, deployment_id="d2")
    world.run(1)
    assert len(world.starts) == 1
    assert [item["ServiceName"] for item in world.services.values()] == ["new"]
    world.updates.clear()
    world.run(8)
    assert world.updates == []  # the health of the deployment before does not count
    world.run(4)
    assert world.last(alloc_id).deployment_id == "d2"
    assert world.last(alloc_id).deployment_status.healthy is True


# --- without servers, and after a restart ----------------------------------------------------


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


# --- the end of allocations -----------------------------------------------------------------


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


# --- requests --------------------------------------------------------------------------------


def test_a_user_restarts_and_signals_a_task(world: Any, make_job: Make, make_alloc: Make) -> None:
    alloc_id = world.place(make_alloc(make_job(restart_policy=RestartPolicy(attempts=0))))
    world.run(1)
    assert world.ask("Client.RestartTask", alloc_id=alloc_id, task="web").error == ""
    world.run(1)
    assert len(world.starts) == 2  # the policy has no say in it
    assert world.state(alloc_id).restarts == 1
    assert world.ask("Client.SignalTask", alloc_id=alloc_id, signal="SIGHUP").error == ""
    world.run(1)
    assert world.events(alloc_id)[-1] == "Signaling"
    assert world.running() == [(alloc_id, "web")]


@pytest.mark.parametrize(
    ("method", "body", "status", "words"),
    [
        ("Client.RestartTask", {"alloc_id": "none"}, 404, "Unknown allocation"),
        ("Client.RestartTask", {"task": "no"}, 404, "Could not find task"),
        ("Client.RestartTask", {"task": 7}, 400, "Expected `str`"),
        ("Client.SignalTask", {"signal": "SIGNOPE"}, 500, "invalid signal"),
        ("Client.ReadFile", {"operation": "burn"}, 400, "unknown operation"),
        ("Client.ReadFile", {"operation": "logs", "task": "no"}, 400, "unknown task name"),
        ("Client.ReadFile", {"operation": "cat", "offset": -1}, 400, "negative"),
        ("Client.Nothing", {}, 404, "no method"),
    ],
)
def test_a_bad_request_is_refused_in_words(
    world: Any, make_job: Make, make_alloc: Make,
    method: str, body: dict[str, Any], status: int, words: str,
) -> None:  # fmt: skip
    alloc_id = world.place(make_alloc(make_job()))
    world.run(1)
    reply = world.ask(method, **{"alloc_id": alloc_id, **body})
    assert words in reply.error
    assert reply.body["status"] == status


def test_ping_tells_the_node(world: Any) -> None:
    world.run(1)
    assert world.ask("Agent.Ping").body == {"node_id": world.nodes[0]["ID"]}


def test_a_query_of_the_own_api_is_passed_on_to_a_server(world: Any) -> None:
    world.run(1)
    world.feed(Requested(5, "Query", Query(method="Job.List")))
    world.run(1)
    assert world.replies[5].body == {"echo": "Query"}


# --- shutdown --------------------------------------------------------------------------------


def test_a_shutdown_leaves_tasks_alone(world: Any, make_job: Make, make_alloc: Make) -> None:
    world.place(make_alloc(make_job()))
    world.run(1)
    world.feed(ShutdownRequested(stop_tasks=False))
    assert isinstance(world.effects[-1], ShutdownComplete)
    assert world.running()


def test_a_shutdown_of_dev_ends_tasks_and_reports_it(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(1)
    world.feed(ShutdownRequested(stop_tasks=True))
    world.run(2)
    assert world.running() == []
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert sum(isinstance(e, ShutdownComplete) for e in world.effects) == 1


# --- what comes late ---------------------------------------------------------------------------


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


def test_a_break_in_health_starts_the_wait_anew(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    failing = {"from_s": 6, "to_s": 9}
    world.checks = lambda check: not failing["from_s"] <= world.now_us / 1e6 < failing["to_s"]
    check = ServiceCheck(name="alive", type="tcp", interval_ns=NS, timeout_ns=NS)
    service = Service(name="api", port_label="http", checks=[check])
    job = make_job(services=[service], update=UPDATE)
    alloc_id = world.place(make_alloc(job, deployment_id="d"))
    world.run(17)  # healthy for 10 s in all, but never at a stretch
    assert all(update.deployment_status is None for update in world.updates)
    world.run(5)
    assert world.last(alloc_id).deployment_status.healthy is True


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
