"""What users and servers do with one node, and what goes wrong there."""

import random
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Final

import msgspec

from core.client import effects as fx
from core.model.allocation import Allocation, DesiredTransition
from core.model.host import CallDone, Event, Requested
from sim.client.jobs import NS, SIGNALS, Placed, S, draw
from sim.client.registry import TROUBLE_US, look_at_services
from sim.client.rest import judge_rest
from sim.client.watch import Watch
from sim.client.world import World
from sim.seeds import Violation

FIRST: Final = (2, 4)  # allocations to begin with
ACTIONS: Final = (8, 16)
PAUSES_US: Final = ((5_000, 300_000), (300_000, 3 * S), (S, 8 * S))
SETTLE_US: Final = 12 * S
END_US: Final = 30 * S  # kill timeouts and delays of all stages
FAREWELL_US: Final = 6 * S  # beyond the longest kill timeout, for an agent that ends


class Story:
    def __init__(self, seed: int, *, has_faults: bool) -> None:
        self.faults: Counter[str] = Counter()
        self.situations: Counter[str] = Counter()
        self.acknowledged = 0
        self.rng = rng = random.Random(f"client {seed}")
        self.has_faults = has_faults
        self._number = 0
        self._requests = 1_000
        self._placed: dict[str, Placed] = {}
        self.watch = Watch(self.situations, 4 * S)
        self.world = World(rng, self.watch, (self.faults, self.situations))
        self.watch.kept = self.world.config.max_terminal_allocs
        self.watch.alive = self.world.alive
        self.watch.registered = lambda: self.world.servers.services

    def play(self) -> None:
        rng, world = self.rng, self.world
        if self.has_faults and rng.random() < 0.4:
            world.repeats = 0.1
        world.boot()
        for _ in range(rng.randint(*FIRST)):
            self._place()
        world.run(rng.randrange(100_000, 3 * S))
        for _ in range(rng.randint(*ACTIONS)):
            names = [*_WORK] * 2 + ([*_FAULTS] if self.has_faults else [])
            name = rng.choice(names)
            ({**_WORK, **_FAULTS}[name])(self)
            world.run(rng.randrange(*rng.choice(PAUSES_US)))
            look_at_services(self.watch, world.now_us)
        self._mend()
        world.run(SETTLE_US)
        self.acknowledged = judge_rest(world, self.watch)
        self._end()

    def _end(self) -> None:
        world, rng = self.world, self.rng
        choice = rng.random()
        if choice < 0.3:
            self._shut_down()
        elif choice < 0.7:
            for alloc_id, alloc in [*world.servers.allocs.items()]:
                if alloc.desired_status == "run":
                    self._change(alloc_id, desired_status="stop")
            world.run(END_US)
            self.acknowledged += judge_rest(world, self.watch)
            if world.alive():
                raise Violation("at rest", f"all are stopped and {world.alive()[0]} lives")
            if world.servers.services:
                raise Violation("services", "something is registered and nothing runs")

    def _shut_down(self) -> None:
        """The agent ends with its tasks: at the latest after the longest kill timeout."""
        world, watch = self.world, self.watch
        self.situations["shut down with its tasks"] += 1
        began_us = world.now_us
        longest_us = world.config.max_kill_timeout_us + FAREWELL_US
        world.deliver(fx.ShutdownRequested(stop_tasks=True))
        while not world.has_said_goodbye:
            if world.now_us > began_us + longest_us + S:
                raise Violation("shutdown", "the agent does not end")
            world.run(20_000)
        is_early = world.now_us < began_us + longest_us
        # What cleans up and failed may wait for its restart then; nobody waits for that.
        alive = [key for key in world.alive() if not watch.cleans_up(*key[:2])]
        if alive and is_early:
            raise Violation("shutdown", f"{alive[0]} lives after the agent's end")
        world.quit()
        world.run(S)
        if world.now_us - watch.trouble_us > TROUBLE_US:
            for alloc_id in world.servers.allocs:
                life = watch.lives.get(alloc_id)
                if life and life.is_dead and not life.is_loose and alloc_id not in watch.final:
                    raise life.fault("shutdown", "", "the servers were not told of its end")

    # --- work ----------------------------------------------------------------------------

    def _new(self) -> Allocation:
        self._number += 1
        placed = draw(self.rng, self._number)
        alloc = placed.alloc
        self._placed[alloc.id] = placed
        for task, behaviour in placed.behaviours.items():
            self.world.behaviours[alloc.id, task] = behaviour
        return alloc

    def _place(self) -> None:
        self.world.servers.put(self._new())

    def _replace(self) -> None:
        """A new one comes for an old one that has to go, or that has failed."""
        alloc_id = self._some()
        if not alloc_id:
            return
        how = self.rng.choice(("previous", "preempted", "one entry"))
        old = self._changed(alloc_id, desired_status="stop")
        new = self._new()
        if how == "previous":
            new.previous_allocation = alloc_id
        elif how == "preempted":
            new.preempted_allocations = [alloc_id]
        if how == "one entry" or self.rng.random() < 0.5:
            self.world.servers.put(old, new)
        else:
            self.world.servers.put(old)
            self.world.servers.put(new)

    def _stop(self) -> None:
        alloc_id = self._some()
        if alloc_id:
            hurried = self.rng.random() < 0.2
            transition = DesiredTransition(no_shutdown_delay=True if hurried else None)
            self._change(alloc_id, desired_status="stop", desired_transition=transition)
            self.situations["stopped"] += 1

    def _update(self) -> None:
        """An update in place: what may change under a running task."""
        alloc_id = self._some()
        if not alloc_id:
            return
        rng = self.rng
        alloc = self._changed(alloc_id)
        job = alloc.job = deepcopy(alloc.job)
        assert job is not None
        job.version = alloc.job_version = (job.version or 0) + 1
        job.job_modify_index = (job.job_modify_index or 0) + 1_000
        for task in (job.task_groups or [])[0].tasks or ():
            if rng.random() < 0.5:
                task.kill_timeout_ns = rng.choice((1, 2, 3)) * NS
                task.kill_signal = rng.choice(SIGNALS)
            for service in task.services or ():
                service.tags = [f"v{job.version}"]
        if alloc.deployment_id:
            alloc.deployment_id += "-next"
        self.world.servers.put(alloc)

    def _forget(self) -> None:
        if self.world.servers.allocs:
            alloc_id = self.rng.choice([*self.world.servers.allocs])
            self.world.servers.forget(alloc_id)
            self.situations["forgotten"] += 1

    def _restart(self) -> None:
        alloc_id = self._some()
        if alloc_id:
            task = self.rng.choice(["", *self._placed[alloc_id].behaviours])
            self._ask("Client.RestartTask", alloc_id=alloc_id, task=task)
            self.situations["restart by a user"] += 1

    def _signal(self) -> None:
        alloc_id = self._some()
        if alloc_id:
            task = self.rng.choice(["", *self._placed[alloc_id].behaviours])
            signal = self.rng.choice(("SIGHUP", "SIGUSR1", "SIGTERM", "SIGKILL"))
            self._ask("Client.SignalTask", alloc_id=alloc_id, task=task, signal=signal)

    def _checks(self) -> None:
        """What the checks of one allocation find turns."""
        checked = [
            (alloc_id, check.port)
            for alloc_id, offers in self.watch.offers.items()
            if not self.watch.lives[alloc_id].ending
            for offer in offers.offers
            for check in offer.checks
        ]
        if checked:
            alloc_id, _ = self.rng.choice(checked)
            self.world.failing ^= {one for one in checked if one[0] == alloc_id}

    def _exit(self) -> None:
        """Processes end: of themselves, or by somebody beside the agent."""
        alive = [key for key in self.world.alive() if self.world.processes[key].is_begun]
        if alive:
            code, signal = self.rng.choice(((0, 0), (1, 0), (1, 0), (137, 9)))
            self.world.end(self.rng.choice(alive), code, signal)

    def _ask(self, method: str, **body: str) -> None:
        self._requests += 1
        self.world.deliver(Requested(self._requests, method, body))

    # --- faults --------------------------------------------------------------------------

    def _cut_off(self) -> None:
        self.faults["servers out of reach"] += 1
        self.world.servers.is_reachable = False
        self.world.after(self.rng.choice((S, 4 * S, 8 * S, 12 * S)), self._reach)
        if self.rng.random() < 0.5:
            self.world.run(6 * S)

    def _reach(self, _: object) -> None:
        self.world.servers.is_reachable = True

    def _lose_answers(self) -> None:
        self.world.servers.loses_answers = 0.4
        self.world.after(4 * S, self._find_answers)

    def _find_answers(self, _: object) -> None:
        self.world.servers.loses_answers = 0.0

    def _be_stale(self) -> None:
        """The servers answer out of the past for a while, and much is done meanwhile."""
        servers = self.world.servers
        servers.is_stale = 0.5
        for _ in range(3):
            self.rng.choice((Story._place, Story._stop, Story._replace))(self)
            self.world.run(self.rng.randrange(10_000, 500_000))
        servers.is_stale = 0.0

    def _forget_node(self) -> None:
        self.faults["node forgotten"] += 1
        self.world.servers.forget_node()

    def _restore(self) -> None:
        self.faults["older state restored"] += 1
        self.world.servers.restore()

    def _kill_agent(self) -> None:
        if self.world.machine is not None:
            self.faults["agent killed"] += 1
            self.world.kill()
            self._come_back()

    def _kill_amid(self) -> None:
        """Kill the agent while it carries out what follows from an event of some kind."""
        kind = self.rng.choice((fx.TaskExited, fx.TaskStarted, CallDone, fx.AllocPrepared))

        def is_it(event: Event) -> bool:
            return event.__class__ is kind

        self.world.midst = is_it
        self.rng.choice((Story._stop, Story._exit, Story._place, Story._replace))(self)
        self.world.run(self.rng.randrange(100_000, S))
        self.world.midst = None
        if self.world.machine is None:
            self._come_back()

    def _quit_agent(self) -> None:
        if self.world.machine is not None:
            self.faults["agent shut down and started"] += 1
            self.world.deliver(fx.ShutdownRequested(stop_tasks=False))
            if not self.world.has_said_goodbye:
                raise Violation("shutdown", "the agent does not end at once")
            self.world.has_said_goodbye = False
            self.world.quit()
            self._come_back()

    def _come_back(self) -> None:
        world = self.world
        world.run(self.rng.choice((50_000, 500_000, 5 * S)))
        if self.rng.random() < 0.4:
            self._exit()
        world.run(10_000)
        world.boot()

    def _refuse_folder(self) -> None:
        self.faults["no room for a folder"] += 1
        alloc = self._new()
        self.world.refuses_folders.add(alloc.id)
        self.world.servers.put(alloc)

    def _mend(self) -> None:
        world = self.world
        self._reach(None)
        self._find_answers(None)
        world.repeats, world.midst = 0.0, None
        world.failing.clear()
        for placed in self._placed.values():
            for behaviour in placed.behaviours.values():
                behaviour.refuses = 0.0
        if world.machine is None:
            world.boot()

    # --- choosing ------------------------------------------------------------------------

    def _some(self) -> str:
        wanted = [a.id for a in self.world.servers.allocs.values() if a.desired_status == "run"]
        return self.rng.choice(wanted) if wanted else ""

    def _changed(self, alloc_id: str, **fields: object) -> Allocation:
        return msgspec.structs.replace(self.world.servers.allocs[alloc_id], **fields)

    def _change(self, alloc_id: str, **fields: object) -> None:
        self.world.servers.put(self._changed(alloc_id, **fields))


_Action = Callable[[Story], None]
_WORK: Final[dict[str, _Action]] = {
    "place": Story._place,
    "replace": Story._replace,
    "stop": Story._stop,
    "update": Story._update,
    "forget": Story._forget,
    "restart": Story._restart,
    "signal": Story._signal,
    "exit": Story._exit,
}
_FAULTS: Final[dict[str, _Action]] = {
    "checks": Story._checks,
    "cut off": Story._cut_off,
    "lose answers": Story._lose_answers,
    "be stale": Story._be_stale,
    "forget node": Story._forget_node,
    "restore": Story._restore,
    "kill agent": Story._kill_agent,
    "kill amid": Story._kill_amid,
    "quit agent": Story._quit_agent,
    "refuse folder": Story._refuse_folder,
}
