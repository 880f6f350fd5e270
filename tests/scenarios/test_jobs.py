"""From a job file to a process in this region or another, and back to nothing."""

import json
import sys

import httpx
import pytest
from scenario_federation import EU_MIB, Done, Federation, a_job
from scenario_processes import until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation")]

TALK = "echo spoken $NOMAD_ALLOC_INDEX in $NOMAD_REGION; echo wept >&2; exec sleep 600"
SPILL = 'federation {\n spillover {\n regions = ["us"]\n }\n }'


def test_a_job_runs_talks_and_stops(federation: Federation) -> None:
    done = federation.run(a_job("talk", command=("/bin/sh", "-c", TALK)))
    assert done.code == 0, done.error
    (environment,) = federation.until_processes("talk").values()
    assert environment["NOMAD_REGION"] == "eu"
    assert environment["NOMAD_DC"] == "dc1"
    assert environment["NOMAD_GROUP_NAME"] == "main"
    assert environment["NOMAD_TASK_NAME"] == "task"
    assert environment["NOMAD_ALLOC_INDEX"] == "0"
    alloc_id = environment["NOMAD_ALLOC_ID"]

    # Asked at an agent of the other region, which passes it on.
    far = "us-dc1-server-1"
    logs = federation.serai("alloc", "logs", "-region", "eu", alloc_id, at=far)
    assert (logs.code, logs.out) == (0, "spoken 0 in eu\n"), logs.error
    logs = federation.serai("alloc", "logs", "-region", "eu", "-stderr", alloc_id[:8], at=far)
    assert (logs.code, logs.out) == (0, "wept\n"), logs.error

    stopped = federation.serai("job", "stop", "talk")
    assert stopped.code == 0, stopped.error
    federation.until_gone("talk")
    assert "dead" in federation.serai("job", "status", "talk").out
    assert federation.serai("job", "stop", "-purge", "-detach", "talk").code == 0
    assert federation.serai("job", "status", "talk").code == 1


def test_the_region_of_a_command_line(federation: Federation) -> None:
    done = federation.run(a_job("far"), "-region", "us")
    assert done.code == 0, done.error
    (environment,) = federation.until_processes("far").values()
    assert environment["NOMAD_REGION"] == "us"
    assert federation.serai("job", "stop", "-purge", "-region", "us", "far").code == 0
    federation.until_gone("far")


def test_any_region_is_one_with_room(federation: Federation) -> None:
    big = a_job("any", memory_mib=2 * EU_MIB, extra='region = "*"')
    done = federation.run(big)
    assert done.code == 0, done.error
    (environment,) = federation.until_processes("any").values()
    assert environment["NOMAD_REGION"] == "us"
    federation.stop_job("any")


def test_too_big_is_refused_with_every_datacenter_s_reason(federation: Federation) -> None:
    done = federation.run(a_job("big", memory_mib=2 * EU_MIB, extra='region = "eu"'))
    assert done.code == 1
    assert f"eu/dc1: group 'main' asks {2 * EU_MIB} MiB of memory" in done.error
    assert "us/dc1: there" in done.error and "room" in done.error  # is, or may be
    assert federation.serai("job", "status", "big").code == 1


def test_spillover_runs_where_there_is_room(federation: Federation) -> None:
    big = a_job("spills", memory_mib=2 * EU_MIB, extra=SPILL)
    plan = federation.serai("job", "plan", "-", text=big)
    assert plan.code == 1, plan.error  # Nomad's: 1 when something would be created
    assert verdicts_of(plan) == ["eu too", "us fits"]
    done = federation.run(big)
    assert done.code == 0, done.error
    (environment,) = federation.until_processes("spills").values()
    assert environment["NOMAD_REGION"] == "us"
    status = federation.serai("job", "status", "spills", at="eu-dc1-server-2")
    assert status.code == 0 and "running" in status.out, status.error
    (before,) = federation.get("jobs", at="us-dc1-server-1", prefix="spills")
    for number in (1, 2, 3):  # leader or not: the job's home is elsewhere by now
        plan = federation.serai("job", "plan", "-", text=big, at=f"eu-dc1-server-{number}")
        eu, us = verdicts_of(plan)  # us holds it already: whether another one fits is no matter
        assert (plan.code, eu, us[:2]) == (0, "eu too", "us"), plan.out
    again = federation.run(big)
    assert again.code == 0, again.error
    (job,) = federation.get("jobs", at="us-dc1-server-1", prefix="spills")
    assert (job["JobModifyIndex"], job["Version"]) == (before["JobModifyIndex"], 0)

    # Asked anywhere: where it is, what it said, and how it came there.
    rows = federation.get("jobs", region="*", prefix="spills")
    assert [(row["Region"], row["Datacenter"]) for row in rows] == [("us", "dc1")]
    logs = federation.serai("alloc", "logs", environment["NOMAD_ALLOC_ID"][:8])
    assert logs.code == 0, logs.error
    why = federation.serai("job", "why", "spills", at="us-dc1-server-2")
    assert why.code == 0 and why.out.startswith("spills: home us/dc1, running"), why.error
    told = ("submitted here", "  asked us/dc1: fits", "by its digest of", "registered version 0",
            "passed on to us/dc1", "registered, unchanged")  # fmt: skip
    assert [text for text in told if text not in why.out] == [], why.out
    federation.stop_job("spills")


def verdicts_of(plan: Done) -> list[str]:
    """Return region and first word of the verdict of each datacenter that a plan lists."""
    rows = [line.split() for line in plan.out.splitlines() if " dc1 " in line]
    return [f"{row[0]} {row[2]}" for row in rows]


def test_a_service_is_listed_where_it_answers(federation: Federation) -> None:
    """The catalogue's address and port lead to the process itself."""
    group = """
    network {
      port "web" {}
    }
    service {
      name     = "pages"
      provider = "nomad"
      port     = "web"
      tags     = ["a", "b"]
      check {
        type     = "http"
        path     = "/"
        interval = "1s"
        timeout  = "1s"
      }
    }
    """
    serve = "exec {} -m http.server --bind $NOMAD_IP_web $NOMAD_PORT_web"
    command = ("/bin/sh", "-c", serve.format(sys.executable))
    done = federation.run(a_job("pages", group=group, command=command))
    assert done.code == 0, done.error
    listed = federation.get("services")
    assert [one["ServiceName"] for space in listed for one in space["Services"]] == ["pages"]
    (found,) = until(lambda: federation.get("service/pages"), "the service's address")
    assert found["Tags"] == ["a", "b"] and found["JobID"] == "pages"
    page = httpx.get(f"http://{found['Address']}:{found['Port']}/", timeout=5)
    assert page.status_code == 200 and "<title>" in page.text

    checks = federation.get(f"client/allocation/{found['AllocID']}/checks", at="us-dc1-server-1",
                            region="eu")  # fmt: skip
    assert [check["Status"] for check in checks.values()] == ["success"], json.dumps(checks)
    federation.stop_job("pages")
    until(lambda: federation.get("services") == [], "the service is taken off the list")
