"""Which machines agents are made of: as the trio host builds them, and as the simulator does.

Both hosts are asked to build: the trio host's own constructor (core.agent.build) makes one
server and one client, the simulator starts every agent of a scenario. What came out is
compared by module and class, part by part.
"""

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from core.agent import build
from core.client.config import ClientBoot
from core.client.machine import ClientMachine
from core.model.host import Machine, Now
from core.server.config import ServerBoot
from core.server.machine import ServerMachine
from sim.agents import EPOCH_US, World
from sim.build import build_agents
from sim.scenario import Scenario
from sim.starting import Beginning
from sim.trace import Trace


class Row(NamedTuple):
    """One part of one role: the classes that each host built, and how many the simulator."""

    role: str
    part: str  # "" is the machine itself
    trio: str
    simulator: str
    instances: int

    @property
    def is_identical(self) -> bool:
        return self.trio == self.simulator


def machines(scenario: Scenario) -> list[Row]:
    """Start all agents of a scenario and return what they and the trio host's are made of."""
    world = World(scenario.seed, Trace())
    found: dict[tuple[str, str], Counter[str]] = {}
    for agent in build_agents(world, scenario, Beginning.all_of(scenario)):
        agent.start()
        assert agent.machine is not None
        for part, name in _classes(agent.machine).items():
            found.setdefault((agent.role, part), Counter())[name] += 1
    rows = []
    for role, built in _of_trio(world).items():
        for part, trio in _classes(built).items():
            counts = found.get((role, part), Counter())
            simulator = ", ".join(sorted(counts)) or trio  # a scenario may have no client
            rows.append(Row(role, part, trio, simulator, counts.total()))
    return rows


def _of_trio(world: World) -> dict[str, Machine]:
    """Return a server and a client as the trio host builds them, of the same configuration."""
    now = Now(0, EPOCH_US)
    built: dict[str, Machine] = {}
    if world.servers:
        built["server"] = build.server_machine(world.servers[0].config, ServerBoot(), 1, now)
    if world.clients:
        built["client"] = build.client_machine(world.clients[0].config, ClientBoot(), 1, now)
    return built


def _classes(machine: Machine) -> dict[str, str]:
    """Return `module:class` of a machine and of its parts that decide, by the part's name."""
    parts: dict[str, Any] = {"": machine}
    if isinstance(machine, ServerMachine):
        server = machine.server
        parts |= {
            "raft": server.consensus.raft,
            "state": server.state,
            "gossip of the LAN": server.membership.lan,
            "gossip of the WAN": server.membership.wan,
            "scheduler": server.planning,
            "liveness": server.liveness,
            "federation": server.federation,
        }
    elif isinstance(machine, ClientMachine):
        parts |= {
            "gossip of the LAN": machine.lan,
            "contact": machine.contact,
            "reports": machine.reporter,
        }
    return {part: f"{type(one).__module__}:{type(one).__qualname__}" for part, one in parts.items()}


def as_json(rows: list[Row]) -> bytes:
    """Return the rows as one JSON list."""
    return msgspec.json.encode(
        [{**row._asdict(), "is_identical": row.is_identical} for row in rows]
    )
