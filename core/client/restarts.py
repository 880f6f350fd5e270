"""The restart policy: whether a task that ended is started again, and when.

Nomad's rules. An interval begins with the first exit after the last one ran out. Within
it at most `attempts` restarts, each after `delay` and up to a quarter more, so that tasks
which fell together don't rise together. Beyond that, mode "fail" gives up and "delay"
waits for the interval's end. A task that ended well is restarted when it is meant to run
for ever (a service, a sidecar), and is done otherwise.
"""

import random
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from core.client.task_events import WITHIN_POLICY, duration_text
from core.model.job import RestartPolicy

JITTER = 0.25

DELAYED = "Exceeded allowed attempts, applying a delay"
NO_RESTARTS = "Policy allows no restarts"
UNRECOVERABLE = "Error was unrecoverable"


class Outcome(Enum):
    """How a run ended, as far as the policy cares."""

    SUCCEEDED = "exit code 0"
    FAILED = "non-zero exit code, signal, or a start that may work next time"
    UNRECOVERABLE = "a start that can never work"


class Verdict(NamedTuple):
    is_restart: bool
    is_failure: bool  # of the task, when it is not restarted
    delay_us: int
    reason: str  # "" = it simply ended well


class RestartLimits(NamedTuple):
    attempts: int
    interval_us: int
    delay_us: int
    is_delay_mode: bool
    restarts_on_success: bool

    @classmethod
    def of(cls, policy: RestartPolicy | None, *, restarts_on_success: bool) -> "RestartLimits":
        """Read a job's policy; what it leaves open is Nomad's default of a service."""
        policy = policy or RestartPolicy()
        attempts = 2 if policy.attempts is None else policy.attempts
        interval_ns = 1800 * 10**9 if policy.interval_ns is None else policy.interval_ns
        delay_ns = 15 * 10**9 if policy.delay_ns is None else policy.delay_ns
        return _known(
            attempts,
            interval_ns // 1000,
            delay_ns // 1000,
            policy.mode == "delay",
            restarts_on_success,
        )


_known = lru_cache(maxsize=256)(RestartLimits)  # many tasks have the same few


class RestartHistory(msgspec.Struct):
    """Restarts of the current interval. Wall clock: it must survive the agent."""

    count: int = 0
    interval_start_us: int = -(1 << 62)


def decide(
    limits: RestartLimits,
    history: RestartHistory,
    outcome: Outcome,
    now_us: int,
    rng: random.Random,
) -> Verdict:
    """Return what happens to a task that ended, and count it in `history`.

    Args:
        limits: The policy.
        history: Changed in place when a restart is counted.
        outcome: How the run ended.
        now_us: Wall clock, microseconds.
        rng: For the jitter of the delay.
    """
    is_failure = outcome is not Outcome.SUCCEEDED
    if not is_failure and not limits.restarts_on_success:
        return Verdict(False, False, 0, "")
    if limits.attempts == 0:
        return Verdict(False, is_failure, 0, NO_RESTARTS)
    if outcome is Outcome.UNRECOVERABLE:
        return Verdict(False, True, 0, UNRECOVERABLE)
    interval_end_us = history.interval_start_us + limits.interval_us
    if now_us >= interval_end_us or now_us < history.interval_start_us:
        history.count = 0
        history.interval_start_us = now_us
        interval_end_us = now_us + limits.interval_us
    history.count += 1
    if history.count > limits.attempts:
        if not limits.is_delay_mode:
            reason = (
                f"Exceeded allowed attempts {limits.attempts} in interval "
                f'{duration_text(limits.interval_us)} and mode is "fail"'
            )
            return Verdict(False, True, 0, reason)
        return Verdict(True, is_failure, interval_end_us - now_us, DELAYED)
    jitter_us = int(rng.random() * JITTER * limits.delay_us)
    return Verdict(True, is_failure, limits.delay_us + jitter_us, WITHIN_POLICY)


def resumed_delay_us(limits: RestartLimits, history: RestartHistory, now_us: int) -> int:
    """Return how long a task still waits for its restart, after the agent's own.

    When it fell is not kept, so `delay` counts anew; but who has used up the attempts of the
    interval waits for its end.
    """
    if history.count <= limits.attempts:
        return limits.delay_us
    return max(history.interval_start_us + limits.interval_us - now_us, 0)
