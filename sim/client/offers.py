"""The services of one allocation, their checks, and its health in a rollout.

Registered while what offers it runs and nobody means to end it; a check is probed meanwhile,
on its interval, and its status follows so many results in a row. `check_restart` restarts
after `limit` failures in a row that came after `grace`. Healthy is who was well for
`min_healthy_time` without a break; unhealthy, who failed or was not by `healthy_deadline`.
"""

from dataclasses import dataclass, field
from typing import Final

from core.model.job import MigrateStrategy, Service, ServiceCheck, UpdateStrategy
from sim.client.lives import NEVER_US, SLACK_US, US, AllocLife, Phase

FIRST_PROBE_US: Final = 1_000_000


@dataclass(slots=True)
class Check:
    spec: ServiceCheck
    port: int
    status: str = "pending"
    passes: int = 0
    failures: int = 0
    counted: int = 0  # failures in a row after the grace
    is_out: bool = False  # a probe is under way
    soonest_us: int = 0
    next_us: int = NEVER_US  # latest

    @property
    def interval_us(self) -> int:
        return max(self.spec.interval_ns // US, FIRST_PROBE_US)


@dataclass(slots=True)
class Offer:
    """One service. `is_wanted` None: who ends with others may offer it until it is his turn."""

    service: Service
    needs: list[str]  # tasks
    checks: list[Check]
    is_wanted: bool | None = False
    changed_us: int = 0
    up_us: int = 0

    @property
    def status(self) -> str:
        states = {check.status for check in self.checks}
        return next((bad for bad in ("critical", "pending") if bad in states), "passing")


@dataclass(slots=True)
class Health:
    rule: UpdateStrategy | MigrateStrategy
    since_us: int  # the deployment reached the node
    spells: list[tuple[int, int | None]] = field(default_factory=list)  # when all was well

    @property
    def least_us(self) -> int:
        return (self.rule.min_healthy_time_ns or 0) // US

    @property
    def deadline_us(self) -> int:
        return self.since_us + (self.rule.healthy_deadline_ns or 0) // US

    def was_well_by(self, us: int, least_us: int) -> bool:
        """Whether it was well for so long without a break, up to that moment or before."""
        return any(
            min(us, end_us if end_us is not None else us) - from_us >= least_us
            for from_us, end_us in self.spells
        )


class Offers:
    def __init__(self, life: AllocLife, us: int) -> None:
        self._life = life
        self.offers: list[Offer] = []
        self.health: Health | None = None
        self.rebuild(us)
        self.deployed(us)

    # --- what the agent hears -----------------------------------------------------------------

    def rebuild(self, us: int) -> None:
        """Read the services anew: of a new version, or of an agent that began anew."""
        life = self._life
        mains = [task.name for task in life.mains]
        found = [
            (service, [service.task_name] if service.task_name else mains)
            for service in life.group.services or ()
        ]
        for task in life.group.tasks or ():
            found += [(service, [task.name]) for service in task.services or ()]
        self.offers = [
            Offer(service, needs, [
                Check(check, int(check.port_label), check.initial_status or "pending")
                for check in service.checks or ()
            ], changed_us=us)
            for service, needs in found
        ]  # fmt: skip

    def deployed(self, us: int) -> None:
        life = self._life
        of_rollout = (life.group.update or life.job.update) if life.alloc.deployment_id else None
        rule = of_rollout or life.group.migrate
        self.health = None
        if rule is not None and rule.health_check != "manual" and life.job.type != "batch":
            self.health = Health(rule, us)

    def settle(self, us: int) -> None:
        """Follow what the tasks do."""
        life = self._life
        if not self.offers and self.health is None:
            return
        for offer in self.offers:
            wanted: bool | None = all(life.tasks[name].is_running for name in offer.needs)
            if wanted and life.is_stopped:
                wanted = False
            elif wanted and (life.ending or life.may_be_cut_off):
                wanted = None
            if wanted == offer.is_wanted:
                continue
            if wanted is False or offer.is_wanted is False:
                offer.changed_us = us
            if wanted is False:
                for check in offer.checks:
                    check.is_out, check.next_us = False, NEVER_US
            elif offer.is_wanted is False:
                offer.up_us = us
                for check in offer.checks:
                    check.passes = check.failures = check.counted = 0
                    check.soonest_us = us
                    check.next_us = us + min(check.interval_us, FIRST_PROBE_US)
            offer.is_wanted = wanted
        if self.health is not None:
            self._follow_health(self.health, us)

    def _follow_health(self, health: Health, us: int) -> None:
        life = self._life
        is_well = all(task.is_running for task in life.mains)
        if is_well and health.rule.health_check != "task_states":
            is_well = all(c.status == "passing" for offer in self.offers for c in offer.checks)
        was_well = bool(health.spells) and health.spells[-1][1] is None
        if is_well and not was_well:
            health.spells.append((us, None))
        elif was_well and not is_well:
            health.spells[-1] = (health.spells[-1][0], us)

    def agent_begins(self, us: int) -> None:
        self.rebuild(us)

    def agent_ends(self, us: int) -> None:
        """Nobody watches its health any more."""
        if self.health is not None and self.health.spells:
            from_us, end_us = self.health.spells[-1]
            self.health.spells[-1] = (from_us, us if end_us is None else end_us)

    # --- checks ---------------------------------------------------------------------------------

    def find(self, port: int) -> tuple[Offer, Check] | None:
        for offer in self.offers:
            for check in offer.checks:
                if check.port == port:
                    return offer, check
        return None

    def probe(self, port: int, us: int) -> None:
        """The agent runs a check."""
        life, found = self._life, self.find(port)
        if life.is_loose:
            return
        if found is None or found[0].is_wanted is False:
            raise life.fault("checks", "", f"port {port} is probed though nobody offers it")
        check = found[1]
        if check.is_out or us < check.soonest_us:
            raise life.fault("checks", "", f"port {port} is probed before its interval")
        check.is_out, check.next_us = True, NEVER_US

    def probed(self, port: int, us: int, *, passes: bool) -> tuple[list[str], int]:
        """A result came. Return whom to restart for it, and how many results counted."""
        found = self.find(port)
        if found is None or not found[1].is_out:
            return [], 0
        offer, check = found
        spec = check.spec
        check.is_out, check.soonest_us = False, us + check.interval_us
        check.next_us = check.soonest_us
        if passes:
            check.passes, check.failures, check.counted = check.passes + 1, 0, 0
            if check.passes >= max(spec.success_before_passing, 1):
                self._turn(offer, check, "passing", us)
            return [], 0
        check.passes, check.failures = 0, check.failures + 1
        if check.failures >= max(spec.failures_before_critical, 1):
            self._turn(offer, check, "critical", us)
        policy = spec.check_restart
        if policy is None or policy.limit <= 0 or us < offer.up_us + (policy.grace_ns or 0) // US:
            return [], 0
        check.counted += 1
        if check.counted < policy.limit:
            return [], check.counted
        check.counted = 0
        return offer.needs, policy.limit

    def _turn(self, offer: Offer, check: Check, status: str, us: int) -> None:
        if check.status != status:
            check.status = status
            offer.changed_us = us

    def overdue(self) -> tuple[int, str, str, str]:
        first_us, port = NEVER_US, 0
        for offer in self.offers:
            if offer.is_wanted:
                for check in offer.checks:
                    if check.next_us < first_us:
                        first_us, port = check.next_us, check.port
        return first_us, "checks", "", f"port {port} is not probed"

    # --- what the servers see -------------------------------------------------------------------

    def judge_verdict(self, is_healthy: bool, us: int) -> None:
        """The agent said it at that moment, and says it to the servers."""
        life, health = self._life, self.health
        if life.is_loose:
            return
        if health is None:
            raise life.fault("health", "", "a verdict that nobody asked for")
        if is_healthy:
            if not health.was_well_by(us, health.least_us - 1):
                raise life.fault("healthy too early", "", f"at {us} us: {health.spells[-3:]}")
            return
        if any(task.failed for task in life.tasks.values()):
            return
        if us < health.deadline_us:
            raise life.fault("unhealthy too early", "", f"at {us}, due at {health.deadline_us}")
        if health.was_well_by(health.deadline_us, health.least_us + SLACK_US):
            raise life.fault("unhealthy though well", "", f"{health.spells}")

    def missing_verdict(self, us: int) -> str:
        """Return what should have been said by now, "" if nothing."""
        life, health = self._life, self.health
        if health is None or life.is_loose or life.ending or life.is_dead:
            return ""
        if health.was_well_by(us, health.least_us + SLACK_US):
            return "it was well for long enough"
        if us > max(health.deadline_us, life.boot_us) + SLACK_US and life.preparing == "done":
            return "its deadline is over"
        return ""

    @property
    def wanted(self) -> dict[str, Offer]:
        return {offer.service.name: offer for offer in self.offers}


def is_alive(life: AllocLife) -> bool:
    return any(task.phase is Phase.ALIVE for task in life.tasks.values())
