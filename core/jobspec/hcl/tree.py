"""The nodes of a parsed HCL text. Each knows its span; expressions know their depth.

`depth` is how many expressions are inside each other; build.py refuses more than
limits.EXPRESSION_DEPTH, so that whoever walks a tree may recurse.
"""

from dataclasses import dataclass, field
from typing import Any

from core.jobspec.diagnostics import Span


@dataclass(slots=True)
class Node:
    span: Span
    depth: int


@dataclass(slots=True)
class Literal(Node):
    value: Any


@dataclass(slots=True)
class Reference(Node):
    """A name that stands alone or at the root of accesses: `var`, `attr`."""

    name: str


@dataclass(slots=True)
class GetAttr(Node):
    object: Node
    name: str


@dataclass(slots=True)
class Index(Node):
    object: Node
    key: Node


@dataclass(slots=True)
class Splat(Node):
    """`object[*].a.b[0]`: `steps` are attribute names or index nodes, done to each item."""

    object: Node
    steps: list["str | Node"]


@dataclass(slots=True)
class Call(Node):
    name: str
    arguments: list[Node]
    expands_last: bool  # f(list...)


@dataclass(slots=True)
class Unary(Node):
    operator: str
    operand: Node


@dataclass(slots=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(slots=True)
class Conditional(Node):
    condition: Node
    if_true: Node
    if_false: Node


@dataclass(slots=True)
class Parenthesis(Node):
    """Kept because a key in parentheses is an expression, one without is a word."""

    inner: Node


@dataclass(slots=True)
class TupleNode(Node):
    items: list[Node]


@dataclass(slots=True)
class ObjectNode(Node):
    items: list[tuple[Node, Node]]


@dataclass(slots=True)
class For(Node):
    """`[for k, v in collection : value if condition]`, in braces with a `key =>`."""

    key_name: str | None
    value_name: str
    collection: Node
    key: Node | None  # None: a tuple
    value: Node
    condition: Node | None
    is_grouped: bool  # `...`: values of equal keys gather in a list


@dataclass(slots=True)
class Template(Node):
    """Text with sequences in it. `is_quoted`: one lone `${x}` keeps the type of x."""

    parts: list["str | Node"]
    is_quoted: bool


@dataclass(slots=True)
class TemplateIf(Node):
    condition: Node
    if_true: Template
    if_false: Template | None


@dataclass(slots=True)
class TemplateFor(Node):
    key_name: str | None
    value_name: str
    collection: Node
    body: Template


@dataclass(slots=True)
class AttributeNode:
    name: str
    name_span: Span
    value: Node
    end: int


@dataclass(slots=True)
class BlockNode:
    type: str
    type_span: Span
    labels: list[tuple[str, Span]]
    body: "BodyNode"
    end: int


@dataclass(slots=True)
class BodyNode:
    span: Span
    items: list[AttributeNode | BlockNode] = field(default_factory=list)
