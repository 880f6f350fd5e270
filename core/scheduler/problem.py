"""A batch of evaluations as a problem that can be solved away from the state.

    problem = prepare(state, evaluations, now_us=log_time, rng=rng)   # on the machine's thread
    solution = problem.solve()                                        # anywhere, no state
    propose(ApplyPlans(plans=solution.plans))                         # apply checks again

Ids and the choice of dynamic ports come from a generator of the problem's own, seeded from
`rng` by `prepare`: solving in another thread draws nothing from the machine's.
"""

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from core.model.evaluation import Evaluation
from core.model.ids import new_id
from core.model.plan import Plan
from core.scheduler.allowance import Allowance
from core.scheduler.capture import (
    capture_allowances,
    capture_config,
    capture_job,
    capture_nodes,
    capture_running,
    nameless_view,
    purged_records,
)
from core.scheduler.picture import Picture
from core.scheduler.planner import Planned, Planner
from core.scheduler.preempt import Preemption, Running
from core.scheduler.rank import NOMAD
from core.scheduler.view import JobView, NodesView, SchedulerConfig

if TYPE_CHECKING:
    from core.state.state import State


@dataclass(slots=True)
class Solution:
    """Plans in the order of the evaluations; one evaluation may have several.

    `placed` and `failed` count instances, for metrics.
    """

    plans: list[Plan]
    evaluation_ids: list[str]
    placed: int = 0
    failed: int = 0


@dataclass(slots=True)
class Work:
    """One evaluation with the job it is about."""

    evaluation: Evaluation
    job: JobView
    leftovers: list[JobView]  # purged jobs of the same name that still run something


@dataclass(slots=True)
class Problem:
    """Everything that the plans depend on. `solve` may be called more than once."""

    nodes: NodesView
    work: list[Work]
    config: SchedulerConfig
    now_us: int
    snapshot_index: int
    seed: int
    datacenter_id: str
    running: Running | None = None  # what may be displaced
    allowances: dict[str, Allowance] = field(default_factory=dict)  # by namespace with a quota
    picture: Picture | None = None  # lends what is known of the nodes from the batch before

    def solve(self) -> Solution:
        """Return the plans. Changes nothing of the problem."""
        planned = self.solve_in_detail()
        return Solution(
            plans=[plan for one in planned for plan in one.plans],
            evaluation_ids=[one.evaluation.id for one in self.work],
            placed=sum(sum(one.placed.values()) for one in planned),
            failed=sum(sum(one.queued.values()) for one in planned),
        )

    def solve_in_detail(self) -> list[Planned]:
        """Return what `solve` turns into plans, by evaluation."""
        rng = random.Random(self.seed)
        picture = self.picture or Picture()
        room = picture.room(self.nodes, rng, self.config.algorithm)
        feasibility = picture.feasibility(self.nodes)
        planner = Planner(
            room,
            feasibility,
            self.config,
            now_us=self.now_us,
            snapshot_index=self.snapshot_index,
            new_id=partial(new_id, rng, self.datacenter_id),
            sampling=rng if self.config.algorithm == NOMAD else None,
            preemption=None if self.running is None else Preemption(self.running),
            allowances={name: one.copy() for name, one in self.allowances.items()},
            newcomers=picture.newcomers,
        )
        return [planner.plan(one.evaluation, one.job, one.leftovers) for one in self.work]


def prepare(
    state: "State",
    evaluations: list[Evaluation],
    *,
    now_us: int,
    rng: random.Random,
    picture: Picture | None = None,
) -> Problem:
    """Copy out of the state what `evaluations` need.

    Args:
        evaluations: At most one a job (the broker sees to it); earlier ones go first.
        now_us: Wall clock of the log, microseconds.
        rng: Of the machine; one draw.
        picture: Of this state, kept from batch to batch by who solves one at a time.
    """
    nodes = capture_nodes(state) if picture is None else picture.capture(state)
    names = [(one.namespace, one.job_id) for one in evaluations]
    purged = purged_records(state, names)
    work = []
    for evaluation, name in zip(evaluations, names):
        record = state.jobs.get(*name)
        view = nameless_view(state, *name) if record is None else capture_job(state, record)
        work.append(Work(evaluation, view, [capture_job(state, old) for old in purged[name]]))
    config = capture_config(state)
    return Problem(
        nodes=nodes,
        work=work,
        config=config,
        running=capture_running(state, [one.job for one in work], config),
        now_us=now_us,
        snapshot_index=state.index,
        seed=rng.getrandbits(64),
        datacenter_id=state.allocs.datacenter_id,
        allowances=capture_allowances(state),
        picture=picture,
    )


def plan_evaluations(
    state: "State", evaluations: list[Evaluation], *, now_us: int, rng: random.Random
) -> list[Plan]:
    """Prepare and solve at once, where nothing else has to go on meanwhile."""
    return prepare(state, evaluations, now_us=now_us, rng=rng).solve().plans
