"""A node: the record of a client agent in its datacenter's state. Nomad's `api.Node`."""

from enum import StrEnum
from typing import Any

import msgspec

from core.model.job import NetworkResource
from core.model.record import Record


class NodeStatus(StrEnum):
    INITIALIZING = "initializing"
    READY = "ready"
    DOWN = "down"
    DISCONNECTED = "disconnected"


class Eligibility(StrEnum):
    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"


class NodeCpuResources(Record):
    cpu_shares: int = msgspec.field(name="CpuShares", default=0)  # MHz, all cores together
    total_cpu_cores: int = msgspec.field(name="TotalCpuCores", default=0)
    reservable_cpu_cores: list[int] | None = msgspec.field(name="ReservableCpuCores", default=None)


class NodeMemoryResources(Record):
    memory_mb: int = 0


class NodeDiskResources(Record):
    disk_mb: int = 0


class NodeDeviceInstance(Record):
    id: str = ""
    healthy: bool = True
    health_description: str = ""


class NodeDevice(Record):
    """Devices of one vendor, type and name. Nomad's `NodeDeviceResource`."""

    vendor: str = ""
    type: str = ""
    name: str = ""
    instances: list[NodeDeviceInstance] | None = None
    attributes: dict[str, dict[str, Any]] | None = None  # {"Int"|"Float"|"String"|"Bool", "Unit"}


class NodeResources(Record):
    cpu: NodeCpuResources = msgspec.field(name="Cpu", default_factory=NodeCpuResources)
    memory: NodeMemoryResources = msgspec.field(default_factory=NodeMemoryResources)
    disk: NodeDiskResources = msgspec.field(default_factory=NodeDiskResources)
    networks: list[NetworkResource] | None = None
    devices: list[NodeDevice] | None = None
    min_dynamic_port: int = 20000
    max_dynamic_port: int = 32000


class NodeReservedNetworkResources(Record):
    reserved_host_ports: str = ""


class NodeReservedCpuResources(Record):
    cpu_shares: int = msgspec.field(name="CpuShares", default=0)


class NodeReservedResources(Record):
    cpu: NodeReservedCpuResources = msgspec.field(
        name="Cpu", default_factory=NodeReservedCpuResources
    )
    memory: NodeMemoryResources = msgspec.field(default_factory=NodeMemoryResources)
    disk: NodeDiskResources = msgspec.field(default_factory=NodeDiskResources)
    networks: NodeReservedNetworkResources = msgspec.field(
        default_factory=NodeReservedNetworkResources
    )


class DriverInfo(Record):
    attributes: dict[str, str] | None = None
    detected: bool = False
    healthy: bool = False
    health_description: str = ""
    update_time: str = "0001-01-01T00:00:00Z"


class HostVolumeInfo(Record):
    path: str = ""
    read_only: bool = False
    id: str = ""


class NodeEvent(Record):
    message: str = ""
    subsystem: str = ""
    details: dict[str, str] | None = None
    timestamp: str = "0001-01-01T00:00:00Z"
    create_index: int = 0


class DrainStrategy(Record):
    deadline_ns: int = 0
    ignore_system_jobs: bool = False
    force_deadline: str = "0001-01-01T00:00:00Z"
    started_at: str = "0001-01-01T00:00:00Z"


class Node(Record):
    """One node. `id` ends in the datacenter id; `rpc_addr` is Serai's own, `host:port`."""

    id: str
    secret_id: str = ""
    datacenter: str = "dc1"
    name: str = ""
    http_addr: str = ""
    rpc_addr: str = msgspec.field(name="SeraiRPCAddr", default="")
    tls_enabled: bool = False
    attributes: dict[str, str] | None = None
    node_resources: NodeResources = msgspec.field(default_factory=NodeResources)
    reserved_resources: NodeReservedResources = msgspec.field(default_factory=NodeReservedResources)
    links: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    node_class: str = ""
    node_pool: str = "default"
    drain_strategy: DrainStrategy | None = None
    scheduling_eligibility: Eligibility = Eligibility.ELIGIBLE
    status: NodeStatus = NodeStatus.INITIALIZING
    status_description: str = ""
    status_updated_at: int = 0  # unix seconds
    events: list[NodeEvent] | None = None
    drivers: dict[str, DriverInfo] | None = None
    host_volumes: dict[str, HostVolumeInfo] | None = None
    create_index: int = 0
    modify_index: int = 0
