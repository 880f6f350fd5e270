"""Shorthands of job files: what is written short and means something longer.

Each works on the wire form of one block, after its attributes and blocks are in.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from core.jobspec.diagnostics import Span
from core.jobspec.hcl.body import Body


class Findings(Protocol):
    def error(self, body: Body, span: Span, message: str, hint: str = "") -> None: ...


Wire = dict[str, Any]

SECOND_NS: Final = 1_000_000_000
# What Nomad's parser fills in; the other defaults wait for core.jobspec.canonical.
_TEMPLATE: Final[Wire] = {
    "ChangeMode": "restart", "Perms": "0644", "Splay": 5 * SECOND_NS, "ErrMissingKey": False,
}  # fmt: skip
CHANGE_SCRIPT: Final[Wire] = {"Args": [], "Timeout": 5 * SECOND_NS, "FailOnError": False}

_OPERATOR_NAMES: Final = (
    "Version", "Semver", "Regexp", "SetContains", "SetContainsAny", "SetContainsAll",
)  # fmt: skip
_OPERATORS: Final = {
    "Version": "version", "Semver": "semver", "Regexp": "regexp",
    "SetContains": "set_contains", "SetContainsAny": "set_contains_any",
    "SetContainsAll": "set_contains_all",
}  # fmt: skip


def _constraint(findings: Findings, body: Body, wire: Wire) -> None:
    """`version = ">= 1"` is operator "version" with that value; so for the other operators."""
    for name in _OPERATOR_NAMES:
        if name in wire:
            wire["Operand"], wire["RTarget"] = _OPERATORS[name], wire.pop(name)
    if "DistinctHosts" in wire:
        if wire.pop("DistinctHosts"):
            wire["Operand"] = "distinct_hosts"
    if "DistinctProperty" in wire:
        wire["Operand"], wire["LTarget"] = "distinct_property", wire.pop("DistinctProperty")
    for name, operand in (("IsSet", "is_set"), ("IsNotSet", "is_not_set")):
        if name in wire:
            wire["Operand"], wire["LTarget"] = operand, wire.pop(name)
    if not wire.get("Operand"):
        wire["Operand"] = "="


def _network(findings: Findings, body: Body, wire: Wire) -> None:
    """A port with `static` is reserved, one without is dynamic."""
    seen: set[str] = set()
    for block in (*body.blocks_of("port"), *body.blocks_of("reserved_ports")):
        label = block.labels[0] if block.labels else ""
        if label in seen:
            findings.error(body, block.label_spans[0], f'port "{label}" stands here twice')
        seen.add(label)
    ports = wire.pop("Ports", [])
    static = [*wire.pop("StaticPorts", []), *(port for port in ports if port.get("Value"))]
    dynamic = [port for port in ports if not port.get("Value")]
    if static:
        wire["ReservedPorts"] = static
    if dynamic:
        wire["DynamicPorts"] = dynamic


_TASK_SCALING: Final = {"cpu": "vertical_cpu", "mem": "vertical_mem"}


def _task(findings: Findings, body: Body, wire: Wire) -> None:
    """The identity without a name, or named default, is the task's own."""
    named = []
    for identity in wire.pop("Identities", []):
        if identity.get("Name", "default") in {"", "default"}:
            wire["Identity"] = identity
        else:
            named.append(identity)
    if named:
        wire["Identities"] = named
    blocks = body.blocks_of("scaling")
    for policy, block in zip(wire.get("ScalingPolicies", []), blocks, strict=True):
        made = _TASK_SCALING.get(str(policy.get("Type", "")).lower())
        if made is None and block.labels:
            message = f'a task is scaled by its "cpu" or its "mem", not by "{block.labels[0]}"'
            findings.error(body, block.label_spans[0], message)
        policy["Type"] = made or ""


def _scaling(findings: Findings, body: Body, wire: Wire) -> None:
    if "Max" not in wire and "max" not in body.attributes:
        findings.error(body, body.span, "scaling needs a max", "write max = 10")


def _template(findings: Findings, body: Body, wire: Wire) -> None:
    for name, value in _TEMPLATE.items():
        wire.setdefault(name, value)


def _change_script(findings: Findings, body: Body, wire: Wire) -> None:
    for name, value in CHANGE_SCRIPT.items():
        wire.setdefault(name, value.copy() if isinstance(value, list) else value)


def _vault(findings: Findings, body: Body, wire: Wire) -> None:
    wire.setdefault("Env", True)
    wire.setdefault("ChangeMode", "restart")


def _hand_down(wire: Wire, tasks: list[Wire]) -> None:
    """Give the block's `vault` and `secret` to the tasks that have none."""
    vault, secrets = wire.pop("Vault", None), wire.pop("Secrets", None)
    for task in tasks:
        if vault is not None:
            task.setdefault("Vault", vault)
        if secrets is not None:
            task.setdefault("Secrets", secrets)


def _group(findings: Findings, body: Body, wire: Wire) -> None:
    if "Scaling" in wire:
        wire["Scaling"]["Type"] = wire["Scaling"].get("Type") or "horizontal"
    _hand_down(wire, wire.get("Tasks", []))


def _job(findings: Findings, body: Body, wire: Wire) -> None:
    """A task of the job itself is a group of one task with the same name."""
    alone = [{"Name": task.get("Name", ""), "Tasks": [task]} for task in wire.pop("Tasks", [])]
    if alone:
        wire["TaskGroups"] = [*alone, *wire.get("TaskGroups", [])]
    _hand_down(wire, [t for g in wire.get("TaskGroups", []) for t in g.get("Tasks", [])])
    for unused in ("ConsulToken", "VaultToken"):
        wire.pop(unused, None)


def _periodic(findings: Findings, body: Body, wire: Wire) -> None:
    if "Spec" in wire:
        wire["SpecType"] = "cron"


Shorthand = Callable[[Findings, Body, Wire], None]

SHORTHANDS: Final[dict[str, Shorthand]] = {
    "constraint": _constraint,
    "affinity": _constraint,
    "network": _network,
    "task": _task,
    "group": _group,
    "job": _job,
    "periodic": _periodic,
    "scaling": _scaling,
    "template": _template,
    "change_script": _change_script,
    "vault": _vault,
}
