"""A machine described by its files becomes Nomad's attributes and resources."""

import os

import pytest

from core.agent.fingerprint import MIB, Overrides, Reader, measure, this_machine

FILES = {
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n',
    "/proc/cpuinfo": "processor : 0\nmodel name\t: Fast CPU @ 2.50GHz\ncpu MHz\t\t: 2494.143\n",
    "/proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
}


def reader(files: dict[str, str] | None = None) -> Reader:
    known = FILES if files is None else files
    return Reader(
        text=lambda path: known.get(path, ""),
        uname=lambda: ("Linux", "box", "6.1.0", "x86_64"),
        cores=lambda: [0, 1, 2, 3],
        disk=lambda: ("/data", 500 * MIB, 200 * MIB),
        route_ip=lambda: "10.0.0.7",
        interface_ip=lambda name: {"eth1": "10.1.0.7"}.get(name, ""),
    )


def test_a_machine_is_told_in_nomads_attribute_names() -> None:
    found = measure(Overrides(is_raw_exec_enabled=True), reader())
    assert found.attributes | {"serai.version": "x"} == {
        "kernel.name": "linux",
        "kernel.version": "6.1.0",
        "kernel.arch": "x86_64",
        "arch": "amd64",
        "os.name": "debian",
        "os.version": "12",
        "cpu.arch": "amd64",
        "cpu.modelname": "Fast CPU @ 2.50GHz",
        "cpu.numcores": "4",
        "cpu.frequency": "2494",
        "cpu.totalcompute": "9976",
        "cpu.reservablecores": "4",
        "memory.totalbytes": str(8 << 30),
        "unique.hostname": "box",
        "unique.network.ip-address": "10.0.0.7",
        "unique.storage.volume": "/data",
        "unique.storage.bytestotal": str(500 * MIB),
        "unique.storage.bytesfree": str(200 * MIB),
        "nomad.version": "1.11.0",
        "nomad.service_discovery": "true",
        "serai.version": "x",
        "driver.raw_exec": "1",
    }
    assert found.resources.cpu.cpu_shares == 9976
    assert found.resources.memory.memory_mb == 8192
    assert found.resources.disk.disk_mb == 200
    assert found.drivers["raw_exec"].healthy


def test_raw_exec_is_off_until_enabled() -> None:
    found = measure(Overrides(), reader())
    assert found.drivers == {}
    assert "driver.raw_exec" not in found.attributes


def test_settings_win_over_measurements() -> None:
    overrides = Overrides(
        cpu_total_mhz=4000, memory_total_mb=1000, disk_total_mb=77, host_ip="127.0.0.1"
    )
    found = measure(overrides, reader())
    assert found.resources.cpu.cpu_shares == 4000
    assert found.attributes["cpu.totalcompute"] == "4000"
    assert found.resources.memory.memory_mb == 1000
    assert found.resources.disk.disk_mb == 77
    assert found.attributes["unique.network.ip-address"] == "127.0.0.1"


@pytest.mark.parametrize(("name", "ip"), [("eth1", "10.1.0.7"), ("gone0", "10.0.0.7")])
def test_an_interface_can_be_named(name: str, ip: str) -> None:
    found = measure(Overrides(network_interface=name), reader())
    assert found.attributes["unique.network.ip-address"] == ip


@pytest.mark.parametrize(
    ("limit", "megabytes"), [("1073741824", 1024), ("max", 8192), (str(1 << 62), 8192)]
)
def test_a_control_group_limits_the_memory(limit: str, megabytes: int) -> None:
    files = {**FILES, "/sys/fs/cgroup/memory.max": limit + "\n"}
    assert measure(Overrides(), reader(files)).resources.memory.memory_mb == megabytes


def test_the_nominal_frequency_wins_over_the_momentary() -> None:
    path = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    found = measure(Overrides(), reader({**FILES, path: "3000000\n"}))
    assert found.attributes["cpu.frequency"] == "3000"


def test_a_machine_that_tells_nothing_is_not_an_error() -> None:
    found = measure(Overrides(), reader({}))
    assert found.resources.memory.memory_mb == 0
    assert found.attributes["cpu.frequency"] == "1000"
    assert "os.name" not in found.attributes


def test_this_machine_can_be_read(tmp_path: object) -> None:
    found = measure(Overrides(), this_machine(str(tmp_path)))
    assert found.attributes["kernel.name"] == "linux"
    assert int(found.attributes["cpu.numcores"]) == len(os.sched_getaffinity(0))
    assert found.resources.memory.memory_mb > 0
    assert found.resources.disk.disk_mb > 0
    assert found.attributes["unique.network.ip-address"].count(".") == 3
