"""Cores and devices: what a group asks by name, whether a node has it, and which it gets.

A device is asked for as `type`, `vendor/type` or `vendor/type/name`; all instances that one
block asks for come from one group of the node. Constraints and affinities of the block see
`${device.vendor}`, `${device.type}`, `${device.model}`, `${device.ids}` and
`${device.attr.NAME}`, whose values may have units ("16 GiB").
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final

from core.model.job import Affinity, Constraint, TaskGroup
from core.model.node import Node, NodeDevice
from core.model.units import DeviceUnits, TaskUnits, Units, core_name, instance_name
from core.scheduler.constraints import is_met, resolve_target
from core.scheduler.quantity import text_of_attribute

CORES_SHORT: Final = "cores"
DEVICES_SHORT: Final = "devices"


@dataclass(slots=True, frozen=True)
class DeviceAsk:
    """One `device` block."""

    name: str
    count: int
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()


@dataclass(slots=True, frozen=True)
class TaskAsk:
    """What one task asks by name."""

    task: str
    cores: int
    devices: tuple[DeviceAsk, ...]


@dataclass(slots=True, frozen=True)
class Assigned:
    """What an instance gets on a node."""

    units: Units
    cores: int
    liking: float  # of the device affinities, in [-1, 1]; 0 where nobody asks for any


def unit_asks(group: TaskGroup) -> tuple[TaskAsk, ...]:
    """Return what the group's tasks ask by name, () when they ask only for amounts."""
    asks = []
    for task in group.tasks or []:
        asked = task.resources
        if asked is None or not (asked.cores or asked.devices):
            continue
        devices = tuple(
            DeviceAsk(
                name=one.name,
                count=1 if one.count is None else one.count,
                constraints=tuple(one.constraints or ()),
                affinities=tuple(one.affinities or ()),
            )
            for one in asked.devices or ()
        )
        asks.append(TaskAsk(task.name, max(asked.cores or 0, 0), devices))
    return tuple(asks)


def assign(node: Node, taken: Set[str], asks: tuple[TaskAsk, ...]) -> Assigned | str:
    """Return what an instance gets, or which dimension lacks.

    The lowest free cores; of device groups the one that the affinities like best, of equals
    the first; of its instances the first that are free.

    Args:
        taken: Names of what others hold (core.model.units.unit_names).
    """
    gone = set(taken)
    units: Units = {}
    cores_in_all, liking, weight = 0, 0.0, 0.0
    for ask in asks:
        cores = _free_cores(node, gone, ask.cores)
        if cores is None:
            return CORES_SHORT
        gone.update(map(core_name, cores))
        cores_in_all += len(cores)
        devices = []
        for wanted in ask.devices:
            found = _best_device(node, gone, wanted)
            if found is None:
                return DEVICES_SHORT
            score, device = found
            gone.update(instance_name(device, one) for one in device.ids)
            devices.append(device)
            liking += score
            weight += sum(abs(_weight(one)) for one in wanted.affinities)
        units[ask.task] = TaskUnits(tuple(cores), tuple(devices))
    return Assigned(units, cores_in_all, liking / weight if weight else 0.0)


def refusal(node: Node, asks: tuple[TaskAsk, ...]) -> str:
    """Return why the node would not do even if it were empty, "" when it would."""
    lacking = assign(node, frozenset(), asks)
    if not isinstance(lacking, str):
        return ""
    return "missing devices" if lacking == DEVICES_SHORT else "too few cores"


def _free_cores(node: Node, taken: Set[str], count: int) -> list[int] | None:
    offered = sorted(node.node_resources.cpu.reservable_cpu_cores or ())
    free = [core for core in offered if core_name(core) not in taken]
    return free[:count] if len(free) >= count else None


def _best_device(node: Node, taken: Set[str], ask: DeviceAsk) -> tuple[float, DeviceUnits] | None:
    best: tuple[float, DeviceUnits] | None = None
    for device in node.node_resources.devices or ():
        if not _is_named(device, ask.name):
            continue
        free = [
            one.id
            for one in device.instances or ()
            if one.healthy and instance_name(device, one.id) not in taken
        ]
        look = _lookup(device, node)
        if len(free) < ask.count or not all(is_met(one, look) for one in ask.constraints):
            continue
        score = sum((float(_weight(one)) for one in ask.affinities if is_met(one, look)), 0.0)
        if best is None or score > best[0]:
            chosen = DeviceUnits(device.vendor, device.type, device.name, tuple(free[: ask.count]))
            best = score, chosen
    return best


def _is_named(device: NodeDevice, name: str) -> bool:
    parts = name.split("/", 2)
    known = {
        1: (device.type,),
        2: (device.vendor, device.type),
        3: (device.vendor, device.type, device.name),
    }
    return tuple(parts) == known[len(parts)]


def _lookup(device: NodeDevice, node: Node) -> Callable[[str], str | None]:
    known = {
        "${device.vendor}": device.vendor,
        "${device.type}": device.type,
        "${device.model}": device.name,
        "${device.ids}": ",".join(one.id for one in device.instances or ()),
    }

    def look(target: str) -> str | None:
        if target.startswith("${device.attr.") and target.endswith("}"):
            attribute = (device.attributes or {}).get(target[14:-1])
            return None if attribute is None else text_of_attribute(attribute)
        return known[target] if target in known else resolve_target(target, node)

    return look


def _weight(wish: Affinity) -> int:
    return 50 if wish.weight is None else wish.weight
