"""Cores and devices for the reference: things that have names, and go to one at a time.

As `reference.py`, of which it is a part: records of core.model, one node at a time. The
random jobs ask for at most one block of devices a group, so nothing has to be tried twice.
"""

from collections.abc import Iterable
from typing import Final

from core.model.allocation import Allocation
from core.model.job import Affinity, Constraint, RequestedDevice, TaskGroup
from core.model.node import Node, NodeDevice

_CORE: Final = "core {}"


def cores_asked(group: TaskGroup) -> int:
    return sum((task.resources.cores or 0) for task in group.tasks or [] if task.resources)


def device_asked(group: TaskGroup) -> RequestedDevice | None:
    """Return the group's block of devices, None without one."""
    found = [
        one for task in group.tasks or [] if task.resources for one in task.resources.devices or []
    ]
    assert len(found) < 2, "the random jobs ask for one kind of device"
    return found[0] if found else None


def mhz_of_core(node: Node) -> int:
    cpu = node.node_resources.cpu
    return cpu.cpu_shares // max(cpu.total_cpu_cores, len(cpu.reservable_cpu_cores or []), 1)


def names_of(alloc: Allocation) -> list[str]:
    """Return the names of all that an allocation holds, unique on its node."""
    given = alloc.allocated_resources
    assert given is not None
    names = []
    for task in given.tasks.values():
        names += [_CORE.format(core) for core in task.cpu.reserved_cores or []]
        for device in task.devices or []:
            kind = "/".join((device["Vendor"], device["Type"], device["Name"]))
            names += [f"{kind} {one}" for one in device["DeviceIDs"]]
    return names


def offered(node: Node) -> list[str]:
    """Return the names of all that a node has to give."""
    names = [_CORE.format(core) for core in node.node_resources.cpu.reservable_cpu_cores or []]
    for device in node.node_resources.devices or []:
        names += _healthy(device)
    return names


def lacking(group: TaskGroup, node: Node, holders: Iterable[Allocation]) -> str:
    """Return "cores" or "devices" when a node has too few left for one instance more, else ""."""
    taken = [name for alloc in holders for name in names_of(alloc)]
    cores = [_CORE.format(core) for core in node.node_resources.cpu.reservable_cpu_cores or []]
    if cores_asked(group) > sum(core not in taken for core in cores):
        return "cores"
    ask = device_asked(group)
    if ask is not None and not _choices(ask, node, taken):
        return "devices"
    return ""


def liking(group: TaskGroup, node: Node, holders: Iterable[Allocation]) -> float:
    """Return what the device affinities give the node, in [-1, 1]."""
    ask = device_asked(group)
    if ask is None or not ask.affinities:
        return 0.0
    taken = [name for alloc in holders for name in names_of(alloc)]
    weights = [50 if one.weight is None else one.weight for one in ask.affinities]
    sums = [
        sum(w for w, one in zip(weights, ask.affinities, strict=True) if _is_met(one, device))
        for device in _choices(ask, node, taken)
    ]
    return max(sums) / sum(map(abs, weights)) if sums else 0.0


def _choices(ask: RequestedDevice, node: Node, taken: list[str]) -> list[NodeDevice]:
    # The groups of devices that have as many left as are asked for.
    return [
        device
        for device in node.node_resources.devices or []
        if "/".join((device.vendor, device.type, device.name)).startswith(ask.name)
        or ask.name == device.type
        if all(_is_met(one, device) for one in ask.constraints or [])
        and sum(name not in taken for name in _healthy(device)) >= (ask.count or 1)
    ]


def _healthy(device: NodeDevice) -> list[str]:
    kind = "/".join((device.vendor, device.type, device.name))
    return [f"{kind} {one.id}" for one in device.instances or [] if one.healthy]


def _is_met(wish: Constraint | Affinity, device: NodeDevice) -> bool:
    # The random jobs use three targets and these operands.
    memory = (device.attributes or {}).get("memory")
    left = {
        "${device.vendor}": device.vendor,
        "${device.model}": device.name,
        "${device.attr.memory}": None if memory is None else str(memory["Int"]),
    }[wish.l_target]
    if left is None:
        return False
    return {
        "=": left == wish.r_target,
        "!=": left != wish.r_target,
        ">=": left.isdigit() and wish.r_target.isdigit() and int(left) >= int(wish.r_target),
    }[wish.operand]
