"""From an agent's configuration to what its machines are told.

The one place where configuration keys, addresses and measured facts become
`ServerConfig`, `ClientConfig` and the gossip pools, and these the machines.
"""

import base64
import binascii
import random
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from core.agent.config import AgentConfig
from core.agent.devices import device_variables
from core.agent.fingerprint import fingerprint
from core.client.config import ClientBoot, ClientConfig, ClientTimings
from core.client.machine import ClientMachine
from core.jobspec.durations import parse_duration_ns
from core.model.host import Now, with_port
from core.model.node import (
    HostVolumeInfo,
    NodeDiskResources,
    NodeMemoryResources,
    NodeReservedCpuResources,
    NodeReservedNetworkResources,
    NodeReservedResources,
)
from core.server.config import (
    AutopilotConfig,
    LimitsConfig,
    LivenessConfig,
    ServerBoot,
    ServerConfig,
)
from core.server.machine import ServerMachine
from core.version import VERSION
from gossip.endpoint import Pool
from gossip.keyring import Keyring
from gossip.settings import LAN, WAN

SECOND_US: Final = 1_000_000
# What a changed value of takes effect while the agent runs (SIGHUP).
_RELOADABLE: Final = frozenset({"log_level", "warnings"})


class ConfigError(Exception):
    """A value can't be used; the text names the key and what is wanted."""


class Addresses(NamedTuple):
    """What this agent tells others to dial, `host:port` each."""

    http: str
    rpc: str
    gossip: str

    @classmethod
    def of(
        cls, config: AgentConfig, sockets: dict[str, socket.socket], gossip_port: int
    ) -> "Addresses":
        """Return the advertised addresses; port 0 becomes the port that was given."""
        ports = {
            "http": sockets["http"].getsockname()[1],
            "rpc": sockets["rpc"].getsockname()[1],
            "serf": gossip_port,
        }

        def one(protocol: str) -> str:
            host, _, port = config.advertise_address(protocol).rpartition(":")
            return f"{host}:{ports[protocol] if port == '0' else port}"

        return cls(one("http"), one("rpc"), one("serf"))


def server_config(
    config: AgentConfig, addresses: Addresses, server_id: str, *, is_dev: bool
) -> ServerConfig:
    """Return what the server machine of this agent is told."""
    server = config.server
    return ServerConfig(
        name=config.name,
        server_id=server_id,
        region=config.region,
        datacenter=config.datacenter,
        rpc_addr=addresses.rpc,
        gossip_addr=addresses.gossip,
        http_addr=addresses.http,
        bootstrap_expect=server.bootstrap_expect or (1 if is_dev else 0),
        retry_join=tuple(with_port(address, 4648) for address in server.joins),
        retry_interval_us=server.server_join.retry_interval_us,
        serves=tuple(server.serves),
        acl_enabled=config.acl.enabled,
        is_dev=is_dev,
        is_client=config.client.enabled,
        tls_rpc=config.tls.rpc,
        is_non_voter=server.non_voting_server,
        cost=server.cost,
        autopilot=autopilot_config(config.autopilot),
        raft_engine=config.raft.engine,
        version=VERSION,
        # One server alone has nobody to be compared with: it may judge sooner.
        liveness=LivenessConfig(
            grace_us=10 * SECOND_US if is_dev else server.failover_heartbeat_ttl_us
        ),
        limits=LimitsConfig(snapshot_entries=server.raft_snapshot_threshold),
        shown=_shown(config),
    )


_AUTOPILOT_DURATIONS: Final = ("last_contact_threshold", "server_stabilization_time")
_AUTOPILOT_ENTERPRISE: Final = (
    "enable_redundancy_zones", "disable_upgrade_migration", "enable_custom_upgrades",
)  # fmt: skip


def autopilot_config(section: dict[str, Any]) -> AutopilotConfig:
    """Return what the `autopilot` block says; what it leaves out has its default.

    Raises:
        ConfigError: A key or value is none.
    """
    values: dict[str, Any] = {}
    known = [name.removesuffix("_us") for name in AutopilotConfig.__struct_fields__]
    for key, value in section.items():
        if key in _AUTOPILOT_ENTERPRISE and not value:
            continue
        if key not in known:
            raise ConfigError(f"autopilot.{key} is not carried out; want {', '.join(known)}")
        if key in _AUTOPILOT_DURATIONS:
            try:
                values[f"{key}_us"] = parse_duration_ns(str(value)) // 1000
            except ValueError as error:
                raise ConfigError(f"autopilot.{key}: {error}") from None
        else:
            values[key] = value
    try:
        return msgspec.convert(values, AutopilotConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"autopilot: {error}") from None


def _shown(config: AgentConfig) -> dict[str, Any]:
    """Return the configuration as Agent.Self shows it, without what is secret."""
    shown = msgspec.to_builtins(config)
    shown.get("server", {}).pop("encrypt", None)
    shown["tls"].pop("key_file", None)
    return {"Serai": shown}


async def client_config(
    config: AgentConfig, addresses: Addresses, alloc_dir: str, *, is_dev: bool
) -> ClientConfig:
    """Return what the client machine of this agent is told."""
    client = config.client
    servers = [
        with_port(address, 4647) for address in [*client.servers, *client.server_join.retry_join]
    ]
    if config.server.enabled:
        servers.insert(0, addresses.rpc)
    reserved = client.reserved
    return ClientConfig(
        name=config.name,
        region=config.region,
        datacenter=config.datacenter,
        node_class=client.node_class,
        node_pool=client.node_pool,
        meta=dict(client.meta),
        servers=tuple(servers),
        rpc_addr=addresses.rpc,
        http_addr=addresses.http,
        # In an agent of both roles the server is the member of the LAN pool.
        gossip_addr="" if config.server.enabled else addresses.gossip,
        gossip=LAN,
        fingerprint=await fingerprint(config, alloc_dir),
        reserved=NodeReservedResources(
            cpu=NodeReservedCpuResources(cpu_shares=reserved.cpu),
            memory=NodeMemoryResources(memory_mb=reserved.memory),
            disk=NodeDiskResources(disk_mb=reserved.disk),
            networks=NodeReservedNetworkResources(reserved_host_ports=reserved.reserved_ports),
        ),
        host_volumes={
            name: HostVolumeInfo(path=volume.path, read_only=volume.read_only)
            for name, volume in client.host_volume.items()
        },
        device_variables=device_variables(client.device),
        alloc_dir=alloc_dir,
        max_kill_timeout_us=client.max_kill_timeout_us,
        tls_enabled=config.tls.http,
        is_dev=is_dev,
        timings=ClientTimings(retry_max_us=2 * SECOND_US) if is_dev else ClientTimings(),
    )


def server_machine(config: ServerConfig, boot: ServerBoot, seed: int, now: Now) -> ServerMachine:
    """Return the machine of this agent's server.

    Raises:
        SnapshotError: Its snapshot is whole, but of a version that this one can't read.
    """
    return ServerMachine(config=config, boot=boot, rng=random.Random(seed), now=now)


def client_machine(config: ClientConfig, boot: ClientBoot, seed: int, now: Now) -> ClientMachine:
    """Return the machine of this agent's client."""
    return ClientMachine(config=config, boot=boot, rng=random.Random(seed), now=now)


def gossip_pools(config: AgentConfig, kept_keys: Sequence[bytes] = ()) -> dict[str, Pool]:
    """Return the pools of this agent: both for a server, the LAN pool for a client.

    Args:
        kept_keys: Of an earlier life, the one in use first. They win over `server.encrypt`,
            which is where the first life got its key: it may have been changed since.

    Raises:
        ConfigError: `server.encrypt` is no key.
    """
    keyring = Keyring(kept_keys) if kept_keys else _keyring(config.server.encrypt)
    pools = {"lan": Pool(f"lan:{config.region}:{config.datacenter}", keyring)}
    if config.server.enabled:
        pools["wan"] = Pool("wan", keyring)
    return pools


def _keyring(text: str) -> Keyring | None:
    if not text:
        return None
    try:
        key = base64.b64decode(text, validate=True)
        return Keyring([key])
    except (binascii.Error, ValueError) as error:
        raise ConfigError(
            f"server.encrypt is not a key: {error}. "
            "Make one with: serai operator gossip keyring generate"
        ) from None


def needs_restart(old: AgentConfig, new: AgentConfig) -> list[str]:
    """Return the changed keys that a reload does not take up."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return [key for key in after if key not in _RELOADABLE and before[key] != after[key]]


__all__ = [
    "LAN", "WAN", "Addresses", "ConfigError", "client_config", "client_machine", "gossip_pools",
    "needs_restart", "server_config", "server_machine",
]  # fmt: skip
