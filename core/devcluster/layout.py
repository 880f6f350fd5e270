"""Who is where: names, addresses, ports and configuration of each agent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.devcluster.links import Endpoint

FACE_OFFSET: Final = 100  # third octet of a face, beyond its agent's
MAX_DATACENTERS: Final = FACE_OFFSET - 1
MAX_AGENTS: Final = 250  # of one datacenter
NETS: Final = range(20, 250)  # second octets to try
_FIRST_PORT, _LAST_PORT = 20000, 32000  # dynamic ports, shared out between the clients
_REMOTE_JOINS = 2  # servers of each other datacenter that a server tries to join


@dataclass(frozen=True)
class Resources:
    """What a client offers."""

    cpu_mhz: int
    memory_mib: int


@dataclass(frozen=True)
class AgentSpec:
    name: str
    region: str
    datacenter: str
    is_server: bool
    host: str
    face: str
    http_port: int
    rpc_port: int
    serf_port: int
    resources: Resources | None = None  # of a client
    dynamic_ports: tuple[int, int] = (_FIRST_PORT, _LAST_PORT)

    @property
    def role(self) -> str:
        return "server" if self.is_server else "client"

    @property
    def place(self) -> str:
        return f"{self.region}/{self.datacenter}"

    @property
    def api(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    def endpoint(self) -> Endpoint:
        return Endpoint(
            name=self.name,
            region=self.region,
            datacenter=self.datacenter,
            host=self.host,
            face=self.face,
            tcp_ports=(self.rpc_port, self.serf_port),
            udp_ports=(self.serf_port,),
        )


@dataclass(frozen=True)
class PerRegion:
    """A number with exceptions: "3", "eu=2,us=1", "3,us=1"."""

    default: int
    by_region: Mapping[str, int]

    @classmethod
    def parse(cls, text: str, default: int) -> "PerRegion":
        """Read the form above.

        Raises:
            ValueError: It has another form.
        """
        by_region: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            region, equals, number = part.rpartition("=")
            if not number.strip().isdigit() or (equals and not region):
                raise ValueError(f'"{text}" is neither a number nor REGION=NUMBER,...')
            if equals:
                by_region[region.strip()] = int(number)
            else:
                default = int(number)
        return cls(default, by_region)

    def of(self, region: str) -> int:
        return self.by_region.get(region, self.default)


@dataclass(frozen=True)
class Plan:
    """A federation on paper. `net` is the second octet of all its addresses."""

    agents: tuple[AgentSpec, ...]
    net: int
    raft_engine: str = "core"

    @classmethod
    def build(
        cls,
        regions: Sequence[str],
        *,
        net: int,
        datacenters: PerRegion,
        servers: PerRegion,
        clients: PerRegion,
        cpu_mhz: PerRegion,
        memory_mib: PerRegion,
        base_port: int = 4646,
        raft_engine: str = "core",
    ) -> "Plan":
        """Lay out a federation; `servers` and `clients` are per datacenter.

        Raises:
            ValueError: A number is out of its range, or a region is named that isn't there.
        """
        for numbers in (datacenters, servers, clients, cpu_mhz, memory_mib):
            unknown = set(numbers.by_region) - set(regions)
            if unknown:
                raise ValueError(f'there is no region "{min(unknown)}" in {",".join(regions)}')
        places = [
            (region, f"dc{number + 1}")
            for region in regions
            for number in range(datacenters.of(region))
        ]
        if not 1 <= len(places) <= MAX_DATACENTERS:
            raise ValueError(f"between 1 and {MAX_DATACENTERS} datacenters, not {len(places)}")
        total_clients = sum(clients.of(region) for region, _ in places)
        slice_size = (_LAST_PORT - _FIRST_PORT) // max(1, total_clients)
        agents: list[AgentSpec] = []
        client_count = 0
        for ordinal, (region, datacenter) in enumerate(places, 1):
            counts = (servers.of(region), clients.of(region))
            if counts[0] not in {1, 3, 5, 7}:
                raise ValueError(f"a datacenter has 1, 3, 5 or 7 servers, not {counts[0]}")
            if sum(counts) > MAX_AGENTS:
                raise ValueError(f"at most {MAX_AGENTS} agents a datacenter, not {sum(counts)}")
            number = 0
            for is_server in (True, False):
                for index in range(counts[0] if is_server else counts[1]):
                    number += 1
                    first = _FIRST_PORT + client_count * slice_size
                    agents.append(
                        AgentSpec(
                            name=f"{region}-{datacenter}-{'server' if is_server else 'client'}"
                            f"-{index + 1}",
                            region=region,
                            datacenter=datacenter,
                            is_server=is_server,
                            host=f"127.{net}.{ordinal}.{number}",
                            face=f"127.{net}.{ordinal + FACE_OFFSET}.{number}",
                            http_port=base_port,
                            rpc_port=base_port + 1,
                            serf_port=base_port + 2,
                            resources=None
                            if is_server
                            else Resources(cpu_mhz.of(region), memory_mib.of(region)),
                            dynamic_ports=(first, first + slice_size - 1),
                        )
                    )
                    client_count += not is_server
        return cls(tuple(agents), net, raft_engine)

    @property
    def regions(self) -> list[str]:
        return list(dict.fromkeys(agent.region for agent in self.agents))

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(agent.place for agent in self.agents))

    @property
    def has_clients(self) -> bool:
        return any(not agent.is_server for agent in self.agents)

    def servers_of(self, place: str) -> list[AgentSpec]:
        return [agent for agent in self.agents if agent.place == place and agent.is_server]

    def clients_of(self, place: str) -> list[AgentSpec]:
        return [agent for agent in self.agents if agent.place == place and not agent.is_server]

    def config_of(self, agent: AgentSpec, data_dir: Path, *, log_level: str) -> str:
        """Return an agent's configuration file, HCL."""
        return "\n".join(_config_lines(self, agent, data_dir, log_level)) + "\n"

    def joins_of(self, agent: AgentSpec) -> list[str]:
        """Return the gossip addresses a server joins: its own datacenter's, some of others'."""
        joins = []
        for place in self.places:
            known = [one for one in self.servers_of(place) if one.name != agent.name]
            if place != agent.place:
                known = known[:_REMOTE_JOINS]
            joins += [f"{one.face}:{one.serf_port}" for one in known]
        return joins


def _config_lines(plan: Plan, agent: AgentSpec, data_dir: Path, log_level: str) -> Iterator[str]:
    servers = plan.servers_of(agent.place)
    yield f"# {agent.name}: written by serai dev. Others reach it through the relay at"
    yield f"# {agent.face}; its API is {agent.api}."
    yield f"name       = {_text(agent.name)}"
    yield f"region     = {_text(agent.region)}"
    yield f"datacenter = {_text(agent.datacenter)}"
    yield f"data_dir   = {_text(str(data_dir))}"
    yield f"bind_addr  = {_text(agent.host)}"
    yield f"log_level  = {_text(log_level)}"
    yield ""
    yield "ports {"
    yield f"  http = {agent.http_port}"
    yield f"  rpc  = {agent.rpc_port}"
    yield f"  serf = {agent.serf_port}"
    yield "}"
    yield ""
    yield "advertise {"
    yield f"  http = {_text(f'{agent.host}:{agent.http_port}')}"
    yield f"  rpc  = {_text(f'{agent.face}:{agent.rpc_port}')}"
    yield f"  serf = {_text(f'{agent.face}:{agent.serf_port}')}"
    yield "}"
    yield ""
    if agent.is_server:
        yield "server {"
        yield "  enabled          = true"
        yield f"  bootstrap_expect = {len(servers)}"
        yield "  server_join {"
        yield f"    retry_join     = {_list(plan.joins_of(agent))}"
        yield '    retry_interval = "2s"'
        yield "  }"
        yield "}"
        yield ""
        yield "raft {"
        yield f"  engine = {_text(plan.raft_engine)}"
        yield "}"
        return
    assert agent.resources is not None
    yield "client {"
    yield "  enabled           = true"
    yield f"  servers           = {_list([f'{one.face}:{one.rpc_port}' for one in servers])}"
    yield f"  cpu_total_compute = {agent.resources.cpu_mhz}"
    yield f"  memory_total_mb   = {agent.resources.memory_mib}"
    yield f"  min_dynamic_port  = {agent.dynamic_ports[0]}"
    yield f"  max_dynamic_port  = {agent.dynamic_ports[1]}"
    yield "}"
    yield ""
    yield 'plugin "raw_exec" {'
    yield "  config {"
    yield "    enabled = true"
    yield "  }"
    yield "}"


def _text(value: str) -> str:
    """Return an HCL string; `${` and `%{` would begin a template."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped.replace("${", "$${").replace("%{", "%%{")}"'


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"
