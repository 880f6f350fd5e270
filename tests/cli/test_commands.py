"""Commands against an API of answers: what they ask, print and exit with."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

r = sys.modules["cli_records"]
Sequence = sys.modules["cli_fake_api"].Sequence  # type: ignore[attr-defined]
Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "web.json"
    path.write_text(json.dumps({"Job": {"ID": "web", "Name": "web", "Region": "eu"}}))
    return str(path)


# --- connection -------------------------------------------------------------------------


def test_a_refused_connection_names_address_and_remedy(serai: Serai) -> None:
    result = serai("job", "status", "-address=http://127.0.0.1:1")
    assert result.code == 1
    assert "http://127.0.0.1:1" in result.err and "serai agent -dev" in result.err
    assert "Traceback" not in result.err and result.err.count("\n") == 1


def test_flags_win_over_serai_variables_and_those_over_nomads(
    serai: Serai, api: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = api({"GET /v1/jobs": []})
    monkeypatch.setenv("NOMAD_REGION", "nomad")
    monkeypatch.setenv("NOMAD_TOKEN", "from-nomad")
    assert serai("job", "status").out == "No running jobs\n"
    asked = started.find("GET", "/v1/jobs")
    assert asked.query["region"] == "nomad" and asked.headers["X-Nomad-Token"] == "from-nomad"
    monkeypatch.setenv("SERAI_REGION", "serai")
    serai("job", "status")
    assert started.find("GET", "/v1/jobs").query["region"] == "serai"
    serai("job", "status", "-region=flag")
    assert started.find("GET", "/v1/jobs").query["region"] == "flag"


def test_an_error_of_the_api_is_one_line_with_its_text(serai: Serai, api: Start) -> None:
    api({"GET /v1/jobs": (403, "Permission denied")})
    result = serai("status")
    assert (result.code, result.err) == (1, "Error: Permission denied\n")


def test_an_answer_that_is_not_json_is_said(serai: Serai, api: Start) -> None:
    api({"GET /v1/jobs": b"<html>"})
    assert "is not JSON" in serai("job", "status").err


def test_a_misspelt_command_and_flag_get_a_hint(serai: Serai) -> None:
    result = serai("job", "stauts")
    assert result.code == 1 and 'Did you mean "status"?' in result.err
    result = serai("job", "status", "-jsn")
    assert result.code == 1 and "-json" in result.err


# --- jobs -------------------------------------------------------------------------------


def test_jobs_are_listed_in_columns(serai: Serai, api: Start) -> None:
    api({"GET /v1/jobs": [r.job(), r.job(ID="api", Status="dead", Stop=True)]})
    lines = serai("status").lines
    assert lines[0] == "ID   Type     Priority  Status          Submit Date"
    assert lines[1].startswith("api  service  50        dead (stopped)  2023-11-1")
    assert lines[2].startswith("web  service  50        running")


def test_json_and_templates_show_the_apis_records(serai: Serai, api: Start) -> None:
    api({"GET /v1/jobs": [r.job()]})
    assert json.loads(serai("job", "status", "-json").out)[0]["ID"] == "web"
    assert serai("job", "status", "-t", "{{range .}}{{.ID}}:{{.Status}}{{end}}").out == (
        "web:running\n"
    )
    result = serai("job", "status", "-t", "{{.ID")
    assert result.code == 1 and "-t: " in result.err


def test_one_job_shows_summary_deployment_and_allocations(serai: Serai, api: Start) -> None:
    summary = {"Summary": {"front": {"Running": 1}}}
    api(
        {
            "GET /v1/jobs": [r.job()],
            "GET /v1/job/web": r.job(),
            "GET /v1/job/web/summary": summary,
            "GET /v1/job/web/evaluations": [r.evaluation()],
            "GET /v1/job/web/deployment": r.deployment(),
            "GET /v1/job/web/allocations": [r.alloc()],
        }
    )
    out = serai("job", "status", "we").out
    assert "ID            = web\n" in out
    assert "Task Group  Queued  Starting  Running  Failed  Complete  Lost  Unknown\n" in out
    assert "front       0       0         1        0       0         0     0\n" in out
    assert "Latest Deployment\nID          = 9fa81f27\nStatus      = successful\n" in out
    assert "8ba85cef  1f3a9c44  front       3        run      running  N/A      N/A\n" in out
    assert "\x1b[" not in out, "no colours in a pipe"
    assert "\x1b[32mrunning\x1b[0m" in serai("job", "status", "-force-color", "web").out


def test_an_ambiguous_prefix_lists_the_candidates(serai: Serai, api: Start) -> None:
    api({"GET /v1/jobs": [r.job(ID="web-1"), r.job(ID="web-2")]})
    result = serai("job", "status", "web")
    assert result.code == 1 and "web-1" in result.err and "web-2" in result.err
    api({"GET /v1/jobs": []})
    assert 'no job with the id or prefix "nope"' in serai("job", "status", "nope").err


def test_run_follows_evaluation_and_deployment(serai: Serai, api: Start, job_file: str) -> None:
    running = r.deployment(Status="running", StatusDescription="Deployment is running")
    started = api(
        {
            "PUT /v1/jobs": {"EvalID": r.EVAL_ID, "Warnings": "", "JobModifyIndex": 7},
            f"GET /v1/evaluation/{r.EVAL_ID}": Sequence(
                r.evaluation(Status="pending"), r.evaluation(DeploymentID=r.DEPLOYMENT_ID)
            ),
            f"GET /v1/evaluation/{r.EVAL_ID}/allocations": Sequence(
                [r.alloc(ClientStatus="pending")], [r.alloc()]
            ),
            f"GET /v1/deployment/{r.DEPLOYMENT_ID}": Sequence(running, r.deployment()),
            f"GET /v1/deployment/allocations/{r.DEPLOYMENT_ID}": [r.alloc()],
        }
    )
    result = serai("run", "-json", job_file)
    assert result.code == 0, result.err
    messages = [line.split(": ", 1)[1] for line in result.lines]
    assert messages == [
        'Monitoring evaluation "5456bd7a"',
        'Evaluation triggered by job "web"',
        'Allocation "8ba85cef" created: node "1f3a9c44", group "front"',
        'Evaluation within deployment: "9fa81f27"',
        'Allocation "8ba85cef" status changed: "pending" -> "running"',
        'Evaluation status changed: "pending" -> "complete"',
        'Evaluation "5456bd7a" finished with status "complete"',
        'Monitoring deployment "9fa81f27"',
        "Deployment is running: Deployment is running",
        'Group "front": 1 desired, 1 placed, 1 healthy, 0 unhealthy',
        "Deployment is successful: Deployment completed successfully",
        'Group "front": 1 desired, 1 placed, 1 healthy, 0 unhealthy',
        'Deployment "9fa81f27" successful',
    ]
    assert started.find("PUT", "/v1/jobs").query["region"] == "eu"
    assert started.find("GET", f"/v1/evaluation/{r.EVAL_ID}").query["index"]


def test_run_exits_2_when_something_cannot_be_placed(
    serai: Serai, api: Start, job_file: str
) -> None:
    failed = r.evaluation(FailedTGAllocs={"front": r.NO_ROOM}, BlockedEval="b10c4ed0-rest")
    api(
        {
            "PUT /v1/jobs": {"EvalID": r.EVAL_ID},
            f"GET /v1/evaluation/{r.EVAL_ID}": failed,
            f"GET /v1/evaluation/{r.EVAL_ID}/allocations": [],
        }
    )
    result = serai("job", "run", "-json", job_file)
    assert result.code == 2
    assert 'Task Group "front" (failed to place 2 allocations):' in result.out
    assert '* Dimension "memory" exhausted on 2 nodes' in result.out
    assert 'Evaluation "b10c4ed0" waiting for additional capacity' in result.out


def test_run_exits_1_when_the_deployment_fails(serai: Serai, api: Start, job_file: str) -> None:
    failed = r.deployment(Status="failed", StatusDescription="Failed due to progress deadline")
    api(
        {
            "PUT /v1/jobs": {"EvalID": r.EVAL_ID},
            f"GET /v1/evaluation/{r.EVAL_ID}": r.evaluation(DeploymentID=r.DEPLOYMENT_ID),
            f"GET /v1/evaluation/{r.EVAL_ID}/allocations": [],
            f"GET /v1/deployment/{r.DEPLOYMENT_ID}": failed,
            f"GET /v1/deployment/allocations/{r.DEPLOYMENT_ID}": [],
        }
    )
    result = serai("job", "run", "-json", job_file)
    assert result.code == 1 and "Failed due to progress deadline" in result.out


def test_run_sends_index_region_and_namespace_and_can_detach(
    serai: Serai, api: Start, job_file: str
) -> None:
    started = api({"PUT /v1/jobs": {"EvalID": r.EVAL_ID, "Warnings": "odd\n"}})
    result = serai(
        "job", "run", "-json", "-detach", "-check-index", "7", "-region=us", job_file,
        "-namespace", "team",
    )  # fmt: skip
    assert (result.code, result.lines[-1]) == (0, f"Evaluation ID: {r.EVAL_ID}")
    assert "Warning: odd" in result.err
    asked = started.find("PUT", "/v1/jobs")
    assert asked.query == {"region": "us", "namespace": "team"}
    assert (asked.body["EnforceIndex"], asked.body["JobModifyIndex"]) == (True, 7)
    assert asked.body["Job"]["Region"] == "us" and asked.body["Job"]["Namespace"] == "team"


def test_output_writes_the_job_and_asks_nobody(serai: Serai, job_file: str) -> None:
    result = serai("job", "run", "-json", "-output", job_file)
    assert json.loads(result.out)["Job"]["ID"] == "web"


@pytest.mark.parametrize("args", [["run"], ["plan"], ["validate"]])
def test_a_missing_file_is_one_clear_line(serai: Serai, args: list[str]) -> None:
    result = serai("job", *args, "/nowhere/web.hcl")
    assert result.code == (255 if args == ["plan"] else 1)
    assert result.err == "Error: cannot read /nowhere/web.hcl: No such file or directory\n"


DIFF = {
    "Type": "Edited", "ID": "web",
    "TaskGroups": [{
        "Type": "Edited", "Name": "front", "Updates": {"create/destroy update": 1},
        "Fields": [{"Type": "Edited", "Name": "Count", "Old": "1", "New": "2",
                    "Annotations": ["forces create"]}],
        "Tasks": [{"Type": "Edited", "Name": "main", "Annotations": ["forces destroy"],
                   "Objects": [{"Type": "Added", "Name": "Config", "Fields": [
                       {"Type": "Added", "Name": "image", "Old": "", "New": "x:2"}]}]}],
    }],
}  # fmt: skip


def test_plan_shows_diff_verdicts_and_hint_and_exits_1(
    serai: Serai, api: Start, job_file: str
) -> None:
    verdicts = [
        {"Region": "eu", "Datacenter": "dc1", "Verdict": "no", "Reason": "memory: 512 < 4096",
         "Score": None, "DigestAgeMS": None},
        {"Region": "us", "Datacenter": "dc1", "Verdict": "yes", "Reason": "", "Score": 0.5,
         "DigestAgeMS": 1200},
    ]  # fmt: skip
    answer = {
        "Diff": DIFF, "JobModifyIndex": 42, "FailedTGAllocs": {"front": r.NO_ROOM},
        "Annotations": {"DesiredTGUpdates": {"front": {"DestructiveUpdate": 1}}},
        "SeraiVerdicts": verdicts,
    }  # fmt: skip
    api({"PUT /v1/job/web/plan": answer})
    result = serai("plan", "-json", job_file)
    assert result.code == 1
    assert result.lines[:7] == [
        '+/- Job: "web"',
        '+/- Task Group: "front" (1 create/destroy update)',
        '  +/- Count: "1" => "2" (forces create)',
        '  +/- Task: "main" (forces destroy)',
        "    + Config {",
        '      + image: "x:2"',
        "    }",
    ]
    assert "    Region  Datacenter  Verdict  Score  Digest Age  Reason" in result.lines
    assert "    us      dc1         yes      0.50   1.2s" in result.lines
    assert "Job Modify Index: 42" in result.lines
    assert result.lines[-1] == f"serai job run -check-index 42 {job_file}"


def test_plan_without_change_exits_0(serai: Serai, api: Start, job_file: str) -> None:
    api(
        {
            "PUT /v1/job/web/plan": {
                "Diff": {"Type": "None", "ID": "web"},
                "Annotations": {"DesiredTGUpdates": {"front": {"Ignore": 1}}},
            }
        }
    )
    result = serai("job", "plan", "-json", job_file)
    assert result.code == 0 and "- All tasks successfully allocated." in result.out


def test_stop_asks_for_the_whole_id_in_a_pipe(
    serai: Serai, api: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = api({"GET /v1/jobs": [r.job()], "DELETE /v1/job/web": {"EvalID": r.EVAL_ID}})
    refused = serai("stop", "-detach", "we")
    assert refused.code == 1 and "-yes" in refused.err
    assert serai("stop", "-detach", "-purge", "-yes", "we").out == f"{r.EVAL_ID}\n"
    assert started.find("DELETE", "/v1/job/web").query["purge"] == "true"


def test_a_job_id_with_a_slash_is_one_part_of_the_path(serai: Serai, api: Start) -> None:
    started = api({"GET /v1/jobs": [r.job(ID="a/b")], "GET /v1/job/a%2Fb": r.job(ID="a/b")})
    assert json.loads(serai("job", "inspect", "a/b").out)["Job"]["ID"] == "a/b"
    assert started.find("GET", "/v1/job/a%2Fb")


def test_scale_finds_the_only_group(serai: Serai, api: Start) -> None:
    started = api(
        {
            "GET /v1/jobs": [r.job()],
            "GET /v1/job/web": r.job(),
            "PUT /v1/job/web/scale": {"EvalID": r.EVAL_ID},
        }
    )
    assert serai("job", "scale", "-detach", "web", "5").code == 0
    body = started.find("PUT", "/v1/job/web/scale").body
    assert (body["Count"], body["Target"]["Group"]) == (5, "front")
    assert "JOB [GROUP] COUNT" in serai("job", "scale", "web", "many").err


def test_history_shows_versions_with_their_diffs(serai: Serai, api: Start) -> None:
    versions = {"Versions": [r.job(), r.job(Version=2, Stable=True)], "Diffs": [DIFF]}
    api({"GET /v1/jobs": [r.job()], "GET /v1/job/web/versions": versions})
    out = serai("job", "history", "-p", "web").out
    assert out.index("Version     = 3") < out.index('+/- Job: "web"') < out.index("Version     = 2")


def test_a_job_is_reverted_by_the_tag_of_a_version(serai: Serai, api: Start) -> None:
    tagged = r.job(Version=2, VersionTag={"Name": "gold", "Description": "first light"})
    started = api(
        {
            "GET /v1/jobs": [r.job()],
            "GET /v1/job/web/versions": {"Versions": [r.job(), tagged]},
            "PUT /v1/job/web/versions/gold/tag": {"Name": "gold"},
            "PUT /v1/job/web/revert": {"EvalID": ""},
        }
    )
    assert serai("job", "tag", "apply", "-name", "gold", "-version", "2", "web").code == 0
    asked = started.find("PUT", "/v1/job/web/versions/gold/tag")
    assert asked.body == {"Description": "", "Version": 2}
    assert "Tag Name        = gold" in serai("job", "history", "web").out
    assert serai("job", "revert", "-detach", "web", "gold").code == 0
    assert started.find("PUT", "/v1/job/web/revert").body["JobVersion"] == 2
    unknown = serai("job", "revert", "web", "silver")
    assert unknown.code == 1 and 'no version with the tag "silver"' in unknown.err


def test_evaluations_are_deleted_by_a_filter_and_what_stays_is_said(
    serai: Serai, api: Start
) -> None:
    started = api(
        {
            "GET /v1/evaluations/count": {"Count": 3},
            "DELETE /v1/evaluations": {"Count": 2},
        }
    )
    out = serai("eval", "delete", "-yes", "-filter", 'Status == "complete"').out
    assert "Deleted 2 evaluation(s)" in out and "1 stay" in out
    assert started.find("DELETE", "/v1/evaluations").query["filter"] == 'Status == "complete"'
    assert serai("eval", "delete", "-filter", "x").code == 1  # nobody to ask, no -yes
    assert serai("eval", "delete").code == 1


# --- allocations, nodes, evaluations ----------------------------------------------------


def test_alloc_status_by_prefix_shows_tasks_and_events(serai: Serai, api: Start) -> None:
    started = api(
        {
            "GET /v1/allocations": [r.alloc()],
            f"GET /v1/allocation/{r.ALLOC_ID}": r.alloc(),
            f"GET /v1/client/allocation/{r.ALLOC_ID}/stats": (500, "no"),
        }
    )
    out = serai("alloc-status", "8ba85ce").out
    assert started.find("GET", "/v1/allocations").query["prefix"] == "8ba85c"
    assert "Client Status       = running\n" in out
    assert 'Task "main" is "running"' in out
    assert out.index("Started  ") < out.index("Received  "), "newest first"
    assert "Finished At    = N/A" in out


def test_an_ambiguous_alloc_prefix_lists_both(serai: Serai, api: Start) -> None:
    other = r.alloc(ID="8ba85cef-ffff-4b1e-a7d1-0d12345678ab")
    api({"GET /v1/allocations": [r.alloc(), other]})
    result = serai("alloc", "status", "8ba8")
    assert result.code == 1 and r.ALLOC_ID in result.err and other["ID"] in result.err


LOG = b"".join(b"line %d\n" % number for number in range(1, 31))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], LOG),
        (["-tail"], b"".join(b"line %d\n" % n for n in range(21, 31))),
        (["-n", "2"], b"line 29\nline 30\n"),
        (["-tail", "-f", "-n", "1"], b"line 30\n"),
        (["-c", "3"], b"30\n"),
    ],
)
def test_logs_by_lines_and_bytes(
    serai: Serai, api: Start, flags: list[str], expected: bytes
) -> None:
    def answer(asked: Any) -> bytes:
        if asked.query["origin"] == "start":
            return LOG
        return LOG[-int(asked.query["offset"]) :]

    started = api(
        {
            f"GET /v1/allocation/{r.ALLOC_ID}": r.alloc(),
            f"GET /v1/client/fs/logs/{r.ALLOC_ID}": answer,
        }
    )
    result = serai("logs", "-stderr", *flags, r.ALLOC_ID)
    assert (result.code, result.out.encode()) == (0, expected)
    query = started.find("GET", f"/v1/client/fs/logs/{r.ALLOC_ID}").query
    assert (query["task"], query["type"], query["plain"]) == ("main", "stderr", "true")


def test_logs_of_an_unknown_task_name_the_known_ones(serai: Serai, api: Start) -> None:
    api({f"GET /v1/allocation/{r.ALLOC_ID}": r.alloc()})
    assert "it has: main" in serai("alloc", "logs", r.ALLOC_ID, "side").err


def test_nodes_in_columns_and_one_node(serai: Serai, api: Start) -> None:
    granted = {"Tasks": {"main": {"Cpu": {"CpuShares": 500}, "Memory": {"MemoryMB": 256}}}}
    api(
        {
            "GET /v1/nodes": [r.node()],
            f"GET /v1/node/{r.NODE_ID}": r.node(),
            f"GET /v1/node/{r.NODE_ID}/allocations": [r.alloc(AllocatedResources=granted)],
            "GET /v1/client/stats": (500, "no"),
        }
    )
    lines = serai("node", "status").lines
    assert lines[0].split("  ")[:1] == ["ID"]
    assert lines[1] == ("1f3a9c44  default    dc1  eu-client-1  <none>  false  eligible     ready")
    out = serai("node", "status", "1f3a").out
    assert "500/2000 MHz  256 MiB/2.0 GiB  0 MiB/10.0 GiB" in out
    assert "Driver Status = raw_exec" in out


def test_drain_asks_with_its_deadline(serai: Serai, api: Start) -> None:
    path = f"/v1/node/{r.NODE_ID}/drain"
    started = api({f"PUT {path}": {}})
    assert serai("node", "drain", "-enable", "-detach", "-deadline=90s", r.NODE_ID).code == 0
    assert started.find("PUT", path).body["DrainSpec"]["Deadline"] == 90_000_000_000
    assert serai("node", "drain", "-disable", r.NODE_ID).code == 0
    body = started.find("PUT", path).body
    assert (body["DrainSpec"], body["MarkEligible"]) == (None, True)
    assert "one of -enable" in serai("node", "drain", r.NODE_ID).err
    assert "is not a duration" in serai("node", "drain", "-enable", "-deadline=9", r.NODE_ID).err


def test_eval_status_shows_why_nothing_was_placed(serai: Serai, api: Start) -> None:
    api(
        {
            f"GET /v1/evaluation/{r.EVAL_ID}": r.evaluation(FailedTGAllocs={"front": r.NO_ROOM}),
            f"GET /v1/evaluation/{r.EVAL_ID}/allocations": [],
        }
    )
    out = serai("eval", "status", r.EVAL_ID).out
    assert "Placement Failures = true" in out and "Resources exhausted on 2 nodes" in out


# --- servers and operators --------------------------------------------------------------


def member(name: str, region: str, port: str) -> dict[str, Any]:
    tags = {"region": region, "dc": "dc1", "port": port, "build": "0.1.0"}
    return {"Name": name, "Addr": "127.0.0.1", "Port": 4648, "Status": "alive", "Tags": tags}


def test_server_members_mark_each_regions_leader(serai: Serai, api: Start) -> None:
    members = {"Members": [member("a.eu", "eu", "4647"), member("b.us", "us", "5647")]}

    def leader(asked: Any) -> Any:
        if asked.query["region"] == "us":
            return (500, "No cluster leader")
        return b'"127.0.0.1:4647"'

    api({"GET /v1/agent/members": members, "GET /v1/status/leader": leader})
    result = serai("server", "members")
    assert result.lines[1].split()[:5] == ["a.eu", "127.0.0.1", "4648", "alive", "true"]
    assert result.lines[2].split()[4] == "false"
    assert "No cluster leader" in result.err


def test_operator_api_passes_requests_on(serai: Serai, api: Start) -> None:
    started = api({"GET /v1/jobs": [], "PUT /v1/system/gc": b"", "GET /v1/x": (418, "teapot")})
    assert serai("operator", "api", "/v1/jobs?prefix=a").out == "[]"
    assert started.find("GET", "/v1/jobs").query == {"prefix": "a"}
    serai("operator", "api", "-X", "PUT", "/v1/system/gc", '{"a": 1}')
    assert started.find("PUT", "/v1/system/gc").body == {"a": 1}
    assert serai("operator", "api", "/v1/x").code == 1
    dry = serai("operator", "api", "-dryrun", "-region=us", "/v1/jobs").out
    assert dry == f"curl -X GET '{started.address}/v1/jobs?region=us'\n"


def test_search_finds_whatever_an_id_names(serai: Serai, api: Start) -> None:
    api(
        {
            "POST /v1/search": {"Matches": {"evals": [r.EVAL_ID], "jobs": [], "allocs": None}},
            f"GET /v1/evaluation/{r.EVAL_ID}": r.evaluation(),
            f"GET /v1/evaluation/{r.EVAL_ID}/allocations": [],
        }
    )
    assert "TriggeredBy        = job-register" in serai("status", "5456").out


def test_acl_bootstrap_shows_the_token(serai: Serai, api: Start) -> None:
    token = {"AccessorID": "a1", "SecretID": "s1", "Type": "management", "Global": True}
    api({"PUT /v1/acl/bootstrap": token})
    assert "Secret ID   = s1\n" in serai("acl", "bootstrap").out


def test_a_gossip_key_has_32_bytes(serai: Serai) -> None:
    import base64

    key = serai("operator", "gossip", "keyring", "generate").out
    assert len(base64.b64decode(key)) == 32
