"""A plan's way of displacing: victims are freed, the winner placed, both told of each other.

The room of a victim is free for this plan only: what it holds is lent back when the plan
is done, until its client reports the end. Its job is evaluated anew.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core.model.allocation import Desired
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.ids import AllocKey, alloc_id
from core.model.plan import AllocStop
from core.scheduler.place import Placed, Placer, Wish, nothing
from core.scheduler.portion import Filled, Portion
from core.scheduler.preempt import Choice, JobOf, Preemption
from core.scheduler.room import Ask, Room
from core.scheduler.view import Ints, JobView, Mask

if TYPE_CHECKING:
    from core.scheduler.planner import Planner


class Displacing:
    """The preemptions of one evaluation. Used once."""

    def __init__(self, planner: "Planner", view: JobView, placer: Placer) -> None:
        self._planner, self._view, self._placer = planner, view, placer
        self._preemption = planner.preemption
        self._lent: list[int] = []  # rows of `Running`

    def make_room(self, wish: Wish, portion: Portion, filled: Filled, *, is_system: bool) -> None:
        """Place what found no room, where less important work may give way."""
        for index, previous in filled.unplaced:
            placed = self.place(wish, portion, filled, only=index if is_system else -1)
            if placed.nodes.size:
                filled.add(wish, np.array([index]), placed)
                filled.previous.append(previous)
                filled.missing -= 1
            elif not is_system:
                return  # the others ask the same

    def place(self, wish: Wish, portion: Portion, filled: Filled, *, only: int = -1) -> Placed:
        """Place one instance where less important work gives way; nowhere when none may.

        Args:
            filled: Where the caller adds it next; the victims are noted there.
            only: The one node that is looked at, -1 = all.
        """
        preemption, job = self._preemption, portion.job
        if preemption is None or (job.type or "service") not in self._planner.config.preempting:
            return nothing()
        if self._lent and only < 0:
            left_over = self._placer.place(wish, 1)  # victims may hold more than was missing
            if left_over.nodes.size:
                return left_over
        open_nodes = self._placer.open_nodes(wish)
        if only >= 0:
            open_nodes[np.arange(open_nodes.size) != only] = False
        choice = self._choose(preemption, wish, open_nodes, job.priority or 50)
        if choice is None:
            return nothing()
        for row in choice.rows:
            self._lend(row)
        preemption.taken.update(choice.rows)
        self._lent += choice.rows
        filled.displaced.append((len(filled.index), choice.rows))
        return self._placer.place_on(wish, choice.node)

    def _choose(
        self, preemption: Preemption, wish: Wish, open_nodes: Mask, priority: int
    ) -> Choice | None:
        def holds(node: int, rows: list[int]) -> bool:
            for row in rows:
                self._lend(row)
            is_enough = self._placer.holds(wish, node)
            for row in rows:
                self._lend(row, is_back=True)
            return is_enough

        room, ask = self._planner.room, wish.ask
        if not wish.units:
            choice = preemption.choose(room, ask, open_nodes, priority)
            # What is on a node that lacks nothing but dynamic ports may be less important.
            is_cheapest = not _lack_ports_alone(room, ask, open_nodes).any()
            if choice is not None and is_cheapest and holds(*choice):
                return choice
            if not ask.dynamic_ports:
                return None
        return preemption.choose_by_trial(room, ask, open_nodes, priority, holds)

    def give_back(self) -> None:
        """Mark the victims' room as held again."""
        for row in self._lent:
            self._lend(row, is_back=True)

    def victims(
        self, group: str, filled: Filled, generations: Ints
    ) -> tuple[list[AllocStop], list[Evaluation]]:
        """Return the victims' stops, each in its winner's name, and their jobs' evaluations."""
        preemption, view = self._preemption, self._view
        if preemption is None or not filled.displaced:
            return [], []
        ordinal = next((n for n, name in view.group_names.items() if name == group), 0)
        stops: list[AllocStop] = []
        jobs: dict[tuple[str, str], JobOf] = {}
        for at, rows in filled.displaced:
            key = AllocKey(view.ordinal, ordinal, filled.index[at], int(generations[at]))
            winner = alloc_id(key, view.datacenter_id)
            for row in rows:
                stops.append(
                    AllocStop(
                        alloc_id=preemption.running.alloc_id(row),
                        desired=Desired.EVICT,
                        description=f"Preempted by alloc ID {winner}",
                        preempted_by=winner,
                    )
                )
                victim = preemption.running.jobs[int(preemption.running.job[row])]
                jobs[victim.namespace, victim.id] = victim
        return stops, [self._evaluation(victim) for victim in jobs.values()]

    def _evaluation(self, victim: JobOf) -> Evaluation:
        planner = self._planner
        return Evaluation(
            id=planner.new_id(),
            priority=victim.priority,
            type=victim.type,
            triggered_by=EvalTrigger.PREEMPTION,
            namespace=victim.namespace,
            job_id=victim.id,
            create_time_ns=planner.now_us * 1000,
            modify_time_ns=planner.now_us * 1000,
        )

    def _lend(self, row: int, *, is_back: bool = False) -> None:
        assert self._preemption is not None
        running, room = self._preemption.running, self._planner.room
        node = int(running.node[row])
        cpu, memory, disk = running.asks[row].tolist()
        ask, ports = Ask(cpu, memory, disk), running.ports.get(row)
        units = running.units.get(row, frozenset())
        if is_back:
            room.take(ask, np.array([node]))
            room.take_units(node, units)
            if ports:
                room.hold_ports(node, ports)
            return
        room.give_back(ask, np.array([node]))
        room.free_units(node, units)
        if ports:
            room.free_ports(node, ports)


def _lack_ports_alone(room: Room, ask: Ask, nodes: Mask) -> Mask:
    """Return which of `nodes` have the amounts that are asked for, and too few dynamic ports."""
    if not ask.dynamic_ports:
        return np.zeros_like(nodes)
    amounts = replace(ask, static_ports=(), dynamic_ports=0)
    short: Mask = (room.fits(amounts, nodes, 1) > 0) & (room.fits(ask, nodes, 1) == 0)
    return short
