"""Lists over several datacenters and `job why`: columns, who is missing, bad input."""

import sys
from collections.abc import Callable
from typing import Any

r = sys.modules["cli_records"]
Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]


def event(text: str, **changes: Any) -> dict[str, Any]:
    return {
        "ID": "1.a", "Kind": "asked", "Region": "eu", "Datacenter": "eu-1", "DatacenterID": "a",
        "Time": "2026-11-23T15:04:05.1234Z", "HybridTime": 17, "ClockOff": 0, "Depth": 0,
        "After": [], "Facts": {}, "Text": text,
    } | changes  # fmt: skip


def test_columns_say_where_each_row_is(serai: Serai, api: Start) -> None:
    jobs = [r.job(Region="us", Datacenter="us-1"), r.job(Region="eu", Datacenter="eu-1")]
    asked = api({"GET /v1/jobs": jobs})
    lines = serai("job", "status", "-region=*").lines
    assert lines[0].startswith("ID   Region  Datacenter  Type")
    assert [line.split()[1:3] for line in lines[1:]] == [["eu", "eu-1"], ["us", "us-1"]]
    assert asked.find("GET", "/v1/jobs").query["region"] == "*"
    asked.answers["GET /v1/jobs"] = jobs[:1]
    lines = serai("job", "status", "-datacenter", "us-1").lines
    assert lines[0].startswith("ID   Datacenter  Type")
    assert asked.find("GET", "/v1/jobs").query["datacenter"] == "us-1"


def test_a_list_without_some_datacenters_names_them(serai: Serai, api: Start) -> None:
    asked = api({"GET /v1/jobs": [r.job()], "GET /v1/deployments": []})
    asked.headers["X-Serai-Missing-Datacenters"] = "eu-2,us/us-1"
    result = serai("job", "status", "-stale")
    assert result.code == 0 and "without: eu-2, us/us-1" in result.err
    assert asked.find("GET", "/v1/jobs").query["stale"] in ("true", "True")
    assert "without: eu-2" in serai("deployment", "list", "-stale").err


def test_a_job_of_all_regions_is_the_one_or_all_are_shown(serai: Serai, api: Start) -> None:
    us = r.job(Region="us", Datacenter="us-1")
    routes = {f"GET /v1/job/web{tail}": {} for tail in ("/summary", "/deployment")}
    lists = {f"GET /v1/job/web{tail}": [] for tail in ("/evaluations", "/allocations")}
    asked = api({"GET /v1/jobs": [us], "GET /v1/job/web": us, **routes, **lists})
    assert serai("job", "status", "-region=*", "web").code == 0
    assert asked.find("GET", "/v1/job/web").query["region"] == "us"
    asked.answers["GET /v1/jobs"] = [us, r.job(Datacenter="eu-1")]
    result = serai("job", "status", "-region=*", "web")
    assert result.code == 1 and "us" in result.err and "eu" in result.err
    assert "leave the job out" in serai("job", "status", "-datacenter=eu-1", "web").err


def test_why_indents_by_cause_and_names_who_could_not_be_asked(serai: Serai, api: Start) -> None:
    missing = {"Region": "us", "Datacenter": "us-1", "DatacenterID": "b", "Error": "unreachable"}
    story = {
        "UID": "u1", "Home": "eu/eu-1", "Status": "running",
        "Events": [event("asked us/us-1"), event("refused: full", Depth=1, ClockOff=-7_200)],
    }  # fmt: skip
    body = {"JobID": "web", "Jobs": [story], "Dropped": 3, "Missing": [missing]}
    api({"GET /v1/job/web/why": body})
    result = serai("job", "why", "web")
    assert result.code == 0
    assert result.lines == [
        "web: home eu/eu-1, running",
        "Time                      Datacenter  What",
        "2026-11-23 15:04:05.123Z  eu/eu-1     asked us/us-1",
        "2026-11-23 15:04:05.123Z  eu/eu-1       refused: full [its clock: 2h behind]",
    ]
    assert "3 older events" in result.err
    assert "us/us-1 could not be asked for its part: unreachable" in result.err
    gone = serai("job", "why", "none")
    assert gone.code == 1 and 'knows of a job "none"' in gone.err
