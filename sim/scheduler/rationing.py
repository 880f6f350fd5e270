"""A quota of the namespace that all jobs are in, and what must be true of it.

quota exceeded    who comes finds as much left as it takes, whatever else goes
quota's books     what the state says is held equals a recount
"""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from core.model.allocation import Allocation
from core.model.job import TaskGroup
from core.model.node import Node
from core.state.commands import UpsertNamespace, UpsertQuota
from core.state.state import State
from sim.scheduler import named, reference
from sim.scheduler.ledger import Ledger
from sim.seeds import Violation

_NAME: Final = "all"
_NONE: Final = (0, 0)  # no limit


class Ration:
    """The limits as they are now: MHz and MiB, 0 is without limit."""

    def __init__(self, rng: random.Random, ledger: Ledger, situations: Counter[str]) -> None:
        self._rng, self._ledger, self._situations = rng, ledger, situations
        self.is_drawn = rng.random() < 0.2
        self._limits = _NONE

    def commands(self) -> list[Any]:
        """Return what gives the namespace a quota, or another one."""
        limit = {
            "CPU": self._rng.choice((0, 500, 1200, 2500, 2500, 5000)),
            "MemoryMB": self._rng.choice((0, 0, 600, 1500, 4000)),
        }
        spec = {"Name": _NAME, "Limits": [{"Region": "r", "RegionLimit": limit}]}
        return [
            UpsertQuota(quota=spec), UpsertNamespace(namespace={"Name": "default", "Quota": _NAME})
        ]  # fmt: skip

    def may_change(self) -> bool:
        """Whether an operator changes the quota now."""
        return self.is_drawn and self._rng.random() < 0.15

    def on_entry(self, commands: list[Any], index: int) -> None:
        """Follow the limits, and judge who came.

        Raises:
            Violation: There was not that much left.
        """
        for command in commands:
            if isinstance(command, UpsertQuota):
                limit = command.quota["Limits"][0]["RegionLimit"]
                self._limits = limit["CPU"], limit["MemoryMB"]
                self._situations["quota changed"] += 1
        known = [*self._ledger.known.values()]
        if self._limits == _NONE or not any(one.created == index for one in known):
            return
        held = [one.alloc for one in known if one.holds and one.stopped != index]
        for name, used, most in zip(("cpu", "memory"), _sum(held), self._limits, strict=True):
            newcomers = (one.alloc for one in known if one.created == index)
            if most and used > most and _sum(newcomers)[name == "memory"]:
                raise Violation("quota exceeded", f"{used} of {most} {name} at entry {index}")

    def check(self, state: State) -> None:
        """Judge a moment at rest."""
        held = _sum(one.alloc for one in self._ledger.known.values() if one.holds)
        if self.is_drawn and tuple(state.spent["default"]) != held:
            raise Violation("quota's books", f"{state.spent} is said, {held} is held")

    def lacks(self, group: TaskGroup, node: Node, held: Iterable[Allocation]) -> bool:
        """Whether one instance more on `node` is too much, beside all that is held."""
        if self._limits == _NONE:
            return False
        ask = reference.ask_of(group, node)
        pairs = zip(_sum(held), (ask.cpu, ask.memory), self._limits, strict=True)
        return any(most and more and used + more > most for used, more, most in pairs)

    def is_vague(self, group: TaskGroup) -> bool:
        """Whether the planner may take an instance for dearer than it is: cores differ."""
        return self._limits != _NONE and named.cores_asked(group) > 0


def _sum(held: Iterable[Allocation]) -> tuple[int, int]:
    sizes = [reference.size_of(alloc) for alloc in held]
    return sum(size.cpu for size in sizes), sum(size.memory for size in sizes)
