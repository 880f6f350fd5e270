"""The restart policy as it is documented, for the judges.

`attempts` restarts within `interval`, each after `delay` and up to a quarter more. Beyond them
mode "fail" ends the task as failed, and "delay" waits for the next interval. An interval begins
with the first end after the last one ran out. What ended well is started again when it is meant
to last (a service's or system job's main task, a sidecar), and is done otherwise.
"""

from dataclasses import dataclass
from typing import Final

from core.model.job import RestartPolicy, Task, TaskGroup

US: Final = 1_000  # nanoseconds


@dataclass(slots=True)
class Pause:
    """A restart is due between two moments, microseconds."""

    lo_us: int
    hi_us: int
    is_beyond: bool = False  # more than `attempts`: it waits for the next interval


@dataclass(slots=True)
class Tally:
    """Ends of one task in the present interval."""

    count: int = 0
    since_us: int | None = None

    def judge(
        self, policy: RestartPolicy, *, is_lasting: bool, went_well: bool, hopeless: bool, us: int
    ) -> "Pause | bool":
        """Return when it is started again; or, when it is not, whether it has failed."""
        if went_well and not is_lasting:
            return False
        attempts = policy.attempts or 0
        if attempts == 0:
            return not went_well
        if hopeless:
            return True
        interval_us = (policy.interval_ns or 0) // US
        if self.since_us is None or us >= self.since_us + interval_us:
            self.since_us, self.count = us, 0
        self.count += 1
        if self.count <= attempts:
            delay_us = (policy.delay_ns or 0) // US
            return Pause(us + delay_us, us + delay_us * 5 // 4)
        if policy.mode == "delay":
            next_us = self.since_us + interval_us
            return Pause(next_us, next_us, is_beyond=True)
        return True


def policy_of(task: Task, group: TaskGroup) -> RestartPolicy:
    policy = task.restart_policy or group.restart_policy
    assert policy is not None  # the groups drawn here all have one
    return policy


def is_lasting(task: Task, job_type: str) -> bool:
    if task.lifecycle is not None:
        return task.lifecycle.sidecar
    return job_type != "batch"
