"""The restart policy, as a table."""

import random

import pytest

from core.client.restarts import Outcome, RestartHistory, RestartLimits, decide
from core.client.task_events import duration_text
from core.model.job import RestartPolicy

S = 1_000_000
FAILED, SUCCEEDED, HOPELESS = Outcome.FAILED, Outcome.SUCCEEDED, Outcome.UNRECOVERABLE


def limits(
    attempts: int = 2, *, interval_s: int = 100, mode: str = "fail", lasting: bool = True
) -> RestartLimits:
    policy = RestartPolicy(
        attempts=attempts, interval_ns=interval_s * 10**9, delay_ns=10 * 10**9, mode=mode
    )
    return RestartLimits.of(policy, restarts_on_success=lasting)


@pytest.mark.parametrize(
    ("policy", "exits", "expected"),
    [
        # (outcome, at second) ...  -> restarted? ...
        pytest.param(limits(), [(FAILED, 0), (FAILED, 1), (FAILED, 2)], "yyn", id="attempts"),
        pytest.param(limits(), [(FAILED, 0), (FAILED, 1), (FAILED, 100)], "yyy", id="interval"),
        pytest.param(limits(), [(SUCCEEDED, 0)] * 3, "yyn", id="a service's success counts"),
        pytest.param(limits(lasting=False), [(SUCCEEDED, 0)], "n", id="batch ends well"),
        pytest.param(limits(lasting=False), [(FAILED, 0)], "y", id="batch fails"),
        pytest.param(limits(0), [(FAILED, 0)], "n", id="no restarts allowed"),
        pytest.param(limits(), [(HOPELESS, 0)], "n", id="a start that can't work"),
        pytest.param(limits(mode="delay"), [(FAILED, 0)] * 4, "yyyy", id="delay never gives up"),
        pytest.param(limits(), [(FAILED, 50), (FAILED, 0), (FAILED, 0)], "yyy", id="clock back"),
    ],
)
def test_who_is_restarted(
    policy: RestartLimits, exits: list[tuple[Outcome, int]], expected: str
) -> None:
    history = RestartHistory()
    rng = random.Random(1)
    found = [decide(policy, history, outcome, at * S, rng) for outcome, at in exits]
    assert "".join("y" if verdict.is_restart else "n" for verdict in found) == expected


def test_the_delay_is_jittered_by_up_to_a_quarter() -> None:
    policy, rng = limits(1000), random.Random(1)
    delays = [decide(policy, RestartHistory(), FAILED, 0, rng).delay_us for _ in range(200)]
    assert min(delays) >= 10 * S
    assert max(delays) <= 12.5 * S
    assert len(set(delays)) > 100


def test_delay_mode_waits_for_the_end_of_the_interval() -> None:
    policy, history, rng = limits(1, mode="delay"), RestartHistory(), random.Random(1)
    assert decide(policy, history, FAILED, 0, rng).delay_us < 13 * S
    assert decide(policy, history, FAILED, 30 * S, rng).delay_us == 70 * S
    assert decide(policy, history, FAILED, 100 * S, rng).delay_us < 13 * S


@pytest.mark.parametrize(
    ("outcome", "policy", "failure", "reason"),
    [
        (SUCCEEDED, limits(lasting=False), False, ""),
        (FAILED, limits(0), True, "Policy allows no restarts"),
        (HOPELESS, limits(), True, "Error was unrecoverable"),
    ],
)
def test_why_a_task_is_not_restarted(
    outcome: Outcome, policy: RestartLimits, failure: bool, reason: str
) -> None:
    verdict = decide(policy, RestartHistory(), outcome, 0, random.Random(1))
    assert (verdict.is_failure, verdict.reason) == (failure, reason)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0s"), (7, "7µs"), (1_500, "1.5ms"), (250_000, "250ms"), (15_300_000, "15.3s"),
        (60 * S, "1m0s"), (1800 * S, "30m0s"), (3723 * S, "1h2m3s"), (86_400 * S, "24h0m0s"),
        (-5 * S, "-5s"),
    ],
)  # fmt: skip
def test_durations_read_as_in_go(us: int, text: str) -> None:
    assert duration_text(us) == text
