"""The services of one allocation: registered while their tasks run, with their checks.

A task's service lives with its task. A group's lives while all main tasks run, or with the
one task that `service.task` names. A registration goes out the moment its task is told
to stop, before the shutdown delay: callers shall look elsewhere while it still answers.
"""

from collections.abc import Callable
from copy import copy
from typing import Any, Final, NamedTuple, Protocol

from core.client.checks import CRITICAL, PASSING, PENDING, PROBES, CheckRunner, CheckTarget
from core.client.effects import CheckDone
from core.client.environment import TaskScope, ports_of
from core.client.interpolation import interpolate
from core.client.outbox import Outbox
from core.client.task_runner import Phase, Stage, TaskRunner
from core.model.allocation import Allocation
from core.model.job import Service, ServiceCheck, TaskGroup
from core.model.service import ServiceRegistration


class ServiceOwner(Protocol):
    def on_service_up(self, registration: ServiceRegistration) -> None: ...

    def on_service_down(self, registration_id: str) -> None: ...

    def on_checks_changed(self) -> None: ...

    def on_check_failing(self, tasks: list[TaskRunner], reason: str) -> None: ...


class _Offer(NamedTuple):
    """A service as the job file has it, and whose it is."""

    service: Service
    owner: str  # task name; "" = the group's
    tasks: list[TaskRunner]  # that must run for it
    scope: TaskScope


class AllocServices:
    def __init__(
        self,
        box: Outbox,
        owner: ServiceOwner,
        *,
        alloc: Allocation,
        group: TaskGroup,
        tasks: list[TaskRunner],
        main_tasks: list[TaskRunner],
        scope_of: Callable[[str], TaskScope],
        node_ip: str,
    ) -> None:
        self._box = box
        self._owner = owner
        self._alloc = alloc
        self._group = group
        self._node_ip = node_ip
        self._checks: dict[str, CheckRunner] = {}
        self._entries: list[_Entry] = []
        by_name = {task.name: task for task in tasks}
        offers: list[_Offer] = []
        for service in group.services or ():
            needed = [by_name[service.task_name]] if service.task_name in by_name else main_tasks
            offers.append(_Offer(service, "", needed, scope_of("")))
        for task in tasks:
            for service in task.task.services or ():
                offers.append(_Offer(service, task.name, [task], scope_of(task.name)))
        for offer in offers:
            self._entries.append(self._entry(offer))

    def resume(self, *, is_ending: bool) -> None:
        """Begin as the previous life of the agent left them: perhaps registered."""
        for entry in self._entries:
            entry.is_left_over = True
        self.refresh(is_ending=is_ending)

    def refresh(self, *, is_ending: bool) -> None:
        """Register what may be called now, and take out what may not.

        Of an allocation that ends nothing is offered anew, but for what cleans up after it.
        """
        for entry in self._entries:
            wanted = bool(entry.tasks) and all(task.is_running for task in entry.tasks)
            if is_ending and not entry.is_up:
                wanted = wanted and all(task.stage is Stage.POSTSTOP for task in entry.tasks)
            if wanted and not entry.is_up:
                entry.is_up = True
                entry.is_left_over = False
                self._owner.on_service_up(entry.registration())
                for check in entry.checks:
                    check.begin()
            elif (entry.is_up and not wanted) or (entry.is_left_over and not entry.may_come_back):
                self._take_out(entry)

    def take_out(self, task: TaskRunner | None) -> None:
        """Take out a task's services, or all when `task` is None."""
        for entry in self._entries:
            is_known = entry.is_up or entry.is_left_over
            if is_known and (task is None or task in entry.tasks):
                self._take_out(entry)

    def on_check_done(self, event: CheckDone) -> None:
        check = self._checks.get(event.check_id)
        if check is not None:
            check.on_done(event)

    def on_check_changed(self, check: CheckRunner) -> None:
        for entry in self._entries:
            if check in entry.checks and entry.is_up:
                self._owner.on_service_up(entry.registration())
        self._owner.on_checks_changed()

    def on_check_failing(self, check: CheckRunner) -> None:
        for entry in self._entries:
            if check in entry.checks:
                name = check.check.name or entry.service.name
                chosen = [t for t in entry.tasks if check.check.task_name in ("", t.name)]
                self._owner.on_check_failing(chosen, f'healthcheck: check "{name}" unhealthy')
                return

    @property
    def are_healthy(self) -> bool:
        """Whether every check that counts for a rollout passes."""
        return all(
            check.is_passing
            for entry in self._entries
            for check in entry.checks
            if check.counts_for_health
        )

    def registrations(self) -> list[ServiceRegistration]:
        return [entry.registration() for entry in self._entries if entry.is_up]

    def shown_checks(self) -> dict[str, Any]:
        return {
            check.target.check_id: check.shown()
            for entry in self._entries
            for check in entry.checks
        }

    def _take_out(self, entry: "_Entry") -> None:
        entry.is_up = entry.is_left_over = False
        for check in entry.checks:
            check.end()
        self._owner.on_service_down(entry.id)

    def _entry(self, offer: _Offer) -> "_Entry":
        alloc, service, values = self._alloc, offer.service, offer.scope.values
        owner = offer.owner or f"group-{self._group.name}"
        name = interpolate(service.name, values) or "-".join(
            part for part in (alloc.job_id, self._group.name, offer.owner) if part
        )
        address, port = self._address(service, service.port_label, offer)
        is_canary = bool(alloc.deployment_status and alloc.deployment_status.canary)
        tags = service.canary_tags if is_canary and service.canary_tags else service.tags
        registration = ServiceRegistration(
            id=f"_nomad-task-{alloc.id}-{owner}-{name}-{service.port_label}",
            service_name=name,
            namespace=alloc.namespace,
            node_id=alloc.node_id,
            datacenter=values.get("node.datacenter", ""),
            job_id=alloc.job_id,
            alloc_id=alloc.id,
            tags=[interpolate(tag, values) for tag in tags or ()],
            address=address,
            port=port,
        )
        checks = []
        for number, check in enumerate(service.checks or ()):
            if check.type not in PROBES:
                self._box.log(
                    "warning",
                    "check not run: only http and tcp checks are",
                    alloc_id=alloc.id, service=name, type=check.type,
                )  # fmt: skip
                continue
            target = self._target(f"{alloc.id}/{owner}/{name}/{number}", name, check, offer)
            runner = CheckRunner(self._box, self, _with_defaults(check, service), target)
            checks.append(runner)
            self._checks[target.check_id] = runner
        return _Entry(service, offer.tasks, checks, registration)

    def _target(self, check_id: str, name: str, check: ServiceCheck, offer: _Offer) -> CheckTarget:
        values = offer.scope.values
        label = check.port_label or offer.service.port_label
        address, port = self._address(offer.service, label, offer)
        return CheckTarget(
            check_id=check_id,
            service=name,
            group=self._group.name,
            task=offer.owner,
            address=address,
            port=port,
            path=interpolate(check.path, values),
            headers={
                key: [interpolate(value, values) for value in items]
                for key, items in (check.header or {}).items()
            },
            body=interpolate(check.body, values),
        )

    def _address(self, service: Service, label: str, offer: _Offer) -> tuple[str, int]:
        """Return where a service listens: by port label, or a plain port number."""
        said = interpolate(service.address, offer.scope.values)
        text = interpolate(label, offer.scope.values)
        for port in ports_of(self._alloc, offer.owner):
            if port.label == text:
                host = port.host_ip if port.host_ip not in ("", "0.0.0.0", "::") else self._node_ip
                return said or host, port.value
        return said or self._node_ip, int(text) if text.isdecimal() else 0


class NoServices:
    """Of a group without any: one for all such allocations."""

    are_healthy = True

    def resume(self, *, is_ending: bool) -> None: ...

    def refresh(self, *, is_ending: bool) -> None: ...

    def take_out(self, task: TaskRunner | None) -> None: ...

    def on_check_done(self, event: CheckDone) -> None: ...

    def registrations(self) -> list[ServiceRegistration]:
        return []

    def shown_checks(self) -> dict[str, Any]:
        return {}


NO_SERVICES: Final = NoServices()


class _Entry:
    """One service of this allocation and its checks."""

    __slots__ = ("_registration", "checks", "is_left_over", "is_up", "service", "tasks")

    def __init__(
        self,
        service: Service,
        tasks: list[TaskRunner],
        checks: list[CheckRunner],
        registration: ServiceRegistration,
    ) -> None:
        self.service = service
        self.tasks = tasks
        self.checks = checks
        self.is_up = False
        self.is_left_over = False  # the servers may know it from the agent's previous life
        self._registration = registration

    @property
    def id(self) -> str:
        return self._registration.id

    @property
    def may_come_back(self) -> bool:
        """Whether it is not known yet if its tasks still live."""
        return any(task.phase is Phase.REATTACHING for task in self.tasks)

    def registration(self) -> ServiceRegistration:
        """Return the registration with the status of its checks now; a fresh copy."""
        states = [check.status for check in self.checks]
        status = PASSING
        if CRITICAL in states:
            status = CRITICAL
        elif PENDING in states:
            status = PENDING
        now = self._registration
        return ServiceRegistration(
            id=now.id, service_name=now.service_name, namespace=now.namespace,
            node_id=now.node_id, datacenter=now.datacenter, job_id=now.job_id,
            alloc_id=now.alloc_id, tags=now.tags, address=now.address, port=now.port,
            status=status,
        )  # fmt: skip


def _with_defaults(check: ServiceCheck, service: Service) -> ServiceCheck:
    """Let a check inherit what its service says for all: check_restart and on_update."""
    if check.check_restart is not None and check.on_update:
        return check
    merged = copy(check)
    merged.check_restart = check.check_restart or service.check_restart
    merged.on_update = check.on_update or service.on_update
    return merged
