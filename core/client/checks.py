"""One check of a service: run on its interval, counted into passing or critical.

A check is `pending` until its first verdict, or what `initial_status` says. A verdict
changes only after `success_before_passing` or `failures_before_critical` results in a row;
both count beyond the first, as in Nomad: 0 or 1 means at once.
"""

from typing import Any, NamedTuple, Protocol

from core.client.effects import CheckDone, RunCheck
from core.client.measures import count
from core.client.outbox import Outbox, Timer
from core.model.job import CheckRestart, ServiceCheck

MIN_INTERVAL_US = 1_000_000
DEFAULT_INTERVAL_US = 10_000_000
DEFAULT_TIMEOUT_US = 3_000_000
MAX_OUTPUT_CHARS = 3_072
PROBES = ("http", "tcp")

PENDING = "pending"
PASSING = "passing"
CRITICAL = "critical"


class CheckTarget(NamedTuple):
    """Where and for whom a check runs; all strings interpolated."""

    check_id: str  # "ALLOC_ID/...": the machine finds the allocation by it
    service: str
    group: str
    task: str  # "" = of the group
    address: str
    port: int
    path: str
    headers: dict[str, list[str]]
    body: str


class CheckOwner(Protocol):
    def on_check_changed(self, check: "CheckRunner") -> None: ...

    def on_check_failing(self, check: "CheckRunner") -> None:
        """`check_restart` holds: the check failed too often in a row."""


class CheckRunner:
    def __init__(
        self, box: Outbox, owner: CheckOwner, check: ServiceCheck, target: CheckTarget
    ) -> None:
        self._box = box
        self._owner = owner
        self.check = check
        self.target = target
        self.status = check.initial_status or PENDING
        if self.status not in (PASSING, CRITICAL):
            self.status = PENDING
        self.output = ""
        self.status_code = 0
        self.changed_us = 0  # wall clock
        self._passes = 0
        self._failures = 0
        self._late_failures = 0  # in a row, of those that came after the grace
        self._armed_us = 0  # monotonic; check_restart counts from grace after this
        self._timer: Timer | None = None
        self._is_running = False

    def begin(self) -> None:
        """Start probing. The first probe comes soon: a rollout waits for it."""
        self._armed_us = self._box.now.mono_us
        self._passes = self._failures = self._late_failures = 0
        soon_us = min(self._interval_us, MIN_INTERVAL_US)
        self._timer = self._box.after(self._box.rng.randrange(1, soon_us), self._run)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_running = False

    @property
    def is_passing(self) -> bool:
        return self.status == PASSING

    @property
    def counts_for_health(self) -> bool:
        return self.check.on_update not in ("ignore", "ignore_warnings")

    def on_done(self, event: CheckDone) -> None:
        if not self._is_running:
            return  # it was ended meanwhile
        self._is_running = False
        count(self._box.measures.checks, "passing" if event.is_passing else "failing")
        self._timer = self._box.after(self._interval_us, self._run)
        self.output = event.output[:MAX_OUTPUT_CHARS]
        self.status_code = event.status_code
        self.changed_us = self._box.now.wall_us
        if event.is_passing:
            self._passes += 1
            self._failures = self._late_failures = 0
            if self._passes >= max(self.check.success_before_passing, 1):
                self._set_status(PASSING)
        else:
            self._failures += 1
            self._passes = 0
            if self._failures >= max(self.check.failures_before_critical, 1):
                self._set_status(CRITICAL)
            if self._is_beyond_restart_limit(self.check.check_restart):
                self._late_failures = 0
                self._owner.on_check_failing(self)

    def shown(self) -> dict[str, Any]:
        """Return the check in the form of Nomad's `/v1/client/allocation/:id/checks`."""
        return {
            "ID": self.target.check_id,
            "Mode": "healthiness",
            "Status": {PASSING: "success", CRITICAL: "failure"}.get(self.status, PENDING),
            "StatusCode": self.status_code,
            "Output": self.output,
            "Timestamp": self.changed_us // 1_000_000,
            "Group": self.target.group,
            "Task": self.target.task,
            "Service": self.target.service,
            "Check": self.check.name or f"service: {self.target.service} check",
        }

    @property
    def _interval_us(self) -> int:
        return max(self.check.interval_ns // 1000 or DEFAULT_INTERVAL_US, MIN_INTERVAL_US)

    def _is_beyond_restart_limit(self, policy: CheckRestart | None) -> bool:
        if policy is None or policy.limit <= 0:
            return False
        grace_ns = 10**9 if policy.grace_ns is None else policy.grace_ns
        if self._box.now.mono_us < self._armed_us + grace_ns // 1000:
            return False  # it may still be starting: that failure is none
        self._late_failures += 1
        return self._late_failures >= policy.limit

    def _set_status(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self._owner.on_check_changed(self)

    def _run(self) -> None:
        self._is_running = True
        target = self.target
        self._box.emit(RunCheck(
            check_id=target.check_id,
            probe=self.check.type,
            address=target.address,
            port=target.port,
            path=target.path or "/",
            method=self.check.method or "GET",
            protocol=self.check.protocol or "http",
            headers=target.headers,
            body=target.body,
            tls_skip_verify=self.check.tls_skip_verify,
            timeout_us=self.check.timeout_ns // 1000 or DEFAULT_TIMEOUT_US,
        ))  # fmt: skip
