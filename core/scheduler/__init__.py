"""The scheduler of a datacenter: pure, in columns, one problem at a time.

Contract of the driver (the server's machine, on the leader):

1. `EvaluationBroker` (broker.py) hands out pending evaluations, one per job at a time;
   `BlockedEvaluations` (blocked.py) keeps those that wait for room.
2. `prepare(state, evaluations, now_us=..., rng=...)` copies what a batch needs out of the
   state: columns, and references to records that apply replaces and never edits. It is
   cheap and runs on the machine's thread.
3. `Problem.solve()` is the heavy part. It touches nothing but the problem, so it may run
   in a worker while the state moves on, and the same problem always has one solution.
4. `Solution.plans` are proposed as one `ApplyPlans`. Apply checks each placement again,
   so a plan that grew stale in between is trimmed there, never over-committed. Every plan
   carries its finished evaluation and those that follow from it (`Plan.evaluations`).

`dry_run` and `fits` (annotate.py) answer what would happen, without an evaluation.
"""

from core.scheduler.annotate import Fit, Held, PlanOutcome, dry_run, fits
from core.scheduler.blocked import BlockedEvaluations
from core.scheduler.broker import EvaluationBroker
from core.scheduler.picture import Picture
from core.scheduler.problem import Problem, Solution, plan_evaluations, prepare

__all__ = [
    "BlockedEvaluations",
    "EvaluationBroker",
    "Fit",
    "Held",
    "Picture",
    "PlanOutcome",
    "Problem",
    "Solution",
    "dry_run",
    "fits",
    "plan_evaluations",
    "prepare",
]
