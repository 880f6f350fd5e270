"""A federation for bench.federation: shipped servers in the simulator, nodes that only report.

The servers are those of `serai agent`: Raft, gossip, planner, coordinator, on virtual time with
the simulator's network and disks. The nodes are records: they register, and say that an
allocation has ended; nobody asks them, for a second of ten thousand heartbeats costs more than
all that is measured here. So liveness is set to wait for ever.

Work comes and goes by a plan drawn from a seed, the same for every federation it is given to:

    stock       what runs at the beginning, up to the load, of the same sizes as what comes
    arrivals    jobs at random moments, handed to a random datacenter; half of them may run
                anywhere, half prefer their region and may spill over to any other
    ends        every instance ends after a lifetime, whether its job came or was in stock
"""

import heapq
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from core.model.allocation import ClientStatus, Desired
from core.model.host import LOCAL, Event
from core.model.ids import new_id
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
)
from core.model.query import Answer, Query
from core.server.config import AutopilotConfig, LivenessConfig, ServerConfig
from core.state.allocs import HELD
from core.state.commands import AllocUpdate
from core.state.state import State
from sim.agents import SimServer, World
from sim.disk import DiskModel
from sim.network import Place
from sim.trace import Trace

S: Final = 1_000_000
FOREVER_US: Final = 1 << 60
REPORT_US: Final = S  # how often a datacenter's nodes report what ended
NODE_CPU: Final = 16_000  # MHz
NODE_MEMORY: Final = 65_536  # MiB: the processor is what is scarce
BIG_SHARE: Final = 0.05
BIG: Final = (8_400, 9_600, 11_200, 12_800, 14_400)  # MHz: more than half a node
SMALL: Final = (250, 500, 1_000, 2_000)
COUNTS: Final = (1, 2, 3, 4)
SERVICE: Final = "service-"  # names that begin so run until they are stopped


class Size(NamedTuple):
    """A federation: so many datacenters in so many regions, each of so many servers and nodes."""

    regions: int
    datacenters: int
    servers: int
    nodes: int

    @property
    def capacity(self) -> int:
        return self.datacenters * self.nodes * NODE_CPU


class Arrival(NamedTuple):
    at_us: int
    number: int
    cpu: int
    count: int
    entrance: float  # 0 to 1: which datacenter is handed the job
    is_anywhere: bool
    life_us: int


def mean_demand() -> float:
    """Return the MHz that a job asks for on average."""
    small = sum(SMALL) / len(SMALL) * sum(COUNTS) / len(COUNTS)
    return (1 - BIG_SHARE) * small + BIG_SHARE * sum(BIG) / len(BIG)


def arrivals(
    capacity: int, load: float, life_us: int, until_us: int, rng: random.Random
) -> Iterator[Arrival]:
    """Yield jobs at the rate that keeps the load."""
    gap_us = mean_demand() * life_us / (capacity * load)
    at_us, number = 0.0, 0
    while (at_us := at_us + rng.expovariate(1 / gap_us)) < until_us:
        number += 1
        is_big = rng.random() < BIG_SHARE
        yield Arrival(
            at_us=int(at_us),
            number=number,
            cpu=rng.choice(BIG if is_big else SMALL),
            count=1 if is_big else rng.choice(COUNTS),
            entrance=rng.random(),
            is_anywhere=rng.random() < 0.5,
            life_us=int(rng.expovariate(1 / life_us)) + S,
        )


def stock(capacity: int, load: float, rng: random.Random) -> list[tuple[int, int]]:
    """Return (MHz, instances) of what runs at the beginning in one datacenter."""
    counts: dict[int, int] = {}
    left = capacity * load
    while left > 0:
        is_big = rng.random() < BIG_SHARE
        cpu = rng.choice(BIG if is_big else SMALL)
        count = 1 if is_big else rng.choice(COUNTS)
        counts[cpu] = counts.get(cpu, 0) + count
        left -= cpu * count
    return sorted(counts.items(), reverse=True)


def job(name: str, groups: list[tuple[int, int]], **fields: Any) -> dict[str, Any]:
    """Return a batch job as the API takes it: a group for each (MHz, instances)."""
    return {
        "ID": name,
        "Name": name,
        "Type": "batch",
        "Datacenters": ["*"],
        "TaskGroups": [
            {
                "Name": f"g{number}",
                "Count": count,
                "EphemeralDisk": {"SizeMB": 10},
                "Tasks": [
                    {
                        "Name": "work",
                        "Driver": "exec",
                        "Config": {"command": "/bin/true"},
                        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
                        "Resources": {"CPU": cpu, "MemoryMB": max(10, cpu * 2)},
                    }
                ],
            }
            for number, (cpu, count) in enumerate(groups)
        ],
        **fields,
    }


class _Silent(Trace):
    """Nobody compares the traces of two benchmarks."""

    def add(self, time_us: int, agent: str, event: Event) -> None:
        return


class Datacenter:
    """One datacenter: its servers, and its nodes as records."""

    def __init__(self, federation: "Federation", region: str, name: str, number: int) -> None:
        self.region = region
        self.name = name
        self.world = federation.world
        self.servers = [
            _server(federation, region, name, number, position)
            for position in range(federation.size.servers)
        ]
        self._secrets: dict[str, str] = {}  # by node id
        self._rng = random.Random(f"{federation.world.seed}/{name}/nodes")
        self._ends: list[tuple[int, str]] = []  # (when, allocation), a heap
        self._seen = 0  # rows of the allocation table that have an end

    @property
    def leader(self) -> SimServer:
        for server in self.servers:
            if server.server is not None and server.server.server.consensus.is_serving:
                return server
        raise LookupError(f"{self.region}/{self.name} has no leader just now")

    @property
    def state(self) -> State:
        state = self.leader.state
        assert state is not None
        return state

    def register_nodes(self, count: int) -> None:
        """Register nodes as their clients do."""
        datacenter_id = self.state.datacenter_id
        for number in range(count):
            node = _node(f"{self.name}-{number}", self.name, datacenter_id, self._rng)
            body = {"node": node}
            self.leader.request("Node.Register", body, LOCAL, _must_succeed)
            self._secrets[node.id] = node.secret_id

    def report(self, now_us: int, life_us: Callable[[str], int]) -> None:
        """Say of every allocation whose time has come that it is complete.

        Args:
            life_us: Of an instance of the job of this id.
        """
        state = self.state
        columns = state.allocs.columns
        due: dict[str, list[AllocUpdate]] = {}
        for row in range(self._seen, columns.length):
            name, alloc_id = state.allocs.job_record(row).id, state.allocs.id_of(row)
            if name.startswith(SERVICE):
                self._note(due, row, alloc_id, ClientStatus.RUNNING)
            else:
                heapq.heappush(self._ends, (now_us + life_us(name), alloc_id))
        self._seen = columns.length
        while self._ends and self._ends[0][0] <= now_us:
            alloc_id = heapq.heappop(self._ends)[1]
            row = state.allocs.row_of(alloc_id)
            if row is not None and HELD[int(columns.client[row])]:
                self._note(due, row, alloc_id, ClientStatus.COMPLETE)
        self._stop(due)
        for node_id, updates in due.items():
            body = {"node_id": node_id, "secret_id": self._secrets[node_id], "updates": updates}
            self.leader.request("Node.Update", body, LOCAL, _must_succeed)

    def _stop(self, due: dict[str, list[AllocUpdate]]) -> None:
        """End what is asked to stop: instances of services that go elsewhere."""
        columns = self.state.allocs.columns
        rows = np.flatnonzero(
            (columns.desired[: columns.length] == Desired.STOP)
            & HELD[columns.client[: columns.length]]
        )
        for row in rows.tolist():
            self._note(due, row, self.state.allocs.id_of(row), ClientStatus.COMPLETE)

    def _note(
        self, due: dict[str, list[AllocUpdate]], row: int, alloc_id: str, status: ClientStatus
    ) -> None:
        node = self.state.nodes.record(int(self.state.allocs.columns.node[row]))
        if node is not None:
            update = AllocUpdate(alloc_id=alloc_id, client_status=status)
            due.setdefault(node.id, []).append(update)


def _must_succeed(_body: Any, error: str) -> None:
    if error:
        raise RuntimeError(f"a node's report was refused: {error}")


class Federation:
    """All datacenters of one run, on one virtual clock."""

    def __init__(self, size: Size, *, digest_interval_us: int, seed: int) -> None:
        self.size = size
        self.digest_interval_us = digest_interval_us
        self.world = World(seed, _Silent())
        self.datacenters = [
            Datacenter(self, f"r{number % size.regions}", f"dc{number}", number)
            for number in range(size.datacenters)
        ]

    def run_until(self, at_us: int) -> None:
        """Move time on.

        Raises:
            RuntimeError: A server halted.
        """
        self.world.wheel.run_until(at_us)
        if self.world.halts:
            raise RuntimeError(f"a server halted: {self.world.halts[0]}")

    def start(self) -> None:
        """Start the servers, one datacenter after the other, and register the nodes."""
        wheel = self.world.wheel
        for datacenter in self.datacenters:
            for server in datacenter.servers:
                server.start()
            # A datacenter is born into a region that has been heard of: two that are born at
            # once would be two regions of one name.
            self.run_until(wheel.now_us + 6 * S)
        for _ in range(120):
            if all(self._is_led(one) for one in self.datacenters) and self._is_settled():
                break
            self.run_until(wheel.now_us + S)
        else:
            raise RuntimeError("the datacenters did not find each other within two minutes")
        for datacenter in self.datacenters:
            datacenter.register_nodes(self.size.nodes)
        self.run_until(wheel.now_us + 5 * S)

    def _is_settled(self) -> bool:
        """Whether each region has one authority, and every datacenter hears of all others."""
        authorities = [one.region for one in self.datacenters if one.state.is_authority]
        return len(authorities) == len(set(authorities)) == self.size.regions and all(
            self._knows_all(one) for one in self.datacenters
        )

    def _knows_all(self, datacenter: Datacenter) -> bool:
        machine = datacenter.leader.server
        assert machine is not None
        server, count = machine.server, self.size.datacenters
        others = [one for one in server.membership.datacenters() if one != server.datacenter_id]
        alive = [one for one in others if server.membership.servers_of_datacenter(one)]
        return len(server.federation.sites()) == len(alive) + 1 == count

    @staticmethod
    def _is_led(datacenter: Datacenter) -> bool:
        try:
            return bool(datacenter.leader.state and datacenter.state.datacenter_id)
        except LookupError:
            return False

    def ask(self, datacenter: Datacenter, query: Query, then: Callable[[Answer], None]) -> None:
        """Ask the datacenter's leader as a user of its API does."""
        datacenter.leader.query(query, then)

    def used(self) -> float:
        """Return the share of all processors that is taken."""
        used = sum(int(one.state.nodes.cpu_used.sum()) for one in self.datacenters)
        return used / self.size.capacity


def _server(
    federation: Federation, region: str, datacenter: str, number: int, position: int
) -> SimServer:
    name = f"{region}-{datacenter}-server-{position + 1}"
    size = federation.size
    config = ServerConfig(
        name=name,
        server_id=str(uuid.UUID(int=number * 10 + position + 1)),
        region=region,
        datacenter=datacenter,
        rpc_addr=f"{name}:4647",
        gossip_addr=f"{name}:4648",
        http_addr=f"{name}:4646",
        bootstrap_expect=size.servers,
        # Its own datacenter, the first one of its region, and the first one of all.
        retry_join=(
            f"{region}-{datacenter}-server-1:4648",
            f"{region}-dc{number % size.regions}-server-1:4648",
            "r0-dc0-server-1:4648",
        ),
        retry_interval_us=2 * S,
        digest_interval_us=federation.digest_interval_us,
        liveness=LivenessConfig(
            renew_us=FOREVER_US, grace_us=FOREVER_US, check_interval_us=FOREVER_US
        ),
        autopilot=AutopilotConfig(),
    )
    return SimServer(federation.world, Place(region, datacenter, name), config, DiskModel())


def _node(name: str, datacenter: str, datacenter_id: str, rng: random.Random) -> Node:
    return Node(
        id=new_id(rng, datacenter_id),
        secret_id=f"{rng.getrandbits(128):032x}",
        datacenter=datacenter,
        name=name,
        attributes={"kernel.name": "linux", "cpu.arch": "amd64", "driver.exec": "1"},
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=NODE_CPU, total_cpu_cores=8),
            memory=NodeMemoryResources(memory_mb=NODE_MEMORY),
            disk=NodeDiskResources(disk_mb=1_000_000),
        ),
        drivers={"exec": DriverInfo(detected=True, healthy=True)},
    )
