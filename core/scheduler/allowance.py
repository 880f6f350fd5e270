"""What a namespace's quota leaves to those that are planned together.

As a node's room, but of all nodes at once: what a plan stops is free for what it places, and
what finds nothing left waits, until its quota has room or is changed. Before its node is known
an instance of cores is taken to cost what they are worth on the fastest one.
"""

import random
from dataclasses import dataclass, replace

import numpy as np

from core.model.units import core_mhz
from core.scheduler.place import Placed, Placer, Wish, nothing
from core.scheduler.room import Ask, Room
from core.scheduler.view import Ints, Mask

_NAMES = ("cpu", "memory")


@dataclass(slots=True)
class Allowance:
    """Of one namespace. `left` are MHz and MiB; None is without limit."""

    quota: str
    left: list[int | None]

    def copy(self) -> "Allowance":
        return Allowance(self.quota, [*self.left])

    def affords(self, ask: Ask, most: int) -> int:
        """Return how many instances may come, at most `most`."""
        for left, asked in zip(self.left, (ask.cpu, ask.memory), strict=True):
            if left is not None and asked > 0:
                most = min(most, max(left, 0) // asked)
        return most

    def take(self, ask: Ask, count: int) -> None:
        """Count `count` instances; with a negative one, give back."""
        for at, asked in enumerate((ask.cpu, ask.memory)):
            left = self.left[at]
            if left is not None:
                self.left[at] = left - count * asked

    def lacking(self, ask: Ask) -> list[str]:
        """Return in words what is too little for one instance more."""
        return [
            f"{name} exhausted ({asked} needed > {max(left, 0)} left)"
            for name, left, asked in zip(_NAMES, self.left, (ask.cpu, ask.memory), strict=True)
            if left is not None and asked > max(left, 0)
        ]


class RationedPlacer(Placer):
    """Places no more than a quota allows."""

    def __init__(self, room: Room, rng: random.Random | None, allowance: Allowance) -> None:
        super().__init__(room, rng)
        self._records = room.view.records
        self._allowance = allowance

    def place(self, wish: Wish, wanted: int, avoid: int = -1) -> Placed:
        most = self._allowance.affords(self._dearest(wish), wanted)
        placed = super().place(wish, most, avoid) if most else nothing()
        self._take(wish, placed)
        return placed

    def place_on(self, wish: Wish, node: int) -> Placed:
        placed = super().place_on(wish, node)
        self._take(wish, placed)
        return placed

    def open_nodes(self, wish: Wish) -> Mask:
        is_open = super().open_nodes(wish)
        return is_open if self._may_come(wish) else np.zeros_like(is_open)

    def holds(self, wish: Wish, node: int) -> bool:
        return self._may_come(wish) and super().holds(wish, node)

    def fits_on(self, wish: Wish, fits: Ints, node: int) -> bool:
        return self._may_come(wish) and super().fits_on(wish, fits, node)

    def exhausted(self, wish: Wish) -> list[str]:
        """Return in words what the quota has too little of, [] when one more may come."""
        return self._allowance.lacking(self._dearest(wish))

    def _may_come(self, wish: Wish) -> bool:
        return self._allowance.affords(self._dearest(wish), 1) > 0

    def _take(self, wish: Wish, placed: Placed) -> None:
        cores = sum(ask.cores for ask in wish.units)
        if not cores:
            self._allowance.take(wish.ask, int(placed.nodes.size))
            return
        for at in placed.nodes.tolist():
            node = self._records[at]
            assert node is not None
            self._allowance.take(replace(wish.ask, cpu=wish.ask.cpu + cores * core_mhz(node)), 1)

    def _dearest(self, wish: Wish) -> Ask:
        cores = sum(ask.cores for ask in wish.units)
        if not cores:
            return wish.ask
        nodes = (self._records[at] for at in np.flatnonzero(wish.eligible).tolist())
        mhz = max((core_mhz(node) for node in nodes if node is not None), default=0)
        return replace(wish.ask, cpu=wish.ask.cpu + cores * mhz)
