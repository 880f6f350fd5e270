"""Jobs to HCL and back: random jobs of every block the schema knows, and canonical ones."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.jobspec import canonicalize, parse_job
from core.jobspec.hcl.format import format_text
from core.jobspec.nomad_schema import JOB
from core.jobspec.schema import Arity, AttributeSchema, BlockSchema, Kind
from core.jobspec.write import as_submitted, essential, write_job
from core.model.job import Job

TEXTS = (
    "", "a", "${attr.kernel.name}", "${NOMAD_PORT_http}", "$${x}", "${x", "%{if}", "a\nb\n",
    'say "hi"', "C:\\x", "tab\t", "${env[\"HOME\"]}/x", "{{ env \"X\" }}\n  {{ end }}\n", "é✓",
    "\x00\x1b", "a\r\nb\r\n", "EOT\nEOF\n", "${meta.a-b}${node.unique.id}\n\n", "${var.x}",
    "$${attr.x}\ny\n", "#no", "%%{", "$", "${ attr.x }", "null", "1",
)  # fmt: skip
KEYS = ("a", "b_c", "d-e", "for", "null", "x.y", "", "a b", "${k}", "dynamic", "é")
LABELS = ("web", "a b", "a.b-c", 'q"q', "${attr.x}", "é")
# Ours alone or another spelling: they never are part of a job as it travels.
UNSAID = {
    "job": {"id", "consul_token", "vault_token", "task", "vault", "secret"},
    "group": {"vault", "secret"},
    "constraint": {"version", "semver", "regexp", "set_contains", "set_contains_any",
                   "set_contains_all", "distinct_hosts", "distinct_property"},
    "network": {"port"},
    "task": {"identity", "scaling"},
}  # fmt: skip
UNSAID["affinity"] = UNSAID["constraint"]


class RandomJobs:
    """Wire forms of blocks, each attribute and block there with the same chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.chance = self.random.choice([0.1, 0.3, 0.8])

    def job(self) -> Job:
        return msgspec.convert(self.block(JOB), Job)

    def block(self, schema: BlockSchema) -> dict[str, Any]:
        unsaid = UNSAID.get(schema.name, set())
        wire: dict[str, Any] = {}
        if schema.label:
            wire[schema.label] = self.random.choice(LABELS)
        for name, attribute in schema.attributes.items():
            if name not in unsaid and self.random.random() < self.chance:
                wire[attribute.wire] = self.value(attribute)
        for name, child in schema.blocks.items():
            if name in unsaid or self.random.random() > self.chance:
                continue
            if child.arity is Arity.ONE:
                wire[child.wire] = self.block(child.schema)
            else:
                made = [self.block(child.schema) for _ in range(self.random.randint(1, 2))]
                by_label = child.arity is Arity.BY_LABEL
                wire[child.wire] = {m[child.schema.label]: m for m in made} if by_label else made
        getattr(self, f"_{schema.name}", lambda _: None)(wire)
        return wire

    def _constraint(self, wire: dict[str, Any]) -> None:
        wire["Operand"] = self.random.choice(["=", "version", "distinct_hosts", "is_set"])

    _affinity = _constraint

    def _job(self, wire: dict[str, Any]) -> None:
        wire.setdefault("Name", wire["ID"])

    def _scaling(self, wire: dict[str, Any]) -> None:
        wire.setdefault("Max", 9)

    def _network(self, wire: dict[str, Any]) -> None:
        for number, kind in enumerate(["ReservedPorts", "DynamicPorts", "DynamicPorts"]):
            if self.random.random() < self.chance:
                port = {"Label": f"p{number}", "To": self.random.choice([0, -1, 80])}
                if kind == "ReservedPorts":
                    port["Value"] = 8000 + number
                wire.setdefault(kind, []).append(port)

    def _task(self, wire: dict[str, Any]) -> None:
        if self.random.random() < self.chance:
            wire["Identity"] = {"Name": "default", "Env": True}
            wire["Identities"] = [{"Name": "vault", "Audience": ["v"], "TTL": 3_600_000_000_000}]
            wire["ScalingPolicies"] = [{"Type": "vertical_cpu", "Max": 5, "Policy": {}}]

    def value(self, attribute: AttributeSchema) -> Any:
        pick = self.random
        match attribute.kind:
            case Kind.INT:
                return pick.choice([0, 1, 50, -1])
            case Kind.BOOL:
                return pick.random() < 0.5
            case Kind.DURATION:
                return pick.choice([0, 1, 1_500_000_000, 90 * 10**9, 7200 * 10**9, 10**15 + 7])
            case Kind.STRINGS:
                return [pick.choice(TEXTS) for _ in range(pick.randint(0, 3))]
            case Kind.INTS:
                return [1, 2]
            case Kind.MAP:
                return {pick.choice(KEYS): pick.choice(TEXTS) for _ in range(pick.randint(0, 3))}
            case Kind.LIST_MAP:
                return {pick.choice(KEYS): [pick.choice(TEXTS)] for _ in range(pick.randint(0, 2))}
            case Kind.FREE:
                return {pick.choice(KEYS): self.free(3) for _ in range(pick.randint(0, 4))}
        return pick.choice(TEXTS)

    def free(self, depth: int) -> Any:
        pick = self.random
        kind = pick.randint(0, 7 if depth else 4)
        if kind == 7:
            return [
                {pick.choice(KEYS): self.free(depth - 1) for _ in range(pick.randint(0, 2))}
                for _ in range(pick.randint(1, 2))
            ]
        if kind == 6:
            return {pick.choice(KEYS): self.free(depth - 1) for _ in range(pick.randint(0, 3))}
        if kind == 5:
            return [self.free(depth - 1) for _ in range(pick.randint(0, 3))]
        return pick.choice([None, True, 0, -7, 2.5, 10**20, *TEXTS])


def _said(value: Any) -> Any:
    """A wire form without what Go counts as nothing: null, zeros, what is empty."""
    if isinstance(value, dict):
        value = {key: said for key, item in value.items() if (said := _said(item))}
    elif isinstance(value, list):
        value = [_said(item) for item in value]
    return value


def _differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two wire forms differ; [] when they don't."""
    if isinstance(left, dict) and isinstance(right, dict):
        return [
            found
            for key in sorted(left.keys() | right.keys())
            for found in _differences(left.get(key), right.get(key), f"{path}.{key}")
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            found
            for number, pair in enumerate(zip(left, right, strict=True))
            for found in _differences(*pair, f"{path}[{number}]")
        ]
    return [] if left == right else [f"{path}: {left!r} != {right!r}"]


def _parsed(text: str) -> Job:
    return parse_job(text, filename="f.hcl").job


def _wire(job: Job) -> Any:
    return msgspec.to_builtins(job)


@pytest.mark.parametrize("seed", range(30))
def test_a_random_job_written_as_hcl_is_the_same_job(seed: int) -> None:
    wished = RandomJobs(seed).job()
    job = _parsed(write_job(wished))
    if wished.periodic is not None and job.periodic is not None:
        wished.periodic.spec_type = job.periodic.spec_type  # it follows from the others
    # Beyond what was wished, the file has the defaults of the blocks it names.
    found = _differences(_said(_wire(job)), _said(_wire(wished)))
    assert [one for one in found if not one.endswith(" != None")] == []
    text = write_job(job)
    assert _differences(_wire(_parsed(text)), _wire(job)) == []
    assert format_text(text, "f.hcl") == text


@pytest.mark.parametrize("seed", range(100, 108))
def test_the_essence_of_a_canonical_job_is_the_same_job(seed: int) -> None:
    job = canonicalize(_parsed(write_job(RandomJobs(seed).job())), region="eu")
    again = canonicalize(_parsed(write_job(essential(job))), region="eu")
    wanted = _wire(canonicalize(as_submitted(job), region="eu"))
    assert _differences(_wire(again), wanted) == []


def test_the_essence_of_an_example_is_about_what_was_written(examples: Path) -> None:
    text = (examples / "web.nomad.hcl").read_text()
    job = canonicalize(parse_job(text, filename="f").job, region="eu")
    written = write_job(essential(job))
    assert len(written.splitlines()) <= len(text.splitlines())
    for unsaid in ("stagger", "render_templates", "host_network", "all_at_once"):
        assert unsaid not in written


def test_the_servers_own_records_are_left_out() -> None:
    job = canonicalize(Job(id="j", version=3, status="running", payload=b"x"), region="eu")
    text = write_job(as_submitted(job))
    assert "version" not in text and "running" not in text


def test_readable_where_people_read() -> None:
    job = parse_job(
        'job "j" {\n group "g" {\n task "t" {\n driver = "docker"\n config {\n image = "x"\n'
        ' mount {\n type = "bind"\n }\n }\n kill_timeout = "1h30m"\n template {\n'
        ' data = "{{ env \\"A\\" }}\\n${NOMAD_X}\\n"\n destination = "${NOMAD_TASK_DIR}/x"\n}\n'
        ' env {\n A = "${attr.x}"\n }\n }\n }\n}\n',
        filename="f",
    ).job
    job = canonicalize(job, region="eu")
    job.region = job.datacenters = job.type = None
    assert (
        write_job(essential(job))
        == """\
job "j" {
  group "g" {
    task "t" {
      driver       = "docker"
      kill_timeout = "1h30m"

      config {
        image = "x"
        mount {
          type = "bind"
        }
      }

      env {
        A = "${attr.x}"
      }

      template {
        destination = "${NOMAD_TASK_DIR}/x"
        data        = <<EOT
{{ env "A" }}
${NOMAD_X}
EOT
      }
    }
  }
}
"""
    )
