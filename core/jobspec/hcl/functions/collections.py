"""Functions on lists, maps and sets."""

from typing import Any, Final

from core.jobspec.hcl import limits
from core.jobspec.hcl.functions.function import Function, as_list, as_map
from core.jobspec.hcl.values import (
    SetValue,
    ValueProblem,
    distinct,
    identity,
    is_equal,
    set_of,
    to_bool,
    to_int,
    to_number,
    to_string,
    type_name,
)


def _distinct(values: Any) -> list[Any]:
    return distinct(as_list(values))


def _chunklist(values: Any, size: Any) -> list[list[Any]]:
    items, width = as_list(values), to_int(size)
    if width < 0:
        raise ValueProblem("the size of a chunk is not negative")
    width = width or len(items) or 1
    return [items[i : i + width] for i in range(0, len(items), width)]


def _coalesce(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    raise ValueProblem("all arguments are null")


def _coalescelist(*lists: Any) -> list[Any]:
    for one in lists:
        if as_list(one):
            return as_list(one)
    raise ValueProblem("all lists are empty")


def _concat(*lists: Any) -> list[Any]:
    return [item for one in lists for item in as_list(one)]


def _contains(values: Any, wanted: Any) -> bool:
    return any(is_equal(item, wanted) for item in as_list(values))


def _element(values: Any, index: Any) -> Any:
    items, number = as_list(values), to_int(index)
    if not items:
        raise ValueProblem("the list is empty")
    if number < 0:
        raise ValueProblem("the index is negative")
    return items[number % len(items)]


def _flatten(values: Any) -> list[Any]:
    result: list[Any] = []
    pending = list(reversed(as_list(values)))
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        else:
            result.append(item)
        if len(result) + len(pending) > limits.COLLECTION_ITEMS:
            raise ValueProblem(f"a list has at most {limits.COLLECTION_ITEMS} items")
    return result


def _index(values: Any, wanted: Any) -> int:
    for number, item in enumerate(as_list(values)):
        if is_equal(item, wanted):
            return number
    raise ValueProblem("the list does not hold this value")


def _keys(value: Any) -> list[str]:
    return sorted(as_map(value))


def _values(value: Any) -> list[Any]:
    return [item for _, item in sorted(as_map(value).items())]


def _length(value: Any) -> int:
    if isinstance(value, (list, dict)):
        return len(value)
    hint = "strlen() counts the characters of a string" if isinstance(value, str) else ""
    raise ValueProblem(f"a list or map has a length, a {type_name(value)} has none", hint)


def _lookup(mapping: Any, key: Any, *default: Any) -> Any:
    found = as_map(mapping)
    name = to_string(key)
    if name in found:
        return found[name]
    if default:
        return default[0]
    raise ValueProblem(f'the map has no key "{name}", and no default is given')


def _merge(*maps: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for one in maps:
        if one is not None:
            merged.update(as_map(one))
    return merged


def _range(*arguments: Any) -> list[int | float]:
    first, *rest = [to_number(argument) for argument in arguments]
    start, limit = (first, rest[0]) if rest else (0, first)
    step = rest[1] if len(rest) > 1 else (1 if limit >= start else -1)
    if step == 0:
        raise ValueProblem("the step is zero")
    values: list[int | float] = []
    while (start < limit) if step > 0 else (start > limit):
        values.append(start)
        start += step
        if len(values) > 1024:
            raise ValueProblem("a range has at most 1024 items")
    return values


def _setintersection(first: Any, *others: Any) -> SetValue:
    known = [set(map(identity, as_list(other))) for other in others]
    return set_of([v for v in as_list(first) if all(identity(v) in one for one in known)])


def _setunion(*sets: Any) -> SetValue:
    return set_of(_concat(*sets))


def _setproduct(*sets: Any) -> list[list[Any]]:
    product: list[list[Any]] = [[]]
    for one in sets:
        items = as_list(one)
        count = len(product) * len(items)
        if count * len(sets) > limits.COLLECTION_ITEMS:
            raise ValueProblem(f"the product has more than {limits.COLLECTION_ITEMS} values")
        product = [[*left, right] for left in product for right in items]
    return SetValue(product) if all(isinstance(one, SetValue) for one in sets) else product


def _slice(values: Any, start: Any, end: Any) -> list[Any]:
    items, first, last = as_list(values), to_int(start), to_int(end)
    if not 0 <= first <= last <= len(items):
        raise ValueProblem(f"items {first} to {last} are not in a list of {len(items)}")
    return items[first:last]


def _sort(values: Any) -> list[str]:
    return sorted(to_string(item) for item in as_list(values))


def _zipmap(keys: Any, values: Any) -> dict[str, Any]:
    names, items = as_list(keys), as_list(values)
    if len(names) != len(items):
        raise ValueProblem(f"{len(names)} keys and {len(items)} values")
    return {to_string(name): item for name, item in zip(names, items, strict=True)}


def _reverse(value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else as_list(value)[::-1]


def _compact(values: Any) -> list[Any]:
    return [item for item in as_list(values) if item not in ("", None)]


def _all_true(values: Any) -> bool:
    return all(to_bool(item) for item in as_list(values))


def _any_true(values: Any) -> bool:
    return any(to_bool(item) for item in as_list(values))


def _sum(values: Any) -> int | float:
    return sum(to_number(item) for item in as_list(values))


FUNCTIONS: Final = {
    "alltrue": Function(_all_true, 1, 1),
    "anytrue": Function(_any_true, 1, 1),
    "chunklist": Function(_chunklist, 2, 2),
    "coalesce": Function(_coalesce, 1),
    "coalescelist": Function(_coalescelist, 1),
    "compact": Function(_compact, 1, 1),
    "concat": Function(_concat, 1),
    "contains": Function(_contains, 2, 2),
    "distinct": Function(_distinct, 1, 1),
    "element": Function(_element, 2, 2),
    "flatten": Function(_flatten, 1, 1),
    "index": Function(_index, 2, 2),
    "keys": Function(_keys, 1, 1),
    "length": Function(_length, 1, 1),
    "lookup": Function(_lookup, 2, 3),
    "merge": Function(_merge, 1),
    "range": Function(_range, 1, 3),
    "reverse": Function(_reverse, 1, 1),
    "setintersection": Function(_setintersection, 1),
    "setproduct": Function(_setproduct, 1),
    "setunion": Function(_setunion, 1),
    "slice": Function(_slice, 3, 3),
    "sort": Function(_sort, 1, 1),
    "sum": Function(_sum, 1, 1),
    "tolist": Function(lambda values: list(as_list(values)), 1, 1),
    "toset": Function(lambda values: set_of(as_list(values)), 1, 1),
    "values": Function(_values, 1, 1),
    "zipmap": Function(_zipmap, 2, 2),
}
