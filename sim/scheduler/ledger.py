"""What an onlooker knows of a datacenter, and what each entry must leave true.

The ledger follows the allocations that an entry says it changed, as whole records, and
keeps its own books of them: who holds what on which node, what a deployment placed, how
often an index was tried. Nothing here reads the sums that the state keeps; they are
compared with these.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from core.model.allocation import Allocation
from core.model.evaluation import Deployment, DeploymentStatus, EvalTrigger
from core.model.instant import ns_of_rfc3339
from core.model.job import TaskGroup
from core.model.node import Node
from core.model.plan import Plan
from core.state.commands import ApplyPlans, SetDesiredTransition, UpsertDeployments
from core.state.jobs import JobRecord
from core.state.result import Applied, PlanResult
from core.state.state import State
from sim.scheduler import named, reference
from sim.scheduler.known import HOLDING, Count, DoneOnce, Known, failed_at_us
from sim.scheduler.reference import Try
from sim.seeds import Violation

PRIORITY_GAP: Final = 10
_ACTIVE: Final = frozenset({"running", "paused", "pending", "blocked", "unblocking"})
_UPDATED: Final = "alloc is being updated due to job update"
_RESCHEDULED: Final = "alloc was rescheduled because it failed"


Group = tuple[str, str]  # job uid, group


class Ledger:
    """Invariant: `known` equals the state's allocations after each entry (`compare`)."""

    def __init__(self, situations: Counter[str]) -> None:
        self.situations = situations
        self.state: State
        self.wall_us = 0  # of the entry
        self.known: dict[str, Known] = {}
        self.by_node: dict[str, dict[str, Known]] = defaultdict(dict)
        self.by_group: dict[Group, dict[str, Known]] = defaultdict(dict)
        self.counts: dict[tuple[str, str], Count] = defaultdict(Count)  # deployment, group
        self.collected: dict[Group, Counter[str]] = defaultdict(Counter)  # by client status
        self.done = DoneOnce()
        self._promoted: dict[tuple[str, str], None] = {}
        self._failed: dict[str, None] = {}  # deployments

    # --- following ------------------------------------------------------------------------

    def on_entry(self, state: State, commands: list[Any], applied: Applied) -> set[str]:
        """Take in an entry and judge it; return the nodes whose allocations changed.

        Raises:
            Violation: It must not have done that.
        """
        self.state = state
        rows: dict[int, None] = {}
        for change in applied.changes:
            if change.rows is not None:
                rows |= dict.fromkeys(change.rows.tolist())
        fresh: list[Known] = []
        changed: list[tuple[Allocation | None, Known]] = []
        for row in rows:
            alloc = state.allocs.allocation(row)
            before = self.known.get(alloc.id)
            if before is None:
                known = self._enter(alloc, applied.index)
                fresh.append(known)
                changed.append((None, known))
            else:
                old = before.alloc
                self._follow(before, alloc, applied.index)
                changed.append((old, before))
        self._count(changed)
        self._check_nodes(fresh, changed, applied.index)
        groups = dict.fromkeys((known.job_uid, known.alloc.task_group) for _, known in changed)
        for group in groups:
            self._check_group(group, applied.index)
        for known in fresh:
            if known.alloc.previous_allocation:
                self._check_reschedule(known)
        for command, result in zip(commands, applied.results, strict=True):
            if isinstance(command, ApplyPlans):
                self._check_plans(command.plans, result.value, applied.index)
            elif isinstance(command, SetDesiredTransition):
                self._check_drain(command)
            elif isinstance(command, UpsertDeployments):
                for one in command.deployments:
                    self._note_deployment(one.status, one.status_description)
        for change in applied.changes:
            if change.table == "deployment":
                self._check_deployment(change.key)
        self.done.look(known for _, known in changed)
        return {known.alloc.node_id for _, known in changed}

    def forget(self, ids: Iterable[str]) -> None:
        """These were collected: what they were still counts in their job's summary."""
        for alloc_id in ids:
            known = self.known.pop(alloc_id)
            group = known.job_uid, known.alloc.task_group
            del self.by_node[known.alloc.node_id][alloc_id], self.by_group[group][alloc_id]
            self.collected[group][known.alloc.client_status] += 1

    def _enter(self, alloc: Allocation, index: int) -> Known:
        record = self.state.jobs.get(alloc.namespace, alloc.job_id)
        assert alloc.job is not None or record is not None
        uid = (alloc.job.uid if alloc.job is not None else record and record.uid) or ""
        known = Known(alloc, uid, index, was_canary=False)
        known.was_canary = known.is_canary
        known.canary_of = alloc.deployment_id if known.is_canary else ""
        self.known[alloc.id] = known
        self.by_node[alloc.node_id][alloc.id] = known
        self.by_group[uid, alloc.task_group][alloc.id] = known
        return known

    def _follow(self, known: Known, alloc: Allocation, index: int) -> None:
        if alloc.desired_status != "run" and known.alloc.desired_status == "run":
            known.stopped = index
        if alloc.client_status == "unknown" and known.alloc.client_status != "unknown":
            known.was_unknown = True
            self.situations["marked unknown"] += 1
        if known.alloc.client_status == "unknown" and alloc.client_status == "running":
            self.situations["unknown and running again"] += 1
        if alloc.client_status == "lost" and known.alloc.client_status != "lost":
            self.situations["lost"] += 1
        if known.alloc.job_version != alloc.job_version:
            self.situations["updated in place"] += 1
        if known.alloc.client_status in ("complete", "failed") and alloc.client_status in HOLDING:
            raise Violation("an end taken back", f"{alloc.name} is {alloc.client_status} again")
        if not alloc.node_id:
            alloc.node_id = known.alloc.node_id  # its node was purged
        known.alloc = alloc

    def _check_drain(self, command: SetDesiredTransition) -> None:
        """A drain leaves alone what it was told to, and takes healthy ones a few at a time."""
        if any(one.triggered_by != EvalTrigger.NODE_DRAIN for one in command.evaluations):
            return
        healthy: Counter[Group] = Counter()
        for alloc_id in command.transitions:
            known = self.known[alloc_id]
            node, job = self._node(known.alloc.node_id), known.alloc.job
            drain = node.drain_strategy if node is not None else None
            if drain is None or job is None:
                continue
            is_system = job.type in ("system", "sysbatch")
            if drain.ignore_system_jobs and is_system:
                raise Violation("drain moved a system job", known.alloc.name)
            due_us = ns_of_rfc3339(drain.force_deadline) // 1000
            is_forced = drain.deadline_ns < 0 or 0 < due_us <= self.wall_us
            if is_system and not is_forced:
                self._check_goes_last(known)
            # What is unknown serves nobody: to move it takes nothing from its group.
            is_serving = known.alloc.client_status == "running" and _is_healthy(known.alloc)
            if job.type == "service" and not is_forced and is_serving:
                healthy[known.job_uid, known.alloc.task_group] += 1
        for group, count in healthy.items():
            record = self.state.jobs.by_uid(group[0])
            wanted = self.group_of(group, record.version) if record is not None else None
            most = wanted.migrate.max_parallel if wanted is not None and wanted.migrate else None
            if most and wanted is not None and count > most:
                raise Violation("drain takes too many", f"{count} of {group[1]}, {most} may move")

    def _check_goes_last(self, leaving: Known) -> None:
        beside = [
            known.alloc
            for known in self.by_node[leaving.alloc.node_id].values()
            if known.is_live and known.alloc.job is not None
        ]
        others = [one for one in beside if one.job and one.job.type not in ("system", "sysbatch")]
        if others:
            text = f"{leaving.alloc.name} was asked to go before {others[0].name}"
            raise Violation("drain takes a system job first", text)

    # --- nodes ----------------------------------------------------------------------------

    def holders(self, node_id: str, index: int) -> list[Known]:
        """Return who holds room on a node for a newcomer of entry `index`.

        What the same entry stops may be followed at once; what an earlier one stopped holds
        on until its end.
        """
        return [
            known
            for known in self.by_node[node_id].values()
            if known.holds and known.stopped != index
        ]

    def _check_nodes(
        self, fresh: list[Known], changed: list[tuple[Allocation | None, Known]], index: int
    ) -> None:
        grown = [
            known
            for old, known in changed
            if old is not None
            and old.allocated_resources != known.alloc.allocated_resources
            and _is_more(known.alloc, old)
        ]
        for known in fresh:
            node = self._node(known.alloc.node_id)
            if node is None or not reference.is_ready(node):
                raise Violation("node not ready", f"{known.alloc.name} was placed on {node}")
        for node_id in dict.fromkeys(known.alloc.node_id for known in [*fresh, *grown]):
            node = self._node(node_id)
            if node is not None:
                self._check_node(node, fresh, index)

    def _check_node(self, node: Node, fresh: list[Known], index: int) -> None:
        held = self.holders(node.id, index)
        whole = reference.capacity(node)
        sizes = [reference.size_of(known.alloc) for known in held]
        for name in ("cpu", "memory", "disk"):
            used = sum(getattr(size, name) for size in sizes)
            if used > getattr(whole, name):
                raise Violation(
                    "over-commit",
                    f"{node.name}: {used} of {getattr(whole, name)} {name} by "
                    f"{', '.join(known.alloc.name for known in held)}",
                )
        # Two older ones may share a port: one that stops, and its successor.
        newcomers = {known.alloc.id for known in fresh}
        taken = dict.fromkeys(reference.reserved_ports(node), "the node itself")
        for known in sorted(held, key=lambda one: one.alloc.id in newcomers):
            for port in reference.ports_of(known.alloc):
                if port in taken and known.alloc.id in newcomers:
                    text = f"{node.name}: port {port} of {taken[port]} and {known.alloc.name}"
                    raise Violation("port given twice", text)
                taken[port] = known.alloc.name
        self._check_units(node, held, newcomers)

    def _check_units(self, node: Node, held: list[Known], newcomers: set[str]) -> None:
        # A node may have lost a core since an older one got it, and two older ones may share
        # one: one that stops, and its successor. Who comes gets what is there and nobody's.
        there, owner = named.offered(node), dict[str, str]()
        for known in sorted(held, key=lambda one: one.alloc.id in newcomers):
            for name in named.names_of(known.alloc):
                is_new = known.alloc.id in newcomers
                if is_new and name in owner:
                    text = f"{node.name}: {name} of {owner[name]} and {known.alloc.name}"
                    raise Violation("unit given twice", text)
                if is_new and name not in there:
                    raise Violation("unit given twice", f"{node.name} has no {name} to give")
                owner[name] = known.alloc.name

    def _node(self, node_id: str) -> Node | None:
        return self.state.nodes.get(node_id)

    # --- groups ---------------------------------------------------------------------------

    def _check_group(self, group: Group, index: int) -> None:
        members = self.by_group[group].values()
        plain: dict[tuple[int, str], str] = {}
        canaries: Counter[int] = Counter()
        for known in members:
            if not known.is_live or known.was_unknown:
                continue
            if known.is_canary:
                canaries[known.alloc.job_version] += 1
                continue
            # What a canary stands for stops with the next plan after its promotion.
            key = known.alloc.index, known.canary_of
            if key in plain:
                text = f"{known.alloc.name} is {known.alloc.id} and {plain[key]}"
                raise Violation("index twice", text)
            plain[key] = known.alloc.id
        for version, count in canaries.items():
            self._check_canaries(group, version, count)

    def _check_canaries(self, group: Group, version: int, count: int) -> None:
        wanted = self.group_of(group, version)
        update = wanted.update if wanted is not None else None
        most = (update.canary or 0) if update is not None else 0
        record = self.state.jobs.by_uid(group[0])
        if record is not None and record.job.type == "system":  # percent of the nodes
            most = -(-most * len([*self.state.nodes]) // 100)
        if count > most:
            text = f"{count} canaries of {group[1]} version {version}, the job asks for {most}"
            raise Violation("canaries", text)

    def group_of(self, group: Group, version: int) -> TaskGroup | None:
        """Return a group as a version of its job describes it."""
        record = self.state.jobs.by_uid(group[0])
        job = None if record is None else self.state.jobs.version(record.ordinal, version)
        groups = (job.task_groups if job is not None else None) or []
        return next((one for one in groups if one.name == group[1]), None)

    # --- deployments ----------------------------------------------------------------------

    def _count(self, changed: list[tuple[Allocation | None, Known]]) -> None:
        for old, known in changed:
            alloc = known.alloc
            if not alloc.deployment_id:
                continue
            count = self.counts[alloc.deployment_id, alloc.task_group]
            if old is None or old.deployment_id != alloc.deployment_id:
                count.placed += 1
                if known.is_canary:
                    count.canaries.append(alloc.id)
            status = alloc.deployment_status
            said = status.healthy if status is not None else None
            deployment = self.state.deployments.get(alloc.deployment_id)
            is_active = deployment is not None and deployment.status in _ACTIVE
            if said is not None and is_active:
                count.health[alloc.id] = said

    def _check_deployment(self, deployment_id: str) -> None:
        deployment = self.state.deployments.get(deployment_id)
        if deployment is None:
            return
        self._check_failed(deployment)
        for name, group in (deployment.task_groups or {}).items():
            count = self.counts[deployment_id, name]
            healthy = sum(count.health.values())
            if group.promoted and (deployment_id, name) not in self._promoted:
                self._promoted[deployment_id, name] = None
                record = self.state.jobs.get(deployment.namespace, deployment.job_id)
                is_system = record is not None and record.job.type == "system"
                self.situations["system canaries promoted"] += is_system
                good = sum(count.health.get(alloc_id, False) for alloc_id in count.canaries)
                if good < group.desired_canaries:
                    text = f"{deployment.job_id}.{name}: {good} of {group.desired_canaries} healthy"
                    raise Violation("promoted too early", text)
            said = group.placed_allocs, group.healthy_allocs, group.unhealthy_allocs
            seen = count.placed, healthy, len(count.health) - healthy
            if said != seen or (group.placed_canaries or []) != count.canaries:
                text = (
                    f"{deployment.job_id}.{name}: (placed, healthy, unhealthy) {said}, not {seen}"
                )
                raise Violation("deployment counters", text)
        self._note_deployment(deployment.status, deployment.status_description)
        record = self.state.jobs.get(deployment.namespace, deployment.job_id)
        is_done = deployment.status == DeploymentStatus.SUCCESSFUL
        if is_done and record is not None and record.job.type == "system":
            self.situations["system deployment successful"] += 1

    def _check_failed(self, deployment: Deployment) -> None:
        """Where a group asks for it, the job goes back to a stable version at once."""
        if deployment.status != DeploymentStatus.FAILED or deployment.id in self._failed:
            return
        self._failed[deployment.id] = None
        record = self.state.jobs.get(deployment.namespace, deployment.job_id)
        if record is None or record.is_stopped or record.version != deployment.job_version:
            return
        asks = any(group.auto_revert for group in (deployment.task_groups or {}).values())
        stable = next((job for job in record.older if job.stable), None)
        if asks and stable is not None and stable.task_groups != record.job.task_groups:
            text = f"{record.id} version {record.version} failed, an older one is stable"
            raise Violation("not reverted", text)

    def _note_deployment(self, status: str, description: str) -> None:
        seen = self.situations
        seen["deployment successful"] += status == DeploymentStatus.SUCCESSFUL
        seen["deployment cancelled"] += status == DeploymentStatus.CANCELLED
        seen["deployment failed"] += status == DeploymentStatus.FAILED
        seen["auto-revert"] += "rolling back" in description
        seen["progress deadline"] += "progress deadline" in description

    # --- plans ----------------------------------------------------------------------------

    def _check_plans(self, plans: list[Plan], results: list[PlanResult], index: int) -> None:
        for plan, result in zip(plans, results, strict=True):
            if result.error:
                raise Violation("plan refused", result.error)
            self._check_withheld(plan, result, index)
            self._check_pace(plan, index)
            self.situations["stop withheld"] += len(result.withheld_stops)
            self.situations["in-place update refused"] += len(result.refused_in_place)
            for stop in plan.stops:
                if stop.preempted_by and stop.alloc_id not in result.withheld_stops:
                    self._check_victim(stop.alloc_id, stop.preempted_by)

    def _check_withheld(self, plan: Plan, result: PlanResult, index: int) -> None:
        """What was to be replaced and was not, runs on."""
        for dropped in result.dropped:
            batch = plan.placements[dropped.batch]
            for row, reason in zip(dropped.rows, dropped.reasons, strict=True):
                self.situations["plan row dropped at apply"] += 1
                self.situations[f"dropped for {reason}"] += 1
                previous = self.known.get(batch.previous[row]) if batch.previous else None
                if previous is None or previous.stopped != index:
                    continue
                if previous.alloc.client_status != "lost":
                    text = f"{previous.alloc.name} was stopped, its replacement was refused"
                    raise Violation("stop not withheld", text)

    def _check_pace(self, plan: Plan, index: int) -> None:
        """At most `max_parallel` instances of a group are away for an update."""
        stopped: Counter[Group] = Counter()
        for stop in plan.stops:
            known = self.known.get(stop.alloc_id)
            if known is None or known.stopped != index or stop.description != _UPDATED:
                continue
            stopped[known.job_uid, known.alloc.task_group] += 1
        for group, count in stopped.items():
            record = self.state.jobs.by_uid(group[0])
            is_system = record is not None and record.job.type == "system"
            mine = [one for one in plan.placements if one.group == group[1]]
            batch = next((one for one in mine if is_system or not one.canary), None)
            if record is None or batch is None:
                continue
            wanted = self.group_of(group, batch.job_version)
            update = wanted.update if wanted is not None else None
            if update is None or not update.max_parallel or record.job.type == "batch":
                continue
            away = count
            deployment_id = batch.deployment_id
            if deployment_id:
                away = sum(
                    known.is_live
                    and known.alloc.deployment_id == deployment_id
                    and not _is_healthy(known.alloc)
                    and not (known.created != index and known.alloc.modify_index == index)
                    for known in self.by_group[group].values()
                )
            self.situations["destructive update"] += count
            self._check_health_of_rollout(plan, group, record, deployment_id)
            if max(away, count) > update.max_parallel:
                text = f"{record.id}.{group[1]}: {max(away, count)} away, {update.max_parallel} may"
                raise Violation("max_parallel", text)

    def _check_health_of_rollout(
        self, plan: Plan, group: Group, record: JobRecord, deployment_id: str
    ) -> None:
        """An unhealthy instance that the planner knew of holds its rollout."""
        if not deployment_id or record.job.type != "service" or not plan.evaluations:
            return
        snapshot = plan.evaluations[0].snapshot_index
        for known in self.by_group[group].values():
            status = known.alloc.deployment_status
            is_ill = status is not None and status.healthy is False
            is_ill &= known.alloc.desired_status == "run" and not known.stopped
            if (
                is_ill
                and known.alloc.deployment_id == deployment_id
                and known.alloc.modify_index <= snapshot
            ):
                text = f"{known.alloc.name} is unhealthy, the rollout of {record.id} goes on"
                raise Violation("unhealthy rollout goes on", text)

    def _check_victim(self, victim_id: str, winner_id: str) -> None:
        victim, winner = self.known.get(victim_id), self.known.get(winner_id)
        if victim is None:
            return
        self.situations["preemption"] += 1
        if winner is None:
            raise Violation("preempted for nothing", f"{victim.alloc.name} gave way to nobody")
        low, high = _priority(victim.alloc), _priority(winner.alloc)
        if low > high - PRIORITY_GAP:
            text = f"{victim.alloc.name} ({low}) gave way to {winner.alloc.name} ({high})"
            raise Violation("preempted an equal", text)

    def _check_reschedule(self, follower: Known) -> None:
        """A failed instance is tried again when its policy lets it, and not before."""
        previous = self.known.get(follower.alloc.previous_allocation)
        if (
            previous is None
            or previous.alloc.client_status != "failed"
            or previous.alloc.desired_description != _RESCHEDULED
            or follower.alloc.reschedule_tracker is None
        ):
            return  # lost, moved, or of a new version: its tries begin anew
        version = follower.alloc.job_version
        group = self.group_of((follower.job_uid, follower.alloc.task_group), version)
        policy = group.reschedule_policy if group is not None else None
        failed_us = failed_at_us(previous.alloc)
        allowed = reference.next_try_us(policy, failed_us, previous.tries)
        now_us = follower.alloc.create_time_ns // 1000
        self.situations["rescheduled"] += 1
        if allowed is None or now_us < allowed[0] - reference.WINDOW_US:
            text = (
                f"{follower.alloc.name} failed at {failed_us}, was tried at {now_us} after "
                f"{len(previous.tries)} tries; {policy} allows {allowed}"
            )
            raise Violation("rescheduled too soon", text)
        self.situations["reschedule delayed"] += now_us > failed_us + reference.WINDOW_US
        follower.tries = [*previous.tries, Try(now_us, allowed[1])]


def _is_healthy(alloc: Allocation) -> bool:
    status = alloc.deployment_status
    return status is not None and status.healthy is True


def _is_more(now: Allocation, before: Allocation) -> bool:
    one, other = reference.size_of(now), reference.size_of(before)
    return one.cpu > other.cpu or one.memory > other.memory or one.disk > other.disk


def _priority(alloc: Allocation) -> int:
    assert alloc.job is not None
    return alloc.job.priority or 50
