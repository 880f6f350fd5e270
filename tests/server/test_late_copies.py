"""A write from another datacenter that was refused stays so, however late a copy of it comes."""

from typing import Any

from tests.server.test_parts import job, two_datacenters


def test_a_refused_scale_is_not_carried_out_when_nothing_speaks_against_it_any_more() -> None:
    world = two_datacenters()
    one, two = world.servers()
    assert not world.ask(one, "Job.Register", body={"Job": job("web", count=2)}).is_error
    stop: dict[str, Any] = {"job_id": "web"}
    assert not world.ask(one, "Job.Deregister", params=stop).is_error
    token = {"call_id": "mine", "call_issued_us": world.now.wall_us}
    scale: dict[str, Any] = {"params": stop, "body": {"Count": 1}, **token}
    refused = world.ask(two, "Job.Scale", **scale)
    assert refused.status == 400 and "stopped" in refused.error
    assert not world.ask(one, "Job.Register", body={"Job": job("web", count=2)}).is_error
    assert world.ask(two, "Job.Scale", **scale).error == refused.error
    record = one.state.jobs.get("default", "web")
    assert record is not None and (record.job.task_groups or [])[0].count == 2
