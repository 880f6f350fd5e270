"""An evaluated HCL body: attributes with values, blocks with labels, and their places.

    body = parse_body('server { enabled = true }', "agent.hcl")
    server = body.block("server")
    server.body.attributes["enabled"].value      # True
    raise body.error(server.span, "...")         # SourceError with file, line and caret

Values are plain Python: str, int, float, bool, None, list, dict. A body is also what
the configuration of an agent and the simulator's scenarios are read through.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.jobspec.diagnostics import Position, Source, SourceError, Span

if TYPE_CHECKING:
    from core.jobspec.schema import BlockSchema


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = value`. `span` covers the name, `value_span` the expression."""

    name: str
    value: Any
    span: Span
    value_span: Span


@dataclass(frozen=True, slots=True)
class Block:
    """`type "label" ... { body }`. `span` covers the type, `label_spans` each label."""

    type: str
    labels: list[str]
    body: "Body"
    span: Span
    label_spans: list[Span]


@dataclass(slots=True)
class Body:
    """What stands between braces, or the whole file. Both parts keep the order of the file."""

    source: Source
    span: Span
    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def blocks_of(self, type_: str) -> Iterator[Block]:
        return (block for block in self.blocks if block.type == type_)

    def block(self, type_: str) -> Block | None:
        """Return the only block of a type, None without one; a second one is an error."""
        found: Block | None = None
        for block in self.blocks_of(type_):
            if found is not None:
                first = self.position(found.span).line
                raise self.error(
                    block.span, f'a second "{type_}" block: only one is allowed (line {first})'
                )
            found = block
        return found

    def get(self, name: str, default: Any = None) -> Any:
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.value

    def position(self, span: Span) -> Position:
        return self.source.position(span.start)

    def error(self, span: Span, message: str, *, hint: str = "") -> SourceError:
        return self.source.error(span, message, hint=hint)

    def to_plain(self) -> dict[str, Any]:
        """Return nested dicts: a block becomes `{type: {label: {...}}}`.

        A type, or type and labels, that comes twice becomes a list of its bodies.
        """
        plain: dict[str, Any] = {name: attr.value for name, attr in self.attributes.items()}
        for block in self.blocks:
            _place(plain, [block.type, *block.labels], block.body.to_plain())
        return plain


def _place(plain: dict[str, Any], path: list[str], value: dict[str, Any]) -> None:
    *outer, last = path
    for key in outer:
        inner = plain.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = {}
            plain[key] = [plain[key], inner]
        plain = inner
    if last not in plain:
        plain[last] = value
    elif isinstance(plain[last], list):
        plain[last].append(value)
    else:
        plain[last] = [plain[last], value]


def parse_body(
    text: str,
    filename: str,
    *,
    variables: Mapping[str, Any] | None = None,
    schema: "BlockSchema | None" = None,
) -> Body:
    """Return the evaluated body of an HCL (or, beginning with "{", a JSON) text.

    Expressions and functions that touch no file work; `variables` are further roots
    for references. An unknown reference stays literal (`${attr.x}`), as in job files.

    JSON does not say what is a block: without a `schema` (core.jobspec.schema) that
    does, every member is an attribute.

    Raises:
        SourceError: the text is not HCL, too long or too deep, or cannot be evaluated.
    """
    from core.jobspec.hcl.expand import evaluate_text

    return evaluate_text(text, filename, variables or {}, schema)
