"""Whether a configuration means something, can work, and is safe to start with.

`check_values` looks at each value by itself and is part of loading; `check_config` and
`check_safety` need to know how the agent is started.
"""

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from core.agent import devices
from core.agent.config_records import AgentConfig, split_address

LOG_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
_PROTOCOLS: Final = ("http", "rpc", "serf")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PORT_RANGE = re.compile(r"\d{1,5}(-\d{1,5})?")
MAX_SERVERS: Final = 7


def check_config(config: AgentConfig, *, is_dev: bool) -> list[str]:
    """Return what can't work, each with the key and what to write; [] when all is well."""
    return [*check_values(config), *_roles(config, is_dev), *_advertised(config)]


def check_values(config: AgentConfig) -> list[str]:
    """Return which values are none that their key may have; [] when all are."""
    return [*_names(config), *_addresses(config), *_client(config)]


def _roles(config: AgentConfig, is_dev: bool) -> Iterable[str]:
    if not config.server.enabled and not config.client.enabled:
        yield "neither server.enabled nor client.enabled is set: the agent has nothing to do"
    if not is_dev:
        if not config.data_dir:
            yield 'data_dir is not set: the agent keeps its state there, e.g. "/var/lib/serai"'
        elif not os.path.isabs(config.data_dir):
            yield f'data_dir "{config.data_dir}" is not an absolute path'
    expect = config.server.bootstrap_expect
    if config.server.enabled and not 0 <= expect <= MAX_SERVERS:
        yield f"server.bootstrap_expect is {expect}; a datacenter has 1, 3, 5 or 7 servers"
    if config.server.enabled and not expect and not config.server.joins:
        yield "server.bootstrap_expect is not set and there is nobody to join: set it to 1, 3 or 5"
    if config.server.cost < 1:
        yield "server.cost is not positive: 100 is the usual, 150 half as dear again"
    if config.server.raft_snapshot_threshold < 1:
        yield "server.raft_snapshot_threshold is not positive"
    if config.server.enabled:
        yield from _raft(config)
    client = config.client
    if client.enabled and not config.server.enabled:
        if not (client.servers or client.server_join.retry_join or client.server_join.start_join):
            yield "client.servers is not set: the client knows no server to register with"
    tls = config.tls
    if tls.http or tls.rpc:
        for key in ("ca_file", "cert_file", "key_file"):
            if not getattr(tls, key):
                yield f"tls.{key} is not set, but tls is switched on"


def _raft(config: AgentConfig) -> Iterable[str]:
    from raft import engine  # a client does without

    try:
        engine.check(config.raft.engine)
    except engine.EngineError as error:
        yield str(error)


def _names(config: AgentConfig) -> Iterable[str]:
    for key in ("region", "datacenter"):
        value = getattr(config, key)
        if not _LABEL.fullmatch(value):
            yield f'{key} "{value}": a name holds letters, digits, "-", "_" and "." only'
    if config.name and not _LABEL.fullmatch(config.name):
        yield f'name "{config.name}": a name holds letters, digits, "-", "_" and "." only'
    if config.log_level.upper() not in LOG_LEVELS:
        yield f'log_level "{config.log_level}" is not one of {", ".join(LOG_LEVELS)}'


def _addresses(config: AgentConfig) -> Iterable[str]:
    taken: dict[tuple[str, int], str] = {}
    for protocol in _PROTOCOLS:
        host, port = config.bind_address(protocol)
        if "{{" in host:
            yield f'the address of {protocol}, "{host}", is a template; write the address itself'
        elif "://" in host or "/" in host or " " in host:
            yield f'the address of {protocol}, "{host}", is not a host'
        if not 0 <= port <= 65_535:
            yield f"ports.{protocol} is {port}; a port is between 0 (any) and 65535"
        elif port and (host, port) in taken:
            yield f"ports.{protocol} and ports.{taken[host, port]} are both {port}"
        taken.setdefault((host, port), protocol)
        advertised = getattr(config.advertise, protocol)
        try:
            split_address(advertised)
        except ValueError as error:
            yield f"advertise.{protocol}: {error}"


def _advertised(config: AgentConfig) -> Iterable[str]:
    for protocol in _PROTOCOLS:
        host, _ = config.bind_address(protocol)
        if not getattr(config.advertise, protocol) and _is_wildcard(host):
            yield f"advertise.{protocol} is not set, and {host} is nothing that others can dial"


def _client(config: AgentConfig) -> Iterable[str]:
    client = config.client
    low, high = client.min_dynamic_port, client.max_dynamic_port
    if not 1 <= low < high <= 65_535:
        yield f"client: dynamic ports {low} to {high} are not a range within 1 to 65535"
    for key in ("cpu_total_compute", "memory_total_mb", "disk_total_mb"):
        if getattr(client, key) < 0:
            yield f"client.{key} is negative"
    for part in filter(None, client.reserved.reserved_ports.replace(" ", "").split(",")):
        if not _PORT_RANGE.fullmatch(part):
            yield f'client.reserved.reserved_ports: "{part}" is no port and no range such as 80-90'
    for name, volume in client.host_volume.items():
        if not volume.path.startswith("/"):
            yield f'client.host_volume "{name}": the path "{volume.path}" is not absolute'
    yield from devices.problems(client.device)
    if devices.parse_cores(client.reserved.cores) is None:
        yield f'client.reserved.cores: "{client.reserved.cores}" is no list such as "0,2-3"'


def missing_volumes(config: AgentConfig) -> list[str]:
    """Return which host volumes can't be offered: their folders are not there."""
    return [
        f'client.host_volume "{name}": {volume.path} is no folder of this machine'
        for name, volume in config.client.host_volume.items()
        if not Path(volume.path).is_dir()
    ]


def check_safety(config: AgentConfig, *, is_dev: bool, insecure: bool) -> list[str]:
    """Return why this configuration may not start, [] when it may.

    An address beyond loopback needs TLS and access control, unless `insecure`. It does
    in `-dev` too: there raw_exec is on, so anybody who reaches the API runs programs.
    """
    if insecure:
        return []
    refusals = []
    for protocol in _PROTOCOLS:
        host, port = config.bind_address(protocol)
        if is_loopback(host):
            continue
        has_tls = config.tls.http if protocol == "http" else config.tls.rpc
        lacks = [
            text
            for text, has in (
                (f"tls {{ {'http' if protocol == 'http' else 'rpc'} = true }}", has_tls),
                ("acl { enabled = true }", config.acl.enabled),
            )
            if not has
        ]
        if lacks:
            refusals.append(
                f"{protocol} binds to {host}:{port}, which others can reach, without "
                f"{' and '.join(lacks)}; set it, bind to 127.0.0.1, or say -insecure"
            )
    return refusals


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; a name other than localhost can't tell."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
