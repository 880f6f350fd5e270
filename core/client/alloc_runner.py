"""One allocation on this node: its tasks in their order, its services, its health.

The order, which is Nomad's:

    prestart tasks -> main tasks -> poststart tasks          as each stage is reached
    main tasks dead -> sidecars stopped -> poststop tasks    in the end

A prestart task must end well before the main tasks begin; a prestart sidecar must only
run. A task that failed for good takes its siblings with it; a dead leader ends the group.
Stopping goes leader first, then the main tasks, then sidecars; each stage waits for the
one before, so a log shipper sees the last line.

The client status reported is computed from the tasks, and is terminal only when every
task is dead: a place is free for others only when nobody holds it any more.
"""

from copy import copy
from typing import Any, Protocol

from core.client import task_events
from core.client.config import ClientConfig
from core.client.effects import CheckDone, PrepareAlloc, SaveState
from core.client.environment import TaskScope, merged_meta
from core.client.health import HealthRule, HealthWatch
from core.client.jobs import KeptJobs, group_of, payload_files, version_of
from core.client.outbox import Outbox, Timer
from core.client.restarts import RestartLimits
from core.client.saved import SavedAlloc, SavedTask, alloc_key, encode_alloc
from core.client.services import NO_SERVICES, AllocServices, NoServices
from core.client.task_order import (
    are_dead,
    are_done,
    first_to_end,
    has_run,
    is_past_prestart,
    is_sidecar,
    status_of,
)
from core.client.task_runner import Phase, Stage, TaskRunner, stage_of
from core.model.allocation import (
    Allocation,
    AllocDeploymentStatus,
    ClientStatus,
    TaskEvent,
    TaskState,
)
from core.model.job import Job, Task
from core.model.service import ServiceRegistration
from core.model.timestamp import rfc3339

ENDS_WELL = ("batch", "sysbatch")  # job types whose tasks are done after exit code 0


class AllocOwner(Protocol):
    """What an allocation tells the client."""

    def on_alloc_changed(self, alloc_id: str) -> None:
        """Something to report."""

    def is_held(self, alloc: Allocation) -> bool:
        """Whether it must wait; `release` is called once it need not."""

    def on_service_up(self, registration: ServiceRegistration) -> None: ...

    def on_service_down(self, registration_id: str) -> None: ...


class AllocRunner:
    """A node may hold many: what several allocations have in common is not kept here."""

    __slots__ = (
        "_box",
        "_config",
        "_health",
        "_is_advancing",
        "_is_held",
        "_jobs",
        "_node",
        "_owner",
        "_run_limit",
        "_services",
        "_stop_delay",
        "group",
        "saved",
        "tasks",
    )

    def __init__(
        self,
        box: Outbox,
        owner: AllocOwner,
        *,
        config: ClientConfig,
        node: dict[str, str],
        jobs: KeptJobs,
        saved: SavedAlloc,
        saved_tasks: dict[str, SavedTask],
    ) -> None:
        self._box = box
        self._owner = owner
        self._config = config
        self._node = node
        self._jobs = jobs
        self.saved = saved
        self.group = group_of(saved.alloc)
        self.tasks: dict[str, TaskRunner] = {}
        for task in self.group.tasks or ():
            self.tasks[task.name] = self._task_runner(task, saved_tasks.get(task.name))
        self._services = self._make_services()
        self._health: HealthWatch | None = None
        self._run_limit: Timer | None = None
        self._stop_delay: Timer | None = None
        self._is_advancing = False
        self._is_held = False  # nothing of it has begun: it waits for the one it replaces

    # --- what others may ask -----------------------------------------------------------

    @property
    def alloc(self) -> Allocation:
        return self.saved.alloc

    @property
    def is_finished(self) -> bool:
        return are_dead(self.tasks.values())

    @property
    def has_processes(self) -> bool:
        """Whether any task runs, or may run for all that is known."""
        return any(task.saved.may_run for task in self.tasks.values())

    @property
    def stops_when_cut_off_us(self) -> int:
        """After how long without an answer of a server it ends; 0: it runs on."""
        block = self.group.disconnect
        if block is not None:
            return (block.stop_on_client_after_ns or 0) // 1000
        return (self.group.stop_after_client_disconnect_ns or 0) // 1000

    def status(self) -> tuple[ClientStatus, str]:
        return status_of(self.tasks.values(), is_stopping=self.saved.is_stopping)

    def task_states(self) -> dict[str, TaskState]:
        """Return a copy that later events don't change (event lists are never changed)."""
        return {name: copy(task.state) for name, task in self.tasks.items()}

    def registrations(self) -> list[ServiceRegistration]:
        return self._services.registrations()

    def shown_checks(self) -> dict[str, Any]:
        return self._services.shown_checks()

    # --- what the client wants -----------------------------------------------------------

    def start(self) -> None:
        """Take in an allocation that never ran here."""
        wall_us = self._box.now.wall_us
        self._save()
        for task in self.tasks.values():
            task.note(task_events.received(wall_us))
        if not self.tasks:
            self._box.log("error", "allocation without tasks", alloc_id=self.alloc.id)
        self._prepare()
        self._owner.on_alloc_changed(self.alloc.id)

    def resume(self) -> None:
        """Take up again what the previous life of the agent left."""
        if self.saved.is_prepared:
            self._limit_run()  # before its tasks: what is over the limit starts none again
        for task in self.tasks.values():
            task.resume()
        self._services.resume(is_ending=self.saved.is_stopping)
        if self.is_finished:
            self._end_timers()
            return
        self._watch_health()
        if not self.saved.is_prepared:
            self._prepare()
            if self._is_held and self.saved.is_stopping:
                self._end_unbegun()
        elif self.saved.is_stopping:
            self._end_next()
        else:
            self._advance()

    def update(self, alloc: Allocation) -> None:
        """Take the server's newer version: a stop, or an update in place."""
        previous = self.alloc
        if alloc.job is None:
            alloc.job = previous.job
        self.saved.alloc = alloc
        if alloc.desired_status in ("stop", "evict"):
            self._save()  # it may be ending already, and has to be known as stopped
            self.stop()
            return
        if alloc.deployment_id != previous.deployment_id:
            self.saved.deployment_status = None
            self.saved.deployed_us = self._box.now.wall_us
        if version_of(alloc) != version_of(previous):
            self._update_in_place()
        self._save()
        if alloc.deployment_id != previous.deployment_id and not self.is_finished:
            self._watch_health()
            self._observe_health()

    def stop(self, *reasons: TaskEvent, now: bool = False) -> None:
        """End all tasks for good. `now` skips the group's shutdown delay."""
        if self.saved.is_stopping or self.is_finished:
            return
        self.saved.is_stopping = True
        self._save()
        self._services.take_out(None)
        for task in self.tasks.values():
            for reason in reasons:
                if not task.is_dead:
                    task.note(reason)
        is_hurried = now or bool(self.alloc.desired_transition.no_shutdown_delay)
        delay_us = (self.group.shutdown_delay_ns or 0) // 1000
        if self._is_held:
            self._end_unbegun()
        elif delay_us and self.has_processes and not is_hurried:
            self._stop_delay = self._box.after(delay_us, self._end_next)
        else:
            self._end_next()

    def release(self) -> None:
        """The allocation that this one replaces has ended."""
        if not self.saved.is_prepared and not self.is_finished:
            self._prepare()

    # --- what happened -----------------------------------------------------------------------

    def on_prepared(self, error: str) -> None:
        if self.saved.is_prepared or self.is_finished:
            return
        if error:
            for task in self.tasks.values():
                task.fail(task_events.setup_failure(self._box.now.wall_us, error))
            self._close()
            return
        self.saved.is_prepared = True
        self.saved.begun_us = self._box.now.wall_us
        self._save()
        self._watch_health()
        self._limit_run()
        if self.saved.is_stopping:
            self._end_next()
        else:
            self._advance()

    def on_check_done(self, event: CheckDone) -> None:
        self._services.on_check_done(event)

    def on_task_changed(self, task: TaskRunner) -> None:
        self._services.refresh(is_ending=self.saved.is_stopping)
        self._advance()
        self._observe_health()
        self._owner.on_alloc_changed(self.alloc.id)

    def on_task_leaving(self, task: TaskRunner) -> None:
        self._services.take_out(task)

    def on_service_up(self, registration: ServiceRegistration) -> None:
        self._owner.on_service_up(registration)

    def on_service_down(self, registration_id: str) -> None:
        self._owner.on_service_down(registration_id)

    def on_checks_changed(self) -> None:
        self._observe_health()

    def on_check_failing(self, tasks: list[TaskRunner], reason: str) -> None:
        for task in tasks:
            task.restart(reason, counts=True)

    # --- the order of tasks ----------------------------------------------------------------

    def _advance(self) -> None:
        """Start and end tasks until nothing more follows from where all of them stand."""
        if self._is_advancing or not self.saved.is_prepared:
            return  # a task that changes while we look is seen by the loop below
        self._is_advancing = True
        try:
            while self._step():
                pass
        finally:
            self._is_advancing = False
        if self.is_finished:
            self._close()

    def _step(self) -> bool:
        if self.saved.is_stopping:
            return False if self._stop_delay and self._stop_delay.is_pending else self._end_step()
        if self._follow_the_dead():
            return True
        mains = self._at(Stage.MAIN)
        if self._start_all(Stage.PRESTART):
            return True
        if is_past_prestart(self.tasks.values()):
            if self._start_all(Stage.MAIN):
                return True
            are_begun = bool(mains) and all(t.has_process or t.is_dead for t in mains)
            if are_begun and self._start_all(Stage.POSTSTART):
                return True
        return are_done(self.tasks.values()) and self._end_step()

    def _follow_the_dead(self) -> bool:
        """A failed task takes its siblings with it, a dead leader its followers."""
        wall_us = self._box.now.wall_us
        for name, task in self.tasks.items():
            if not task.is_dead:
                continue
            if task.state.failed and task.stage is not Stage.POSTSTOP:
                self._end_others(name, task_events.sibling_failed(wall_us, name))
                return True
            if task.task.leader:
                self._end_others(name, task_events.leader_dead(wall_us))
                return True
        return False

    def _end_others(self, cause: str, reason: TaskEvent) -> None:
        self.saved.is_stopping = True
        self._save()
        for name, task in self.tasks.items():
            if name != cause and not task.is_dead and task.stage is not Stage.POSTSTOP:
                task.note(reason)

    def _end_next(self) -> None:
        self._advance()
        self._owner.on_alloc_changed(self.alloc.id)

    def _end_unbegun(self) -> None:
        """End an allocation that still waits for another: there is nothing to wait for now."""
        for task in self.tasks.values():
            task.stop()
        self._close()
        self._owner.on_alloc_changed(self.alloc.id)

    def _end_step(self) -> bool:
        """End the next stage: leader, main tasks, sidecars; then run what cleans up."""
        stage = first_to_end(self.tasks.values())
        if not stage:
            return self._start_all(Stage.POSTSTOP)
        fresh = [task for task in stage if not task.saved.is_stopping]
        for task in fresh:
            if self.saved.is_stopping:
                task.stop()
            else:
                task.stop(task_events.main_tasks_dead(self._box.now.wall_us))
        return bool(fresh)

    def _start_all(self, stage: Stage) -> bool:
        waiting = [t for t in self.tasks.values() if t.phase is Phase.WAITING and t.stage is stage]
        if waiting and stage is Stage.POSTSTOP and not has_run(self.tasks.values()):
            for task in waiting:  # nothing ran: nothing to clean up after
                task.stop()
            return True
        for task in waiting:
            task.start()
        return bool(waiting)

    def _at(self, stage: Stage) -> list[TaskRunner]:
        return [task for task in self.tasks.values() if task.stage is stage]

    def _end_timers(self) -> None:
        for timer in (self._run_limit, self._stop_delay):
            if timer is not None:
                timer.cancel()

    def _close(self) -> None:
        self._end_timers()
        self._services.take_out(None)
        if self._health is not None:
            self._observe_health()  # perhaps the last word: then it is gone
            self._end_health()

    # --- health ----------------------------------------------------------------------------

    def _watch_health(self) -> None:
        self._end_health()
        status = self.saved.deployment_status
        is_decided = status is not None and status.healthy is not None
        if not is_decided and (rule := self._health_rule()) is not None:
            spent_us = max(self._box.now.wall_us - self.saved.deployed_us, 0)
            self._health = HealthWatch(self._box, rule, spent_us, self._on_health_decided)

    def _health_rule(self) -> HealthRule | None:
        job = self.alloc.job or Job()
        of_rollout = (self.group.update or job.update) if self.alloc.deployment_id else None
        policy = of_rollout or self.group.migrate
        return None if policy is None or job.type in ENDS_WELL else HealthRule.of(policy)

    def _end_health(self) -> None:
        if self._health is not None:
            self._health.end()
            self._health = None

    def _observe_health(self) -> None:
        if self._health is None:
            return
        mains = self._at(Stage.MAIN)
        self._health.observe(
            is_running=bool(mains) and all(task.is_running for task in mains),
            has_failed=any(task.state.failed for task in self.tasks.values() if task.is_dead),
            checks_pass=self._services.are_healthy,
        )

    def _on_health_decided(self, is_healthy: bool, reason: str) -> None:
        wall_us = self._box.now.wall_us
        given = self.alloc.deployment_status
        self.saved.deployment_status = AllocDeploymentStatus(
            healthy=is_healthy,
            timestamp=rfc3339(wall_us),
            canary=bool(given and given.canary),
        )
        self._health = None
        if reason:
            for task in self.tasks.values():
                task.note(task_events.unhealthy(wall_us, reason))
        self._save()
        self._owner.on_alloc_changed(self.alloc.id)

    # --- parts ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._is_held = self._owner.is_held(self.alloc)
        if self._is_held:
            return
        for task in self.tasks.values():
            task.note(task_events.setup(self._box.now.wall_us))
        files = payload_files(self.alloc, self.group)
        self._box.emit(PrepareAlloc(self.alloc.id, list(self.tasks), files))

    def _limit_run(self) -> None:
        limit_us = (self.group.max_run_duration_ns or 0) // 1000
        if limit_us > 0:
            begun_us = self.saved.begun_us or self.saved.received_us
            spent_us = max(self._box.now.wall_us - begun_us, 0)
            self._run_limit = self._box.after(max(limit_us - spent_us, 0), self._run_too_long)

    def _run_too_long(self) -> None:
        limit_us = (self.group.max_run_duration_ns or 0) // 1000
        self.stop(task_events.max_run_duration(self._box.now.wall_us, limit_us))

    def _update_in_place(self) -> None:
        """Swap what may change under a running task: services, restart and kill settings."""
        self._services.take_out(None)
        self.group = group_of(self.alloc)
        for task in self.group.tasks or ():
            runner = self.tasks.get(task.name)
            if runner is not None:
                runner.task = task
                runner.limits = self._limits(task)
        self._services = self._make_services()
        self._services.refresh(is_ending=self.saved.is_stopping)
        self._observe_health()  # its checks have no verdict yet

    def _task_runner(self, task: Task, saved: SavedTask | None) -> TaskRunner:
        return TaskRunner(
            self._box,
            self,
            alloc_id=self.alloc.id,
            task=task,
            limits=self._limits(task),
            max_kill_timeout_us=self._config.max_kill_timeout_us,
            saved=saved,
        )

    def _limits(self, task: Task) -> RestartLimits:
        job = self.alloc.job or Job()
        is_lasting = stage_of(task) is Stage.MAIN and job.type not in ENDS_WELL
        policy = task.restart_policy or self.group.restart_policy
        return RestartLimits.of(policy, restarts_on_success=is_lasting or is_sidecar(task))

    def meta_of(self, task: Task) -> dict[str, str]:
        return merged_meta(self.alloc.job, self.group, task)

    def scope_of(self, task_name: str) -> TaskScope:
        """Return a task's scope; of "" the group's, for services of the group."""
        task = next((task for task in self.group.tasks or () if task.name == task_name), Task())
        return TaskScope(self._config, self._node, self.alloc, self.group, task)

    def _make_services(self) -> AllocServices | NoServices:
        if not (self.group.services or any(task.services for task in self.group.tasks or ())):
            return NO_SERVICES
        return AllocServices(
            self._box,
            self,
            alloc=self.alloc,
            group=self.group,
            tasks=list(self.tasks.values()),
            main_tasks=self._at(Stage.MAIN),
            scope_of=self.scope_of,
            node_ip=self._node.get("attr.unique.network.ip-address", "127.0.0.1"),
        )

    def _save(self) -> None:
        self._jobs.hold(self.saved)
        self._box.emit(SaveState(alloc_key(self.alloc.id), encode_alloc(self.saved)))
