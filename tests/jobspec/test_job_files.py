"""Job files to jobs: blocks, shorthands, variables, warnings, the three forms of a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.jobspec import JobFileError, canonicalize, example_job, parse_job, validate
from core.model.job import Job, Task, TaskGroup

SECOND = 1_000_000_000
FailureOf = Callable[[str], str]


def job_of(text: str, **options: Any) -> Job:
    return parse_job(text, filename="f.hcl", **options).job


def group_of(body: str) -> TaskGroup:
    groups = job_of(f'job "j" {{\n group "g" {{\n{body}\n}}\n}}').task_groups
    assert groups is not None
    return groups[0]


def task_of(body: str) -> Task:
    tasks = group_of(f'task "t" {{\n driver = "raw_exec"\n{body}\n}}').tasks
    assert tasks is not None
    return tasks[0]


def warnings_for(text: str) -> list[str]:
    return [w.summary() for w in parse_job(text, filename="f.hcl").warnings]


def test_every_example_parses_and_may_be_registered(examples: Path) -> None:
    files = sorted(examples.glob("*.nomad.hcl"))
    assert files
    for file in files:
        parsed = parse_job(file.read_text(), filename=file.name)
        assert validate(canonicalize(parsed.job, region="eu")) == [], file.name
        assert parsed.warnings == [], file.name


@pytest.mark.parametrize("short", [True, False])
def test_the_job_of_job_init_may_be_registered(short: bool) -> None:
    parsed = parse_job(example_job(short=short), filename="example.nomad.hcl")
    assert validate(canonicalize(parsed.job, region="eu")) == []
    assert parsed.warnings == []


def test_what_a_file_leaves_out_is_none() -> None:
    job = job_of('job "j" {}')
    assert (job.id, job.name, job.type, job.region, job.task_groups) == ("j", "j", None, None, None)


def test_ports_are_static_or_dynamic() -> None:
    networks = group_of('network {\n port "a" { static = 80 }\n port "b" { to = 8080 }\n}').networks
    assert networks is not None
    assert [(p.label, p.value) for p in networks[0].reserved_ports or []] == [("a", 80)]
    assert [(p.label, p.to) for p in networks[0].dynamic_ports or []] == [("b", 8080)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('attribute = "a"\n value = "b"', ("a", "=", "b")),
        ('attribute = "a"\n version = ">= 1"', ("a", "version", ">= 1")),
        ('attribute = "a"\n operator = "is_set"', ("a", "is_set", "")),
        ("distinct_hosts = true", ("", "distinct_hosts", "")),
        ('distinct_property = "${meta.rack}"', ("${meta.rack}", "distinct_property", "")),
        ('attribute = "${attr.x}"\n regexp = "a.*"', ("${attr.x}", "regexp", "a.*")),
    ],
)
def test_a_constraint_may_be_short(body: str, expected: tuple[str, str, str]) -> None:
    constraints = group_of(f"constraint {{\n{body}\n}}").constraints
    assert constraints is not None
    found = constraints[0]
    assert (found.l_target, found.operand, found.r_target) == expected


def test_config_blocks_become_lists_of_maps() -> None:
    task = task_of(
        """config {
          command = "x"
          count   = 2
          ratio   = 0.5
          mount {
            type = "bind"
          }
          logging "json" {
            tag = "a"
          }
          port_map = { http = 80 }
        }"""
    )
    assert task.config == {
        "command": "x",
        "count": 2,
        "ratio": 0.5,
        "mount": [{"type": "bind"}],
        "logging": [{"json": [{"tag": "a"}]}],
        "port_map": {"http": 80},
    }


def test_env_and_meta_hold_strings_in_either_form() -> None:
    assert task_of("env {\n A = 1\n B = true\n C = 1.5\n}").env == {
        "A": "1",
        "B": "true",
        "C": "1.5",
    }
    assert task_of('env = { A = 1, "x.y" = "z" }').env == {"A": "1", "x.y": "z"}


def test_durations_are_nanoseconds() -> None:
    task = task_of('kill_timeout = "1m30s"\n shutdown_delay = "250ms"')
    assert (task.kill_timeout_ns, task.shutdown_delay_ns) == (90 * SECOND, SECOND // 4)


def test_a_task_of_the_job_is_a_group_of_its_name() -> None:
    job = job_of('job "j" {\n task "t" { driver = "raw_exec" }\n}')
    assert job.task_groups is not None
    group = job.task_groups[0]
    assert (group.name, group.count, [t.name for t in group.tasks or []]) == ("t", None, ["t"])


def test_vault_is_handed_down_to_tasks_without_one() -> None:
    text = """job "j" {
      vault { role = "outer" }
      group "g" {
        task "a" { driver = "raw_exec" }
        task "b" {
          driver = "raw_exec"
          vault { role = "own" }
        }
      }
    }"""
    tasks = (job_of(text).task_groups or [])[0].tasks or []
    assert [(task.vault or {})["Role"] for task in tasks] == ["outer", "own"]


def test_the_unnamed_identity_is_the_tasks_own() -> None:
    task = task_of(
        'identity { env = true }\n identity {\n name = "x"\n aud = ["a"]\n ttl = "1h"\n}'
    )
    assert task.identity is not None and task.identity.env
    assert task.identities is not None
    assert (task.identities[0].name, task.identities[0].ttl_ns) == ("x", 3600 * SECOND)


def test_kept_blocks_have_nomads_wire_names() -> None:
    text = """service {
      port = "http"
      connect {
        sidecar_service {
          proxy {
            upstreams {
              destination_name = "db"
              local_bind_port  = 5432
            }
            expose {
              path {
                path            = "/x"
                local_path_port = 1
                listener_port   = "p"
              }
            }
          }
        }
      }
    }"""
    service = (group_of(text).services or [])[0]
    connect = service.connect or {}
    # What is not said stands there as Go prints it.
    assert (connect["Native"], connect["Gateway"], connect["SidecarTask"]) == (False, None, None)
    proxy = connect["SidecarService"]["Proxy"]
    assert (proxy["LocalServiceAddress"], proxy["LocalServicePort"]) == ("", 0)
    (upstream,) = proxy["Upstreams"]
    assert (upstream["DestinationName"], upstream["LocalBindPort"]) == ("db", 5432)
    assert (upstream["Datacenter"], upstream["MeshGateway"]) == ("", None)
    assert proxy["Expose"] == {
        "Paths": [{"Path": "/x", "LocalPathPort": 1, "ListenerPort": "p", "Protocol": ""}]
    }


def test_wire_names_of_the_hard_ones() -> None:
    task = task_of(
        """
        template {
          data                 = "x"
          destination          = "local/y"
          error_on_missing_key = true
          env                  = true
          uid                  = 7
          change_script { command = "/bin/x" }
          wait {
            min = "1s"
            max = "2s"
          }
        }
        artifact {
          source = "https://x"
          options { archive = false }
        }
        logs { max_file_size = 3 }
        """
    )
    wire = msgspec.to_builtins(task)
    template = wire["Templates"][0]
    assert template["EmbeddedTmpl"] == "x" and template["DestPath"] == "local/y"
    assert template["ErrMissingKey"] and template["Envvars"] and template["Uid"] == 7
    assert template["ChangeScript"] == {
        "Command": "/bin/x", "Args": [], "Timeout": 5_000_000_000, "FailOnError": False,
        "RunOnFirstRender": None,
    }  # fmt: skip
    assert template["Wait"] == {"Min": SECOND, "Max": 2 * SECOND}
    assert wire["Artifacts"][0]["GetterOptions"] == {"archive": "false"}
    assert wire["LogConfig"]["MaxFileSizeMB"] == 3


def test_the_federation_block() -> None:
    job = job_of(
        """job "j" {
          federation {
            partition = "surge"
            spillover {
              regions = ["us", "*"]
              after   = "30s"
            }
            spread { attribute = "datacenter" }
          }
        }"""
    )
    policy = job.federation
    assert policy is not None and policy.spillover is not None
    assert (policy.partition, policy.spillover.regions) == ("surge", ["us", "*"])
    assert policy.spillover.after_ns == 30 * SECOND
    assert policy.spread is not None and policy.spread[0].attribute == "datacenter"


# --- variables ---------------------------------------------------------------------------

DECLARED = """
variable "n" {
  type    = number
  default = 1
}
variable "names" {
  type    = list(string)
  default = []
}
variable "free" {
  default = "d"
}
job "j" {
  meta {
    n     = var.n
    names = join(",", var.names)
    free  = var.free
  }
}
"""


def test_sources_of_variables_by_their_rank() -> None:
    def n(**options: Any) -> str:
        return (job_of(DECLARED, **options).meta or {})["n"]

    env = {"NOMAD_VAR_n": "2"}
    files = [("a.hcl", "n = 3"), ("b.hcl", "n = 4")]
    assert n() == "1"
    assert n(env=env) == "2"
    assert n(env=env, var_files=files[:1]) == "3"
    assert n(env=env, var_files=files) == "4"
    assert n(env=env, var_files=files, variables={"n": "5"}) == "5"


def test_text_of_options_is_literal_or_an_expression_by_type() -> None:
    job = job_of(DECLARED, variables={"names": '["a", "b"]', "free": "[not hcl"})
    assert job.meta == {"n": "1", "names": "a,b", "free": "[not hcl"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": {"nn": "1"}}, "-var nn: the job has no such variable"),
        ({"variables": {"n": "x"}}, "a number is needed"),
        ({"variables": {"names": "[1"}}, "never closed"),
        (
            {"var_files": [("v.hcl", "name = []")]},
            'v.hcl:1:1: error: the job has no variable "name"',
        ),
        ({"env": {"NOMAD_VAR_n": "x"}}, "NOMAD_VAR_n"),
    ],
)
def test_a_wrong_variable_names_where_it_came_from(options: Any, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        job_of(DECLARED, **options)
    assert message in str(caught.value)


def test_object_types_take_optional_members() -> None:
    text = """variable "o" {
      type = object({ a = string, b = optional(number, 7), c = optional(string) })
    }
    job "j" {
      meta {
        text = "${var.o.a}-${var.o.b}-${var.o.c == null}"
      }
    }"""
    assert job_of(text, variables={"o": "{ a = 1 }"}).meta == {"text": "1-7-true"}
    with pytest.raises(JobFileError, match='lacks "a"'):
        job_of(text, variables={"o": "{}"})


def test_validation_speaks_the_files_own_words() -> None:
    text = """variable "n" {
      default = 0
      validation {
        condition     = var.n > 0
        error_message = "More than none, please."
      }
    }
    job "j" {}"""
    with pytest.raises(JobFileError, match="More than none, please"):
        job_of(text)


def test_locals_in_any_order_and_in_a_circle() -> None:
    text = (
        'locals {\n a = local.b\n b = var.c\n}\nvariables { c = "x" }\njob "j" { name = local.a }'
    )
    assert job_of(text).name == "x"
    with pytest.raises(JobFileError, match="a -> b -> a"):
        job_of('locals {\n a = local.b\n b = local.a\n}\njob "j" { name = local.a }')


def test_a_long_chain_of_locals_is_refused_not_a_crash() -> None:
    chain = "\n".join(f"l{n} = local.l{n + 1}" for n in range(3000))
    with pytest.raises(JobFileError, match="too deeply"):
        job_of(f'locals {{\n{chain}\n l3000 = 1\n}}\njob "j" {{ name = local.l0 }}')


class Files:
    def read(self, path: str) -> bytes:
        if path != "a.txt":
            raise FileNotFoundError(2, "No such file or directory")
        return b"text"

    def exists(self, path: str) -> bool:
        return path == "a.txt"

    def glob(self, folder: str, pattern: str) -> list[str]:
        return ["a.txt"]

    def absolute(self, path: str) -> str:
        return "/" + path

    def expand_home(self, path: str) -> str:
        return path


def test_files_are_read_only_through_the_reader() -> None:
    text = 'job "j" {\n meta { a = "${file("a.txt")} ${fileexists("b")}" }\n}'
    assert job_of(text, allow_files=Files()).meta == {"a": "text false"}
    with pytest.raises(JobFileError, match="can't be read here"):
        job_of(text)
    with pytest.raises(JobFileError, match=r'no file "b\.txt"'):
        job_of('job "j" { name = file("b.txt") }', allow_files=Files())


# --- forms -------------------------------------------------------------------------------


def test_hcl_json_and_api_json_give_the_same_job(examples: Path) -> None:
    native = job_of('job "j" {\n group "g" {\n count = 2\n task "t" { driver = "raw_exec" }\n }\n}')
    form = {"job": {"j": {"group": {"g": [{"count": 2, "task": {"t": {"driver": "raw_exec"}}}]}}}}
    assert job_of(json.dumps(form)) == native
    api = msgspec.json.encode(native).decode()
    assert job_of(api) == native
    assert job_of('{"Job": ' + api + "}") == native


def test_hcl_json_has_variables_and_dynamic_blocks() -> None:
    form = {
        "variable": {"ports": {"default": ["a", "b"]}},
        "job": {
            "j": {
                "group": {
                    "g": {
                        "network": {
                            "dynamic": {
                                "port": {
                                    "for_each": "${var.ports}",
                                    "labels": ["${port.value}"],
                                    "content": {},
                                }
                            }
                        }
                    }
                }
            }
        },
    }
    networks = (job_of(json.dumps(form)).task_groups or [])[0].networks or []
    assert [port.label for port in networks[0].dynamic_ports or []] == ["a", "b"]


def test_api_json_of_the_wrong_type_names_the_path(failure_of: FailureOf) -> None:
    assert "$.TaskGroups[0].Count" in failure_of('{"ID": "a", "TaskGroups": [{"Count": "2"}]}')


# --- mistakes ----------------------------------------------------------------------------


def inside_task(text: str) -> str:
    return f'job "j" {{\ngroup "g" {{\ntask "t" {{\n{text}\n}}\n}}\n}}'


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('jobs "x" {}', "1:1", 'did you mean "job"?'),
        ("", "", "holds no job"),
        ('group "g" {}', "1:1", "belongs inside job"),
        ("server { enabled = true }", "1:1", "configuration of an agent"),
        ('job "a" {}\njob "b" {}', "2:1", "one job; the first stands on line 1"),
        ("a = 1", "1:1", "stands outside of the job"),
        ("job {}", "1:1", "this job has no name"),
        ('job "a" "b" {}', "1:9", "one name only"),
        ('job "a" { dateacenters = ["x"] }', "1:11", 'did you mean "datacenters"?'),
        ('job "a" { datacenters = "dc1" }', "1:25", 'write ["dc1"]'),
        ('job "a" { type = ["batch"] }', "1:18", 'write "batch"'),
        ('job "a" { priority = "high" }', "1:22", "a number is needed"),
        ('job "a" { priority = 1.5 }', "1:22", "a whole number"),
        ('job "a" { all_at_once = 1 }', "1:25", "true or false"),
        ('job "a" {\n group { }\n}', "2:2", "this group has no name"),
        ('job "a" { driver = "x" }', "1:11", '"driver" belongs in a task'),
        ('job "a" {\n port "x" {}\n}', "2:2", '"port" belongs in a network block'),
        ('job "a" {\n count { }\n}', "2:2", 'no block "count"'),
        ('job "a" {\nupdate {}\nupdate {}\n}', "3:1", "this is a second"),
        (inside_task("resources = {}"), "4:1", 'write resources { ... }'),
        (inside_task("driver { }"), "4:1", "write driver = ..."),
        (inside_task('kill_timeout = "30"'), "4:16", 'a unit is missing, for example "30s"'),
        (inside_task('kill_timeout = "1d"'), "4:16", 'write "24h"'),
        (inside_task('kill_timeout = "soon"'), "4:16", "is not a duration"),
        (inside_task('service "web" {}'), "4:9", 'write name = "web" inside'),
        (inside_task("env = 5"), "4:7", "a map is needed"),
        (inside_task("env { A = [1] }"), "4:1", "A: a string is needed"),
        (inside_task("resources { memory = \"1GB\" }"), "4:22", "a number is needed"),
        (inside_task("resorces { }"), "4:1", 'did you mean "resources"?'),
        ('job "a" {\ngroup "g" {\nnetwork {\nport "p" {}\nport "p" {}\n}\n}\n}', "5:6", "twice"),
        ('job "a" { name = var.x }', "1:18", 'declare it: variable "x"'),
        ('variable "img" {}\njob "a" { name = var.img }', "1:10", "has no value"),
        ('variable "image" { default = 1 }\njob "a" { name = var.imge }', "2:18", "image"),
        ('variable "x" { tpye = string }\njob "a" {}', "1:16", 'did you mean "type"?'),
        ('variable "x" { type = strng }\njob "a" {}', "1:23", 'did you mean "string"?'),
        ('variable "x" {}\nvariable "x" {}\njob "a" {}', "2:10", "declared twice"),
        ('job "a" { name = local.x }', "1:18", 'no local value "x"'),
    ],
)  # fmt: skip
def test_a_common_mistake_has_its_own_text(
    failure_of: FailureOf, text: str, place: str, message: str
) -> None:
    error = failure_of(text)
    assert error.startswith(f"f.hcl:{place}"), error
    assert message in error, error


def test_all_mistakes_of_a_file_are_told() -> None:
    with pytest.raises(JobFileError) as caught:
        job_of('job "a" {\n x = 1\n priority = "y"\n zz {}\n}')
    assert [d.line for d in caught.value.diagnostics] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (inside_task('driver = "docker"'), 4, 'the driver "docker" is not carried out yet'),
        (inside_task('driver = "doker"'), 4, "its name is unknown"),
        (inside_task('template { data = "x" }'), 4, "templates are not rendered yet"),
        (inside_task('artifact { source = "x" }'), 4, "artifacts are not downloaded yet"),
        (inside_task("vault { }"), 4, "Vault is not carried out"),
        (inside_task('volume_mount { volume = "v" }'), 4, "not mounted into the task"),
        (inside_task("kill_timeout = 30"), 4, 'write a unit: kill_timeout = "30s"'),
        (
            'job "j" {\ngroup "g" {\nnetwork {\nmode = "bridge"\n}\n}\n}',
            4,
            'network mode "bridge"',
        ),
        (
            'job "j" {\ngroup "g" {\nservice {\ncheck {\ntype = "script"\n}\n}\n}\n}',
            5,
            "script checks",
        ),
    ],
)  # fmt: skip
def test_what_is_not_carried_out_is_a_warning_with_its_line(
    text: str, line: int, message: str
) -> None:
    warnings = warnings_for(text)
    assert any(w.startswith(f"f.hcl:{line}:") and message in w for w in warnings), warnings


def test_the_carried_out_part_warns_of_nothing() -> None:
    assert warnings_for(inside_task('driver = "raw_exec"\nkill_signal = "SIGTERM"')) == []
