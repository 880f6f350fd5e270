"""The retry budget: a tenth of the traffic or two a second, whichever is more."""

from core.federation.budget import RetryBudget

S = 1_000_000


def granted(firsts_per_s: int, seconds: int) -> int:
    budget = RetryBudget()
    count = 0
    for second in range(seconds):
        for _ in range(firsts_per_s):
            budget.first("b", second * S)
        for _ in range(1_000):
            count += budget.may_retry("b", second * S)
    return count


def test_a_quiet_destination_gets_two_a_second_and_a_busy_one_a_tenth():
    assert abs(granted(1, 100) - 200) <= 12
    assert abs(granted(100, 100) - 1_000) <= 60


def test_destinations_have_accounts_of_their_own():
    budget = RetryBudget()
    while budget.may_retry("b", 0):
        pass
    assert budget.may_retry("c", 0)
    assert budget.may_retry("b", S) and budget.may_retry("b", S)
    assert not budget.may_retry("b", S), "two a second"
