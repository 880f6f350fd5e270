"""What is sent again, when, and how often at most."""

import random

from hypothesis import given
from hypothesis import strategies as st

from core.federation.budget import RetryBudget
from core.federation.outbox import FIRST_US, MOST_US, Key, Outbox

KEY = Key("u", "0b")


def outbox() -> Outbox:
    return Outbox(random.Random(1), RetryBudget())


def test_it_is_sent_at_once_and_again_later_and_later_until_it_is_settled() -> None:
    one, now_us, waits = outbox(), 0, []
    one.put(KEY, 1, now_us)
    for _ in range(12):
        assert one.due(now_us) == [KEY]
        assert one.due(now_us) == [], "one at a time"
        one.returned(KEY, now_us)
        assert one.deadline_us is not None
        waits.append(one.deadline_us - now_us)
        now_us = one.deadline_us
    for place, wait_us in enumerate(waits):
        exact_us = min(MOST_US, FIRST_US << place)
        assert 0.75 * exact_us <= wait_us <= 1.25 * exact_us
    one.settle(KEY)
    assert one.deadline_us is None and not len(one)


def test_a_newer_share_goes_at_once_even_while_the_older_is_under_way() -> None:
    one = outbox()
    one.put(KEY, 1, 0)
    assert one.due(0) == [KEY]
    one.put(KEY, 2, 5)
    assert one.due(5) == [], "the older call first comes back"
    one.returned(KEY, 10)
    assert one.due(10) == [KEY]
    one.put(KEY, 1, 11)
    one.returned(KEY, 12)
    assert one.due(12) == [], "an older share does not push the newer aside"


def test_who_is_back_need_not_wait() -> None:
    one, now_us = outbox(), 0
    one.put(KEY, 1, 0)
    for _ in range(9):
        one.due(now_us)
        one.returned(KEY, now_us)
        now_us = one.deadline_us or 0
    now_us -= 1_000_000
    assert one.due(now_us) == []
    one.hurry("0c", now_us)
    assert one.due(now_us) == []
    one.hurry("0b", now_us)
    assert one.due(now_us) == [KEY]


@given(st.integers(1, 30))
def test_repeated_sends_to_one_destination_stay_within_their_budget(jobs: int) -> None:
    one, sends, now_us = outbox(), 0, 0
    for number in range(jobs):
        one.put(Key(str(number), "0b"), 1, 0)
    while now_us < 60_000_000:
        for key in one.due(now_us):
            sends += 1
            one.returned(key, now_us)
        now_us = max(now_us + 50_000, one.deadline_us or 0)
    burst = 5 * 2
    assert sends - jobs <= 2 * 60 + burst + jobs // 10 + 1
