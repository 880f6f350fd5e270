"""The operator of a datacenter that is lost for good: declares it off, and has its jobs adopted.

If it was its region's authority, he first has another one succeed it, and that declares it off.
He tries until it is so, at whoever answers. Its machines are gone: what ran there has ended. At
times the datacenter comes back later all the same, with everything that its servers had.
"""

import random
from typing import TYPE_CHECKING, Final

from core.federation.adoption import adoptions_of
from core.federation.claims import authority_of
from core.federation.roster import is_off, roster_of
from core.model.query import Answer, Query
from sim.federation.world import S

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter
    from sim.federation.world import World

AGAIN_US: Final = 3 * S
AWAY_US: Final = (60 * S, 150 * S)


class Operator:
    """Looks after one lost datacenter."""

    def __init__(self, world: "World", lost: "Datacenter", rng: random.Random) -> None:
        self._world, self._lost, self._rng = world, lost, rng
        self._adopter = ""
        self._successor: Datacenter | None = None
        if lost.state.is_authority:
            self._successor = self._anyone()
        lost.clients.die()
        lost.crash(rng.randint(*AWAY_US))
        world.after(rng.randint(26 * S, 40 * S), self._work)

    def _work(self) -> None:
        """Take the next step, until the jobs are adopted."""
        world, lost = self._world, self._lost
        if lost.id not in world.watch.off:
            if lost.is_up:
                return  # back, before anybody gave it up
            if self._successor is not None:
                self._ask(self._successor, "Authority.Adopt")
            else:
                self._ask(self._anyone(), "Datacenter.Off")
        elif self._successor is not None and not self._successor.state.is_authority:
            self._ask(self._successor, "Authority.Adopt")  # it may have been lost on its way
        elif not self._is_adopted():
            one = world.datacenters.get(self._adopter) or self._anyone()
            if is_off(one.state, lost.id):
                self._ask(one, "Datacenter.Adopt")
        else:
            return
        world.after(AGAIN_US, self._work)

    def _is_adopted(self) -> bool:
        adopter = self._world.datacenters.get(self._adopter)
        found = adoptions_of(adopter.state).get(self._lost.id) if adopter is not None else None
        if found is None or found.stage != "done":
            return False
        return not found.refused

    def _anyone(self) -> "Datacenter":
        others = [one for one in self._world.region(self._lost.region) if one is not self._lost]
        return self._rng.choice(others)

    def _ask(self, at: "Datacenter", method: str) -> None:
        hosts = [host for host in at.servers if host.is_up]
        if not hosts:
            return
        query = Query(method=method, region=at.region, datacenter=at.id,
                      body={"Datacenter": self._lost.id})  # fmt: skip
        if method == "Datacenter.Off":
            query = Query(method=method, region=at.region, body={"Datacenter": self._lost.id})

        def answered(answer: Answer) -> None:
            if not answer.is_error and method == "Datacenter.Adopt":
                self._adopter = at.id

        self._rng.choice(hosts).on_query(query, answered)


def may_be_lost(world: "World", one: "Datacenter", *, is_authority: bool) -> bool:
    """Whether a datacenter may be lost: others of its region stay, and nothing is under way there.

    Args:
        is_authority: Whether it shall be the region's authority, the only one; else it is none.
    """
    inside = [*world.region(one.region)]
    holders = [other for other in inside if other.state.is_authority]
    return (
        len(inside) > 1
        and one.is_up
        and (holders == [one] if is_authority else one not in holders)
        and not world.watch.off
        and not any(authority_of(other.state).to for other in inside if other.state.is_authority)
        and all(authority_of(other.state).to != one.id for other in inside)
        and all(one.id in roster_of(other.state).members for other in inside if is_authority)
        and any(one.id in roster_of(other.state).members for other in inside)
    )
