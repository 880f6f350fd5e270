"""Sets of allocation indices, as sorted half-open ranges: what a share is made of.

`Ranges` is one group's set: a tuple of (low, high) in order, that neither touch nor overlap,
so equal sets are equal tuples. `Indices` is a set for each group of a job; a group of which
it holds nothing is left out, so equal sets are equal dicts. All functions return new values.

A job of 100,000 instances over five datacenters is a handful of pairs, so plain loops do.
"""

from collections.abc import Iterable, Iterator, Mapping

Ranges = tuple[tuple[int, int], ...]
Indices = dict[str, Ranges]

NONE: Ranges = ()


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Return the set that these half-open pairs cover, however they lie."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if low >= high:
            continue
        if result and low <= result[-1][1]:
            result[-1] = result[-1][0], max(high, result[-1][1])
        else:
            result.append((low, high))
    return tuple(result)


def first(count: int) -> Ranges:
    """Return {0, 1, ... count - 1}."""
    return ((0, count),) if count > 0 else NONE


def union(a: Ranges, b: Ranges) -> Ranges:
    return ranges((*a, *b))


def common(a: Ranges, b: Ranges) -> Ranges:
    result = []
    at = 0
    for low, high in a:
        while at < len(b) and b[at][1] <= low:
            at += 1
        for other_low, other_high in b[at:]:
            if other_low >= high:
                break
            result.append((max(low, other_low), min(high, other_high)))
    return tuple(result)


def minus(a: Ranges, b: Ranges) -> Ranges:
    result = []
    for low, high in a:
        for other_low, other_high in b:
            if other_high <= low or other_low >= high:
                continue
            if low < other_low:
                result.append((low, other_low))
            low = other_high
        if low < high:
            result.append((low, high))
    return tuple(result)


def count(a: Ranges) -> int:
    return sum(high - low for low, high in a)


def contains(a: Ranges, index: int) -> bool:
    return any(low <= index < high for low, high in a)


def take(a: Ranges, most: int) -> Ranges:
    """Return the lowest `most` indices of a set, all when there are fewer."""
    result = []
    for low, high in a:
        if most <= 0:
            break
        result.append((low, min(high, low + most)))
        most -= high - low
    return tuple(result)


def take_last(a: Ranges, most: int) -> Ranges:
    """Return the highest `most` indices of a set."""
    return minus(a, take(a, max(0, count(a) - most)))


def each(a: Ranges) -> Iterator[int]:
    """Yield the indices one by one, ascending."""
    for low, high in a:
        yield from range(low, high)


# --- a set for each group of a job --------------------------------------------------------


def indices(sets: Mapping[str, Iterable[tuple[int, int]]]) -> Indices:
    """Return these sets in their one form, by group in order of name."""
    made = {group: ranges(sets[group]) for group in sorted(sets)}
    return {group: found for group, found in made.items() if found}


def merged(a: Indices, b: Indices) -> Indices:
    return indices({group: (*a.get(group, ()), *b.get(group, ())) for group in {**a, **b}})


def shared(a: Indices, b: Indices) -> Indices:
    """Return what both hold."""
    return indices({group: common(found, b.get(group, ())) for group, found in a.items()})


def without(a: Indices, b: Indices) -> Indices:
    return indices({group: minus(found, b.get(group, ())) for group, found in a.items()})


def size(a: Indices) -> int:
    return sum(count(found) for found in a.values())


def is_within(a: Indices, b: Indices) -> bool:
    """Whether `b` holds all of `a`."""
    return not without(a, b)


def shown(a: Indices) -> str:
    """Return the set as people read it: `web[0-4,7] db[0]`."""
    parts = []
    for group, found in a.items():
        spans = [str(low) if high - low == 1 else f"{low}-{high - 1}" for low, high in found]
        parts.append(f"{group}[{','.join(spans)}]")
    return " ".join(parts)
