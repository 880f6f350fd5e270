"""What an allocation asks of its node, as three integers."""

from typing import NamedTuple

from core.model.allocation import AllocatedResources


class Ask(NamedTuple):
    cpu: int  # MHz
    memory: int  # MiB; what it may use beyond (`memory_max_mb`) is not reserved
    disk: int  # MiB


def ask_of(resources: AllocatedResources) -> Ask:
    """Return the sum over the tasks, plus the group's disk.

    Tasks that run one after the other (prestart, poststop) are added as well: the
    record does not say which they are, and too much is the safe side.
    """
    cpu = memory = 0
    for task in resources.tasks.values():
        cpu += task.cpu.cpu_shares
        memory += task.memory.memory_mb
    return Ask(cpu, memory, resources.shared.disk_mb)


def parse_ports(text: str) -> int:
    """Return a bit mask of Nomad's port list, `"22,80,8000-8010"`; nonsense is skipped."""
    mask = 0
    for part in text.replace(" ", "").split(","):
        low, _, high = part.partition("-")
        if low.isdigit() and (not high or high.isdigit()):
            first, last = int(low), int(high or low)
            if 0 <= first <= last <= 65535:
                mask |= ((1 << (last - first + 1)) - 1) << first
    return mask
