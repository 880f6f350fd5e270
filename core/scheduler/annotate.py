"""What would happen: `job plan`, and whether a job fits this datacenter at all.

Both solve an ordinary problem for a job that was not registered; nothing is proposed.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from core.model.allocation import AllocMetric, Desired
from core.model.evaluation import EvalStatus, Evaluation
from core.model.job import Job, TaskGroup
from core.model.plan import Plan
from core.scheduler.capture import (
    capture_allowances,
    capture_config,
    capture_job,
    capture_nodes,
    capture_running,
    nameless_view,
)
from core.scheduler.decisions import desired_updates
from core.scheduler.demand import ask_of_group
from core.scheduler.feasibility import Candidates, Feasibility
from core.scheduler.planner import Planned
from core.scheduler.preempt import Running
from core.scheduler.problem import Problem, Work
from core.scheduler.reconcile import wanted_indices
from core.scheduler.room import Ask, Room
from core.scheduler.view import Ints, JobView, NodesView
from core.state.jobs import spec_key
from core.state.resources import parse_ports

if TYPE_CHECKING:
    from core.state.state import State

_DRY_RUN = "dry-run"


@dataclass(slots=True)
class PlanOutcome:
    """What registering the job would do."""

    desired_updates: dict[str, dict[str, int]]  # Nomad's DesiredTGUpdates
    failed_tg_allocs: dict[str, AllocMetric]
    created_evaluations: list[Evaluation]
    job_modify_index: int  # of the registered job, 0 = it is new
    plan: Plan

    @property
    def preempted(self) -> list[str]:
        """Return the ids of other jobs' allocations that would give way."""
        return [stop.alloc_id for stop in self.plan.stops if stop.desired == Desired.EVICT]

    @property
    def placed(self) -> dict[str, AllocMetric]:
        """Return by group how its first placements were chosen."""
        found: dict[str, AllocMetric] = {}
        for batch in self.plan.placements:
            if batch.metrics is not None:
                found.setdefault(batch.group, batch.metrics)
        return found


@dataclass(slots=True)
class GroupFit:
    """Whether one group fits. `possible` counts what an empty datacenter would hold."""

    group: str
    wanted: int
    placed: int  # of the wanted, with the room there is now
    possible: int
    reasons: list[str] = field(default_factory=list)  # why not all now, in words

    @property
    def fits_now(self) -> bool:
        return self.placed >= self.wanted

    @property
    def could_ever_fit(self) -> bool:
        return self.possible >= self.wanted


@dataclass(slots=True)
class Held:
    """Room on nodes that is promised to somebody: one ask on each of `nodes`."""

    ask: Ask
    nodes: Ints  # ordinals; one may come several times


@dataclass(slots=True)
class Fit:
    """Whether a whole job fits this datacenter."""

    groups: list[GroupFit]
    placed: list[Held] = field(default_factory=list)  # where it would go

    @property
    def fits_now(self) -> bool:
        return all(group.fits_now for group in self.groups)

    @property
    def could_ever_fit(self) -> bool:
        return all(group.could_ever_fit for group in self.groups)

    def reasons(self) -> list[str]:
        """Return each group's reasons, as `web: memory: largest node has 2048 MiB, ...`."""
        return [f"{one.group}: {reason}" for one in self.groups for reason in one.reasons]


def dry_run(state: "State", job: Job, *, now_us: int, seed: int = 0) -> PlanOutcome:
    """Return what registering `job` (canonical) would do now."""
    view = _hypothetical(state, job)
    running = capture_running(state, [view], capture_config(state))
    planned = _solve(state, capture_nodes(state), view, job, now_us, seed, running)
    plan = planned.plans[-1]
    registered = state.jobs.job(job.namespace or "default", job.id or "")
    return PlanOutcome(
        desired_updates=desired_updates(planned.changes),
        failed_tg_allocs=planned.failed,
        created_evaluations=[
            one
            for one in plan.evaluations
            if one.id != _DRY_RUN and one.status != EvalStatus.CANCELLED
        ],
        job_modify_index=(registered.job_modify_index or 0) if registered is not None else 0,
        plan=plan,
    )


def fits(
    state: "State",
    job: Job,
    *,
    now_us: int = 0,
    indices: dict[str, list[tuple[int, int]]] | None = None,
    held: Sequence[Held] = (),
) -> Fit:
    """Return which groups of `job` fit now, and which never could.

    Args:
        indices: The share that is asked about, by group; None for the whole job.
        held: What is promised to others and not in the state yet.
    """
    view = _hypothetical(state, job)
    if indices is not None:
        view.indices = indices
    nodes = capture_nodes(state)
    for one in held:
        np.add.at(nodes.cpu_used, one.nodes, one.ask.cpu)
        np.add.at(nodes.memory_used, one.nodes, one.ask.memory)
        np.add.at(nodes.disk_used, one.nodes, one.ask.disk)
    planned = _solve(state, nodes, view, job, now_us, 0)
    feasibility = Feasibility(nodes)
    result = []
    for group in job.task_groups or []:
        ask = ask_of_group(group)
        candidates = feasibility.candidates(job, group)
        if job.type in ("system", "sysbatch"):
            wanted = int(candidates.eligible.sum())
        else:
            wanted = len(wanted_indices(view, group))
        missing = planned.queued.get(group.name, 0)
        possible = _possible(nodes, job, group, wanted)
        fit = GroupFit(group.name, wanted, wanted - missing, possible)
        if not (fit.fits_now and fit.could_ever_fit):
            fit.reasons = _reasons(nodes, candidates, ask, fit, planned.failed.get(group.name))
        result.append(fit)
    asks = {group.name: ask_of_group(group) for group in job.task_groups or []}
    return Fit(
        result,
        [
            Held(asks[batch.group], np.frombuffer(batch.node, "<i4").astype(np.int64))
            for plan in planned.plans
            for batch in plan.placements
        ],
    )


def _hypothetical(state: "State", job: Job) -> JobView:
    namespace, job_id = job.namespace or "default", job.id or ""
    record = state.jobs.get(namespace, job_id)
    if record is None:
        view = nameless_view(state, namespace, job_id)
        view.job = msgspec.structs.replace(job, version=0)
        return view
    view = capture_job(state, record)
    if spec_key(job) == spec_key(record.job):
        return view  # registering the same again makes no new version
    view.job = msgspec.structs.replace(
        job, version=record.version + 1, create_index=record.job.create_index
    )
    return view


def _solve(
    state: "State",
    nodes: NodesView,
    view: JobView,
    job: Job,
    now_us: int,
    seed: int,
    running: Running | None = None,
) -> Planned:
    evaluation = Evaluation(
        id=_DRY_RUN,
        priority=job.priority or 50,
        type=job.type or "service",
        namespace=view.namespace,
        job_id=view.id,
        annotate_plan=True,
    )
    problem = Problem(
        nodes=nodes,
        work=[Work(evaluation, view, [])],
        config=capture_config(state),
        now_us=now_us,
        snapshot_index=state.index,
        seed=seed,
        datacenter_id=state.allocs.datacenter_id or "0" * 12,
        running=running,
        allowances=capture_allowances(state),
    )
    return problem.solve_in_detail()[0]


def _possible(nodes: NodesView, job: Job, group: TaskGroup, wanted: int) -> int:
    """Return how many instances all nodes would hold if they were empty and ready."""
    if not wanted:
        return 0
    none = np.zeros(len(nodes), np.int64)
    empty = dataclasses.replace(
        nodes,
        cpu_used=none,
        memory_used=none,
        disk_used=none,
        is_ready=nodes.class_id >= 0,
        ports_used={
            ordinal: reserved
            for ordinal, node in enumerate(nodes.records)
            if node is not None
            and (text := node.reserved_resources.networks.reserved_host_ports)
            and (reserved := parse_ports(text))
        },
    )
    candidates = Feasibility(empty).candidates(job, group)
    constraints = [*(job.constraints or []), *(group.constraints or [])]
    most = 1 if any(one.operand == "distinct_hosts" for one in constraints) else wanted
    held = Room(empty, random.Random(0)).fits(ask_of_group(group), candidates.eligible, most)
    return int(held.sum())


def _reasons(
    nodes: NodesView, candidates: Candidates, ask: Ask, fit: GroupFit, metric: AllocMetric | None
) -> list[str]:
    if not candidates.evaluated:
        where = "none in its node pool" if not candidates.in_pool else "none in its datacenters"
        return [f"no ready node may take it: {where}"]
    reasons = [
        f"{reason}: excludes {count} of {candidates.evaluated} nodes"
        for reason, count in sorted(candidates.filtered.items())
    ]
    eligible = candidates.eligible
    if eligible.any():
        for name, unit, asked, capacity, used in (
            ("cpu", "MHz", ask.cpu, nodes.cpu_capacity, nodes.cpu_used),
            ("memory", "MiB", ask.memory, nodes.memory_capacity, nodes.memory_used),
            ("disk", "MiB", ask.disk, nodes.disk_capacity, nodes.disk_used),
        ):
            largest = int(capacity[eligible].max())
            free = int((capacity - used)[eligible].max())
            if largest < asked:
                reasons.append(f"{name}: largest node has {largest} {unit}, asks {asked} {unit}")
            elif free < asked:
                reasons.append(
                    f"{name}: most that a node has free is {free} {unit}, asks {asked} {unit}"
                )
        for name in sorted((metric.dimension_exhausted if metric else None) or {}):
            if name.startswith("network"):
                reasons.append(name)
    if not fit.could_ever_fit:
        reasons.append(f"all nodes empty would hold {fit.possible} of {fit.wanted}")
    elif not fit.fits_now:
        reasons.append(f"room for {fit.placed} of {fit.wanted} now")
    return reasons
