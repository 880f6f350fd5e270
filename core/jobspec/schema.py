"""What blocks and attributes a kind of file knows, as data.

A schema is written in lines that read like the file it describes:

    RESTART = block("restart", "attempts:int delay:duration mode")
    TASK = block("task", "driver leader:bool", label="Name",
                 blocks={"restart": one(RESTART, "RestartPolicy")})

Each attribute is `name`, or `name=WireName`, or `name:kind`, or both. Without a wire
name it is Go's spelling of the name (core.model.naming). A `?` at its end: in plain
blocks its absence is null, where else it is the empty value of its kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from core.model.naming import go_name


class Kind(StrEnum):
    """What values an attribute takes, and what they become."""

    STRING = "string"
    INT = "int"
    BOOL = "bool"
    DURATION = "duration"  # nanoseconds
    STRINGS = "strings"  # a list of them
    MAP = "map"  # of strings; written as a block or as an attribute
    LIST_MAP = "listmap"  # of lists of strings; likewise
    FREE = "free"  # no schema: nested blocks become lists of maps
    INTS = "ints"


class Arity(StrEnum):
    ONE = "one"
    MANY = "many"  # a list
    BY_LABEL = "by_label"  # a map from label to body


@dataclass(frozen=True, slots=True)
class AttributeSchema:
    name: str
    wire: str
    kind: Kind
    is_pointer: bool = False

    def absent(self) -> Any:
        """Return what Nomad's API shows where nothing is said: Go's zero value."""
        return None if self.is_pointer else _ZERO.get(self.kind)


_ZERO: Final = {Kind.STRING: "", Kind.INT: 0, Kind.BOOL: False, Kind.DURATION: 0}


@dataclass(frozen=True, slots=True)
class Child:
    schema: "BlockSchema"
    wire: str
    arity: Arity


@dataclass(frozen=True, slots=True)
class BlockSchema:
    """One kind of block. `label` is the wire name that its label goes to, "" = no label.

    `is_plain`: no record of core.model knows it, so what is not said is filled in when it
    is decoded.
    """

    name: str
    attributes: Mapping[str, AttributeSchema]
    blocks: Mapping[str, Child] = field(default_factory=dict)
    label: str = ""
    is_plain: bool = False

    def known(self) -> list[str]:
        return [*self.attributes, *self.blocks]


def block(
    name: str,
    attributes: str = "",
    *,
    label: str = "",
    blocks: Mapping[str, Child] | None = None,
    spell: Callable[[str], str] = go_name,
    is_plain: bool = False,
) -> BlockSchema:
    """Return the schema that `attributes` spells out; see the module's text.

    `spell` gives the wire name of an attribute that names none.
    """
    known: dict[str, AttributeSchema] = {}
    for item in attributes.split():
        spelled, _, kind = item.removesuffix("?").partition(":")
        own, _, wire = spelled.partition("=")
        known[own] = AttributeSchema(
            own, wire or spell(own), Kind(kind or "string"), item.endswith("?")
        )
    return BlockSchema(name, known, blocks or {}, label, is_plain)


def plain(
    name: str, attributes: str = "", *, label: str = "", blocks: Mapping[str, Child] | None = None
) -> BlockSchema:
    """Return the schema of a block that is kept as plain data."""
    return block(name, attributes, label=label, blocks=blocks, is_plain=True)


def one(schema: BlockSchema, wire: str = "") -> Child:
    return Child(schema, wire or go_name(schema.name), Arity.ONE)


def many(schema: BlockSchema, wire: str) -> Child:
    return Child(schema, wire, Arity.MANY)


def by_label(schema: BlockSchema, wire: str) -> Child:
    return Child(schema, wire, Arity.BY_LABEL)
