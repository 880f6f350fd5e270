"""The state hash covers everything: a change of any field of any record changes it.

The types of the tables say what can stand in a record; each is built with every field
filled, then changed at one place after the other, however deep.
"""

import enum
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

import core
from core.state.columns import Columns, SparseColumn
from core.state.intern import Interned
from core.state.snapshot import Meta
from core.state.state import State
from core.state.table import Table

# Whoever calls `register_table` brings a table along: all of them, also those still to come.
for _source in sorted(pathlib.Path(core.__path__[0]).rglob("*.py")):
    if "\nregister_table(" in _source.read_text():
        _place = _source.relative_to(pathlib.Path(core.__path__[0]).parent)
        importlib.import_module(".".join(_place.with_suffix("").parts))

Path = tuple[Any, ...]
DEPTH_MAX = 30  # of types within types; none of ours nests deeper


def build(kind: Any, depth: int = 0) -> Any:
    """Return a value of a type with every field filled, other than its default."""
    node = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    assert depth < DEPTH_MAX, f"{node} nests too deep"
    match node:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: build(field.type, depth + 1) for field in fields})
        case msgspec.inspect.UnionType(types=types):
            chosen = [one for one in types if not isinstance(one, msgspec.inspect.NoneType)]
            return build(chosen[0], depth + 1)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            is_free = isinstance(key, msgspec.inspect.AnyType)
            return {"text" if is_free else build(key, depth + 1): build(value, depth + 1)}
        case msgspec.inspect.ListType(item_type=item):
            return [build(item, depth + 1)]
        case msgspec.inspect.VarTupleType(item_type=item):
            return (build(item, depth + 1),)
        case msgspec.inspect.TupleType(item_types=items):
            return tuple(build(item, depth + 1) for item in items)
        case msgspec.inspect.EnumType(cls=cls):
            return next(iter(cls))
        case msgspec.inspect.LiteralType(values=values):
            return values[0]
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType():
            return 7
        case msgspec.inspect.FloatType():
            return 0.5
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.BytesType():
            return b"\x01\x02\x03\x04"
        case msgspec.inspect.AnyType():
            return {"any": 1}
    raise AssertionError(f"this test knows no value of {node}")


def changed(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield (where, the value with that one place changed) for each place in it."""
    match value:
        case msgspec.Struct():
            for name in value.__struct_fields__:
                for where, other in changed(getattr(value, name), (*path, name)):
                    yield where, msgspec.structs.replace(value, **{name: other})
        case dict():
            for key, held in value.items():
                for where, other in changed(held, (*path, key)):
                    yield where, {key: other}
            yield (
                (*path, "a key more"),
                {**value, _another_key(value): next(iter(value.values()), 1)},
            )
        case list() | tuple():
            for position, held in enumerate(value):
                for where, other in changed(held, (*path, position)):
                    yield where, type(value)([*value[:position], other, *value[position + 1 :]])
            yield (*path, "empty"), type(value)()
        case enum.Enum():
            if len(type(value)) > 1:
                yield path, list(type(value))[1]
        case bool():
            yield path, not value
        case int() | float():
            yield path, value + 1
        case str():
            yield path, value + "!"
        case bytes():
            yield path, value + b"\x05\x06\x07\x08"
        case _:
            raise AssertionError(f"this test knows no change of {value!r} at {path}")


def _another_key(held: dict[Any, Any]) -> Any:
    return 99 if any(isinstance(key, int) for key in held) else "another"


def parts() -> list[str]:
    return [part.name for part in State()._parts() if not isinstance(part, Columns)]


def with_record(name: str, record: Any) -> str:
    """Return the hash of an empty state that holds this one record."""
    state = State()
    part: Any = next(part for part in state._parts() if part.name == name)
    match part:
        case Table():
            key = build(get_args(get_args(part._decoder.type)[0])[0])
            part.put(key, record)
        case Interned():
            part.ordinal(record, 1)
        case SparseColumn():
            part.put(0, record)
        case _:
            raise AssertionError(f"this test knows no part like {type(part).__name__}")
    return state.hash()


def record_type(name: str) -> Any:
    part: Any = next(part for part in State()._parts() if part.name == name)
    held = part._decoder.type
    return held if isinstance(part, Interned) else get_args(get_args(held)[0])[1]


@pytest.mark.parametrize("name", parts())
def test_a_change_anywhere_in_a_record_changes_the_hash(name: str) -> None:
    record = build(record_type(name))
    before = with_record(name, record)
    assert before != State().hash()
    assert with_record(name, record) == before  # the hash is of values, not of objects
    places = 0
    for where, other in changed(record):
        assert with_record(name, other) != before, f"{name}: {where} is not in the hash"
        places += 1
    assert places


def test_the_tables_of_the_floors_above_are_walked_too() -> None:
    assert "claims" in "".join(parts())


def test_the_walk_reaches_the_depths_of_a_job() -> None:
    """A walk that stops early would pass as well: these places must be among its."""
    found = {where for where, _ in changed(build(record_type("jobs")))}
    names = {tuple(part for part in where if isinstance(part, str)) for where in found}
    assert ("job", "task_groups", "tasks", "resources", "cpu") in names
    assert ("job", "task_groups", "services", "checks", "interval") in names or any(
        "checks" in path for path in names
    )
    assert len(found) > 200


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (part.name, column)
        for part in State()._parts()
        if isinstance(part, Columns)
        for column in part.DTYPES
        if column not in part.DERIVED
    ],
)
def test_a_change_in_any_row_of_any_column_changes_the_hash(name: str, column: str) -> None:
    state = State()
    part: Any = next(part for part in state._parts() if part.name == name)
    part.extend(3)
    before = state.hash()
    for row in range(3):
        array = getattr(part, column)
        kept = array[row].copy()
        array[row] = ~kept if array.dtype == np.bool_ else kept + 1
        assert state.hash() != before, f"{name}.{column}[{row}] is not in the hash"
        array[row] = kept
    assert state.hash() == before


@pytest.mark.parametrize("field", Meta.__struct_fields__)
def test_what_is_in_no_table_is_in_the_hash_too(field: str) -> None:
    state = State()
    before = state.hash()
    match field:
        case "next_job_ordinal":
            state.jobs.next_ordinal += 1
        case "table_indexes":
            state.set_table_index("jobs", 9)
        case _:
            value = getattr(state, field)
            _, other = next(changed(value))
            setattr(state, field, other)
    assert state.hash() != before


def test_every_attribute_of_a_state_is_hashed_or_known_not_to_be() -> None:
    """Who adds one must put it into the snapshot, or say here why not."""
    of_parts = {"nodes", "jobs", "allocs", "evals", "deployments", "services", "tokens", "calls",
                "pools", "quotas", "namespaces", "scaling_events", "operator", "staged",
                "_tables"}  # fmt: skip
    of_meta = {*Meta.__struct_fields__, "_table_indexes"} - {"next_job_ordinal", "table_indexes"}
    # What this program understands, has prepared, counts anew from the rest.
    no_part_of_it = {"schema_max", "decoded", "spent"}
    assert set(vars(State())) == of_parts | of_meta | no_part_of_it
