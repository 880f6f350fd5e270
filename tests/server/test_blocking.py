"""Blocking queries wake on what they watch, and on nothing else; and end in time."""

from stories import datacenter, follower, leader, register, until_running

from core.model.query import Query


def test_a_parked_query_wakes_when_its_job_changes() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    world.run(2)
    server = leader(world)
    index = world.ask(server, "Job.Get", params={"job_id": "web"}).index
    number = world.begin(server, Query(method="Job.Get", params={"job_id": "web"}, min_index=index))
    world.run(3)
    assert number not in world.answers
    register(world, count=3)
    answer = world.until(lambda: world.answers.get(number), 1)
    assert answer.index > index and answer.body.task_groups[0].count == 3


def test_another_jobs_change_does_not_wake_it() -> None:
    world = datacenter(1, 1)
    register(world)
    until_running(world, 2)
    world.run(2)
    server = leader(world)
    index = world.ask(server, "Job.Summary", params={"job_id": "web"}).index
    query = Query(method="Job.Summary", params={"job_id": "web"}, min_index=index)
    number = world.begin(server, query)
    register(world, ID="other", Name="other")
    world.run(3)
    assert number not in world.answers


def test_time_is_up_with_the_unchanged_answer() -> None:
    world = datacenter(1, 0)
    server = leader(world)
    index = world.ask(server, "Job.List").index
    number = world.begin(server, Query(method="Job.List", min_index=index, wait_us=2_000_000))
    world.run(1.9)
    assert number not in world.answers
    world.run(0.3)  # the jitter is a sixteenth
    assert world.answers[number].index == index and world.answers[number].body == []


def test_it_waits_through_a_follower_too() -> None:
    world = datacenter()
    register(world)
    until_running(world, 2)
    world.run(2)
    server = follower(world)
    index = world.ask(server, "Job.List").index
    number = world.begin(server, Query(method="Job.List", min_index=index))
    world.run(3)
    assert number not in world.answers
    register(world, ID="other", Name="other")
    assert world.until(lambda: world.answers.get(number), 2).index > index


def test_a_thing_that_is_not_there_yet_can_be_waited_for() -> None:
    world = datacenter(1, 1)
    server = leader(world)
    first = world.ask(server, "Job.Get", params={"job_id": "web"})
    assert first.status == 404 and first.index > 0
    number = world.begin(
        server, Query(method="Job.Get", params={"job_id": "web"}, min_index=first.index)
    )
    world.run(1)
    assert number not in world.answers
    register(world)
    assert world.until(lambda: world.answers.get(number), 1).status == 200


def test_too_many_are_refused_and_none_is_lost() -> None:
    from core.server.config import LimitsConfig

    world = datacenter(1, 0, limits=LimitsConfig(blocking_queries=2))
    server = leader(world)
    index = world.ask(server, "Job.List").index
    numbers = [
        world.begin(server, Query(method="Job.List", min_index=index, wait_us=5_000_000))
        for _ in range(3)
    ]
    world.run(1)
    assert [world.answers[n].status for n in numbers if n in world.answers] == [429]
    world.run(6)
    assert all(number in world.answers for number in numbers)


def test_who_waits_for_a_change_hears_that_the_thing_went() -> None:
    world = datacenter(1, 1)
    register(world)
    until_running(world, 2)
    world.run(2)
    server = leader(world)
    index = world.ask(server, "Job.Get", params={"job_id": "web"}).index
    number = world.begin(server, Query(method="Job.Get", params={"job_id": "web"}, min_index=index))
    world.ask(server, "Job.Deregister", params={"job_id": "web", "purge": "true"})
    answer = world.until(lambda: world.answers.get(number), 1)
    assert answer.status == 404 and answer.index > index


def test_an_evaluation_named_by_a_prefix_wakes_as_well() -> None:
    world = datacenter(1, 0)
    server = leader(world)
    eval_id = register(world).body["EvalID"]
    world.run(1)
    found = world.ask(server, "Eval.Get", params={"eval_id": eval_id[:8]})
    number = world.begin(
        server,
        Query(method="Eval.Get", params={"eval_id": eval_id[:8]}, min_index=found.index),
    )
    world.run(1)
    assert number not in world.answers
    world.ask(server, "Job.Evaluate", params={"job_id": "web"})
    world.ask(server, "Job.Deregister", params={"job_id": "web"})
    world.run(1)
    assert (number in world.answers) == (server.state.evals.get(eval_id).modify_index > found.index)
