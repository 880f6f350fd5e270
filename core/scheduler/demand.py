"""What one instance of a group asks of its node, and the record of what it gets."""

from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
)
from core.model.job import NetworkResource, TaskGroup
from core.model.plan import PortAsk
from core.scheduler.room import Ask
from core.scheduler.view import SchedulerConfig

_MOST = 1 << 40  # more than any node has, and far from where sums overflow
# Nomad's defaults, for a job that was not made canonical.
_CPU_MHZ, _MEMORY_MIB, _DISK_MIB = 100, 300, 300


def port_asks(group: TaskGroup) -> list[PortAsk]:
    """Return the group's host ports, static ones first: the order of a plan's port columns."""
    fixed: list[PortAsk] = []
    dynamic: list[PortAsk] = []
    for network in _networks(group):
        for port in network.reserved_ports or []:
            fixed.append(PortAsk(port.label, port.value, port.to, port.host_network))
        for port in network.dynamic_ports or []:
            dynamic.append(PortAsk(port.label, 0, port.to, port.host_network))
    return [*fixed, *dynamic]


def ask_of_group(group: TaskGroup) -> Ask:
    """Return the sum over the group's tasks, its disk and its ports."""
    resources = resources_of_group(group, SchedulerConfig())
    ports = port_asks(group)
    return Ask(
        cpu=min(sum(task.cpu.cpu_shares for task in resources.tasks.values()), _MOST),
        memory=min(sum(task.memory.memory_mb for task in resources.tasks.values()), _MOST),
        disk=min(resources.shared.disk_mb, _MOST),
        static_ports=tuple(port.static for port in ports if port.static),
        dynamic_ports=sum(not port.static for port in ports),
    )


def resources_of_group(
    group: TaskGroup, config: SchedulerConfig, core_mhz: int = 0
) -> AllocatedResources:
    """Return what each instance of the group is given, without its port numbers.

    Args:
        core_mhz: What a core of its node counts as; a task that asks for cores has no other cpu.
    """
    tasks = {}
    for task in group.tasks or []:
        asked = task.resources
        cpu = _CPU_MHZ if asked is None or asked.cpu is None else asked.cpu
        if asked is not None and asked.cores:
            cpu = asked.cores * core_mhz
        memory = _MEMORY_MIB if asked is None or asked.memory_mb is None else asked.memory_mb
        most = (asked.memory_max_mb or 0) if asked is not None else 0
        tasks[task.name] = AllocatedTask(
            cpu=AllocatedCpu(cpu_shares=max(cpu, 0)),
            memory=AllocatedMemory(
                memory_mb=max(memory, 0),
                memory_max_mb=most if config.has_memory_oversubscription else 0,
            ),
        )
    disk = group.ephemeral_disk.size_mb if group.ephemeral_disk is not None else _DISK_MIB
    return AllocatedResources(
        tasks=tasks, shared=AllocatedShared(disk_mb=_DISK_MIB if disk is None else max(disk, 0))
    )


def _networks(group: TaskGroup) -> list[NetworkResource]:
    # Ports may still stand in a task's resources, as before Nomad 0.12.
    networks = list(group.networks or [])
    for task in group.tasks or []:
        if task.resources is not None:
            networks += task.resources.networks or []
    return networks
