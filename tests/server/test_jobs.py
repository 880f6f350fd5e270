"""The way of a job through one datacenter: register, plan, run, stop; and the leader's death."""

from clients import job
from stories import (
    add_clients,
    clients,
    datacenter,
    follower,
    leader,
    register,
    running,
    until_running,
)

from core.model.allocation import ClientStatus


def test_a_job_given_to_a_follower_is_placed_and_runs() -> None:
    world = datacenter()
    answer = register(world, server=follower(world), count=3)
    assert answer.body["EvalID"].endswith(leader(world).datacenter_id)
    until_running(world, 3)
    assert sum(len(client.statuses) for client in clients(world)) == 3


def test_its_evaluation_completes_and_its_deployment_succeeds() -> None:
    world = datacenter()
    eval_id = register(world).body["EvalID"]
    world.until(
        lambda: (
            world.ask(leader(world), "Eval.Get", params={"eval_id": eval_id}).body["Status"]
            == "complete"
        )
    )
    until_running(world, 2)
    world.run(2)
    latest = world.ask(leader(world), "Job.LatestDeployment", params={"job_id": "web"}).body
    assert latest.status == "successful"
    assert world.ask(leader(world), "Job.Get", params={"job_id": "web"}).body.stable


def test_the_job_survives_its_leader_and_goes_on_scaling() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    first = leader(world)
    world.kill(first)
    second = world.until(world.leader)
    assert second is not first
    got = world.ask(second, "Job.Get", params={"job_id": "web"})
    assert got.body.id == "web"
    register(world, count=4)
    until_running(world, 4)


def test_all_servers_restarted_keep_the_job() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    for server in world.servers():
        world.kill(server)
    for name in ("s1", "s2", "s3"):
        world.start(name)
    world.until(world.leader)
    assert running(world) == 2


def test_states_are_equal_on_all_replicas() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    world.run(2)
    assert len({server.state.hash() for server in world.servers()}) == 1


def test_stop_ends_the_allocations_and_a_purge_forgets_the_job() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    world.ask(leader(world), "Job.Deregister", params={"job_id": "web"})
    until_running(world, 0)
    got = world.ask(leader(world), "Job.Get", params={"job_id": "web"}).body
    assert got.stop and got.status == "dead"
    world.ask(leader(world), "Job.Deregister", params={"job_id": "web", "purge": "true"})
    answer = world.ask(leader(world), "Job.Get", params={"job_id": "web"})
    assert (answer.status, answer.error) == (404, "job not found")


def test_the_same_call_token_gives_the_first_answer_and_one_evaluation() -> None:
    world = datacenter()
    issued_us = world.now.wall_us
    token = {"call_id": "token-1", "call_issued_us": issued_us}
    first = world.ask(leader(world), "Job.Register", body={"Job": job()}, **token)
    again = world.ask(follower(world), "Job.Register", body={"Job": job()}, **token)
    assert again.body["EvalID"] == first.body["EvalID"]
    assert again.body["JobModifyIndex"] == first.body["JobModifyIndex"]
    triggers = [one.triggered_by for one in leader(world).state.evals.of_job("default", "web")]
    assert triggers.count("job-register") == 1


def test_a_call_token_older_than_a_day_is_refused() -> None:
    world = datacenter(1, 1)
    old_us = world.now.wall_us - 25 * 3600 * 1_000_000
    answer = world.ask(
        leader(world), "Job.Register", body={"Job": job()}, call_id="x", call_issued_us=old_us
    )
    assert answer.status == 409


def test_enforcing_a_wrong_index_changes_nothing() -> None:
    world = datacenter(1, 1)
    register(world)
    body = {"Job": job(count=5), "EnforceIndex": True, "JobModifyIndex": 0}
    answer = world.ask(leader(world), "Job.Register", body=body)
    assert answer.is_error and "Enforcing job modify index 0: job already exists" in answer.error


def test_plan_tells_what_would_happen_and_changes_nothing() -> None:
    world = datacenter(1, 1)
    before = leader(world).state.hash()
    answer = world.ask(leader(world), "Job.Plan", body={"Job": job(count=3), "Diff": True})
    assert answer.body["Annotations"]["DesiredTGUpdates"]["app"]["Place"] == 3
    assert answer.body["Diff"]["Type"] == "Added"
    assert leader(world).state.hash() == before


def test_a_job_without_room_blocks_until_a_node_comes() -> None:
    world = datacenter(1, 1)
    for job_id in ("web", "other"):
        big = job(job_id, count=1)
        big["TaskGroups"][0]["Tasks"][0]["Resources"] = {"CPU": 3000, "MemoryMB": 64}
        assert not world.ask(leader(world), "Job.Register", body={"Job": big}).is_error
    until_running(world, 1)
    world.run(1)
    assert any(one.status == "blocked" for one in leader(world).state.evals.values())
    assert running(world, "other") == 0
    add_clients(world, 1, first=7)
    until_running(world, 1, "other")


def test_revert_brings_an_older_version_back() -> None:
    world = datacenter(1, 2)
    register(world, count=2)
    until_running(world, 2)
    register(world, count=3)
    until_running(world, 3)
    answer = world.ask(
        leader(world), "Job.Revert", params={"job_id": "web"}, body={"JobVersion": 0}
    )
    assert not answer.is_error, answer
    until_running(world, 2)


def test_scale_changes_one_group() -> None:
    world = datacenter(1, 2)
    register(world, count=1)
    until_running(world, 1)
    world.run(2)  # the rollout ends; a running one would block the scaling
    answer = world.ask(
        leader(world), "Job.Scale", params={"job_id": "web"},
        body={"Count": 3, "Target": {"Group": "app"}},
    )  # fmt: skip
    assert not answer.is_error, answer
    until_running(world, 3)
    status = world.ask(leader(world), "Job.ScaleStatus", params={"job_id": "web"}).body
    assert status["TaskGroups"]["app"]["Running"] == 3


def test_an_allocation_that_is_stopped_is_replaced() -> None:
    world = datacenter(1, 2)
    register(world, count=1)
    until_running(world, 1)
    world.run(2)
    stubs = world.ask(leader(world), "Alloc.List").body
    answer = world.ask(leader(world), "Alloc.Stop", params={"alloc_id": stubs[0]["ID"][:8]})
    assert not answer.is_error, answer
    world.until(lambda: len(leader(world).state.allocs) == 2)
    until_running(world, 1)


def test_a_batch_job_that_finished_is_not_started_again() -> None:
    world = datacenter(1, 1)
    register(world, count=2, Type="batch")
    until_running(world, 2)
    clients(world)[0].finish(ClientStatus.COMPLETE)
    world.until(lambda: running(world) == 0)
    world.run(5)
    assert len(leader(world).state.allocs) == 2
    assert world.ask(leader(world), "Job.Get", params={"job_id": "web"}).body.status == "dead"


def test_a_failed_service_allocation_is_replaced() -> None:
    world = datacenter(1, 1)
    register(world, count=1)
    until_running(world, 1)
    clients(world)[0].finish(ClientStatus.FAILED)
    world.until(lambda: len(leader(world).state.allocs) == 2)
    until_running(world, 1)
