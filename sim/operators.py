"""What operators do while a scenario runs: rolling work, and mistakes.

Drains, stops and removals go through the API of some server, as an operator's commands do,
and are repeated when it does not answer.
"""

import random
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from math import ceil
from typing import Any, Final

import msgspec

from core.client.machine import ClientMachine
from core.model.query import Query
from core.state.entry import SCHEMA
from sim.agents import SimAgent, SimClient, SimServer, World
from sim.network import Place
from sim.plans import FaultPlan
from sim.targets import TargetError
from sim.workload import Workload

DRAIN_DEADLINE_US: Final = 3_600_000_000
HOLD_US: Final = 60_000_000  # a maintenance that does not say how long a node is worked on
START_RETRY_US: Final = 1_000_000

Done = Callable[[], None]


class Operators:
    def __init__(self, world: World, workload: Workload, rng: random.Random) -> None:
        self._world = world
        self._workload = workload
        self._rng = rng
        self._nodes: dict[str, str] = {}  # node id by the client's name, as last seen
        self._calls = 0

    def wave_us(self, fault: FaultPlan, agents: int) -> int:
        """Return about how long rolling over so many agents takes."""
        batches = ceil(agents / max(1, fault.batch))
        each_us = fault.for_us or HOLD_US if fault.kind == "maintenance" else fault.down_us
        return batches * (each_us + fault.gap_us)

    # --- rolling work ---------------------------------------------------------------------

    def restart(self, fault: FaultPlan, agents: Sequence[SimAgent], done: Done) -> None:
        """Stop and start agents batch by batch, servers first.

        `upgrade` starts servers with `schema` as the newest they understand: the shipped
        code in the role of the next version.
        """
        ordered = [
            *(agent for agent in agents if isinstance(agent, SimServer)),
            *(agent for agent in agents if not isinstance(agent, SimServer)),
        ]

        def work(batch: Sequence[SimAgent], over: Done) -> None:
            for agent in batch:
                if agent.machine is not None:
                    agent.crash()
                if fault.kind == "upgrade" and isinstance(agent, SimServer):
                    schema = fault.schema or SCHEMA + 1
                    agent.config = msgspec.structs.replace(agent.config, schema_max=schema)
            self._world.wheel.after(fault.down_us, start, (batch, over))

        def start(what: tuple[Sequence[SimAgent], Done]) -> None:
            for agent in what[0]:
                if agent.machine is None:
                    agent.start()
            what[1]()

        self._in_batches(fault, ordered, work, done)

    def maintain(self, fault: FaultPlan, agents: Sequence[SimAgent], done: Done) -> None:
        """Drain nodes batch by batch, restart each after its work, and let it take work again."""
        hold_us = fault.for_us or HOLD_US

        def work(batch: Sequence[SimAgent], over: Done) -> None:
            for agent in batch:
                self.drain(agent)
            self._world.wheel.after(hold_us, reboot, (batch, over))

        def reboot(what: tuple[Sequence[SimAgent], Done]) -> None:
            for agent in what[0]:
                if isinstance(agent, SimClient) and agent.machine is not None:
                    agent.power_off()
            self._world.wheel.after(fault.down_us, back, what)

        def back(what: tuple[Sequence[SimAgent], Done]) -> None:
            for agent in what[0]:
                if agent.machine is None:
                    agent.start()
                self.allow(agent)
            what[1]()

        self._in_batches(fault, agents, work, done)

    def _in_batches(
        self,
        fault: FaultPlan,
        agents: Sequence[SimAgent],
        work: Callable[[Sequence[SimAgent], Done], None],
        done: Done,
    ) -> None:
        size = max(1, fault.batch)
        batches = [agents[first : first + size] for first in range(0, len(agents), size)]

        def following(_: Any = None) -> None:
            work(batches.pop(0), over)

        def over() -> None:
            if batches:
                self._world.wheel.after(fault.gap_us, following)
            else:
                done()

        if batches:
            following()
        else:
            done()

    # --- single acts ----------------------------------------------------------------------

    def drain(self, agent: SimAgent) -> None:
        spec = {"Deadline": DRAIN_DEADLINE_US * 1_000}
        self._ask(agent, "Node.Drain", {"DrainSpec": spec})

    def allow(self, agent: SimAgent) -> None:
        """End a drain; the node takes work again."""
        self._ask(agent, "Node.Drain", {"DrainSpec": None, "MarkEligible": True})

    def _ask(self, agent: SimAgent, method: str, body: dict[str, Any]) -> None:
        node_id = self._node_id(agent)
        if node_id:
            self._call(agent.place, method, {"node_id": node_id}, body)

    def _node_id(self, agent: SimAgent) -> str:
        if isinstance(agent.machine, ClientMachine):
            self._nodes[agent.name] = agent.machine.node_id
        return self._nodes.get(agent.name, "")

    def drain_datacenter(self, region: str, datacenter: str, *, is_draining: bool) -> None:
        """Begin to empty a datacenter, or take that back, as `serai datacenter drain` does."""
        place = Place(region, datacenter, f"{region}/{datacenter}")
        self._call(place, "Datacenter.SetDrain", {}, {"IsDraining": is_draining})

    def declare_off(self, region: str, datacenter: str) -> None:
        """Declare a datacenter lost for good, at another one of its region."""
        place = self._beside(region, datacenter)
        body = {"Datacenter": datacenter, "Force": True}
        self._call(place, "Datacenter.Off", {}, body, is_at_place=False)

    def adopt(self, region: str, datacenter: str, by: str) -> None:
        """Let a datacenter, `by` or the first other one, become the home of a lost one's jobs."""
        place = Place(region, by, f"{region}/{by}") if by else self._beside(region, datacenter)
        self._call(place, "Datacenter.Adopt", {}, {"Datacenter": datacenter})

    def transfer_authority(self, region: str, datacenter: str) -> None:
        """Make a datacenter the owner of its region's names; refused where it is."""
        place = Place(region, datacenter, f"{region}/{datacenter}")
        self._call(place, "Authority.Transfer", {}, {"To": datacenter}, is_at_place=False)

    def _beside(self, region: str, datacenter: str) -> Place:
        """Return another datacenter of a region that has a server which runs.

        Raises:
            TargetError: There is none: nobody could take over.
        """
        for server in self._world.servers:
            place = server.place
            is_other = place.region == region and place.datacenter != datacenter
            if is_other and server.machine is not None:
                return Place(region, place.datacenter, f"{region}/{place.datacenter}")
        raise TargetError(f"no other datacenter of region {region!r} is up to do without")

    def stop_jobs(self, pattern: str) -> Done:
        """Stop the jobs of this name; return what submits them once more."""
        names = [name for name in self._workload.names() if fnmatchcase(name, pattern)]
        for name in names:
            self._workload.stop(name, self._workload.region_of(name))

        def again() -> None:
            for name in names:
                self._workload.again(name)

        return again

    def force_leave(self, agent: SimAgent) -> None:
        """Tell a datacenter that an agent is gone for good, whether or not it is."""
        name = agent.name
        if isinstance(agent, SimServer):
            name = f"{name}.{agent.place.region}"
        self._call(agent.place, "Agent.ForceLeave", {"node": name}, None)

    def remove_peer(self, server: SimServer) -> None:
        """Take a server out of its quorum, though it may be well."""
        self._call(server.place, "Operator.RemovePeer", {"id": server.config.server_id}, None)

    def _call(
        self,
        place: Place,
        method: str,
        params: dict[str, Any],
        body: Any,
        *,
        is_at_place: bool = True,
    ) -> None:
        """Ask a datacenter's servers; `is_at_place`: it answers itself, not its region."""
        self._calls += 1
        query = Query(
            method=method,
            params=params,
            body=body,
            datacenter=place.datacenter if is_at_place else "",
            call_id=f"sim-operator-{self._calls}",
        )
        self._workload.ask_as_operator(f"{method} {place.name}", place, query)
