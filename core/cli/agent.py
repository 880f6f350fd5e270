"""`serai agent`: configuration from files, with flags on top, then `core.agent.main.run`."""

import os
from typing import Any

from core.cli.errors import CliError
from core.cli.flags import command, option

# flag -> dotted key of the configuration
_VALUES = {
    "bind": "bind_addr",
    "bootstrap_expect": "server.bootstrap_expect",
    "data_dir": "data_dir",
    "datacenter": "datacenter",
    "encrypt": "server.encrypt",
    "http_port": "ports.http",
    "log_file": "log_file",
    "log_level": "log_level",
    "name": "name",
    "node_class": "client.node_class",
    "node_pool": "client.node_pool",
    "region": "region",
    "rpc_port": "ports.rpc",
    "serf_port": "ports.serf",
}
_SWITCHES = {
    "acl_enabled": "acl.enabled",
    "client": "client.enabled",
    "log_json": "log_json",
    "server": "server.enabled",
}
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")


@command()
@option("-acl-enabled", is_flag=True, help="Demand tokens")
@option("-bind", metavar="address", help="Address to listen on (127.0.0.1)")
@option("-bootstrap-expect", type=int, help="Servers that form a new datacenter")
@option("-client", is_flag=True, help="Run work here")
@option("-config", "configs", multiple=True, metavar="file|folder", help="Repeat for more")
@option("-data-dir", metavar="folder", help="Where state is kept")
@option("-dc", "datacenter", help="Datacenter of this agent (dc1)")
@option("-dev", "is_dev", is_flag=True, help="Server and client at once, state is temporary")
@option("-encrypt", metavar="key", help="Gossip key: serai operator gossip keyring generate")
@option("-http-port", type=int, help="Port of the API (4646)")
@option("-insecure", is_flag=True, help="Start although it is not safe")
@option("-join", "joins", multiple=True, metavar="address", help="A server to join (gossip)")
@option("-log-file", metavar="file", help="Write the log there")
@option("-log-json", is_flag=True, help="Log as JSON")
@option("-log-level", metavar="level", help="TRACE, DEBUG, INFO, WARN or ERROR")
@option("-meta", "meta", multiple=True, metavar="key=value", help="Of the node (repeat)")
@option("-node", "name", help="Name of this agent")
@option("-node-class", help="Class of the node")
@option("-node-pool", help="Pool of the node")
@option("-record", metavar="file", help="Record all input, for serai sim replay")
@option("-region", help="Region of this agent (global)")
@option("-retry-join", "retry_joins", multiple=True, metavar="address", help="As -join")
@option("-rpc-port", type=int, help="Port of calls between agents (4647)")
@option("-serf-port", type=int, help="Port of gossip (4648)")
@option("-server", is_flag=True, help="Vote in the datacenter's Raft")
@option("-servers", "servers", multiple=True, metavar="address", help="A client's servers (RPC)")
def agent(
    *,
    configs: tuple[str, ...],
    is_dev: bool,
    insecure: bool,
    joins: tuple[str, ...],
    retry_joins: tuple[str, ...],
    meta: tuple[str, ...],
    record: str | None,
    servers: tuple[str, ...],
    **given: Any,
) -> int:
    """Run an agent until it is stopped. Flags win over the files, later files over earlier."""
    # Columns that grow have pages of 4 KiB: to find and clear one of 2 MiB holds up the loop.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    from core.agent.config import load_config
    from core.jobspec.diagnostics import SourceError

    flags = config_flags(given)
    if joins or retry_joins:
        flags["server.server_join.retry_join"] = [*joins, *retry_joins]
    if servers:
        flags["client.servers"] = [part for item in servers for part in item.split(",")]
    if meta:
        flags["client.meta"] = dict(_pair(item) for item in meta)
    try:
        config = load_config(configs, flags=flags, is_dev=is_dev)
    except SourceError as error:
        raise CliError(f"the configuration cannot be used:\n{error}") from error
    if not (config.server.enabled or config.client.enabled):
        raise CliError(
            "this agent would do nothing: say -server, -client or both, enable them in a "
            "-config file, or try -dev"
        )
    from core.agent.main import run
    from core.agent.options import Options
    from core.api.app import Api

    options = Options(
        is_dev=is_dev,
        is_insecure=insecure,
        record_path=record or "",
        config_paths=configs,
        flags=flags,
    )
    return run(config, options, Api)


def config_flags(given: dict[str, Any]) -> dict[str, Any]:
    """Return what flags say, by dotted key; what was not given is not there."""
    level = given.get("log_level")
    if level is not None:
        given["log_level"] = level.upper()
        if given["log_level"] not in _LEVELS:
            raise CliError(f"-log-level is one of: {', '.join(_LEVELS)}")
    flags = {key: given[name] for name, key in _VALUES.items() if given.get(name) is not None}
    flags |= {key: True for name, key in _SWITCHES.items() if given.get(name)}
    return flags


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise CliError(f'-meta takes key=value, not "{item}"')
    return name, value
