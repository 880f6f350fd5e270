"""Instances with cores or devices: one after the other, each node asked what it has left.

The same greedy rule and the same scores as place.py. What an instance of cores takes of a
node's MHz depends on the node, so nothing here is the same for all nodes, and nodes are
looked at one by one; only the chosen one is looked at again. A device affinity is one
more part of the mean.
"""

from typing import TYPE_CHECKING

import numpy as np

from core.model.units import core_mhz, unit_names
from core.scheduler.room import Ask
from core.scheduler.units import Assigned, assign
from core.scheduler.view import Mask

if TYPE_CHECKING:
    from core.scheduler.place import Placed, Placer, Wish
    from core.scheduler.room import Room


class UnitPlacer:
    """Places on the room of a `Placer`."""

    def __init__(self, placer: "Placer", room: "Room") -> None:
        self._placer, self._room = placer, room

    def holds(self, wish: "Wish", node: int) -> bool:
        """Whether one node has all that an instance asks."""
        return self._look(wish, node) is not None

    def place(
        self, wish: "Wish", wanted: int, placed: "Placed", *, avoid: int = -1, only: int = -1
    ) -> "Placed":
        """Place up to `wanted` instances into `placed`, an empty one, and return it.

        Args:
            avoid: Node ordinal that gets the penalty of a failed predecessor, -1 = none.
            only: The one node that is asked, -1 = all.
        """
        placer, room = self._placer, self._room
        nodes = np.flatnonzero(placer.open_nodes(wish))
        if only >= 0:
            nodes = nodes[nodes == only]
        total, parts = np.full(nodes.size, -np.inf), np.ones(nodes.size, np.int64)
        for place, node in enumerate(nodes.tolist()):
            total[place], parts[place] = self._score(wish, node, avoid)
        chosen: list[int] = []
        scores: list[float] = []
        while nodes.size and len(chosen) < wanted:
            score = placer.coupled_scores(wish, nodes, total, parts)
            best = int(np.argmax(score))  # the first of equals: the lowest ordinal
            if score[best] == -np.inf:
                break
            node = int(nodes[best])
            found = self._look(wish, node)
            assert found is not None, "a node with a score holds no instance"
            ask, assigned = found
            placer.explain(wish, node, float(score[best]), avoid, ask, devices=assigned.liking)
            room.take_units(node, unit_names(assigned.units))
            placer.take(wish, np.array([node]), ask)
            if ask.has_ports:
                placed.ports.append(room.take_ports(ask, node))
            placed.units.append(assigned.units)
            chosen.append(node)
            scores.append(float(score[best]))
            total[best], parts[best] = self._score(wish, node, avoid)
        placed.nodes, placed.scores = np.array(chosen, np.int64), np.array(scores)
        return placed

    def _score(self, wish: "Wish", node: int, avoid: int) -> tuple[float, int]:
        # Sum and number of the components that need no look at other nodes.
        found = self._look(wish, node)
        if found is None or (wish.is_alone and wish.occupied is not None and wish.occupied[node]):
            return -np.inf, 1
        ask, assigned = found
        already = int(wish.collisions[node])
        liking = 0.0 if wish.affinity is None else float(wish.affinity[node])
        components = [
            -(already + 1) / max(wish.count, 1) if already else 0.0,
            liking,
            assigned.liking,
            -1.0 if node == avoid else 0.0,
        ]
        present = [one for one in components if one]
        return sum(present, self._room.head_after(ask, node, 0)), 1 + len(present)

    def _look(self, wish: "Wish", node: int) -> tuple[Ask, Assigned] | None:
        record = self._room.view.records[node]
        if record is None:
            return None
        assigned = assign(record, self._room.units_taken(node), wish.units)
        if isinstance(assigned, str):
            return None
        whole = wish.ask
        ask = Ask(
            whole.cpu + assigned.cores * core_mhz(record), whole.memory, whole.disk,
            whole.static_ports, whole.dynamic_ports,
        )  # fmt: skip
        return (ask, assigned) if self._room.holds(ask, node) else None


def unit_shortages(room: "Room", wish: "Wish", nodes: Mask) -> list[tuple[str, Mask]]:
    """Return which of `nodes` have too few free cores or devices, by what lacks first.

    Nodes that lack an amount as well are left to `Room.shortages`.
    """
    found: dict[str, Mask] = {}
    for node in np.flatnonzero(nodes).tolist():
        record = room.view.records[node]
        if record is None or not room.holds(wish.ask, node):
            continue
        lacking = assign(record, room.units_taken(node), wish.units)
        # Free cores, but of too many MHz beside what shares of the processor others hold.
        name = lacking if isinstance(lacking, str) else "cpu"
        found.setdefault(name, np.zeros(len(room), np.bool_))[node] = True
    return list(found.items())
