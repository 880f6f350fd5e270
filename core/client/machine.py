"""`ClientMachine`: one node. It learns of allocations, runs them, and reports.

Theory of operation
-------------------
Allocations come in by `core.client.contact`'s chain of calls. Each gets an `AllocRunner`,
which holds one `TaskRunner` per task; they emit effects into the `Outbox` and hear of what
became of them through `handle`. Whatever changes is named to the `Reporter`, which sends
the present state until a server has acknowledged it.

Nothing here waits for the servers: without them tasks run on, are restarted, and end; the
servers hear of it when they are back; only a group with `stop_on_client_after` ends when
they stay away (`core.client.cutoff`). After a restart of the agent `ClientBoot` brings back
every allocation, and the first `handle` (of any event; `deadline_us` asks for a `Tick` at
once) emits a `ReattachTask` for each run that may still be alive, before any new one starts.

Invariants:
* A run is named by (allocation, task, attempt) and saved before its `StartTask`.
* An allocation whose previous one still has processes here waits for it.
* An allocation's folder is destroyed only when all its tasks are dead, and either the
  servers have forgotten it or have acknowledged its end.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from core.client.alloc_runner import AllocRunner
from core.client.config import ClientBoot, ClientConfig
from core.client.contact import ServerContact
from core.client.cutoff import CutOff
from core.client.effects import (
    AllocPrepared,
    CheckDone,
    DestroyAlloc,
    FileRead,
    SaveState,
    ShutdownComplete,
    ShutdownRequested,
    StatsRead,
    TaskExited,
    TaskFailedToStart,
    TaskStarted,
)
from core.client.environment import node_values
from core.client.jobs import KeptJobs
from core.client.measures import Measures, count
from core.client.membership import LanMembership
from core.client.outbox import Outbox, Timer
from core.client.reports import Reporter
from core.client.requests import Requests
from core.client.saved import SavedAlloc, SavedNode, SavedTask, alloc_key, recover, task_key
from core.client.wire import FetchAnswer, HelloAnswer, read
from core.model.allocation import Allocation, ClientStatus
from core.model.host import (
    CallDone,
    Effect,
    Event,
    GossipExchanged,
    GossipExchangeRequested,
    GossipReceived,
    Now,
    Requested,
    Tick,
)
from core.model.service import ServiceRegistration
from core.state.commands import AllocUpdate
from gossip.directory import Directory
from gossip.forming import Formation

MAX_FETCH = 256  # allocations of one call
TERMINAL = ("complete", "failed", "lost")


class ClientMachine:
    """Invariant: `now` of every part is that of the event being handled."""

    def __init__(
        self,
        *,
        config: ClientConfig,
        boot: ClientBoot,
        rng: random.Random,
        now: Now,
        directory: Directory | None = None,
        formation: Formation | None = None,
    ) -> None:
        self.config = config
        self.deadline_us = now.mono_us  # recovery and the first call begin at once
        self._box = Outbox(rng, now)
        recovered = recover(boot.saved)
        self._recovered = recovered
        self.contact = ServerContact(self._box, config, self, recovered.node)
        self.lan = LanMembership(self._box, config, boot.lan_members, directory, formation)
        self.reporter = Reporter(
            self._box,
            self.contact,
            config.timings.update_gather_us,
            self._update_of,
            self._on_end_acknowledged,
        )
        self._requests = Requests(self._box, self)
        self._cut_off = CutOff(self._box, self.contact, lambda: list(self.runners.values()))
        self._jobs = KeptJobs(self._box)
        self.runners: dict[str, AllocRunner] = {}
        self._node: dict[str, str] = {}
        self._known: dict[str, int] = {}  # modify index of what was fetched, by id
        self._wanted: dict[str, int] = {}  # to fetch
        self._asked: dict[str, int] = {}  # being fetched
        self._is_fetching = False
        self._fetch_failures = 0
        self._unstarted: dict[str, None] = {}  # stopped before they came here
        self._stopped: dict[str, None] = {}  # runners that the servers don't want any more
        self._held: dict[str, list[str]] = {}  # previous allocation -> those that wait for it
        self._ended: dict[str, bool] = {}  # finished, oldest first -> is it acknowledged
        self._gone: dict[str, ClientStatus] = {}  # how those ended that were destroyed here
        self._removed: dict[str, None] = {}  # the servers know them no more
        self._changed: dict[str, None] = {}  # in this `handle`: looked at when it ends
        self._has_begun = False
        self._farewell: Timer | None = None
        self._is_stopping = False

    @property
    def node_id(self) -> str:
        return self.contact.node.node_id if self.contact.node else ""

    @property
    def measures(self) -> Measures:
        """Return the counters, with the gauges brought up to date."""
        measures = self._box.measures
        measures.allocations = {status.name.lower(): 0 for status in ClientStatus}
        measures.tasks_running = 0
        for runner in self.runners.values():
            count(measures.allocations, runner.status()[0].name.lower())
            measures.tasks_running += sum(task.has_process for task in runner.tasks.values())
        measures.reports_waiting = self.reporter.waiting
        measures.contact_age_us = self._box.now.mono_us - self.contact.last_contact_us
        measures.read_gossip(self.lan.pools)
        return measures

    def handle(self, event: Event, now: Now) -> list[Effect]:
        box, lan = self._box, self.lan
        box.now = now
        if not self._has_begun:
            self._has_begun = True
            self._begin()
        handler = _HANDLERS.get(event.__class__)
        if handler is None:
            box.log("error", "a client takes no such event", event=type(event).__name__)
        else:
            handler(self, event)
        own_us = box.run_timers()
        if self._changed or self._is_stopping:
            self._settle()
            own_us = box.deadline_us
        if lan.server_addresses:
            self.contact.learn(lan.server_addresses)
            lan.server_addresses = []
            own_us = box.deadline_us
        lan_us = lan.deadline_us
        self.deadline_us = own_us if own_us < lan_us else lan_us
        return box.take()

    # --- beginning -----------------------------------------------------------------------

    def _begin(self) -> None:
        recovered = self._recovered
        for problem in recovered.problems:
            self._box.log("error", "a saved record is not readable and is ignored", record=problem)
        self._jobs.restore(recovered.jobs, [saved for saved, _ in recovered.allocs.values()])
        for alloc_id, (saved, tasks) in recovered.allocs.items():
            self._make_runner(saved, tasks)
            self.reporter.alloc_changed(alloc_id)
        for alloc_id, runner in list(self.runners.items()):
            runner.resume()
            self._changed[alloc_id] = None
        recovered.allocs, recovered.jobs = {}, {}
        self.contact.begin()

    def on_identity(self, node: SavedNode, hello: HelloAnswer) -> None:
        self.lan.join(node.node_id, node.datacenter_id, hello.lan_members)

    def on_contact_again(self) -> None:
        self.lan.rejoin()

    def may_change_identity(self) -> bool:
        return all(runner.is_finished for runner in self.runners.values())

    def on_registered(self) -> None:
        """The servers may have dropped what they held of us: tell all of it again."""
        for alloc_id, runner in self.runners.items():
            self.reporter.alloc_changed(alloc_id)
            for registration in runner.registrations():
                self.reporter.service_up(registration)
        self.reporter.flush()

    # --- allocations ---------------------------------------------------------------------

    def on_allocations(self, index: int, allocs: dict[str, int]) -> None:
        for alloc_id, modify_index in allocs.items():
            if self._known.get(alloc_id) != modify_index:
                self._wanted[alloc_id] = modify_index
        for alloc_id in [a for a in self._known if a not in allocs]:
            del self._known[alloc_id]
        for kept in (self._wanted, self._asked, self._gone):
            for alloc_id in [a for a in kept if a not in allocs]:
                kept.pop(alloc_id)
        for alloc_id in [a for a in self.runners if a not in allocs]:
            self._removed[alloc_id] = None
            self.runners[alloc_id].stop()
            self._changed[alloc_id] = None
        self._fetch()

    def _fetch(self) -> None:
        if self._is_fetching or not self._wanted or not self.contact.is_registered:
            return
        ids = list(self._wanted)[:MAX_FETCH]
        self._asked = {alloc_id: self._wanted.pop(alloc_id) for alloc_id in ids}
        self._is_fetching = True
        self.contact.ask("Node.FetchAllocations", {"ids": ids}, self._on_fetched)

    def _on_fetched(self, event: CallDone) -> None:
        self._is_fetching = False
        asked, self._asked = self._asked, {}
        answer, problem = (None, event.error) if event.error else read(event.body, FetchAnswer)
        if answer is None:
            self._box.log("warning", "allocations could not be fetched", error=problem)
            self._fetch_again(asked)
            return
        current: list[Allocation] = []
        for alloc in answer.allocs:  # by the id that the allocation itself holds
            if not 0 < alloc.alloc_modify_index < asked.get(alloc.id, 0):
                self._known[alloc.id] = asked.pop(alloc.id, 0)
                current.append(alloc)
        jobs = {(job.namespace, job.id, job.version): job for job in answer.jobs}
        for alloc in current:
            if alloc.job is None:
                alloc.job = jobs.get((alloc.namespace, alloc.job_id, alloc.job_version))
        # Stops first: what begins may have to wait for what ends.
        for alloc in sorted(current, key=lambda one: one.desired_status == "run"):
            self._take_in(alloc)
        if asked:  # this server is not as far as the list that named them
            self._fetch_again(asked)
        else:
            self._fetch_failures = 0
            self._fetch()

    def _fetch_again(self, asked: dict[str, int]) -> None:
        self._wanted = asked | self._wanted
        self._box.after(self.contact.pause_us(self._fetch_failures), self._fetch)
        self._fetch_failures += 1

    def _take_in(self, alloc: Allocation) -> None:
        runner = self.runners.get(alloc.id)
        if runner is not None:
            runner.update(alloc)
            self._note_whether_stopped(runner)
            if alloc.client_status == "unknown":  # the servers missed us: say how it is
                self.reporter.alloc_changed(alloc.id)
            self._cut_off.watch()
            return
        if alloc.client_status in TERMINAL or self._is_stopping:
            return
        if alloc.id in self._gone:  # it was read before they knew of its end: not once more
            self.reporter.alloc_changed(alloc.id)
            return
        if alloc.desired_status != "run":
            self._unstarted[alloc.id] = None
            self.reporter.alloc_changed(alloc.id)
            return
        now_us = self._box.now.wall_us
        saved = SavedAlloc(alloc=alloc, received_us=now_us, deployed_us=now_us)
        self._make_runner(saved, {}).start()

    def _make_runner(self, saved: SavedAlloc, tasks: dict[str, SavedTask]) -> AllocRunner:
        runner = AllocRunner(
            self._box,
            self,
            config=self.config,
            node=self._node_values(),
            jobs=self._jobs,
            saved=saved,
            saved_tasks=tasks,
        )
        self.runners[saved.alloc.id] = runner
        self._note_whether_stopped(runner)
        if runner.stops_when_cut_off_us:
            self._cut_off.watch()
        return runner

    def _note_whether_stopped(self, runner: AllocRunner) -> None:
        if runner.alloc.desired_status != "run":
            self._stopped[runner.alloc.id] = None
        else:
            self._stopped.pop(runner.alloc.id, None)

    def _node_values(self) -> dict[str, str]:
        """Return what jobs may ask of this node: one map, shared by all allocations."""
        if self._node.get("node.unique.id") != self.node_id:
            self._node = node_values(self.config, self.node_id)
        return self._node

    def is_held(self, alloc: Allocation) -> bool:
        """Whether it must wait until another has ended whose room it was given.

        That is the one it replaces, those that gave way to it, and those that were stopped
        by the entry that placed it: their room was free for it (core.state.plan_check).
        """
        for alloc_id in (
            alloc.previous_allocation,
            *(alloc.preempted_allocations or ()),
            *self._stopped_with(alloc),
        ):
            before = self.runners.get(alloc_id)
            if before is not None and not before.is_finished:
                self._held.setdefault(alloc_id, []).append(alloc.id)
                return True
        return False

    def _stopped_with(self, alloc: Allocation) -> list[str]:
        return [
            alloc_id
            for alloc_id in self._stopped
            if self.runners[alloc_id].alloc.alloc_modify_index == alloc.create_index > 0
        ]

    def on_alloc_changed(self, alloc_id: str) -> None:
        self.reporter.alloc_changed(alloc_id)
        self._changed[alloc_id] = None

    def on_service_up(self, registration: ServiceRegistration) -> None:
        self.reporter.service_up(registration)

    def on_service_down(self, registration_id: str) -> None:
        self.reporter.service_down(registration_id)

    def _update_of(self, alloc_id: str) -> AllocUpdate | None:
        runner = self.runners.get(alloc_id)
        if runner is None:
            end = ClientStatus.COMPLETE if alloc_id in self._unstarted else self._gone.get(alloc_id)
            return None if end is None else AllocUpdate(alloc_id=alloc_id, client_status=end)
        status, description = runner.status()
        return AllocUpdate(
            alloc_id=alloc_id,
            client_status=int(status),
            client_description=description,
            task_states=runner.task_states(),
            deployment_status=runner.saved.deployment_status,
            deployment_id=runner.alloc.deployment_id,
        )

    # --- the end of allocations ------------------------------------------------------------

    def _settle(self) -> None:
        """Look at what changed once all parts are done with it: it may be forgotten here."""
        while self._changed:
            changed, self._changed = self._changed, {}
            for alloc_id in changed:
                self._look_whether_ended(alloc_id)
        if self._is_stopping:
            self._look_whether_done()

    def _look_whether_ended(self, alloc_id: str) -> None:
        runner = self.runners.get(alloc_id)
        if runner is None or not runner.is_finished:
            return
        self._ended.setdefault(alloc_id, False)
        for waiting in self._held.pop(alloc_id, ()):
            if waiting in self.runners:
                self.runners[waiting].release()
        if alloc_id in self._removed and self._ended[alloc_id]:
            self._destroy(alloc_id)

    def _on_end_acknowledged(self, alloc_id: str) -> None:
        self._unstarted.pop(alloc_id, None)
        if alloc_id in self._ended:
            self._ended[alloc_id] = True
            if alloc_id in self._removed:  # that its services are gone is known, too
                self._destroy(alloc_id)
        surplus = len(self._ended) - self.config.max_terminal_allocs
        for ended in [a for a, is_known in self._ended.items() if is_known][: max(surplus, 0)]:
            self._destroy(ended)

    def _destroy(self, alloc_id: str) -> None:
        """Forget an ended allocation. The servers' record says that it ran."""
        runner = self.runners.pop(alloc_id)
        assert runner.is_finished
        if alloc_id not in self._removed:
            self._gone[alloc_id] = runner.status()[0]
        self._stopped.pop(alloc_id, None)
        self._ended.pop(alloc_id, None)
        self._removed.pop(alloc_id, None)
        for task in runner.tasks:
            self._box.emit(SaveState(task_key(alloc_id, task), None))
        self._box.emit(SaveState(alloc_key(alloc_id), None))
        self._jobs.release(runner.saved.job_key)
        self._box.emit(DestroyAlloc(alloc_id))

    # --- what the host tells -----------------------------------------------------------------

    def _on_tick(self, event: Tick) -> None:
        self.lan.tick()

    def _on_alloc_prepared(self, event: AllocPrepared) -> None:
        runner = self.runners.get(event.alloc_id)
        if runner is not None:
            runner.on_prepared(event.error)

    def _on_task_started(self, event: TaskStarted) -> None:
        runner = self.runners.get(event.alloc_id)
        if runner is not None and event.task in runner.tasks:
            runner.tasks[event.task].on_started(event)

    def _on_task_failed_to_start(self, event: TaskFailedToStart) -> None:
        runner = self.runners.get(event.alloc_id)
        if runner is not None and event.task in runner.tasks:
            runner.tasks[event.task].on_failed_to_start(event)

    def _on_task_exited(self, event: TaskExited) -> None:
        runner = self.runners.get(event.alloc_id)
        if runner is not None and event.task in runner.tasks:
            runner.tasks[event.task].on_exited(event)

    def _on_check_done(self, event: CheckDone) -> None:
        runner = self.runners.get(event.check_id.partition("/")[0])
        if runner is not None:
            runner.on_check_done(event)

    # --- shutdown --------------------------------------------------------------------------

    def _on_shutdown(self, event: ShutdownRequested) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        if not event.stop_tasks:
            self.reporter.flush()
            self._box.emit(ShutdownComplete())
            return
        self.lan.leave()
        for runner in list(self.runners.values()):
            runner.stop(now=True)
        timings = self.config.timings
        longest_us = self.config.max_kill_timeout_us + 5_000_000 + timings.farewell_us
        self._farewell = self._box.after(longest_us, self._say_goodbye)

    def _look_whether_done(self) -> None:
        if self._farewell is None or not self._farewell.is_pending:
            return
        if any(runner.has_processes for runner in self.runners.values()):
            return
        self._farewell.cancel()
        self.reporter.flush()
        if self.reporter.is_idle or not self.contact.is_registered:
            self._say_goodbye()
        else:
            self._farewell = None
            self._box.after(self.config.timings.farewell_us, self._say_goodbye)

    def _say_goodbye(self) -> None:
        self._box.emit(ShutdownComplete())


# Of packets, by far the most events of an idle node, the LAN membership hears first.
_HANDLERS: Final[dict[type[Event], Callable[[ClientMachine, Any], None]]] = {
    GossipReceived: lambda client, event: client.lan.on_packet(event),
    Tick: ClientMachine._on_tick,
    CallDone: lambda client, event: client._box.on_answer(event),
    Requested: lambda client, event: client._requests.on_requested(event),
    FileRead: lambda client, event: client._requests.on_file_read(event),
    StatsRead: lambda client, event: client._requests.on_stats_read(event),
    AllocPrepared: ClientMachine._on_alloc_prepared,
    TaskStarted: ClientMachine._on_task_started,
    TaskFailedToStart: ClientMachine._on_task_failed_to_start,
    TaskExited: ClientMachine._on_task_exited,
    CheckDone: ClientMachine._on_check_done,
    GossipExchangeRequested: lambda client, event: client.lan.on_exchange(event),
    GossipExchanged: lambda client, event: client.lan.on_exchange(event),
    ShutdownRequested: ClientMachine._on_shutdown,
}
