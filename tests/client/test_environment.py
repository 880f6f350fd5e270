"""What a task sees: NOMAD_*, and `${...}` in its config, environment and services."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.client.config import ClientConfig, Fingerprint
from core.client.environment import TaskScope, node_values
from core.client.interpolation import interpolate, interpolate_all
from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
    PortMapping,
)
from core.model.job import Job, NetworkResource, Task, TaskGroup
from core.model.timestamp import rfc3339

CONFIG = ClientConfig(
    name="node-7",
    region="eu",
    datacenter="dc1",
    node_class="fast",
    meta={"rack": "r1"},
    alloc_dir="/a",
    fingerprint=Fingerprint(attributes={"cpu.arch": "amd64"}),
    device_variables={"nvidia/gpu/t4": "NVIDIA_VISIBLE_DEVICES"},
)


def scope(task: Task | None = None, *, mode: str = "host", job: Job | None = None) -> TaskScope:
    group = TaskGroup(name="g", networks=[NetworkResource(mode=mode)], meta={"b": "group"})
    task = task or Task(name="web", driver="raw_exec")
    granted = AllocatedTask(
        cpu=AllocatedCpu(cpu_shares=500, reserved_cores=[1, 3]),
        memory=AllocatedMemory(memory_mb=256, memory_max_mb=512),
        devices=[
            {"Vendor": "nvidia", "Type": "gpu", "Name": "t4", "DeviceIDs": ["a", "b"]},
            {"Vendor": "gone", "Type": "gpu", "Name": "x", "DeviceIDs": ["z"]},
        ],
    )
    ports = [
        PortMapping(label="http", value=21000, to=8080, host_ip="10.0.0.1"),
        PortMapping(label="my-db", value=21001, to=-1, host_ip="::1"),
    ]
    alloc = Allocation(
        id="12345678-aaaa-bbbb-cccc-dddddddddddd", namespace="ns", eval_id="", name="j.g[4]",
        node_id="", node_name="", job_id="j", task_group="g", index=4,
        job=job or Job(id="j", name="Jay", meta={"a": "job", "b": "job"}),
        allocated_resources=AllocatedResources(
            tasks={"web": granted}, shared=AllocatedShared(ports=ports)
        ),
    )  # fmt: skip
    return TaskScope(CONFIG, node_values(CONFIG, "node-id"), alloc, group, task)


def test_a_task_knows_who_it_is() -> None:
    env = scope().env
    expected = {
        "NOMAD_ALLOC_ID": "12345678-aaaa-bbbb-cccc-dddddddddddd",
        "NOMAD_SHORT_ALLOC_ID": "12345678",
        "NOMAD_ALLOC_NAME": "j.g[4]",
        "NOMAD_ALLOC_INDEX": "4",
        "NOMAD_TASK_NAME": "web",
        "NOMAD_GROUP_NAME": "g",
        "NOMAD_JOB_ID": "j",
        "NOMAD_JOB_NAME": "Jay",
        "NOMAD_DC": "dc1",
        "NOMAD_REGION": "eu",
        "NOMAD_NAMESPACE": "ns",
        "NOMAD_ALLOC_DIR": "/a/12345678-aaaa-bbbb-cccc-dddddddddddd/alloc",
        "NOMAD_TASK_DIR": "/a/12345678-aaaa-bbbb-cccc-dddddddddddd/web/local",
        "NOMAD_SECRETS_DIR": "/a/12345678-aaaa-bbbb-cccc-dddddddddddd/web/secrets",
        "NOMAD_CPU_LIMIT": "500",
        "NOMAD_CPU_CORES": "1,3",
        "NOMAD_MEMORY_LIMIT": "256",
        "NOMAD_MEMORY_MAX_LIMIT": "512",
    }
    assert {name: env[name] for name in expected} == expected
    assert "NOMAD_JOB_PARENT_ID" not in env


@pytest.mark.parametrize(("mode", "port"), [("host", "21000"), ("bridge", "8080")])
def test_ports_inside_and_outside(mode: str, port: str) -> None:
    env = scope(mode=mode).env
    assert env["NOMAD_PORT_http"] == env["NOMAD_ALLOC_PORT_http"] == port
    assert env["NOMAD_ADDR_http"] == f"10.0.0.1:{port}"
    assert env["NOMAD_HOST_ADDR_http"] == "10.0.0.1:21000"
    assert env["NOMAD_ADDR_my_db"] == env["NOMAD_ADDR_my-db"] == "[::1]:21001"


def test_meta_is_inherited_and_given_in_both_cases() -> None:
    env = scope(Task(name="web", meta={"c-d": "task ${NOMAD_ALLOC_INDEX}"})).env
    assert (env["NOMAD_META_a"], env["NOMAD_META_A"], env["NOMAD_META_b"]) == (
        "job",
        "job",
        "group",
    )
    assert env["NOMAD_META_c_d"] == env["NOMAD_META_C_D"] == "task 4"


def test_env_is_interpolated_with_everything_before_it() -> None:
    env = scope(
        Task(
            name="web",
            env={"URL": "http://${NOMAD_ADDR_http}/${NOMAD_META_a}", "N": "${meta.rack}"},
        )
    ).env
    assert env["URL"] == "http://10.0.0.1:21000/job"
    assert env["N"] == "r1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${node.unique.id} ${node.unique.name}", "node-id node-7"),
        ("${node.class}/${node.datacenter}/${node.region}/${node.pool}", "fast/dc1/eu/default"),
        ("${attr.cpu.arch}", "amd64"),
        ("${ NOMAD_PORT_http }", "21000"),
        ('${env["GREETING"]}', "hello"),
        ("${GREETING}", "hello"),
        ("${HOME} ${attr.unknown}", "${HOME} ${attr.unknown}"),
        ("$HOME {x} $${", "$HOME {x} $${"),
        ("", ""),
    ],
)
def test_interpolation(text: str, expected: str) -> None:
    values = scope(Task(name="web", env={"GREETING": "hello"})).values
    assert interpolate(text, values) == expected


def test_a_whole_config_is_interpolated_and_left_as_it_was() -> None:
    config: dict[str, Any] = {"args": ["-p", "${P}"], "n": 3, "on": True, "sub": [{"${P}": "${P}"}]}
    before = repr(config)
    assert interpolate_all(config, {"P": "80"}) == {
        "args": ["-p", "80"], "n": 3, "on": True, "sub": [{"80": "80"}],
    }  # fmt: skip
    assert repr(config) == before


@given(st.integers(0, 4_102_444_800_000_000))
def test_timestamps_agree_with_the_calendar(us: int) -> None:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=us)
    text = moment.isoformat()
    if "." in text:
        text = text.rstrip("0")
    assert rfc3339(us) == text + "Z"


def test_a_task_is_told_which_devices_it_got() -> None:
    assert scope().env["NVIDIA_VISIBLE_DEVICES"] == "a,b"
