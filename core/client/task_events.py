"""Task events in Nomad's words: what `alloc status` shows of a task's life.

Each function makes one event at a moment, which nobody changes afterwards: allocations that
arrive and start together share theirs. Types and messages are those that Nomad's users and tools
know; the message is kept in `DisplayMessage`, the parts in `Details` and in the older fields of
their own.
"""

from functools import lru_cache
from typing import Final

from core.model.allocation import TaskEvent

MAX_EVENTS = 10  # per task; the oldest go first
_NO_DETAILS: Final[dict[str, str]] = {}  # of all events that have none; nobody changes it
_SETUP: Final = {"message": "Building Task Directory"}  # as well
_SHARED: Final = 16  # moments; all that happens at one follows at once

Us = int


def duration_text(us: int) -> str:
    """Return a duration as Go prints it: `1h2m3s`, `15.3s`, `250ms`, `0s`."""
    if us < 0:
        return "-" + duration_text(-us)
    if us == 0:
        return "0s"
    if us < 1000:
        return f"{us}µs"
    if us < 1_000_000:
        return f"{_decimal(us, 1000)}ms"
    minutes, rest_us = divmod(us, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest_us, 1_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


@lru_cache(_SHARED)
def received(wall_us: Us) -> TaskEvent:
    return _event("Received", wall_us, "Task received by client")


@lru_cache(_SHARED)
def setup(wall_us: Us) -> TaskEvent:
    event = _event("Task Setup", wall_us, _SETUP["message"])
    event.details, event.message = _SETUP, _SETUP["message"]
    return event


def setup_failure(wall_us: Us, reason: str) -> TaskEvent:
    event = _event("Setup Failure", wall_us, f"Failed to set up the allocation: {reason}")
    event.fails_task = True
    event.details = {"fails_task": "true", "setup_error": reason}
    return event


@lru_cache(_SHARED)
def started(wall_us: Us) -> TaskEvent:
    return _event("Started", wall_us, "Task started by client")


def driver_failure(wall_us: Us, reason: str) -> TaskEvent:
    event = _event("Driver Failure", wall_us, reason or "Failed to start task")
    event.driver_error = reason
    event.details = {"driver_error": reason}
    return event


def terminated(wall_us: Us, exit_code: int, signal: int, note: str, oom: bool) -> TaskEvent:
    parts = [f"Exit Code: {exit_code}"]
    if signal:
        parts.append(f"Signal: {signal}")
    if note:
        parts.append(f'Exit Message: "{note}"')
    event = _event("Terminated", wall_us, ", ".join(parts))
    event.exit_code = exit_code
    event.signal = signal
    event.message = note
    event.details = {
        "exit_code": str(exit_code),
        "signal": str(signal),
        "exit_message": note,
        "oom_killed": "true" if oom else "false",
    }
    return event


def restarting(wall_us: Us, delay_us: int, reason: str) -> TaskEvent:
    text = f"Task restarting in {duration_text(delay_us)}"
    if reason and reason != WITHIN_POLICY:
        text = f"{reason} - {text}"
    event = _event("Restarting", wall_us, text)
    event.restart_reason = reason
    event.start_delay_ns = delay_us * 1000
    event.details = {"restart_reason": reason, "start_delay": str(delay_us * 1000)}
    return event


def not_restarting(wall_us: Us, reason: str) -> TaskEvent:
    event = _event("Not Restarting", wall_us, reason or "Task exceeded restart policy")
    event.restart_reason = reason
    event.fails_task = True
    event.details = {"restart_reason": reason, "fails_task": "true"}
    return event


def killing(wall_us: Us, timeout_us: int, reason: str = "") -> TaskEvent:
    text = reason or (f"Sent interrupt. Waiting {duration_text(timeout_us)} before force killing")
    event = _event("Killing", wall_us, text)
    event.kill_timeout_ns = timeout_us * 1000
    event.details = {"kill_timeout": duration_text(timeout_us), "kill_reason": reason}
    return event


def killed(wall_us: Us) -> TaskEvent:
    return _event("Killed", wall_us, "Task successfully killed")


def waiting_to_stop(wall_us: Us, delay_us: int) -> TaskEvent:
    return _event(
        "Waiting for shutdown delay",
        wall_us,
        f"Waiting for shutdown_delay of {duration_text(delay_us)} before killing the task.",
    )


def restart_signaled(wall_us: Us, reason: str) -> TaskEvent:
    event = _event("Restart Signaled", wall_us, reason or "Task signaled to restart")
    event.restart_reason = reason
    event.details = {"restart_reason": reason}
    return event


def signaling(wall_us: Us, signal: str, reason: str) -> TaskEvent:
    text = f"Task being sent signal {signal}" + (f": {reason}" if reason else "")
    event = _event("Signaling", wall_us, text)
    event.details = {"signal": signal, "signal_reason": reason}
    return event


def sibling_failed(wall_us: Us, sibling: str) -> TaskEvent:
    event = _event("Sibling Task Failed", wall_us, f'Task\'s sibling "{sibling}" failed')
    event.details = {"failed_sibling": sibling}
    return event


def leader_dead(wall_us: Us) -> TaskEvent:
    return _event("Leader Task Dead", wall_us, "Leader Task in Group dead")


def main_tasks_dead(wall_us: Us) -> TaskEvent:
    return _event("Main Tasks Dead", wall_us, "Main tasks in the group died")


def cut_off(wall_us: Us, limit_us: int) -> TaskEvent:
    return _event(
        "Disconnected",
        wall_us,
        f"No server answered for {duration_text(limit_us)}, the group's stop_on_client_after",
    )


def max_run_duration(wall_us: Us, limit_us: int) -> TaskEvent:
    return _event(
        "Max Run Duration Exceeded",
        wall_us,
        f"Allocation ran longer than max_run_duration of {duration_text(limit_us)}",
    )


def unhealthy(wall_us: Us, reason: str) -> TaskEvent:
    return _event("Alloc Unhealthy", wall_us, reason, message=True)


WITHIN_POLICY = "Restart within policy"


def _event(type_: str, wall_us: Us, text: str, *, message: bool = False) -> TaskEvent:
    return TaskEvent(
        type=type_,
        time_ns=wall_us * 1000,
        display_message=text,
        details={"message": text} if message else _NO_DETAILS,
        message=text if message else "",
    )


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
