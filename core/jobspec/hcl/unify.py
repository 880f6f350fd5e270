"""One type for several values, as HCL finds it.

The two sides of `condition ? yes : no` have one type, and so have the items of a
`list(any)` or `map(any)`: text wins over numbers and bools, lists of different length and
maps of different keys agree on a type for all their items.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any, Final

from core.jobspec.hcl.types import ANY, Type
from core.jobspec.hcl.values import SetValue, ValueProblem, type_name

_LISTS: Final = ("tuple", "list")
_MAPS: Final = ("object", "map")


def shape_of(value: Any) -> Type:
    """Return the most exact type of a value; nothing is known of null."""
    if value is None:
        return ANY
    if isinstance(value, SetValue):
        return Type("set", ANY)
    if isinstance(value, list):
        return Type("tuple", None, tuple(map(shape_of, value)))
    if isinstance(value, dict):
        members = {key: (shape_of(item), False, None) for key, item in value.items()}
        return Type("object", members=members)
    return Type(type_name(value))


def common_type(types: Iterable[Type]) -> Type:
    """Return the type that values of all these types can be converted to.

    Raises:
        ValueProblem: there is none.
    """
    return reduce(unify, types, ANY)


def unify(left: Type, right: Type) -> Type:
    """Return the one type of two; ValueProblem when they have none."""
    if left.name == "any" or left == right:
        return right
    if right.name == "any":
        return left
    if left.name in _LISTS and right.name in _LISTS:
        return _unify_lists(left, right)
    if left.name in _MAPS and right.name in _MAPS:
        return _unify_maps(left, right)
    names = {left.name, right.name}
    if names <= {"string", "number", "bool"} and "string" in names:
        return Type("string")
    if "set" in names and names <= {"set", *_LISTS}:
        return Type("set", ANY)
    raise ValueProblem(f"one is a {_plain_name(left)}, one a {_plain_name(right)}")


def _unify_lists(left: Type, right: Type) -> Type:
    if left.name == right.name == "tuple" and len(left.items) == len(right.items):
        return Type("tuple", None, tuple(map(unify, left.items, right.items)))
    return Type("list", common_type([*_inner(left), *_inner(right)]))


def _unify_maps(left: Type, right: Type) -> Type:
    if left.name == right.name == "object" and left.members.keys() == right.members.keys():
        members = {
            key: (unify(inner, right.members[key][0]), False, None)
            for key, (inner, _, _) in left.members.items()
        }
        return Type("object", members=members)
    return Type("map", common_type([*_inner(left), *_inner(right)]))


def _inner(type_: Type) -> Iterable[Type]:
    if type_.item is not None:
        return [type_.item]
    return type_.items or [inner for inner, _, _ in type_.members.values()]


def _plain_name(type_: Type) -> str:
    return {"tuple": "list", "object": "map"}.get(type_.name, type_.name)
