"""What was found in a live cluster: the records between reading one and writing a scenario."""

import re
from collections.abc import Container, Mapping
from typing import Any, Final

import msgspec

from core.model.job import Job

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_DRIVER: Final = "driver."


class LiveError(Exception):
    """What was read is no cluster's; the text says what, where, and perhaps what to do."""


class LiveNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as far as a job can tell. CPU in MHz, memory and disk in MiB, without reserves."""

    cpu: int
    memory: int
    disk: int
    node_class: str = ""
    pool: str = "default"
    drivers: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()  # those that jobs ask for
    meta: tuple[tuple[str, str], ...] = ()


class LiveJob(msgspec.Struct, kw_only=True):
    """A job that is to be submitted; `job` without whatever a simulation does not need."""

    name: str  # of its own in the scenario
    region: str
    job: Job
    running: int = 0  # instances, when it was read
    run_time_s: float | None = None  # of a batch job: the median of the runs that are over


class Inventory(msgspec.Struct, kw_only=True):
    """Everything that was read, and in words what was left out."""

    origin: str  # where it was read, for the head of the file
    datacenters: dict[tuple[str, str], list[LiveNode]] = {}  # by region and datacenter
    jobs: list[LiveJob] = []
    images: dict[tuple[str, str], bytes] = {}  # stripped snapshots to begin from, by datacenter
    _names: dict[str, None] = {}
    notes: list[str] = []

    def add(self, live: LiveJob, where: str) -> None:
        """Add a job under a name that no other has, whatever name it comes with."""
        name = free_name(live.name, self._names)
        if name != live.name:
            self.note(f"job {live.name} of {where}: another has this name, it is called {name}")
            live.name = name
        self._names[name] = None
        self.jobs.append(live)

    def drop_lost_jobs(self) -> None:
        """Leave out the jobs of regions that have no node, or none that was read."""
        regions = {region for region, _ in self.datacenters}
        for live in self.jobs:
            if live.region not in regions:
                self.note(f"job {live.name} is left out: its region {live.region} has no nodes")
        self.jobs = [live for live in self.jobs if live.region in regions]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class References(msgspec.Struct):
    """Which attributes and metadata of nodes the jobs ask for."""

    attributes: set[str] = set()
    meta: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.attributes or self.meta)


def fit_name(name: str) -> str:
    """Return a name of a region, datacenter or node that a scenario takes."""
    return _UNFIT.sub("-", name).strip("-._") or "unnamed"


def free_name(wanted: str, taken: Container[str]) -> str:
    """Return the name, with a number behind it when somebody has it already."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def is_usable(view: Mapping[str, Any]) -> bool:
    """Whether a node of the API takes work now."""
    return bool(view.get("Status") == "ready"
                and view.get("SchedulingEligibility", "eligible") == "eligible")  # fmt: skip


def live_node(view: Mapping[str, Any], asked: References) -> LiveNode:
    """Return a node of its JSON in Nomad's API: a whole one, or of a list with resources."""
    total, kept = _resources(view, "NodeResources"), _resources(view, "ReservedResources")
    drivers = view.get("Drivers") or {}
    return LiveNode(
        cpu=max(1, total[0] - kept[0]),
        memory=max(1, total[1] - kept[1]),
        disk=max(1, total[2] - kept[2]),
        node_class=view.get("NodeClass") or "",
        pool=view.get("NodePool") or "default",
        drivers=tuple(
            sorted(name for name, found in drivers.items() if found and found.get("Healthy"))
        ),
        attributes=_those(view.get("Attributes"), asked.attributes),
        meta=_those(view.get("Meta"), asked.meta),
    )


def _resources(view: Mapping[str, Any], name: str) -> tuple[int, int, int]:
    """Return MHz, memory and disk; of Nomad before 0.9, which said them in another place."""
    found = view.get(name)
    if found is None and name == "NodeResources":
        old = view.get("Resources") or {}
        return int(old.get("CPU") or 0), int(old.get("MemoryMB") or 0), int(old.get("DiskMB") or 0)
    parts = (("Cpu", "CpuShares"), ("Memory", "MemoryMB"), ("Disk", "DiskMB"))
    cpu, memory, disk = (
        int(((found or {}).get(part) or {}).get(field) or 0) for part, field in parts
    )
    return cpu, memory, disk


def _those(found: Mapping[str, Any] | None, names: set[str]) -> tuple[tuple[str, str], ...]:
    """Return the values of these names; what the simulator says of drivers is its own."""
    held = found or {}
    wanted = (name for name in sorted(names) if name in held and not name.startswith(_DRIVER))
    return tuple((name, str(held[name])) for name in wanted)
