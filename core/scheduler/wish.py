"""From a job file's wishes (affinity, spread, distinct_*) to what placement counts with."""

import numpy as np

from core.model.job import Constraint, Job, Spread, TaskGroup
from core.scheduler.decisions import GroupChanges, Replacement
from core.scheduler.feasibility import Candidates, Feasibility
from core.scheduler.place import Wish
from core.scheduler.portion import Portion
from core.scheduler.reconcile import is_live
from core.scheduler.room import Ask
from core.scheduler.spread import PropertyLimit, SpreadScorer
from core.scheduler.units import unit_asks
from core.scheduler.view import Ints, JobView

_FALSE = ("false", "0")


class WishMaker:
    """Makes the wishes of one job's groups; limits of the job count over all its groups."""

    def __init__(
        self,
        job: Job,
        kept: dict[str, Ints],
        leaving: dict[str, Ints],
        feasibility: Feasibility,
    ) -> None:
        """Take in, by group, the node of each instance.

        Args:
            kept: Of those that stay, see `nodes_kept`.
            leaving: Of those that stay unless a place is found for what replaces them.
        """
        self._job, self._feasibility = job, feasibility
        self._kept, self._leaving = kept, leaving
        constraints, everywhere = job.constraints or [], self._held([*kept.keys() | leaving.keys()])
        self._occupied = self._counted(everywhere) if _is_distinct(constraints) else None
        self._limits = self._property_limits(constraints, everywhere)

    def wish(self, group: TaskGroup, ask: Ask, candidates: Candidates) -> Wish:
        """Return what is asked for `group`; its instances that stay are counted in."""
        nodes = self._kept.get(group.name, np.zeros(0, np.int64))
        own = list(group.constraints or [])
        for task in group.tasks or []:
            own += task.constraints or []
        held = self._held([group.name])
        occupied = self._occupied
        if occupied is None and _is_distinct(own):
            occupied = self._counted(held)
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
            limits=[*self._limits, *self._property_limits(own, held)],
        )

    def _held(self, groups: list[str]) -> Ints:
        # Nobody may stand beside those either that leave only when their successor has a place.
        nodes = [known[name] for known in (self._kept, self._leaving) for name in groups
                 if name in known]  # fmt: skip
        return np.concatenate([np.zeros(0, np.int64), *nodes])

    def _counted(self, nodes: Ints) -> Ints:
        return np.bincount(nodes, minlength=self._feasibility.node_count).astype(np.int64)

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


def nodes_leaving(view: JobView, portions: list[Portion]) -> dict[str, Ints]:
    """Return by group where instances run on unless a portion has a place for the next one."""
    live = is_live(view)
    found: dict[str, list[int]] = {}
    for portion in portions:
        rows = [one.row for one in portion.replacements if is_leaving(one) and live[one.row]]
        found.setdefault(portion.group.name, []).extend(view.rows.node[rows].tolist())
    return {name: np.array(nodes, np.int64) for name, nodes in found.items() if nodes}


def is_leaving(replacement: Replacement) -> bool:
    """Whether the old instance runs on when the new one finds no place."""
    return replacement.stop is not None and not replacement.stops_anyway


def _is_distinct(constraints: list[Constraint]) -> bool:
    return any(
        one.operand == "distinct_hosts" and one.r_target.lower() not in _FALSE
        for one in constraints
    )


def _limit(text: str) -> int:
    return int(text) if text.isdigit() and int(text) > 0 else 1


def _weight(block: Spread) -> int:
    return 50 if block.weight is None else block.weight
