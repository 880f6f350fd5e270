"""Defaults, validation and diffs of jobs."""

from typing import Any

import pytest

from core.jobspec import canonicalize, diff_jobs, error_text, parse_job, validate, warnings_of
from core.jobspec.diff import annotate
from core.model.job import Constraint, Job

SECOND = 1_000_000_000

WEB = """job "web" {
  datacenters = ["a"]
  group "g" {
    count = 2
    network {
      port "http" {}
    }
    service {
      port = "http"
      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "1s"
      }
    }
    task "t" {
      driver = "raw_exec"
      env {
        A = "1"
      }
      config {
        command = "sleep"
        args    = ["1"]
      }
    }
  }
}
"""


def canonical(text: str, region: str = "eu") -> Job:
    return canonicalize(parse_job(text, filename="f.hcl").job, region=region)


def test_defaults_of_a_service_job() -> None:
    job = canonical(WEB)
    assert (job.region, job.namespace, job.type, job.priority) == ("eu", "default", "service", 50)
    assert job.node_pool == "default" and job.name == "web"
    group = (job.task_groups or [])[0]
    assert group.restart_policy is not None and group.reschedule_policy is not None
    assert (group.restart_policy.attempts, group.restart_policy.interval_ns) == (2, 1800 * SECOND)
    assert group.reschedule_policy.unlimited and group.reschedule_policy.delay_ns == 30 * SECOND
    assert group.update is not None and group.update.max_parallel == 1
    assert group.ephemeral_disk is not None and group.ephemeral_disk.size_mb == 300
    task = (group.tasks or [])[0]
    assert task.resources is not None and task.log_config is not None
    assert (task.resources.cpu, task.resources.memory_mb) == (100, 300)
    assert (task.kill_timeout_ns, task.log_config.max_files) == (5 * SECOND, 10)
    assert task.restart_policy == group.restart_policy
    service = (group.services or [])[0]
    assert (service.name, service.provider, service.address_mode) == ("web-g", "consul", "auto")
    assert (service.checks or [])[0].name == 'service: "web-g" check'


def test_defaults_of_a_batch_job() -> None:
    job = canonical(WEB.replace('["a"]', '["a"]\n  type = "batch"'))
    group = (job.task_groups or [])[0]
    assert job.update is None and group.update is None and group.migrate is None
    assert group.restart_policy is not None and group.reschedule_policy is not None
    assert group.restart_policy.attempts == 3
    assert (group.reschedule_policy.attempts, group.reschedule_policy.unlimited) == (1, False)


def test_policies_are_inherited_with_their_gaps_filled() -> None:
    text = """job "j" {
      update {
        max_parallel = 3
        auto_revert  = true
      }
      group "g" {
        update { max_parallel = 2 }
        restart { attempts = 7 }
        task "t" {
          driver = "raw_exec"
          restart { mode = "delay" }
        }
      }
    }"""
    group = (canonical(text).task_groups or [])[0]
    assert group.update is not None
    assert (group.update.max_parallel, group.update.auto_revert) == (2, True)
    policy = (group.tasks or [])[0].restart_policy
    assert policy is not None and (policy.attempts, policy.mode) == (7, "delay")


def test_canonicalizing_twice_changes_nothing_and_copies() -> None:
    job = parse_job(WEB, filename="f").job
    once = canonicalize(job, region="eu")
    assert canonicalize(once, region="other") == once
    assert job.region is None


def test_region_of_the_file_wins() -> None:
    assert canonical('job "j" { region = "*" }').region == "*"


# --- validation --------------------------------------------------------------------------


def test_a_good_job_has_no_errors() -> None:
    assert validate(canonical(WEB)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('job "web"', 'job "w b"', "Job ID contains a space"),
        ('job "web"', 'job "w/periodic-1"', "kept for children"),
        ('["a"]', '["a"]\n type = "x"', 'Invalid job type: "x"'),
        ('["a"]', '["a"]\n priority = 101', "between [1, 100]"),
        ("count = 2", "count = -1", "Task group count can't be negative"),
        ("count = 2", "count = 60000", "exceeds the limit of 50000"),
        ('driver = "raw_exec"', "", "Missing task driver"),
        ('port = "http"', 'port = "htpp"', 'port label "htpp" referenced by services'),
        ('path     = "/"', "", "http type must have http path"),
        ('interval = "5s"', 'interval = "5ms"', "interval (5ms) cannot be less than 1s"),
        ('timeout  = "1s"', "", "missing required value timeout"),
        ('type     = "http"', 'type = "htp"', 'invalid type ("htp")'),
        ('port "http" {}', 'port "http" { static = 70000 }', "between 0 and 65535"),
        ('port "http" {}', 'port "http" {static=80}\n port "b" {static=80}', "already reserved"),
        ('command = "sleep"', "", "config must hold a command"),
        ('command = "sleep"', 'command = "a"\n image = "x"', 'has no key "image"'),
        ("count = 2", "restart {\n interval = \"10s\"\n attempts = 3\n}",
         "can't restart the TaskGroup 3 times in an interval of 10s with a delay of 15s"),
        ("count = 2", "update {\n min_healthy_time = \"6m\"\n}", "less than healthy deadline"),
        ("count = 2", 'constraint {\n operator = "~"\n attribute = "a"\n}', 'type "~"'),
        ("count = 2", 'constraint {\n attribute = "a"\n regexp = "("\n}', "failed to compile"),
        ("count = 2", "affinity {\n attribute = \"a\"\n value = \"b\"\n weight = 0\n}", "be zero"),
        ("count = 2", 'spread {\n attribute = "a"\n weight = 200\n}', "positive weight"),
        ('driver = "raw_exec"', 'driver = "raw_exec"\n resources { cpu = 0 }', "CPU value is 1"),
        ('driver = "raw_exec"', 'driver = "raw_exec"\n resources { memory = 1 }', "value is 10"),
        ('driver = "raw_exec"', 'driver = "raw_exec"\n volume_mount { volume = "v" }', "undefined"),
        ('["a"]', '["a"]\n federation { partition = "fence" }', "not built yet"),
        ('["a"]', '["a"]\n federation { partition = "x" }', "one of hold, surge"),
        ('["a"]', "[]\n federation {\n spillover {}\n}", "must name regions"),
        ('["a"]', "[]\n federation {\n weights { cost = 101 }\n}", "cost must be within"),
        ('["a"]', '[]\n federation {\n spread { attribute = "${meta.rack}" }\n}', "or region"),
        ('["a"]', '[]\n federation {\n affinity {\n attribute = "${attr.unique.hostname}"\n'
         ' operator = ">"\n value = "1"\n}\n}', "only compared with ="),
        ('["a"]', '[]\n federation {\n affinity {\n attribute = "rack"\n value = "1"\n}\n}',
         "nothing that a datacenter has"),
        ("count = 2", 'disconnect {\n lost_after = "-1s"\n}', "lost_after can't be negative"),
        ("count = 2", 'disconnect {\n reconcile = "x"\n}', "one of best_score"),
        ("count = 2", 'disconnect {}\n max_client_disconnect = "1m"', "keep the block"),
        ("count = 2", 'disconnect {\nlost_after = "1h"\nstop_on_client_after = "1m"\n'
         'replace = false\n}', "nothing could come back"),
        ('["a"]', '["a"]\n periodic { cron = "@daily" }', "batch"),
        ("count = 2", 'reschedule {\n attempts = 3\n interval = "1h"\n}', "contradict each other"),
        ("count = 2", "reschedule {\n attempts = 3\n unlimited = false\n}", "must be a non zero"),
        ('type     = "http"', 'type = "tcp"\n task = "t"', "only script and grpc checks"),
        ('type     = "http"', 'type = "script"\n command = "a"\n task = "x"', 'no task "x"'),
        ('port = "http"', 'port = "http"\n provider = "nomad"\n check { expose = true }', "expose"),
    ],
)  # fmt: skip
def test_an_invalid_job_is_refused_with_its_reason(old: str, new: str, message: str) -> None:
    assert old in WEB
    errors = validate(canonical(WEB.replace(old, new)))
    assert message in error_text(errors), errors


TEMPLATE = 'template {\n data = "x"\n destination = "a"\n'


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ('template {\n data = "x"\n}', "Template 1 validation failed: a template needs"),
        ('template {\n destination = "a"\n}', "needs a source, or data"),
        ('template {\n data = "x"\n destination = "../../a"\n}', "leads out of the allocation"),
        ('template {\n data = "x"\n destination = "../alloc/a"\n}', ""),
        ('template {\n data = "x"\n destination = "/etc/a"\n}', ""),
        ('template {\n data = "x"\n destination = "${NOMAD_ALLOC_DIR}/a"\n perms = 755\n}', ""),
        (TEMPLATE + ' perms = "rw"\n}', "not an octal number"),
        (TEMPLATE + ' perms = "0999"\n}', "not an octal number"),
        (TEMPLATE + ' change_mode = "x"\n}', '"x" is unknown'),
        (TEMPLATE + ' env = true\n change_mode = "signal"\n'
         ' change_signal = "SIGHUP"\n}', "no changed environment"),
        (TEMPLATE + ' change_mode = "script"\n}', "change_script block"),
        (TEMPLATE + ' splay = "-1s"\n}', "splay can't be negative"),
        (f"{TEMPLATE}}}\n{TEMPLATE}}}", "Template 2 has the same destination"),
        ("artifact {}", "an artifact needs a source"),
        ('artifact {\n source = "x"\n mode = "folder"\n}', "must be one of any, file, dir"),
        ('artifact {\n source = "x"\n destination = "../../../x"\n}', "leads out of"),
        ('artifact {\n source = "x"\n destination = "local/../.."\n}', ""),
        ('dispatch_payload { file = "../../../x" }', "leads out of the allocation"),
        ('dispatch_payload { file = "in/put.txt" }', ""),
    ],
)  # fmt: skip
def test_the_files_of_a_task_are_checked(block: str, message: str) -> None:
    text = WEB.replace('driver = "raw_exec"', f'driver = "raw_exec"\n{block}\n')
    errors = validate(canonical(text))
    assert bool(errors) == bool(message)
    assert message in error_text(errors)


def test_errors_nest_like_nomads() -> None:
    text = error_text(validate(canonical('job "j" {\n group "g" {\n task "t" {}\n }\n}')))
    assert text == (
        "1 error occurred:\n"
        "\t* Task group g validation failed: 1 error occurred:\n"
        "\t\t* Task t validation failed: 1 error occurred:\n"
        "\t\t\t* Missing task driver\n\n"
    )
    assert error_text(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"


def test_warnings_of_a_job() -> None:
    job = canonical(WEB.replace("count = 2", "count = 2\n update { max_parallel = 3 }"))
    assert "greater than task group count (3 > 2)" in warnings_of(job)[0]


# --- diffs -------------------------------------------------------------------------------


def diff(old: str, new: str) -> dict[str, Any]:
    assert old in WEB
    return diff_jobs(canonical(WEB), canonical(WEB.replace(old, new)))


def names(diffs: list[dict[str, Any]] | None) -> list[tuple[str, str]]:
    return [(d["Type"], d["Name"]) for d in diffs or []]


def test_equal_jobs_have_no_diff() -> None:
    assert diff("a", "a") == {
        "Type": "None", "ID": "web", "Fields": None, "Objects": None, "TaskGroups": None,
    }  # fmt: skip


def test_a_new_job_is_added_and_a_gone_one_deleted() -> None:
    added, deleted = diff_jobs(None, canonical(WEB)), diff_jobs(canonical(WEB), None)
    assert (added["Type"], deleted["Type"]) == ("Added", "Deleted")
    assert added["TaskGroups"][0]["Tasks"][0]["Type"] == "Added"
    assert ("Added", "Priority") in names(added["Fields"])


def test_a_changed_count() -> None:
    made = diff("count = 2", "count = 3")
    assert made["Type"] == "Edited" and made["Fields"] is None
    (group,) = made["TaskGroups"]
    assert group["Fields"] == [
        {"Type": "Edited", "Name": "Count", "Old": "2", "New": "3", "Annotations": None}
    ]
    assert annotate(made)["TaskGroups"][0]["Fields"][0]["Annotations"] == ["forces create"]


def test_changed_env_and_config_are_listed_by_key() -> None:
    (task,) = diff('A = "1"', 'B = "1"')["TaskGroups"][0]["Tasks"]
    assert names(task["Fields"]) == [("Deleted", "Env[A]"), ("Added", "Env[B]")]
    made = diff('["1"]', '["1", "2"]')
    (task,) = made["TaskGroups"][0]["Tasks"]
    assert names(task["Objects"]) == [("Edited", "Config")]
    assert names(task["Objects"][0]["Fields"]) == [("Added", "args[1]")]
    annotated = annotate(made)["TaskGroups"][0]["Tasks"][0]
    assert annotated["Annotations"] == ["forces create/destroy update"]


def test_changed_lists_and_namesakes() -> None:
    made = diff('["a"]', '["a", "b"]')
    assert names(made["Objects"]) == [("Edited", "Datacenters")]
    assert names(made["Objects"][0]["Fields"]) == [("Added", "Datacenters")]
    (group,) = diff('path     = "/"', 'path = "/x"')["TaskGroups"]
    service = group["Objects"][0]
    assert (service["Type"], service["Name"]) == ("Edited", "Service")
    assert names(service["Objects"]) == [("Edited", "Check")]


def test_a_renamed_group_is_deleted_and_added() -> None:
    made = diff('group "g"', 'group "h"')
    assert names(made["TaskGroups"]) == [("Deleted", "g"), ("Added", "h")]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("[", "unterminated"),
        ("(?=x)", "backtracking"),
        ("(.*){1,32000}x", "too many states"),
        ("(" * 5000, "longer than"),
    ],
)
def test_an_expression_that_the_scheduler_would_not_run_is_refused(pattern: str, why: str) -> None:
    job = Job(constraints=[Constraint("${attr.os.name}", pattern, "regexp")])
    (problem,) = [text for text in validate(job) if text.startswith("Constraint 1")]
    assert "Regular expression failed to compile" in problem and why in problem


def test_a_job_may_not_have_expressions_without_end() -> None:
    many = [Constraint("${attr.os.name}", f"(a+)+{n}$", "regexp") for n in range(1_001)]
    (problem,) = validate(Job(constraints=many))
    assert problem.startswith("1001 regular expressions")


@pytest.mark.parametrize(
    ("operand", "wanted", "term"),
    [
        ("version", ">= banana", ">= banana"),
        ("version", ">= 1,", '""'),
        ("semver", "~> 1.2.3", "~>"),
    ],
)
def test_a_version_that_nobody_can_read_is_refused(operand: str, wanted: str, term: str) -> None:
    job = Job(constraints=[Constraint("${attr.os.version}", wanted, operand)])
    (problem,) = [text for text in validate(job) if text.startswith("Constraint 1")]
    assert "constraint is invalid" in problem and term in problem
