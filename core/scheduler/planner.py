"""One evaluation's plan: reconcile, make room, place, and say what follows.

What the plan itself stops is free for what it places (core.state.plan_check agrees), and
only for this plan: what an evaluation's stops freed is lent back when its plan is done, as
those instances hold their room until their clients report the end. A destructive update
whose new instance finds no node takes back its stop: the old one runs on.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from core.model.allocation import AllocMetric, ClientStatus, Desired
from core.model.evaluation import Evaluation
from core.model.job import Job, TaskGroup
from core.model.plan import AllocStop, InPlaceUpdate, PlacementBatch, Plan
from core.model.units import core_mhz
from core.scheduler.allowance import Allowance, RationedPlacer
from core.scheduler.decisions import GroupChanges, Replacement, desired_updates
from core.scheduler.demand import ask_of_group, port_asks, resources_of_group
from core.scheduler.displacing import Displacing
from core.scheduler.feasibility import Candidates, Feasibility
from core.scheduler.followup import Outcome, follow_ups, postponed
from core.scheduler.metrics import failed_metric, placed_metric
from core.scheduler.newcomers import Newcomers
from core.scheduler.place import Placer, Wish
from core.scheduler.portion import Filled, Portion
from core.scheduler.preempt import Preemption
from core.scheduler.reconcile import is_live, reconcile
from core.scheduler.rollout import Rollout, roll_out
from core.scheduler.room import Ask, Room
from core.scheduler.system import reconcile_system
from core.scheduler.view import GENERATIONS, Ints, JobView, SchedulerConfig
from core.scheduler.wish import WishMaker, is_leaving, nodes_kept, nodes_leaving

_SYSTEM = ("system", "sysbatch")


@dataclass(slots=True)
class Planned:
    """The outcome of one evaluation, before it is put into words."""

    plans: list[Plan]  # the last one carries the evaluations
    changes: list[GroupChanges]
    failed: dict[str, AllocMetric] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    placed: dict[str, int] = field(default_factory=dict)


class Planner:
    """Plans evaluations one after the other on one room; they see each other's placements."""

    def __init__(
        self,
        room: Room,
        feasibility: Feasibility,
        config: SchedulerConfig,
        *,
        now_us: int,
        snapshot_index: int,
        new_id: Callable[[], str],
        sampling: random.Random | None = None,
        preemption: Preemption | None = None,
        newcomers: Newcomers | None = None,
        allowances: dict[str, Allowance] | None = None,
    ) -> None:
        """`sampling` draws the nodes that Nomad's algorithm looks at; None looks at all.

        `newcomers` remembers what is known of new jobs, with the same room and feasibility.
        """
        self._newcomers = Newcomers() if newcomers is None else newcomers
        self.sampling, self.preemption = sampling, preemption
        self.allowances = allowances or {}
        self.room, self.feasibility, self.config = room, feasibility, config
        self.now_us, self.snapshot_index, self.new_id = now_us, snapshot_index, new_id

    def plan(self, evaluation: Evaluation, view: JobView, leftovers: list[JobView]) -> Planned:
        """Plan one evaluation.

        Args:
            view: The job that has the name now, or a stopped view when nobody has it.
            leftovers: Purged jobs of the same name that still run something.
        """
        if self.sampling is None and not leftovers and view.namespace not in self.allowances:
            plain = self._newcomers.plan(self, evaluation, view)
            if plain is not None:
                plan, changes = plain
                name = changes.name
                return Planned([plan], [changes], {}, {name: 0}, {name: changes.wanted})
        plans = [
            Plan(
                eval_id=evaluation.id,
                namespace=old.namespace,
                job_id=old.id,
                job_uid=old.uid,
                stops=[
                    stop
                    for one in reconcile(old, self.feasibility, evaluation.id, self.now_us)
                    for _, stop in one.stops
                ],
            )
            for old in leftovers
        ]
        work = _JobWork(self, evaluation, view)
        work.run()
        if work.rollout.ended is not None and work.rollout.created is not None:
            plans.append(work.empty_plan(work.rollout.ended))
        plans.append(work.finish())
        return Planned([*plans], work.changes, work.failed, work.queued, work.placed)


class _JobWork:
    """The work on one evaluation. Used once."""

    def __init__(self, planner: Planner, evaluation: Evaluation, view: JobView) -> None:
        self._planner, self._evaluation, self._view = planner, evaluation, view
        self._room = planner.room
        self._placer = Placer(planner.room, planner.sampling)
        self._allowance = planner.allowances.get(view.namespace)
        if self._allowance is not None:
            self._placer = RationedPlacer(planner.room, planner.sampling, self._allowance)
        self._is_rationed = False
        self.changes: list[GroupChanges] = []
        self.rollout = Rollout()
        self.failed: dict[str, AllocMetric] = {}
        self.queued: dict[str, int] = {}
        self.placed: dict[str, int] = {}
        self._candidates: list[Candidates] = []  # of the groups that found too little room
        self._stops: list[AllocStop] = []
        self._batches: list[PlacementBatch] = []
        self._in_place: list[InPlaceUpdate] = []
        self._lent: list[int] = []  # rows whose room the plan uses already
        self._displacing = Displacing(planner, view, self._placer)
        self._live = is_live(view)
        self._later: list[Evaluation] = []

    def run(self) -> None:
        view, planner = self._view, self._planner
        is_system = view.job is not None and view.job.type in _SYSTEM
        if is_system:
            self.changes = reconcile_system(view, planner.feasibility, planner.now_us)
        else:
            self.changes = reconcile(view, planner.feasibility, self._evaluation.id, planner.now_us)
        self.rollout = roll_out(view, self.changes, self._evaluation, planner.new_id)
        self._stop_all()
        if view.job is not None and not view.is_stopped:
            self._place_all(view.job, is_system=is_system)
        for row in self._lent:
            self._lend(row, is_back=True)
        self._displacing.give_back()

    def _stop_all(self) -> None:
        # All stops first: any group's placement may use the room that another's frees.
        for one in self.changes:
            for row, stop in one.stops:
                self._stop(row, stop)
            for replacement in one.replacements:
                if replacement.stop is not None and replacement.stops_anyway:
                    self._stop(replacement.row, replacement.stop)
            for evaluation, rows in postponed(
                self._evaluation, one, self._planner.now_us, self._planner.new_id
            ):
                self._later.append(evaluation)
                for row in rows:
                    self._postpone(row, evaluation.id)

    def _stop(self, row: int, stop: AllocStop) -> None:
        self._stops.append(stop)
        if self._live[row] and _frees(stop):
            self._lend(row)

    def _lend(self, row: int, *, is_back: bool = False) -> None:
        rows = self._view.rows
        node = int(rows.node[row])
        cpu, memory, disk = rows.asks[row].tolist()
        ask, at, ports = Ask(cpu, memory, disk), np.array([node]), rows.ports.get(row)
        units = rows.units.get(row, frozenset())
        self._ration(row, 1 if is_back else -1)
        if is_back:
            self._room.take(ask, at)
            self._room.take_units(node, units)
            if ports:
                self._room.hold_ports(node, ports)
            return
        self._lent.append(row)
        self._room.give_back(ask, at)
        self._room.free_units(node, units)
        if ports:
            self._room.free_ports(node, ports)

    def _ration(self, row: int, count: int) -> None:
        # What a row holds of its namespace's quota, taken or given back.
        if self._allowance is not None:
            self._allowance.take(Ask(*self._view.rows.asks[row].tolist()), count)

    def _unlend(self, row: int) -> None:
        self._lent.remove(row)
        self._lend(row, is_back=True)

    # --- one group ------------------------------------------------------------------

    def _place_all(self, job: Job, *, is_system: bool) -> None:
        feasibility = self._planner.feasibility
        view, kept = self._view, nodes_kept(self._view, self.changes)
        work = [
            (one, self._portions(job, one.group, one))
            for one in self.changes
            if one.group is not None
        ]
        # Of a system job each instance is replaced where it is: nobody stands beside it.
        left = [] if is_system else [one for _, portions in work for one in portions]
        maker = WishMaker(job, kept, nodes_leaving(view, left), feasibility)
        # What is placed in portions has wishes of its own for each, made when the one before
        # is placed: all count the same instances.
        is_divided = any(
            len(portions) > 1 or any(portion.job is not job for portion in portions)
            for _, portions in work
        )
        for one, portions in work:
            self._update_in_place(job, one)
            self.queued[one.name] = self.placed[one.name] = 0
            for portion in portions:
                if is_divided:
                    maker = WishMaker(portion.job, kept, nodes_leaving(view, left), feasibility)
                    left = left[1:]
                filled = self._place(maker, portion, is_system=is_system)
                one.preemptions += sum(len(rows) for _, rows in filled.displaced)
                if is_divided and (filled.node or filled.stayed):
                    before = kept.get(one.name, np.zeros(0, np.int64))
                    kept[one.name] = np.append(before, [*filled.node, *filled.stayed])

    def _update_in_place(self, job: Job, one: GroupChanges) -> None:
        if not one.in_place or one.group is None:
            return
        for row in one.in_place:
            node = self._room.view.records[int(self._view.rows.node[row])]
            mhz = core_mhz(node) if node is not None else 0
            resources = resources_of_group(one.group, self._planner.config, mhz)
            self._in_place.append(
                InPlaceUpdate(
                    alloc_id=self._view.alloc_id(row),
                    job_version=job.version or 0,
                    resources=resources,
                    deployment_id=self.rollout.deployment_id,
                )
            )

    def _portions(self, job: Job, group: TaskGroup, one: GroupChanges) -> list[Portion]:
        # Usually one; canaries and what comes back in an older version have their own.
        none = np.zeros(0, np.int64)
        parts = {(-1, False): Portion(job, group, one.fresh)}
        if one.canaries.size:
            parts[-1, True] = Portion(job, group, one.canaries, is_canary=True)
        for replacement in one.replacements:
            key = replacement.version, replacement.is_canary
            if key not in parts:
                old = job if replacement.version < 0 else self._view.versions[replacement.version]
                old_group = next(g for g in old.task_groups or [] if g.name == group.name)
                parts[key] = Portion(old, old_group, none, is_canary=replacement.is_canary)
            parts[key].replacements.append(replacement)
        return [part for part in parts.values() if part.fresh.size or part.replacements]

    def _place(self, maker: WishMaker, portion: Portion, *, is_system: bool) -> Filled:
        job, group = portion.job, portion.group
        candidates = self._planner.feasibility.candidates(job, group)
        wish = maker.wish(group, ask_of_group(group), candidates)
        filled = Filled()
        if is_system:
            self._on_their_nodes(wish, portion, filled)
        else:
            self._anywhere(wish, portion, filled)
        if filled.missing:
            self._displacing.make_room(wish, portion, filled, is_system=is_system)
        pool = job.node_pool or "default"
        if filled.missing:
            self.queued[group.name] += filled.missing
            self.failed[group.name] = failed_metric(
                self._room, pool, candidates, wish, filled.missing
            )
            if lacking := self._placer.exhausted(wish):
                self.failed[group.name].quota_exhausted = lacking
                self._is_rationed = True
            else:
                self._candidates.append(candidates)
        self.placed[group.name] += len(filled.index)
        if not filled.index:
            return filled
        metric = placed_metric(self._room, pool, candidates, wish)
        generations = self._generations(group.name, np.array(filled.index, np.int64))
        stops, evaluations = self._displacing.victims(group.name, filled, generations)
        self._stops += stops
        self._later += evaluations
        for mhz, rows in self._by_core_mhz(wish, filled):
            part = filled if mhz is None else filled.only(rows, len(port_asks(group)))
            given = generations if mhz is None else generations[rows]
            self._batches.append(self._batch(portion, part, given, metric, mhz or 0))
        return filled

    def _by_core_mhz(self, wish: Wish, filled: Filled) -> list[tuple[int | None, list[int]]]:
        # An allocation of cores asks what they count as on its node; a batch asks one thing.
        if not any(ask.cores for ask in wish.units):
            return [(None, [])]
        rows: dict[int, list[int]] = {}
        for row, ordinal in enumerate(filled.node):
            node = self._room.view.records[ordinal]
            assert node is not None
            rows.setdefault(core_mhz(node), []).append(row)
        return list(rows.items())

    def _batch(
        self, portion: Portion, filled: Filled, generations: Ints, metric: AllocMetric, mhz: int
    ) -> PlacementBatch:
        job, group = portion.job, portion.group
        is_newest = job is self._view.job
        return PlacementBatch(
            group=group.name,
            job_version=job.version or 0,
            index=np.array(filled.index, "<i4").tobytes(),
            generation=generations.astype("<u2").tobytes(),
            node=np.array(filled.node, "<i4").tobytes(),
            ports=np.array(filled.ports, "<i4").tobytes(),
            port_asks=port_asks(group),
            resources=resources_of_group(group, self._planner.config, mhz),
            metrics=metric,
            scores=np.array(filled.score, "<f4").tobytes(),
            previous=filled.previous if any(filled.previous) else [],
            trackers=filled.trackers,
            deployment_id=self._deployment_of(group.name) if is_newest else "",
            canary=portion.is_canary,
            units=filled.units,
        )

    def _generations(self, group: str, index: Ints) -> Ints:
        # A canary and what replaces a lost instance of its index may come in one plan.
        earlier = np.concatenate(
            [
                np.frombuffer(batch.index, "<i4").astype(np.int64)
                for batch in self._batches
                if batch.group == group
            ]
            or [index[:0]]
        )
        given = self._view.next_generations(group, index)
        if earlier.size:
            given = (given + np.isin(index, earlier)) % GENERATIONS
        return given

    def _deployment_of(self, group: str) -> str:
        deployment = self.rollout.created or self._view.deployment
        states = (deployment.task_groups if deployment is not None else None) or {}
        return self.rollout.deployment_id if group in states else ""

    def _anywhere(self, wish: Wish, one: Portion, filled: Filled) -> None:
        # Those that keep their old instance when there is no room go one by one, and first
        # those that failed: each avoids its own node.
        plain = [r for r in one.replacements if not (r.is_failed or is_leaving(r))]
        for replacement in one.replacements:
            if replacement.is_failed or is_leaving(replacement):
                self._replace_one(wish, one, replacement, filled)
        previous = {r.index: r.row for r in plain}
        indices = np.sort(np.concatenate([one.fresh, np.array([*previous], np.int64)]))
        if not indices.size:
            return
        placed = self._placer.place(wish, indices.size)
        filled.add(wish, indices[: placed.nodes.size], placed)
        for index in indices[: placed.nodes.size].tolist():
            row = previous.get(index)
            filled.previous.append("" if row is None else self._view.alloc_id(row))
        filled.missing += int(indices.size - placed.nodes.size)
        for index in indices[placed.nodes.size :].tolist():
            row = previous.get(index)
            filled.unplaced.append((index, "" if row is None else self._view.alloc_id(row)))

    def _replace_one(
        self, wish: Wish, one: Portion, replacement: Replacement, filled: Filled
    ) -> None:
        row = replacement.row
        node = int(self._view.rows.node[row])
        is_freed = (
            replacement.stop is not None and bool(self._live[row]) and _frees(replacement.stop)
        )
        if is_freed:
            self._lend(row)
            wish.let_go(node)
        placed = self._placer.place(wish, 1, node if replacement.is_failed else -1)
        if not placed.nodes.size:
            placed = self._displacing.place(wish, one, filled)
        if not placed.nodes.size:
            filled.missing += 1
            if is_freed:
                self._unlend(row)
                wish.keep(node)
                filled.stayed.append(node)
            return
        if replacement.stop is not None:
            self._stops.append(replacement.stop)
        if replacement.tracker is not None:
            filled.trackers[len(filled.index)] = replacement.tracker
        filled.add(wish, np.array([replacement.index]), placed)
        filled.previous.append(self._view.alloc_id(row))

    def _on_their_nodes(self, wish: Wish, one: Portion, filled: Filled) -> None:
        previous = {replacement.index: replacement for replacement in one.replacements}
        for replacement in one.replacements:
            self._lend(replacement.row)
        fits = self._placer.fits(wish, 1)
        for replacement in one.replacements:
            self._ration(replacement.row, 1)  # nobody takes what one holds that may stay
        for index in sorted([*one.fresh.tolist(), *previous]):
            instead = previous.get(index)
            if instead is not None:
                self._ration(instead.row, -1)
            if not self._placer.fits_on(wish, fits, index):
                filled.missing += 1
                if instead is not None:
                    self._unlend(instead.row)
                else:
                    filled.unplaced.append((index, ""))
                continue
            if instead is not None and instead.stop is not None:
                self._stops.append(instead.stop)
            filled.add(wish, np.array([index]), self._placer.place_on(wish, index))
            filled.previous.append("" if instead is None else self._view.alloc_id(instead.row))

    # --- putting it together --------------------------------------------------------

    def empty_plan(self, deployment: Any) -> Plan:
        """Return a plan that only writes a deployment: a plan has room for one."""
        view = self._view
        return Plan(
            eval_id=self._evaluation.id,
            namespace=view.namespace,
            job_id=view.id,
            job_uid=view.uid,
            deployment=deployment,
        )

    def finish(self) -> Plan:
        """Return the plan, with the finished evaluation and those that follow."""
        outcome = Outcome(
            failed=self.failed,
            queued=self.queued,
            candidates=self._candidates,
            blocked=self._view.blocked,
            deployment_id=self.rollout.deployment_id,
            quota=self._allowance.quota if self._allowance and self._is_rationed else "",
            annotations=(
                {"DesiredTGUpdates": desired_updates(self.changes)}
                if self._evaluation.annotate_plan
                else None
            ),
        )
        planner = self._planner
        evaluations = follow_ups(
            self._evaluation, outcome, planner.now_us, planner.snapshot_index, planner.new_id
        )
        return msgspec.structs.replace(
            self.empty_plan(self.rollout.created or self.rollout.ended),
            placements=self._batches,
            stops=self._stops,
            in_place=self._in_place,
            evaluations=[*evaluations, *self._later],
        )

    def _postpone(self, row: int, eval_id: str) -> None:
        # Notes on the allocation which evaluation will look at it again.
        alloc_id = self._view.alloc_id(row)
        for stop in self._stops:
            if stop.alloc_id == alloc_id:
                stop.followup_eval_id = eval_id
                return
        self._stops.append(
            AllocStop(
                alloc_id=alloc_id, desired=Desired.RUN, description="", followup_eval_id=eval_id
            )
        )


def _frees(stop: AllocStop) -> bool:
    return stop.client_status == ClientStatus.LOST or stop.desired != Desired.RUN
