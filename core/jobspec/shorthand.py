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
        is_wanted = wire.pop("DistinctHosts")
        wire["Operand"], wire["RTarget"] = "distinct_hosts", "true" if is_wanted else "false"
    if "DistinctProperty" in wire:
        wire["Operand"], wire["LTarget"] = "distinct_property", wire.pop("DistinctProperty")
    if "Operand" not in wire:
        wire["Operand"] = "="


def _network(findings: Findings, body: Body, wire: Wire) -> None:
    """A port with `static` is reserved, one without is dynamic."""
    seen: set[str] = set()
    for port, block in zip(wire.pop("Ports", []), body.blocks_of("port"), strict=True):
        label = port.get("Label", "")
        if label in seen:
            findings.error(body, block.label_spans[0], f'port "{label}" stands here twice')
        seen.add(label)
        key = "ReservedPorts" if port.get("Value") else "DynamicPorts"
        wire.setdefault(key, []).append(port)


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
    for policy in wire.get("ScalingPolicies", []):
        policy["Type"] = {"cpu": "vertical_cpu", "mem": "vertical_mem"}.get(
            policy.get("Type", ""), policy.get("Type", "")
        )


def _hand_down(wire: Wire, tasks: list[Wire]) -> None:
    """Give the block's `vault` and `secret` to the tasks that have none."""
    vault, secrets = wire.pop("Vault", None), wire.pop("Secrets", None)
    for task in tasks:
        if vault is not None:
            task.setdefault("Vault", vault)
        if secrets is not None:
            task.setdefault("Secrets", secrets)


def _group(findings: Findings, body: Body, wire: Wire) -> None:
    _hand_down(wire, wire.get("Tasks", []))


def _job(findings: Findings, body: Body, wire: Wire) -> None:
    """A task of the job itself is a group of one task with the same name."""
    for task in wire.pop("Tasks", []):
        wire.setdefault("TaskGroups", []).append(
            {"Name": task.get("Name", ""), "Count": 1, "Tasks": [task]}
        )
    _hand_down(wire, [t for g in wire.get("TaskGroups", []) for t in g.get("Tasks", [])])
    for unused in ("ConsulToken", "VaultToken"):
        wire.pop(unused, None)


def _periodic(findings: Findings, body: Body, wire: Wire) -> None:
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
}
