"""A job is kept once for all its allocations: in memory, on disk, and as servers send it."""

from typing import Any

import msgspec

from core.client.machine import ClientMachine
from core.model.host import CallDone

Make = Any


def job_keys(world: Any) -> list[str]:
    return sorted(key for key in world.disk if key.startswith("job/"))


def test_allocations_of_a_job_share_it_and_the_last_one_takes_it_away(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    ids = [
        world.place(make_alloc(msgspec.msgpack.decode(msgspec.msgpack.encode(make_job()),
                                                      type=type(make_job())), n))
        for n in (1, 2)
    ]  # fmt: skip
    world.run(2)
    jobs = [world.machine.runners[alloc_id].alloc.job for alloc_id in ids]
    assert jobs[0] is jobs[1]
    assert job_keys(world) == ["job/default/job/0/1"]
    for alloc_id in ids:
        assert msgspec.msgpack.decode(world.disk[f"alloc/{alloc_id}"])["alloc"]["Job"] is None
    world.remove(ids[0])
    world.run(2)
    assert job_keys(world) == ["job/default/job/0/1"]
    world.remove(ids[1])
    world.run(2)
    assert job_keys(world) == []


def test_a_restarted_agent_finds_the_job_and_drops_one_that_nobody_holds(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.disk["job/default/gone/0/1"] = world.disk["job/default/job/0/1"]
    world.is_reachable = False
    world.boot()
    world.run(2)
    runner = world.machine.runners[alloc_id]
    assert runner.alloc.job.id == "job"
    assert list(runner.tasks) == ["web"]
    assert job_keys(world) == ["job/default/job/0/1"]


def test_a_newer_version_takes_the_place_of_the_older(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.change(alloc_id, job=msgspec.structs.replace(make_job(), version=1), job_version=1)
    world.run(2)
    assert job_keys(world) == ["job/default/job/1/1"]
    assert world.machine.runners[alloc_id].saved.job_key == "job/default/job/1/1"


def test_what_an_older_version_saved_is_read_and_its_job_saved_for_itself(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    record = msgspec.msgpack.decode(world.disk[f"alloc/{alloc_id}"])
    record["alloc"]["Job"] = msgspec.msgpack.decode(world.disk.pop("job/default/job/0/1"))
    del record["job_key"]
    world.disk[f"alloc/{alloc_id}"] = msgspec.msgpack.encode(record)
    world.boot()
    world.run(2)
    assert job_keys(world) == ["job/default/job/0/1"]
    assert len(world.starts) == 1


def test_an_allocation_without_its_job_is_told_and_passed_over(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    del world.disk["job/default/job/0/1"]
    world.is_reachable = False
    world.boot()
    world.run(2)
    assert alloc_id not in world.machine.runners
    assert any(alloc_id in str(log.fields) for log in world.logs)


def test_a_server_sends_a_job_once_and_the_client_joins_them(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    job = msgspec.structs.replace(make_job(), namespace="default")
    machine: ClientMachine = world.machine
    world.run(1)
    allocs = [msgspec.structs.replace(make_alloc(job, n), job=None) for n in (1, 2)]
    answer = {"allocs": allocs, "jobs": [job]}
    machine._on_fetched(CallDone(0, "", answer))
    assert [runner.alloc.job is job for runner in machine.runners.values()] == [True, True]
