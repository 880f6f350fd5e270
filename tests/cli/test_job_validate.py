"""`job validate` over files and folders; `job inspect -hcl`; what `job run -output` writes."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

r = sys.modules["cli_records"]
Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]

RUNS = """\
job "a" {
  group "g" {
    task "t" {
      driver = "raw_exec"
      config {
        command = "true"
      }
    }
  }
}
"""
WITHOUT = RUNS.replace('job "a"', 'job "b"').replace(
    "  group", '  vault {\n    role = "x"\n  }\n  group'
)
REFUSED = RUNS.replace("driver", "drivr")
WITH_VARIABLE = 'variable "image" {\n  type = string\n}\n' + RUNS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "a.nomad": RUNS,
        "b.hcl": WITHOUT,
        "deep/er/c.nomad.hcl": REFUSED,
        "agent.hcl": "server {\n  enabled = true\n}\n",
        "package.json": '{"name": "x"}',
        "d.json": json.dumps({"Job": {"ID": "d", "TaskGroups": []}}),
        "notes.txt": "job",
        "binary.hcl": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "binary.hcl").write_bytes(b"\xff\x00job")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERAI_ADDR", "http://127.0.0.1:1")
    return tmp_path


def test_a_folder_is_judged_file_by_file_and_in_sum(serai: Serai, folder: Path) -> None:
    result = serai("job", "validate", ".")
    assert result.code == 1 and "Traceback" not in result.err
    verdicts = dict(line.split(None, 1) for line in result.lines[:5])
    assert verdicts["a.nomad"] == "runs"
    assert verdicts["b.hcl"] == "runs without vault (line 2)"
    assert verdicts["binary.hcl"].startswith("refused: ") and "UTF-8" in verdicts["binary.hcl"]
    assert verdicts["d.json"] == "refused: Missing job task groups"
    assert verdicts["deep/er/c.nomad.hcl"].startswith("refused: 4:7: there is no attribute")
    assert result.lines[-1] == (
        "5 job files: 1 run, 1 run without something, 3 refused; without a job: 2 more"
    )
    assert result.err == "", "no agent was asked"
    result = serai("job", "validate", "a.nomad", "b.hcl")
    assert result.code == 0 and result.err == "No agent answered; checked without one.\n"


def test_a_nested_reason_is_told_in_one_line(serai: Serai, folder: Path) -> None:
    (folder / "n.nomad").write_text(RUNS.replace('"true"', '""').replace('"t"', '"a/b"'))
    (line,) = serai("job", "validate", "-json", "-offline", "n.nomad").out.split('"Errors"')[1:]
    assert "Task group g validation failed: Task a/b validation failed: Task name" in line
    assert "occurred" not in line and "\\n" not in line


def test_the_verdicts_as_json(serai: Serai, folder: Path) -> None:
    result = serai("job", "validate", "-json", "-offline", "a.nomad", "b.hcl")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["Sum"] == {
        "Files": 2, "Runs": 1, "RunsWithout": 1, "Refused": 0, "NoJob": 0,
    }  # fmt: skip
    assert report["Files"][1]["Without"] == [{"Feature": "vault", "Lines": [2]}]
    assert serai("job", "validate", "-json", "-offline", ".").code == 1


def test_one_file_is_told_with_carets(serai: Serai, folder: Path) -> None:
    result = serai("job", "validate", "-offline", "b.hcl")
    assert result.code == 0 and result.lines[-1] == "Job validation successful"
    assert "b.hcl:2:3: warning: vault" in result.err and "^^^" in result.err
    result = serai("job", "validate", "-offline", "deep/er/c.nomad.hcl")
    assert result.code == 1 and "successful" not in result.out
    assert "c.nomad.hcl:4:7" in result.err and 'did you mean "driver"' in result.err


def test_json_of_the_api_is_asked_for_what_is_missing_too(serai: Serai, folder: Path) -> None:
    made = serai("job", "run", "-output", "b.hcl")
    assert json.loads(made.out)["Job"]["ID"] == "b"
    (folder / "b.json").write_text(made.out)
    result = serai("job", "validate", "-offline", "b.json")
    assert result.code == 0 and result.lines[0] == "b.json  runs without vault"


def test_variables_reach_the_files_that_have_them(
    serai: Serai, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "v").mkdir()
    (folder / "v" / "plain.nomad").write_text(RUNS)
    (folder / "v" / "with.nomad").write_text(WITH_VARIABLE)
    result = serai("job", "validate", "-offline", "v")
    assert result.code == 1 and "image" in result.out
    assert serai("job", "validate", "-offline", "-var", "image=x", "v").code == 0
    one = ("job", "validate", "-offline", "-var", "image=x", "a.nomad")
    assert "no such variable" in serai(*one).err
    assert serai(*one, "-hcl2-strict=false").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RUNS.encode())))
    assert serai("job", "validate", "-offline", "-").lines[0] == "<stdin>  runs"


def test_an_agent_that_answers_has_its_say(serai: Serai, folder: Path, api: Start) -> None:
    (folder / "far.nomad").write_text(RUNS.replace('job "a" {', 'job "a" {\n  region = "far"'))
    started = api({"PUT /v1/validate/job": {"ValidationErrors": ["not here"], "Warnings": "hm"}})
    result = serai("job", "validate", "far.nomad")
    assert result.code == 1 and result.lines == ["far.nomad  refused: not here"]
    assert "region" not in started.find("PUT", "/v1/validate/job").query
    api({"PUT /v1/validate/job": (403, "Permission denied")})
    assert "Permission denied" in serai("job", "validate", "far.nomad").err


def test_no_file_is_too_odd(serai: Serai, folder: Path) -> None:
    (folder / "odd").mkdir()
    for number, text in enumerate(
        ["", "{", '{"Job": 1}', '{"Job": {"ID": 5}}', "job", "[" * 10**6]
    ):
        (folder / "odd" / f"{number}.nomad").write_text(text)
    (folder / "odd" / "big.nomad").write_text("#" * 10_000_000)
    result = serai("job", "validate", "-offline", "odd")
    assert result.code == 1 and result.lines[-1].startswith("7 job files: 0 run")
    assert result.lines[-1].endswith("7 refused") and result.err == ""
    assert "cannot read" in serai("job", "validate", "-offline", "none.nomad").err


def test_flags_for_vault_and_consul_are_taken_with_a_warning(serai: Serai, folder: Path) -> None:
    result = serai("job", "validate", "-offline", "-vault-token=x", "a.nomad")
    assert result.code == 0 and "-vault-token has no effect" in result.err
    assert "has no effect" not in serai("job", "validate", "-offline", "a.nomad").err


# --- inspect ----------------------------------------------------------------------------


def _job() -> dict[str, Any]:
    import msgspec

    from core.jobspec import canonicalize, parse_job

    job = canonicalize(parse_job(WITHOUT, filename="f").job, region="eu")
    found = msgspec.to_builtins(job)
    return {**found, "Version": 2, "Status": "running", "CreateIndex": 9}


def test_inspect_writes_a_job_file(serai: Serai, api: Start, folder: Path) -> None:
    api({"GET /v1/job/b": _job()})
    result = serai("job", "inspect", "-hcl", "b")
    assert result.code == 0 and result.out.startswith('job "b" {\n')
    assert "restart {" not in result.out and '= "x"' in result.out
    (folder / "again.nomad").write_text(result.out)
    assert serai("fmt", "-check", "again.nomad").code == 0
    assert serai("job", "validate", "-offline", "again.nomad").code == 0
    assert "exclude each other" in serai("job", "inspect", "-hcl", "-json", "b").err


def test_inspect_shows_the_submitted_source(serai: Serai, api: Start) -> None:
    source = {"Source": RUNS, "VariableFlags": {"x": "1"}, "Variables": "y = 2\n"}
    started = api({"GET /v1/job/b": _job(), "GET /v1/job/b/submission": source})
    result = serai("job", "inspect", "-hcl", "-with-vars", "b")
    assert result.lines[:3] == ["# -var x=1", "# -var-file: y = 2", 'job "a" {']
    assert started.find("GET", "/v1/job/b/submission").query["version"] == "2"
    assert "belongs to -hcl" in serai("job", "inspect", "-with-vars", "b").err


# --- init -------------------------------------------------------------------------------


def test_init_writes_the_template_asked_for(serai: Serai, folder: Path) -> None:
    assert serai("job", "init", "-template", "batch", "new.hcl").code == 0
    assert 'type = "batch"' in (folder / "new.hcl").read_text()
    assert serai("job", "init", "-connect", "mesh.hcl").code == 0
    assert "sidecar_service" in (folder / "mesh.hcl").read_text()
    assert "system" in serai("job", "init", "-list-templates").out
    assert "there are batch" in serai("job", "init", "-template", "x", "y.hcl").err
    assert "exclude each other" in serai("job", "init", "-short", "-connect").err
    assert "was left as it is" in serai("job", "init", "new.hcl").err


def test_a_job_file_may_stand_behind_a_url(serai: Serai, api: Start) -> None:
    started = api({"GET /web.hcl": RUNS.encode()})
    made = serai("job", "run", "-output", f"{started.address}/web.hcl")
    assert made.code == 0 and json.loads(made.out)["Job"]["ID"] == "a"
    missing = serai("job", "run", "-output", f"{started.address}/none.hcl")
    assert missing.code == 1 and "404" in missing.err and "Traceback" not in missing.err
    refused = serai("job", "run", "-output", "http://127.0.0.1:1/x.hcl")
    assert refused.code == 1 and "cannot read http://127.0.0.1:1/x.hcl" in refused.err
