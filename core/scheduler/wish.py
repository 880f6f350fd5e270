"""From a job file's wishes (affinity, spread, distinct_*) to what placement counts with."""

import numpy as np

from core.model.job import Constraint, Job, Spread, TaskGroup
from core.scheduler.feasibility import Candidates, Feasibility
from core.scheduler.place import Wish
from core.scheduler.reconcile import GroupChanges, is_live
from core.scheduler.room import Ask
from core.scheduler.spread import PropertyLimit, SpreadScorer
from core.scheduler.units import unit_asks
from core.scheduler.view import Ints, JobView, Mask

_FALSE = ("false", "0")


class WishMaker:
    """Makes the wishes of one job's groups; limits of the job count over all its groups."""

    def __init__(self, job: Job, kept: dict[str, Ints], feasibility: Feasibility) -> None:
        """`kept`: by group, the node of each instance that stays, see `nodes_kept`."""
        self._job, self._feasibility, self._kept = job, feasibility, kept
        everywhere = np.concatenate([np.zeros(0, np.int64), *self._kept.values()])
        constraints = job.constraints or []
        self._occupied = self._mask(everywhere) if _is_distinct(constraints) else None
        self._limits = self._property_limits(constraints, everywhere)

    def wish(self, group: TaskGroup, ask: Ask, candidates: Candidates) -> Wish:
        """Return what is asked for `group`; its instances that stay are counted in."""
        nodes = self._kept.get(group.name, np.zeros(0, np.int64))
        own = list(group.constraints or [])
        for task in group.tasks or []:
            own += task.constraints or []
        occupied = self._occupied
        if occupied is None and _is_distinct(own):
            occupied = self._mask(nodes)
        return Wish(
            ask=ask,
            eligible=candidates.eligible,
            candidates=candidates.number,
            count=1 if group.count is None else group.count,
            collisions=np.bincount(nodes, minlength=candidates.eligible.size).astype(np.int64),
            affinity=self._feasibility.affinity(self._job, group),
            is_batch=self._job.type in ("batch", "sysbatch"),
            units=unit_asks(group),
            is_alone=occupied is not None,
            occupied=occupied,
            spreads=self._spreads(group, nodes),
            limits=[*self._limits, *self._property_limits(own, nodes)],
        )

    def _mask(self, nodes: Ints) -> Mask:
        mask = np.zeros(self._feasibility.node_count, np.bool_)
        mask[nodes] = True
        return mask

    def _spreads(self, group: TaskGroup, nodes: Ints) -> list[SpreadScorer]:
        blocks = [*(self._job.spreads or []), *(group.spreads or [])]
        whole = sum(_weight(block) for block in blocks)
        count = 1 if group.count is None else group.count
        return [
            SpreadScorer(
                block,
                _weight(block) / whole if whole else 0.0,
                count,
                self._feasibility.property_values(block.attribute),
                nodes,
            )
            for block in blocks
        ]

    def _property_limits(self, constraints: list[Constraint], nodes: Ints) -> list[PropertyLimit]:
        return [
            PropertyLimit(
                one.l_target,
                _limit(one.r_target),
                self._feasibility.property_values(one.l_target),
                nodes,
            )
            for one in constraints
            if one.operand == "distinct_property"
        ]


def nodes_kept(view: JobView, changes: list[GroupChanges]) -> dict[str, Ints]:
    """Return where each group's instances stay; a batch index that is done takes no node."""
    live = is_live(view)
    return {one.name: view.rows.node[one.kept[live[one.kept]]] for one in changes if one.kept.size}


def _is_distinct(constraints: list[Constraint]) -> bool:
    return any(
        one.operand == "distinct_hosts" and one.r_target.lower() not in _FALSE
        for one in constraints
    )


def _limit(text: str) -> int:
    return int(text) if text.isdigit() and int(text) > 0 else 1


def _weight(block: Spread) -> int:
    return 50 if block.weight is None else block.weight
