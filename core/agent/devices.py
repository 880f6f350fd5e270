"""Devices and reserved cores, as an agent's configuration names them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from core.agent.config_records import Device
from core.model.node import NodeDevice, NodeDeviceInstance

_NAME: Final = re.compile(r"[^/\s]+/[^/\s]+/[^/]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z/%]*)")
_RANGE: Final = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
# What programs for these look at; others are told in SERAI_DEVICE_TYPE.
_KNOWN_VARIABLES: Final = {"nvidia/gpu": "NVIDIA_VISIBLE_DEVICES"}


def node_devices(devices: Mapping[str, Device]) -> list[NodeDevice]:
    """Return the records of a node's devices, by their names."""
    found = []
    for label, device in sorted(devices.items()):
        vendor, kind, name = label.split("/", 2)
        found.append(
            NodeDevice(
                vendor=vendor,
                type=kind,
                name=name,
                instances=[NodeDeviceInstance(id=one) for one in device.ids],
                attributes={
                    key: attribute_of(text) for key, text in sorted(device.attributes.items())
                },
            )
        )
    return found


def attribute_of(text: str) -> dict[str, Any]:
    """Return Nomad's form of an attribute: "16 GiB" -> {"Int": 16, "Unit": "GiB"}."""
    found = _NUMBER.fullmatch(text.strip())
    if text in ("true", "false"):
        return {"Bool": text == "true"}
    if found is None:
        return {"String": text}
    number, unit = found.groups()
    value = {"Float": float(number)} if "." in number else {"Int": int(number)}
    return value | ({"Unit": unit} if unit else {})


def device_variables(devices: Mapping[str, Device]) -> dict[str, str]:
    """Return by device name the variable in which a task finds the ids that it got."""
    variables = {}
    for label, device in devices.items():
        vendor, kind, _ = label.split("/", 2)
        general = "SERAI_DEVICE_" + re.sub(r"[^A-Za-z0-9]", "_", kind).upper()
        variables[label] = device.env or _KNOWN_VARIABLES.get(f"{vendor}/{kind}", general)
    return variables


def problems(devices: Mapping[str, Device]) -> Iterator[str]:
    """Yield what is wrong with the device blocks."""
    for label, device in devices.items():
        place = f'client.device "{label}"'
        if not _NAME.fullmatch(label):
            yield f'{place}: a device is named "vendor/type/name", such as "nvidia/gpu/t4"'
        if not device.ids:
            yield f"{place}: ids names no device"
        if len(set(device.ids)) < len(device.ids):
            yield f"{place}: an id stands there twice"
        if any(not one or "," in one for one in device.ids):
            yield f"{place}: an id must not be empty nor have a comma"
        if device.env and not _VARIABLE.fullmatch(device.env):
            yield f'{place}: "{device.env}" is no name of a variable'


def parse_cores(text: str) -> list[int] | None:
    """Return the cores of "0,2-3", None when that is no list of cores."""
    cores: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        found = _RANGE.fullmatch(part)
        if found is None:
            return None
        first, last = int(found.group(1)), int(found.group(2) or found.group(1))
        if last < first:
            return None
        cores.update(range(first, last + 1))
    return sorted(cores)
