"""Each plan held against the reference, on the state that it was made for.

Every placement must be on a node that may run it and has room, as the reference counts
it; no node may score higher at that step of the greedy order; and where the planner found no
room for an instance the reference must find none either.
"""

from collections import Counter
from dataclasses import dataclass, field

import msgspec
import numpy as np

from core.model.allocation import Allocation, ClientStatus, Desired, PortMapping
from core.model.evaluation import Evaluation
from core.model.ids import AllocKey, alloc_id
from core.model.job import Job, TaskGroup
from core.model.node import Node, NodeStatus
from core.model.plan import InPlaceUpdate, PlacementBatch, Plan
from core.model.units import allocated_devices
from core.scheduler.view import SchedulerConfig
from core.state.jobs import JobRecord
from core.state.state import State
from sim.scheduler import named, reference
from sim.scheduler.known import Known
from sim.scheduler.ledger import PRIORITY_GAP, Ledger
from sim.scheduler.rationing import Ration
from sim.scheduler.row import Row
from sim.seeds import Violation

_UPDATED = "alloc is being updated due to job update"
_DUPLICATE = "alloc was replaced by a newer one of its index"
_NOT_NEEDED = "alloc not needed due to job update"
_SYSTEM = ("system", "sysbatch")
_CLOSE = 1e-9
_NOBODY = 1 << 30  # a price that nobody has


@dataclass
class Verifier:
    """Judges the solutions of one datacenter's problems."""

    ledger: Ledger
    situations: Counter[str]
    ration: Ration
    algorithm: str = "binpack"
    _nodes: dict[str, Node] = field(default_factory=dict)
    _ready: list[Node] = field(default_factory=list)
    _extra: dict[str, list[Allocation]] = field(default_factory=dict)  # of the batch, by node
    _victims: set[str] = field(default_factory=set)  # of the batch: they go already

    def judge(self, state: State, plans: list[Plan]) -> None:
        """Judge the plans of one problem, which see each other.

        Raises:
            Violation: A plan is worse than the reference's, or can't be.
        """
        self._nodes = {node.id: node for node in state.nodes}
        self._ready = [node for node in self._nodes.values() if reference.is_ready(node)]
        self._extra, self._victims = {}, set()
        for plan in plans:
            record = state.jobs.by_uid(plan.job_uid)
            if record is not None:
                _PlanCheck(self, state, record, plan).run()

    def holders(self, node_id: str) -> list[Allocation]:
        known = self.ledger.by_node[node_id].values()
        return [one.alloc for one in known if one.holds] + self._extra.get(node_id, [])


class _PlanCheck:
    def __init__(self, verifier: Verifier, state: State, record: JobRecord, plan: Plan) -> None:
        self._verifier, self._state, self._record, self._plan = verifier, state, record, plan
        known = verifier.ledger.known
        self._stops = {stop.alloc_id: stop for stop in plan.stops}
        self._freed: set[str] = set()
        self._gone: set[str] = set()  # of this job: stopped, or to be replaced
        for stop in plan.stops:
            one = known.get(stop.alloc_id)
            if one is None or not one.is_live:
                continue
            is_end = stop.desired != Desired.RUN or stop.client_status == ClientStatus.LOST
            if is_end:
                self._gone.add(stop.alloc_id)
                if stop.description != _UPDATED and not stop.preempted_by:
                    self._freed.add(stop.alloc_id)
        self._rows = [row for batch in plan.placements for row in self._decode(batch)]
        self._gone |= {row.previous.alloc.id for row in self._rows if row.previous is not None}
        # They run on if nothing is found for those that replace them, which go one by one.
        self._updated = {key for key, stop in self._stops.items() if stop.description == _UPDATED}
        previous = [row.previous for row in self._rows if row.previous is not None]
        self._leaving = {
            one.alloc.id: one.alloc
            for one in previous
            if one.is_live and one.alloc.id in self._updated
        }
        self._new: list[Allocation] = []
        evaluation = plan.evaluations[0] if plan.evaluations else None
        self._failed = (evaluation and evaluation.failed_tg_allocs) or {}
        self._evaluation: Evaluation | None = evaluation

    def _decode(self, batch: PlacementBatch) -> list[Row]:
        job = self._state.jobs.version(self._record.ordinal, batch.job_version)
        if job is None:
            raise Violation("plan", f"{self._record.id} has no version {batch.job_version}")
        group = next(one for one in job.task_groups or [] if one.name == batch.group)
        nodes = np.frombuffer(batch.node, "<i4").tolist()
        ports = np.frombuffer(batch.ports, "<i4").tolist()
        scores = np.frombuffer(batch.scores, "<f4").tolist()
        width = len(batch.port_asks)
        keys = zip(
            np.frombuffer(batch.index, "<i4").tolist(),
            np.frombuffer(batch.generation, "<u2").tolist(),
            strict=True,
        )
        group_ordinal = self._record.groups.index(batch.group)
        ids = [
            alloc_id(AllocKey(self._record.ordinal, group_ordinal, *key), self._state.datacenter_id)
            for key in keys
        ]
        rows = []
        for at, ordinal in enumerate(nodes):
            node = self._state.nodes.record(ordinal)
            if node is None:
                raise Violation("plan", f"{self._record.id}: there is no node {ordinal}")
            previous = batch.previous[at] if batch.previous else ""
            rows.append(
                Row(
                    batch, job, group, node, ports[at * width : (at + 1) * width], scores[at],
                    self._verifier.ledger.known.get(previous), at in batch.trackers,
                    batch.units[at] if batch.units else {}, ids[at],
                )
            )  # fmt: skip
        return rows

    def run(self) -> None:
        has_victims = any(stop.preempted_by for stop in self._plan.stops)
        is_system = self._record.job.type in _SYSTEM
        is_scored = not (self._failed or has_victims or is_system or self._has_doubles())
        # Instances with cores are in as many batches as there are kinds of processors.
        is_scored &= not any(named.cores_asked(row.group) for row in self._rows)
        for row in self._rows:
            for one in self._made_way(row):
                self._freed.add(one.alloc.id)
                self._leaving.pop(one.alloc.id, None)
            made = self._made(row)
            self._displace(row)
            self._check_room(row)
            self._check_waited_for(row)
            self._check_units(row, made)
            if is_scored:
                self._check_score(row)
            self._new.append(made)
        self._check_lost()
        self._check_promoted()
        self._check_reconciled()
        for update in self._plan.in_place:
            self._check_in_place(update)
        if not is_system:
            self._check_missing()
        for alloc in self._new:
            self._verifier._extra.setdefault(alloc.node_id, []).append(alloc)

    def _made_way(self, row: Row) -> list[Known]:
        """Return whose room a placement may use: its predecessor's, and of those before it.

        Instances with cores come in as many batches as there are kinds of processors, so it is
        not known in which order they were placed: any of them may have come before.
        """
        is_divided = named.cores_asked(row.group) > 0
        alike = [one for one in self._rows if one.group is row.group] if is_divided else [row]
        previous = [one.previous for one in alike if one.previous is not None]
        return [one for one in previous if one.alloc.id in self._stops]

    def _check_promoted(self) -> None:
        """A promoted canary is what its index holds: it does not stop for the old instance."""
        counts = {g.name: 1 if g.count is None else g.count for g in self._groups()}
        for known in self._mine():
            stop = self._stops.get(known.alloc.id)
            is_promoted = known.was_canary and not (known.is_canary or known.was_unknown)
            is_promoted &= known.alloc.job_version == self._record.version
            has_place = known.alloc.index < counts.get(known.alloc.task_group, 0)
            if stop is None or stop.description != _NOT_NEEDED or self._record.is_stopped:
                continue
            if is_promoted and has_place and self._record.job.type not in _SYSTEM:
                raise Violation("promoted canary stopped", known.alloc.name)

    def _check_waited_for(self, row: Row) -> None:
        """Who is cut off is replaced only where its group says so, or when it is given up."""
        before = row.previous
        node = None if before is None else self._verifier._nodes.get(before.alloc.node_id)
        if before is None or not before.is_live or node is None:
            return
        stop, block = self._stops.get(before.alloc.id), row.group.disconnect
        is_given_up = stop is not None and stop.client_status == ClientStatus.LOST
        waits = block is not None and block.replace is False and (block.lost_after_ns or 0) > 0
        if waits and node.status == NodeStatus.DISCONNECTED and not is_given_up:
            text = f"{before.alloc.name} on {node.name}, which is cut off"
            raise Violation("replaced though it is waited for", text)

    def _check_reconciled(self) -> None:
        """Of an instance that came back and its replacement goes the one that its group names."""
        groups = {group.name: group for group in self._groups()}
        for known in self._mine():
            stop = self._stops.get(known.alloc.id)
            group = groups.get(known.alloc.task_group)
            if stop is None or stop.description != _DUPLICATE or group is None:
                continue
            word = group.disconnect.reconcile if group.disconnect is not None else ""
            others = [
                one
                for one in self._mine()
                if one.alloc.task_group == group.name
                and one.alloc.index == known.alloc.index
                and one.alloc.job_version == known.alloc.job_version
                and one.alloc.id not in self._stops
                and not (one.was_canary or known.was_canary)
            ]
            for one in others:
                came_first = known.created < one.created
                self._verifier.situations["back beside its replacement"] += 1
                is_back = known.alloc.client_status == "running" or not came_first
                if is_back and word == ("keep_original" if came_first else "keep_replacement"):
                    text = f"{known.alloc.name}: {known.alloc.id} goes, its group says {word}"
                    raise Violation("the wrong one goes", text)

    def _groups(self) -> list[TaskGroup]:
        return self._record.job.task_groups or []

    def _displace(self, row: Row) -> None:
        """Take a winner's victims away: it needed each, and less important ones would not do."""
        known = self._verifier.ledger.known
        gone = [
            known[stop.alloc_id].alloc
            for stop in self._plan.stops
            if stop.preempted_by == row.id and stop.alloc_id in known
        ]
        if not gone:
            return
        nodes = [row.node] if row.job.type in _SYSTEM else self._verifier._ready
        least = min(self._price(row.job, row.group, node) for node in nodes)
        paid = max(alloc.job.priority or 50 for alloc in gone if alloc.job is not None)
        if paid > least:
            text = f"{gone[0].name} of priority {paid} gave way to {self._record.id}, {least} would"
            raise Violation("a cheaper victim", text)
        ids = {alloc.id for alloc in gone}
        self._freed |= ids
        self._verifier._victims |= ids
        for alloc in gone:
            if not reference.lacks(row.node, [*self._holders(row.node), alloc], row.group):
                raise Violation(
                    "preempted for nothing", f"{alloc.name} had room on {row.node.name}"
                )

    def _price(self, job: Job, group: TaskGroup, node: Node) -> int:
        # The least priority of which all have to go from `node` for one instance to have room.
        ration = self._verifier.ration
        if reference.why_not(job, group, node) or ration.is_vague(group):
            return _NOBODY
        if ration.lacks(group, node, self._everywhere()):
            return _NOBODY
        others = [*self._staying(), *self._leaving.values()]
        if job.type not in _SYSTEM and not reference.is_apart(
            job, group, node, self._verifier._nodes, others
        ):
            return _NOBODY
        held = self._holders(node)
        most = (job.priority or 50) - PRIORITY_GAP
        ranks = {one.id: one.job.priority or 50 for one in held if one.job is not None}
        running = {one.id for one in held if one.desired_status == "run" and one.id != "new"}
        movable = running - self._verifier._victims
        for price in sorted({rank for rank in ranks.values() if rank <= most}):
            left = [one for one in held if one.id not in movable or ranks[one.id] > price]
            if not reference.lacks(node, left, group):
                return price
        return _NOBODY

    def _check_lost(self) -> None:
        """What was on a node that is down is given up, unless its group waits for it."""
        groups = {group.name: group for group in self._record.job.task_groups or []}
        for known in self._mine():
            node = self._verifier._nodes.get(known.alloc.node_id)
            group = groups.get(known.alloc.task_group)
            waits = group is not None and group.disconnect and group.disconnect.replace is False
            if node is None or node.status != NodeStatus.DOWN or waits or known.was_unknown:
                continue
            stop = self._stops.get(known.alloc.id)
            if stop is None or stop.client_status != ClientStatus.LOST:
                raise Violation("not given up", f"{known.alloc.name} on {node.name}, that is down")

    def _check_in_place(self, update: InPlaceUpdate) -> None:
        """What stays where it is may be there by the rules of the version that it follows."""
        known = self._verifier.ledger.known.get(update.alloc_id)
        job = self._state.jobs.version(self._record.ordinal, update.job_version)
        node = self._verifier._nodes.get(known.alloc.node_id) if known is not None else None
        if known is None or job is None or node is None:
            return
        group = next(g for g in job.task_groups or [] if g.name == known.alloc.task_group)
        reason = reference.why_not(job, group, node)
        if reason and reason not in ("cores", "devices"):  # it keeps those that it has
            text = f"{known.alloc.name} follows version {update.job_version} on {node.name}"
            raise Violation("infeasible in place", f"{text}: {reason}")

    def _has_doubles(self) -> bool:
        # With two instances of an index it is for the reconciler to say which one stays.
        live: Counter[tuple[str, int]] = Counter()
        for known in self._mine():
            live[known.alloc.task_group, known.alloc.index] += 1
            if known.was_unknown or known.was_canary:
                return True
        return any(count > 1 for count in live.values())

    def _mine(self) -> list[Known]:
        ledger = self._verifier.ledger
        return [
            known
            for name in self._record.groups
            for known in ledger.by_group[self._record.uid, name].values()
            if known.is_live
        ]

    def _staying(self) -> list[Allocation]:
        kept = [known.alloc for known in self._mine() if known.alloc.id not in self._gone]
        return [*kept, *self._new]

    def _holders(self, node: Node) -> list[Allocation]:
        held = [a for a in self._verifier.holders(node.id) if a.id not in self._freed]
        return held + [alloc for alloc in self._new if alloc.node_id == node.id]

    def _everywhere(self) -> list[Allocation]:
        nodes = self._verifier.ledger.by_node
        held = [a for node_id in [*nodes] for a in self._verifier.holders(node_id)]
        return [one for one in held if one.id not in self._freed] + self._new

    def _why_not(self, job: Job, group: TaskGroup, node: Node) -> str:
        if reason := reference.why_not(job, group, node):
            return reason
        if self._verifier.ration.lacks(group, node, self._everywhere()):
            return "quota"
        if reason := reference.lacks(node, self._holders(node), group):
            return reason
        others = [*self._staying(), *self._leaving.values()]
        if job.type in _SYSTEM:
            return ""
        is_apart = reference.is_apart(job, group, node, self._verifier._nodes, others)
        return "" if is_apart else "distinct"

    def _check_room(self, row: Row) -> None:
        name = f"{self._record.id}.{row.group.name}"
        if not reference.is_ready(row.node):
            raise Violation("infeasible", f"{name} on {row.node.name}, which is not ready")
        if reason := self._why_not(row.job, row.group, row.node):
            raise Violation("infeasible", f"{name} on {row.node.name}: {reason}")
        ask = reference.ask_of(row.group, row.node)
        static, dynamic = row.ports[: len(ask.static_ports)], row.ports[len(ask.static_ports) :]
        resources = row.node.node_resources
        taken = reference.reserved_ports(row.node)
        for alloc in self._holders(row.node):
            taken |= set(reference.ports_of(alloc))
        in_range = all(
            resources.min_dynamic_port <= port <= resources.max_dynamic_port for port in dynamic
        )
        is_free = not taken & set(row.ports) and len({*row.ports}) == len(row.ports)
        if tuple(static) != ask.static_ports or len(dynamic) != ask.dynamic_ports:
            raise Violation("ports", f"{name} asks for {ask}, was given {row.ports}")
        if not in_range or not is_free:
            raise Violation("ports", f"{name} on {row.node.name} was given {row.ports}")

    def _check_units(self, row: Row, made: Allocation) -> None:
        """It gets as many cores and devices as it asks for, that are there and nobody's."""
        mine = named.names_of(made)
        ask = named.device_asked(row.group)
        cores, devices = named.cores_asked(row.group), 0 if ask is None else ask.count or 1
        seen = self._verifier.situations
        seen["core given"] += cores > 0
        seen["device given"] += devices > 0
        taken = [name for alloc in self._holders(row.node) for name in named.names_of(alloc)]
        given = sum(name.startswith("core ") for name in mine), len({*mine})
        is_free = {*mine} <= {*named.offered(row.node)} - {*taken}
        if not is_free or given != (cores, cores + devices):
            name = f"{self._record.id}.{row.group.name}"
            raise Violation("units", f"{name} on {row.node.name} was given {mine}, {ask} {cores}")

    def _check_score(self, row: Row) -> None:
        placed = [a.node_id for a in self._staying() if a.task_group == row.group.name]
        verifier = self._verifier
        scorer = reference.Scorer(row.job, row.group, verifier._nodes, verifier.algorithm, placed)
        penalised = ""
        if row.is_rescheduled and row.previous is not None:
            penalised = row.previous.alloc.node_id
        mine = scorer.score(row.node, self._holders(row.node), penalised)
        name = f"{self._record.id}.{row.group.name}"
        if abs(mine - row.score) > 1e-5:
            text = f"{name} on {row.node.name} scores {mine:.6f} {scorer.parts}, not {row.score}"
            raise Violation("score", text)
        verifier.situations["score verified"] += 1
        if verifier.algorithm == "nomad":
            return  # it looks at a few nodes only
        for node in verifier._ready:
            if node.id == row.node.id or self._why_not(row.job, row.group, node):
                continue
            score = scorer.score(node, self._holders(node), penalised)
            if score > mine + _CLOSE:
                text = f"{name} on {row.node.name} ({mine:.6f}), {node.name} scores {score:.6f}"
                raise Violation("a better node", text)

    def _check_missing(self) -> None:
        """Where the planner found no room, there is none."""
        # Those that are updated one by one may have made room only after it was looked for.
        late = {row.previous.alloc.id: row.previous.alloc for row in self._rows if row.previous}
        late = {key: one for key, one in late.items() if key in self._updated}
        self._freed -= late.keys() | self._verifier._victims
        self._leaving |= late
        for name in self._failed:
            self._verifier.situations["no room anywhere"] += 1
            found = [self._with_room(*version) for version in self._missing_as(name)]
            if found and all(found):
                text = f"{self._record.id}.{name} found no room, {found[0]} has some"
                raise Violation("room overlooked", text)
            self._check_displaceable(name)

    def _check_displaceable(self, name: str) -> None:
        """Where the planner found no room and may displace, there is nobody to displace."""
        config = SchedulerConfig.of(self._state.scheduler_config)
        if self._record.job.type not in config.preempting:
            return
        versions = self._missing_as(name)
        for node in self._verifier._ready:
            if all(self._price(job, group, node) < _NOBODY for job, group in versions):
                text = f"{self._record.id}.{name} found no room, less important work on {node.name}"
                raise Violation("victim overlooked", text)

    def _missing_as(self, name: str) -> list[tuple[Job, TaskGroup]]:
        """Return the versions in which an instance of a group may come.

        The newest; and those that it had, while canaries of the newest are tried out.
        """
        state, record = self._state, self._record
        deployment = self._plan.deployment
        if deployment is None:
            deployment = state.deployments.latest_of_job(record.namespace, record.id)
        rollout = ((deployment and deployment.task_groups) or {}).get(name)
        is_tried = rollout is not None and rollout.desired_canaries and not rollout.promoted
        numbers = {record.version: None}
        if is_tried:
            members = self._verifier.ledger.by_group[record.uid, name].values()
            numbers |= dict.fromkeys(known.alloc.job_version for known in members)
        jobs = [state.jobs.version(record.ordinal, number) for number in numbers]
        return [
            (job, group)
            for job in jobs
            if job is not None
            for group in job.task_groups or []
            if group.name == name
        ]

    def _with_room(self, job: Job, group: TaskGroup) -> str:
        """Return the name of a node that would take one instance more, "" when none would."""
        ready = self._verifier._ready
        if self._verifier.ration.is_vague(group):
            return ""
        return next((node.name for node in ready if not self._why_not(job, group, node)), "")

    def _made(self, row: Row) -> Allocation:
        tasks = {
            name: msgspec.structs.replace(
                task,
                cpu=msgspec.structs.replace(task.cpu, reserved_cores=list(held.cores)),
                devices=allocated_devices(held),
            )
            if (held := row.units.get(name)) is not None
            else task
            for name, task in row.batch.resources.tasks.items()
        }
        shared = row.batch.resources.shared
        ports = [PortMapping(label=str(port), value=port) for port in row.ports]
        whole = type(row.batch.resources)(
            tasks=tasks, shared=type(shared)(shared.disk_mb, None, ports)
        )
        return Allocation(
            id="new",
            namespace=self._record.namespace,
            eval_id="",
            name="",
            node_id=row.node.id,
            node_name=row.node.name,
            job_id=self._record.id,
            job=row.job,
            task_group=row.group.name,
            allocated_resources=whole,
        )
