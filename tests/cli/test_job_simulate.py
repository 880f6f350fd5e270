"""`serai job plan -simulate` as a user types it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]

NODE = {
    "ID": "n1", "Datacenter": "dc1", "Status": "ready", "SchedulingEligibility": "eligible",
    "NodeResources": {"Cpu": {"CpuShares": 4000}, "Memory": {"MemoryMB": 8192},
                      "Disk": {"DiskMB": 50_000}},
    "Drivers": {"raw_exec": {"Healthy": True}},
}  # fmt: skip
FILE = """
job "web" {
  group "g" {
    count = 2
    task "t" {
      driver = "raw_exec"
      config { command = "true" }
    }
  }
}
"""


def test_a_plan_is_tried_on_a_copy_of_the_cluster(serai: Serai, api: Start, tmp_path: Path):
    asked = api(
        {
            "GET /v1/regions": ["eu"],
            "GET /v1/nodes": [NODE],
            "GET /v1/jobs": [],
            "GET /v1/allocations": [],
            "PUT /v1/job/web/plan": {"JobModifyIndex": 0},
        }
    )
    path = tmp_path / "web.nomad.hcl"
    path.write_text(FILE)
    result = serai("job", "plan", "-simulate", str(path))
    assert result.code == 0, result.err
    assert "Simulated on a copy of 1 nodes and 0 jobs" in result.out
    assert "All ran within 1 s of its submission" in result.out
    assert {one.method for one in asked.asked} == {"GET", "PUT"}
    asked.answers["GET /v1/nodes"] = []
    result = serai("job", "plan", "-simulate", str(path))
    assert result.code == 255
    assert "there is not a single node" in result.err
