"""The cluster and the jobs of bench.scheduler: made, not measured.

Nodes have seven shapes, three datacenter labels and two architectures, as a company that
bought machines over the years has them. Everything is drawn from a seed: each run has the
same nodes and the same jobs.
"""

import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from core.model.ids import new_id
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
)

DATACENTERS: Final = ("dc1", "dc2", "dc3")


class Shape(NamedTuple):
    """A kind of machine: MHz, MiB, MiB, and how many of a hundred are such."""

    cpu: int
    memory: int
    disk: int
    share: int


SHAPES: Final = (
    Shape(16_000, 32_768, 100_000, 20),
    Shape(32_000, 65_536, 200_000, 25),
    Shape(32_000, 131_072, 200_000, 15),
    Shape(64_000, 131_072, 400_000, 15),
    Shape(64_000, 262_144, 400_000, 10),
    Shape(96_000, 98_304, 400_000, 10),
    Shape(128_000, 262_144, 800_000, 5),
)
ARM_SHARE: Final = 0.15

_ARCHITECTURE: Final = {"LTarget": "${attr.cpu.arch}", "RTarget": "amd64", "Operand": "="}
_KERNEL: Final = {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}
_BIG: Final = {"LTarget": "${meta.shape}", "RTarget": "3,4,5,6", "Operand": "set_contains_any"}
_SPREAD: Final = {"Attribute": "${node.datacenter}", "Weight": 100}


def nodes(count: int, datacenter_id: str, seed: int = 1) -> list[Node]:
    """Return the records that `count` clients register."""
    rng = random.Random(seed)
    kinds = rng.choices(range(len(SHAPES)), [shape.share for shape in SHAPES], k=count)
    return [_node(number, kind, datacenter_id, rng) for number, kind in enumerate(kinds)]


def _node(number: int, kind: int, datacenter_id: str, rng: random.Random) -> Node:
    shape = SHAPES[kind]
    architecture = "arm64" if rng.random() < ARM_SHARE else "amd64"
    return Node(
        id=new_id(rng, datacenter_id),
        secret_id=f"{rng.getrandbits(128):032x}",
        datacenter=rng.choice(DATACENTERS),
        name=f"node-{number}",
        http_addr=f"10.0.{number >> 8}.{number & 255}:4646",
        attributes={
            "cpu.arch": architecture,
            "kernel.name": "linux",
            "kernel.version": "6.1.0",
            "os.name": "debian",
            "driver.exec": "1",
            "unique.hostname": f"node-{number}",
        },
        meta={"shape": str(kind)},
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=shape.cpu, total_cpu_cores=shape.cpu // 2_000),
            memory=NodeMemoryResources(memory_mb=shape.memory),
            disk=NodeDiskResources(disk_mb=shape.disk),
        ),
        drivers={"exec": DriverInfo(detected=True, healthy=True)},
    )


def _job(name: str, count: int, cpu: int, memory: int, disk: int, **more: Any) -> dict[str, Any]:
    task = {
        "Name": "work",
        "Driver": "exec",
        "Config": {"command": "/bin/sleep", "args": ["3600"]},
        "Resources": {"CPU": cpu, "MemoryMB": memory},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
    }
    group = {"Name": "g", "Count": count, "Tasks": [task], "EphemeralDisk": {"SizeMB": disk}}
    job = {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}
    return {"Job": job | more}


def _demands(number: int) -> dict[str, Any]:
    """Return the constraints of a job: two of five ask for nothing but any node."""
    return (
        {},
        {"Constraints": [_ARCHITECTURE]},
        {"Datacenters": ["dc1", "dc2"]},
        {"Constraints": [_KERNEL, _BIG]},
        {},
    )[number % 5]


def huge_jobs(jobs: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield the mix of the published run of two million: every second job has a spread."""
    for number in range(jobs):
        spread = {"Spreads": [_SPREAD]} if number % 2 else {}
        yield _job(f"huge-{number}", count, 50, 30, 10, **_demands(number), **spread)


def tiny_jobs(jobs: int, seed: int = 3, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield jobs of 1 to 5 instances, every second one a service; `first` is in its name."""
    rng = random.Random(seed)
    for number in range(first, first + jobs):
        cpu, memory = rng.choice((50, 100, 200, 400)), rng.choice((64, 128, 256, 512))
        kind = {"Type": "service"} if number % 2 else {}
        count = rng.randint(1, 5)
        yield _job(f"tiny-{number}", count, cpu, memory, 50, **_demands(number), **kind)


def single_jobs(jobs: int) -> Iterator[dict[str, Any]]:
    """Yield jobs of one instance each."""
    for number in range(jobs):
        yield _job(f"single-{number}", 1, 100, 128, 10, **_demands(number))


def instances(job: dict[str, Any]) -> int:
    """Return how many allocations a job of this module wants."""
    return int(job["Job"]["TaskGroups"][0]["Count"])
