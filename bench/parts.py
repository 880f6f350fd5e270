"""Jobs over several datacenters: do they keep still, and how fast are they well after a cut?

oscillation_moves_per_hour   moves of instances that undid others: an instance left a datacenter
                             and came back, both counted, while work came and went around them
                             at steady load
heal_to_converged_s_p99      from the end of a cut of one region until every datacenter has
                             answered for its newest part and holds nothing beyond it; the
                             jobs' counts were changed during the cut
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from bench.federated import SERVICE, Datacenter, Federation, S, job
from core.federation import ranges
from core.federation.home_log import current, homes_of
from core.federation.ranges import Indices
from core.model.query import Answer, Query

COUNTS: Final = (12, 9)  # of each service, in turn: changed in each cut
CPU: Final = 500
CUT_US: Final = 40 * S
CONVERGED_MAX_US: Final = 300 * S
LOOK_US: Final = S // 4


@dataclass
class Services:
    """Services that are divided over the datacenters of a federation."""

    federation: Federation
    number: int
    refused: list[str] = field(default_factory=list)
    undone: int = 0  # moves out and back again, both counted
    _places: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)

    @property
    def demand(self) -> int:
        """MHz that all of them ask for."""
        return self.number * COUNTS[0] * CPU

    def register(self, count: int) -> None:
        """Register all of them, or change their count, each at a datacenter of its own."""
        places = self.federation.datacenters
        for number in range(self.number):
            entrance = places[number % len(places)]
            policy = {
                "Spillover": {"Regions": ["*"], "After": 5_000_000_000},
                "Spread": [{"Attribute": "datacenter", "Weight": 50}],
            }
            wanted = job(
                f"{SERVICE}{number}", [(CPU, count)], Type="service", Federation=policy,
                Update={"MaxParallel": 0},
            )  # fmt: skip
            query = Query(
                method="Job.Register", body={"Job": wanted}, region=entrance.region,
                namespace="default",
            )  # fmt: skip
            self.federation.ask(entrance, query, self._answered)

    def _answered(self, answer: Answer) -> None:
        if answer.is_error:
            self.refused.append(answer.error)

    def moves(self) -> dict[str, int]:
        """Return how many instances went to or from a datacenter so far, by why."""
        found: dict[str, int] = {}
        for datacenter in self.federation.datacenters:
            for server in datacenter.servers:
                told = server.server.measures.share_moves if server.server is not None else {}
                for reason, count in told.items():
                    found[reason] = found.get(reason, 0) + count
        return found

    def look(self) -> None:
        """Follow every instance: count those that come back to where they were."""
        for one in self.federation.datacenters:
            for home in _homes(one):
                for datacenter_id, part in home.parts.items():
                    self._follow(home.uid, datacenter_id, part.allowed)

    def _follow(self, uid: str, datacenter_id: str, allowed: Indices) -> None:
        for group, found in allowed.items():
            for index in ranges.each(found):
                been = self._places.setdefault((uid, group, index), [])
                if been and been[-1] == datacenter_id:
                    continue
                self.undone += 2 * (datacenter_id in been)
                been.append(datacenter_id)

    def forget(self) -> None:
        """Begin anew: what moved so far was no steady load."""
        self.undone = 0
        self._places.clear()

    def divided(self) -> int:
        """Return how many of them run in more than one datacenter."""
        homes = [home for one in self.federation.datacenters for home in _homes(one)]
        return sum(len(home.parts) > 1 for home in homes)

    def is_converged(self) -> bool:
        """Whether every part of every home is settled, and every index is given to somebody."""
        return all(
            not home.free and all(part.is_settled for part in home.parts.values())
            for one in self.federation.datacenters
            for home in _homes(one)
        )

    def heal_times_s(self, regions: list[str], settle: Callable[[int], None]) -> list[float]:
        """Cut off one region after the other, and return how long each healing took.

        Args:
            settle: Lets so many microseconds pass, and has the nodes report meanwhile.
        """
        network, wheel = self.federation.world.network, self.federation.world.wheel
        took = []
        for turn, region in enumerate(regions):
            cut_off = [one for one in self.federation.datacenters if one.region == region]
            fault = network.split([server.name for one in cut_off for server in one.servers])
            settle(CUT_US // 2)
            self.register(COUNTS[(turn + 1) % len(COUNTS)])
            settle(CUT_US // 2)
            network.heal(fault)
            healed_us = wheel.now_us
            while not self.is_converged():
                if wheel.now_us - healed_us > CONVERGED_MAX_US:
                    break
                settle(LOOK_US)
            took.append((wheel.now_us - healed_us) / S)
        return took


def _homes(datacenter: Datacenter) -> list[Any]:
    try:
        state = datacenter.state
    except LookupError:
        return []
    # What the home's own datacenter holds is read off its allocations, not kept in the record.
    return [current(state, home) for home in homes_of(state).values()]
