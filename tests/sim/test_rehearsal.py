"""`serai job plan -simulate`: one job more on a copy of a cluster, and what others lose by it."""

import pytest

from core.jobspec.parse import parse_job
from core.model.job import Job
from sim.live import Inventory, LiveJob, LiveNode
from sim.rehearsal import Rehearsal, rehearse


def job(name: str, count: int, priority: int = 50) -> Job:
    text = f"""
    job "{name}" {{
      priority = {priority}
      group "g" {{
        count = {count}
        task "t" {{
          driver = "raw_exec"
          config {{ command = "true" }}
          resources {{
            cpu    = 1000
            memory = 64
          }}
        }}
      }}
    }}
    """
    return parse_job(text, filename=name).job


def rehearsed(one: Job) -> Rehearsal:
    node = LiveNode(cpu=4000, memory=8192, disk=50_000, drivers=("raw_exec",))
    inventory = Inventory(origin="a test", datacenters={("eu", "paris"): [node, node]})
    inventory.add(LiveJob(name="low", region="eu", job=job("low", 6, 10), running=6), "eu")
    return rehearse(inventory, one, "eu")


def test_a_job_that_has_room_runs_and_takes_nothing():
    found = rehearsed(job("web", 2))
    assert found.holds
    assert (found.nodes, found.jobs, found.wanted, found.running) == (2, 1, 2, 2)
    assert found.whole_after_s is not None and found.whole_after_s < 3
    assert found.by_region == {"eu": 2}
    assert found.checked > 100


@pytest.mark.slow
def test_a_job_without_room_is_told_so():
    found = rehearsed(job("web", 5))
    assert not found.holds
    assert (found.wanted, found.running, found.whole_after_s) == (5, 2, None)
    assert found.others == []
