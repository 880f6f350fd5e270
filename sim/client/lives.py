"""What one allocation was promised, from what its agent was told: order, restarts, ends.

An `AllocLife` hears what the agent hears (`given`, `started`, `exited`, ...) and what it does
(`start`, `signal`, ...). What it does must be permitted at that moment, and what is due must
have been done (`overdue`). The rules are those of Nomad's documentation:

    prestart tasks end well, their sidecars run, before main tasks begin
    main tasks run before poststart tasks begin; poststop tasks run when all others are dead
    a task that fails for good ends its siblings; a leader's end ends the group
    a group ends leader first, then its main tasks, then sidecars; each waits for those before
    a stop waits for the group's shutdown_delay, a task's own for its shutdown_delay;
    then comes the kill signal, and SIGKILL when kill_timeout has passed

`is_loose` is set when it can't be known from outside what the agent remembers: it was killed
before what it saved was on the disk. Then only what holds always is judged.
"""

from enum import Enum
from typing import Final

from core.model.allocation import Allocation
from core.model.job import Job, Task, TaskGroup
from sim.client.policy import Pause, Tally, is_lasting, policy_of
from sim.seeds import Violation

SLACK_US: Final = 100_000
NEVER_US: Final = 1 << 62
KILL_TIMEOUT_US: Final = 5_000_000
US: Final = 1_000  # nanoseconds


class Phase(Enum):
    WAITING = "waiting"
    ASKED = "asked to start"
    ALIVE = "alive"
    LOST = "alive when the agent ended"
    PAUSED = "waits for its restart"
    DEAD = "dead"


class TaskLife:
    """One task. Invariant: `signal_us` is of the present run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = task.name
        self.stage = task.lifecycle.hook if task.lifecycle else "main"
        self.is_sidecar = bool(task.lifecycle and task.lifecycle.sidecar)
        self.phase = Phase.WAITING
        self.attempt = 0
        self.failed = False
        self.tally = Tally()
        self.pause = Pause(0, 0)
        self.turn_us: int | None = None  # its first start is due
        self.is_ended = False  # for good
        self.is_restarting = False
        self.counts_restart = False
        self.end_lo_us = 0  # first kill signal, of who is to be ended or restarted
        self.end_hi_us = 0
        self.reason = ""
        self.signal_us: int | None = None
        self.kill_us = NEVER_US  # SIGKILL is due
        self.was_forced = False
        self.is_asked_after = False  # since the agent began

    @property
    def is_leaving(self) -> bool:
        return self.is_ended or self.is_restarting

    @property
    def is_running(self) -> bool:
        return self.phase is Phase.ALIVE and not self.is_leaving

    @property
    def shutdown_delay_us(self) -> int:
        return (self.task.shutdown_delay_ns or 0) // US

    def kill_timeout_us(self, most_us: int) -> int:
        asked_ns = self.task.kill_timeout_ns
        return min(KILL_TIMEOUT_US if asked_ns is None else asked_ns // US, most_us)

    def leave(self, lo_us: int, hi_us: int, reason: str) -> None:
        self.end_lo_us, self.end_hi_us, self.reason = lo_us, hi_us, reason

    def die(self, *, failed: bool) -> None:
        self.phase = Phase.DEAD
        self.failed = failed


class AllocLife:
    def __init__(self, alloc: Allocation, us: int, max_kill_us: int) -> None:
        self.alloc = alloc
        self.begun_us = us
        self.max_kill_us = max_kill_us
        self.job = alloc.job or Job()
        self.group: TaskGroup = (self.job.task_groups or [])[0]
        self.tasks = {task.name: TaskLife(task) for task in self.group.tasks or ()}
        self.preparing = ""  # "asked", "done"
        self.ending = ""  # why
        self.ending_us = 0  # from when on
        self.is_stopped = False  # as a whole: nothing of it is to be called any more
        self.is_loose = False
        self.boot_us = 0
        self.after_crash_us = 0  # how much later what is due may be, for the agent began anew
        block = self.group.disconnect
        self.cut_off_us = (block.stop_on_client_after_ns or 0) // US if block else 0
        self.edge_us: int | None = None  # it may end from then on, for it is cut off

    # --- what others ask ---------------------------------------------------------------------

    @property
    def is_dead(self) -> bool:
        return all(task.phase is Phase.DEAD for task in self.tasks.values())

    @property
    def has_failed(self) -> bool:
        return any(task.failed for task in self.tasks.values())

    @property
    def mains(self) -> list[TaskLife]:
        return [task for task in self.tasks.values() if task.stage == "main"]

    @property
    def may_be_cut_off(self) -> bool:
        return self.edge_us is not None and not self.ending

    def fault(self, checker: str, task: str, text: str) -> Violation:
        return Violation(checker, f"allocation {int(self.alloc.id[:8])}, {task or 'group'}: {text}")

    # --- what the agent hears ------------------------------------------------------------------

    def update(self, alloc: Allocation) -> None:
        """An update in place."""
        self.alloc = alloc
        self.job = alloc.job or self.job
        self.group = (self.job.task_groups or [])[0]
        for task in self.group.tasks or ():
            self.tasks[task.name].task = task

    def stop(self, us: int, reason: str, *, is_hurried: bool = False) -> None:
        """The allocation as a whole is to end."""
        if self.is_dead:
            return
        if not self.ending:
            self.is_stopped = True
            has_runs = any(
                task.phase in (Phase.ASKED, Phase.ALIVE, Phase.LOST) for task in self.tasks.values()
            )
            delay_us = (self.group.shutdown_delay_ns or 0) // US
            self._begin_end(reason, us + (delay_us if has_runs and not is_hurried else 0))
        self.settle(us)

    def prepared(self, error: str, us: int) -> None:
        if self.preparing == "done" or self.is_dead:
            return
        if error:
            for task in self.tasks.values():
                task.die(failed=True)
            return
        self.preparing, self.begun_us = "done", us
        self.settle(us)

    def started(self, name: str, us: int) -> None:
        task = self.tasks[name]
        was_lost, task.phase = task.phase is Phase.LOST, Phase.ALIVE
        if task.is_ended:
            hi_us = us + task.shutdown_delay_us
            task.leave(us if was_lost else hi_us, hi_us, task.reason)
        elif task.is_restarting:
            task.leave(us, us, task.reason)
        self.settle(us)

    def not_started(self, name: str, us: int, *, is_hopeless: bool) -> None:
        task = self.tasks[name]
        if task.is_ended:
            task.die(failed=False)
        elif task.phase is Phase.LOST:
            self._pause(task, Pause(us, us))
        else:
            self._go_on(task, went_well=False, us=us, is_hopeless=is_hopeless)
        self.settle(us)

    def exited(self, name: str, us: int, *, went_well: bool) -> None:
        task = self.tasks[name]
        task.signal_us, task.kill_us, task.was_forced = None, NEVER_US, False
        is_restarting, task.is_restarting = task.is_restarting, False
        if task.is_ended:
            task.die(failed=False)
        elif is_restarting and not task.counts_restart:
            self._pause(task, Pause(us, us))
        else:
            self._go_on(task, went_well=went_well and not is_restarting, us=us)
        self.settle(us)

    def restart(self, name: str, us: int, *, counts: bool) -> None:
        """A user or a check asks for it: only what runs, or waits to run, is touched."""
        task = self.tasks[name]
        if task.phase is Phase.PAUSED:
            task.pause = Pause(us, us)
        elif task.is_running:
            task.is_restarting, task.counts_restart = True, counts
            task.leave(us, us, "restart")

    def agent_begins(self, us: int) -> None:
        self.boot_us = us
        self.edge_us = None
        self.after_crash_us = (self.group.shutdown_delay_ns or 0) // US
        if self.preparing != "done":
            self.preparing = ""
        if self.ending:
            self.ending_us = min(self.ending_us, us)
        for task in self.tasks.values():
            if task.phase in (Phase.ASKED, Phase.ALIVE):
                task.phase, task.is_asked_after = Phase.LOST, False
                task.signal_us, task.kill_us, task.was_forced = None, NEVER_US, False
            elif task.phase is Phase.PAUSED:
                delay_ns = policy_of(task.task, self.group).delay_ns or 0
                task.pause.hi_us = max(task.pause.hi_us, us + delay_ns // US * 5 // 4)
        self.pass_time(us)

    def cut_off(self, silent_since_us: int, us: int) -> None:
        """Nobody has answered since then."""
        limit_us = self.cut_off_us
        if not limit_us or self.ending or self.is_dead:
            return
        if us - silent_since_us < limit_us:
            if self.edge_us is not None:  # answered again: what was not alive may have ended
                self.edge_us = None
                self.is_loose |= any(
                    task.phase not in (Phase.ALIVE, Phase.DEAD)
                    for task in self.tasks.values()
                    if task.stage != "poststop"
                )
            return
        self.edge_us = silent_since_us + limit_us
        if us > self.edge_us + limit_us // 6 + 50_000 + SLACK_US:
            self._end_cut_off(us)

    def _end_cut_off(self, us: int) -> None:
        self.is_stopped = True
        self._begin_end("cut off from the servers", min(us, self.edge_us or us))
        self.settle(us)

    def pass_time(self, us: int) -> None:
        limit_us = (self.group.max_run_duration_ns or 0) // US
        is_over = limit_us and us >= self.begun_us + limit_us and self.preparing == "done"
        if is_over and not self.is_dead:
            self.stop(us, "max_run_duration")
        if self.ending and us >= self.ending_us:
            self.settle(us)

    # --- what the agent does -------------------------------------------------------------------

    def start(self, name: str, attempt: int, us: int) -> None:
        task = self.tasks[name]
        problem = self._forbids(task, us)
        if problem and self.may_be_cut_off and not self.is_loose:
            self._end_cut_off(us)
            problem = self._forbids(task, us)
        if problem and not self.is_loose:
            raise self.fault(*problem)
        if attempt <= task.attempt and not self.is_loose:
            raise self.fault("two runs of one name", name, f"run {attempt} again")
        task.attempt, task.phase = attempt, Phase.ASKED

    def _forbids(self, task: TaskLife, us: int) -> tuple[str, str, str] | None:
        others = [one for one in self.tasks.values() if one is not task]
        if task.phase is Phase.PAUSED:
            if us < task.pause.lo_us:
                early_us = task.pause.lo_us - us
                return "restart policy", task.name, f"started {early_us} us too early"
            return None
        if task.phase is not Phase.WAITING:
            if task.phase is Phase.DEAD:
                return "restart policy", task.name, "started again though it is done"
            return "two runs", task.name, f"started while it is {task.phase.value}"
        if self.preparing != "done":
            return "hooks", task.name, "started before its folder was made"
        if task.stage == "poststop":
            living = [o for o in others if o.phase is not Phase.DEAD and o.stage != "poststop"]
            if living:
                return "hooks", task.name, f"cleans up while {living[0].name} is not dead"
        elif self.ending:
            return "hooks", task.name, f"started in a group that ends: {self.ending}"
        elif not self._has_turn(task):
            return "hooks", task.name, "started before its turn"
        return None

    def signal(self, name: str, signal: str, us: int) -> None:
        """A signal that no user asked for."""
        task = self.tasks[name]
        if self.may_be_cut_off and not task.is_leaving and not self.is_loose:
            self._end_cut_off(us)
        if task.signal_us is None:
            if not self.is_loose:
                self._judge_first_signal(task, signal, us)
            task.signal_us = us
            task.kill_us = us + task.kill_timeout_us(self.max_kill_us)
            return
        if signal != "SIGKILL":
            raise self.fault("kill signal", name, f"{signal} follows, not SIGKILL")
        if us < task.kill_us:
            early_us = task.kill_us - us
            raise self.fault("killed too early", name, f"SIGKILL {early_us} us early")
        task.was_forced = True

    def _judge_first_signal(self, task: TaskLife, signal: str, us: int) -> None:
        if not task.is_leaving:
            raise self.fault("ended without a cause", task.name, f"{signal} to a running task")
        if us < task.end_lo_us:
            early_us = task.end_lo_us - us
            text = f"{signal} {early_us} us before its shutdown delay was over"
            raise self.fault("shutdown delay", task.name, text)
        wanted = task.task.kill_signal or "SIGINT"
        if signal != wanted:
            raise self.fault("kill signal", task.name, f"{signal} and not {wanted}")

    # --- what follows ----------------------------------------------------------------------------

    def settle(self, us: int) -> None:
        while not self.is_loose and self._step(us):
            pass

    def _step(self, us: int) -> bool:
        tasks = self.tasks.values()
        if not self.ending:
            self._look_for_an_end(us)
        if self.ending and us >= self.ending_us:
            return self.preparing != "asked" and self._end_next(us)
        if not self.ending and self.preparing == "done":
            for task in tasks:
                if task.phase is Phase.WAITING and task.turn_us is None and self._has_turn(task):
                    # What runs beside the main tasks may wait for those that serve them, too.
                    if task.stage != "poststart" or self._are_set_up():
                        task.turn_us = us
        return False

    def _has_turn(self, task: TaskLife) -> bool:
        if task.stage == "prestart":
            return True
        if task.stage == "main":
            return self._are_set_up()
        if task.stage == "poststart":
            return all(one.phase in (Phase.ALIVE, Phase.DEAD) for one in self.mains)
        return False  # poststop: only in the end

    def _are_set_up(self) -> bool:
        return all(
            task.phase is (Phase.ALIVE if task.is_sidecar else Phase.DEAD)
            for task in self.tasks.values()
            if task.stage == "prestart"
        )

    def _look_for_an_end(self, us: int) -> None:
        living = []
        for task in self.tasks.values():
            if task.phase is not Phase.DEAD:
                living.append(task)
            elif task.failed and task.stage != "poststop":
                self._begin_end(f"{task.name} failed", us)
                return
            elif task.task.leader:
                self._begin_end("its leader is dead", us)
                return
        if all(task.phase is Phase.DEAD for task in self.mains):
            if not any(not one.is_sidecar and one.stage != "poststop" for one in living):
                self._begin_end("its main tasks are dead", us)

    def _begin_end(self, reason: str, us: int) -> None:
        self.ending, self.ending_us = reason, us

    def _end_next(self, us: int) -> bool:
        living = [
            task
            for task in self.tasks.values()
            if task.phase is not Phase.DEAD and task.stage != "poststop"
        ]
        leaders = [task for task in living if task.task.leader]
        turn = leaders or [task for task in living if not task.is_sidecar] or living
        if not turn:
            self._clean_up(us)
            return False
        has_changed = False
        for task in turn:
            if task.is_ended:
                continue
            has_changed = task.is_ended = True
            if task.phase in (Phase.WAITING, Phase.PAUSED):
                task.die(failed=False)
                continue
            task.reason = self.ending
            if task.phase is Phase.ALIVE and task.signal_us is None:
                lo_us = us + task.shutdown_delay_us
                task.leave(lo_us, max(lo_us, us), self.ending)
        return has_changed

    def _clean_up(self, us: int) -> None:
        has_run = any(task.attempt for task in self.tasks.values())
        for task in self.tasks.values():
            if task.phase is Phase.WAITING:
                if not has_run:
                    task.die(failed=False)
                elif task.turn_us is None:
                    task.turn_us = us

    def _go_on(
        self, task: TaskLife, *, went_well: bool, us: int, is_hopeless: bool = False
    ) -> None:
        policy = policy_of(task.task, self.group)
        lasts = is_lasting(task.task, self.job.type or "")
        verdict = task.tally.judge(
            policy, is_lasting=lasts, went_well=went_well, hopeless=is_hopeless, us=us
        )
        if isinstance(verdict, Pause):
            self._pause(task, verdict)
        else:
            task.die(failed=verdict)

    def _pause(self, task: TaskLife, pause: Pause) -> None:
        task.phase, task.pause = Phase.PAUSED, pause

    # --- what is due -----------------------------------------------------------------------------

    def overdue(self) -> tuple[int, str, str, str]:
        """Return what has to be done next: (by when, checker, task, what)."""
        first = (NEVER_US, "", "", "")
        if self.is_loose:
            return first
        least_us = self.boot_us + self.after_crash_us
        for task in self.tasks.values():
            phase = task.phase
            if phase is Phase.ALIVE:
                if not task.is_leaving or task.was_forced:
                    continue
                if task.signal_us is None:
                    due_us = max(task.end_hi_us, least_us)
                    duty = (due_us, "stopped late", task.name, f"not ended: {task.reason}")
                else:
                    duty = (task.kill_us, "stopped late", task.name, "no SIGKILL after the timeout")
            elif phase is Phase.PAUSED and not self.ending and not self.may_be_cut_off:
                due_us = max(task.pause.hi_us, self.boot_us)
                duty = (due_us, "restart policy", task.name, "not restarted in time")
            elif phase is Phase.WAITING and task.turn_us is not None and not self.may_be_cut_off:
                if self.ending and task.stage != "poststop":
                    continue
                due_us = max(task.turn_us, least_us)
                duty = (due_us, "hooks", task.name, f"{task.stage}: not started in its turn")
            elif phase is Phase.LOST and not task.is_asked_after:
                duty = (self.boot_us, "taken up", task.name, "not asked after")
            else:
                continue
            if duty[0] < first[0]:
                first = duty
        return first
