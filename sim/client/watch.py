"""Holds every effect, process and report of one node against what was promised.

The `World` tells what the agent hears before it hears it (`before`), what it asks for in turn
(`effect`), that it is done (`after`), and what the servers take in (`reported`). Each
allocation has an `AllocLife` and its `Offers`; here is what concerns several of them, the
servers and the agent's lives.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from core.client import effects as fx
from core.model.allocation import Allocation, ClientStatus
from core.model.host import Call, CallDone, Event, Now, Requested
from core.model.job import Job
from core.state.commands import AllocUpdate
from sim.client.jobs import PAYLOAD, WALL_US
from sim.client.lives import NEVER_US, SLACK_US, AllocLife, Phase
from sim.client.offers import Offers
from sim.client.registry import judge_taken_out
from sim.seeds import Violation

FINAL: Final = (ClientStatus.COMPLETE, ClientStatus.FAILED)


class Watch:
    def __init__(self, situations: Counter[str], max_kill_us: int) -> None:
        self.situations = situations
        self.lives: dict[str, AllocLife] = {}
        self.offers: dict[str, Offers] = {}
        self.before_them: dict[str, list[str]] = {}  # whom an allocation waits for
        self.final: dict[str, ClientStatus] = {}  # terminal reports the servers took
        self.destroyed: dict[str, None] = {}
        self.forgotten: set[str] = set()
        self.unstarted: set[str] = set()  # stopped before they came here
        self.trouble_us = 0  # last moment at which calls failed
        self.user_signal = ""  # of the request that the agent is handling
        self.alive: Callable[[str], list[Any]] = lambda _: []
        self.registered: Callable[[], dict[str, dict[str, Any]]] = dict
        self._max_kill_us = max_kill_us
        self.kept = 0
        self._answered_us = 0
        self._index = 0  # last one seen, in this life of the agent
        self._calls: dict[int, Call] = {}
        self._asked: dict[int, dict[str, int]] = {}  # what was listed when it was asked for
        self._ports: dict[str, int] = {}  # of probes under way, by check
        self._list: dict[str, int] = {}  # the servers' last one: index by allocation
        self._due: tuple[int, str, str, str, str] = (NEVER_US, "", "", "", "")
        self._touched: dict[str, None] = {}
        self.agent_lives = False
        self._is_shutting_down = False

    # --- the agent's lives -----------------------------------------------------------------

    def agent_begins(self, us: int) -> None:
        self.agent_lives, self._answered_us, self._index = True, us, 0
        self._calls.clear()
        self._asked.clear()
        self._list = {}
        self.trouble_us = us
        for alloc_id, life in self.lives.items():
            life.agent_begins(us)
            self.offers[alloc_id].agent_begins(us)
        self._touched = dict.fromkeys(self.lives)
        self._look_ahead()

    def agent_ends(self, us: int, unsure: set[str]) -> None:
        self.agent_lives = False
        self._is_shutting_down = False
        for offers in self.offers.values():
            offers.agent_ends(us)
        for alloc_id in sorted(unsure):
            if alloc_id in self.lives:
                self.destroyed.pop(alloc_id, None)  # its records may be there again
                self.lives[alloc_id].is_loose = True
                self.situations["agent forgot what it had not saved"] += 1
        # Who waited for one of these may know it no more.
        for alloc_id, before in self.before_them.items():
            if unsure.intersection(before) and alloc_id in self.lives:
                self.lives[alloc_id].is_loose = True

    def servers_restored(self, us: int) -> None:
        kept = self.outlast_a_restore()
        self.final = {one: end for one, end in self.final.items() if one in kept}
        self.call_fails(us)

    def cleans_up(self, alloc_id: str, task: str) -> bool:
        return self.lives[alloc_id].tasks[task].stage == "poststop"

    def call_fails(self, us: int) -> None:
        """A call of the agent fails, and it hears of that at `us`."""
        self.trouble_us = max(self.trouble_us, us)

    def outlast_a_restore(self) -> list[str]:
        """Return whose end is old enough to be in the state that is restored.

        What a client has destroyed it can't tell again, and it may destroy what it was told
        the servers know.
        """
        ended = self.final if self.kept < len(self.lives) else self.destroyed
        return [*ended, *sorted(self.unstarted)]

    # --- time --------------------------------------------------------------------------------

    def pass_time(self, us: int) -> None:
        if not self.agent_lives:
            return
        due_us, checker, alloc_id, task, text = self._due
        if us > due_us + SLACK_US:
            raise self.lives[alloc_id].fault(checker, task, f"{text}, due at {due_us} us")
        for alloc_id, life in self.lives.items():
            if life.ending or life.group.max_run_duration_ns:
                life.pass_time(us)
                self._touched[alloc_id] = None
            if life.cut_off_us:
                life.cut_off(self._answered_us, us)
                self._touched[alloc_id] = None

    def after(self, us: int) -> None:
        """The agent has handled an event."""
        self._release(us)
        if self._touched:
            for alloc_id in self._touched:
                self.offers[alloc_id].settle(us)
            self._touched = {}
            self._look_ahead()

    def _look_ahead(self) -> None:
        first: tuple[int, str, str, str, str] = (NEVER_US, "", "", "", "")
        for alloc_id, life in self.lives.items():
            for due_us, checker, task, text in (life.overdue(), self._overdue_offer(alloc_id)):
                if due_us < first[0]:
                    first = (due_us, checker, alloc_id, task, text)
        self._due = first

    def _overdue_offer(self, alloc_id: str) -> tuple[int, str, str, str]:
        life = self.lives[alloc_id]
        if life.is_loose or life.ending or life.may_be_cut_off:
            return NEVER_US, "", "", ""
        return self.offers[alloc_id].overdue()

    # --- what the agent hears ----------------------------------------------------------------

    def before(self, event: Event, now: Now) -> None:
        us = now.mono_us
        self.user_signal = ""
        kind = event.__class__
        if kind is CallDone:
            self._answered(event, us)  # type: ignore[arg-type]
        elif kind is Requested:
            self._requested(event, us)  # type: ignore[arg-type]
        elif kind is fx.CheckDone:
            self._probed(event, us)  # type: ignore[arg-type]
        elif kind is fx.ShutdownRequested:
            self._is_shutting_down = True
            if event.stop_tasks:  # type: ignore[attr-defined]
                for alloc_id in self.lives:
                    self._stop(alloc_id, us, "shutdown", is_hurried=True)
        else:
            self._heard(event, us)

    def _heard(self, event: Any, us: int) -> None:
        """Something of one allocation's tasks."""
        life = self.lives.get(getattr(event, "alloc_id", ""))
        if life is None:
            return
        kind = event.__class__
        self._touched[event.alloc_id] = None
        if kind is fx.AllocPrepared:
            life.prepared(event.error, us)
            return
        task = life.tasks[event.task]
        if event.attempt != task.attempt:
            return
        expects = task.phase in (Phase.ASKED, Phase.LOST)
        if kind is fx.TaskStarted and expects:
            life.started(event.task, us)
        elif kind is fx.TaskFailedToStart and expects:
            life.not_started(event.task, us, is_hopeless=not event.is_recoverable)
        elif kind is fx.TaskExited and (expects or task.phase is Phase.ALIVE):
            went_well = event.exit_code == 0 and not event.signal and not event.is_lost
            was_paused = task.tally.count
            life.exited(event.task, us, went_well=went_well)
            self._note_verdict(life, event.task, was_paused)

    def _note_verdict(self, life: AllocLife, name: str, before: int) -> None:
        task = life.tasks[name]
        if task.phase is Phase.PAUSED:
            beyond = task.pause.is_beyond
            self.situations["restart delayed to the interval's end" if beyond else "restart"] += 1
        elif task.failed:
            self.situations["failed for good"] += 1
            self.situations["attempts used up"] += task.tally.count > before > 0

    def _answered(self, event: CallDone, us: int) -> None:
        call = self._calls.pop(event.call_id, None)
        if event.error:
            return
        if call is None:
            return
        self._answered_us = us
        if call.method == "Node.Allocations":
            self._listed(event.body, us)
        elif call.method == "Node.Register":
            self._index = 0
        elif call.method == "Node.FetchAllocations":
            allocs = [msgspec.convert(one, Allocation) for one in event.body["allocs"]]
            jobs = {one["ID"]: one for one in event.body["jobs"]}
            for alloc in sorted(allocs, key=lambda one: one.desired_status == "run"):
                alloc.job = msgspec.convert(jobs[alloc.job_id], Job)
                # Of a leader that was behind the list is an older state: not acted on.
                if alloc.alloc_modify_index >= self._asked[event.call_id].get(alloc.id, 0):
                    self._given(alloc, us)

    def _listed(self, body: dict[str, Any], us: int) -> None:
        if body["index"] < self._index:
            self._index = 0
            self.situations["older list refused"] += 1
            return
        self._index = body["index"]
        self._list = body["allocs"] or self._list
        if body["allocs"] is None:
            return
        for alloc_id in self.lives:
            if alloc_id not in body["allocs"] and alloc_id not in self.forgotten:
                self.forgotten.add(alloc_id)
                self._stop(alloc_id, us, "the servers forgot it")

    def _given(self, alloc: Allocation, us: int) -> None:
        life = self.lives.get(alloc.id)
        if life is None:
            if self._is_shutting_down or alloc.client_status in ("complete", "failed", "lost"):
                return
            if alloc.desired_status != "run":
                self.unstarted.add(alloc.id)
                self.situations["stopped before it came"] += 1
                return
            self._begin(alloc, us)
            return
        self._touched[alloc.id] = None
        if alloc.alloc_modify_index == life.alloc.alloc_modify_index:
            return
        before, offers = life.alloc, self.offers[alloc.id]
        had_job = (life.job.version, life.job.job_modify_index)
        life.alloc = alloc
        if alloc.desired_status != "run":
            hurried = bool(alloc.desired_transition.no_shutdown_delay)
            self._stop(alloc.id, us, "the servers stop it", is_hurried=hurried)
            return
        if alloc.job is not None and (alloc.job.version, alloc.job.job_modify_index) != had_job:
            self.situations["updated in place"] += 1
            life.update(alloc)
            if not life.ending:
                offers.rebuild(us)
        if alloc.deployment_id != before.deployment_id:
            offers.deployed(us)

    def _begin(self, alloc: Allocation, us: int) -> None:
        life = self.lives[alloc.id] = AllocLife(alloc, us, self._max_kill_us)
        self.offers[alloc.id] = Offers(life, us)
        self._touched[alloc.id] = None
        stopped_with = [
            other.alloc.id
            for other in self.lives.values()
            if other.alloc.desired_status != "run"
            and other.alloc.alloc_modify_index == alloc.create_index
        ]
        before = [alloc.previous_allocation, *(alloc.preempted_allocations or ()), *stopped_with]
        self.before_them[alloc.id] = [one for one in before if one in self.lives]
        if any(not self.lives[one].is_dead for one in self.before_them[alloc.id]):
            self.situations["waited for its predecessor"] += 1
            if any(self.lives[one].is_loose for one in self.before_them[alloc.id]):
                life.is_loose = True

    def _release(self, us: int) -> None:
        """An allocation may begin once those have ended whose room it was given."""
        for alloc_id, life in self.lives.items():
            if life.preparing or life.is_loose or life.is_dead or life.ending:
                continue
            if alloc_id in self.destroyed or self._is_held(alloc_id):
                continue
            if not life.may_be_cut_off:
                raise life.fault("not begun", "", "nothing keeps it from being prepared")

    def _is_held(self, alloc_id: str) -> bool:
        return any(
            not self.lives[before].is_dead or self.lives[before].is_loose
            for before in self.before_them[alloc_id]
            if before not in self.destroyed
        )

    def _stop(self, alloc_id: str, us: int, reason: str, *, is_hurried: bool = False) -> None:
        self.lives[alloc_id].stop(us, reason, is_hurried=is_hurried)
        self._touched[alloc_id] = None

    def _requested(self, event: Requested, us: int) -> None:
        life = self.lives.get(event.body.get("alloc_id", ""))
        if life is None:
            return
        self._touched[life.alloc.id] = None
        if event.method == "Client.SignalTask":
            self.user_signal = event.body["signal"]
        elif event.method == "Client.RestartTask":
            chosen = [event.body["task"]] if event.body.get("task") else list(life.tasks)
            for name in chosen:
                life.restart(name, us, counts=False)

    def _probed(self, event: fx.CheckDone, us: int) -> None:
        alloc_id, port = _check_of(event.check_id), self._ports.pop(event.check_id, 0)
        if alloc_id not in self.lives:
            return
        life, offers = self.lives[alloc_id], self.offers[alloc_id]
        names, _ = offers.probed(port, us, passes=event.is_passing)
        self._touched[alloc_id] = None
        for name in names:
            if life.tasks[name].is_running:
                self.situations["check restarts its task"] += 1
                life.restart(name, us, counts=True)

    # --- what the agent does -------------------------------------------------------------------

    def effect(self, effect: Any, us: int) -> None:
        kind = effect.__class__
        if kind is Call:
            self._calls[effect.call_id] = effect
            if effect.method == "Node.FetchAllocations":
                self._asked[effect.call_id] = self._list
            return
        handler = _EFFECTS.get(kind)
        if handler is not None:
            handler(self, effect, us)

    def _prepare(self, effect: fx.PrepareAlloc, us: int) -> None:
        life = self._of(effect.alloc_id)
        for before in self.before_them[effect.alloc_id]:
            if self.alive(before):
                raise life.fault("predecessor", "", f"begun while {self.alive(before)[0]} lives")
            if not self.lives[before].is_dead and not self.lives[before].is_loose:
                if before not in self.destroyed:
                    raise life.fault("predecessor", "", f"begun before {before} has ended")
        if life.preparing and not life.is_loose:
            raise life.fault("not begun", "", "prepared twice")
        wanted = {
            task.task.name: {str((task.task.dispatch_payload or {})["File"]): PAYLOAD}
            for task in life.tasks.values()
            if task.task.dispatch_payload and life.job.payload
        }
        if effect.files != wanted:
            raise life.fault("payload", "", f"{sorted(effect.files)} and not {sorted(wanted)}")
        self.situations["dispatch payload"] += bool(wanted)
        life.preparing = "asked"

    def _start(self, effect: fx.StartTask, us: int) -> None:
        life = self._of(effect.alloc_id)
        for key in self.alive(effect.alloc_id):
            if key[1] == effect.task:
                raise life.fault("two processes", effect.task, f"run {key[2]} still lives")
        if effect.alloc_id in self.final:
            raise life.fault("terminal", effect.task, "started after its end was reported")
        life.start(effect.task, effect.attempt, us)
        self._touched[effect.alloc_id] = None

    def _reattach(self, effect: fx.ReattachTask, us: int) -> None:
        life = self._of(effect.alloc_id)
        task = life.tasks[effect.task]
        task.is_asked_after = True
        if life.is_loose:
            return
        if task.phase is not Phase.LOST or effect.attempt != task.attempt:
            raise life.fault("taken up", effect.task, f"run {effect.attempt} is asked after")

    def _signal(self, effect: fx.SignalTask, us: int) -> None:
        life = self._of(effect.alloc_id)
        self._touched[effect.alloc_id] = None
        if self.user_signal:
            if effect.signal != self.user_signal:
                raise life.fault("user's signal", effect.task, f"{effect.signal} is sent")
            self.situations["signal of a user"] += 1
            return
        task = life.tasks[effect.task]
        is_first = task.signal_us is None
        life.signal(effect.task, effect.signal, us)
        if not is_first:
            self.situations["killed by force"] += 1
        elif task.end_lo_us > us - SLACK_US and life.is_stopped and not life.is_loose:
            judge_taken_out(self, life, effect.task, us)

    def _check(self, effect: fx.RunCheck, us: int) -> None:
        alloc_id = _check_of(effect.check_id)
        self._ports[effect.check_id] = effect.port
        self.offers[alloc_id].probe(effect.port, us)
        self._touched[alloc_id] = None

    def _destroy(self, effect: fx.DestroyAlloc, us: int) -> None:
        life = self._of(effect.alloc_id)
        if self.alive(effect.alloc_id):
            raise life.fault("destroyed", "", f"{self.alive(effect.alloc_id)[0]} lives")
        if effect.alloc_id not in self.forgotten:
            if effect.alloc_id not in self.final:
                raise life.fault("destroyed", "", "no server knows of its end")
            ended = [one for one, it in self.lives.items() if it.is_dead or it.is_loose]
            if len([one for one in ended if one not in self.destroyed]) <= self.kept:
                raise life.fault("destroyed", "", f"only {len(ended)} have ended")
            self.situations["finished one destroyed at the limit"] += 1
        else:
            self.situations["forgotten one destroyed"] += 1
        self.destroyed[effect.alloc_id] = None

    def _of(self, alloc_id: str) -> AllocLife:
        life = self.lives.get(alloc_id)
        if life is None or alloc_id in self.destroyed:
            raise Violation("unknown", f"{alloc_id}: nobody asks for that allocation")
        return life

    # --- processes and reports --------------------------------------------------------------------

    def process_ended(self, key: tuple[str, str, int], us: int) -> None:
        if key[0] in self.lives:
            self._touched[key[0]] = None

    def reported(self, update: AllocUpdate, us: int) -> None:
        """The servers take a report in."""
        life = self.lives.get(update.alloc_id)
        status = ClientStatus(update.client_status)
        if life is None:
            if update.alloc_id not in self.unstarted:
                raise Violation("unknown", f"{update.alloc_id}: a report of what nobody gave")
            return
        before = self.final.get(update.alloc_id)
        if before is not None and status is not before:
            raise life.fault("end taken back", "", f"{before.name} becomes {status.name}")
        if status in FINAL:
            self._judge_end(life, status)
            self.final[update.alloc_id] = status
        verdict = update.deployment_status
        if verdict is not None and verdict.healthy is not None:
            self._judge_verdict(life, update)

    def _judge_end(self, life: AllocLife, status: ClientStatus) -> None:
        alive = self.alive(life.alloc.id)
        if alive:
            raise life.fault("terminal", "", f"{status.name} is reported while {alive[0]} lives")
        if life.is_loose or life.may_be_cut_off or (life.cut_off_us and not life.is_dead):
            return
        if not life.is_dead:
            left = {t.name: t.phase.value for t in life.tasks.values() if t.phase is not Phase.DEAD}
            raise life.fault("terminal", "", f"{status.name} is reported though {left}")
        if (status is ClientStatus.FAILED) != life.has_failed:
            raise life.fault("terminal", "", f"{status.name} is reported, failed={life.has_failed}")

    def _judge_verdict(self, life: AllocLife, update: AllocUpdate) -> None:
        status = update.deployment_status
        assert status is not None
        if update.deployment_id != life.alloc.deployment_id:
            return  # of the one before
        said = datetime.fromisoformat(status.timestamp)
        wall_us = int(said.timestamp()) * 1_000_000 + said.microsecond
        self.offers[life.alloc.id].judge_verdict(bool(status.healthy), wall_us - WALL_US)
        name = "healthy" if status.healthy else "unhealthy"
        self.situations[name] += 1


def _check_of(check_id: str) -> str:
    return check_id.partition("/")[0]


_EFFECTS: Final[dict[type, Callable[[Watch, Any, int], None]]] = {
    fx.PrepareAlloc: Watch._prepare,
    fx.StartTask: Watch._start,
    fx.ReattachTask: Watch._reattach,
    fx.SignalTask: Watch._signal,
    fx.RunCheck: Watch._check,
    fx.DestroyAlloc: Watch._destroy,
}
