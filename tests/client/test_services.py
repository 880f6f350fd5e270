"""Services, checks and the health of an allocation."""

from typing import Any

import msgspec
import pytest
from client_parts import FAST, NS, Make, a_task

from core.model.allocation import AllocDeploymentStatus, ClientStatus
from core.model.job import (
    CheckRestart,
    RestartPolicy,
    Service,
    ServiceCheck,
    UpdateStrategy,
)


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
    assert "Restart Signaled" not in world.events(alloc_id)  # the first was within its grace
    world.run(4)
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
