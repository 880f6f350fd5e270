"""The evaluation broker and the blocked evaluations."""

from core.model.evaluation import Evaluation
from core.model.host import FOREVER_US
from core.scheduler import BlockedEvaluations, EvaluationBroker
from core.scheduler.broker import ATTEMPTS_MAX, RETRY_FIRST_US


def _evaluation(name: str, job: str = "web", **fields: object) -> Evaluation:
    return Evaluation(id=name, job_id=job, **fields)  # type: ignore[arg-type]


def _ids(evaluations: list[Evaluation]) -> list[str]:
    return [evaluation.id for evaluation in evaluations]


def test_priority_first_then_age() -> None:
    broker = EvaluationBroker()
    broker.enqueue(_evaluation("late", "a", priority=50, create_index=9), 0)
    broker.enqueue(_evaluation("early", "b", priority=50, create_index=3), 0)
    broker.enqueue(_evaluation("urgent", "c", priority=90, create_index=10), 0)
    assert _ids(broker.dequeue(2, 0)) == ["urgent", "early"]
    assert _ids(broker.dequeue(9, 0)) == ["late"]


def test_one_evaluation_a_job_and_the_newest_follows() -> None:
    broker = EvaluationBroker()
    for number in (1, 2, 3):
        broker.enqueue(_evaluation(f"e{number}", create_index=number), 0)
    assert _ids(broker.dequeue(9, 0)) == ["e1"]
    assert _ids(broker.take_superseded()) == ["e2"] and broker.take_superseded() == []
    assert broker.dequeue(9, 0) == []
    broker.ack("e1")
    assert _ids(broker.dequeue(9, 0)) == ["e3"]


def test_the_same_name_in_another_namespace_is_another_job() -> None:
    broker = EvaluationBroker()
    broker.enqueue(_evaluation("one"), 0)
    broker.enqueue(_evaluation("other", namespace="team"), 0)
    assert len(broker.dequeue(9, 0)) == 2


def test_waits_for_its_time() -> None:
    broker = EvaluationBroker()
    broker.enqueue(_evaluation("later", wait_until_us=500), 100)
    assert broker.deadline_us == 500 and broker.dequeue(9, 499) == []
    assert _ids(broker.dequeue(9, 500)) == ["later"] and broker.deadline_us == FOREVER_US


def test_a_delayed_one_does_not_hold_up_its_job() -> None:
    broker = EvaluationBroker()
    broker.enqueue(_evaluation("later", wait_until_us=500), 0)
    broker.enqueue(_evaluation("now"), 0)
    assert _ids(broker.dequeue(9, 0)) == ["now"]
    assert broker.dequeue(9, 600) == []  # due, but the job is in flight
    broker.ack("now")
    assert _ids(broker.dequeue(9, 600)) == ["later"]


def test_a_failed_attempt_is_repeated_and_given_up_in_the_end() -> None:
    broker, now = EvaluationBroker(), 0
    broker.enqueue(_evaluation("bad"), now)
    for attempt in range(ATTEMPTS_MAX):
        assert _ids(broker.dequeue(9, now)) == ["bad"]
        broker.nack("bad", now)
        if attempt == 0:
            assert broker.deadline_us == RETRY_FIRST_US
        now = min(broker.deadline_us, 10**12)
    assert _ids(broker.take_failed()) == ["bad"] and broker.dequeue(9, now) == []


def test_woken_while_in_flight_runs_again_after_it() -> None:
    broker = EvaluationBroker()
    broker.enqueue(_evaluation("blocked"), 0)
    broker.dequeue(9, 0)
    broker.enqueue(_evaluation("blocked"), 0)
    assert broker.dequeue(9, 0) == []
    broker.ack("blocked")
    assert _ids(broker.dequeue(9, 0)) == ["blocked"]
    broker.ack("blocked")
    assert broker.dequeue(9, 0) == []


def test_taken_in_once_and_cancelled_for_good() -> None:
    broker = EvaluationBroker()
    for _ in range(2):
        broker.enqueue(_evaluation("one"), 0)
    broker.enqueue(_evaluation("two", create_index=5), 0)
    assert (broker.counts.ready, broker.counts.second) == (1, 1)
    broker.cancel("one")
    assert _ids(broker.dequeue(9, 0)) == ["two"]
    broker.ack("unknown")
    broker.clear()
    assert broker.counts.in_flight == 0 and broker.dequeue(9, 0) == []


def _blocked(name: str, job: str = "web", **fields: object) -> Evaluation:
    return _evaluation(name, job, snapshot_index=10, **fields)


def test_room_wakes_those_that_may_use_it() -> None:
    blocked = BlockedEvaluations()
    assert blocked.block(_blocked("yes", "a", class_eligibility={"big": True, "small": False}))
    assert blocked.block(_blocked("no", "b", class_eligibility={"big": False}))
    assert blocked.block(_blocked("any", "c", escaped_computed_class=True))
    assert _ids(blocked.unblock("big", 11)) == ["yes", "any"]
    assert _ids(blocked.unblock("unseen", 12)) == ["no"]  # a class it never looked at
    assert len(blocked) == 0


def test_room_that_appeared_while_planning_is_not_missed() -> None:
    blocked = BlockedEvaluations()
    blocked.unblock("big", 11)
    assert not blocked.block(_blocked("missed", class_eligibility={"big": True}))
    assert blocked.block(_blocked("other", class_eligibility={"big": False}))
    assert not blocked.block(_blocked("escaped", "c", escaped_computed_class=True))


def test_one_blocked_evaluation_a_job() -> None:
    blocked = BlockedEvaluations()
    blocked.block(_blocked("old", create_index=1))
    blocked.block(_blocked("new", create_index=2))
    assert _ids(blocked.take_duplicates()) == ["old"] and len(blocked) == 1
    woken = blocked.untrack("default", "web")
    assert woken is not None and woken.id == "new" and len(blocked) == 0


def test_one_that_ended_elsewhere_is_not_woken() -> None:
    blocked = BlockedEvaluations()
    blocked.block(_blocked("one"))
    blocked.cancel("one")
    assert blocked.unblock_all(11) == []


def test_any_change_of_capacity_wakes_all() -> None:
    blocked = BlockedEvaluations()
    blocked.block(_blocked("one", class_eligibility={"big": False}))
    assert _ids(blocked.unblock_all(11)) == ["one"]
