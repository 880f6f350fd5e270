"""What runs is counted once, wherever and however often it does."""

from sim.census import Census
from sim.tasks import SimTask


def task(index: int, name: str = "server", job: str = "web") -> SimTask:
    env = {"NOMAD_JOB_ID": job, "NOMAD_GROUP_NAME": "g", "NOMAD_ALLOC_INDEX": str(index)}
    return SimTask(("alloc", name, 1), 7, env, 0)


def test_an_instance_with_two_tasks_is_one_and_ends_with_the_last_of_them():
    census = Census()
    first, second = task(0), task(0, "proxy")
    for one in (first, second):
        census.started(one, 3, "eu", 5)
    assert (census.running, census.starts, census.doubled) == (1, 2, {})
    census.ended(first, 3, "eu")
    assert census.running == 1
    census.ended(second, 3, "eu")
    assert (census.running, census.jobs["web"].regions) == (0, {})


def test_a_copy_in_another_region_is_seen_until_either_ends():
    for survivor, region in ((3, "eu"), (8, "us")):
        census = Census()
        census.want("web", 1, is_service=True)
        assert list(census.short) == ["web"]
        one, copy = task(4), task(4)
        census.started(one, 3, "eu", 5)
        census.started(copy, 8, "us", 9)
        assert census.doubled == {("web", "g", "server", 4): [3, 8]}
        assert (census.running, census.running_by_region("web")) == (1, {"eu": 1, "us": 1})
        census.ended(copy if survivor == 3 else one, 11 - survivor, "us" if survivor == 3 else "eu")
        assert census.doubled == {}
        assert census.running_by_region("web") == {region: 1}
        assert census.short == {}
        census.ended(one if survivor == 3 else copy, survivor, region)
        assert (census.running, list(census.short)) == (0, ["web"])


def test_a_system_job_has_an_instance_on_each_node_whatever_their_indices():
    census = Census()
    census.tell_kind("web", is_system=True)
    here = [(task(index), node) for index, node in ((0, 1), (1, 2), (2, 3), (0, 11), (1, 12))]
    for one, node in here:
        census.started(one, node, "eu", 5)
    assert (census.running, census.doubled) == (5, {})
    census.tell_kind("web", is_system=False)  # too late for what runs
    for one, node in here[2:]:
        census.ended(one, node, "eu")
    assert census.running == census.jobs["web"].running == 2


def test_a_wait_is_from_the_submission_to_the_first_start_of_each_index():
    census = Census()
    census.submit("web", 100)
    census.submit("web", 900)
    for index, now_us in ((0, 300), (1, 700)):
        census.started(task(index), 1, "eu", now_us)
    again = task(0)
    census.ended(again, 1, "eu")
    census.started(again, 2, "eu", 5_000)
    assert census.waits_us().tolist() == [200, 600]
