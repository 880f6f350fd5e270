"""Faults: what a scenario breaks, when, and how it is mended.

Each kind is a method that begins it and returns how to mend it, or None when there is
nothing to mend. What operators do by the API is in sim.operators.
"""

import random
from collections.abc import Callable
from itertools import product
from typing import Final

import msgspec

from sim.agents import SimAgent, SimClient, SimServer, World
from sim.operators import Operators
from sim.plans import FaultPlan
from sim.targets import TargetError, Targets
from sim.workload import Workload

PAUSE_US: Final = 10_000_000  # of a pause that does not say for how long
SICK_PERIOD_US: Final = 4_000_000
SICK_FRACTION: Final = 0.5

Mend = Callable[[], None]
FaultError = TargetError


class Struck(msgspec.Struct):
    """A fault that was injected: for the timeline, and for measuring how it was noticed."""

    number: int
    plan: FaultPlan
    agents: list[str]
    at_us: int
    mended_us: int = -1


class Faults:
    """Injects the planned faults, counts them by kind, keeps their story."""

    def __init__(self, world: World, rng: random.Random, workload: Workload) -> None:
        self.injected: dict[str, int] = {}
        self.last_end_us = 0
        self.active: dict[int, Struck] = {}
        self.story: list[Struck] = []
        self.mended: list[Struck] = []  # in the order in which they were
        self.off: dict[str, int] = {}  # region/datacenter -> when it was declared off
        self._world = world
        self._targets = Targets(world, rng)
        self._operators = Operators(world, workload, rng)
        self._rng = rng

    def plan(self, fault: FaultPlan) -> None:
        """Schedule a fault and its mending."""
        self._world.wheel.at(fault.at_us, self._begin, fault)
        end_us = fault.at_us + fault.for_us
        if fault.kind in ("restart", "upgrade", "maintenance"):
            struck = self._targets.choose(fault)
            end_us = fault.at_us + self._operators.wave_us(fault, len(struck))
        self.last_end_us = max(self.last_end_us, end_us)

    def _begin(self, fault: FaultPlan) -> None:
        self.injected[fault.kind] = self.injected.get(fault.kind, 0) + 1
        now_us = self._world.wheel.now_us
        what = f"fault {fault.kind} {fault.source} {fault.target}{fault.job}".rstrip()
        self._world.trace.note(now_us, what)
        struck = Struck(len(self.story), fault, [], now_us)
        self.story.append(struck)
        mend = _BEGIN[fault.kind](self, fault, struck)
        if mend is not None:
            self.active[struck.number] = struck
            if fault.for_us:
                self._world.wheel.at(now_us + fault.for_us, self._mend, (struck, mend))

    def _mend(self, what: tuple[Struck, Mend]) -> None:
        struck, mend = what
        self._world.trace.note(self._world.wheel.now_us, f"mended {struck.plan.kind}")
        self._over(struck)
        mend()

    def _over(self, struck: Struck) -> None:
        struck.mended_us = self._world.wheel.now_us
        self.mended.append(struck)
        self.active.pop(struck.number, None)

    def _choose(
        self, fault: FaultPlan, struck: Struck, fits: Callable[[SimAgent], bool] | None = None
    ) -> list[SimAgent]:
        agents = self._targets.choose(fault, fits)
        struck.agents = [agent.name for agent in agents]
        return agents

    # --- the network ----------------------------------------------------------------------

    def _partition(self, fault: FaultPlan, _: Struck) -> Mend:
        """Cut `from` off from `to`, or from everybody when `to` is not said."""
        return self._cuts(fault, both_ways=True)

    def _cut(self, fault: FaultPlan, _: Struck) -> Mend:
        return self._cuts(fault, both_ways=False)

    def _cuts(self, fault: FaultPlan, *, both_ways: bool) -> Mend:
        network = self._world.network
        sources = self._targets.places(fault.source)
        if not fault.target and len(sources) > 1:
            inside = [agent.name for part in sources for agent in self._targets.find(part)]
            numbers = [network.split(inside, both_ways=both_ways)]
        else:
            targets = self._targets.places(fault.target) if fault.target else ["*"]
            numbers = [
                network.cut(source, target, both_ways=both_ways)
                for source, target in product(sources, targets)
                if source != target
            ]
        return self._healing(numbers)

    def _healing(self, numbers: list[int]) -> Mend:
        def heal() -> None:
            for number in numbers:
                self._world.network.heal(number)

        return heal

    def _flap(self, fault: FaultPlan, struck: Struck) -> Mend:
        """Cut and heal in turn, each half a period long."""
        heals: list[Mend] = []

        def turn(_: object) -> None:
            if heals:
                heals.pop()()
            elif struck.mended_us < 0:
                heals.append(self._cuts(fault, both_ways=True))
            if struck.mended_us < 0:
                self._world.wheel.after(max(1, fault.period_us // 2), turn)

        turn(None)
        return lambda: heals.pop()() if heals else None

    def _slow(self, fault: FaultPlan, _: Struck) -> Mend:
        network = self._world.network
        pairs = product(self._targets.places(fault.source), self._targets.places(fault.target))
        numbers = [network.slow(source, target, fault.extra_us) for source, target in pairs]
        return self._healing(numbers)

    def _loss(self, fault: FaultPlan, struck: Struck) -> Mend:
        names = None
        if fault.target:
            names = [agent.name for agent in self._choose(fault, struck)]
        return self._healing([self._world.network.lose(fault.fraction, names)])

    # --- machines and processes -----------------------------------------------------------

    def _crash(self, fault: FaultPlan, struck: Struck) -> Mend | None:
        agents = self._choose(fault, struck, lambda agent: agent.machine is not None)
        for agent in agents:
            agent.crash()
        return _starter(agents)

    def _power(self, fault: FaultPlan, struck: Struck) -> Mend | None:
        agents = self._choose(fault, struck, lambda agent: agent.machine is not None)
        for agent in agents:
            if isinstance(agent, SimClient):
                agent.power_off()
            else:
                agent.crash()
        return _starter(agents)

    def _pause(self, fault: FaultPlan, struck: Struck) -> Mend:
        until_us = self._world.wheel.now_us + (fault.for_us or PAUSE_US)
        for agent in self._choose(fault, struck, lambda agent: agent.machine is not None):
            agent.paused_until_us = until_us
        return lambda: None

    def _sick(self, fault: FaultPlan, struck: Struck) -> Mend:
        """Let agents stand still for a part of each period, each in its own rhythm: what an
        overloaded machine, or one that swaps, looks like to the others.
        """
        period_us = fault.period_us or SICK_PERIOD_US
        still_us = int(period_us * (fault.fraction or SICK_FRACTION))

        def stand_still(agent: SimAgent) -> None:
            if struck.mended_us >= 0:
                return
            if agent.machine is not None:
                agent.paused_until_us = self._world.wheel.now_us + still_us
            pause_us = int(period_us * (0.75 + self._rng.random() / 2))
            self._world.wheel.after(pause_us, stand_still, agent)

        for agent in self._choose(fault, struck):
            self._world.wheel.after(int(self._rng.random() * period_us), stand_still, agent)
        return lambda: None

    def _full_disk(self, fault: FaultPlan, struck: Struck) -> Mend:
        servers = self._servers(fault, struck)
        for server in servers:
            server.disk.is_full = True

        def mend() -> None:
            for server in servers:
                server.disk.is_full = False

        return mend

    def _slow_disk(self, fault: FaultPlan, struck: Struck) -> Mend:
        servers = self._servers(fault, struck)
        for server in servers:
            server.disk.slow(fault.factor, fault.extra_us)

        def mend() -> None:
            for server in servers:
                server.disk.slow(1.0, 0)

        return mend

    def _servers(self, fault: FaultPlan, struck: Struck) -> list[SimServer]:
        agents = self._choose(fault, struck, lambda agent: isinstance(agent, SimServer))
        servers = [agent for agent in agents if isinstance(agent, SimServer)]
        if not servers:
            raise FaultError(f"fault {fault.kind}: there is no server in {fault.target!r}")
        return servers

    def _clock(self, fault: FaultPlan, struck: Struck) -> Mend:
        agents = self._choose(fault, struck)
        for agent in agents:
            agent.set_clock(fault.ppm)

        def mend() -> None:
            for agent in agents:
                agent.set_clock(0)

        return mend

    # --- by the API, or by hand -----------------------------------------------------------

    def _restart(self, fault: FaultPlan, struck: Struck) -> None:
        """Restart agents batch by batch; `upgrade` lets servers come back with a new schema."""
        agents = self._choose(fault, struck)
        self._roll(struck)
        self._operators.restart(fault, agents, lambda: self._over(struck))

    def _maintenance(self, fault: FaultPlan, struck: Struck) -> None:
        agents = self._choose(fault, struck, lambda agent: isinstance(agent, SimClient))
        self._roll(struck)
        self._operators.maintain(fault, agents, lambda: self._over(struck))

    def _roll(self, struck: Struck) -> None:
        self.active[struck.number] = struck

    def _drain_all(self, fault: FaultPlan, struck: Struck) -> Mend:
        agents = self._choose(fault, struck, lambda agent: isinstance(agent, SimClient))
        for agent in agents:
            self._operators.drain(agent)

        def mend() -> None:
            for agent in agents:
                self._operators.allow(agent)

        return mend

    def _drain_datacenter(self, fault: FaultPlan, _: Struck) -> Mend:
        """Empty datacenters: what they run moves to where there is room."""
        sites = self._sites(fault)
        for region, datacenter in sites:
            self._operators.drain_datacenter(region, datacenter, is_draining=True)

        def mend() -> None:
            for region, datacenter in sites:
                self._operators.drain_datacenter(region, datacenter, is_draining=False)

        return mend

    def _datacenter_off(self, fault: FaultPlan, _: Struck) -> None:
        """Say that datacenters run nothing any more, for good, as `serai datacenter off` does."""
        for region, datacenter in self._sites(fault):
            self.off[f"{region}/{datacenter}"] = self._world.wheel.now_us
            self._operators.declare_off(region, datacenter)

    def _authority(self, fault: FaultPlan, _: Struck) -> None:
        for region, datacenter in self._sites(fault):
            self._operators.transfer_authority(region, datacenter)

    def _adopt(self, fault: FaultPlan, _: Struck) -> None:
        for region, datacenter in self._sites(fault):
            self._operators.adopt(region, datacenter, fault.by)

    def _sites(self, fault: FaultPlan) -> list[tuple[str, str]]:
        return list(dict.fromkeys(agent.site for agent in self._targets.choose(fault)))

    def _stop_job(self, fault: FaultPlan, _: Struck) -> Mend:
        return self._operators.stop_jobs(fault.job)

    def _force_leave(self, fault: FaultPlan, struck: Struck) -> None:
        for agent in self._choose(fault, struck):
            self._operators.force_leave(agent)

    def _remove_peer(self, fault: FaultPlan, struck: Struck) -> None:
        for server in self._servers(fault, struck):
            self._operators.remove_peer(server)


def _starter(agents: list[SimAgent]) -> Mend | None:
    """Return what starts again those that were struck; whoever runs by then stays as it is."""

    def start() -> None:
        for agent in agents:
            if agent.machine is None:
                agent.start()

    return start if agents else None


_BEGIN: Final[dict[str, Callable[[Faults, FaultPlan, Struck], Mend | None]]] = {
    "partition": Faults._partition,
    "cut": Faults._cut,
    "flap": Faults._flap,
    "slow": Faults._slow,
    "loss": Faults._loss,
    "crash": Faults._crash,
    "power": Faults._power,
    "datacenter-loss": Faults._power,
    "pause": Faults._pause,
    "sick": Faults._sick,
    "full-disk": Faults._full_disk,
    "slow-disk": Faults._slow_disk,
    "clock": Faults._clock,
    "restart": Faults._restart,
    "upgrade": Faults._restart,
    "maintenance": Faults._maintenance,
    "datacenter-off": Faults._datacenter_off,
    "adopt": Faults._adopt,
    "authority": Faults._authority,
    "drain-datacenter": Faults._drain_datacenter,
    "drain-all": Faults._drain_all,
    "stop-job": Faults._stop_job,
    "force-leave": Faults._force_leave,
    "remove-peer": Faults._remove_peer,
}
