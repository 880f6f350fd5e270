"""Constraints: what a `${...}` target means on a node, and whether an operand holds.

A constraint's outcome is the same for all nodes of a computed class unless it *escapes*
to an attribute that is unique to its node. `distinct_hosts` and `distinct_property` depend
on where the job already runs; placement handles them.
"""

from collections.abc import Callable
from typing import Final

from core.model.job import Affinity, Constraint
from core.model.node import Node
from core.model.regexp import is_match
from core.model.versions import is_version_allowed
from core.scheduler.quantity import quantity_of

DISTINCT: Final = ("distinct_hosts", "distinct_property")
_ESCAPES: Final = ("${node.unique.", "${attr.unique.", "${meta.unique.")
_SYNONYMS: Final = {"": "=", "==": "=", "is": "=", "not": "!=", "set_contains_all": "set_contains"}


def does_escape(constraint: Constraint | Affinity) -> bool:
    """Whether the outcome may differ between nodes of one computed class."""
    return any(
        prefix in target
        for target in (constraint.l_target, constraint.r_target)
        for prefix in _ESCAPES
    )


def resolve_target(target: str, node: Node) -> str | None:
    """Return what `target` stands for on `node`, None when the node has no such thing.

    Text that is not of the form `${...}` stands for itself.
    """
    if not target.startswith("${"):
        return target
    if not target.endswith("}"):
        return None
    name = target[2:-1]
    if name.startswith("attr."):
        return (node.attributes or {}).get(name[5:])
    if name.startswith("meta."):
        return (node.meta or {}).get(name[5:])
    match name:
        case "node.unique.id":
            return node.id
        case "node.unique.name":
            return node.name
        case "node.datacenter":
            return node.datacenter
        case "node.class":
            return node.node_class
        case "node.pool":
            return node.node_pool
    return None


def is_constraint_met(constraint: Constraint | Affinity, node: Node) -> bool:
    """Whether `constraint` holds on `node`. An operand that nobody knows never holds."""
    return is_met(constraint, lambda target: resolve_target(target, node))


def is_met(constraint: Constraint | Affinity, look: Callable[[str], str | None]) -> bool:
    """Whether `constraint` holds where `look` tells what its targets stand for."""
    operand = _SYNONYMS.get(constraint.operand, constraint.operand)
    if operand in DISTINCT:
        return True
    left = look(constraint.l_target)
    if operand == "is_set":
        return left is not None
    if operand == "is_not_set":
        return left is None
    right = look(constraint.r_target)
    if operand == "!=":
        return left != right
    if left is None or right is None:
        return False
    match operand:
        case "=":
            return left == right or _is_same_amount(left, right)
        case "<" | "<=" | ">" | ">=":
            return _is_ordered(left, operand, right)
        case "version":
            return is_version_allowed(left, right)
        case "semver":
            return is_version_allowed(left, right, is_strict=True)
        case "regexp":
            return is_match(right, left)
        case "set_contains":
            return _members(right) <= _members(left)
        case "set_contains_any":
            return bool(_members(right) & _members(left))
    return False


def describe(constraint: Constraint) -> str:
    """Return the constraint in words, as metrics count it: `${attr.cpu.arch} = arm64`."""
    return f"{constraint.l_target} {constraint.operand or '='} {constraint.r_target}".strip()


def _members(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def _is_ordered(left: str, operand: str, right: str) -> bool:
    order = _order(left, right)
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operand]


def _is_same_amount(left: str, right: str) -> bool:
    amount = quantity_of(left)
    return amount is not None and amount == quantity_of(right)


def _order(left: str, right: str) -> int:
    # Numbers when both are numbers, amounts when both have units of one kind, else by letters.
    for number in (_integer, _real):
        one, other = number(left), number(right)
        if one is not None and other is not None:
            return (one > other) - (one < other)
    amount, threshold = quantity_of(left), quantity_of(right)
    if amount is not None and threshold is not None and amount.kind == threshold.kind:
        return (amount.value > threshold.value) - (amount.value < threshold.value)
    return (left > right) - (left < right)


def _integer(text: str) -> int | None:
    try:
        return int(text) if len(text) <= 20 and "_" not in text else None
    except ValueError:
        return None


def _real(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
