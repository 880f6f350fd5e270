"""One seed's datacenter: nodes, jobs, an operator who is never content, and faults."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from core.model.allocation import DesiredTransition
from core.model.evaluation import DeploymentStatus, EvalTrigger, Evaluation
from core.model.job import Job
from core.model.node import DrainStrategy, Eligibility, Node
from core.scheduler.problem import Problem, Solution
from core.server import evaluations, promotion
from core.server.children import evaluation_of
from core.server.deployments import failing
from core.state.commands import (
    DeregisterJob,
    RegisterJob,
    SetDesiredTransition,
    SetNodeDrain,
    SetNodeEligibility,
    SetSchedulerConfig,
    UpsertDeployments,
    UpsertEvaluations,
)
from core.state.jobs import JobRecord
from core.state.result import Applied
from sim.scheduler.clients import Client
from sim.scheduler.collecting import Collecting, judged, random_ages
from sim.scheduler.dispatches import NAME as PARAMETERIZED_NAME
from sim.scheduler.dispatches import Dispatches
from sim.scheduler.jobs import (
    asks_by_name,
    changed_job,
    random_devices,
    random_job,
    random_node,
    with_new_processes,
    with_resources,
)
from sim.scheduler.launches import NAME as PERIODIC_NAME
from sim.scheduler.launches import Launches
from sim.scheduler.leader import Leader, S, Timing
from sim.scheduler.ledger import Ledger
from sim.scheduler.noting import comes_too_late, note
from sim.scheduler.progress import Progress
from sim.scheduler.rationing import Ration
from sim.scheduler.rest import Rest
from sim.scheduler.verify import Verifier
from sim.seeds import Violation

NODES: Final = (3, 7)
ACTIONS: Final = (10, 18)
QUIET_US: Final = 600_000
SETTLE_US: Final = 240 * S
_SYSTEM: Final = ("system", "sysbatch")
_TEMPLATES: Final = (PERIODIC_NAME, PARAMETERIZED_NAME)


class Story:
    """Plays one seed; raises `Violation` at the first broken promise."""

    def __init__(self, seed: int, *, has_faults: bool) -> None:
        rng = self.rng = random.Random(f"scheduler/{seed}/plan")
        self.situations: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.has_faults = has_faults
        self.acknowledged = 0
        self.clients: dict[str, Client] = {}
        self.ledger = Ledger(self.situations)
        own = random.Random(f"scheduler/{seed}/launches")
        self.progress = Progress(self.ledger)
        self.launches = Launches(own, self.ledger, self.situations) if own.random() < 0.2 else None
        own = random.Random(f"scheduler/{seed}/dispatches")
        self.dispatches = (
            Dispatches(own, self.ledger, self.situations) if own.random() < 0.2 else None
        )
        if self.launches is not None:
            self.dispatches = None
        own = random.Random(f"scheduler/{seed}/collecting")
        ages = random_ages(own) if own.random() < 0.3 else None
        self.collecting = Collecting(self.ledger, self.situations)
        algorithm = rng.choice(("binpack", "binpack", "spread", "nomad"))
        own = random.Random(f"scheduler/{seed}/rationing")
        self.ration = Ration(own, self.ledger, self.situations)
        self.verifier = Verifier(self.ledger, self.situations, self.ration, algorithm)
        timing = Timing()
        self.is_slow = has_faults and rng.random() < 0.4
        if self.is_slow:
            timing.solve_us = (50_000, 3 * S)
        self.leader = Leader(
            random.Random(f"scheduler/{seed}/leader"), self, timing, rng.choice((1, 4, 256)), ages
        )
        self.leader.answers_ping = self._answers
        self._first_nodes = rng.randint(*NODES)
        self._jobs = 0
        self._is_preempting = rng.random() < 0.5
        self._do(
            SetSchedulerConfig(
                config={
                    "SchedulerAlgorithm": algorithm,
                    "PreemptionConfig": {
                        "SystemSchedulerEnabled": rng.random() < 0.8,
                        "ServiceSchedulerEnabled": self._is_preempting,
                        "BatchSchedulerEnabled": self._is_preempting,
                        "SysBatchSchedulerEnabled": self._is_preempting,
                    },
                }
            )
        )

    # --- looking on -------------------------------------------------------------------------

    def before_entry(self, commands: list[Any]) -> None:
        if (collection := judged(commands)) is not None:
            self.collecting.before(self.leader.state, collection)

    def on_entry(self, commands: list[Any], applied: Applied) -> None:
        self.acknowledged += note(self.situations, commands)
        if judged(commands) is not None:
            self.collecting.after(self.leader.state)
        for result in applied.results:
            if result.error and not comes_too_late(commands):
                raise Violation("command refused", result.error)
        if self.launches is not None:
            self.launches.on_entry(commands, self.leader.wall_us)
        if self.dispatches is not None:
            self.dispatches.on_entry(commands, self.leader)
        self.ledger.wall_us = self.leader.wall_us
        for node_id in self.ledger.on_entry(self.leader.state, commands, applied):
            client = self.clients.get(node_id)
            if client is not None:
                client.pull_soon()
        self.ration.on_entry(commands, applied.index)
        self.progress.on_entry(self.leader.state, applied.changes, self.leader.wall_us)
        self._note_system(applied)

    def _note_system(self, applied: Applied) -> None:
        for known in self.ledger.known.values():
            if known.created == applied.index and known.alloc.job is not None:
                self.situations["placed"] += 1
                is_late = int(known.alloc.node_name[1:] or 0) >= self._first_nodes
                if is_late and known.alloc.job.type in _SYSTEM:
                    self.situations["system job on a new node"] += 1

    def on_solved(self, problem: Problem, solution: Solution) -> None:
        self.verifier.judge(self.leader.state, solution.plans)
        placed = [batch.node for plan in solution.plans for batch in plan.placements]
        if self.has_faults and placed and self.rng.random() < 0.04:
            self._change_under(int(self.rng.choice(np.frombuffer(self.rng.choice(placed), "<i4"))))

    def _change_under(self, ordinal: int) -> None:
        """A node that a plan counts on has less of everything before the plan is applied."""
        node = self.leader.state.nodes.record(ordinal)
        client = self.clients.get(node.id) if node is not None else None
        if client is not None and client.is_heard:
            self.faults["node changed under a plan"] += 1
            client.register(with_resources(client.node, self.rng.choice((100, 500)), None))

    # --- the whole --------------------------------------------------------------------------

    def play(self) -> None:
        rng, leader = self.rng, self.leader
        leader.run_until(S)
        for number in range(self._first_nodes):
            self._add_node(number)
        leader.run_until(leader.mono_us + S)
        for _ in range(rng.choice((2, 3, 4))):
            self._new_job()
        if self.launches is not None:
            self._do(RegisterJob(job=self.launches.job))
        if self.dispatches is not None:
            self._do(RegisterJob(job=self.dispatches.job))
        if self.ration.is_drawn:
            self._do(*self.ration.commands())
        self._wait()
        deeds = [*_DEEDS, *(_FAULTS if self.has_faults else ())]
        weights = [weight for _, weight in deeds]
        for _ in range(rng.randint(*ACTIONS)):
            deed, _ = rng.choices(deeds, weights)[0]
            deed(self)
            if self.dispatches is not None:
                self.dispatches.call(self.leader)
            if self.ration.may_change():
                self._do(*self.ration.commands())
            self._wait()
        self._end()

    def _wait(self) -> None:
        leader, rng = self.leader, self.rng
        leader.run_until(leader.mono_us + rng.choice((20_000, 200_000, 2 * S, 12 * S, 30 * S)))
        if rng.random() < 0.5:
            self._settle()
            self._rest().check()
            self._check_launches()

    def _settle(self) -> None:
        leader = self.leader
        leader.run_until(leader.mono_us + SETTLE_US, self._is_quiet)
        if not self._is_quiet():
            counts = leader.server.planning.broker.counts
            raise Violation(
                "never at rest", f"{SETTLE_US / S:g} s on, {leader.entries} entries, {counts}"
            )

    def _check_launches(self) -> None:
        if self.launches is not None:
            self.launches.check(self.leader.wall_us)
        if self.dispatches is not None:
            self.dispatches.check()

    def _is_quiet(self) -> bool:
        leader = self.leader
        return not leader.is_busy and leader.mono_us - leader.last_entry_us >= QUIET_US

    def _rest(self) -> Rest:
        leader = self.leader
        return Rest(leader.state, self.ledger, self.ration, leader.wall_us, self.rng)

    def _end(self) -> None:
        """Mend everything; then what can run must run."""
        for client in self.clients.values():
            self._mend(client)
        self.leader.run_until(self.leader.mono_us + 100 * S)
        self._settle()
        rest = self._rest()
        rest.check(is_last=True)
        self._check_launches()
        rest.compare()

    # --- short words ------------------------------------------------------------------------

    def _do(self, *commands: Any) -> None:
        self.leader.propose(*commands)

    def _records(self) -> list[JobRecord]:
        # The job by the clock, the parameterized one and their children are left to themselves.
        return [one for one in self.leader.state.jobs if not one.id.startswith(_TEMPLATES)]

    def _some_job(self) -> JobRecord | None:
        records = self._records()
        return self.rng.choice(records) if records else None

    def _some_node(self) -> Node | None:
        nodes = [*self.leader.state.nodes]
        return self.rng.choice(nodes) if nodes else None

    def _evaluation(self, job: Job, trigger: EvalTrigger) -> Evaluation:
        return evaluation_of(job, self.leader.server.new_id(), trigger, self.leader.wall_us)

    def _register(self, job: Job, trigger: EvalTrigger = EvalTrigger.JOB_REGISTER) -> None:
        self._do(RegisterJob(job=job, evaluation=self._evaluation(job, trigger)))

    def _answers(self, address: str) -> bool:
        return any(c.node.rpc_addr == address and c.is_heard for c in self.clients.values())

    # --- what the operator does -----------------------------------------------------------------

    def _add_node(self, number: int) -> None:
        node = random_node(self.rng, number)
        client = self.clients[node.id] = Client(
            self.leader, node, random.Random(self.rng.getrandbits(64)), self.situations
        )
        client.register(node)

    def new_node(self) -> None:
        if len(self.clients) < NODES[1] + 2:
            self._add_node(len(self.clients))

    def _new_job(self) -> None:
        self._jobs += 1
        self._register(random_job(self.rng, f"job{self._jobs}"))

    def new_job(self) -> None:
        if self._jobs < 7:
            self._new_job()

    def change_job(self) -> None:
        record = self._some_job()
        if record is not None:
            job, what = changed_job(self.rng, record.job, record.version + 1)
            self.situations[f"job changed: {what}"] += 1
            self._register(job)

    def change_in_haste(self) -> None:
        """Three versions while the first one still stops: whose things are free by then?"""
        named = [one for one in self._records() if asks_by_name(one.job)]
        if not named:
            return
        name = self.rng.choice(named).id
        for _ in range(3):
            record = self.leader.state.jobs.get("default", name)
            if record is None:
                return
            self.situations["job changed in haste"] += 1
            self._register(with_new_processes(self.rng, record.job, record.version + 1))
            self.leader.run_until(self.leader.mono_us + self.rng.choice((150_000, 400_000, S)))

    def revert_job(self) -> None:
        record = self._some_job()
        if record is not None and record.older:
            self.situations["job reverted"] += 1
            old = self.rng.choice(record.older)
            self._register(msgspec.structs.replace(old, stop=False, submit_time_ns=None))

    def stop_job(self) -> None:
        record = self._some_job()
        if record is not None:
            is_purge = self.rng.random() < 0.3
            self.situations["job purged" if is_purge else "job stopped"] += 1
            due = self._evaluation(record.job, EvalTrigger.JOB_DEREGISTER)
            self._do(
                DeregisterJob(namespace="default", job_id=record.id, purge=is_purge, evaluation=due)
            )

    def stop_launches(self) -> None:
        for name in _TEMPLATES:
            record = self.leader.state.jobs.get("default", name)
            if record is not None and not record.is_stopped:
                self._do(DeregisterJob(namespace="default", job_id=name, purge=False))

    def evaluate_job(self) -> None:
        record = self._some_job()
        if record is not None:
            due = self._evaluation(record.job, EvalTrigger.JOB_REGISTER)
            self._do(UpsertEvaluations(evaluations=[due]))

    def stop_alloc(self) -> None:
        live = [known for known in self.ledger.known.values() if known.is_live]
        if live:
            alloc = self.rng.choice(live).alloc
            record = self.leader.state.jobs.get(alloc.namespace, alloc.job_id)
            if record is not None:
                self.situations["allocation asked to move"] += 1
                due = self._evaluation(record.job, EvalTrigger.ALLOC_STOP)
                moves = {alloc.id: DesiredTransition(migrate=True)}
                self._do(SetDesiredTransition(transitions=moves, evaluations=[due]))

    def drain_node(self) -> None:
        node = self._some_node()
        if node is None:
            return
        server = self.leader.server
        if node.drain_strategy is not None or self.rng.random() < 0.2:
            due = evaluations.for_node(server, node.id, EvalTrigger.NODE_UPDATE)
            self._do(SetNodeDrain(node_id=node.id, drain=None, mark_eligible=True, evaluations=due))
            return
        self.situations["drain"] += 1
        drain = DrainStrategy(
            deadline_ns=self.rng.choice((-1, 0, 20 * 10**9)),
            ignore_system_jobs=self.rng.random() < 0.3,
        )
        due = evaluations.for_node(server, node.id, EvalTrigger.NODE_DRAIN)
        self._do(SetNodeDrain(node_id=node.id, drain=drain, evaluations=due))

    def set_eligibility(self) -> None:
        node = self._some_node()
        if node is None or node.drain_strategy is not None:
            return
        is_out = node.scheduling_eligibility == Eligibility.INELIGIBLE
        word = Eligibility.ELIGIBLE if is_out else Eligibility.INELIGIBLE
        due = []
        if is_out:
            due = evaluations.for_node(self.leader.server, node.id, EvalTrigger.NODE_UPDATE)
        self._do(SetNodeEligibility(node_id=node.id, eligibility=word, evaluations=due))

    def decide_deployment(self) -> None:
        """Promote, pause, resume or fail a deployment, as core.server.endpoints do."""
        state = self.leader.state
        active = [*state.deployments.active()]
        if not active:
            return
        found = self.rng.choice(active)
        record = state.jobs.get(found.namespace, found.job_id)
        if record is None:
            return
        due = self._evaluation(record.job, EvalTrigger.DEPLOYMENT_WATCHER)
        try:
            going_on = promotion.promoted(state, found, None, self.leader.wall_us)
            self.situations["promoted by hand"] += 1
            self._do(UpsertDeployments(deployments=[going_on], evaluations=[due]))
            return
        except promotion.PromotionError:
            pass
        if found.status == DeploymentStatus.PAUSED:
            status = DeploymentStatus.RUNNING
        elif self.rng.random() < 0.3:
            self._do(*failing(self.leader.server, found, record, "marked as failed").commands)
            return
        else:
            status = DeploymentStatus.PAUSED
            self.situations["deployment paused"] += 1
        changed = msgspec.structs.replace(found, status=status)
        self._do(UpsertDeployments(deployments=[changed], evaluations=[due]))

    # --- faults -------------------------------------------------------------------------------

    def node_dies(self) -> None:
        client = self.rng.choice([*self.clients.values()])
        if client.is_heard:
            self.faults["node down"] += 1
            client.crash()
            self.leader.gossip.dead[client.node.name] = None
            self.leader.server.liveness.on_failed(client.node.name)

    def node_restarts(self) -> None:
        client = self.rng.choice([*self.clients.values()])
        if client.is_heard:
            self.faults["node restarted before anybody noticed"] += 1
            client.crash()
            client.restart()

    def node_is_cut_off(self) -> None:
        client = self.rng.choice([*self.clients.values()])
        if client.is_heard:
            self.faults["node cut off"] += 1
            client.is_reachable = False

    def node_comes_back(self) -> None:
        away = [client for client in self.clients.values() if not client.is_heard]
        if away:
            self.faults["node back"] += 1
            self._mend(self.rng.choice(away))

    def _mend(self, client: Client) -> None:
        if client.is_heard:
            return
        self.leader.gossip.dead.pop(client.node.name, None)
        self.leader.server.liveness.on_alive(client.node.name)
        is_forgotten = self.leader.state.nodes.get(client.node.id) is None
        self.situations["forgotten node back"] += is_forgotten
        if client.is_up:
            client.reconnect()
            if is_forgotten:
                client.register(client.node)
        else:
            client.restart()
            client.register(client.node)

    def task_fails(self) -> None:
        for client in self.rng.sample([*self.clients.values()], len(self.clients)):
            if client.fail_one():
                self.faults["task failed"] += 1
                return

    def node_changes(self) -> None:
        """A node comes back with less or more of a processor, or with other devices."""
        client = self.rng.choice([*self.clients.values()])
        node = client.node
        if not client.is_heard:
            return
        self.faults["node changed under running work"] += 1
        cpu_shares = self.rng.choice((500, 1000, 2000, 4000))
        devices = (
            random_devices(self.rng) if self.rng.random() < 0.3 else node.node_resources.devices
        )
        client.register(with_resources(node, cpu_shares, devices))

    def leader_changes(self) -> None:
        if self.leader.log.is_leader:
            self.faults["leader lost"] += 1
            is_committed = self.rng.random() < 0.5
            for_us = self.rng.choice((100_000, 3 * S))
            if self.launches is not None:
                self.launches.on_leader(self.leader.wall_us + for_us)
            if self.leader.lose_leadership(is_committed=is_committed, for_us=for_us):
                raise Violation("snapshot", "a restored state differs from the one it is of")

    def task_fails_often(self) -> None:
        self.task_fails()
        self.leader.run_until(self.leader.mono_us + S)
        self.task_fails()


_DEEDS: Final[tuple[tuple[Callable[[Story], None], int], ...]] = (
    (Story.new_job, 4),
    (Story.change_job, 10),
    (Story.revert_job, 2),
    (Story.stop_job, 2),
    (Story.evaluate_job, 1),
    (Story.stop_alloc, 2),
    (Story.drain_node, 3),
    (Story.set_eligibility, 1),
    (Story.decide_deployment, 4),
    (Story.new_node, 1),
    (Story.stop_launches, 1),
    (Story.change_in_haste, 2),
)
_FAULTS: Final[tuple[tuple[Callable[[Story], None], int], ...]] = (
    (Story.node_dies, 2),
    (Story.node_restarts, 1),
    (Story.node_is_cut_off, 3),
    (Story.node_comes_back, 4),
    (Story.task_fails, 2),
    (Story.task_fails_often, 1),
    (Story.node_changes, 1),
    (Story.leader_changes, 1),
)
