"""Random nodes and jobs, small and tight, so that each rule of the scheduler comes up.

A few names, versions and racks are shared by all, so that constraints at times hold on
no node, on some, on all. What a task will do is drawn with the job and lies in its config.
"""

import random
from typing import Any, Final

import msgspec

from core.jobspec import canonicalize
from core.model.ids import new_id
from core.model.job import (
    Affinity,
    Constraint,
    DisconnectStrategy,
    EphemeralDisk,
    Job,
    MigrateStrategy,
    NetworkResource,
    Port,
    RequestedDevice,
    ReschedulePolicy,
    Resources,
    Spread,
    SpreadTarget,
    Task,
    TaskGroup,
    UpdateStrategy,
    VolumeRequest,
)
from core.model.node import (
    DriverInfo,
    HostVolumeInfo,
    Node,
    NodeCpuResources,
    NodeDevice,
    NodeDeviceInstance,
    NodeDiskResources,
    NodeMemoryResources,
    NodeReservedCpuResources,
    NodeReservedNetworkResources,
    NodeReservedResources,
    NodeResources,
    NodeStatus,
)
from sim.scheduler.clients import Behaviour
from sim.scheduler.leader import DATACENTER, S

_NS: Final = 1_000_000_000
_RACKS: Final = ("r1", "r2", "r3")
_VERSIONS: Final = ("1.2.3", "1.10.0", "2.0.0", "2.1.0-beta")
_STATIC: Final = (8080, 8443, 20_001)
_KEEPING: Final = ("keep_original", "keep_replacement")
PRIORITIES: Final = (20, 41, 50, 59, 60, 80)


def random_node(rng: random.Random, number: int) -> Node:
    """Return a node that may run raw_exec, or hardly anything."""
    attributes = {
        "kernel.name": rng.choice(("linux",) * 7 + ("darwin",)),
        "cpu.arch": rng.choice(("amd64", "arm64")),
        "os.version": rng.choice(_VERSIONS),
        "cpu.numcores": str(rng.choice((2, 4, 16))),
        "features": rng.choice(("a", "a,b", "b, c", "a,b,c")),
        "unique.hostname": f"host{number}",
    }
    if rng.random() < 0.3:
        attributes["vendor"] = "acme"
    drivers = {"raw_exec": DriverInfo(detected=True, healthy=rng.random() < 0.95)}
    if rng.random() < 0.8:
        drivers["exec"] = DriverInfo(detected=True, healthy=True)
    cores = rng.choice((0, 2, 4))
    first_port = rng.choice((20_000, 20_000, 30_000))
    reserved = NodeReservedResources(
        cpu=NodeReservedCpuResources(cpu_shares=rng.choice((0, 0, 100))),
        networks=NodeReservedNetworkResources(
            reserved_host_ports=rng.choice(("", "", "22,20000-20001"))
        ),
    )
    return Node(
        id=new_id(rng, DATACENTER),
        secret_id=f"secret{number}",
        name=f"n{number}",
        rpc_addr=f"n{number}:4647",
        datacenter="dc1",
        node_class=rng.choice(("small", "large")),
        node_pool=rng.choice(("default",) * 9 + ("gpu",)),
        status=NodeStatus.READY,
        attributes=attributes,
        meta={"rack": rng.choice(_RACKS)} if rng.random() < 0.9 else None,
        drivers=drivers,
        host_volumes=(
            {"data": HostVolumeInfo(path="/srv", read_only=rng.random() < 0.5)}
            if rng.random() < 0.5
            else None
        ),
        reserved_resources=reserved,
        node_resources=NodeResources(
            cpu=NodeCpuResources(
                cpu_shares=rng.choice((1000, 2000, 4000)),
                total_cpu_cores=cores,
                reservable_cpu_cores=list(range(cores)),
            ),
            memory=NodeMemoryResources(memory_mb=rng.choice((1024, 2048, 4096))),
            disk=NodeDiskResources(disk_mb=rng.choice((1000, 5000))),
            min_dynamic_port=first_port,
            max_dynamic_port=first_port + rng.choice((3, 6, 1000)),
            devices=random_devices(rng),
        ),
    )


def random_job(rng: random.Random, name: str) -> Job:
    """Return a canonical job. Its priority and type belong to its name for ever."""
    kind = rng.choices(("service", "batch", "system", "sysbatch"), (12, 3, 2, 1))[0]
    groups = [random_group(rng, kind, f"g{n}") for n in range(rng.choice((1, 1, 1, 2)))]
    job = Job(
        id=name,
        name=name,
        namespace="default",
        type=kind,
        priority=rng.choice(PRIORITIES),
        datacenters=rng.choice((["*"], ["dc*"], ["dc1"])),
        node_pool=rng.choice(("default", "default", "default", "all")),
        constraints=_constraints(rng, is_job=True, kind=kind),
        affinities=_affinities(rng) if kind in ("service", "batch") else None,
        spreads=_spreads(rng) if kind in ("service", "batch") else None,
        task_groups=groups,
    )
    return canonicalize(job, region="r")


def random_group(rng: random.Random, kind: str, name: str) -> TaskGroup:
    is_service, is_system = kind == "service", kind in ("system", "sysbatch")
    return TaskGroup(
        name=name,
        count=1 if is_system else rng.choice((1, 2, 2, 3, 4)),
        constraints=_constraints(rng, is_job=False, kind=kind),
        tasks=[_task(rng, kind, version=0)],
        networks=_networks(rng, kind),
        volumes={"data": _volume(read_only=rng.random() < 0.6)} if rng.random() < 0.12 else None,
        ephemeral_disk=EphemeralDisk(size_mb=rng.choice((10, 10, 200))),
        update=_update(rng, kind)
        if is_service or (kind == "system" and rng.random() < 0.5)
        else None,
        migrate=MigrateStrategy(max_parallel=rng.choice((1, 2)), min_healthy_time_ns=3 * _NS)
        if is_service
        else None,
        reschedule_policy=None if is_system else _reschedule(rng),
        disconnect=_disconnect(rng) if is_service and rng.random() < 0.5 else None,
    )


def _volume(*, read_only: bool) -> VolumeRequest:
    return VolumeRequest(name="data", type="host", source="data", read_only=read_only)


def _task(rng: random.Random, kind: str, version: int) -> Task:
    is_once = kind in ("batch", "sysbatch")
    does = Behaviour(start_us=rng.randint(100_000, 2 * S), stop_us=rng.randint(1_000, 3 * S))
    if is_once:
        ends_us, fails = rng.randint(2 * S, 60 * S), rng.random() < 0.2
        does = msgspec.structs.replace(does, ends_after_us=ends_us, is_failing=fails)
    elif rng.random() < 0.25:
        does = msgspec.structs.replace(does, flaps=rng.choice((1, 2)))
    elif rng.random() < 0.1:
        does = msgspec.structs.replace(does, well_after_us=rng.choice((2, 500)) * S)
    elif rng.random() < 0.12:
        ends_us = 45 * S if kind == "system" else rng.choice((7, 20)) * S
        does = msgspec.structs.replace(does, ends_after_us=ends_us, is_failing=True)
    return Task(
        name="task",
        driver=rng.choice(("raw_exec", "raw_exec", "raw_exec", "exec")),
        config=msgspec.to_builtins(does),
        env={"VERSION": str(version)},
        resources=_resources(rng),
    )


def _resources(rng: random.Random) -> Resources:
    draw = rng.random()
    cores = rng.choice((1, 1, 2)) if draw < 0.08 else None
    return Resources(
        cpu=None if cores else rng.choice((100, 300, 500, 900)),
        cores=cores,
        memory_mb=rng.choice((64, 256, 700)),
        devices=[_device_ask(rng)] if draw > 0.92 else None,
    )


def _device_ask(rng: random.Random) -> RequestedDevice:
    limits = [
        Constraint("${device.vendor}", "nvidia", "!="),
        Constraint("${device.attr.memory}", "16", ">="),
    ]
    wishes = [Affinity("${device.model}", "t4", "=", weight=rng.choice((50, -60)))]
    return RequestedDevice(
        name=rng.choice(("gpu", "gpu", "nvidia/gpu", "nvidia/gpu/t4")),
        count=rng.choice((None, 1, 2)),
        constraints=[rng.choice(limits)] if rng.random() < 0.3 else None,
        affinities=wishes if rng.random() < 0.5 else None,
    )


def random_devices(rng: random.Random) -> list[NodeDevice] | None:
    """Return the devices of a node, some of them broken; half of the nodes have none."""
    if rng.random() < 0.5:
        return None
    made = [("nvidia", "t4", 16), ("nvidia", "a100", 80), ("amd", "mi50", 8)]
    return [
        NodeDevice(
            vendor=vendor,
            type="gpu",
            name=name,
            instances=[
                NodeDeviceInstance(id=f"{name}-{n}", healthy=rng.random() < 0.9)
                for n in range(rng.choice((1, 2, 3)))
            ],
            attributes={"memory": {"Int": memory}} if rng.random() < 0.8 else None,
        )
        for vendor, name, memory in rng.sample(made, rng.choice((1, 2, 2)))
    ]


def _networks(rng: random.Random, kind: str) -> list[NetworkResource] | None:
    draw = rng.random()
    if draw < 0.6:
        return None
    dynamic = [Port(label=f"d{n}") for n in range(rng.choice((1, 1, 2)))] if draw < 0.9 else []
    static = [Port(label="s", value=rng.choice(_STATIC))] if draw > 0.82 else []
    return [NetworkResource(dynamic_ports=dynamic or None, reserved_ports=static or None)]


def _constraints(rng: random.Random, *, is_job: bool, kind: str) -> list[Constraint] | None:
    if rng.random() < (0.7 if is_job else 0.85):
        return None
    made = [
        Constraint("${attr.kernel.name}", "linux", "="),
        Constraint("${attr.cpu.arch}", "arm64", "!="),
        Constraint("${attr.os.version}", ">= 1.2, < 2.1", "version"),
        Constraint("${attr.os.version}", "~> 1.2", "version"),
        Constraint("${attr.os.version}", ">= 1.10.0", "semver"),
        Constraint("${attr.cpu.numcores}", "4", ">="),
        Constraint("${attr.features}", "a,b", "set_contains"),
        Constraint("${attr.features}", "c,x", "set_contains_any"),
        Constraint("${attr.vendor}", "", "is_set"),
        Constraint("${attr.vendor}", "", "is_not_set"),
        Constraint("${attr.vendor}", "umbrella", "!="),
        Constraint("${attr.unique.hostname}", "ost[0-4]", "regexp"),
        Constraint("${node.class}", "small", "is"),
        Constraint("${meta.rack}", "r2", "<="),
    ]
    if kind in ("service", "batch"):
        apart = [
            Constraint("", "true", "distinct_hosts"),
            Constraint("${meta.rack}", rng.choice(("", "2")), "distinct_property"),
        ]
        made += apart * 3
    return [rng.choice(made)]


def _affinities(rng: random.Random) -> list[Affinity] | None:
    if rng.random() < 0.75:
        return None
    return [
        Affinity("${meta.rack}", rng.choice(_RACKS), "=", weight=rng.choice((50, -30, 100))),
        Affinity("${node.class}", "large", "=", weight=rng.choice((25, -100))),
    ][: rng.choice((1, 2))]


def _spreads(rng: random.Random) -> list[Spread] | None:
    if rng.random() < 0.7:
        return None
    targets = [SpreadTarget("r1", 50), SpreadTarget("r2", rng.choice((30, 50)))]
    even = rng.random() < 0.5
    blocks = [Spread("${meta.rack}", weight=60, spread_target=None if even else targets)]
    if rng.random() < 0.3:
        blocks.append(Spread("${node.class}", weight=40))
    return blocks


def _update(rng: random.Random, kind: str) -> UpdateStrategy:
    # Instances of a service, percent of the nodes of a system job.
    canary = rng.choice((0, 0, 1, 2) if kind == "service" else (0, 0, 30, 100))
    return UpdateStrategy(
        max_parallel=rng.choice((1, 1, 2, 3)),
        health_check="checks",
        min_healthy_time_ns=rng.choice((1, 3, 6)) * _NS,
        healthy_deadline_ns=40 * _NS,
        progress_deadline_ns=rng.choice((0, 60, 60)) * _NS,
        canary=canary,
        auto_promote=canary > 0 and rng.random() < 0.5,
        auto_revert=rng.random() < 0.5,
        stagger_ns=30 * _NS,
    )


def _reschedule(rng: random.Random) -> ReschedulePolicy:
    if rng.random() < 0.5:
        return ReschedulePolicy(
            attempts=rng.choice((0, 1, 2)),
            interval_ns=600 * _NS,
            delay_ns=rng.choice((5, 15)) * _NS,
            delay_function="constant",
            max_delay_ns=0,
            unlimited=False,
        )
    return ReschedulePolicy(
        attempts=0,
        interval_ns=0,
        delay_ns=rng.choice((6, 15)) * _NS,
        delay_function=rng.choice(("constant", "exponential", "fibonacci")),
        max_delay_ns=60 * _NS,
        unlimited=True,
    )


def _disconnect(rng: random.Random) -> DisconnectStrategy:
    return DisconnectStrategy(
        lost_after_ns=rng.choice((30, 120)) * _NS,
        replace=rng.random() < 0.6,
        reconcile=rng.choice(("best_score", "longest_running", *_KEEPING)),
    )


def with_new_processes(rng: random.Random, job: Job, version: int) -> Job:
    """Return a next version of a job whose tasks ask for the same and do something else."""
    groups = [msgspec.structs.replace(group) for group in job.task_groups or []]
    for group in groups:
        tasks = [msgspec.structs.replace(task) for task in group.tasks or []]
        tasks[0].env = {"VERSION": f"{version}/{rng.getrandbits(16)}"}
        group.tasks = tasks
    return canonicalize(msgspec.structs.replace(job, task_groups=groups, stop=False), region="r")


def changed_job(rng: random.Random, job: Job, version: int) -> tuple[Job, str]:
    """Return a next version of a job and what is new: processes, count, only words, ..."""
    kind = job.type or "service"
    if rng.random() < 0.08:
        demands = {"constraints": _constraints(rng, is_job=True, kind=kind), "stop": False}
        return canonicalize(msgspec.structs.replace(job, **demands), region="r"), "constraints"
    groups = [msgspec.structs.replace(group) for group in job.task_groups or []]
    at = rng.randrange(len(groups))
    what = rng.choice(("processes", "processes", "processes", "count", "count", "words", "group"))
    if what == "count" and kind in ("system", "sysbatch"):
        what = "processes"
    if what == "count":
        groups[at].count = rng.choice((0, 1, 2, 3, 5))
    elif what == "words":
        tasks = [msgspec.structs.replace(task) for task in groups[at].tasks or []]
        tasks[0].kill_timeout_ns = rng.randint(5, 20) * _NS
        groups[at].tasks = tasks
    elif what == "group":
        if len(groups) > 1:
            del groups[at]
        else:
            groups.append(random_group(rng, kind, f"g{version}x"))
    else:
        groups[at].tasks = [_task(rng, kind, version)]
    changes: dict[str, Any] = {"task_groups": groups, "stop": False}
    return canonicalize(msgspec.structs.replace(job, **changes), region="r"), what


def asks_by_name(job: Job) -> bool:
    """Whether a job asks for static ports, cores or devices."""
    groups = job.task_groups or []
    asked = [task.resources for group in groups for task in group.tasks or [] if task.resources]
    has_ports = any(one.reserved_ports for group in groups for one in group.networks or [])
    return has_ports or any(one.cores or one.devices for one in asked)


def with_resources(node: Node, cpu_shares: int, devices: list[NodeDevice] | None) -> Node:
    """Return a node with another processor and other devices."""
    resources = node.node_resources
    cpu = msgspec.structs.replace(resources.cpu, cpu_shares=cpu_shares)
    resources = msgspec.structs.replace(resources, cpu=cpu, devices=devices)
    return msgspec.structs.replace(node, node_resources=resources)
