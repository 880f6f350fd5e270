"""What tasks and the machine use now, in the form of Nomad's stats routes.

A task's usage is the sum over its session: every process that its supervisor started keeps
the session of the task's first process unless it leaves it by itself.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.agent.execution.runs import start_ticks
from core.client.effects import TaskHandle
from core.model.timestamp import rfc3339

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def read_tasks(tasks: Mapping[str, TaskHandle]) -> dict[str, Any]:
    """Return Nomad's AllocResourceUsage."""
    now_ns = time.time_ns()
    by_session = _by_session()
    usages = {}
    total_rss = 0
    total_ticks = 0.0
    for name, handle in tasks.items():
        if start_ticks(handle.pid) != handle.start_ticks:
            continue
        rss, user_s, system_s, pids = by_session.get(handle.pid, (0, 0.0, 0.0, 0))
        total_rss += rss
        total_ticks += user_s + system_s
        usages[name] = {
            "ResourceUsage": _usage(rss, user_s, system_s),
            "Timestamp": now_ns,
            "Pids": {str(handle.pid): {"Processes": pids}},
        }
    return {
        "ResourceUsage": _usage(total_rss, total_ticks, 0.0),
        "Tasks": usages,
        "Timestamp": now_ns,
    }


def read_host(disk_path: Path) -> dict[str, Any]:
    """Return Nomad's HostStats."""
    memory = _meminfo()
    total, free = memory.get("MemTotal", 0), memory.get("MemFree", 0)
    available = memory.get("MemAvailable", free)
    disk = os.statvfs(disk_path)
    size, left = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    used = size - disk.f_bfree * disk.f_frsize
    return {
        "Memory": {"Total": total, "Available": available, "Used": total - available, "Free": free},
        "CPU": _cpu(),
        "DiskStats": [_disk(disk_path, size, used, left, disk)],
        "AllocDirStats": _disk(disk_path, size, used, left, disk),
        "DeviceStats": [],
        "Uptime": int(float(Path("/proc/uptime").read_text().split()[0])),
        "CPUTicksConsumed": 0.0,
        "Timestamp": time.time_ns(),
        "TimestampText": rfc3339(time.time_ns() // 1000),
    }


def _usage(rss: int, user_s: float, system_s: float) -> dict[str, Any]:
    return {
        "MemoryStats": {
            "RSS": rss, "Cache": 0, "Swap": 0, "Usage": rss, "MaxUsage": 0,
            "KernelUsage": 0, "KernelMaxUsage": 0, "Measured": ["RSS", "Usage"],
        },
        "CpuStats": {
            "UserMode": user_s, "SystemMode": system_s, "TotalTicks": 0.0, "Percent": 0.0,
            "ThrottledPeriods": 0, "ThrottledTime": 0,
            "Measured": ["User Mode", "System Mode"],
        },
        "DeviceStats": [],
    }  # fmt: skip


def _by_session() -> dict[int, tuple[int, float, float, int]]:
    """Return session -> (resident bytes, user s, system s, processes)."""
    sums: dict[int, tuple[int, float, float, int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        session = int(fields[3])
        rss, user_s, system_s, count = sums.get(session, (0, 0.0, 0.0, 0))
        sums[session] = (
            rss + int(fields[21]) * PAGE_BYTES,
            user_s + int(fields[11]) / TICKS_PER_S,
            system_s + int(fields[12]) / TICKS_PER_S,
            count + 1,
        )
    return sums


def _meminfo() -> dict[str, int]:
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values


def _cpu() -> list[dict[str, Any]]:
    """Return shares since boot: one measurement has no rate of its own."""
    shown = []
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if not fields[0].startswith("cpu") or fields[0] == "cpu":
            continue
        user, nice, system, idle = (int(field) for field in fields[1:5])
        total = max(sum(int(field) for field in fields[1:9]), 1)
        shown.append({
            "CPU": fields[0], "User": 100 * (user + nice) / total,
            "System": 100 * system / total, "Idle": 100 * idle / total,
            "Total": 100 * (total - idle) / total,
        })  # fmt: skip
    return shown


def _disk(path: Path, size: int, used: int, left: int, info: os.statvfs_result) -> dict[str, Any]:
    inodes = max(info.f_files, 1)
    return {
        "Device": "", "Mountpoint": str(path), "Size": size, "Used": used, "Available": left,
        "UsedPercent": 100 * used / max(size, 1),
        "InodesUsedPercent": 100 * (info.f_files - info.f_ffree) / inodes,
    }  # fmt: skip
