"""A job by the clock, and what must be true of its launches.

The schedule is every so many seconds of UTC, so when a launch is due needs no reading of cron:
a multiple of the period. What is checked, of each launch and at rest:

    launched too early, too late   it comes when it is due, and once for each moment
    launched beside its last       not while the one before runs, where the job says so
    launched a stopped job         nor ever after the job was stopped
    launch missed                  no moment passes without one, but while nobody led
"""

import random
from collections import Counter
from typing import Any, Final

import msgspec

from core.jobspec import canonicalize
from core.model.child import PERIODIC
from core.model.job import EphemeralDisk, Job, PeriodicConfig, Resources, Task, TaskGroup
from core.state.commands import DeregisterJob, MarkLaunch, RegisterJob
from sim.scheduler.clients import Behaviour
from sim.scheduler.leader import S
from sim.scheduler.ledger import Ledger
from sim.seeds import Violation

NAME: Final = "cron"
_PERIODS_S: Final = (15, 20, 30)
_SLACK_US: Final = 8 * S  # entries are committed late, and nobody leads for a while


class Launches:
    """Follows one periodic job."""

    def __init__(self, rng: random.Random, ledger: Ledger, situations: Counter[str]) -> None:
        self._ledger, self._situations = ledger, situations
        self.period_us = rng.choice(_PERIODS_S) * S
        self._is_alone = rng.random() < 0.5
        self._since_us = 0  # of the last moment that was launched, or of the registration
        self._is_on = False
        self._was_led_us = 0  # since when somebody leads
        self._uid_of_last = ""
        seconds = self.period_us // S
        does = Behaviour(ends_after_us=rng.choice((2, 50)) * S)
        task = Task(
            name="task",
            driver="raw_exec",
            config=msgspec.to_builtins(does),
            resources=Resources(cpu=20, memory_mb=16),
        )
        group = TaskGroup(name="g", count=1, tasks=[task], ephemeral_disk=EphemeralDisk(size_mb=1))
        job = Job(
            id=NAME,
            name=NAME,
            namespace="default",
            type="batch",
            priority=rng.choice((20, 50)),
            datacenters=["*"],
            node_pool="all",
            periodic=PeriodicConfig(
                specs=[f"*/{seconds} * * * * * *"], prohibit_overlap=self._is_alone
            ),
            task_groups=[group],
        )
        self.job = canonicalize(job, region="r")

    def on_entry(self, commands: list[Any], wall_us: int) -> None:
        """Judge what an entry launched.

        Raises:
            Violation: It must not have done that.
        """
        for command in commands:
            if isinstance(command, DeregisterJob) and command.job_id == NAME:
                self._is_on = False
            elif isinstance(command, MarkLaunch):
                self._situations["launch forbidden by its last"] += len(commands) == 1
                if len(commands) == 1:
                    self._check_forbidden(wall_us)
            elif isinstance(command, RegisterJob) and command.job.id == NAME:
                self._is_on, self._since_us = True, wall_us
            elif isinstance(command, RegisterJob) and command.job.parent_id == NAME:
                self._launched(command.job, wall_us)

    def on_leader(self, wall_us: int) -> None:
        """Somebody leads again: what was missed is made good by one launch."""
        self._was_led_us = wall_us

    def check(self, wall_us: int) -> None:
        """Judge a moment at rest."""
        if self._is_on:
            self._check_missed(wall_us - self.period_us - _SLACK_US)

    def _launched(self, child: Job, wall_us: int) -> None:
        self._situations["periodic launch"] += 1
        name = child.id or ""
        moment_us = int(name.removeprefix(NAME + PERIODIC)) * S
        if not self._is_on:
            raise Violation("launched a stopped job", name)
        if moment_us > wall_us or moment_us % self.period_us or moment_us <= self._since_us:
            text = f"{name} at {wall_us}, every {self.period_us} from {self._since_us}"
            raise Violation("launched too early", text)
        if moment_us < max(wall_us, self._was_led_us) - _SLACK_US and (
            wall_us - self._was_led_us > _SLACK_US
        ):
            raise Violation("launched too late", f"{name} at {wall_us}")
        if self._is_alone and self._runs():
            raise Violation("launched beside its last", name)
        self._check_missed(moment_us - self.period_us)
        self._since_us = max(moment_us, wall_us)
        self._uid_of_last = name

    def _check_forbidden(self, wall_us: int) -> None:
        if not self._is_alone:
            raise Violation("launch missed", f"at {wall_us}, though overlap is allowed")
        self._since_us = wall_us

    def _check_missed(self, before_us: int) -> None:
        first_us = (self._since_us // self.period_us + 1) * self.period_us
        if first_us <= before_us and self._was_led_us < first_us:
            raise Violation("launch missed", f"of {first_us}, every {self.period_us}")

    def _runs(self) -> bool:
        return any(
            known.is_live and known.alloc.job_id == self._uid_of_last
            for known in self._ledger.known.values()
        )
