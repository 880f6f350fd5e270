"""What must be true of a datacenter when nothing is on its way: as much runs as can run."""

import random
from collections import Counter

import numpy as np

from core.model.evaluation import Deployment, EvalStatus, Evaluation
from core.model.ids import new_id
from core.model.instant import ns_of_rfc3339
from core.model.job import Job, TaskGroup
from core.model.node import Node, NodeStatus
from core.scheduler import prepare
from core.state.jobs import JobRecord
from core.state.state import State
from sim.scheduler import reference
from sim.scheduler.known import Known, failed_at_us
from sim.scheduler.leader import DATACENTER, S
from sim.scheduler.ledger import Ledger
from sim.scheduler.rationing import Ration
from sim.seeds import Violation

_SYSTEM = ("system", "sysbatch")
_BATCH = ("batch", "sysbatch")
_HELD = ("failed", "paused")
_SLACK_US = 6 * S


class Rest:
    """One look at a datacenter at rest."""

    def __init__(
        self, state: State, ledger: Ledger, ration: Ration, now_us: int, rng: random.Random
    ) -> None:
        self._state, self._ledger, self._now_us, self._rng = state, ledger, now_us, rng
        self._ration = ration
        self._nodes = {node.id: node for node in state.nodes}
        self._open: dict[tuple[str, str], list[Evaluation]] = {}
        for one in state.evals.open():
            self._open.setdefault((one.namespace, one.job_id), []).append(one)

    def check(self, *, is_last: bool = False) -> None:
        """Judge everything.

        Raises:
            Violation: Something is not as it must be.
        """
        self._check_books()
        self._ration.check(self._state)
        self._check_evaluations()
        self._check_drains()
        for record in [*self._state.jobs]:
            self._check_job(record)
        records = [*self._state.jobs]
        if not is_last and len(records) > 2:
            blocked = [record for record in records if self._blocked(record)]
            records = list(
                {one.id: one for one in [*blocked[:1], self._rng.choice(records)]}.values()
            )
        for record in records:
            self._check_again(record)
        if is_last:
            for deployment in self._state.deployments.active():
                self._check_deployment(deployment)

    # --- books ------------------------------------------------------------------------------

    def _check_books(self) -> None:
        nodes = self._state.nodes
        for node in nodes:
            ordinal = nodes.ordinal_of(node.id)
            assert ordinal is not None
            held = [k.alloc for k in self._ledger.by_node[node.id].values() if k.holds]
            sizes = [reference.size_of(alloc) for alloc in held]
            for name, column in (
                ("cpu", nodes.cpu_used), ("memory", nodes.memory_used), ("disk", nodes.disk_used)
            ):  # fmt: skip
                used = sum(getattr(size, name) for size in sizes)
                if used != column[ordinal]:
                    text = f"{node.name}: {name} used {column[ordinal]}, it holds {used}"
                    raise Violation("usage of nodes", text)
            taken = reference.reserved_ports(node)
            for alloc in held:
                taken |= set(reference.ports_of(alloc))
            if nodes.ports_used(ordinal) != sum(1 << port for port in taken):
                raise Violation("ports of nodes", f"{node.name} holds {sorted(taken)}")
        for record in self._state.jobs:
            summary = self._state.jobs.summary(record).summary
            for name, said in summary.items():
                members = self._ledger.by_group[record.uid, name].values()
                seen = Counter(known.alloc.client_status for known in members)
                seen.update(self._ledger.collected[record.uid, name])
                for status, number in (
                    ("pending", said.starting), ("running", said.running),
                    ("complete", said.complete), ("failed", said.failed),
                    ("lost", said.lost), ("unknown", said.unknown),
                ):  # fmt: skip
                    if seen[status] != number:
                        text = f"{record.id}.{name}: {status} {number}, there are {seen[status]}"
                        raise Violation("summary", text)

    def compare(self) -> None:
        """Hold the ledger against every row of the state: no change went unsaid."""
        allocs = self._state.allocs
        rows = allocs.rows().tolist()
        if len(rows) != len(self._ledger.known):
            raise Violation(
                "unsaid change", f"{len(rows)} rows, {len(self._ledger.known)} heard of"
            )
        for row in rows:
            alloc = allocs.allocation(row)
            known = self._ledger.known[alloc.id].alloc
            for name in ("desired_status", "client_status", "job_version", "deployment_status"):
                if getattr(alloc, name) != getattr(known, name):
                    text = f"{alloc.name}: {name} became {getattr(alloc, name)} in silence"
                    raise Violation("unsaid change", text)

    def _check_drains(self) -> None:
        """A drain that is due has moved all, and one that has moved all is over."""
        for node in self._nodes.values():
            drain = node.drain_strategy
            if drain is None:
                continue
            left = [
                known.alloc
                for known in self._ledger.by_node[node.id].values()
                if known.is_live
                and known.alloc.job is not None
                and not (drain.ignore_system_jobs and known.alloc.job.type in _SYSTEM)
            ]
            due_us = ns_of_rfc3339(drain.force_deadline) // 1000
            is_due = drain.deadline_ns < 0 or 0 < due_us < self._now_us - _SLACK_US
            # On a node that is cut off nobody stops; they were asked to, and that stays said.
            # Whether those that are unknown have left is not known either.
            told = [alloc for alloc in left if alloc.client_status != "unknown"]
            if node.status != NodeStatus.READY:
                told = [alloc for alloc in left if not alloc.desired_transition.migrate]
            if is_due and told:
                raise Violation("drain is late", f"{told[0].name} is still on {node.name}")
            if not left:
                raise Violation("drain never ends", f"{node.name} has nothing left")

    def _check_evaluations(self) -> None:
        """What is due was planned: nobody works on anything, and nothing waits for that."""
        for one in self._state.evals.open():
            if one.status == EvalStatus.PENDING and one.wait_until_us < self._now_us - _SLACK_US:
                text = f"{one.job_id}: {one.triggered_by} of entry {one.create_index} is pending"
                raise Violation("evaluation forgotten", text)

    # --- jobs -------------------------------------------------------------------------------

    def _check_job(self, record: JobRecord) -> None:
        groups = {group.name: group for group in record.job.task_groups or []}
        for name in record.groups:
            members = [*self._ledger.by_group[record.uid, name].values()]
            live = [known for known in members if known.is_live]
            group = groups.get(name)
            if record.is_stopped or group is None:
                if live:
                    text = f"{live[0].alloc.name} is wanted, its job or group is not"
                    raise Violation("not stopped", text)
            elif record.job.is_template:
                if live:
                    raise Violation("not stopped", f"{live[0].alloc.name} of a template runs")
            elif record.job.type in _SYSTEM:
                self._check_system(record, group, members)
            else:
                self._check_count(record, group, members)

    def _check_count(self, record: JobRecord, group: TaskGroup, members: list[Known]) -> None:
        plain = [known for known in members if not known.is_canary]
        heard = [known for known in plain if known.is_live and self._is_heard(known)]
        twice = [i for i, n in Counter(k.alloc.index for k in heard).items() if n > 1]
        if twice:
            raise Violation("index twice at rest", f"{record.id}.{group.name}[{twice[0]}]")
        count = 1 if group.count is None else group.count
        beyond = [k for k in plain if k.is_live and k.alloc.index >= count]
        if beyond:
            raise Violation("not scaled down", f"{beyond[0].alloc.name}, count is {count}")
        held = {known.alloc.index for known in plain if known.is_live}
        missing = [index for index in range(count) if index not in held]
        for index in missing:
            mine = [known for known in plain if known.alloc.index == index]
            if not self._is_excused(record, group, mine):
                self._check_room(record, *self._comes_back_as(record, group, mine))
        self._check_apart(record, group, heard)

    def _is_heard(self, known: Known) -> bool:
        node = self._nodes.get(known.alloc.node_id)
        return node is not None and node.status == NodeStatus.READY

    def _is_excused(self, record: JobRecord, group: TaskGroup, mine: list[Known]) -> bool:
        """Whether an index is rightly empty: done, given up, waiting for its time."""
        newest = max(mine, key=lambda known: known.created, default=None)
        deployment = self._state.deployments.latest_of_job(record.namespace, record.id)
        is_ours = deployment is not None and deployment.job_version == record.version
        if is_ours and deployment is not None:
            state = (deployment.task_groups or {}).get(group.name)
            waits = state is not None and state.desired_canaries > 0 and not state.promoted
            if newest is None and (waits or deployment.status in _HELD):
                return True
        if newest is None or newest.alloc.desired_status != "run":
            return False
        alloc = newest.alloc
        if alloc.client_status == "complete":
            return record.job.type in _BATCH and alloc.job_version == record.version
        if alloc.client_status != "failed":
            return False
        policy = group.reschedule_policy
        allowed = reference.next_try_us(policy, failed_at_us(alloc), newest.tries)
        if allowed is None:
            return True
        waits = any(
            one.wait_until_us and one.wait_until_us <= allowed[0] + _SLACK_US
            for one in self._open.get((record.namespace, record.id), [])
        )
        return waits or (deployment is not None and deployment.status in _HELD)

    def _comes_back_as(
        self, record: JobRecord, group: TaskGroup, mine: list[Known]
    ) -> tuple[Job, TaskGroup]:
        """Return the version of a missing index: its old one, while canaries are tried out."""
        newest = max(mine, key=lambda known: known.created, default=None)
        deployment = self._state.deployments.latest_of_job(record.namespace, record.id)
        if newest is None or deployment is None or deployment.job_version != record.version:
            return record.job, group
        state = (deployment.task_groups or {}).get(group.name)
        if state is None or not state.desired_canaries or state.promoted:
            return record.job, group
        old = self._state.jobs.version(record.ordinal, newest.alloc.job_version)
        groups = (old.task_groups if old is not None else None) or []
        of_old = next((one for one in groups if one.name == group.name), None)
        return (old, of_old) if old is not None and of_old is not None else (record.job, group)

    def _check_room(self, record: JobRecord, job: Job, group: TaskGroup) -> None:
        others = [
            known.alloc
            for name in record.groups
            for known in self._ledger.by_group[record.uid, name].values()
            if known.is_live
        ]
        name = f"{record.id}.{group.name}"
        for node in self._nodes.values():
            if self._has_room(job, group, node) and reference.is_apart(
                job, group, node, self._nodes, others
            ):
                if self._blocked(record):
                    text = f"{name} waits for room, {node.name} has some"
                    raise Violation("blocked evaluation never woken", text)
                raise Violation("wanted not reached", f"{name} lacks one, {node.name} has room")
        if not self._open.get((record.namespace, record.id)):
            raise Violation("nothing waits for room", f"{name} lacks one and nobody knows")
        self._ledger.situations["waits for room"] += 1

    def _has_room(self, job: Job, group: TaskGroup, node: Node) -> bool:
        if not reference.is_ready(node) or reference.why_not(job, group, node):
            return False
        if self._ration.is_vague(group):
            return False
        everywhere = (k.alloc for k in self._ledger.known.values() if k.holds)
        if self._ration.lacks(group, node, everywhere):
            return False
        held = [k.alloc for k in self._ledger.by_node[node.id].values() if k.holds]
        return not reference.lacks(node, held, group)

    def _blocked(self, record: JobRecord) -> bool:
        found = self._open.get((record.namespace, record.id), [])
        return any(one.status == EvalStatus.BLOCKED for one in found)

    def _check_system(self, record: JobRecord, group: TaskGroup, members: list[Known]) -> None:
        for node in self._nodes.values():
            here = [known for known in members if known.alloc.node_id == node.id]
            live = [known for known in here if known.is_live]
            if len(live) > 1:
                raise Violation("index twice at rest", f"{record.id} twice on {node.name}")
            is_done = record.job.type == "sysbatch" and any(
                known.alloc.client_status in ("complete", "failed")
                and known.alloc.job_version == record.version
                for known in here
            )
            is_stopping = any(known.holds for known in here)  # looked at again when it ended
            if live or is_done or is_stopping or not self._has_room(record.job, group, node):
                continue
            checker = "blocked evaluation never woken"
            if not self._blocked(record):
                checker = "wanted not reached"
            raise Violation(checker, f"{record.id}.{group.name} is not on {node.name}")

    def _check_apart(self, record: JobRecord, group: TaskGroup, live: list[Known]) -> None:
        """Who came in the newest version stands apart from all who were there before, and later.

        Not from those that came after it in an older version, which asked for something else;
        and whoever was away once may have come back beside another.
        """
        beside = [
            known
            for name in record.groups
            for known in self._ledger.by_group[record.uid, name].values()
            if known.is_live and self._is_heard(known) and not _was_apart(known)
        ]
        for known in live:
            node = self._nodes.get(known.alloc.node_id)
            if node is None or known.alloc.job_version != record.version or _was_apart(known):
                continue
            others = [
                one.alloc
                for one in beside
                if one is not known
                and (one.alloc.job_version == record.version or one.created < known.created)
            ]
            if not reference.is_apart(record.job, group, node, self._nodes, others):
                raise Violation("distinct", f"{known.alloc.name} on {node.name} beside another")

    # --- once more ---------------------------------------------------------------------------

    def _check_again(self, record: JobRecord) -> None:
        """Another evaluation at rest finds nothing to do."""
        soon_us = self._now_us + _SLACK_US
        for one in self._open.get((record.namespace, record.id), []):
            if one.wait_until_us and one.wait_until_us <= soon_us:
                return  # its time has all but come
        evaluation = Evaluation(
            id=new_id(self._rng, DATACENTER),
            namespace=record.namespace,
            job_id=record.id,
            type=record.job.type or "service",
        )
        problem = prepare(self._state, [evaluation], now_us=self._now_us, rng=self._rng)
        for plan in problem.solve().plans:
            rows = sum(len(np.frombuffer(one.index, "<i4")) for one in plan.placements)
            if not (rows or plan.stops or plan.in_place or plan.deployment):
                continue
            what = f"{rows} placements, stops {[s.description for s in plan.stops]}, "
            what += f"{len(plan.in_place)} in place, deployment {plan.deployment is not None}"
            checker = "a second evaluation"
            if self._blocked(record):
                checker = "blocked evaluation never woken"
            raise Violation(checker, f"{record.id} ({record.job.type}): {what}")

    def _check_deployment(self, deployment: Deployment) -> None:
        if deployment.status != "running":
            return
        record = self._state.jobs.get(deployment.namespace, deployment.job_id)
        if record is None:
            return
        all_done = True
        for name, group in (deployment.task_groups or {}).items():
            live = [k for k in self._ledger.by_group[record.uid, name].values() if k.is_live]
            mine = [k for k in live if k.alloc.deployment_id == deployment.id]
            healthy = sum(_is_healthy(known) for known in mine)
            waits = group.desired_canaries > 0 and not group.promoted
            is_done = not waits and healthy == group.desired_total == len(live)
            all_done &= is_done
            due_ns = ns_of_rfc3339(group.require_progress_by)
            is_late = due_ns > 0 and due_ns // 1000 < self._now_us - _SLACK_US
            if waits:
                is_late &= group.healthy_allocs < group.desired_canaries
            else:
                is_late &= group.healthy_allocs < group.desired_total
            if is_late:
                text = f"{record.id}.{name}: no progress since {group.require_progress_by}"
                raise Violation("progress deadline", text)
        if all_done:
            raise Violation("deployment never ends", f"{record.id}: all are healthy, it runs on")


def _was_apart(known: Known) -> bool:
    # A canary stood beside its index; who was away may have come back beside its successor.
    return known.was_unknown or known.was_canary


def _is_healthy(known: Known) -> bool:
    status = known.alloc.deployment_status
    return status is not None and status.healthy is True
