"""What a planner keeps of the nodes from one batch to the next.

Looking at 10,000 nodes anew costs more than planning ten small jobs. Between two batches
most of what was found stays true: nothing but usage changes unless a node does, and usage
only on a few nodes. So the columns are compared, and room and feasibility follow what
differs.

Invariant: who plans with a picture finds what he would find without one: a score depends on a
node's usage alone and not on the way it got there (rank.py).
"""

import itertools
import random
from typing import TYPE_CHECKING

from core.scheduler.capture import capture_nodes
from core.scheduler.feasibility import Feasibility
from core.scheduler.newcomers import Newcomers
from core.scheduler.room import Room
from core.scheduler.view import NodesView

if TYPE_CHECKING:
    from core.state.nodes import NodeTable
    from core.state.state import State


class Picture:
    """Of one state; in the hands of one problem at a time."""

    def __init__(self) -> None:
        self._table: NodeTable | None = None
        self._nodes: NodesView | None = None
        self._room: Room | None = None
        self._feasibility: Feasibility | None = None
        self._numbers = itertools.count(1)
        self.newcomers = Newcomers()

    def capture(self, state: "State") -> NodesView:
        """Return the nodes as they are now."""
        before = self._nodes if self._table is state.nodes else None
        self._table = state.nodes
        self._nodes = capture_nodes(state, before)
        return self._nodes

    def room(self, nodes: NodesView, rng: random.Random, algorithm: str) -> Room:
        """Return the room on `nodes`, with one draw from `rng`."""
        room = self._room
        if room is None or room.algorithm != algorithm or not room.view.is_of_same_nodes(nodes):
            room = self._room = Room(nodes, rng, algorithm=algorithm)
        else:
            room.follow(nodes, rng)
        return room

    def feasibility(self, nodes: NodesView) -> Feasibility:
        """Return the answers for `nodes`, those known from earlier batches included."""
        kept = self._feasibility
        if kept is None or kept.is_full or not kept.nodes.is_of_same_nodes(nodes):
            kept = self._feasibility = Feasibility(nodes, self._numbers)
            self.newcomers = Newcomers()  # what it knew were candidates of the one before
        return kept
