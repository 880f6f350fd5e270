"""When a failed instance gets another try, and what is remembered of the earlier ones."""

from typing import Final

from core.model.allocation import Allocation, RescheduleEvent, RescheduleTracker
from core.model.job import ReschedulePolicy

NS_PER_US: Final = 1_000
WINDOW_US: Final = 5_000_000  # a try due this soon is done now, as Nomad does
_EVENTS_KEPT: Final = 5  # with unlimited tries only the newest count for the delay


def failed_at_us(alloc: Allocation) -> int:
    """Return when the instance failed, wall-clock microseconds."""
    latest = 0
    for state in (alloc.task_states or {}).values():
        latest = max([latest, *(event.time_ns for event in state.events or [])])
    return (latest or alloc.modify_time_ns) // NS_PER_US


def next_try_us(policy: ReschedulePolicy | None, alloc: Allocation) -> int | None:
    """Return when `alloc` may be replaced, wall-clock microseconds; None when never.

    Args:
        policy: Of the group, canonical. None means no rescheduling (system jobs).
        alloc: The newest instance of its index, failed.
    """
    if policy is None:
        return None
    failed_us = failed_at_us(alloc)
    events = _events(alloc)
    if not policy.unlimited:
        attempts, interval_us = policy.attempts or 0, (policy.interval_ns or 0) // NS_PER_US
        since_us = failed_us - interval_us
        recent = sum(event.reschedule_time_ns // NS_PER_US > since_us for event in events)
        if attempts == 0 or recent >= attempts:
            return None
    return failed_us + _delay_us(policy, events, failed_us)


def next_tracker(
    policy: ReschedulePolicy, alloc: Allocation, node_id: str, now_us: int
) -> RescheduleTracker:
    """Return the tracker that the replacement of `alloc` carries."""
    events = _events(alloc)
    kept = max(_EVENTS_KEPT, policy.attempts or 0)
    event = RescheduleEvent(
        reschedule_time_ns=now_us * NS_PER_US,
        prev_alloc_id=alloc.id,
        prev_node_id=node_id,
        delay_ns=_delay_us(policy, events, failed_at_us(alloc)) * NS_PER_US,
    )
    return RescheduleTracker(events=[*events, event][-kept:], last_reschedule="ok")


def _delay_us(policy: ReschedulePolicy, events: list[RescheduleEvent], failed_us: int) -> int:
    base, ceiling = (policy.delay_ns or 0) // NS_PER_US, (policy.max_delay_ns or 0) // NS_PER_US
    function = policy.delay_function or "constant"
    if function == "constant" or not events:
        return base
    last_us = events[-1].delay_ns // NS_PER_US or base
    if function == "fibonacci":
        before_us = events[-2].delay_ns // NS_PER_US if len(events) > 1 else 0
        delay = last_us + before_us
    else:
        delay = last_us * 2
    if ceiling and delay >= ceiling:
        # An instance that held out for longer than the ceiling starts from the beginning.
        held_us = failed_us - events[-1].reschedule_time_ns // NS_PER_US
        return base if held_us > ceiling else ceiling
    return delay


def _events(alloc: Allocation) -> list[RescheduleEvent]:
    return (alloc.reschedule_tracker.events if alloc.reschedule_tracker else None) or []
