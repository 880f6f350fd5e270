"""A new version of a divided job: one datacenter after the other, and no further than it fails."""

from typing import Any

import msgspec
import pytest

from core.federation.home_log import PutParts, TakeReport, current, homes_of
from core.federation.homes import Home, Report
from core.federation.rolling import failed_at, is_over, job_for
from core.model.job import Job, Task, TaskGroup, UpdateStrategy
from core.state.commands import RegisterJob
from core.state.state import State
from tests.federation.logs import A, B, C, a_job, a_state, commit

HALVES = {B: {"g": ((0, 2),)}, C: {"g": ((2, 4),)}}


def job(words: str, **changes: Any) -> Job:
    task = Task(name="t", driver="raw_exec", config={"command": words})
    group = TaskGroup(
        name="g", count=4, tasks=[task], update=UpdateStrategy(max_parallel=1), **changes
    )
    return a_job(task_groups=[group])


class Divided:
    """A job that runs in B and C, its home in A."""

    def __init__(self) -> None:
        self.state: State = a_state(A, is_authority=True)
        self.register("one")
        self.decide({A: {}, **HALVES})
        self.say(B, rolled=0)
        self.say(C, rolled=0)

    def register(self, words: str, **changes: Any) -> None:
        assert not commit(self.state, RegisterJob(job=job(words, **changes))).error

    @property
    def home(self) -> Home:
        home = homes_of(self.state).get("u1")
        assert home is not None
        return home

    def decide(self, allowed: dict[str, Any] | None = None) -> None:
        known = homes_of(self.state).get("u1")
        expected = known.index if known is not None else 0
        command = PutParts(
            namespace="default", job_id="web", uid="u1", expected=expected, allowed=allowed or {}
        )
        assert "Index" in commit(self.state, command).value

    def say(self, dc: str, **told: Any) -> None:
        part = self.home.part(dc)
        report = Report(
            namespace="default", job_id="web", uid="u1", datacenter_id=dc, epoch=self.home.epoch,
            index=part.index, accepts=part.allowed, holds=part.holds, running=part.allowed, **told,
        )  # fmt: skip
        commit(self.state, TakeReport(report=report))

    def versions(self) -> tuple[int, int]:
        return self.home.part(B).version, self.home.part(C).version


@pytest.fixture
def divided() -> Divided:
    return Divided()


def test_the_next_one_is_told_when_the_last_is_healthy(divided: Divided) -> None:
    divided.register("two")
    divided.decide()
    assert divided.versions() == (1, 0)
    divided.decide()
    assert divided.versions() == (1, 0), "B has not said that it runs it"
    divided.say(B, rolled=0)
    divided.decide()
    assert divided.versions() == (1, 0)
    assert not is_over(divided.state, current(divided.state, divided.home))
    divided.say(B, rolled=1)
    divided.decide()
    assert divided.versions() == (1, 1)
    divided.say(C, rolled=1)
    assert is_over(divided.state, current(divided.state, divided.home))


def test_a_rollout_that_failed_somewhere_goes_nowhere_else(divided: Divided) -> None:
    divided.register("two")
    divided.decide()
    divided.say(B, failed=1)
    divided.decide()
    assert divided.versions() == (1, 0)
    assert failed_at(current(divided.state, divided.home)) == [B]
    divided.register("one")  # back again: C never left
    divided.decide()
    assert divided.versions() == (1, 2)
    divided.say(C, rolled=2)
    divided.decide()
    assert divided.versions() == (2, 2)


def test_what_replaces_nothing_is_told_to_all_at_once(divided: Divided) -> None:
    divided.register("one", meta=None)
    group = msgspec.structs.replace(job("one").task_groups[0], count=3)
    assert not commit(divided.state, RegisterJob(job=a_job(task_groups=[group]))).error
    divided.decide()
    assert len(set(divided.versions())) == 1 and divided.versions()[0] > 0
    stopped = msgspec.structs.replace(job("two"), stop=True)
    commit(divided.state, RegisterJob(job=stopped))
    divided.decide()
    assert len(set(divided.versions())) == 1


def test_who_waits_has_its_old_tasks_and_the_newest_counts(divided: Divided) -> None:
    group = msgspec.structs.replace(job("two").task_groups[0], count=6)
    commit(divided.state, RegisterJob(job=a_job(task_groups=[group])))
    divided.decide({C: {"g": ((2, 6),)}})
    assert divided.versions() == (1, 0)
    record = divided.state.jobs.get("default", "web")
    assert record is not None
    sent = job_for(divided.state, record, divided.home.part(C))
    (told,) = sent.task_groups or []
    assert (sent.version, told.count, told.tasks[0].config) == (0, 6, {"command": "one"})
