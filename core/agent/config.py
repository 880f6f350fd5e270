"""The agent's configuration: Nomad's keys, from HCL and JSON files merged in order.

    config = load_config(["/etc/serai.d", "extra.hcl"], flags={"server.enabled": True})
    config = load_config([], is_dev=True)              # `serai agent -dev`
    problems = check_config(config, is_dev=False)                   # [] = it can work
    refusals = check_safety(config, is_dev=False, insecure=False)   # [] = may start

The records are in core.agent.config_records, the checks in core.agent.config_check.

A file is checked against `core.agent.config_schema` and becomes *settings*, a nested
dict of what it says; settings are merged (later wins, lists of blocks and addresses
add up, as in Nomad), flags go on top, and only then defaults fill the rest. So "not
said" and "said to be the default" never mix.

Every error is a `SourceError` that names file, line and column, or the folder.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from core.agent.config_check import check_config, check_safety, check_values, missing_volumes
from core.agent.config_records import (
    ACLSection,
    Addresses,
    Advertise,
    AgentConfig,
    ClientSection,
    HostVolume,
    Limits,
    Plugin,
    Ports,
    Reserved,
    ServerJoin,
    ServerSection,
    Telemetry,
    TLSSection,
    split_address,
)
from core.agent.config_schema import AGENT, CONFIG_FILE
from core.jobspec.decode import Decoder
from core.jobspec.diagnostics import Diagnostic, Severity, SourceError
from core.jobspec.hcl.body import parse_body

__all__ = [
    "ACLSection",
    "Addresses",
    "Advertise",
    "AgentConfig",
    "ClientSection",
    "HostVolume",
    "Limits",
    "Plugin",
    "Ports",
    "Reserved",
    "ServerJoin",
    "ServerSection",
    "TLSSection",
    "Telemetry",
    "check_config",
    "check_safety",
    "check_values",
    "load_config",
    "merge",
    "missing_volumes",
    "parse_settings",
    "split_address",
]

_MAX_BYTES: Final = 4 << 20

_DEV: Final[dict[str, Any]] = {
    "server": {"enabled": True, "bootstrap_expect": 1},
    "client": {"enabled": True},
    "plugin": {"raw_exec": {"config": {"enabled": True}}},
    "enable_debug": True,
}


def load_config(
    paths: Iterable[str], *, flags: Mapping[str, Any] | None = None, is_dev: bool = False
) -> AgentConfig:
    """Return the configuration of files and folders, in order, with `flags` on top.

    Args:
        paths: Files (HCL, or JSON by its first character) and folders, of which
            `*.hcl` and `*.json` are read in the order of their names.
        flags: Dotted key -> value, e.g. {"ports.http": 0, "client.meta": {"a": "b"}}.
        is_dev: Start from the settings of `-dev` instead of the defaults.

    Raises:
        SourceError: a file can't be read, parsed, says what the agent does not know, or
            gives a key a value that it can't have.
    """
    settings: dict[str, Any] = merge({}, _DEV) if is_dev else {}
    for path in paths:
        for file in _files_of(path):
            settings = merge(settings, parse_settings(_read(file), file))
    for key, value in (flags or {}).items():
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    try:
        config = msgspec.convert(settings, AgentConfig)
    except msgspec.ValidationError as error:
        # Files are checked by the schema, so only a flag can have the wrong type.
        raise SourceError.of_file("command line", str(error)) from None
    problems = check_values(config)
    if problems:
        raise SourceError(
            [Diagnostic(Severity.ERROR, text, filename="configuration") for text in problems]
        )
    return config


def parse_settings(text: str, filename: str) -> dict[str, Any]:
    """Return what one configuration file says, checked; "warnings" lists what is ignored.

    Raises:
        SourceError: every unknown key and wrong value of the file.
    """
    body = parse_body(text, filename, schema=AGENT)
    decoder = Decoder(CONFIG_FILE)
    settings = decoder.body(body, AGENT)
    if decoder.errors:
        raise SourceError(decoder.errors)
    if decoder.warnings:
        settings["warnings"] = [warning.summary() for warning in decoder.warnings]
    return settings


def _files_of(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise SourceError.of_file(path, f"can't be read: {error.strerror}") from None
    # Nomad skips what editors leave behind as well.
    chosen = [n for n in names if n.endswith((".hcl", ".json")) and not n.startswith((".", "#"))]
    return [os.path.join(path, name) for name in chosen]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise SourceError.of_file(path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError.of_file(path, f"is not UTF-8 at byte {error.start}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which `over` wins: maps are merged, lists appended."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = [*before, *(item for item in value if item not in before)]
        elif isinstance(value, Mapping):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged
