"""The records of an agent's configuration, with their defaults."""

from typing import Any, Final

import msgspec

SECOND_US: Final = 1_000_000


class Section(msgspec.Struct, kw_only=True, frozen=True):
    """A part of the configuration. Field names are the keys of the file."""


class Ports(Section, frozen=True):
    http: int = 4646
    rpc: int = 4647
    serf: int = 4648


class Addresses(Section, frozen=True):
    """Where each protocol binds; "" = `bind_addr`."""

    http: str = ""
    rpc: str = ""
    serf: str = ""


class Advertise(Section, frozen=True):
    """What others are told to dial, `host` or `host:port`; "" = where it binds."""

    http: str = ""
    rpc: str = ""
    serf: str = ""


class ServerJoin(Section, frozen=True):
    retry_join: list[str] = []
    retry_interval_us: int = 30 * SECOND_US
    retry_max: int = 0  # 0 = for ever
    start_join: list[str] = []


class ServerSection(Section, frozen=True):
    enabled: bool = False
    bootstrap_expect: int = 0
    serves: list[str] = []  # labels of small sites whose clients it takes in
    server_join: ServerJoin = ServerJoin()
    retry_join: list[str] = []
    start_join: list[str] = []
    encrypt: str = ""
    non_voting_server: bool = False
    cost: int = 100  # of a unit of work in this datacenter, percent of the usual
    authoritative_region: str = ""
    raft_protocol: int = 3
    raft_snapshot_threshold: int = 8192  # log entries between snapshots
    failover_heartbeat_ttl_us: int = 60 * SECOND_US  # a new leader judges no node before
    default_scheduler_config: dict[str, Any] = {}

    @property
    def joins(self) -> list[str]:
        """All addresses to join, whichever of the three keys gave them."""
        own = self.server_join
        every = [*own.start_join, *own.retry_join, *self.start_join, *self.retry_join]
        return list(dict.fromkeys(every))


class Reserved(Section, frozen=True):
    cpu: int = 0  # MHz
    memory: int = 0  # MiB
    disk: int = 0  # MiB
    reserved_ports: str = ""  # "22,80,8500-8600"
    cores: str = ""  # "0,2-3": those that no task gets for itself


class HostVolume(Section, frozen=True):
    path: str
    read_only: bool = False


class Device(Section, frozen=True):
    """`device "vendor/type/name"`: what tasks may ask for by name, one at a time."""

    ids: list[str] = []
    attributes: dict[str, str] = {}  # "16 GiB"
    env: str = ""  # the variable that tells a task its ids; "" = SERAI_DEVICE_TYPE


class ClientSection(Section, frozen=True):
    enabled: bool = False
    servers: list[str] = []
    server_join: ServerJoin = ServerJoin()
    meta: dict[str, str] = {}
    node_class: str = ""
    node_pool: str = "default"
    options: dict[str, str] = {}
    reserved: Reserved = Reserved()
    cpu_total_compute: int = 0  # MHz; 0 = measured
    memory_total_mb: int = 0
    disk_total_mb: int = 0
    min_dynamic_port: int = 20000
    max_dynamic_port: int = 32000
    network_interface: str = ""
    host_volume: dict[str, HostVolume] = {}
    device: dict[str, Device] = {}
    alloc_dir: str = ""  # "" = data_dir/alloc
    state_dir: str = ""  # "" = data_dir/client
    max_kill_timeout_us: int = 30 * SECOND_US


class TLSSection(Section, frozen=True):
    http: bool = False
    rpc: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify_server_hostname: bool = False
    verify_https_client: bool = False


class RaftSection(Section, frozen=True):
    engine: str = "core"  # of raft.engine; every server of a datacenter the same


class ACLSection(Section, frozen=True):
    enabled: bool = False
    token_ttl_us: int = 30 * SECOND_US
    policy_ttl_us: int = 30 * SECOND_US


class Telemetry(Section, frozen=True):
    collection_interval_us: int = SECOND_US
    disable_hostname: bool = False
    prometheus_metrics: bool = True
    publish_allocation_metrics: bool = False
    publish_node_metrics: bool = False


class Limits(Section, frozen=True):
    http_max_conns_per_client: int = 100
    https_handshake_timeout_us: int = 5 * SECOND_US
    rpc_handshake_timeout_us: int = 5 * SECOND_US
    rpc_max_conns_per_client: int = 100


class Plugin(Section, frozen=True):
    """`plugin "raw_exec" { config { enabled = true } }`: `config` as it stands there."""

    args: list[str] = []
    config: dict[str, Any] = {}


class AgentConfig(Section, frozen=True):
    """What the agent runs with. Durations are microseconds (`_us`)."""

    name: str = ""  # "" = the host's name
    region: str = "global"
    datacenter: str = "dc1"
    data_dir: str = ""
    bind_addr: str = "127.0.0.1"
    addresses: Addresses = Addresses()
    advertise: Advertise = Advertise()
    ports: Ports = Ports()
    server: ServerSection = ServerSection()
    client: ClientSection = ClientSection()
    plugin: dict[str, Plugin] = {}
    tls: TLSSection = TLSSection()
    raft: RaftSection = RaftSection()
    acl: ACLSection = ACLSection()
    autopilot: dict[str, Any] = {}  # read by core.agent.build
    telemetry: Telemetry = Telemetry()
    limits: Limits = Limits()
    log_level: str = "INFO"  # TRACE | DEBUG | INFO | WARN | ERROR
    log_json: bool = False
    log_file: str = ""
    enable_debug: bool = False
    leave_on_terminate: bool = False
    leave_on_interrupt: bool = False
    warnings: list[str] = []  # keys of Nomad's that are read and not carried out

    @classmethod
    def dev(cls) -> "AgentConfig":
        """Return what `-dev` runs with: server and client, everything on loopback."""
        from core.agent.config import load_config

        return load_config([], is_dev=True)

    @property
    def is_raw_exec_enabled(self) -> bool:
        plugin = self.plugin.get("raw_exec")
        option = self.client.options.get("driver.raw_exec.enable", "")
        return (plugin is not None and plugin.config.get("enabled") is True) or option in (
            "1",
            "true",
        )

    def bind_address(self, protocol: str) -> tuple[str, int]:
        """Return (host, port) where `protocol` ("http", "rpc", "serf") listens."""
        host = getattr(self.addresses, protocol) or self.bind_addr
        return host, getattr(self.ports, protocol)

    def advertise_address(self, protocol: str, bound_port: int | None = None) -> str:
        """Return the `host:port` that others dial for `protocol`.

        Args:
            protocol: "http", "rpc" or "serf".
            bound_port: The port in use, when the configured one is 0.
        """
        host, port = self.bind_address(protocol)
        port = bound_port if bound_port is not None else port
        given = getattr(self.advertise, protocol)
        if given:
            host, given_port = split_address(given)
            port = given_port or port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of `host`, `host:port`, `[v6]:port` or `v6`; port 0 = not given.

    Raises:
        ValueError: the port is no port.
    """
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        text = rest.removeprefix(":")
    elif address.count(":") == 1:
        host, text = address.split(":")
    else:
        return address, 0
    if text and not (text.isdigit() and int(text) <= 65_535):
        raise ValueError(f'"{address}" has no valid port')
    return host, int(text or 0)
