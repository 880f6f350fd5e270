"""`serai sim from-nomad` and `from-snapshot` as a user types them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

r = sys.modules["cli_records"]
Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]

NODE = {
    "ID": "n1", "Datacenter": "dc1", "Status": "ready", "SchedulingEligibility": "eligible",
    "NodeResources": {"Cpu": {"CpuShares": 4000}, "Memory": {"MemoryMB": 8192},
                      "Disk": {"DiskMB": 50_000}},
    "Drivers": {"raw_exec": {"Healthy": True}},
}  # fmt: skip
JOB = {
    "ID": "web", "Type": "service", "Status": "running", "Namespace": "shop",
    "TaskGroups": [{"Name": "g", "Count": 2, "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}],
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "GET /v1/regions": ["eu"],
    "GET /v1/nodes": [NODE],
    "GET /v1/jobs": [JOB],
    "GET /v1/job/web": JOB,
    "GET /v1/allocations": [],
}


def test_a_cluster_is_read_and_nothing_else(serai: Serai, api: Start, tmp_path: Path) -> None:
    asked = api(dict(ANSWERS))
    folder = str(tmp_path / "copy")
    result = serai("sim", "from-nomad", "-token", "secret", "-out", folder, asked.address)
    assert result.code == 0, result.err
    assert result.lines[0].split() == ["Region", "Datacenter", "Nodes", "Shapes"]
    assert result.lines[1].split() == ["eu", "dc1", "1", "1"]
    assert f"serai sim run {folder}/scenario.hcl" in result.out
    assert {one.method for one in asked.asked} == {"GET"}
    assert {one.headers["X-Nomad-Token"] for one in asked.asked} == {"secret"}
    assert asked.find("GET", "/v1/jobs").query == {"region": "eu", "namespace": "*"}
    assert asked.find("GET", "/v1/job/web").query["namespace"] == "shop"
    again = serai("sim", "from-nomad", "-out", folder, asked.address)
    assert again.code == 1 and "is not overwritten" in again.err


def test_what_can_not_be_read_names_address_and_remedy(
    serai: Serai, api: Start, tmp_path: Path
) -> None:
    asked = api({**ANSWERS, "GET /v1/nodes": (403, "Permission denied")})
    folder = str(tmp_path / "copy")
    result = serai("sim", "from-nomad", "-out", folder)
    assert result.code == 1
    assert f"{asked.address}: /v1/nodes: Permission denied; -token takes" in result.err
    asked.answers["GET /v1/regions"] = {"not": "a list"}
    assert "is this the address of Nomad's API?" in serai("sim", "from-nomad", "-out", folder).err
    assert not Path(folder).exists()
    result = serai("sim", "from-snapshot", "-out", folder, str(tmp_path / "none.snap"))
    assert result.code == 1 and "none.snap: No such file" in result.err
