"""What an instance gets by name and nobody else has meanwhile: processor cores and devices.

Other resources are amounts; these are things. A node offers numbered cores
(`ReservableCpuCores`) and devices in groups of one vendor, type and name, each instance
with an id. An allocation's are kept by task.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from core.model.node import Node, NodeDevice


class DeviceUnits(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Instances of one device group."""

    vendor: str
    type: str
    name: str
    ids: tuple[str, ...]


class TaskUnits(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one task holds."""

    cores: tuple[int, ...] = ()
    devices: tuple[DeviceUnits, ...] = ()


Units = dict[str, TaskUnits]  # by task; tasks that hold none are left out


def device_name(device: NodeDevice | DeviceUnits) -> str:
    """Return `vendor/type/name`, as jobs may ask for it."""
    return f"{device.vendor}/{device.type}/{device.name}"


def unit_names(units: Mapping[str, TaskUnits]) -> Iterator[str]:
    """Yield a name for each thing, unique on its node."""
    for held in units.values():
        yield from (core_name(core) for core in held.cores)
        for device in held.devices:
            yield from (instance_name(device, one) for one in device.ids)


def core_name(core: int) -> str:
    return f"core {core}"


def instance_name(device: NodeDevice | DeviceUnits, instance_id: str) -> str:
    return f"{device_name(device)} {instance_id}"


def units_of_node(node: Node) -> frozenset[str]:
    """Return the names of all that a node offers; unhealthy devices are not offered."""
    resources = node.node_resources
    cores = [core_name(core) for core in resources.cpu.reservable_cpu_cores or ()]
    instances = [
        instance_name(device, one.id)
        for device in resources.devices or ()
        for one in device.instances or ()
        if one.healthy
    ]
    return frozenset([*cores, *instances])


def core_mhz(node: Node) -> int:
    """Return what one of the node's cores counts as, MHz."""
    cpu = node.node_resources.cpu
    return cpu.cpu_shares // max(cpu.total_cpu_cores, len(cpu.reservable_cpu_cores or ()), 1)


def allocated_devices(held: TaskUnits) -> list[dict[str, Any]] | None:
    """Return Nomad's `AllocatedDeviceResource` of each group, None without any."""
    return [
        {"Vendor": one.vendor, "Type": one.type, "Name": one.name, "DeviceIDs": list(one.ids)}
        for one in held.devices
    ] or None
