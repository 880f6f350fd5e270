"""What this machine is and has, in Nomad's attribute names (Linux).

`measure` is a pure function of a `Reader`, so a test can describe any machine. It never
fails: what can't be read is left out, or taken as small, with the attribute missing.
Settings of the agent override what was measured.
"""

import fcntl
import os
import platform
import re
import socket
import struct
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from core.agent.config import AgentConfig
from core.agent.devices import node_devices, parse_cores
from core.client.config import Fingerprint
from core.model.job import NetworkResource
from core.model.node import (
    DriverInfo,
    NodeCpuResources,
    NodeDevice,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
)
from core.version import VERSION

NOMAD_VERSION: Final = "1.11.0"  # whose API and job files are spoken: jobs ask for it
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
DEFAULT_MHZ: Final = 1_000  # of a core that does not tell
_SIOCGIFADDR: Final = 0x8915
MIB: Final = 1 << 20


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent's configuration says instead of a measurement; 0 and "" = measure."""

    cpu_total_mhz: int = 0
    memory_total_mb: int = 0
    disk_total_mb: int = 0
    min_dynamic_port: int = 20_000
    max_dynamic_port: int = 32_000
    host_ip: str = ""
    network_interface: str = ""
    is_raw_exec_enabled: bool = False
    devices: tuple[NodeDevice, ...] = ()
    reserved_cores: tuple[int, ...] = ()  # that no task gets for itself


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """How the machine is looked at."""

    text: Callable[[str], str]  # a file's content, "" when there is none
    uname: Callable[[], tuple[str, str, str, str]]  # system, host name, release, machine
    cores: Callable[[], list[int]]  # those this process may use
    disk: Callable[[], tuple[str, int, int]]  # of the allocations: mount point, total, free
    route_ip: Callable[[], str]  # of the interface with the default route
    interface_ip: Callable[[str], str]


async def fingerprint(config: AgentConfig, alloc_dir: str) -> Fingerprint:
    """Measure this machine for an agent's configuration."""
    bound = config.bind_address("http")[0]
    client = config.client
    overrides = Overrides(
        cpu_total_mhz=client.cpu_total_compute,
        memory_total_mb=client.memory_total_mb,
        disk_total_mb=client.disk_total_mb,
        min_dynamic_port=client.min_dynamic_port,
        max_dynamic_port=client.max_dynamic_port,
        # An agent that is bound to one address offers its tasks at that address.
        host_ip="" if bound in ("", "0.0.0.0", "::") else bound,
        network_interface=client.network_interface,
        is_raw_exec_enabled=config.is_raw_exec_enabled,
        devices=tuple(node_devices(client.device)),
        reserved_cores=tuple(parse_cores(client.reserved.cores) or ()),
    )
    return await trio.to_thread.run_sync(measure, overrides, this_machine(alloc_dir))


def measure(overrides: Overrides, reader: Reader) -> Fingerprint:
    """Return attributes, resources and drivers."""
    system, host_name, release, machine = reader.uname()
    architecture = ARCHITECTURES.get(machine, machine)
    os_name, os_version = _distribution(reader.text("/etc/os-release"))
    model, mhz = _processor(reader)
    cores = reader.cores()
    reservable = [core for core in cores if core not in overrides.reserved_cores]
    total_mhz = overrides.cpu_total_mhz or mhz * len(cores)
    memory_bytes = overrides.memory_total_mb * MIB or _memory_bytes(reader)
    mount, disk_bytes, free_bytes = reader.disk()
    disk_mb = overrides.disk_total_mb or free_bytes // MIB
    ip = _host_ip(overrides, reader)
    attributes = {
        "kernel.name": system.lower(),
        "kernel.version": release,
        "kernel.arch": machine,
        "arch": architecture,
        "os.name": os_name,
        "os.version": os_version,
        "cpu.arch": architecture,
        "cpu.modelname": model,
        "cpu.numcores": str(len(cores)),
        "cpu.frequency": str(mhz),
        "cpu.totalcompute": str(total_mhz),
        "cpu.reservablecores": str(len(reservable)),
        "memory.totalbytes": str(memory_bytes),
        "unique.hostname": host_name,
        "unique.network.ip-address": ip,
        "unique.storage.volume": mount,
        "unique.storage.bytestotal": str(disk_bytes),
        "unique.storage.bytesfree": str(free_bytes),
        "nomad.version": NOMAD_VERSION,
        "nomad.service_discovery": "true",
        "serai.version": VERSION,
    }
    drivers = {}
    if overrides.is_raw_exec_enabled:
        attributes["driver.raw_exec"] = "1"
        drivers["raw_exec"] = DriverInfo(
            attributes={"driver.raw_exec": "true"},
            detected=True,
            healthy=True,
            health_description="Healthy",
        )
    resources = NodeResources(
        cpu=NodeCpuResources(
            cpu_shares=total_mhz,
            total_cpu_cores=len(cores),
            reservable_cpu_cores=reservable,
        ),
        memory=NodeMemoryResources(memory_mb=memory_bytes // MIB),
        disk=NodeDiskResources(disk_mb=disk_mb),
        networks=[NetworkResource(mode="host", device=overrides.network_interface, ip=ip)],
        devices=list(overrides.devices) or None,
        min_dynamic_port=overrides.min_dynamic_port,
        max_dynamic_port=overrides.max_dynamic_port,
    )
    known = {name: value for name, value in attributes.items() if value}
    return Fingerprint(attributes=known, resources=resources, drivers=drivers)


def this_machine(disk_path: str) -> Reader:
    """Return the reader of the machine that this process runs on."""

    def text(path: str) -> str:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def uname() -> tuple[str, str, str, str]:
        found = platform.uname()
        return found.system, found.node, found.release, found.machine

    def disk() -> tuple[str, int, int]:
        try:
            found = os.statvfs(disk_path)
        except OSError:
            return "", 0, 0
        return (
            _mount_of(disk_path),
            found.f_blocks * found.f_frsize,
            (found.f_bavail * found.f_frsize),
        )

    return Reader(
        text=text,
        uname=uname,
        cores=lambda: sorted(os.sched_getaffinity(0)),
        disk=disk,
        route_ip=_route_ip,
        interface_ip=_interface_ip,
    )


def _distribution(os_release: str) -> tuple[str, str]:
    """Return name and version as Nomad has them: `debian`, `12`."""
    fields = {}
    for line in os_release.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            fields[name.strip()] = value.strip().strip("\"'")
    return fields.get("ID", ""), fields.get("VERSION_ID", "")


def _processor(reader: Reader) -> tuple[str, int]:
    """Return model name and MHz of one core."""
    info = reader.text("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    for path in ("base_frequency", "cpuinfo_max_freq"):  # kHz
        said = reader.text(f"/sys/devices/system/cpu/cpu0/cpufreq/{path}").strip()
        if said.isdigit() and int(said) > 0:
            mhz = int(said) // 1000
            break
    else:
        found = re.search(r"^cpu MHz\s*:\s*([0-9.]+)", info, re.MULTILINE)
        mhz = int(float(found.group(1))) if found else DEFAULT_MHZ
    return (model.group(1).strip() if model else ""), max(mhz, 1)


def _memory_bytes(reader: Reader) -> int:
    """Return the machine's memory, or less where a control group allows less."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", reader.text("/proc/meminfo"), re.MULTILINE)
    total = int(found.group(1)) * 1024 if found else 0
    limits = [
        int(said)
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
        if (said := reader.text(path).strip()).isdigit()
    ]
    return min([limit for limit in limits if limit > 0] + [total]) if total else 0


def _host_ip(overrides: Overrides, reader: Reader) -> str:
    if overrides.network_interface:
        found = reader.interface_ip(overrides.network_interface)
        if found:
            return found
    return overrides.host_ip or reader.route_ip() or "127.0.0.1"


def _route_ip() -> str:
    """Return our address on the way out. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: only the route is looked up
            return str(sock.getsockname()[0])
        except OSError:
            return ""


def _interface_ip(name: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(
                sock.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15])
            )
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def _mount_of(path: str) -> str:
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place
