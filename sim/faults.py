"""Faults: what a scenario breaks, when, and how it is mended."""

import random
from collections.abc import Callable
from typing import Any

from sim.agents import SimAgent, SimClient, SimServer, World
from sim.scenario import FaultPlan


class FaultError(Exception):
    """A fault names what does not exist."""


class Faults:
    """Injects the planned faults and counts them by kind."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.injected: dict[str, int] = {}
        self.last_end_us = 0
        self._world = world
        self._rng = rng

    def plan(self, fault: FaultPlan) -> None:
        """Schedule a fault and its mending."""
        self._world.wheel.at(fault.at_us, lambda _: self._begin(fault))
        self.last_end_us = max(self.last_end_us, fault.at_us + fault.for_us)

    def _begin(self, fault: FaultPlan) -> None:
        self.injected[fault.kind] = self.injected.get(fault.kind, 0) + 1
        begin: Callable[[FaultPlan], Callable[[], None] | None] = {
            "partition": self._partition,
            "cut": self._cut,
            "slow": self._slow,
            "crash": self._crash,
            "power": self._power,
            "pause": self._pause,
            "full-disk": self._full_disk,
            "loss": self._loss,
        }[fault.kind]
        what = f"fault {fault.kind} {fault.source} {fault.target}".rstrip()
        self._world.trace.note(self._world.wheel.now_us, what)
        mend = begin(fault)
        if fault.for_us and mend is not None:
            end_us = fault.at_us + fault.for_us
            self._world.wheel.at(end_us, lambda _: self._mend(fault, mend))

    def _mend(self, fault: FaultPlan, mend: Callable[[], None]) -> None:
        self._world.trace.note(self._world.wheel.now_us, f"mended {fault.kind}")
        mend()

    def _partition(self, fault: FaultPlan) -> Callable[[], None]:
        """Cut `from` off from `to`, or from everybody when `to` is not said."""
        number = self._world.network.cut(fault.source, fault.target or "*")
        return lambda: self._world.network.heal(number)

    def _cut(self, fault: FaultPlan) -> Callable[[], None]:
        number = self._world.network.cut(fault.source, fault.target, both_ways=False)
        return lambda: self._world.network.heal(number)

    def _slow(self, fault: FaultPlan) -> Callable[[], None]:
        number = self._world.network.slow(fault.source, fault.target, fault.extra_us)
        return lambda: self._world.network.heal(number)

    def _crash(self, fault: FaultPlan) -> Callable[[], None] | None:
        agent = self.find(fault.target)
        if agent.machine is None:
            return None
        agent.crash()
        return agent.start

    def _power(self, fault: FaultPlan) -> Callable[[], None] | None:
        agent = self.find(fault.target)
        if agent.machine is None:
            return None
        if isinstance(agent, SimClient):
            agent.power_off()
        else:
            agent.crash()
        return agent.start

    def _pause(self, fault: FaultPlan) -> None:
        self.find(fault.target).paused_until_us = fault.at_us + (fault.for_us or 10_000_000)

    def _full_disk(self, fault: FaultPlan) -> Callable[[], None]:
        agent = self.find(fault.target)
        if not isinstance(agent, SimServer):
            raise FaultError(f"fault full-disk: {fault.target!r} is no server")
        agent.disk.is_full = True

        def mend() -> None:
            agent.disk.is_full = False

        return mend

    def _loss(self, fault: FaultPlan) -> Callable[[], None]:
        number = self._world.network.lose(fault.fraction)
        return lambda: self._world.network.heal(number)

    def find(self, name: str) -> SimAgent:
        """Return the agent of a name, or of `REGION/DC/leader`, `.../follower`, `.../client`.

        Raises:
            FaultError: There is none.
        """
        agent = self._world.agents.get(name)
        if agent is not None:
            return agent
        parts = name.split("/")
        if len(parts) == 3:
            region, datacenter, kind = parts
            inside = [
                agent
                for agent in self._world.agents.values()
                if (agent.place.region, agent.place.datacenter) == (region, datacenter)
                and agent.machine is not None
            ]
            servers = [agent for agent in inside if isinstance(agent, SimServer)]
            pools: dict[str, list[Any]] = {
                "leader": [agent for agent in servers if agent.is_leader],
                "follower": [agent for agent in servers if not agent.is_leader],
                "client": [agent for agent in inside if isinstance(agent, SimClient)],
            }
            if kind == "leader" and not pools["leader"]:
                kind = "follower"  # no leader just now: any server will do
            if pools.get(kind):
                return self._rng.choice(pools[kind])  # type: ignore[no-any-return]
        raise FaultError(f"fault target {name!r}: no such agent (or REGION/DATACENTER/leader)")
