"""Whom a fault means.

    eu                     all agents of a region
    eu/paris               all agents of a datacenter
    eu/paris/leader        the leader (any server, when there is none just now)
    eu/paris/follower      a server that does not lead
    eu/paris/server        a server
    eu/paris/client        a client
    eu-paris-small-3       this agent
    */*/client, eu-*       patterns; several, separated by commas, add up

A role (leader, follower, server, client) without `count` or `share` means one agent drawn
among those it fits, a place all that are there.
"""

import random
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from math import ceil
from typing import Final

from core.jobspec.diagnostics import did_you_mean
from sim.agents import SimAgent, SimClient, SimServer, World
from sim.plans import FaultPlan, Scenario

ROLES: Final = ("leader", "follower", "server", "client")


class TargetError(Exception):
    """A fault names what does not exist; `hint` says what was perhaps meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parts_of(selector: str) -> list[str]:
    return [part.strip() for part in selector.split(",") if part.strip()]


def check_places(selector: str, scenario: Scenario) -> None:
    """Refuse a name that can't mean anybody of the scenario, before it runs.

    Raises:
        TargetError: It names no region, datacenter, role or agent.
    """
    regions = scenario.regions
    places = [f"{plan.region}/{plan.name}" for plan in scenario.datacenters]
    for part in parts_of(selector):
        pieces = part.split("/")
        if len(pieces) == 3:
            if pieces[2] not in ROLES:
                message = f"{part!r}: the third part is a role, one of {', '.join(ROLES)}"
                raise TargetError(message, did_you_mean(pieces[2], ROLES))
            part, pieces = f"{pieces[0]}/{pieces[1]}", pieces[:2]
        known = places if len(pieces) == 2 else regions
        if any(fnmatchcase(name, part) for name in known):
            continue
        if len(pieces) == 1 and any(
            part.startswith(f"{plan.region}-{plan.name}-") for plan in scenario.datacenters
        ):
            continue  # an agent's name: looked up when it begins
        what = "datacenter" if len(pieces) == 2 else "region or agent"
        hint = did_you_mean(part, known) or f"there are: {', '.join(known[:12])}"
        raise TargetError(f"there is no {what} {part!r}", hint)


class Targets:
    """Finds agents by a selector, in the order in which the world was built."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    def choose(
        self, fault: FaultPlan, fits: Callable[[SimAgent], bool] | None = None
    ) -> list[SimAgent]:
        """Return the agents that a fault strikes; `fits` leaves out who can't be struck.

        Raises:
            TargetError: The selector names nobody that could exist.
        """
        found: dict[str, SimAgent] = {}
        is_role = True
        for part in parts_of(fault.target):
            agents = self.find(part)
            is_role = is_role and part.count("/") == 2
            found |= {agent.name: agent for agent in agents if fits is None or fits(agent)}
        agents = list(found.values())
        if fault.share:
            number = ceil(fault.share * len(agents))
        elif fault.count:
            number = fault.count
        else:
            number = 1 if is_role else len(agents)
        if number >= len(agents):
            return agents
        chosen = self._rng.sample(range(len(agents)), number)
        return [agents[place] for place in sorted(chosen)]

    def find(self, part: str) -> list[SimAgent]:
        """Return the agents that one part of a selector means, running or not.

        Raises:
            TargetError: There can't be any.
        """
        agent = self._world.agents.get(part)
        if agent is not None:
            return [agent]
        pieces = part.split("/")
        inside = [one for one in self._world.agents.values() if _is_inside(one, pieces[:2])]
        if not inside and "*" not in part:
            raise TargetError(f"fault target {part!r}: no such region, datacenter or agent")
        return _of_role(inside, pieces[2]) if len(pieces) == 3 else inside

    def places(self, selector: str) -> list[str]:
        """Return the regions, datacenters and agents that a selector names, for cuts."""
        found: dict[str, None] = {}
        for part in parts_of(selector):
            pieces = part.split("/")
            if part in self._world.agents:
                found[part] = None
            elif len(pieces) == 3:
                found |= dict.fromkeys(agent.name for agent in self.find(part))
            else:
                width = len(pieces)
                for agent in self.find(part):
                    place = agent.place
                    found[place.region if width == 1 else f"{place.region}/{place.datacenter}"] = (
                        None
                    )
        return list(found)


def _is_inside(agent: SimAgent, pieces: list[str]) -> bool:
    if not fnmatchcase(agent.place.region, pieces[0]):
        return False
    return len(pieces) == 1 or fnmatchcase(agent.place.datacenter, pieces[1])


def _of_role(inside: Iterable[SimAgent], role: str) -> list[SimAgent]:
    agents = list(inside)
    if role == "client":
        return [agent for agent in agents if isinstance(agent, SimClient)]
    servers = [agent for agent in agents if isinstance(agent, SimServer)]
    if role == "server":
        return [*servers]
    leading = [server for server in servers if server.is_leader]
    if role == "leader" and leading:
        return [*leading]
    # no leader just now: any server that runs will do
    return [server for server in servers if not server.is_leader and server.machine is not None]
