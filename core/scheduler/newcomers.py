"""Plans of small new jobs: what planner.py has of them, for a fraction.

A job that has nothing yet, with one group of a few instances that ask for nothing but room on a
node that will do, has nothing to reconcile: all of its instances are placed, best node first.
Most evaluations of a busy datacenter are such, and thousands of jobs differ in their names
alone (core.state.job_forms); what follows from the rest is found once for all of them.

Invariant: the plan is that of `Planner.plan`, in every byte. Whatever is not so plain, or finds
too little room, is left to it, and the room is as before.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from core.model.alike import KeptByParts
from core.model.allocation import AllocatedResources, NodeScoreMeta
from core.model.evaluation import Evaluation
from core.model.job import Job, TaskGroup
from core.model.plan import PlacementBatch, Plan
from core.scheduler.constraints import DISTINCT
from core.scheduler.decisions import GroupChanges
from core.scheduler.demand import ask_of_group, resources_of_group
from core.scheduler.feasibility import Candidates
from core.scheduler.followup import Outcome, follow_ups
from core.scheduler.metrics import base_metric, count_short
from core.scheduler.place import FEW, REASONS_MAX
from core.scheduler.reconcile import ROLLING
from core.scheduler.rollout import Rollout, roll_out
from core.scheduler.room import Ask, Room
from core.scheduler.units import unit_asks
from core.scheduler.view import JobView, SchedulerConfig

if TYPE_CHECKING:
    from core.scheduler.planner import Planner

_TYPES: Final = ("service", "batch")
_KEPT: Final = 1_024
# What a job's plan depends on beside its own names and numbers.
_SAID: Final = (
    "type", "datacenters", "node_pool", "constraints", "affinities", "spreads", "update",
    "task_groups", "multiregion", "periodic", "parameterized_job",
)  # fmt: skip


@dataclass(slots=True)
class _Plain:
    """What is placed for a job of a plain form."""

    group: TaskGroup
    count: int
    ask: Ask
    candidates: Candidates
    resources: AllocatedResources
    index: bytes  # columns of its batch
    generation: bytes


@dataclass(slots=True)
class _Form:
    """What follows for every new job of one form, under one configuration."""

    config: SchedulerConfig
    plain: _Plain | None  # None: it is not so plain


class Newcomers:
    """The forms that one picture of the nodes knows; its `candidates` have to be of it."""

    def __init__(self) -> None:
        self._forms: KeptByParts[_Form] = KeptByParts(_SAID, _KEPT)

    def plan(
        self, planner: "Planner", evaluation: Evaluation, view: JobView
    ) -> "tuple[Plan, GroupChanges] | None":
        """Return the plan of a new job and what it changes; None when `planner` has to look."""
        job = view.job
        if job is None or not _has_nothing(view) or evaluation.annotate_plan:
            return None
        form = self._form_of(planner, job).plain
        if form is None:
            return None
        group, ask, candidates = form.group, form.ask, form.candidates
        if any(name != group.name for name in view.group_names.values()):
            return None
        room = planner.room
        standing = room.standings.of(ask, candidates.eligible, candidates.number)
        nodes, scores = room.standings.choose(standing, form.count, form.count)
        if len(nodes) < form.count:
            room.standings.note([*dict.fromkeys(nodes)])  # it shows them as taken
            return None
        at = np.array(nodes, np.int64)
        room.take(ask, at)
        metric = base_metric(job.node_pool or "default", candidates)
        metric.score_meta_data = _reasons(room, nodes, scores)
        standing = room.standings.of(ask, candidates.eligible, candidates.number)
        count_short(metric, standing.short, room.view.node_classes.names)
        none = at[:0]
        changes = GroupChanges(group.name, group, np.arange(form.count), none, wanted=form.count)
        rollout = Rollout()
        if job.type in ROLLING:
            rollout = roll_out(view, [changes], evaluation, planner.new_id)
        batch = PlacementBatch(
            group=group.name,
            job_version=job.version or 0,
            index=form.index,
            generation=form.generation,
            node=at.astype("<i4").tobytes(),
            resources=form.resources,
            metrics=metric,
            scores=np.array(scores, "<f4").tobytes(),
            deployment_id=rollout.deployment_id,
        )
        outcome = Outcome({}, {group.name: 0}, [], [], deployment_id=rollout.deployment_id)
        plan = Plan(
            eval_id=evaluation.id,
            namespace=view.namespace,
            job_id=view.id,
            job_uid=view.uid,
            deployment=rollout.created,
            placements=[batch],
            evaluations=follow_ups(
                evaluation, outcome, planner.now_us, planner.snapshot_index, planner.new_id
            ),
        )
        return plan, changes

    def _form_of(self, planner: "Planner", job: Job) -> _Form:
        known = self._forms.get(job)
        if known is not None and known.config == planner.config:
            return known
        return self._forms.keep(job, _Form(planner.config, _plain(planner, job)))


def _has_nothing(view: JobView) -> bool:
    """Whether nothing of the job runs, ran, waits or is limited, and it shall run."""
    return not (
        view.is_stopped
        or len(view.rows)
        or view.deployment is not None
        or view.blocked
        or view.retries
        or view.indices
        or view.generations
        or view.versions
    )


def _plain(planner: "Planner", job: Job) -> _Plain | None:
    groups = job.task_groups or []
    if len(groups) != 1 or not _is_plain(job, groups[0]):
        return None
    group = groups[0]
    ask, count = ask_of_group(group), 1 if group.count is None else group.count
    if ask.has_ports:
        return None
    return _Plain(
        group=group,
        count=count,
        ask=ask,
        candidates=planner.feasibility.candidates(job, group),
        resources=resources_of_group(group, planner.config),
        index=np.arange(count, dtype="<i4").tobytes(),
        generation=bytes(2 * count),
    )


def _is_plain(job: Job, group: TaskGroup) -> bool:
    """Whether the instances of `group` ask for nothing but room on a node that will do."""
    count = 1 if group.count is None else group.count
    if job.type not in _TYPES or not 0 < count <= FEW or job.multiregion is not None:
        return False
    if group.update is not None and group.update.canary:
        return False
    tasks = group.tasks or []
    if job.spreads or group.spreads or job.affinities or group.affinities:
        return False
    if any(task.affinities for task in tasks):
        return False
    constraints = [*(job.constraints or []), *(group.constraints or [])]
    for task in tasks:
        constraints += task.constraints or []
    if any(one.operand in DISTINCT for one in constraints):
        return False
    return not unit_asks(group)


def _reasons(room: Room, nodes: list[int], scores: list[float]) -> list[NodeScoreMeta] | None:
    """Return why the first nodes were chosen, as `Placer.explain` notes it of a new group."""
    found = []
    for node in [*dict.fromkeys(nodes)][:REASONS_MAX]:
        record, score = room.view.records[node], scores[nodes.index(node)]
        if record is not None:
            parts = {
                "binpack": score, "job-anti-affinity": 0.0, "node-reschedule-penalty": 0.0,
                "node-affinity": 0.0, "allocation-spread": 0.0,
            }  # fmt: skip
            found.append(NodeScoreMeta(node_id=record.id, scores=parts, norm_score=score))
    return found or None
