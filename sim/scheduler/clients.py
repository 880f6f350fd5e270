"""The clients of a small datacenter: they run allocations and say what became of them.

What a task does is written in its config (`jobs.py`): when it runs, whether its checks
pass, how it ends. Health is decided by the shipped watch (core.client.health), and here
judged by a plain record of when everything was well. All talk goes through the shipped
calls of clients (`Node.Allocations`, `Node.FetchAllocations`, `Node.Update`), so a node
that is cut off is silent, and what it missed it hears when it is back.
"""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from core.client.health import HealthRule, HealthWatch
from core.client.outbox import Outbox
from core.model.allocation import (
    Allocation,
    AllocDeploymentStatus,
    ClientStatus,
    TaskEvent,
    TaskState,
    TaskStateName,
)
from core.model.host import FOREVER_US
from core.model.instant import rfc3339_of_ns
from core.model.node import Node
from core.state.commands import AllocUpdate
from sim.scheduler.leader import Leader, S
from sim.seeds import Violation

_RENEW_US = 25 * S
_ONCE = ("batch", "sysbatch")


class Behaviour(msgspec.Struct, frozen=True):
    """What a task does; the job's `config`."""

    start_us: int = 500_000
    well_after_us: int = 0  # checks pass so long after the start
    flaps: int = 0  # so often the checks fail for a moment
    ends_after_us: int = 0  # 0: runs on
    is_failing: bool = False  # ends in failure
    stop_us: int = 300_000


@dataclass
class Run:
    """One allocation on its node."""

    alloc: Allocation
    does: Behaviour
    began_us: int
    status: ClientStatus = ClientStatus.PENDING
    is_stopping: bool = False
    stop_index: int = 0
    is_well: bool = False
    well_since_us: int = 0
    watched_from_us: int = 0
    watch: HealthWatch | None = None
    said: AllocDeploymentStatus | None = None
    failed_us: int = 0
    is_told: bool = False

    @property
    def is_over(self) -> bool:
        return self.status.is_terminal


class Client:
    """One node's agent."""

    def __init__(
        self, leader: Leader, node: Node, rng: random.Random, situations: Counter[str]
    ) -> None:
        self.leader, self.node, self.rng, self.situations = leader, node, rng, situations
        self.runs: dict[str, Run] = {}
        self.is_up = True
        self.is_reachable = True
        self._known: dict[str, int] = {}
        self._box = Outbox(rng, leader.now)
        self._is_pulling = False
        self._is_reporting = False
        self._tick_us = FOREVER_US
        self._renew()

    @property
    def is_heard(self) -> bool:
        return self.is_up and self.is_reachable

    # --- the world's doing ----------------------------------------------------------------

    def crash(self) -> None:
        """The machine dies with all that runs on it."""
        self.is_up = False
        for run in self.runs.values():
            self._unwatch(run)

    def restart(self) -> None:
        """The machine is back; its tasks are not."""
        self.is_up = True
        self._box = Outbox(self.rng, self.leader.now)
        self._tick_us = FOREVER_US
        for run in [*self.runs.values()]:
            if run.status is ClientStatus.RUNNING and not run.is_over:
                self._end(run, is_failed=not run.is_stopping)
            elif not run.is_over:
                del self.runs[run.alloc.id]
                self._known.pop(run.alloc.id, None)
        self.reconnect()

    def reconnect(self) -> None:
        """The network is back: say all anew, hear what was missed."""
        self.is_reachable = True
        for run in self.runs.values():
            run.is_told = False
        self.pull_soon()
        self.leader.after(200_000, self._report)

    def register(self, node: Node) -> None:
        """Tell the server who this is; with other resources, too."""
        self.node = node
        if not self.is_heard:
            return

        def on_answer(body: Any, error: str) -> None:
            if error:
                self.leader.after(S, lambda: self.register(self.node))

        self.leader.call("Node.Register", {"node": node}, on_answer)

    def fail_one(self) -> bool:
        """Something that runs fails; False when nothing does."""
        running = [r for r in self.runs.values() if r.status is ClientStatus.RUNNING]
        running = [run for run in running if not run.is_stopping]
        if not running or not self.is_up:
            return False
        self._end(self.rng.choice(running), is_failed=True)
        return True

    # --- hearing --------------------------------------------------------------------------

    def pull_soon(self) -> None:
        if not self._is_pulling:
            self._is_pulling = True
            self.leader.after(self.rng.randint(2_000, 30_000), self._pull)

    def _renew(self) -> None:
        self.pull_soon()
        self.leader.after(_RENEW_US, self._renew)

    def _ask(self, method: str, then: Any, **body: Any) -> None:
        if not self.is_heard:
            return
        named = {"node_id": self.node.id, "secret_id": self.node.secret_id, **body}
        self.leader.call(method, named, then)

    def _pull(self) -> None:
        self._is_pulling = False
        self._ask("Node.Allocations", self._on_list, min_index=0, wait_us=0)

    def _on_list(self, body: Any, error: str) -> None:
        if error:
            return
        for key in [key for key in self.runs if key not in body["allocs"]]:
            self._unwatch(self.runs.pop(key))  # collected: whatever of it still runs ends
            self._known.pop(key, None)
        changed = [key for key, index in body["allocs"].items() if self._known.get(key) != index]
        if changed:
            self._known.update((key, body["allocs"][key]) for key in changed)
            self._ask("Node.FetchAllocations", self._on_allocs, ids=changed)

    def _on_allocs(self, body: Any, error: str) -> None:
        jobs = {} if error else {(job.namespace, job.id, job.version): job for job in body["jobs"]}
        for alloc in [] if error else body["allocs"]:
            alloc.job = jobs.get((alloc.namespace, alloc.job_id, alloc.job_version))
            run = self.runs.get(alloc.id)
            if run is not None:
                self._update(run, alloc)
                if alloc.client_status == "unknown":  # the servers missed us: say how it is
                    run.is_told = False
            elif alloc.client_status in ("complete", "failed", "lost"):
                continue
            elif alloc.desired_status == "run":
                self._take(alloc)
            else:
                self.runs[alloc.id] = Run(
                    alloc, Behaviour(), self.leader.mono_us, ClientStatus.COMPLETE
                )
        self._tick()
        self._report()

    def _take(self, alloc: Allocation) -> None:
        assert alloc.job is not None
        group = next(g for g in alloc.job.task_groups or [] if g.name == alloc.task_group)
        task = (group.tasks or [])[0]
        does = msgspec.convert(task.config or {}, Behaviour)
        run = self.runs[alloc.id] = Run(alloc, does, self.leader.mono_us)
        self._watch(run)
        self._start_when_free(run)

    def _update(self, run: Run, alloc: Allocation) -> None:
        before, run.alloc = run.alloc, alloc
        if alloc.job is None:
            alloc.job = before.job
        if alloc.desired_status != "run":
            if not run.is_stopping and not run.is_over:
                run.is_stopping, run.stop_index = True, alloc.alloc_modify_index
                delay_us = run.does.stop_us if run.status is ClientStatus.RUNNING else 0
                self.leader.after(delay_us, lambda: self._stopped(run))
        elif alloc.deployment_id != before.deployment_id:
            run.said, run.began_us = None, self.leader.mono_us
            self._watch(run)
            self._observe(run)

    # --- running ----------------------------------------------------------------------------

    def _start_when_free(self, run: Run) -> None:
        # Not before those have ended that made room for it (core.state.plan_check).
        if run.is_over or run.is_stopping or self.runs.get(run.alloc.id) is not run:
            return
        for other in self.runs.values():
            is_before = other.alloc.id == run.alloc.previous_allocation
            is_before |= other.is_stopping and other.stop_index == run.alloc.create_index
            if is_before and not other.is_over:
                self.leader.after(100_000, lambda: self._start_when_free(run))
                return
        self.leader.after(run.does.start_us, lambda: self._started(run))

    def _is_mine(self, run: Run) -> bool:
        return self.is_up and self.runs.get(run.alloc.id) is run and not run.is_over

    def _started(self, run: Run) -> None:
        if not self._is_mine(run) or run.is_stopping:
            return
        run.status = ClientStatus.RUNNING
        run.is_told = False
        does = run.does
        self._set_well(run, does.well_after_us == 0)
        if does.well_after_us:
            self.leader.after(does.well_after_us, lambda: self._set_well(run, True))
        for number in range(does.flaps):
            begin_us = does.well_after_us + (number + 1) * 2_300_000
            self.leader.after(begin_us, lambda: self._set_well(run, False))
            self.leader.after(begin_us + 900_000, lambda: self._set_well(run, True))
        if does.ends_after_us:
            self.leader.after(does.ends_after_us, lambda: self._ended(run))
        self._report()

    def _ended(self, run: Run) -> None:
        if self._is_mine(run) and not run.is_stopping:
            self._end(run, is_failed=run.does.is_failing)

    def _stopped(self, run: Run) -> None:
        if self._is_mine(run):
            self._end(run, is_failed=False)

    def _end(self, run: Run, *, is_failed: bool) -> None:
        run.status = ClientStatus.FAILED if is_failed else ClientStatus.COMPLETE
        run.is_well = False
        run.is_told = False
        if is_failed:
            run.failed_us = self.leader.wall_us
        self._observe(run)
        self._unwatch(run)
        self._report()

    def _set_well(self, run: Run, is_well: bool) -> None:
        if not self._is_mine(run) or run.status is not ClientStatus.RUNNING:
            return
        if is_well and not run.is_well:
            run.well_since_us = self.leader.mono_us
        run.is_well = is_well
        self._observe(run)

    # --- health -----------------------------------------------------------------------------

    def _watch(self, run: Run) -> None:
        self._unwatch(run)
        job = run.alloc.job
        assert job is not None
        group = next(g for g in job.task_groups or [] if g.name == run.alloc.task_group)
        if job.type in _ONCE or run.said is not None:
            return
        policy = (group.update or job.update if run.alloc.deployment_id else None) or group.migrate
        rule = HealthRule.of(policy) if policy is not None else None
        if rule is None:
            return
        run.watched_from_us = self.leader.mono_us
        self._box.now = self.leader.now
        spent_us = self.leader.mono_us - run.began_us
        run.watch = HealthWatch(
            self._box, rule, spent_us, lambda good, why: self._decided(run, rule, good)
        )
        self._arm()

    def _unwatch(self, run: Run) -> None:
        if run.watch is not None:
            run.watch.end()
            run.watch = None

    def _observe(self, run: Run) -> None:
        if run.watch is not None:
            self._box.now = self.leader.now
            run.watch.observe(
                is_running=run.status is ClientStatus.RUNNING,
                has_failed=run.status is ClientStatus.FAILED,
                checks_pass=run.is_well,
            )
            self._arm()

    def _decided(self, run: Run, rule: HealthRule, is_healthy: bool) -> None:
        now_us = self.leader.mono_us
        if is_healthy:
            since_us = max(run.well_since_us, run.watched_from_us)
            if not run.is_well or now_us - since_us < rule.min_healthy_us:
                raise Violation(
                    "healthy too early",
                    f"{run.alloc.name} was well for {(now_us - since_us) / S:g} s when it was "
                    f"called healthy, min_healthy_time is {rule.min_healthy_us / S:g} s",
                )
            self.situations["healthy only after a relapse"] += run.does.flaps > 0
        elif run.status is not ClientStatus.FAILED:
            if now_us < run.began_us + rule.deadline_us:
                raise Violation("unhealthy too early", f"{run.alloc.name} had time left")
            self.situations["unhealthy by its deadline"] += 1
        run.said = AllocDeploymentStatus(
            healthy=is_healthy, timestamp=rfc3339_of_ns(self.leader.wall_us * 1000)
        )
        run.is_told = False
        self._report()

    def _arm(self) -> None:
        due_us = self._box.deadline_us
        if due_us < self._tick_us:
            self._tick_us = due_us
            self.leader.after(max(0, due_us - self.leader.mono_us), self._tick)

    def _tick(self) -> None:
        self._tick_us = FOREVER_US
        if self.is_up:
            self._box.now = self.leader.now
            self._box.run_timers()
            self._arm()

    # --- telling ----------------------------------------------------------------------------

    def _report(self) -> None:
        if self._is_reporting or not self.is_heard:
            return
        news = [run for run in self.runs.values() if not run.is_told]
        if not news:
            return
        self._is_reporting = True
        told = [(run, run.status, run.said) for run in news]

        def on_answer(body: Any, error: str) -> None:
            self._is_reporting = False
            for run, status, said in told:
                if not error and (run.status, run.said) == (status, said):
                    run.is_told = True
            self.leader.after(1_000_000 if error else 0, self._report)

        updates = [_update_of(run) for run in news]
        self._ask("Node.Update", on_answer, updates=updates)
        if self.rng.random() < 0.1:
            self.leader.after(self.rng.randint(S, 20 * S), lambda: self._tell_late(updates))

    def _tell_late(self, updates: list[AllocUpdate]) -> None:
        """A copy of an old report arrives when what it speaks of has ended and said so."""
        old = [one for one in updates if not ClientStatus(one.client_status).is_terminal]
        known = [(one, self.runs.get(one.alloc_id)) for one in old]
        late = [one for one, run in known if run is not None and run.is_over and run.is_told]
        if late and self.is_heard:
            self.situations["old report came after the end"] += len(late)
            self._ask("Node.Update", lambda body, error: None, updates=late)


def _update_of(run: Run) -> AllocUpdate:
    job = run.alloc.job
    assert job is not None
    group = next(g for g in job.task_groups or [] if g.name == run.alloc.task_group)
    state = {
        ClientStatus.PENDING: TaskStateName.PENDING,
        ClientStatus.RUNNING: TaskStateName.RUNNING,
    }.get(run.status, TaskStateName.DEAD)
    is_failed = run.status is ClientStatus.FAILED
    events = [TaskEvent(type="Terminated", time_ns=run.failed_us * 1000)] if is_failed else None
    return AllocUpdate(
        alloc_id=run.alloc.id,
        client_status=run.status,
        task_states={
            task.name: TaskState(state=state, failed=is_failed, events=events)
            for task in group.tasks or []
        },
        deployment_status=run.said,
        deployment_id=run.alloc.deployment_id if run.said is not None else "",
    )
